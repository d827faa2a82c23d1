//! An unsigned file between network namespaces, over a link that loses packets.

use std::path::Path;

use clap::Parser as _;
use fumocast_tests::span::{Options, Report, Unavailable, run};

use crate::lab_program;

/// Measures, or prints why that is not possible here.
fn measure(words: &[&str]) -> Option<Report> {
    let options = Options::parse_from([&["span"], words].concat());
    match run(Path::new(lab_program()), &options) {
        Ok(report) => Some(report),
        Err(error) if error.is::<Unavailable>() => {
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

#[test]
fn a_kill_of_a_listener_costs_hardly_more_packets_and_losses_little_more_than_themselves() {
    // Slow enough that a busy machine has flushed much of it when the listener is killed half-way.
    let words = ["--size", "8MiB", "--loss", "20", "--rate", "8M", "--kill"];
    let Some(report) = measure(&[&words[..], &["--max-block-symbols", "1024"]].concat()) else {
        return;
    };
    let killed = report.killed.as_ref().unwrap();
    for run in [&report.whole, killed] {
        assert!(run.digests_equal);
        assert!((15.0..25.0).contains(&run.dropped_percent), "{report:?}");
        assert!(run.listener_peak_mib < 100.0, "{report:?}");
    }
    assert!(report.whole.sent_per_symbol_needed < 1.35, "{report:?}");
    // What was not synced when it was killed is a large part of so small a file.
    assert!(report.kill_costs_percent.unwrap() < 25.0, "{report:?}");
}
