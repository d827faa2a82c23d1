//! The start of the agent from the stored state. No thread, socket or clock, so that a simulation
//! runs the same code.

use proto::time::Now;
use thiserror::Error;

use super::data_dir::DataDir;
use crate::{
    agent::{self, Agent, StoredState, StoredStateError},
    store::{
        JournalError, Journaler, StorageError, commands::FileName, journal_state::JournalState,
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
    if state.is_none() && !(a.is_empty() && b.is_empty()) {
        tracing::error!("both copies of the journal are damaged: the device starts idle");
    }
    let files = directory.read_files()?;
    let names: Vec<_> = files.keys().filter_map(|name| FileName::new(name)).collect();
    let StartParameters { factory_root, boot_id, seed } = parameters;
    let boot = StoredState { journaler, state, files, factory_root, boot_id, seed };
    let agent = Agent::new(now, config, boot)?;
    // A DM session may have left files that no journal refers to.
    let used = agent.files();
    for name in names.iter().filter(|name| !used.iter().any(|file| file == name.as_str())) {
        directory.remove_file(name)?;
    }
    Ok(agent)
}
