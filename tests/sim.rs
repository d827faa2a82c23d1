//! Simulated worlds: many seeds, mistakes that must be found, and what seeds have found.

use std::path::Path;

use fumocast_tests::sim::{
    command::survey,
    disk::SimDisk,
    plant::Plant,
    scenario::Scenario,
    trace::Keep,
    world::{self, Outcome},
};
use receiver::shell::directory::DataDirectory;

/// Seeds of each run of the tests.
const SEEDS: u64 = 1_000;
/// Seeds in which a mistake is found at the latest.
const SEEDS_FOR_A_MISTAKE: u64 = 60;

fn run(seed: u64) -> Outcome {
    world::run(Scenario::draw(seed), Keep::Digest, Plant::Nothing)
}

#[test]
fn a_thousand_worlds_keep_every_promise() {
    let summary = survey((1, SEEDS), 2, Plant::Nothing, &|_| ());
    assert_eq!(summary.worlds, SEEDS);
    let failing: Vec<_> = summary.failing.iter().map(|it| format!("{it:#?}")).collect();
    assert!(failing.is_empty(), "{}", failing.join("\n"));
}

#[test]
fn a_seed_repeats_a_world_to_the_last_event() {
    for seed in [3, 11, 39] {
        let (first, again) = (run(seed), run(seed));
        assert_eq!((first.digest, first.events), (again.digest, again.events), "seed {seed}");
        assert_ne!(first.digest, run(seed + 1).digest, "seed {seed}");
    }
}

#[test]
fn every_mistake_is_found() {
    for plant in Plant::ALL {
        let found = (1..=SEEDS_FOR_A_MISTAKE).find(|seed| {
            let outcome = world::run(Scenario::draw(*seed), Keep::Digest, plant);
            !outcome.breaches.is_empty()
        });
        assert!(found.is_some(), "{}", plant.word());
    }
}

#[test]
fn slots_that_rotted_are_written_again() {
    let outcome = run(22_834);
    assert!(outcome.breaches.is_empty(), "{:?}", outcome.breaches);
}

#[test]
fn a_data_directory_that_was_just_made_survives_a_power_cut() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        drop(DataDirectory::open_on(disk.shared(), Path::new("/var/lib/fumocast")).unwrap());
        disk.cut();
        disk.power_on(seed);
        let journal = DataDirectory::open_on(disk.shared(), Path::new("/var/lib/fumocast"));
        assert!(journal.is_ok() && disk.content(Path::new("/var/lib/fumocast/lock")).is_some());
    }
}
