//! Between agent and storage: the start from what the storage holds, outputs as commands,
//! completions as inputs. No thread, socket or clock, so that a simulation runs the same.

use proto::{crypto::Hash16, time::Now, tune_in::TuneIn};
use thiserror::Error;

use super::{
    data_dir::{DataDir, FileName},
    objects::FinishOutcome,
    storage::{Command, Completion},
};
use crate::{
    agent::{self, Agent, Fetch, Output, StoredState, StoredStateError, VerifyError},
    components::InstallerCall,
    dm::client::HttpRequest,
    store::{JournalError, Journaler, ObjectLayout, StorageError, journal_state::JournalState},
    update::installer::InstallRequest,
    user::Question,
};

/// Why the agent cannot start on a data directory.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// What the directory holds cannot be read.
    #[error("cannot read the data directory")]
    Storage(#[from] StorageError),
    /// The journal is of a later program.
    #[error("cannot go on from the journal")]
    Journal(#[from] JournalError),
    /// The agent does not believe what it is given.
    #[error("cannot start the agent")]
    Boot(#[from] StoredStateError),
}

/// What a start needs besides the data directory.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The envelope of the root that the maker gave.
    pub factory_root: Vec<u8>,
    /// Names this boot of the machine.
    pub boot_id: String,
    /// A number from the system's generator.
    pub seed: u64,
}

/// Starts the agent from what the directory holds, and clears up what nothing relies on.
///
/// # Errors
///
/// [`RestoreError`]; a device that cannot read its memory does not begin without it.
pub fn restore(
    now: Now,
    config: agent::Config,
    origin: Origin,
    directory: &DataDir,
) -> Result<Agent, RestoreError> {
    let [a, b] = directory.read_journal()?;
    let (journaler, state) = Journaler::recover::<JournalState>([&a, &b])?;
    if state.is_none() && !(a.is_empty() && b.is_empty()) {
        tracing::error!("both copies of the journal are damaged: the device starts as idle");
    }
    let files = directory.read_files()?;
    let names: Vec<_> = files.keys().filter_map(|name| FileName::new(name)).collect();
    let Origin { factory_root, boot_id, seed } = origin;
    let boot = StoredState { journaler, state, files, factory_root, boot_id, seed };
    let agent = Agent::new(now, config, boot)?;
    // A DM session may have left files that no journal came to rely on.
    let relied_on = agent.files();
    for name in names.iter().filter(|name| !relied_on.iter().any(|file| file == name.as_str())) {
        directory.remove_file(name)?;
    }
    Ok(agent)
}

/// What the agent wants of others than the storage; see [`Output`].
#[derive(Debug)]
pub enum Beside {
    /// Join the channel.
    Join(TuneIn),
    /// Leave the channel.
    Leave(TuneIn),
    /// Ask the installer which version is installed.
    ReadVersion,
    /// Hand the image to the installer.
    Install(ObjectLayout, InstallRequest),
    /// Ask the installer about components.
    Components(InstallerCall),
    /// Fetch a piece of a package.
    Fetch(Fetch),
    /// Post an installation notification.
    Notify(String, String),
    /// Ask the user.
    Ask(Question),
    /// Send a DM message.
    Post(HttpRequest),
    /// Stop: the storage cannot be relied on.
    Stop(StorageError),
}

/// Carries what the agent wants to the storage, and back.
#[derive(Debug, Default)]
pub struct Wiring {
    /// The object that the agent has open: answers about others come too late.
    open: Option<Hash16>,
}

impl Wiring {
    /// Returns the command that carries an output out.
    ///
    /// # Errors
    ///
    /// What is wanted instead, when it is nothing for the storage.
    ///
    /// # Panics
    ///
    /// Never: the agent opens a log before it writes, and names files by its own digests.
    pub fn command(&mut self, output: Output) -> Result<Command, Box<Beside>> {
        Ok(match output {
            Output::Open(layout) => {
                self.open = Some(layout.object_key());
                Command::Open(layout)
            }
            Output::Log(output) => {
                let key = self.open.expect("a log is open before it is written");
                Command::Log(key, output)
            }
            Output::WriteFile(name, octets) => {
                let name = FileName::new(&name).expect("the agent names files by our own digests");
                Command::WriteFile(name, octets)
            }
            Output::WriteOptionalFile(name, octets) => {
                let name = FileName::new(&name).expect("the agent numbers these files");
                Command::KeepFile(name, octets)
            }
            Output::RemoveFile(name) => {
                let name = FileName::new(&name).expect("the agent numbers these files");
                Command::RemoveFile(name)
            }
            Output::Journal(write) => Command::Journal(write),
            Output::Decode(job) => Command::Decode(job),
            Output::VerifyImage(layout) => {
                self.open = Some(layout.object_key());
                Command::Finish(layout)
            }
            Output::RemoveOtherObjects(layout) => {
                if layout.is_none() {
                    self.open = None;
                }
                Command::KeepOnly(Vec::from_iter(layout))
            }
            Output::Join(tune_in) => return Err(Box::new(Beside::Join(tune_in))),
            Output::Leave(tune_in) => return Err(Box::new(Beside::Leave(tune_in))),
            Output::ReadVersion => return Err(Box::new(Beside::ReadVersion)),
            Output::Install(layout, request) => {
                return Err(Box::new(Beside::Install(layout, request)));
            }
            Output::Components(call) => return Err(Box::new(Beside::Components(call))),
            Output::WriteImage(layout, offset, octets) => {
                self.open = Some(layout.object_key());
                Command::Store(layout, offset, octets)
            }
            Output::Fetch(fetch) => return Err(Box::new(Beside::Fetch(fetch))),
            Output::Notify(url, body) => return Err(Box::new(Beside::Notify(url, body))),
            Output::PromptUser(question) => return Err(Box::new(Beside::Ask(question))),
            Output::SendDmMessage(post) => return Err(Box::new(Beside::Post(post))),
            Output::Stop(error) => return Err(Box::new(Beside::Stop(error))),
        })
    }

    /// Tells the agent what became of a command.
    pub fn complete(&self, now: Now, agent: &mut Agent, completion: Completion) {
        let is_open = |key| self.open == Some(key);
        match completion {
            Completion::Recovered(key, recovered) if is_open(key) => {
                let (symbols, damaged) = (recovered.slots.len(), recovered.damaged);
                tracing::info!(symbols, damaged, "recovered");
                agent.handle_recovered(now, &recovered);
            }
            Completion::Reserved(key, files) if is_open(key) => agent.handle_reserved(files),
            Completion::OpenFailed(key, error) if is_open(key) => {
                tracing::error!(%error, "failed to make room for the image");
                agent.handle_open_failed(now, &error);
            }
            Completion::Flushed(key, ticket) if is_open(key) => agent.handle_flushed(now, ticket),
            Completion::LogFailed(key, ticket, error) if is_open(key) => {
                tracing::error!(%error, "failed to store symbols");
                agent.handle_log_failed(now, ticket, &error);
            }
            Completion::JournalWritten(generation) => agent.handle_journal_written(now, generation),
            Completion::JournalFailed(_, error) | Completion::FileFailed(_, error) => {
                agent.handle_storage_failed(error);
            }
            Completion::FileKept(outcome) => agent.handle_optional_file_written(&outcome),
            Completion::Decoded(key, sbn, outcome) if is_open(key) => {
                agent.handle_decoded(now, sbn, &outcome);
            }
            Completion::Finished(key, outcome) if is_open(key) => {
                agent.handle_image_verified(now, finished(outcome));
            }
            Completion::Stored(key, outcome) if is_open(key) => {
                agent.handle_image_written(now, outcome)
            }
            Completion::Kept(Err(error)) => tracing::warn!(%error, "failed to clear up"),
            Completion::FileDone(_)
            | Completion::Kept(Ok(()))
            | Completion::Recovered(..)
            | Completion::Reserved(..)
            | Completion::OpenFailed(..)
            | Completion::Flushed(..)
            | Completion::LogFailed(..)
            | Completion::Decoded(..)
            | Completion::Finished(..)
            | Completion::Stored(..) => {}
        }
    }
}

fn finished(outcome: FinishOutcome) -> Result<(), VerifyError> {
    match outcome {
        FinishOutcome::Ready { .. } => Ok(()),
        FinishOutcome::WrongDigest { found } => {
            tracing::error!(%found, "the image is not the signed one");
            Err(VerifyError::WrongDigest)
        }
        FinishOutcome::WrongContent { why } => {
            tracing::error!(why, "an image has no content encoding");
            Err(VerifyError::WrongDigest)
        }
        FinishOutcome::Failed(error) => Err(VerifyError::Storage(error)),
    }
}
