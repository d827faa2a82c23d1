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

mod books;
mod boot;
mod components;
mod device;
mod download;
mod outputs;
mod parcel;
mod reception;
mod requests;
mod rest;
mod sessions;
mod status;
#[cfg(test)]
mod tests;
mod users;

use proto::{
    dm::fumo::{Phase, ResultCode},
    ids::Sbn,
    time::{Mono, Now},
    trust::{Root, Verified},
    tune_in::TuneIn,
};

pub use self::{
    books::Books,
    boot::{Boot, BootError, root_file},
    download::{Download, Fetch, FetchError, Fetched, Notice},
    requests::{RequestOutcome, RequestStatus},
    status::Status,
    users::Given,
};
use self::{
    download::Fetcher, outputs::Outputs, parcel::Parcel, requests::Asked, rest::World,
    sessions::Sessions, users::Users,
};
use crate::{
    acceptance::{Accepted, Kind, Limits},
    chance::Chance,
    components::{Call, Deployed, Inventory},
    decode::{DecodeJob, DecodeOutcome},
    dm::{
        self, Device as _,
        client::{DmClient, Failure, Post, Reply},
        notified::{Notifications, Verdict},
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
    pub kind: Kind,
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
    /// [`Agent::handle_piece_kept`].
    KeepFile(String, Vec<u8>),
    /// Remove a small file.
    RemoveFile(String),
    /// Write and sync a copy of the journal; answered by [`Agent::handle_journal_written`].
    Journal(JournalWrite),
    /// Solve a block; answered by [`Agent::handle_decoded`].
    Decode(DecodeJob),
    /// Read the image back and compare; answered by [`Agent::handle_finished`].
    Finish(ObjectLayout),
    /// Remove the directories of all objects but this one.
    KeepOnly(Option<ObjectLayout>),
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
    /// Write and sync octets of the image at this place; answered by [`Agent::handle_stored`].
    Store(ObjectLayout, u64, Vec<u8>),
    /// Post an installation notification; answered by [`Agent::handle_notified`].
    Notify(String, String),
    /// Ask the user; answered by [`Agent::handle_user_reply`].
    Ask(user::Question),
    /// Send a DM message; answered by [`Agent::handle_response`] or
    /// [`Agent::handle_post_failure`].
    Post(Post),
    /// Stop: the storage cannot be relied on. The next start goes on from what is synced.
    Stop(StorageError),
}

/// What reading the image back came to, when it is not the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishError {
    /// It hashes to something else.
    WrongDigest,
    /// It cannot be read, synced or renamed.
    Storage(StorageError),
}

/// The device agent.
#[derive(Debug)]
pub struct Agent {
    client: DmClient,
    notifications: Notifications,
    core: Core,
}

/// All but the DM client, which talks to it as to a [`dm::Device`].
#[derive(Debug)]
struct Core {
    config: Config,
    boot_id: String,
    root: Verified<Root>,
    books: Books,
    operation: Option<Operation>,
    tuner: Tuner,
    joined: Vec<TuneIn>,
    sessions: Sessions,
    asked: Option<Asked>,
    world: World,
    /// Whether the installer runs: no DM session begins meanwhile.
    installing: bool,
    users: Users,
    fetcher: Fetcher,
    parcel: Parcel,
    chance: Chance,
    firmware_version: Option<String>,
    stats: Stats,
    outputs: Outputs,
    /// Whether symbols came in since blocks were last looked at.
    heard: bool,
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
    heard_session: bool,
    /// Log files that are reserved.
    reserved: u32,
}

