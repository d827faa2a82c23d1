//! Simulated worlds: many seeds, injected bugs that must be found, and seeds that have found bugs.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the output of a test is for the person who runs it"
)]

use std::path::Path;

use fumocast_tests::sim::{
    command::{Summary, survey, survey_superseding},
    disk::SimDisk,
    injected_bugs::InjectedBug,
    scenario::{FIRST_SEED_WITH_HANGING_PEERS, Scenario},
    simulation::{self, Outcome},
    trace::Recording,
};
use receiver::shell::data_dir::DataDir;

/// Seeds of each run of the tests.
const SEEDS: u64 = 1_000;
/// Seeds of worlds in which image servers, gateways and installers hang.
const SEEDS_WITH_HANGING_PEERS: u64 = 300;
/// Seeds whose worlds are superseded at every step of their devices.
const SEEDS_OF_SUPERSEDING: (u64, u64) = (2, 1);
/// Seeds among which every injected bug must be found.
const SEEDS_FOR_A_BUG: u64 = 60;

fn run(seed: u64) -> Outcome {
    simulation::run(Scenario::draw(seed), Recording::Digest, None)
}

#[test]
fn a_thousand_worlds_keep_every_promise() {
    let summary = survey((1, SEEDS), 2, None, &|_| ());
    assert_eq!(summary.worlds, SEEDS);
    assert_none_fails(&summary);
}

#[test]
fn worlds_whose_image_servers_gateways_and_installers_hang_keep_every_promise() {
    let seeds = (FIRST_SEED_WITH_HANGING_PEERS, SEEDS_WITH_HANGING_PEERS);
    assert_none_fails(&survey(seeds, 2, None, &|_| ()));
}

#[test]
fn a_campaign_may_supersede_another_at_every_step_of_a_device() {
    let summary = survey_superseding(SEEDS_OF_SUPERSEDING, 2, None, &|_| ());
    println!("{} worlds, {} events", summary.worlds, summary.events);
    assert!(summary.worlds > 100, "{} steps", summary.worlds);
    assert_none_fails(&summary);
}

fn assert_none_fails(summary: &Summary) {
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
fn every_injected_bug_is_found_for_what_it_is() {
    for bug in InjectedBug::ALL {
        let first = if bug.needs_hanging_peers() { FIRST_SEED_WITH_HANGING_PEERS } else { 1 };
        let found = (first..first + SEEDS_FOR_A_BUG).find(|seed| {
            let outcome = simulation::run(Scenario::draw(*seed), Recording::Digest, Some(bug));
            outcome.breaches.iter().any(|breach| breach.contains(bug.breach()))
        });
        println!("{}: {found:?}", bug.as_str());
        assert!(found.is_some(), "{} is not found: {}", bug.as_str(), bug.breach());
    }
}

#[test]
fn a_failing_world_shrinks_to_what_matters_and_one_line_replays_it() {
    // This bug needs no fault beside it.
    let summary = survey((1, 3), 1, Some(InjectedBug::DeliverAnother), &|_| ());
    let shown = format!("{:#?}", summary.failing);
    assert!(summary.failing.len() == 3, "{shown}");
    for failing in &summary.failing {
        assert!(failing.faults.is_empty(), "{shown}");
        let seed = failing.seed;
        let command = format!("cargo run -p tests --bin sim -- --seed {seed} ");
        assert!(failing.replay.starts_with(&command), "{shown}");
        assert!(failing.replay.ends_with("--inject deliver-another --trace"), "{shown}");
        let left_out = failing.replay.split(" --without ").skip(1);
        let left_out: Vec<_> =
            left_out.map(|tail| tail.split(' ').next().unwrap().parse().unwrap()).collect();
        let scenario = Scenario::draw(seed).without(&left_out);
        let again = simulation::run(scenario, Recording::Digest, Some(InjectedBug::DeliverAnother));
        assert_eq!(again.breaches, failing.breaches);
    }
}

/// Runs a world as it was drawn before the operator did anything in it.
fn run_without_operator_faults(seed: u64) -> Outcome {
    let scenario = Scenario::draw(seed);
    let numbered = (0..).zip(&scenario.faults);
    let operator_faults: Vec<_> =
        numbered.filter(|(_, it)| it.kind.came_later()).map(|it| it.0).collect();
    simulation::run(scenario.without(&operator_faults), Recording::Digest, None)
}

#[test]
fn slots_that_rotted_are_written_again() {
    let outcome = run_without_operator_faults(22_834);
    assert!(outcome.breaches.is_empty(), "{:?}", outcome.breaches);
}

fn pass(seeds: &[u64]) {
    let failing: Vec<_> = seeds
        .iter()
        .map(|seed| (seed, run(*seed).breaches))
        .filter(|(_, breaches)| !breaches.is_empty())
        .collect();
    assert!(failing.is_empty(), "{failing:#?}");
}

#[test]
fn what_the_storage_answers_about_an_operation_does_not_count_in_the_next() {
    pass(&[811_283, 816_344, 816_672, 819_339, 821_321, 825_881, 826_890, 837_539, 838_464]);
}

#[test]
fn a_document_with_other_signatures_does_not_replace_the_one_that_the_journal_names() {
    pass(&[700_513, 812_034, 819_035, 830_730]);
}

#[test]
fn an_exec_again_before_its_result_is_acknowledged_begins_nothing() {
    pass(&[827_003, 921_324]);
}

#[test]
fn a_journal_whose_sync_failed_is_not_relied_on() {
    pass(&[706_660, 803_199, 815_003, 820_885, 839_051]);
}

#[test]
fn a_whole_image_that_was_not_removed_is_decoded_into_again() {
    pass(&[825_582, 834_541]);
}

#[test]
fn a_version_that_a_hanging_hook_did_not_print_is_read_again() {
    pass(&[10_000_747, 10_001_664, 10_004_436, 10_005_291, 10_005_407]);
}

#[test]
fn a_success_of_an_earlier_attempt_is_counted_once() {
    pass(&[90_005_376, 90_005_856, 90_009_810]);
}

#[test]
fn a_campaign_that_a_root_revoked_before_a_power_cut_is_not_damaged() {
    pass(&[30_000_163, 30_007_045]);
}

#[test]
fn a_data_directory_that_was_just_made_survives_a_power_cut() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        drop(DataDir::open_on(disk.shared(), Path::new("/var/lib/fumocast")).unwrap());
        disk.cut();
        disk.power_on(seed);
        let journal = DataDir::open_on(disk.shared(), Path::new("/var/lib/fumocast"));
        assert!(journal.is_ok() && disk.content(Path::new("/var/lib/fumocast/lock")).is_some());
    }
}
