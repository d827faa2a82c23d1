//! The device as a whole: one core that composes session, object, tuner, DM client and installer.
//!
//! ```text
//! idle -> armed -> receiving -> assembled -> verified -> handed over -> confirmed | failed
//!              \-> missed    \-> incomplete                                    \-> reported -> idle
//! ```
//!
//! Every input is a `handle_*` call, every effect an [`Output`], in one order. What others can see
//! (a join, a message, a hand-off) stands in the queue behind the journal write that it follows
//! from, and the queue does not go on until that write is synced: persist, then report.

mod components;
mod dm_interface;
mod download;
mod effects;
mod partial_package;
mod persistent_state;
mod reception;
mod restore;
mod session_schedule;
mod status;
mod suspension;
#[cfg(test)]
mod tests;
mod update_request;
mod user_prompts;

use proto::{
    dm::fumo::{Phase, ResultCode},
    ids::Sbn,
    time::{Mono, Now},
    trust::{Root, Verified},
    tune_in::TuneIn,
};

use self::{
    download::Fetcher, effects::EffectQueue, partial_package::PartialPackageStore,
    session_schedule::SessionSchedule, suspension::Environment, update_request::UpdateRequestState,
    user_prompts::PromptQueue,
};
pub use self::{
    download::{Download, Fetch, FetchError, Fetched, InstallNotification},
    persistent_state::PersistentState,
    restore::{StoredState, StoredStateError, root_file},
    status::Status,
    update_request::{RequestOutcome, RequestStatus},
    user_prompts::ConsentGranted,
};
use crate::{
    acceptance::{Accepted, Kind, Limits},
    chance::Chance,
    components::{Call, Deployed, Inventory},
    decode::{DecodeJob, DecodeOutcome},
    dm::{
        self, ManagementBackend as _,
        client::{DmClient, HttpRequest, HttpResponse, TransportError},
        notification::{NotificationFilter, NotificationOutcome},
    },
    installer::{InstallOutcome, InstallRequest},
    object::Object,
    stats::Stats,
    suspension::SuspendReason,
    symbols::{JournalWrite, LogOutput, ObjectLayout, Recovered, StorageError, Ticket},
    tuner::Tuner,
    user,
};

/// What the integrator and the enrolment say about this device.
#[derive(Debug, Clone)]
pub struct Config {
    /// Vendor and class.
    pub device_class: Kind,
    /// What the device can bear.
    pub limits: Limits,
    /// The DM account and identity.
    pub dm: dm::Settings,
    /// Time between DM sessions without a reason, at least.
    pub check_in: std::time::Duration,
    /// The nonce that came with the enrolment; used until the server gives another.
    pub first_nonce: Vec<u8>,
    /// Who the user is asked by, and what for.
    pub user: user::Settings,
    /// Whether the device has software components, and who may see them.
    pub components: Inventory,
}

// spec: oma-002 3 (states and events, as the tests of the agent tabulate them)
/// What the shell must do next, in this order.
#[derive(Debug)]
pub enum Output {
    /// Recover the object's directory and reserve its room; answered by
    /// [`Agent::handle_recovered`], then [`Agent::handle_reserved`], or
    /// [`Agent::handle_open_failed`].
    Open(ObjectLayout),
    /// Write to or sync the logs of the open object.
    Log(LogOutput),
    /// Write and sync a small file of this name.
    WriteFile(String, Vec<u8>),
    /// Write and sync a small file that can be done without; answered by
    /// [`Agent::handle_optional_file_written`].
    WriteOptionalFile(String, Vec<u8>),
    /// Remove a small file.
    RemoveFile(String),
    /// Write and sync a copy of the journal; answered by [`Agent::handle_journal_written`].
    Journal(JournalWrite),
    /// Solve a block; answered by [`Agent::handle_decoded`].
    Decode(DecodeJob),
    /// Read the image back and compare; answered by [`Agent::handle_image_verified`].
    VerifyImage(ObjectLayout),
    /// Remove the directories of all objects but this one.
    RemoveOtherObjects(Option<ObjectLayout>),
    /// Join the channel.
    Join(TuneIn),
    /// Leave the channel.
    Leave(TuneIn),
    /// Ask the installer which version is installed; answered by [`Agent::handle_version`].
    ReadVersion,
    /// Hand the image to the installer; answered by [`Agent::handle_installed`].
    Install(ObjectLayout, InstallRequest),
    /// Ask the installer about components; answered by [`Agent::handle_components`], and a change
    /// by [`Agent::handle_installed`].
    Components(Call),
    /// Fetch a piece of a package; answered by [`Agent::handle_fetched`].
    Fetch(Fetch),
    /// Write and sync octets of the image at this place; answered by [`Agent::handle_image_written`].
    WriteImage(ObjectLayout, u64, Vec<u8>),
    /// Post an installation notification; answered by [`Agent::handle_install_notified`].
    Notify(String, String),
    /// Ask the user; answered by [`Agent::handle_user_reply`].
    PromptUser(user::Question),
    /// Send a DM message; answered by [`Agent::handle_response`] or
    /// [`Agent::handle_post_failure`].
    SendDmMessage(HttpRequest),
    /// Stop: the storage cannot be relied on. The next start goes on from what is synced.
    Stop(StorageError),
}

