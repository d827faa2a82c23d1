//! The command line: reads arguments, calls one function for each command, prints its answer.

mod args;
mod bundle;
mod campaign;
mod config;
mod documents;
mod keys;
mod package;
mod signing;
mod trust;

use std::{
    ffi::OsString,
    io::{IsTerminal as _, stderr},
    process::ExitCode,
};

use clap::{Parser as _, error::ErrorKind};
use tracing_subscriber::EnvFilter;

use self::args::{Arguments, CampaignCommand, Command, KeyCommand, TrustCommand};
use crate::{
    failure::{Exit, Failure},
    shell,
};

/// Runs the program with the given arguments, the program's name first; returns its exit code.
///
/// May be called from another program: the only global state is the log subscriber, and one that
/// is set already stays.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let in_environment = |name: &str| std::env::var_os(name).is_some();
    let arguments = match config::with_file(arguments.into_iter().collect(), in_environment) {
        Ok(arguments) => arguments,
        Err(failure) => return fail(&failure),
    };
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let shown = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked && shown.is_ok() { ExitCode::SUCCESS } else { code(Exit::Usage) };
        }
    };
    start_log();
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("carousel: {failure}");
    code(failure.exit())
}

fn code(exit: Exit) -> ExitCode {
    ExitCode::from(u8::from(exit))
}

/// Logs to standard error; `RUST_LOG` chooses what.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr);
    // A program that embeds this one may have set its own.
    subscriber.try_init().ok();
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Trust { command } => trust(&command),
        Command::Key { command: KeyCommand::New { out, json } } => trust::new_key(&out, json),
        Command::Key { command: KeyCommand::Show { file, pem, json } } => {
            trust::show_key(&file, pem, json)
        }
        Command::Package(order) => package::make(&order),
        Command::Plan(order) => package::plan(&order),
        Command::Bundle(order) => bundle::make(&order),
        Command::Campaign { command: CampaignCommand::Build(order) } => campaign::build(&order),
        Command::Campaign { command: CampaignCommand::Sign(order) } => campaign::sign(&order),
        Command::Campaign { command: CampaignCommand::Inspect { file, json } } => {
            campaign::inspect(&file, json)
        }
        Command::Air(order) => shell::air::run(&order),
        Command::Send(order) => shell::send::run(&order),
        Command::Announce(order) => shell::announce::run(&order),
        Command::Serve(order) => shell::serve::run(order),
    }
}

fn trust(command: &TrustCommand) -> Result<(), Failure> {
    match command {
        TrustCommand::Init(order) => trust::init(order),
        TrustCommand::Create(order) => trust::create(order),
        TrustCommand::Rotate(order) => trust::rotate(order),
        TrustCommand::ToSign(order) => signing::to_sign(order),
        TrustCommand::AddSignature(order) => signing::add_signature(order),
        TrustCommand::Sign(order) => signing::sign(order),
        TrustCommand::Inspect(order) => signing::inspect(order),
    }
}

#[cfg(test)]
mod tests;
