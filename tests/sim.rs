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
fn every_mistake_is_found_for_what_it_is() {
    for plant in Plant::ALL {
        let found = (1..=SEEDS_FOR_A_MISTAKE).find(|seed| {
            let outcome = world::run(Scenario::draw(*seed), Keep::Digest, plant);
            outcome.breaches.iter().any(|breach| breach.contains(plant.breach()))
        });
        println!("{}: {found:?}", plant.word());
        assert!(found.is_some(), "{} is not found: {}", plant.word(), plant.breach());
    }
}

#[test]
fn a_failing_world_shrinks_to_what_matters_and_one_line_replays_it() {
    // This mistake needs nothing to go wrong beside it.
    let summary = survey((1, 3), 1, Plant::DeliverAnother, &|_| ());
    let shown = format!("{:#?}", summary.failing);
    assert!(summary.failing.len() == 3, "{shown}");
    for failing in &summary.failing {
        assert!(failing.faults.is_empty(), "{shown}");
        let seed = failing.seed;
        let command = format!("cargo run -p tests --bin sim -- --seed {seed} ");
        assert!(failing.replay.starts_with(&command), "{shown}");
        assert!(failing.replay.ends_with("--plant deliver-another --trace"), "{shown}");
        let left_out = failing.replay.split(" --without ").skip(1);
        let left_out: Vec<_> =
            left_out.map(|rest| rest.split(' ').next().unwrap().parse().unwrap()).collect();
        let scenario = Scenario::draw(seed).without(&left_out);
        let again = world::run(scenario, Keep::Digest, Plant::DeliverAnother);
        assert_eq!(again.breaches, failing.breaches);
    }
}

/// Runs a world as it was drawn before the operator did anything in it.
fn run_without_the_desk(seed: u64) -> Outcome {
    let scenario = Scenario::draw(seed);
    let numbered = (0..).zip(&scenario.faults);
    let desk: Vec<_> = numbered.filter(|(_, it)| it.what.came_later()).map(|it| it.0).collect();
    world::run(scenario.without(&desk), Keep::Digest, Plant::Nothing)
}

#[test]
fn slots_that_rotted_are_written_again() {
    let outcome = run_without_the_desk(22_834);
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
