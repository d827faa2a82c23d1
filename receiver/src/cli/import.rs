//! `receiver import`: an update from local media, with the user's confirmation.

use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, anyhow};
use proto::trust::{
    Envelope, Manifest,
    bundle::{BundleHead, MAX_HEAD},
};

use super::{Failure, ask, exit, print};
use crate::{
    config::Config,
    shell::{
        control::{Answer, Request},
        media::Media,
    },
};

pub(super) fn run(config: &Config, file: &Path, yes: bool) -> Result<u8, Failure> {
    let not_found = |error| Failure { code: exit::NOT_FOUND, error };
    let path = file.canonicalize().with_context(|| format!("cannot find {}", file.display()));
    let path = path.map_err(not_found)?;
    let limit = u64::try_from(MAX_HEAD).unwrap_or(u64::MAX);
    let head = Media::default().read_front(&path, limit);
    let head =
        head.with_context(|| format!("cannot read {}", path.display())).map_err(not_found)?;
    let version =
        version(&head).map_err(|error| Failure { code: exit::REFUSED_SIGNATURE, error })?;
    if !yes && !confirm(&version) {
        let error = anyhow!("not confirmed; nothing is installed");
        return Err(Failure { code: exit::POLICY, error });
    }
    let path = path.to_str().ok_or_else(|| not_found(anyhow!("the path is not UTF-8")))?.to_owned();
    if let Answer::Version { version } = ask(config, &Request::Import { path })? {
        print(format_args!(
            "installing version {version}; `receiver status` shows the progress\n"
        ))?;
    }
    Ok(exit::DONE)
}

/// Returns the version that the bundle states, which is not verified yet.
fn version(head: &[u8]) -> anyhow::Result<String> {
    let head = BundleHead::parse(head)?;
    let envelope = Envelope::parse(&head.manifest)?;
    Ok(Manifest::read(envelope.payload())?.firmware_version)
}

fn confirm(version: &str) -> bool {
    let shown: String = version.chars().filter(|c| !c.is_control()).collect();
    let question = format!(
        "Install version {shown}? The device may restart and cannot be used meanwhile. [yes/no] "
    );
    let mut out = io::stdout();
    let asked = out.write_all(question.as_bytes()).and_then(|()| out.flush());
    let mut line = String::new();
    let read = asked.and_then(|()| io::stdin().lock().take(64).read_line(&mut line));
    read.is_ok() && matches!(line.trim(), "y" | "yes")
}
