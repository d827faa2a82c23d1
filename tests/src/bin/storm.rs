//! Lets many devices report at once and tells what arrives when.
//!
//!   storm                    100,000 devices end in the same second
//!   storm --sessions 30      with so few places that devices are turned away
//!
//! Exit codes: 0 all promises kept, 2 usage, 70 a promise was broken.

use std::process::ExitCode;

use clap::Parser;
use fumocast_tests::storm::{self, Storm};
use serde_json::json;

/// Simulates a storm of reports with the real cores of both sides.
#[derive(Debug, Parser)]
#[command(name = "storm")]
struct Options {
    /// Devices that end in the same second
    #[arg(long, default_value_t = 100_000)]
    devices: u32,
    /// Seconds over which they report [default: fifty devices a second]
    #[arg(long)]
    spread: Option<u64>,
    /// Sessions that the server has at once
    #[arg(long, default_value_t = 64)]
    sessions: usize,
    /// Milliseconds that a session takes
    #[arg(long, default_value_t = 400)]
    session: u64,
    /// Answers that are lost, per mille
    #[arg(long, default_value_t = 5)]
    lost: u64,
    /// Repeats the chances of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let storm = Storm {
        devices: options.devices,
        spread_seconds: options.spread.unwrap_or_else(|| u64::from(options.devices).div_ceil(50)),
        sessions: options.sessions,
        session_milliseconds: options.session,
        lost_per_mille: options.lost,
        restarts_per_mille: 50,
        seed: options.seed.unwrap_or_else(|| u64::from_be_bytes(proto::crypto::random())),
    };
    let outcome = storm::run(&storm);
    let broken = outcome.broken(&storm);
    if options.json {
        println!("{}", json!({"storm": storm, "outcome": outcome, "broken": broken}));
    } else {
        println!("{} devices over {} s, seed {}", storm.devices, storm.spread_seconds, storm.seed);
        println!("arrivals in {} bins: {:?}", storm::BINS, outcome.arrivals);
        println!(
            "furthest from the mean: {:.1} %; later than the spread: {}",
            outcome.deviation_percent, outcome.late
        );
        println!(
            "sessions at once: at most {} of {}; turned away: {}",
            outcome.most_sessions, storm.sessions, outcome.turned_away
        );
        println!(
            "counted: {}; came again and were not: {}; not heard: {}",
            outcome.counted, outcome.repeated, outcome.waiting
        );
        broken.iter().for_each(|words| println!("breach: {words}"));
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(70) }
}
