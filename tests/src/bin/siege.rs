//! The management server under siege; `siege role …` is one of its servers.

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;
use fumocast_tests::{
    lab::{exit::Exit, subprocesses},
    siege::{Options, run},
};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "role") {
        let role = words.get(1..).and_then(subprocesses::run);
        return role.unwrap_or_else(|| Exit::Usage.into());
    }
    run(&Options::parse())
}
