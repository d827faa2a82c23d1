//! The hidden subprocesses: `lab role NAME …`.
//!
//! `carousel`, `dm-bridge` and `receiver` are the programs themselves, with their own command
//! lines. `device` is a receiver with a [`LossyFilter`], `forger` the attacker, `hook` the
//! installer, `user` the user who answers prompts.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use receiver::shell::{event_loop::Options as DeviceOptions, multicast::Channel};

use crate::lab::{
    attacker, hook, lossy_filter::LossyFilter, options::Percent, process::die_with_parent, user,
};

/// Runs a role with the words after `lab role`; `None` when there is no such role.
pub fn run(words: &[OsString]) -> Option<ExitCode> {
    let (role, arguments_after) = words.split_first()?;
    // The program's name comes first, as from a shell.
    let arguments = || words.iter().cloned();
    let background = |run: &dyn Fn() -> anyhow::Result<ExitCode>| {
        let outcome = die_with_parent().context("die with the lab").and_then(|()| run());
        outcome.unwrap_or_else(|error| {
            proto_cli::note!("lab role: {error:#}");
            ExitCode::FAILURE
        })
    };
    Some(match role.to_str()? {
        "carousel" => background(&|| Ok(carousel::cli::run(arguments()))),
        "dm-bridge" => background(&|| Ok(dm_bridge::cli::run(arguments()))),
        "receiver" => background(&|| Ok(receiver::cli::run(arguments()))),
        "device" => background(&|| device(arguments())),
        "forger" => background(&|| attacker::run(arguments()).map(|()| ExitCode::SUCCESS)),
        "hook" => {
            let words: Vec<_> =
                arguments_after.iter().map(|word| word.to_string_lossy().into()).collect();
            hook::run(&words)
        }
        "user" => {
            let words: Vec<_> =
                arguments_after.iter().map(|word| word.to_string_lossy().into()).collect();
            user::run(&words)
        }
        _ => return None,
    })
}

/// A device of the lab.
#[derive(Debug, Parser)]
struct DeviceArguments {
    /// The device's configuration
    #[arg(long)]
    config: PathBuf,
    /// File of its counters
    #[arg(long)]
    counters: PathBuf,
    /// Its name among the random streams
    #[arg(long)]
    name: String,
    /// Share of the datagrams that it loses
    #[arg(long)]
    loss: Percent,
    /// Seed of the run
    #[arg(long)]
    seed: u64,
    /// Channel to be on although nothing is armed: GROUP:PORT
    #[arg(long)]
    listen: Option<std::net::SocketAddr>,
    /// The only sender to receive there
    #[arg(long, requires = "listen")]
    source: Option<std::net::IpAddr>,
}

fn device(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let arguments = DeviceArguments::try_parse_from(arguments)?;
    let DeviceArguments { config, counters, name, loss, seed, listen, source } = arguments;
    let tap = LossyFilter::open(&counters, loss, seed, &name)
        .with_context(|| format!("open {}", counters.display()))?;
    let listen = listen.map(|group| Channel { group, source });
    let options = DeviceOptions { filter: Box::new(tap), listen };
    let line = ["receiver".into(), "run".into(), "--config".into(), config.into_os_string()];
    Ok(receiver::cli::run_with(line, options))
}
