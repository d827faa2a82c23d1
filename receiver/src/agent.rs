//! The device agent: one core that composes tuner, object, DM client and installer.
//!
//! ```text
//! idle -> armed -> receiving -> assembled -> verified -> handed over -> confirmed | failed
//!              \-> missed    \-> incomplete                                    \-> reported -> idle
//! ```
//!
//! Every input is a `handle_*` call, every effect an [`Output`], in one order. A visible effect (a
//! join, a message, a hand-off) is queued behind the journal write that it follows from, and the
//! queue stops until that write is synced: persist, then report.

mod components;
mod dm_interface;
mod download;
mod effects;
mod reception;
mod restore;
mod status;
mod suspension;
#[cfg(test)]
mod tests;
mod user_prompts;

use proto::{
    dm::fumo::{Phase, ResultCode, UpdateRequest},
    ids::Sbn,
    time::{Mono, Now},
};

use self::effects::EffectQueue;
pub use self::{
    effects::{NetworkAnswer, NetworkRequest, Output},
    restore::{StoredState, StoredStateError},
    status::Status,
};
use crate::{
    components::{Announced, InventoryAccess},
    dm::{
        self,
        account::AccountState,
        client::{DmClient, HttpResponse, SessionOutcome, Step, TransportError, Trigger},
        notification::{NotificationFilter, NotificationOutcome},
        report::Reports,
        schedule::SessionSchedule,
        update_request::UpdateRequestState,
    },
    flute::{reception::Reception, stats::Stats},
    rng::SplitMix64,
    store::{commands::Completion, journal_state::JournalState},
    suspension::{SuspendReason, Suspension},
    trust::Trust,
    update::{
        acceptance::{DeviceClass, Limits},
        download::Download,
        install::Installer,
        installer::InstallerAnswer,
        operation::Update,
        partial_package::PartialPackageStore,
    },
    user::{self, prompts::Prompts},
};

/// The configuration of this device by integrator and enrolment.
#[derive(Debug, Clone)]
pub struct Config {
    /// Vendor and class.
    pub device_class: DeviceClass,
    /// The capacity of the device.
    pub limits: Limits,
    /// The DM account and identity.
    pub dm: dm::Settings,
    /// The least time between DM sessions that nothing else triggers.
    pub check_in: std::time::Duration,
    /// The nonce of the enrolment; used until the server sends another.
    pub first_nonce: Vec<u8>,
    /// The user interface and the consent that is required.
    pub user: user::Settings,
    /// Access to the inventory of software components.
    pub components: InventoryAccess,
}

// spec: oma-002 3 (states and events, as the tests of the agent tabulate them)
/// The device agent.
#[derive(Debug)]
pub struct Agent {
    client: DmClient,
    notifications: NotificationFilter,
    state: AgentState,
}

/// The state of the agent but for the DM client, which uses it as a [`dm::ManagementBackend`].
#[derive(Debug)]
struct AgentState {
    config: Config,
    trust: Trust,
    account: AccountState,
    reports: Reports,
    update: Update,
    reception: Reception,
    schedule: SessionSchedule,
    update_request: UpdateRequestState,
    announced: Announced,
    suspension: Suspension,
    installer: Installer,
    prompts: Prompts,
    download: Download,
    partial_package: PartialPackageStore,
    rng: SplitMix64,
    effects: EffectQueue,
}

/// Effects that wait in the queue for the journal write in front of them.
#[derive(Debug)]
enum DeferredEffect {
    /// The journal records that a block is decoded: its slots are free.
    BlockDone(Sbn),
}

