//! The kill test, as far as it runs with the others.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::path::Path;

use fumocast_tests::store::kill::{self, InjectedBug, Options, Outcome};

fn kill(cycles: u64, seed: u64, inject: Option<InjectedBug>) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { cycles, seed, folder: Some(folder.path().join("kill")), inject };
    let outcome = kill::run(Path::new(env!("CARGO_BIN_EXE_kill")), &options).unwrap();
    println!("{inject:?}, seed {seed}: {outcome:?}");
    outcome
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed_and_sectors_are_torn() {
    let outcome = kill(500, 1, None);
    assert_eq!((outcome.cycles, outcome.breaches.as_slice()), (500, [].as_slice()));
    assert!(outcome.acknowledged > 1_000 && outcome.damaged > 200, "{outcome:?}");
    assert!(outcome.finished > 5, "{outcome:?}");
    assert!(outcome.truncated > 50 && outcome.tables > 1_000, "{outcome:?}");
}

#[test]
fn a_storage_that_acknowledges_before_it_syncs_is_found() {
    let outcome = kill(200, 2, Some(InjectedBug::AcknowledgeBeforeSync));
    assert!(outcome.breaches.iter().any(|breach| breach.starts_with("P2")), "{outcome:?}");
}

#[test]
fn a_storage_that_skips_the_comparison_of_tags_is_found() {
    let outcome = kill(200, 3, Some(InjectedBug::SkipTagComparison));
    assert!(outcome.breaches.iter().any(|breach| breach.starts_with("P1")), "{outcome:?}");
}
