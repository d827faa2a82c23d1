//! Measures whole DM sessions a second, beside a bare server.
//!
//!   sessions                       10,000 devices, XML and WBXML, three rounds
//!   sessions --devices 200 --rounds 1
//!
//! Exit codes: 0 measured, 2 usage, 4 a server or a session failed, 9 below a quarter of the bare
//! server's rate.

use std::process::ExitCode;

use clap::Parser;
use fumocast_tests::sessions::{self, Load};
use serde_json::json;

/// Measure the DM sessions a second of the management server
#[derive(Debug, Parser)]
#[command(name = "sessions")]
struct Options {
    /// Devices, each with one session in each round
    #[arg(long, default_value_t = 10_000)]
    devices: u32,
    /// Connections at once
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Whole sessions for each session of the bare server, at least.
const LEAST_RATIO: f64 = 0.25;

fn main() -> ExitCode {
    let options = Options::parse();
    let load =
        Load { devices: options.devices, connections: options.connections, rounds: options.rounds };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(sessions::run(load)));
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            proto_cli::note!("sessions: {error:#}");
            return ExitCode::from(4);
        }
    };
    if options.json {
        fumocast_tests::print_line!("{}", json!({"load": load, "outcome": outcome}));
    } else {
        fumocast_tests::print_line!(
            "{} devices, {} messages a session, {} connections, {} rounds, {} processors shared \
             with the load",
            load.devices,
            outcome.messages,
            load.connections,
            load.rounds,
            outcome.processors
        );
        for figure in &outcome.figures {
            fumocast_tests::print_line!(
                "{:<12}{:>8.0} sessions a second{:>8.0} for each second of processor time",
                figure.kind,
                figure.sessions_per_second,
                figure.sessions_per_cpu_second
            );
        }
        let [xml, wbxml] = outcome.ratios;
        fumocast_tests::print_line!(
            "ratio to the bare server: {xml:.2} with XML, {wbxml:.2} with WBXML"
        );
    }
    let is_enough = outcome.ratios.iter().all(|ratio| *ratio >= LEAST_RATIO);
    if is_enough { ExitCode::SUCCESS } else { ExitCode::from(9) }
}
