//! The command line: parses arguments, calls one function for each command, prints its result.

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
    process,
};

use clap::{Parser as _, error::ErrorKind};
use proto_cli::output;
use tracing_subscriber::EnvFilter;

use self::args::{Arguments, CampaignCommand, Command, KeyCommand, TrustCommand};
use crate::{
    error::{CliError, ExitCode},
    shell,
};

/// Runs the program with these arguments, the program's name first; returns its exit code.
///
/// May be called from another program: the only global state is the log subscriber, and one that
/// is set already stays.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> process::ExitCode {
    let in_environment = |name: &str| std::env::var_os(name).is_some();
    let arguments = match config::with_file(arguments.into_iter().collect(), in_environment) {
        Ok(arguments) => arguments,
        Err(error) => return fail(&error),
    };
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let shown = output::without_reader(error.print());
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked && shown.is_ok() {
                process::ExitCode::SUCCESS
            } else {
                code(ExitCode::Usage)
            };
        }
    };
    start_log();
    match dispatch(arguments.command) {
        Ok(()) => process::ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &CliError) -> process::ExitCode {
    proto_cli::note!("carousel: {error}");
    code(error.exit_code())
}

fn code(exit: ExitCode) -> process::ExitCode {
    process::ExitCode::from(u8::from(exit))
}

/// Logs to standard error; `RUST_LOG` chooses what.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .log_internal_errors(false)
        .with_writer(stderr);
    // A program that embeds this one may have set its own.
    subscriber.try_init().ok();
}

fn dispatch(command: Command) -> Result<(), CliError> {
    match command {
        Command::Trust { command } => trust(&command),
        Command::Key { command: KeyCommand::New { out, json } } => trust::new_key(&out, json),
        Command::Key { command: KeyCommand::Show { file, pem, json } } => {
            trust::show_key(&file, pem, json)
        }
        Command::Package(args) => package::make(&args),
        Command::Plan(args) => package::plan(&args),
        Command::Bundle(args) => bundle::make(&args),
        Command::Campaign { command: CampaignCommand::Build(args) } => campaign::build(&args),
        Command::Campaign { command: CampaignCommand::Sign(args) } => campaign::sign(&args),
        Command::Campaign { command: CampaignCommand::Inspect { file, json } } => {
            campaign::inspect(&file, json)
        }
        Command::Air(args) => shell::air::run(&args),
        Command::Send(args) => shell::send::run(&args),
        Command::Announce(args) => shell::announce::run(&args),
        Command::Serve(args) => shell::serve::run(args),
    }
}

fn trust(command: &TrustCommand) -> Result<(), CliError> {
    match command {
        TrustCommand::Init(args) => trust::init(args),
        TrustCommand::Create(args) => trust::create(args),
        TrustCommand::Rotate(args) => trust::rotate(args),
        TrustCommand::ToSign(args) => signing::to_sign(args),
        TrustCommand::AddSignature(args) => signing::add_signature(args),
        TrustCommand::Sign(args) => signing::sign(args),
        TrustCommand::Inspect(args) => signing::inspect(args),
    }
}

#[cfg(test)]
mod tests;
