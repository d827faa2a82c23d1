//! Golden packets: a whole session, dissected by Wireshark and decoded by an unrelated receiver.

use proptest::prelude::*;

use super::*;
use crate::{
    fec::oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
    fixtures::golden::hex,
    flute::{
        ext::{ExtensionWriter, FdtHeader},
        fdt::{self, FdtInstance},
        lct::{MAX_EXTENSIONS, Widths},
    },
    ids::{Toi, Tsi},
};

fn narrow(toi: u128, codepoint: u8) -> Header {
    Header { widths: Widths::NARROW, ..Header::wide(Tsi(7), Toi(toi), codepoint) }
}

fn emitted(packet: &Packet<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    packet.emit(&mut out).unwrap();
    out
}

fn golden_oti() -> Oti {
    let parameters = RaptorQParameters {
        transfer_length: 43,
        symbol_size: 16,
        source_blocks: 1,
        sub_blocks: 1,
        alignment: 4,
    };
    Oti::RaptorQ(RaptorQOti::new(parameters).unwrap())
}

// test: rfc6330 3.2, rfc5651 5, rfc5775 2.3, rfc6330 3.3.1
#[test]
fn data_packets_are_octet_for_octet_those_of_the_golden_session() {
    for (esi, golden) in [
        (0, "10100306 00000000 00070001 00000000 66756d6f6361737420676f6c64656e20"),
        (1, "10100306 00000000 00070001 00000001 766563746f722c20666f7274792d7468"),
        (2, "10100306 00000000 00070001 00000002 726565206f6374657473210000000000"),
        (2, "10100306 00000000 00070001 00000002 726565206f637465747321"),
        (5, "10100306 00000000 00070001 00000005 19d52f5c997bba79518a93c43b718d9a"),
    ] {
        let golden = hex(golden);
        let id = PayloadId { sbn: Sbn(0), esi: Esi(esi) };
        let expected = Packet {
            header: narrow(1, 6),
            extensions: Extensions::NONE,
            payload: Some(Payload { id, symbols: &golden[16..] }),
        };
        assert_eq!(Packet::parse(&golden), Ok(expected));
        assert_eq!(emitted(&expected), golden);
    }
}

