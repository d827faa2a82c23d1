//! The lab: `lab [OPTIONS]`, `lab span [OPTIONS]`, and the hidden `lab role …`, the subprocesses of
//! both.

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;
use fumocast_tests::{
    lab::{exit::Exit, options::Options, run, subprocesses},
    span,
};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "role") {
        let role = words.get(1..).and_then(subprocesses::run);
        return role.unwrap_or_else(|| {
            proto_cli::note!("lab: no such role");
            Exit::Usage.into()
        });
    }
    if words.first().is_some_and(|word| word == "span") {
        return measure(&span::Options::parse_from(words));
    }
    let options = Options::parse();
    if let Err(problem) = options.check() {
        proto_cli::note!("lab: {problem}");
        return Exit::Usage.into();
    }
    run::run(options).into()
}

/// Prints the figures of a span as JSON.
fn measure(options: &span::Options) -> ExitCode {
    let measured = std::env::current_exe()
        .map_err(anyhow::Error::from)
        .and_then(|program| span::run(&program, options));
    match measured {
        Ok(report) => {
            fumocast_tests::print_line!(
                "{}",
                serde_json::to_string_pretty(&report).expect("plain data is JSON")
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            proto_cli::note!("lab span: {error:#}");
            Exit::Configuration.into()
        }
    }
}
