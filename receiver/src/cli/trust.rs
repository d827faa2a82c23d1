//! `receiver trust`: the trust of a device that has lost what it must not fall behind.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use proto::trust::{Root, Verified};

use super::{ConfigArgs, Failure, account::open, exit, print};
use crate::{
    shell::{data_dir::DataDir, restore},
    store::{
        Journaler, StorageError,
        commands::FileName,
        floors::{Floors, TrustState},
        journal_state::JournalState,
    },
    trust::root_file,
};

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Set the floors of a device that lost its journal and its floors, while the agent is stopped
    ///
    /// Such a device cannot tell an old update from a new one, and refuses all of them with result
    /// 455. Read from the records of the operator which update the device has, and give its
    /// sequence: campaigns of this sequence and lower ones, and manifests of lower ones, are
    /// refused from then on. A device that has its floors is not changed: exit code 8.
    Reset(ResetArgs),
}

#[derive(Debug, Args)]
pub(super) struct ResetArgs {
    /// Configuration of the device (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Use this data directory; overrides `receiver.data`
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Highest sequence that the device has accepted or installed
    #[arg(long, value_name = "N")]
    sequence: u64,
    /// Newest root that the device has accepted [default: the factory root]
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

pub(super) fn run(command: &TrustCommand) -> Result<u8, Failure> {
    let TrustCommand::Reset(arguments) = command;
    let config = ConfigArgs {
        config: arguments.config.clone(),
        data: arguments.data.clone(),
        root: None,
        interface: None,
        insecure_http: false,
    };
    let settings = config.receiver()?;
    let directory = open(&settings)?;
    require_loss(&directory)?;
    let read = |path: &PathBuf| {
        fs::read(path).with_context(|| format!("cannot read the root {}", path.display()))
    };
    let factory = read(&settings.trust_root).and_then(|octets| Ok(Root::from_factory(&octets)?));
    let factory = factory.map_err(refused_root)?;
    let newest = match &arguments.root {
        None => None,
        Some(path) => Some(newest_root(&factory, read(path).map_err(refused_root)?)?),
    };
    let root = newest.as_ref().map_or(&factory, |(root, _)| root);
    let floors = Floors {
        root_version: root.version,
        epoch: root.epoch,
        general: arguments.sequence,
        is_reset: true,
        ..Floors::default()
    };
    if let Some((root, envelope)) = &newest {
        let name = FileName::ours(&root_file(root.version));
        directory.write_file(&name, envelope).map_err(storage)?;
    }
    directory.write_floors(&floors.emit()).map_err(storage)?;
    let Floors { root_version, epoch, general, .. } = floors;
    print(format_args!(
        "trust state set: root {root_version}, epoch {epoch}, updates above sequence {general}\n"
    ))?;
    Ok(exit::DONE)
}

/// Refuses to lower floors that are there, or that the journal still holds.
fn require_loss(directory: &DataDir) -> Result<(), Failure> {
    let inspect = || -> anyhow::Result<TrustState> {
        let [a, b] = directory.read_journal()?;
        let (_, state) = Journaler::recover::<JournalState>([&a, &b])?;
        let has_files = !directory.read_files()?.is_empty();
        Ok(restore::read_floors(directory, [&a, &b], state.as_ref(), has_files)?.state)
    };
    match inspect() {
        Err(error) => Err(Failure { code: exit::RESUMABLE, error }),
        Ok(TrustState::Lost) => Ok(()),
        Ok(TrustState::Sound | TrustState::Restored) => {
            let error = anyhow!("the device has its floors; nothing is changed");
            Err(Failure { code: exit::POLICY, error })
        }
    }
}

fn newest_root(
    factory: &Verified<Root>,
    envelope: Vec<u8>,
) -> Result<(Verified<Root>, Vec<u8>), Failure> {
    let root = Root::from_factory(&envelope).map_err(|error| refused_root(error.into()))?;
    if root.version < factory.version {
        let (found, expected) = (root.version, factory.version);
        let problem = format!("root {found} is older than the factory root, version {expected}");
        return Err(refused_root(anyhow!(problem)));
    }
    Ok((root, envelope))
}

fn refused_root(error: anyhow::Error) -> Failure {
    Failure { code: exit::REFUSED_SIGNATURE, error }
}

fn storage(error: StorageError) -> Failure {
    Failure { code: exit::RESUMABLE, error: anyhow!(error).context("cannot set the trust state") }
}
