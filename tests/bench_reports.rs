//! A hundred thousand devices that end in the same second, and their server.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the output of a test is for the person who runs it"
)]

use fumocast_tests::bench_reports::{self, ReportLoad};

const LOAD: ReportLoad = ReportLoad {
    devices: 100_000,
    spread_seconds: 2_000,
    sessions: 64,
    session_milliseconds: 400,
    lost_per_mille: 5,
    restarts_per_mille: 50,
    seed: 20_261_121,
};

// test: oma-002 4 (a storm of reports)
#[test]
fn a_hundred_thousand_results_arrive_evenly_and_are_counted_once() {
    let outcome = bench_reports::run(&LOAD);
    println!("seed {}: {outcome:?}", LOAD.seed);
    assert_eq!(outcome.broken(&LOAD), Vec::<String>::new());
    assert!(outcome.repeated > 0, "some answers were lost");
}

// test: oma-002 4 (devices that are turned away come back)
#[test]
fn devices_that_are_turned_away_retry_and_are_counted_once() {
    let load = ReportLoad { devices: 5_000, spread_seconds: 100, sessions: 22, ..LOAD };
    let outcome = bench_reports::run(&load);
    println!("seed {}: {outcome:?}", load.seed);
    assert!(outcome.turned_away > 0);
    assert!(outcome.most_sessions <= load.sessions);
    assert_eq!((outcome.counted, outcome.waiting), (5_000, 0));
}

#[test]
fn reports_without_spread_are_not_flat_and_a_broken_promise_is_named() {
    let load = ReportLoad { devices: 2_000, spread_seconds: 0, ..LOAD };
    let broken = bench_reports::run(&load).broken(&load);
    assert!(broken.iter().any(|words| words.ends_with("% off")), "{broken:?}");
}
