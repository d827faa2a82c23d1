//! The lab: `lab [OPTIONS]`, and the hidden `lab role …` that it starts itself as.

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;
use fumocast_tests::lab::{exit::Exit, options::Options, roles, run};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "role") {
        let role = words.get(1..).and_then(roles::run);
        return role.unwrap_or_else(|| {
            eprintln!("lab: no such role");
            Exit::Usage.into()
        });
    }
    let options = Options::parse();
    if let Err(problem) = options.check() {
        eprintln!("lab: {problem}");
        return Exit::Usage.into();
    }
    run::run(options).into()
}
