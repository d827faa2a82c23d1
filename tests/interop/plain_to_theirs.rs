//! Unsigned sessions of both profiles, received by them and by `proto`.

use std::collections::BTreeMap;

use carousel::unsigned::wire_profile::{FecOptions, FtiLocation, Profile, Scheme, oti_for};
use proto::{
    fec::oti::{Oti, RaptorQOti, RaptorQParameters},
    flute::alc::Packet,
    ids::Toi,
};

use crate::{
    air, collector::Collector, disk::OurReceiver, peer::TheirReceiver, plain_air::Broadcast,
};

fn options(scheme: Scheme) -> FecOptions {
    FecOptions { scheme, symbol_size: 1024, max_block_symbols: 64 }
}

/// Returns the packets of a session and what must arrive.
fn on_air(
    (profile, fti, scheme): (Profile, FtiLocation, Scheme),
    lengths: &[u64],
    passes: u64,
) -> (Vec<Vec<u8>>, BTreeMap<String, Vec<u8>>) {
    let wire_profile = profile.wire_profile(fti);
    let oti = |length: &u64| oti_for(*length, options(scheme), &wire_profile).unwrap();
    let files = lengths.iter().map(oti).collect();
    Broadcast { profile, fti, files, repair_percent: 60, passes, seed: 0 }.on_air()
}

fn every_form() -> impl Iterator<Item = (Profile, FtiLocation, Scheme)> {
    [Profile::Rfc6726, Profile::Mbms].into_iter().flat_map(|profile| {
        [FtiLocation::Packet, FtiLocation::Fdt, FtiLocation::Both].into_iter().flat_map(
            move |fti| [Scheme::RaptorQ, Scheme::NoCode].map(|scheme| (profile, fti, scheme)),
        )
    })
}

#[test]
fn both_profiles_arrive_wherever_the_parameters_stand() {
    for form in every_form() {
        let (packets, expected) = on_air(form, &[1, 1024, 20_000, 300_001], 1);
        let received = TheirReceiver::new().receive(&packets);
        assert!(received == expected, "{form:?}: they have {:?}", received.keys());
        let ours = Collector::receive(&packets);
        assert!(ours.files() == expected, "{form:?}: we have {:?}", ours.files().keys());
        assert!(ours.closed);
        let version = match form.0 {
            Profile::Mbms => 0,
            Profile::Rfc6726 => 1,
        };
        assert_eq!(ours.versions[1 - version], 0, "{form:?}");
    }
}

#[test]
fn both_profiles_survive_loss_disorder_and_a_late_join() {
    for form in every_form() {
        let passes = if form.2 == Scheme::NoCode { 8 } else { 3 };
        let (packets, expected) = on_air(form, &[700, 300_001], passes);
        for (joined, loss, seed) in [(0, 0.1, 1), (0, 0.2, 2), (packets.len() / 4, 0.1, 3)] {
            let mut arrived = air::disorder(packets[joined..].to_vec(), 20, seed);
            // What closes the session comes last whatever overtakes what.
            arrived.sort_by_key(|packet| Packet::parse(packet).unwrap().header.close_session);
            air::lose(&mut arrived, loss, seed);
            let received = TheirReceiver::new().receive(&arrived);
            assert!(received == expected, "{form:?} {loss} {joined}: {:?}", received.keys());
            let ours = Collector::receive(&arrived).files();
            assert!(ours == expected, "{form:?} {loss} {joined}: {:?}", ours.keys());
            let ours = OurReceiver::new().receive(&arrived);
            assert!(ours == expected, "{form:?} {loss} {joined}: {:?}", ours.keys());
        }
    }
}

/// A receiver that writes blocks in order holds what is ahead of them, up to a limit.
#[test]
fn a_file_beyond_their_cache_arrives_block_after_block() {
    let options = FecOptions { scheme: Scheme::NoCode, symbol_size: 1408, max_block_symbols: 64 };
    let (profile, fti) = (Profile::Mbms, FtiLocation::Fdt);
    let oti = oti_for(12_000_001, options, &profile.wire_profile(fti)).unwrap();
    let session =
        Broadcast { profile, fti, files: vec![oti], repair_percent: 0, passes: 1, seed: 9 };
    let (packets, expected) = session.on_air();
    assert!(TheirReceiver::with_default_limits().receive(&packets) == expected, "they");
    assert!(OurReceiver::new().receive(&packets) == expected, "we");
}

#[test]
fn a_table_that_arrives_last_explains_what_they_received() {
    for form in every_form() {
        let (packets, expected) = on_air(form, &[1, 20_000], 1);
        let (table, data) = split(packets);
        // What closes the session is left out: their receiver drops its files then.
        let open = |packet: &Vec<u8>| !Packet::parse(packet).unwrap().header.close_session;
        let arrived: Vec<_> = data.into_iter().chain(table).filter(open).collect();
        assert!(TheirReceiver::new().receive(&arrived) == expected, "{form:?}");
        assert!(Collector::receive(&arrived).files() == expected, "{form:?}");
    }
}

/// Parts the packets of the table from all others.
fn split(packets: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let is_table = |packet: &Vec<u8>| Packet::parse(packet).unwrap().header.toi == Some(Toi::FDT);
    packets.into_iter().partition(is_table)
}

#[test]
fn sub_blocks_arrive_in_blocks_of_all_sizes() {
    for (length, symbol_size, source_blocks) in
        [(5, 16, 1), (640, 64, 1), (100_001, 256, 3), (2_000_003, 400, 1)]
    {
        for sub_blocks in [1, 4] {
            let oti = RaptorQOti::new(RaptorQParameters {
                transfer_length: length,
                symbol_size,
                source_blocks,
                sub_blocks,
                alignment: 4,
            });
            let files = vec![Oti::RaptorQ(oti.unwrap())];
            let (profile, fti) = (Profile::Rfc6726, FtiLocation::Both);
            let session =
                Broadcast { profile, fti, files, repair_percent: 40, passes: 1, seed: length };
            let (packets, expected) = session.on_air();
            let (table, mut data) = split(packets);
            let close = data.split_off(data.len() - 3);
            if length > 1000 {
                air::lose(&mut data, 0.1, length);
            }
            let arrived = [table, air::disorder(data, 20, length), close].concat();
            let case = format!("{length} octets, T {symbol_size}, N {sub_blocks}");
            assert!(TheirReceiver::new().receive(&arrived) == expected, "they: {case}");
            assert!(OurReceiver::new().receive(&arrived) == expected, "we: {case}");
        }
    }
}
