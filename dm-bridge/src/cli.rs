//! The command line: its arguments, its commands, and the exit code of each.

pub mod args;
mod command;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;
use proto_cli::output;

use self::args::Cli;
use crate::app::AppError;

/// Runs the program with these arguments, the first of which is its name.
pub fn run(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let shown = output::without_reader(error.print());
            return if shown.is_ok() { ExitCode::from(code) } else { ExitCode::from(2) };
        }
    };
    match command::run(cli.verb) {
        Ok(text) => match output::print(text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                proto_cli::note!("dm-bridge: cannot write to standard output: {error}");
                ExitCode::from(4)
            }
        },
        Err(error) => {
            proto_cli::note!("dm-bridge: {}", explain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn explain(error: &AppError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        let said = deeper.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = deeper.source();
    }
    text
}

#[cfg(test)]
mod tests;
