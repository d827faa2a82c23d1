//! The golden session, made by `proto` and received by them.

use proto::{
    fec::{
        codec::BlockEncoder as _,
        oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
        raptorq_crate::Encoder,
    },
    fixtures::golden::{self, FILE, WITH_FTI, hex},
    flute::{
        alc::{Packet, Payload, PayloadId},
        ext::{ExtensionWriter, FdtHeader},
        fdt::{FdtInstance, FileEntry, mbms::InstanceExtensions, skipped::Skipped},
        lct::{Extensions, Header, Widths},
    },
    ids::{Esi, Sbn, Toi, Tsi},
};

use crate::{collector::Collector, peer::TheirReceiver};

const NAME: &str = "file:///golden.bin";

/// Returns the golden packets with encoding symbols 0 to 5.
fn data() -> Vec<Vec<u8>> {
    golden::packets()[golden::FIRST_SYMBOL..][..6].to_vec()
}

fn oti() -> RaptorQOti {
    RaptorQOti::new(RaptorQParameters {
        transfer_length: 43,
        symbol_size: 16,
        source_blocks: 1,
        sub_blocks: 1,
        alignment: 4,
    })
    .unwrap()
}

fn packet(toi: Toi, codepoint: u8, extensions: &[u8], esi: u32, symbols: &[u8]) -> Vec<u8> {
    let header = Header { widths: Widths::NARROW, ..Header::wide(Tsi(7), toi, codepoint) };
    let id = PayloadId { sbn: Sbn(0), esi: Esi(esi) };
    let extensions = Extensions::new(extensions).unwrap();
    let mut out = Vec::new();
    Packet { header, extensions, payload: Some(Payload { id, symbols }) }.emit(&mut out).unwrap();
    out
}

/// Returns the FDT in symbols of `symbol_size`, with this version in EXT_FDT.
fn fdt(version: u8, symbol_size: u16) -> Vec<Vec<u8>> {
    let entry = FileEntry::plain(Toi(1), NAME, "application/octet-stream", Oti::RaptorQ(oti()));
    let instance = FdtInstance {
        expires_ntp: 4_200_000_000,
        complete: true,
        files: vec![entry],
        mbms: InstanceExtensions::default(),
        skipped: Skipped::default(),
    }
    .to_xml();
    let length = u64::try_from(instance.len()).unwrap();
    let symbols = u32::try_from(length.div_ceil(symbol_size.into())).unwrap();
    let parameters = Oti::NoCode(NoCodeOti::new(length, symbol_size, symbols).unwrap());
    let mut extensions = Vec::new();
    let header = FdtHeader { version, instance_id: 0 };
    ExtensionWriter::new(&mut extensions).fdt(header).fti(&parameters);
    let symbols = (0..).zip(instance.as_bytes().chunks(symbol_size.into()));
    symbols.map(|(esi, symbol)| packet(Toi::FDT, 0, &extensions, esi, symbol)).collect()
}

#[test]
fn the_golden_session_is_made_octet_for_octet() {
    let encoder = Encoder::new(&oti(), Sbn(0), FILE).unwrap();
    let mut made = Vec::new();
    encoder.for_each_symbol(0..6, &mut |esi, symbol| {
        made.push(packet(Toi(1), 6, &[], esi.0, symbol));
    });
    assert_eq!(made, data());
    let mut extensions = Vec::new();
    ExtensionWriter::new(&mut extensions).fti(&Oti::RaptorQ(oti()));
    assert_eq!(packet(Toi(1), 6, &extensions, 0, &FILE[..16]), hex(WITH_FTI));
    let [table] = &fdt(2, 400)[..] else { panic!("one symbol holds the table") };
    assert_eq!(*table, golden::packets()[0]);
}

#[test]
fn they_decode_the_golden_session_in_every_form() {
    let data = data();
    for chosen in [[0, 1, 2], [0, 2, 3], [3, 4, 5]] {
        for (version, symbol_size) in [(1, 400), (2, 400), (2, 100)] {
            for table_last in [false, true] {
                let mut packets = fdt(version, symbol_size);
                let symbols = chosen.map(|esi: usize| data[esi].clone());
                let at = if table_last { 0 } else { packets.len() };
                packets.splice(at..at, symbols);
                packets.extend(golden::packets().pop());
                let received = TheirReceiver::new().receive(&packets);
                assert_eq!(received.get(NAME).map(Vec::as_slice), Some(&FILE[..]), "{chosen:?}");
                let ours = Collector::receive(&packets);
                assert_eq!(ours.files(), received);
                assert!(ours.closed);
            }
        }
    }
}

#[test]
fn they_decode_a_short_last_symbol_and_parameters_in_the_packet() {
    let [_, one, two, ..] = &data()[..] else { panic!("six packets") };
    let packets = [vec![hex(WITH_FTI), one.clone(), two[..27].to_vec()], fdt(2, 400)].concat();
    assert_eq!(TheirReceiver::new().receive(&packets)[NAME], *FILE);
    assert_eq!(Collector::receive(&packets).files()[NAME], *FILE);
}
