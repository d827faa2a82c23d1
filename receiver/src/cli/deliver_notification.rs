//! `receiver deliver-notification`: a notification that arrived outside of the network.

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

/// Octets to read; a notification has fewer.
const MAX_BYTES: u64 = 2048;

#[derive(Debug, Args)]
pub(super) struct DeliverNotificationArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Short message with its user data header, the push in it, or the notification itself, as
    /// octets; `-` for standard input
    #[arg(default_value = "-")]
    push: PathBuf,
}

pub(super) fn run(arguments: &DeliverNotificationArgs) -> Result<u8, Failure> {
    let failed = |error| Failure { code: exit::USAGE, error };
    let octets = read(&arguments.push).map_err(failed)?;
    // The agent checks the digest; a malformed notification is reported here.
    notification_in(&octets).context("not a notification").map_err(failed)?;
    let push = BASE64_STANDARD.encode(octets);
    ask(&arguments.config.load()?, &Request::DeliverNotification { push }).map(|_| exit::DONE)
}

fn read(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    let mut octets = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().take(MAX_BYTES).read_to_end(&mut octets).context("standard input")?;
    } else {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let read = file.take(MAX_BYTES).read_to_end(&mut octets);
        read.with_context(|| path.display().to_string())?;
    }
    Ok(octets)
}
