//! `notified`: a notification that came another way than over the network.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Args;
use proto::dm::push::notification_in;

use super::{ConfigArgs, Failure, ask, exit};
use crate::shell::control::Request;

/// Octets that are read; a notification has fewer.
const MAX_OCTETS: u64 = 2048;

#[derive(Debug, Args)]
pub(super) struct NotifiedArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The short message with its user data header, the push in it, or the notification itself:
    /// octets; `-` is standard input.
    #[arg(default_value = "-")]
    push: PathBuf,
}

pub(super) fn run(arguments: &NotifiedArgs) -> Result<u8, Failure> {
    let failed = |error| Failure { code: exit::USAGE, error };
    let octets = read(&arguments.push).map_err(failed)?;
    // The device believes a digest only; a person is told sooner what cannot have one.
    notification_in(&octets).context("this is no notification").map_err(failed)?;
    let push = BASE64_STANDARD.encode(octets);
    ask(&arguments.config.load()?, &Request::Notified { push }).map(|_| exit::DONE)
}

fn read(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    let mut octets = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().take(MAX_OCTETS).read_to_end(&mut octets).context("standard input")?;
    } else {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let read = file.take(MAX_OCTETS).read_to_end(&mut octets);
        read.with_context(|| path.display().to_string())?;
    }
    Ok(octets)
}