impl Agent {
    /// Handles a datagram that arrived on a channel from the address `source`.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        channel: std::net::SocketAddr,
        source: std::net::IpAddr,
        datagram: &[u8],
    ) {
        self.state.reception.handle_datagram(now.mono, channel, source, datagram);
    }

    /// Runs all timers that are due. Late and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.state.handle_timeout(now);
        self.poll_prompts(now);
        self.state.download_timeout(now);
        self.start_due_session(now);
        self.state.commit_if_dirty();
    }

    /// Starts a DM session at once.
    pub fn check_in(&mut self, now: Now) {
        self.state.schedule.request_now(now.mono);
        self.start_due_session(now);
        self.state.commit_if_dirty();
    }

    // spec: oma-003 6.1.4.6, oma-003 6.1.4.7
    /// Handles a notification message, authentic or not; during a voice call too.
    pub fn handle_notification(&mut self, now: Now, octets: &[u8]) {
        let verdict = self.notifications.check(now.mono, self.state.account.server_nonce(), octets);
        tracing::debug!(?verdict, "notification received");
        if let NotificationOutcome::Begin { session_id, .. } = verdict {
            self.state.schedule.notified(now.mono, session_id);
            self.start_due_session(now);
        }
        self.state.commit_if_dirty();
    }

    /// Adds a suspend reason.
    pub fn handle_suspend(&mut self, now: Now, reason: SuspendReason) {
        if reason == SuspendReason::Call {
            self.state.prompts.call_began();
        }
        self.state.suspend_for(now, reason);
        self.state.commit_if_dirty();
    }

    /// Removes a suspend reason.
    pub fn handle_resume(&mut self, now: Now, reason: SuspendReason) {
        if reason == SuspendReason::Call {
            self.state.prompts.call_ended();
            self.state.show_next_prompt();
        }
        self.state.resume_from(now, reason);
        self.state.commit_if_dirty();
    }

    /// Syncs all received symbols before the process ends.
    pub fn handle_shutdown(&mut self) {
        self.state.reception.flush();
    }

    /// Handles a completion of the storage.
    pub fn handle_storage(&mut self, now: Now, completion: Completion) {
        self.state.handle_storage(now, completion);
        self.state.commit_if_dirty();
    }

    /// Handles the answer of the network to a request other than a DM message.
    pub fn handle_network(&mut self, now: Now, answer: NetworkAnswer) {
        match answer {
            NetworkAnswer::Fetched(fetched) => self.state.handle_fetched(now, fetched),
            NetworkAnswer::Notified(arrived) => self.state.handle_install_notified(now, arrived),
        }
        self.state.commit_if_dirty();
    }

    /// Handles the answer of the installer.
    pub fn handle_installer(&mut self, now: Now, answer: InstallerAnswer) {
        match answer {
            InstallerAnswer::Version(version) => {
                self.state.handle_version(now, version);
                self.start_due_session(now);
            }
            InstallerAnswer::Components(deployed) => {
                self.state.handle_components(now, deployed);
                self.start_due_session(now);
            }
            InstallerAnswer::Ended(outcome) => self.state.handle_installed(now, outcome),
        }
        self.state.commit_if_dirty();
    }

    /// Handles the server's response to a DM message.
    pub fn handle_response<'a>(&mut self, now: Now, reply: impl Into<HttpResponse<'a>>) {
        let step = self.client.handle_response(now, &mut self.state, reply);
        self.handle_step(now, step);
    }

    /// Handles a DM message without a response.
    pub fn handle_post_failure(&mut self, now: Now, error: TransportError) {
        let step = self.client.handle_failure(error);
        self.handle_step(now, step);
    }

    /// Returns the next effect; `None` while a completion is awaited or the queue is empty.
    pub fn poll_output(&mut self, now: Now) -> Option<Output> {
        self.state.poll_reception(now);
        self.state.commit_if_dirty();
        self.state.poll_output()
    }

    /// Returns the time of the next [`Self::handle_timeout`].
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<Mono> {
        let reception = self.state.reception.deadline(now.mono);
        let session = if self.client.is_busy() { None } else { self.state.session_deadline(now) };
        let question = self.state.prompts.deadline();
        let download = self.state.download.deadline();
        [reception, session, question, download].into_iter().flatten().min()
    }

    /// Requests an update in a session that begins at once. A session in progress is not used: the
    /// request is part of package 1 of the next.
    pub fn request_update(&mut self, now: Now, request: UpdateRequest) {
        self.state.update_request.request(request);
        self.check_in(now);
    }

    /// Returns the address of the device's firmware object.
    #[must_use]
    pub fn firmware_object(&self) -> String {
        self.state.config.dm.object.to_string()
    }

    /// Starts a DM session when one is due and none is in progress. The firmware version is read
    /// first: the tree shows it.
    fn start_due_session(&mut self, now: Now) {
        let due = self.state.session_deadline(now).is_some_and(|due| due <= now.mono);
        if !due || self.client.is_busy() {
            return;
        }
        let (trigger, id) = match self.state.schedule.started() {
            Some(id) => (Trigger::Server, id),
            None => {
                let id = u16::try_from(self.state.rng.next_u64() & 0xffff).unwrap_or(1);
                (Trigger::Client, id)
            }
        };
        self.state.begin_session(now);
        let post = self.client.start(now, &mut self.state, trigger, id);
        self.state.effects.push_after_commit(NetworkRequest::SendDmMessage(post));
    }

    /// Aborts a DM session in progress before the process ends; no other begins.
    pub fn shut_down(&mut self, now: Now) {
        self.state.schedule.close();
        self.abort(now);
        self.state.commit_if_dirty();
    }

    /// Returns whether a DM session is in progress.
    #[must_use]
    pub const fn is_in_session(&self) -> bool {
        self.client.is_busy()
    }

    /// Aborts the session of a device that went offline. A session that waits for the user needs no
    /// network, and its prompt stays.
    fn abort_if_offline(&mut self, now: Now) {
        if self.state.suspension.is_offline() && !self.client.is_waiting_for_user() {
            self.abort(now);
        }
    }

    fn abort(&mut self, now: Now) {
        if let Some(post) = self.client.abort(now, &mut self.state) {
            self.state.prompts.forget(user::PromptPurpose::Session);
            self.state.effects.push_after_commit(NetworkRequest::SendDmMessage(post));
        }
    }

    fn handle_step(&mut self, now: Now, step: Step) {
        match step {
            Step::Send(post) => {
                self.state.effects.push_after_commit(NetworkRequest::SendDmMessage(post))
            }
            Step::WaitForUser => {}
            Step::Done(outcome) => {
                self.state.session_ended(now, &outcome);
                self.start_due_session(now);
            }
        }
        self.state.commit_if_dirty();
    }

    /// Returns the status for operators.
    #[must_use]
    pub fn status(&self) -> Status {
        self.state.status()
    }

    /// Returns the counters of this run.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        self.state.reception.stats()
    }
}

