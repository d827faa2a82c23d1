//! The start of the agent from the stored state. No thread, socket or clock, so that a simulation
//! runs the same code.

use proto::time::Now;
use thiserror::Error;

use super::data_dir::DataDir;
use crate::{
    agent::{self, Agent, StoredState, StoredStateError},
    store::{
        JournalError, Journaler, StorageError,
        commands::FileName,
        floors::{FloorsAtStart, FloorsFile, Leftovers, TrustState, floors_at_start},
        journal_state::JournalState,
    },
};

/// Error of starting the agent on a data directory.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The directory is unreadable.
    #[error("cannot read the data directory")]
    Storage(#[from] StorageError),
    /// The journal is of a later format.
    #[error("cannot resume from the journal")]
    Journal(#[from] JournalError),
    /// The agent rejects the stored state.
    #[error("cannot start the agent")]
    Boot(#[from] StoredStateError),
}

/// Parameters of a start besides the data directory.
#[derive(Debug, Clone)]
pub struct StartParameters {
    /// The envelope of the factory root.
    pub factory_root: Vec<u8>,
    /// Id of this boot of the machine.
    pub boot_id: String,
    /// A number from the system's generator.
    pub seed: u64,
}

/// Starts the agent from the stored state, and removes unused files.
///
/// # Errors
///
/// [`RestoreError`]; a device with an unreadable state does not start without it.
pub fn restore(
    now: Now,
    config: agent::Config,
    parameters: StartParameters,
    directory: &DataDir,
) -> Result<Agent, RestoreError> {
    let [a, b] = directory.read_journal()?;
    let (journaler, state) = Journaler::recover::<JournalState>([&a, &b])?;
    let files = directory.read_files()?;
    let FloorsAtStart { on_disk, to_write, state: trust_state } =
        read_floors(directory, [&a, &b], state.as_ref(), !files.is_empty())?;
    if state.is_none() && !(a.is_empty() && b.is_empty()) {
        tracing::error!(
            ?trust_state,
            "both copies of the journal are damaged: the device starts idle"
        );
        directory.put_journal_aside()?;
    }
    if trust_state == TrustState::Lost {
        tracing::error!("journal and floors are lost: no update before `receiver trust reset`");
    }
    if on_disk.as_ref().is_some_and(|floors| floors.is_reset) {
        tracing::warn!(floors = ?on_disk, "the trust state was set by a person");
    }
    let floors = match to_write {
        None => on_disk,
        Some(made) => match directory.write_floors(&made.emit()) {
            Ok(()) => Some(made),
            // They are written before the next journal.
            Err(error) if state.is_some() => {
                tracing::warn!(%error, "floors not written");
                None
            }
            Err(error) => return Err(error.into()),
        },
    };
    let names: Vec<_> = files.keys().filter_map(|name| FileName::new(name)).collect();
    let StartParameters { factory_root, boot_id, seed } = parameters;
    let boot =
        StoredState { journaler, state, floors, trust_state, files, factory_root, boot_id, seed };
    let agent = Agent::new(now, config, boot)?;
    // A DM session may have left files that no journal refers to.
    let used = agent.files();
    // Those of a lost journal are left for people.
    let is_kept = trust_state == TrustState::Lost;
    for name in names
        .iter()
        .filter(|_| !is_kept)
        .filter(|name| !used.iter().any(|file| file == name.as_str()))
    {
        directory.remove_file(name)?;
    }
    Ok(agent)
}

/// Reads the floors and decides with which ones the device starts.
///
/// # Errors
///
/// Any error of the read, and floors of a later program.
pub(crate) fn read_floors(
    directory: &DataDir,
    copies: [&[u8]; 2],
    state: Option<&JournalState>,
    has_files: bool,
) -> Result<FloorsAtStart, RestoreError> {
    let file = FloorsFile::read(directory.read_floors()?.as_deref())?;
    let damaged =
        if state.is_some() { 0 } else { copies.iter().filter(|it| !it.is_empty()).count() };
    let leftovers = Leftovers {
        damaged_copies: damaged + directory.journal_copies_aside(),
        has_files: has_files || !directory.object_names()?.is_empty(),
    };
    Ok(floors_at_start(state, file, leftovers))
}
