//! A hundred thousand devices that end in the same second, and their server.

use fumocast_tests::storm::{self, Storm};

const STORM: Storm = Storm {
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
    let outcome = storm::run(&STORM);
    println!("seed {}: {outcome:?}", STORM.seed);
    assert_eq!(outcome.broken(&STORM), Vec::<String>::new());
    assert!(outcome.repeated > 0, "some answers were lost");
}

// test: oma-002 4 (devices that are turned away come back)
#[test]
fn devices_that_find_no_place_come_back_and_are_counted_once() {
    let storm = Storm { devices: 5_000, spread_seconds: 100, sessions: 22, ..STORM };
    let outcome = storm::run(&storm);
    println!("seed {}: {outcome:?}", storm.seed);
    assert!(outcome.turned_away > 0);
    assert!(outcome.most_sessions <= storm.sessions);
    assert_eq!((outcome.counted, outcome.waiting), (5_000, 0));
}

#[test]
fn a_storm_without_spread_is_not_flat_and_a_broken_promise_is_named() {
    let storm = Storm { devices: 2_000, spread_seconds: 0, ..STORM };
    let broken = storm::run(&storm).broken(&storm);
    assert!(broken.iter().any(|words| words.ends_with("% off")), "{broken:?}");
}
