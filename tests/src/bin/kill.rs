//! The kill test: `kill --cycles 10000`, and the hidden `kill child …`, its subprocess.

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;
use fumocast_tests::{
    lab::exit::Exit,
    store::kill::{self, CHILD, Options},
};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            proto_cli::note!("kill: {error:#}");
            Exit::Configuration.into()
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some((first, arguments)) = words.split_first()
        && first == CHILD
    {
        kill::run_child(arguments)?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse();
    let outcome = kill::run(&std::env::current_exe()?, &options)?;
    fumocast_tests::print_line!(
        "{} kills, {} symbols and {} blocks acknowledged, {} table symbols found, {} images finished, \
         {} sectors damaged, {} files cut off",
        outcome.cycles,
        outcome.acknowledged,
        outcome.solved,
        outcome.tables,
        outcome.finished,
        outcome.damaged,
        outcome.truncated,
    );
    outcome.breaches.iter().for_each(|breach| fumocast_tests::print_line!("breach: {breach}"));
    Ok(if outcome.breaches.is_empty() { ExitCode::SUCCESS } else { Exit::Breach.into() })
}