/// What reading the image back came to, when it is not the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyError {
    /// It hashes to something else.
    WrongDigest,
    /// It cannot be read, synced or renamed.
    Storage(StorageError),
}

/// The device agent.
#[derive(Debug)]
pub struct Agent {
    client: DmClient,
    notifications: NotificationFilter,
    state: AgentState,
}

/// All but the DM client, which talks to it as to a [`dm::ManagementBackend`].
#[derive(Debug)]
struct AgentState {
    config: Config,
    boot_id: String,
    root: Verified<Root>,
    persistent: PersistentState,
    operation: Option<Operation>,
    tuner: Tuner,
    joined: Vec<TuneIn>,
    schedule: SessionSchedule,
    update_request: Option<UpdateRequestState>,
    environment: Environment,
    /// Whether the installer runs: no DM session begins meanwhile.
    installing: bool,
    prompts: PromptQueue,
    fetcher: Fetcher,
    partial_package: PartialPackageStore,
    rng: Chance,
    firmware_version: Option<String>,
    stats: Stats,
    effects: EffectQueue,
    /// Whether symbols came in since blocks were last looked at.
    blocks_dirty: bool,
    /// The components that the installer has listed last, when it could.
    deployed: Option<Vec<Deployed>>,
    /// Whether it was asked in this run.
    has_listed: bool,
}

/// What the device is armed with, while it is.
#[derive(Debug)]
struct Operation {
    accepted: Accepted,
    /// Of the campaign and of the manifest, to judge them again under the next root.
    envelopes: [Vec<u8>; 2],
    layout: ObjectLayout,
    /// The plan header that came with the arming.
    plan_header: Option<Vec<u8>>,
    /// `None` until the object's directory was read.
    object: Option<Object>,
    /// Symbols found on disk when the directory was read.
    resumed: u64,
    /// Whether any packet of the session was heard in this life.
    session_received: bool,
    /// Log files that are reserved.
    reserved: u32,
}

/// Effects that wait in the queue for the journal write in front of them.
#[derive(Debug)]
enum DeferredEffect {
    /// The journal says that a block is solved: its slots are free.
    BlockDone(Sbn),
}

