//! A valid unsigned session, made by the product's own writers: tables and data, in the order
//! in which a sender would air them.

use std::{io::Write as _, sync::LazyLock};

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use proto::{
    fec::{
        codec::BlockEncoder,
        nocode,
        oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
        raptorq_crate,
    },
    flute::{
        alc::{Packet, Payload, PayloadId},
        content_md5::ContentMd5,
        ext::{ExtensionWriter, Extensions, FdtHeader},
        fdt::{FdtInstance, FileEntry, NAMESPACE_MBMS, mbms::InstanceExtensions},
        lct::{Header, Widths},
    },
    ids::{Esi, Sbn, Toi, Tsi},
};

/// A session that receivers are fed.
#[derive(Debug, Clone)]
pub struct Session {
    /// All datagrams.
    pub packets: Vec<Vec<u8>>,
    /// The datagrams that carry the tables.
    pub tables: Vec<Vec<u8>>,
    /// The tables as documents.
    pub documents: Vec<String>,
    /// The files, by their location.
    pub files: Vec<(String, Vec<u8>)>,
}

/// The session.
pub const TSI: Tsi = Tsi(7);

/// Returns the session; it is made once.
#[must_use]
pub fn session() -> &'static Session {
    static SESSION: LazyLock<Session> = LazyLock::new(make);
    &SESSION
}

/// Returns RaptorQ parameters.
///
/// # Panics
///
/// When they are not valid.
#[must_use]
pub fn raptorq(f: u64, t: u16, z: u8, n: u16, al: u8) -> RaptorQOti {
    RaptorQOti::new(RaptorQParameters {
        transfer_length: f,
        symbol_size: t,
        source_blocks: z,
        sub_blocks: n,
        alignment: al,
    })
    .expect("valid parameters")
}

fn make() -> Session {
    let file = |length: usize| (0..=u8::MAX).cycle().take(length).collect::<Vec<u8>>();
    let parameters = [
        Oti::RaptorQ(raptorq(43, 16, 1, 1, 4)),
        Oti::RaptorQ(raptorq(400, 32, 3, 2, 4)),
        Oti::NoCode(NoCodeOti::new(150, 20, 3).expect("valid parameters")),
        Oti::RaptorQ(raptorq(7, 8, 1, 1, 1)),
    ];
    let mut files = Vec::new();
    let mut entries = Vec::new();
    for (number, oti) in (1_u32..).zip(parameters) {
        let octets = file(usize::try_from(oti.transfer_length()).expect("a short file"));
        let location = format!("file:///golden-{number}.bin");
        let mut entry = FileEntry::plain(Toi(number.into()), &*location, "application/x-test", oti);
        if number == 2 {
            let mut digest = ContentMd5::new();
            digest.update(&octets);
            entry.content_md5 = Some(digest.finish());
        }
        files.push((location, octets));
        entries.push(entry);
    }
    let table = |files: &[FileEntry], complete| FdtInstance {
        expires_ntp: 4_200_000_000,
        complete,
        files: files.to_vec(),
        mbms: InstanceExtensions::default(),
    };
    let (first, second) = entries.split_at(2);
    let first = table(first, false).to_xml();
    let second = table(second, true).to_xml_in(NAMESPACE_MBMS);
    let mut tables = Vec::new();
    tables.extend(table_packets(2, 0, None, first.as_bytes()));
    tables.extend(table_packets(1, 1, Some((3, gzip(&second))), second.as_bytes()));
    tables.extend(table_packets(2, 2, Some((1, zlib(&first))), first.as_bytes()));
    tables.extend(table_packets(2, 3, Some((2, deflate(&first))), first.as_bytes()));
    let mut packets = tables.clone();
    for (entry, (_, octets)) in entries.iter().zip(&files) {
        let oti = entry.oti.expect("it was given");
        packets.extend(data_packets(entry.toi, &oti, octets));
    }
    let mut close = Vec::new();
    Header::close(TSI).emit(Extensions::NONE, &mut close).expect("a closing packet");
    packets.push(close);
    Session { packets, tables, documents: vec![first, second], files }
}

/// Returns a packet.
///
/// # Panics
///
/// When a number does not fit its field.
#[must_use]
pub fn packet(header: Header, extensions: &[u8], id: PayloadId, symbols: &[u8]) -> Vec<u8> {
    let extensions = Extensions::new(extensions).expect("extensions of ours");
    let mut out = Vec::new();
    let packet = Packet { header, extensions, payload: Some(Payload { id, symbols }) };
    packet.emit(&mut out).expect("it fits");
    out
}

/// A table: odd instances by RaptorQ, even ones without a code.
fn table_packets(
    version: u8,
    instance_id: u32,
    encoded: Option<(u8, Vec<u8>)>,
    document: &[u8],
) -> Vec<Vec<u8>> {
    let (encoding, octets) = match encoded {
        Some((encoding, octets)) => (Some(encoding), octets),
        None => (None, document.to_vec()),
    };
    let length = u64::try_from(octets.len()).expect("a short document");
    let oti = match instance_id % 2 {
        0 => Oti::NoCode(NoCodeOti::new(length, 300, 64).expect("valid parameters")),
        _ => Oti::RaptorQ(raptorq(length, 128, 1, 1, 4)),
    };
    let mut extensions = Vec::new();
    let mut writer = ExtensionWriter::new(&mut extensions);
    writer.fdt(FdtHeader { version, instance_id }).fti(&oti);
    if let Some(encoding) = encoding {
        writer.content_encoding(encoding);
    }
    let header = Header::wide(TSI, Toi::FDT, oti.encoding_id());
    symbols(&oti, &octets, 0)
        .into_iter()
        .map(|(id, symbol)| packet(header, &extensions, id, &symbol))
        .collect()
}

fn data_packets(toi: Toi, oti: &Oti, octets: &[u8]) -> Vec<Vec<u8>> {
    let mut extensions = Vec::new();
    if toi.0.is_multiple_of(2) {
        ExtensionWriter::new(&mut extensions).fti(oti);
    }
    let widths = if toi.0 == 1 { Widths::NARROW } else { Widths::WIDE };
    let header = Header { widths, ..Header::wide(TSI, toi, oti.encoding_id()) };
    symbols(oti, octets, 2)
        .into_iter()
        .map(|(id, symbol)| packet(header, &extensions, id, &symbol))
        .collect()
}

/// All source symbols of an object, and so many repair symbols of each block.
fn symbols(oti: &Oti, octets: &[u8], repair: u32) -> Vec<(PayloadId, Vec<u8>)> {
    let mut made = Vec::new();
    let mut remaining = octets;
    let partition = oti.partition();
    for sbn in (0..partition.blocks()).map(Sbn) {
        let count = partition.symbols_of(sbn).expect("a block of the object");
        let length = usize::try_from(count).expect("few") * usize::from(oti.symbol_size());
        let (block, left) = remaining.split_at_checked(length).unwrap_or((remaining, &[]));
        remaining = left;
        let encoder: Box<dyn BlockEncoder> = match oti {
            Oti::NoCode(oti) => Box::new(nocode::Encoder::new(oti, sbn, block).expect("a block")),
            Oti::RaptorQ(oti) => {
                Box::new(raptorq_crate::Encoder::new(oti, sbn, block).expect("a block"))
            }
        };
        encoder.for_each_symbol(0..count + repair, &mut |esi: Esi, symbol: &[u8]| {
            made.push((PayloadId { sbn, esi }, symbol.to_vec()));
        });
    }
    made
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

fn zlib(text: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

fn deflate(text: &str) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}