/// Effects that wait in the queue for the journal write in front of them.
#[derive(Debug)]
enum Internal {
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
        self.core.handle_datagram(now, channel, source, datagram);
    }

    /// Does what is due at this moment. Late and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.core.handle_timeout(now);
        self.look_at_questions(now);
        self.core.download_timeout(now);
        self.start_due_session(now);
        self.core.settle();
    }

    /// Asks for a DM session at once.
    pub fn check_in(&mut self, now: Now) {
        self.core.sessions.ask(now.mono);
        self.start_due_session(now);
        self.core.settle();
    }

    // spec: oma-003 6.1.4.6, oma-003 6.1.4.7
    /// Takes a notification of the server, or what claims to be one; during a voice call too.
    pub fn handle_notification(&mut self, now: Now, octets: &[u8]) {
        let verdict = self.notifications.judge(now.mono, &self.core.server_nonce(), octets);
        tracing::debug!(?verdict, "a notification");
        if let Verdict::Begin { session_id, .. } = verdict {
            self.core.sessions.notified(now.mono, session_id);
            self.start_due_session(now);
        }
        self.core.settle();
    }

    /// Adds a reason to rest.
    pub fn handle_suspend(&mut self, now: Now, reason: SuspendReason) {
        if reason == SuspendReason::Call {
            self.set_in_call(true);
        }
        self.core.suspend_for(now, reason);
        self.core.settle();
    }

    /// Takes a reason to rest away.
    pub fn handle_resume(&mut self, now: Now, reason: SuspendReason) {
        if reason == SuspendReason::Call {
            self.set_in_call(false);
        }
        self.core.resume_from(now, reason);
        self.core.settle();
    }

    /// Syncs what was received, before the process ends.
    pub fn handle_shutdown(&mut self) {
        if let Some(object) = self.core.object_mut() {
            object.log_mut().flush();
        }
    }

    /// Learns what the open object's directory holds.
    pub fn handle_recovered(&mut self, now: Now, recovered: &Recovered) {
        self.core.handle_recovered(now, recovered);
        self.core.settle();
    }

    /// Learns that the first `files` logs are reserved.
    pub fn handle_reserved(&mut self, files: u32) {
        if let Some(operation) = &mut self.core.operation {
            operation.reserved = files;
            if let Some(object) = &mut operation.object {
                object.log_mut().handle_reserved(files);
            }
        }
    }

    /// Learns that the object's directory cannot be opened or its room not be reserved.
    pub fn handle_open_failed(&mut self, now: Now, error: &StorageError) {
        self.core.handle_open_failed(now, error);
        self.core.settle();
    }

    /// Learns that a flush has returned.
    pub fn handle_flushed(&mut self, now: Now, ticket: Ticket) {
        if let Some(object) = self.core.object_mut() {
            object.log_mut().handle_flushed(ticket);
        }
        self.core.heard = true;
        self.core.look_at_blocks(now);
        self.core.settle();
    }

    /// Learns that a write to the log, or a flush, failed.
    pub fn handle_log_failed(&mut self, now: Now, ticket: Ticket, error: &StorageError) {
        self.core.handle_log_failed(now, ticket, error);
        self.core.settle();
    }

    /// Learns that the journal of this generation is synced.
    pub fn handle_journal_written(&mut self, now: Now, generation: u64) {
        self.core.outputs.handle_journal_written(generation);
        self.core.look_at_blocks(now);
        self.core.settle();
    }

    /// Learns that a small file or the journal could not be written: nothing that would follow
    /// from it happens.
    pub fn handle_storage_failed(&mut self, error: StorageError) {
        self.core.outputs.fail(error);
    }

    /// Learns what an attempt to solve a block came to.
    pub fn handle_decoded(&mut self, now: Now, sbn: Sbn, outcome: &DecodeOutcome) {
        self.core.handle_decoded(now, sbn, outcome);
        self.core.settle();
    }

    /// Learns what reading the image back came to.
    pub fn handle_finished(&mut self, now: Now, outcome: Result<(), FinishError>) {
        self.core.handle_finished(now, outcome);
        self.core.settle();
    }

    /// Learns how the installer ended.
    pub fn handle_installed(&mut self, now: Now, outcome: InstallOutcome) {
        self.core.handle_installed(now, outcome);
        self.core.settle();
    }

    /// Learns which version is installed; `None` when the installer did not say.
    pub fn handle_version(&mut self, now: Now, version: Option<String>) {
        self.core.handle_version(now, version);
        self.start_due_session(now);
        self.core.settle();
    }

    /// Takes the server's answer to a DM message.
    pub fn handle_response<'a>(&mut self, now: Now, reply: impl Into<Reply<'a>>) {
        let step = self.client.handle_response(now, &mut self.core, reply);
        self.handle_step(now, step);
    }

    /// Learns that a DM message brought no answer.
    pub fn handle_post_failure(&mut self, now: Now, failure: Failure) {
        let step = self.client.handle_failure(failure);
        self.handle_step(now, step);
    }

    /// Returns the next thing to do; `None` while an answer is awaited or nothing is to do.
    pub fn poll_output(&mut self, now: Now) -> Option<Output> {
        self.core.look_at_blocks(now);
        self.core.settle();
        self.core.poll_output()
    }

    /// Returns when [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<Mono> {
        let log = self.core.object().and_then(|object| object.log().deadline());
        let tuner = self.core.tuner_deadline(now.mono);
        let session = if self.client.is_busy() { None } else { self.core.session_deadline(now) };
        let question = self.question_deadline();
        let download = self.core.download_deadline();
        [log, tuner, session, question, download].into_iter().flatten().min()
    }

    /// Returns what people may want to know.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// Returns the counters of this run.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.core.stats
    }
}

impl Core {
    fn object(&self) -> Option<&Object> {
        self.operation.as_ref()?.object.as_ref()
    }

    fn object_mut(&mut self) -> Option<&mut Object> {
        self.operation.as_mut()?.object.as_mut()
    }

    fn phase(&self) -> Phase {
        self.books.phase
    }

    /// Every change of phase is in the journal before anyone can see what follows from it.
    fn enter(&mut self, phase: Phase) {
        if self.books.phase != phase {
            tracing::info!(%phase, "phase");
            self.books.phase = phase;
            self.outputs.mark_changed();
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        loop {
            match self.outputs.poll(&self.books, &self.tuner.records(&self.boot_id)) {
                outputs::Polled::Output(output) => return Some(output),
                outputs::Polled::Internal(Internal::BlockDone(sbn)) => {
                    if let Some(object) = self.object_mut() {
                        object.blocks_mut().handle_block_done(sbn);
                        self.heard = true;
                    }
                }
                outputs::Polled::Nothing => {
                    let log = self.object_mut().and_then(|object| object.log_mut().poll_output());
                    return log.map(Output::Log);
                }
            }
        }
    }

    /// After every input: what changed in the books goes to the journal, seen by others or not.
    fn settle(&mut self) {
        self.outputs.settle();
    }
}

/// The results that make the operation's end a success in the books.
fn ends_well(result: ResultCode) -> bool {
    matches!(result, ResultCode::SUCCESS | ResultCode::DEFERRED | ResultCode::UP_TO_DATE)
}