impl AgentState {
    fn phase(&self) -> Phase {
        self.update.phase()
    }

    /// Marks the journal's state as changed where the phase has changed.
    fn mark_dirty_if(&mut self, changed: bool) {
        if changed {
            self.effects.mark_dirty();
        }
    }

    /// Returns the time of the next DM session, if one may begin.
    fn session_deadline(&self, now: Now) -> Option<Mono> {
        let may = self.installer.knows_what_is_installed() && self.session_allowed();
        may.then(|| self.schedule.deadline(now, self.reports.next_due(now.utc)))?
    }

    fn begin_session(&mut self, now: Now) {
        self.prompts.begin_session();
        self.partial_package.begin_session();
        self.update_request.begin_session();
        self.schedule.record_due(self.reports.due(now.utc));
    }

    fn session_ended(&mut self, now: Now, outcome: &SessionOutcome) {
        self.update_request.conclude();
        let due = self.reports.due(now.utc);
        self.schedule.ended(now.mono, outcome, &due, &mut self.rng);
    }

    fn poll_output(&mut self) -> Option<Output> {
        loop {
            let state = || {
                let mut state = JournalState::default();
                self.update.write_journal(&mut state);
                self.reception.write_journal(self.installer.boot_id(), &mut state);
                self.trust.write_journal(&mut state);
                self.announced.write_journal(&mut state);
                self.suspension.write_journal(&mut state);
                self.prompts.write_journal(&mut state);
                self.installer.write_journal(&mut state);
                self.download.write_journal(&mut state);
                self.account.write_journal(&mut state);
                self.reports.write_journal(&mut state);
                state
            };
            match self.effects.poll(state) {
                effects::NextEffect::Output(output) => return Some(output),
                effects::NextEffect::DeferredEffect(DeferredEffect::BlockDone(sbn)) => {
                    self.reception.handle_block_done(sbn);
                }
                effects::NextEffect::Nothing => {
                    return self.reception.poll_log().map(Output::Storage);
                }
            }
        }
    }

    /// Runs after every input: a changed state is written to the journal.
    fn commit_if_dirty(&mut self) {
        self.effects.commit_if_dirty();
    }
}

/// Returns whether a result finishes its campaign.
fn ends_well(result: ResultCode) -> bool {
    matches!(result, ResultCode::SUCCESS | ResultCode::DEFERRED | ResultCode::UP_TO_DATE)
}