// test: rfc5651 5, rfc6330 4.2
#[test]
fn parameters_on_a_data_packet_are_octet_for_octet_the_golden_ones() {
    let golden = hex("10100706 00000000 00070001 40040000 00002b00 00100100 01040000 00000000
                      66756d6f6361737420676f6c64656e20");
    let mut extensions = Vec::new();
    ExtensionWriter::new(&mut extensions).fti(&golden_oti());
    let packet = Packet {
        header: narrow(1, 6),
        extensions: Extensions::new(&extensions).unwrap(),
        payload: Some(Payload {
            id: PayloadId { sbn: Sbn(0), esi: Esi(0) },
            symbols: &golden[32..],
        }),
    };
    assert_eq!(emitted(&packet), golden);
    let parsed = Packet::parse(&golden).unwrap();
    assert_eq!(parsed, packet);
    assert_eq!(parsed.extensions.fti(parsed.header.codepoint), Ok(Some(golden_oti())));
}

// test: rfc6726 3.4.1
#[test]
fn the_fdt_packet_is_octet_for_octet_the_golden_one() {
    let document = fdt::tests::GOLDEN;
    let mut golden = hex("10100800 00000000 00070000 c0200000 40040000 0000018e 00000190 00000001
                          00000000");
    golden.extend_from_slice(document.as_bytes());
    let oti = Oti::NoCode(NoCodeOti::new(398, 400, 1).unwrap());
    let mut extensions = Vec::new();
    let header = FdtHeader { version: 2, instance_id: 0 };
    ExtensionWriter::new(&mut extensions).fdt(header).fti(&oti);
    let packet = Packet {
        header: narrow(0, 0),
        extensions: Extensions::new(&extensions).unwrap(),
        payload: Some(Payload {
            id: PayloadId { sbn: Sbn(0), esi: Esi(0) },
            symbols: document.as_bytes(),
        }),
    };
    assert_eq!(emitted(&packet), golden);

    let parsed = Packet::parse(&golden).unwrap();
    assert_eq!(parsed.extensions.fdt(), Some(header));
    assert_eq!(parsed.extensions.fti(0), Ok(Some(oti)));
    let instance = FdtInstance::parse(parsed.payload.unwrap().symbols).unwrap();
    assert_eq!(instance.files[0].oti, Some(golden_oti()));
}

// test: rfc5651 5.1
// test: rfc5775 4.1, rfc6726 3.1
#[test]
fn the_packet_that_closes_a_session_has_neither_toi_nor_data() {
    let golden = hex("10820300 00000000 00000007");
    let packet =
        Packet { header: Header::close(Tsi(7)), extensions: Extensions::NONE, payload: None };
    assert_eq!(emitted(&packet), golden);
    assert_eq!(Packet::parse(&golden), Ok(packet));
}

#[test]
fn packets_of_another_sender_are_read() {
    let fdt =
        hex("10100c06 00000000 00100000 c0200001 c1000000 0203c000 eeabd986 b1244a62 40040000
                   00046800 05780100 01040000 00000000 3c");
    let packet = Packet::parse(&fdt).unwrap();
    assert_eq!(packet.header.tsi, Tsi(16));
    assert_eq!(packet.extensions.fdt(), Some(FdtHeader { version: 2, instance_id: 1 }));
    assert_eq!(packet.extensions.content_encoding(), Some(0));
    assert_eq!(packet.extensions.time().unwrap().unwrap().fraction, Some(0xb124_4a62));
    assert_eq!(packet.extensions.fti(6).unwrap().unwrap().transfer_length(), 1128);

    let no_code = hex("10100700 00000000 00100001 40040000 00004e20 00000578 00000040 00020003 aa");
    let packet = Packet::parse(&no_code).unwrap();
    let oti = packet.extensions.fti(0).unwrap().unwrap();
    assert_eq!((oti.transfer_length(), oti.symbol_size()), (20_000, 1400));
    assert_eq!(packet.payload.unwrap().id, PayloadId { sbn: Sbn(2), esi: Esi(3) });

    let raptorq = hex("10100706 00000000 00100001 40040000 004e2000 05780100 01040000 01000203 aa");
    let packet = Packet::parse(&raptorq).unwrap();
    assert_eq!(packet.extensions.fti(6).unwrap().unwrap().transfer_length(), 20_000);
    assert_eq!(packet.payload.unwrap().id, PayloadId { sbn: Sbn(1), esi: Esi(0x203) });
}

// test: rfc6726 3.3
#[test]
fn data_of_a_scheme_that_is_not_ours_are_named_and_refused() {
    for (packet, name, parameters) in [
        (
            "10100605 00000000 00100001 40030000 00004e20 05784044 00000000 aa",
            "FEC Encoding ID is 5, expected 0 or 6 (5 is Reed-Solomon over GF(2^8))",
            "L 20000, E 1400, B 64, max_n 68",
        ),
        (
            "10100781 00000000 00100001 40040000 00004e20 00000578 00400044 00000000 000f0000 aa",
            "FEC Encoding ID is 129, expected 0 or 6 (129 is a systematic code that the FEC Instance \
             ID names)",
            "L 20000, E 1400, B 64, max_n 68, instance 0",
        ),
        (
            "10100701 00000000 00100001 40040000 00004e20 00000578 00010104 00000000 aa",
            "FEC Encoding ID is 1, expected 0 or 6 (1 is Raptor)",
            "L 20000, E 1400, Z 1, N 1, Al 4",
        ),
    ] {
        let packet = hex(packet);
        assert_eq!(Packet::parse(&packet).unwrap_err().to_string(), name);
        let frame = Frame::parse(&packet).unwrap();
        assert_eq!((frame.header.tsi, frame.header.toi), (Tsi(16), Some(Toi(1))));
        let codepoint = frame.header.codepoint;
        assert_eq!(frame.extensions.fti(codepoint), Ok(None));
        let foreign = frame.extensions.foreign_fti(codepoint).unwrap().unwrap();
        assert!(foreign.to_string().ends_with(parameters), "{foreign}");
    }
}

// test: rfc6726 3.1, rfc5651 5.1, rfc5775 4.1
#[test]
fn data_without_a_toi_are_refused() {
    assert!(Packet::parse(&hex("10820300 00000000 00000007 00000000 aa")).is_err());
}

#[test]
fn numbers_that_do_not_fit_a_payload_id_are_not_sent() {
    for (encoding_id, sbn, esi, fits) in [
        (0, 65_535, 65_535, true),
        (0, 65_536, 0, false),
        (0, 0, 65_536, false),
        (6, 255, (1 << 24) - 1, true),
        (6, 256, 0, false),
        (6, 0, 1 << 24, false),
        (5, 0, 0, false),
    ] {
        let id = PayloadId { sbn: Sbn(sbn), esi: Esi(esi) };
        let mut out = Vec::new();
        assert_eq!(id.emit(encoding_id, &mut out).is_ok(), fits, "{encoding_id} {sbn} {esi}");
        if fits {
            assert_eq!(PayloadId::parse(encoding_id, &mut Reader::new(&out)), Ok(id));
        }
    }
}

// test: rfc5052 6
#[test]
fn every_prefix_of_a_packet_is_refused_or_has_less_payload() {
    let golden = hex("10100706 00000000 00070001 40040000 00002b00 00100100 01040000 00000000
                      66756d6f6361737420676f6c64656e20");
    for length in 0..golden.len() {
        match Packet::parse(&golden[..length]) {
            Err(_) => assert!(length < 32, "{length}"),
            Ok(Packet { payload: None, .. }) => assert_eq!(length, 28),
            Ok(Packet { payload: Some(payload), .. }) => {
                assert_eq!(payload.symbols.len(), length - 32);
            }
        }
    }
}

// test: rfc6330 4.4.2, rfc6330 4.3
#[test]
fn a_packet_may_hold_several_symbols_of_one_block() {
    let id = |esi| PayloadId { sbn: Sbn(2), esi: Esi(esi) };
    let payload = Payload { id: id(7), symbols: b"aabbc" };
    let walk = |size| payload.each(size).collect::<Vec<_>>();
    assert_eq!(walk(2), [(id(7), b"aa".as_slice()), (id(8), b"bb"), (id(9), b"c")]);
    assert_eq!(walk(9), [(id(7), b"aabbc".as_slice())]);
    assert_eq!(walk(0).len(), 5);
}

/// A header of any widths whose values fit them.
fn any_header() -> impl Strategy<Value = Header> {
    let widths = (0_u8..2, 0_u8..4, any::<bool>()).prop_filter("a TSI", |(s, _, h)| *s > 0 || *h);
    let fields = (0_u8..4, 0_u8..4, any::<u128>(), any::<u64>(), any::<u128>());
    let flags = (any::<bool>(), any::<bool>(), prop::sample::select(vec![0_u8, 6, 1, 5, 129, 77]));
    (widths, fields, flags).prop_map(|((s, o, half_word), (psi, c, cci, tsi, toi), (a, b, cp))| {
        let half = if half_word { 16 } else { 0 };
        let keep = |value: u128, bits: u32| value & (u128::MAX >> (128 - bits));
        let tsi = keep(tsi.into(), u32::from(s) * 32 + half);
        let toi_bits = u32::from(o) * 32 + half;
        Header {
            psi,
            congestion_words: c,
            congestion: keep(cci, (u32::from(c) + 1) * 32),
            widths: Widths { tsi_words: s, toi_words: o, half_word },
            tsi: Tsi(u64::try_from(tsi).unwrap()),
            toi: (toi_bits > 0).then(|| Toi(keep(toi, toi_bits))),
            close_session: a,
            close_object: b,
            codepoint: cp,
        }
    })
}

proptest! {
    // test: rfc5651 5.1, rfc5651 6.2
    #[test]
    fn packets_of_all_widths_and_extensions_are_read_as_written_and_survive_damage(
        header in any_header(),
        extensions in prop::collection::vec(
            (prop::sample::select(vec![0_u8, 1, 2, 64, 67, 127, 128, 192, 193, 194, 255]),
             prop::collection::vec(any::<u8>(), 0..20)), 0..8),
        symbols in prop::collection::vec(any::<u8>(), 0..40),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut written = Vec::new();
        for (kind, content) in &extensions {
            if *kind < 128 {
                ExtensionWriter::new(&mut written).variable(*kind, content).unwrap();
            } else {
                let word = [content.as_slice(), &[0; 3]].concat();
                written.push(*kind);
                written.extend_from_slice(&word[..3]);
            }
        }
        let mut octets = Vec::new();
        header.emit(Extensions::new(&written).unwrap(), &mut octets).unwrap();
        if header.toi.is_some() {
            octets.extend_from_slice(&symbols);
        }
        let frame = Frame::parse(&octets).unwrap();
        prop_assert_eq!(frame.header, header);
        prop_assert_eq!(frame.extensions.octets(), &written);
        prop_assert_eq!(frame.extensions.iter().count(), extensions.len());

        for (place, octet) in damage {
            let place = place.index(octets.len());
            octets[place] = octet;
            let Ok(frame) = Frame::parse(&octets) else { continue };
            for codepoint in [frame.header.codepoint, 0, 1, 2, 5, 6, 128, 129] {
                let known = frame.extensions.fti(codepoint).is_ok_and(|oti| oti.is_some());
                let foreign = frame.extensions.foreign_fti(codepoint);
                prop_assert!(!known || foreign == Ok(None));
            }
            let _time = frame.extensions.time();
            let _fdt = (frame.extensions.fdt(), frame.extensions.content_encoding());
            if let Ok(Some(payload)) = frame.payload() {
                prop_assert!(payload.each(1).count() <= octets.len());
            }
        }
    }

    #[test]
    fn whatever_arrives_the_answer_is_a_value(mut octets in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(first) = octets.first_mut() {
            *first = 0x10 | *first & 0x03;
        }
        if let Ok(packet) = Packet::parse(&octets) {
            let codepoint = packet.header.codepoint;
            let looked_at = (packet.extensions.fti(codepoint), packet.extensions.time());
            prop_assert!(packet.extensions.iter().count() <= MAX_EXTENSIONS, "{:?}", looked_at);
            let again = emitted(&packet);
            // The bits that are reserved by now announced the times of an old sender: none is kept.
            if octets[1] & 0x0c == 0 {
                prop_assert_eq!(again, octets);
            }
        }
    }
}
