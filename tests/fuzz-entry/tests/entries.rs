//! Every entry point of the fuzz targets, with random octets and with damaged valid inputs.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

use fuzz_entry::{ENTRIES, Entry, session};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use proto::fixtures::unsigned;

/// The inputs get deep: the seeds of the session end with whole files.
#[test]
fn the_golden_session_is_received_whole_whatever_the_order() {
    let files = unsigned::session().files.len();
    let seeds = session::seeds();
    let completed: Vec<usize> = seeds.iter().map(|seed| session::completed(seed)).collect();
    assert_eq!(completed[..3], [files; 3]);
    // Also in parts, patched, and over a disk that is slow or rots. One whose digests are wrong
    // twice gives the file up.
    assert!(completed.iter().filter(|count| **count >= files).count() >= 7, "{completed:?}");
}

/// One thing that happens to a valid input.
#[derive(Debug, Clone)]
enum Damage {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    Cut(usize),
    /// The tail of another seed follows from there on.
    Join(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = 0..4096_usize;
    let octets = prop::collection::vec(any::<u8>(), 1..16);
    prop_oneof![
        4 => (place.clone(), any::<u8>()).prop_map(|(at, octet)| Damage::Set(at, octet)),
        2 => (place.clone(), octets).prop_map(|(at, octets)| Damage::Insert(at, octets)),
        1 => (place.clone(), 1..64_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        1 => (place.clone(), 1..64_usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
        1 => place.clone().prop_map(Damage::Cut),
        1 => (place, any::<usize>()).prop_map(|(at, other)| Damage::Join(at, other)),
    ]
}

fn damaged(seeds: &[Vec<u8>], chosen: usize, damages: &[Damage]) -> Vec<u8> {
    let mut octets = seeds[chosen % seeds.len()].clone();
    for damage in damages {
        let place = |at: &usize| at % (octets.len() + 1);
        match damage {
            Damage::Set(at, octet) => {
                let at = place(at);
                octets.get_mut(at).into_iter().for_each(|old| *old = *octet);
            }
            Damage::Insert(at, inserted) => {
                let at = place(at);
                octets.splice(at..at, inserted.iter().copied());
            }
            Damage::Remove(at, count) => {
                let at = place(at);
                octets.drain(at..(at + count).min(octets.len()));
            }
            Damage::Repeat(at, count) => {
                let at = place(at);
                let part = octets[at..(at + count).min(octets.len())].to_vec();
                octets.splice(at..at, part);
            }
            Damage::Cut(at) => octets.truncate(place(at)),
            Damage::Join(at, other) => {
                let at = place(at);
                let other = &seeds[other % seeds.len()];
                octets.truncate(at);
                octets.extend_from_slice(other.get(at..).unwrap_or_default());
            }
        }
    }
    octets
}

/// Runs an entry with its seeds, their prefixes, damaged seeds, and random octets.
fn throw(name: &str) {
    let Entry { run, seeds, .. } = ENTRIES.into_iter().find(|entry| entry.name == name).unwrap();
    let seeds = seeds();
    for seed in &seeds {
        let step = (seed.len() / 256).max(1);
        (0..seed.len()).step_by(step).for_each(|end| run(&seed[..end]));
        run(seed);
    }
    let config = Config { cases: 512, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config.clone());
    let inputs = (any::<usize>(), prop::collection::vec(damage(), 1..6));
    let outcome = runner.run(&inputs, |(chosen, damages)| {
        run(&damaged(&seeds, chosen, &damages));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    let octets = prop::collection::vec(any::<u8>(), 0..512);
    let outcome = TestRunner::new(config).run(&octets, |octets| {
        run(&octets);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
}

macro_rules! entries {
    ($($name:ident => $entry:literal,)*) => {
        $(#[test]
        fn $name() {
            throw($entry);
        })*

        #[test]
        fn no_entry_is_left_out() {
            assert_eq!(ENTRIES.map(|entry| entry.name).as_slice(), [$($entry),*]);
        }
    };
}

entries! {
    no_bytes_upset_the_reader_of_packets => "alc",
    no_bytes_upset_the_reader_of_tables => "fdt",
    no_packets_upset_the_store_of_tables => "fdt_store",
    no_bytes_upset_fec_parameters_and_codecs => "oti",
    no_bytes_upset_the_reader_of_session_descriptions => "sdp",
    no_bytes_upset_the_reader_of_announcements => "sap",
    no_bytes_upset_the_reader_of_captures => "pcap",
    no_bytes_upset_the_readers_of_signed_documents => "trust",
    no_bytes_upset_the_hash_plan => "plan",
    no_bytes_upset_the_reader_of_dm_messages => "syncml",
    no_bytes_upset_the_reader_of_dm_messages_in_wbxml => "wbxml",
    no_bytes_upset_the_smaller_formats_of_device_management => "dm",
    no_bytes_upset_the_reader_of_tune_in_urls => "tune_in",
    no_bytes_upset_the_control_messages => "control",
    no_datagrams_upset_a_receiver_of_plain_sessions => "session",
}