impl Agent {
    /// Takes a datagram that came on a channel; `source` is the address it came from.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        channel: std::net::SocketAddr,
        source: std::net::IpAddr,
        datagram: &[u8],
    ) {
        self.state.handle_datagram(now, channel, source, datagram);
    }

    /// Does what is due at this moment. Late and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.state.handle_timeout(now);
        self.poll_prompts(now);
        self.state.download_timeout(now);
        self.start_due_session(now);
        self.state.commit_if_dirty();
    }

    /// Asks for a DM session at once.
    pub fn check_in(&mut self, now: Now) {
        self.state.schedule.request_now(now.mono);
        self.start_due_session(now);
        self.state.commit_if_dirty();
    }

    // spec: oma-003 6.1.4.6, oma-003 6.1.4.7
    /// Takes a notification of the server, or what claims to be one; during a voice call too.
    pub fn handle_notification(&mut self, now: Now, octets: &[u8]) {
        let verdict = self.notifications.check(now.mono, &self.state.server_nonce(), octets);
        tracing::debug!(?verdict, "a notification");
        if let NotificationOutcome::Begin { session_id, .. } = verdict {
            self.state.schedule.notified(now.mono, session_id);
            self.start_due_session(now);
        }
        self.state.commit_if_dirty();
    }

    /// Adds a reason to rest.
    pub fn handle_suspend(&mut self, now: Now, reason: SuspendReason) {
        if reason == SuspendReason::Call {
            self.set_in_call(true);
        }
        self.state.suspend_for(now, reason);
        self.state.commit_if_dirty();
    }

    /// Takes a reason to rest away.
    pub fn handle_resume(&mut self, now: Now, reason: SuspendReason) {
        if reason == SuspendReason::Call {
            self.set_in_call(false);
        }
        self.state.resume_from(now, reason);
        self.state.commit_if_dirty();
    }

    /// Syncs what was received, before the process ends.
    pub fn handle_shutdown(&mut self) {
        if let Some(object) = self.state.object_mut() {
            object.log_mut().flush();
        }
    }

    /// Learns what the open object's directory holds.
    pub fn handle_recovered(&mut self, now: Now, recovered: &Recovered) {
        self.state.handle_recovered(now, recovered);
        self.state.commit_if_dirty();
    }

    /// Learns that the first `files` logs are reserved.
    pub fn handle_reserved(&mut self, files: u32) {
        if let Some(operation) = &mut self.state.operation {
            operation.reserved = files;
            if let Some(object) = &mut operation.object {
                object.log_mut().handle_reserved(files);
            }
        }
    }

    /// Learns that the object's directory cannot be opened or its room not be reserved.
    pub fn handle_open_failed(&mut self, now: Now, error: &StorageError) {
        self.state.handle_open_failed(now, error);
        self.state.commit_if_dirty();
    }

    /// Learns that a flush has returned.
    pub fn handle_flushed(&mut self, now: Now, ticket: Ticket) {
        if let Some(object) = self.state.object_mut() {
            object.log_mut().handle_flushed(ticket);
        }
        self.state.blocks_dirty = true;
        self.state.poll_blocks(now);
        self.state.commit_if_dirty();
    }

    /// Learns that a write to the log, or a flush, failed.
    pub fn handle_log_failed(&mut self, now: Now, ticket: Ticket, error: &StorageError) {
        self.state.handle_log_failed(now, ticket, error);
        self.state.commit_if_dirty();
    }

    /// Learns that the journal of this generation is synced.
    pub fn handle_journal_written(&mut self, now: Now, generation: u64) {
        self.state.effects.handle_journal_written(generation);
        self.state.poll_blocks(now);
        self.state.commit_if_dirty();
    }

    /// Learns that a small file or the journal could not be written: nothing that would follow
    /// from it happens.
    pub fn handle_storage_failed(&mut self, error: StorageError) {
        self.state.effects.fail(error);
    }

    /// Learns what an attempt to solve a block came to.
    pub fn handle_decoded(&mut self, now: Now, sbn: Sbn, outcome: &DecodeOutcome) {
        self.state.handle_decoded(now, sbn, outcome);
        self.state.commit_if_dirty();
    }

    /// Learns what reading the image back came to.
    pub fn handle_image_verified(&mut self, now: Now, outcome: Result<(), VerifyError>) {
        self.state.handle_image_verified(now, outcome);
        self.state.commit_if_dirty();
    }

    /// Learns how the installer ended.
    pub fn handle_installed(&mut self, now: Now, outcome: InstallOutcome) {
        self.state.handle_installed(now, outcome);
        self.state.commit_if_dirty();
    }

    /// Learns which version is installed; `None` when the installer did not say.
    pub fn handle_version(&mut self, now: Now, version: Option<String>) {
        self.state.handle_version(now, version);
        self.start_due_session(now);
        self.state.commit_if_dirty();
    }

    /// Takes the server's answer to a DM message.
    pub fn handle_response<'a>(&mut self, now: Now, reply: impl Into<HttpResponse<'a>>) {
        let step = self.client.handle_response(now, &mut self.state, reply);
        self.handle_step(now, step);
    }

    /// Learns that a DM message brought no answer.
    pub fn handle_post_failure(&mut self, now: Now, error: TransportError) {
        let step = self.client.handle_failure(error);
        self.handle_step(now, step);
    }

    /// Returns the next thing to do; `None` while an answer is awaited or nothing is to do.
    pub fn poll_output(&mut self, now: Now) -> Option<Output> {
        self.state.poll_blocks(now);
        self.state.commit_if_dirty();
        self.state.poll_output()
    }

    /// Returns when [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<Mono> {
        let log = self.state.object().and_then(|object| object.log().deadline());
        let tuner = self.state.tuner_deadline(now.mono);
        let session = if self.client.is_busy() { None } else { self.state.session_deadline(now) };
        let question = self.prompt_deadline();
        let download = self.state.download_deadline();
        [log, tuner, session, question, download].into_iter().flatten().min()
    }

    /// Returns what people may want to know.
    #[must_use]
    pub fn status(&self) -> Status {
        self.state.status()
    }

    /// Returns the counters of this run.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.state.stats
    }
}

impl AgentState {
    fn object(&self) -> Option<&Object> {
        self.operation.as_ref()?.object.as_ref()
    }

    fn object_mut(&mut self) -> Option<&mut Object> {
        self.operation.as_mut()?.object.as_mut()
    }

    fn phase(&self) -> Phase {
        self.persistent.phase
    }

    /// Every change of phase is in the journal before anyone can see what follows from it.
    fn set_phase(&mut self, phase: Phase) {
        if self.persistent.phase != phase {
            tracing::info!(%phase, "phase");
            self.persistent.phase = phase;
            self.effects.mark_dirty();
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        loop {
            match self.effects.poll(&self.persistent, &self.tuner.records(&self.boot_id)) {
                effects::NextEffect::Output(output) => return Some(output),
                effects::NextEffect::DeferredEffect(DeferredEffect::BlockDone(sbn)) => {
                    if let Some(object) = self.object_mut() {
                        object.blocks_mut().handle_block_done(sbn);
                        self.blocks_dirty = true;
                    }
                }
                effects::NextEffect::Nothing => {
                    let log = self.object_mut().and_then(|object| object.log_mut().poll_output());
                    return log.map(Output::Log);
                }
            }
        }
    }

    /// After every input: what changed in the books goes to the journal, seen by others or not.
    fn commit_if_dirty(&mut self) {
        self.effects.commit_if_dirty();
    }
}

/// The results that make the operation's end a success in the books.
fn ends_well(result: ResultCode) -> bool {
    matches!(result, ResultCode::SUCCESS | ResultCode::DEFERRED | ResultCode::UP_TO_DATE)
}
