//! Captures: of sessions that the carousel sends, and of all headers that there are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use fumocast_tests::lab::addresses::Addresses;
use proto::{
    fec::oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
    flute::{
        alc::{Packet, Payload, PayloadId},
        ext::{self, ExtensionWriter, FdtHeader},
        lct::{Extensions, Header, Widths},
    },
    ids::{Esi, Sbn, Toi, Tsi},
    pcap::{Datagram, emit_datagram, emit_file_header},
};

use crate::air;

/// Lets the carousel send `files` files on loopback and returns its capture.
pub(super) fn record(folder: &Path, name: &str, files: u8, options: &[&str]) -> PathBuf {
    let capture = folder.join(name).with_extension("pcap");
    let addresses = Addresses::allocate().expect("loopback has ports");
    let lengths = [1, 20_000, 100_003].into_iter().cycle();
    let files: Vec<_> = (1..=files)
        .zip(lengths)
        .map(|(number, length)| {
            let path = folder.join(format!("file {number} & more.bin"));
            fs::write(&path, air::octets(length, number.into())).expect("the folder is ours");
            path
        })
        .collect();
    let mut carousel = Command::new(env!("CARGO_BIN_EXE_lab"));
    carousel.args(["role", "carousel", "send"]).args(&files);
    carousel.args(["--group", &addresses.channel.ip().to_string()]);
    carousel.args(["--port", &addresses.channel.port().to_string()]);
    carousel.args(["--interface", &addresses.interface.to_string()]);
    carousel.args(["--max-block-symbols", "40", "--rate", "200M", "--ttl", "1", "--json"]);
    if !options.contains(&"--passes") {
        carousel.args(["--passes", "1"]);
    }
    carousel.args(options).arg("--pcap").arg(&capture).stdout(Stdio::null());
    let status = carousel.status().expect("the lab's program is built");
    assert!(status.success(), "{name}: {status}");
    capture
}

/// Writes a capture of packets with every width of CCI, TSI and TOI, both schemes, all flags and
/// several sets of extensions.
pub(super) fn every_header(folder: &Path) -> PathBuf {
    let mut capture = emit_file_header();
    for packet in headers() {
        let datagram = Datagram {
            source: "192.0.2.10:40000".parse().expect("an address"),
            destination: "239.7.7.30:40100".parse().expect("an address"),
            payload: &packet,
        };
        emit_datagram(0, 1, &datagram, &mut capture).expect("it fits a datagram");
    }
    let path = folder.join("headers.pcap");
    fs::write(&path, capture).expect("the folder is ours");
    path
}

fn headers() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for widths in every_width() {
        for congestion_words in 0..4 {
            for (close_session, close_object) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                for oti in
                    [no_code(0x0102_0304_0506, 0xfe01), no_code(0x1234, 0x8765_4321), raptorq()]
                {
                    let header = Header {
                        widths,
                        congestion_words,
                        congestion: u128::MAX >> (128 - 32 * (u32::from(congestion_words) + 1)),
                        close_session,
                        close_object,
                        ..Header::wide(tsi(widths), toi(widths), oti.encoding_id())
                    };
                    packets.extend(extensions(&oti).iter().map(|octets| packet(header, octets)));
                }
            }
        }
    }
    packets
}

/// Returns the widths that have a TSI and a TOI.
fn every_width() -> impl Iterator<Item = Widths> {
    (0..16).filter_map(|bits: u8| {
        let widths =
            Widths { tsi_words: bits & 1, toi_words: bits >> 1 & 3, half_word: bits & 8 != 0 };
        let has_both = widths.half_word || (widths.tsi_words > 0 && widths.toi_words > 0);
        has_both.then_some(widths)
    })
}

/// Returns a TSI that needs all of its width.
fn tsi(widths: Widths) -> Tsi {
    let bits = u32::from(widths.tsi_words) * 32 + u32::from(widths.half_word) * 16;
    Tsi(0x8877_6655_4433_2211 >> (64 - bits))
}

/// Returns a TOI that needs all of its width.
fn toi(widths: Widths) -> Toi {
    let bits = u32::from(widths.toi_words) * 32 + u32::from(widths.half_word) * 16;
    Toi(0xf1e2_d3c4_b5a6_9788_7766_5544_3322_1100 >> (128 - bits))
}

fn no_code(transfer_length: u64, max_block_symbols: u32) -> Oti {
    let oti = NoCodeOti::new(transfer_length, 0xfedc, max_block_symbols);
    Oti::NoCode(oti.expect("they are valid"))
}

fn raptorq() -> Oti {
    let parameters = RaptorQParameters {
        transfer_length: 0x0004_5678_9abc,
        symbol_size: 1408,
        source_blocks: 0xfe,
        sub_blocks: 0x0123,
        alignment: 4,
    };
    Oti::RaptorQ(RaptorQOti::new(parameters).expect("they are valid"))
}

/// Returns sets of extensions: none, one, all kinds, unknown ones.
fn extensions(oti: &Oti) -> Vec<Vec<u8>> {
    let mut sets = vec![Vec::new()];
    let mut set = |write: &dyn Fn(&mut ExtensionWriter<'_>), more: &[u8]| {
        let mut octets = Vec::new();
        write(&mut ExtensionWriter::new(&mut octets));
        octets.extend(more);
        sets.push(octets);
    };
    let fits = "it is short";
    set(
        &|out| {
            out.fti(oti);
        },
        &[],
    );
    set(
        &|out| {
            out.fdt(FdtHeader { version: 2, instance_id: 0xf_edcb }).fti(oti);
        },
        &[],
    );
    set(
        &|out| {
            out.fdt(FdtHeader { version: 1, instance_id: 1 }).content_encoding(3);
            let time = [0xf0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
            out.variable(ext::TIME, &time).expect(fits).fti(oti);
        },
        &[],
    );
    set(
        &|out| {
            out.variable(ext::NOP, &[0; 6]).expect(fits);
            out.variable(ext::AUTH, &[7; 38]).expect(fits);
            out.fti(oti).variable(100, &[9; 10]).expect(fits);
        },
        &[200, 1, 2, 3, 255, 4, 5, 6],
    );
    sets
}

fn packet(header: Header, extensions: &[u8]) -> Vec<u8> {
    let id = match header.codepoint {
        0 => PayloadId { sbn: Sbn(0xfedc), esi: Esi(0xba98) },
        _ => PayloadId { sbn: Sbn(0xfe), esi: Esi(0x00fe_dcba) },
    };
    let extensions = Extensions::new(extensions).expect("they were just written");
    let payload = Some(Payload { id, symbols: &[0x5a; 32] });
    let mut out = Vec::new();
    Packet { header, extensions, payload }.emit(&mut out).expect("all values fit");
    out
}
