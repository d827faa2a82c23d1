//! Their sender's air, read by `proto`.

use std::collections::BTreeMap;

use flute::{
    core::{Oti, lct::Cenc},
    sender::{Config, FdtXmlProfile, Profile, TOIMaxLength},
};
use proto::{
    fec::oti::{NoCodeOti, Oti as OurOti},
    flute::{
        alc::{Packet, Payload},
        ext::ExtensionWriter,
        lct::Extensions,
    },
    ids::Toi,
};

use crate::{air, collector::Collector, disk::OurReceiver, peer::their_packets};

const NAME: &str = "file:///firmware.bin";

fn config(profile: Profile) -> Config {
    Config { profile, ..Config::default() }
}

fn raptorq(symbol_size: u16, block_symbols: u16, repair: u16, sub_blocks: u16) -> Oti {
    Oti::new_raptorq(symbol_size, block_symbols, repair, sub_blocks, 4).unwrap()
}

fn one(octets: Vec<u8>) -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([(NAME.to_owned(), octets)])
}

/// Checks that the product and the least receiver both have the file; compares without printing
/// megabytes.
fn assert_received(arrived: &[Vec<u8>], octets: Vec<u8>, case: &str) -> Collector {
    let (collector, expected) = (Collector::receive(arrived), one(octets));
    assert!(collector.files() == expected, "{case}: {:?}", collector.files().keys());
    let ours = OurReceiver::new().receive(arrived);
    assert!(ours == expected, "{case}: {:?}", ours.keys());
    collector
}

#[test]
fn both_versions_and_both_codes_are_read_with_parameters_in_packets_or_in_the_table() {
    for (profile, versions) in [(Profile::RFC3926, [1, 0]), (Profile::RFC6726, [0, 1])] {
        for (code, length) in [(6, 1), (6, 20_000), (6, 300_001), (0, 1), (0, 20_000), (0, 300_001)]
        {
            for inband_fti in [true, false] {
                let oti = match code {
                    6 => raptorq(1400, 64, 4, 1),
                    _ => Oti::new_no_code(1400, 64),
                };
                let oti = Oti { inband_fti, ..oti };
                let octets = air::octets(length, 1);
                let packets = their_packets(9, &config(profile), &oti, &[(NAME, &octets)]);
                let case = format!("{profile:?}, FEC {code}, {length} octets, {inband_fti}");
                let ours = assert_received(&packets, octets, &case);
                assert_eq!(ours.versions.map(|packets| packets.min(1)), versions, "{case}");
                assert_eq!(ours.with_parameters > 0, inband_fti, "{case}");
                assert!(ours.closed);
                let entry = &ours.entries[&Toi(1)];
                assert_eq!(entry.content_length, u64::try_from(length).ok());
                assert_eq!(entry.encoding_id, Some(code), "{case}");
                assert!(entry.oti.is_some(), "{case}");
            }
        }
    }
}

#[test]
fn blocks_of_many_sizes_are_decoded_with_and_without_sub_blocks_through_loss() {
    for (block_symbols, length, symbol_size) in
        [(1, 2_000, 64), (10, 40_000, 256), (101, 500_000, 1400), (1000, 1_300_000, 1400)]
    {
        for sub_blocks in [1, 4] {
            for (loss, seed) in [(0.0, 1), (0.1, 2), (0.2, 3)] {
                let oti = raptorq(symbol_size, block_symbols, block_symbols + 20, sub_blocks);
                let octets = air::octets(length, seed);
                let packets = their_packets(7, &config(Profile::RFC6726), &oti, &[(NAME, &octets)]);
                let (table, mut data) = split(packets);
                air::lose(&mut data, loss, seed);
                let arrived = [table, air::disorder(data, 30, seed)].concat();
                let case = format!("K {block_symbols}, N {sub_blocks}, loss {loss}");
                assert_received(&arrived, octets, &case);
            }
        }
    }
}

/// Parts the packets of the table from all others.
fn split(packets: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    packets.into_iter().partition(|packet| {
        let packet = Packet::parse(packet).unwrap();
        packet.header.toi == Some(Toi::FDT)
    })
}

#[test]
fn blocks_of_five_thousand_symbols_are_decoded() {
    for length in [5_000 * 1400 - 7, 20_000_000] {
        let octets = air::octets(length, 4);
        let oti = raptorq(1400, 5_000, 700, 1);
        let packets = their_packets(7, &config(Profile::RFC6726), &oti, &[(NAME, &octets)]);
        let (table, mut data) = split(packets);
        air::lose(&mut data, 0.1, 5);
        let arrived = [table, data].concat();
        assert_received(&arrived, octets, &format!("{length} octets"));
    }
}

#[test]
fn a_table_that_arrives_last_explains_what_was_received() {
    for inband_fti in [true, false] {
        let octets = air::octets(30_000, 6);
        let oti = Oti { inband_fti, ..raptorq(1400, 10, 2, 1) };
        let (table, data) =
            split(their_packets(7, &config(Profile::RFC6726), &oti, &[(NAME, &octets)]));
        assert!(table.len() == 1 && data.len() > 22);
        let case = format!("in packets: {inband_fti}");
        assert_received(&[data, table].concat(), octets, &case);
    }
}

