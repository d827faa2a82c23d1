//! Routing between agent and storage: the start from the stored state, outputs as commands,
//! completions as inputs. No thread, socket or clock, so that a simulation runs the same code.

use proto::{crypto::Hash16, time::Now, tune_in::TuneIn};
use thiserror::Error;

use super::{
    data_dir::{DataDir, FileName},
    objects::VerifyOutcome,
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

/// Output of the agent for the event loop rather than the storage; see [`Output`].
#[derive(Debug)]
pub enum ShellCommand {
    /// Join the channel.
    Join(TuneIn),
    /// Leave the channel.
    Leave(TuneIn),
    /// Read the installed version from the installer.
    ReadVersion,
    /// Pass the image to the installer.
    Install(ObjectLayout, InstallRequest),
    /// Call the installer hook about components.
    Components(InstallerCall),
    /// Fetch a range of a package.
    Fetch(Fetch),
    /// Post an installation notification.
    Notify(String, String),
    /// Prompt the user.
    Ask(Question),
    /// Send a DM message.
    Post(HttpRequest),
    /// Stop: the storage failed.
    Stop(StorageError),
}

/// Router between agent and storage.
#[derive(Debug, Default)]
pub struct StorageRouter {
    /// The open object of the agent; completions of others are too late.
    open: Option<Hash16>,
}

impl StorageRouter {
    /// Returns the storage command of an output.
    ///
    /// # Errors
    ///
    /// The output, when it is not for the storage.
    ///
    /// # Panics
    ///
    /// Never: the agent opens a log before it writes, and names files by its own digests.
    pub fn command(&mut self, output: Output) -> Result<Command, Box<ShellCommand>> {
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
                Command::WriteOptionalFile(name, octets)
            }
            Output::RemoveFile(name) => {
                let name = FileName::new(&name).expect("the agent numbers these files");
                Command::RemoveFile(name)
            }
            Output::Journal(write) => Command::Journal(write),
            Output::Decode(job) => Command::Decode(job),
            Output::VerifyImage(layout) => {
                self.open = Some(layout.object_key());
                Command::VerifyImage(layout)
            }
            Output::RemoveOtherObjects(layout) => {
                if layout.is_none() {
                    self.open = None;
                }
                Command::RemoveOtherObjects(Vec::from_iter(layout))
            }
            Output::Join(tune_in) => return Err(Box::new(ShellCommand::Join(tune_in))),
            Output::Leave(tune_in) => return Err(Box::new(ShellCommand::Leave(tune_in))),
            Output::ReadVersion => return Err(Box::new(ShellCommand::ReadVersion)),
            Output::Install(layout, request) => {
                return Err(Box::new(ShellCommand::Install(layout, request)));
            }
            Output::Components(call) => return Err(Box::new(ShellCommand::Components(call))),
            Output::WriteImage(layout, offset, octets) => {
                self.open = Some(layout.object_key());
                Command::WriteImage(layout, offset, octets)
            }
            Output::Fetch(fetch) => return Err(Box::new(ShellCommand::Fetch(fetch))),
            Output::Notify(url, body) => return Err(Box::new(ShellCommand::Notify(url, body))),
            Output::PromptUser(question) => return Err(Box::new(ShellCommand::Ask(question))),
            Output::SendDmMessage(post) => return Err(Box::new(ShellCommand::Post(post))),
            Output::Stop(error) => return Err(Box::new(ShellCommand::Stop(error))),
        })
    }

    /// Passes a completion to the agent.
    pub fn handle_completion(&self, now: Now, agent: &mut Agent, completion: Completion) {
        let is_open = |key| self.open == Some(key);
        match completion {
            Completion::Recovered(key, recovered) if is_open(key) => {
                let (symbols, damaged) = (recovered.slots.len(), recovered.damaged);
                tracing::info!(symbols, damaged, "recovered");
                agent.handle_recovered(now, &recovered);
            }
            Completion::Reserved(key, files) if is_open(key) => agent.handle_reserved(files),
            Completion::OpenFailed(key, error) if is_open(key) => {
                tracing::error!(%error, "failed to reserve space for the image");
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
            Completion::OptionalFileWritten(outcome) => {
                agent.handle_optional_file_written(&outcome)
            }
            Completion::Decoded(key, sbn, outcome) if is_open(key) => {
                agent.handle_decoded(now, sbn, &outcome);
            }
            Completion::ImageVerified(key, outcome) if is_open(key) => {
                agent.handle_image_verified(now, finished(outcome));
            }
            Completion::ImageWritten(key, outcome) if is_open(key) => {
                agent.handle_image_written(now, outcome)
            }
            Completion::ObjectsRemoved(Err(error)) => {
                tracing::warn!(%error, "failed to remove files")
            }
            Completion::FileDone(_)
            | Completion::ObjectsRemoved(Ok(()))
            | Completion::Recovered(..)
            | Completion::Reserved(..)
            | Completion::OpenFailed(..)
            | Completion::Flushed(..)
            | Completion::LogFailed(..)
            | Completion::Decoded(..)
            | Completion::ImageVerified(..)
            | Completion::ImageWritten(..) => {}
        }
    }
}

fn finished(outcome: VerifyOutcome) -> Result<(), VerifyError> {
    match outcome {
        VerifyOutcome::Ready { .. } => Ok(()),
        VerifyOutcome::WrongDigest { found } => {
            tracing::error!(%found, "the image is not the signed one");
            Err(VerifyError::WrongDigest)
        }
        VerifyOutcome::WrongContent { why } => {
            tracing::error!(why, "unexpected content encoding of an image");
            Err(VerifyError::WrongDigest)
        }
        VerifyOutcome::Failed(error) => Err(VerifyError::Storage(error)),
    }
}