#[test]
fn several_files_and_every_width_of_the_toi_are_read() {
    for toi_max_length in [
        TOIMaxLength::ToiMax16,
        TOIMaxLength::ToiMax32,
        TOIMaxLength::ToiMax48,
        TOIMaxLength::ToiMax64,
        TOIMaxLength::ToiMax80,
        TOIMaxLength::ToiMax112,
    ] {
        for (tsi, toi) in [(1, 1), (0xffff, 0xfffe), (0xdead_beef, 3), (0xffff_ffff_ffff, 4)] {
            let config =
                Config { toi_max_length, toi_initial_value: Some(toi), ..Config::default() };
            let (small, large) = (air::octets(9, 1), air::octets(9_000, 2));
            let files = [("file:///a/b.bin", &small[..]), ("file:///c.bin", &large[..])];
            let packets = their_packets(tsi, &config, &raptorq(512, 8, 2, 1), &files);
            let received = Collector::receive(&packets).files();
            assert!(received == OurReceiver::new().receive(&packets), "{tsi} {toi}");
            assert_eq!(received.len(), 2, "{toi_max_length:?} {tsi} {toi}");
            assert_eq!(received["file:///a/b.bin"], small);
            assert_eq!(received["file:///c.bin"], large);
        }
    }
}

#[test]
fn both_of_their_table_schemas_are_read() {
    for fdt_xml_profile in [FdtXmlProfile::Extended, FdtXmlProfile::Ts26346L6] {
        let groups = Some(vec!["one".to_owned(), "two".to_owned()]);
        let config = Config { fdt_xml_profile, groups, ..config(Profile::RFC3926) };
        let octets = air::octets(5_000, 1);
        let oti = Oti { inband_fti: false, ..Oti::new_no_code(1000, 64) };
        let packets = their_packets(3, &config, &oti, &[(NAME, &octets)]);
        assert_received(&packets, octets, &format!("{fdt_xml_profile:?}"));
    }
}

#[test]
fn tables_that_they_compress_are_read() {
    for fdt_cenc in [Cenc::Null, Cenc::Zlib, Cenc::Deflate, Cenc::Gzip] {
        let config = Config { fdt_cenc, ..config(Profile::RFC6726) };
        let octets = air::octets(5_000, 1);
        let oti = Oti { inband_fti: false, ..raptorq(1000, 64, 2, 1) };
        let packets = their_packets(3, &config, &oti, &[(NAME, &octets)]);
        assert_received(&packets, octets, &format!("{fdt_cenc:?}"));
    }
}

#[test]
fn whoever_joins_in_the_middle_of_a_transfer_completes_in_a_later_one() {
    for profile in [Profile::RFC3926, Profile::RFC6726] {
        for (oti, rounds) in [(raptorq(1000, 32, 4, 4), 3), (Oti::new_no_code(1000, 32), 12)] {
            let octets = air::octets(100_000, 7);
            let mut round = their_packets(3, &config(profile), &oti, &[(NAME, &octets)]);
            round.pop().expect("what closes the session comes last");
            let late = round[round.len() / 2..].to_vec();
            let mut arrived = [vec![late], vec![round; rounds]].concat().concat();
            air::lose(&mut arrived, 0.2, 8);
            let case = format!("{profile:?}, {rounds} rounds");
            assert_received(&air::disorder(arrived, 20, 9), octets, &case);
        }
    }
}

#[test]
fn parameters_in_packets_alone_are_enough() {
    for (oti, length) in [(raptorq(1000, 32, 4, 4), 100_000), (Oti::new_no_code(1000, 32), 9)] {
        let octets = air::octets(length, 7);
        let packets = their_packets(3, &config(Profile::RFC6726), &oti, &[(NAME, &octets)]);
        let (table, data) = split(packets);
        let [table] = &table[..] else { panic!("one packet holds the table") };
        let table = without_parameters(table);
        let case = format!("{length} octets");
        let ours = assert_received(&[vec![table], data].concat(), octets, &case);
        assert!(ours.entries[&Toi(1)].oti.is_none());
    }
}

/// Takes the FEC parameters out of a table, which their sender always writes.
fn without_parameters(table: &[u8]) -> Vec<u8> {
    let packet = Packet::parse(table).unwrap();
    let payload = packet.payload.unwrap();
    let text = std::str::from_utf8(payload.symbols).unwrap();
    let mut parts = text.split(" FEC-OTI-");
    let mut written = parts.next().unwrap().to_owned();
    for part in parts {
        let (_value, tail) = part.split_once('"').unwrap().1.split_once('"').unwrap();
        written.push_str(tail);
    }
    assert_ne!(written, text);
    let length = u64::try_from(written.len()).unwrap();
    let mut extensions = Vec::new();
    let fti = OurOti::NoCode(NoCodeOti::new(length, 1400, 64).unwrap());
    ExtensionWriter::new(&mut extensions).fdt(packet.extensions.fdt().unwrap()).fti(&fti);
    let extensions = Extensions::new(&extensions).unwrap();
    let payload = Some(Payload { id: payload.id, symbols: written.as_bytes() });
    let mut out = Vec::new();
    Packet { header: packet.header, extensions, payload }.emit(&mut out).unwrap();
    out
}
