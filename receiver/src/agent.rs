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
//!
//! | module | holds |
//! | --- | --- |
//! | `owners` | who owns which state |
//! | `operations` | the way of an operation, between the owners |
//! | `inputs` | what storage, network, installer and clock bring |
//! | `arming`, `packages` | what a DM session starts: by broadcast, by unicast |
//! | `backend` | the device as the DM session sees it |
//! | `effects` | the queue of effects |
//! | `restore`, `config`, `status` | the start, its settings, the view of operators |

mod arming;
mod backend;
mod config;
mod effects;
mod inputs;
mod operations;
mod owners;
mod packages;
mod restore;
mod status;
#[cfg(test)]
mod tests;

use proto::{
    dm::{fumo::UpdateRequest, ui::Answer},
    time::{Mono, Now, Utc},
};

pub use self::{
    config::Config,
    effects::{NetworkAnswer, NetworkRequest, Output},
    restore::{StoredState, StoredStateError},
    status::Status,
};
use self::{
    effects::{DeferredEffect, NextEffect},
    inputs::{
        after_storage, download_timeout, handle_components, handle_fetched,
        handle_install_notified, handle_installed, handle_reception_events, handle_storage,
        handle_version, installer_timeout, resume, window_timeout,
    },
    operations::{
        ask_for_consent, handle_prompt_event, reception_gate, reevaluate, resume_from,
        session_allowed, show_next_prompt, suspend_for,
    },
    owners::Owners,
    packages::import,
    restore::{client_limits, restore},
    status::status,
};
use crate::{
    dm::{
        client::{DmClient, HttpResponse, SessionOutcome, Step, TransportError, Trigger},
        notification::{NotificationFilter, NotificationOutcome},
        schedule::SessionSchedule,
    },
    flute::stats::Stats,
    store::{commands::Completion, journal_state::JournalState},
    suspension::{ExternalCondition, Readings, SuspendReason},
    trust::root_file,
    update::{acceptance::Refusal, installer::InstallerAnswer},
    user::{PromptPurpose, Question, Reply, prompts::PromptEvent},
};

// spec: oma-002 3 (states and events, as the tests of the agent tabulate them)
/// The device agent.
#[derive(Debug)]
pub struct Agent {
    client: DmClient,
    notifications: NotificationFilter,
    schedule: SessionSchedule,
    owners: Owners,
    timers: Timers,
}

/// The next moment of every timer but that of unsynced symbols. Packets and syncs do not move it,
/// so it is kept from one other input to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Timers {
    mono: Option<Mono>,
    /// The next report, which follows the wall clock.
    report: Option<Utc>,
    /// The wall clock when they were read: once it is set back they are read again.
    read: Utc,
}

impl Timers {
    fn next(&self, now: Now) -> Option<Mono> {
        let report = self.report.map(|due| now.mono + due.since(now.utc));
        [self.mono, report].into_iter().flatten().min()
    }

    /// Returns whether a timer is due, or the wall clock was set back.
    fn is_due(&self, now: Now) -> bool {
        now.utc < self.read || self.next(now).is_some_and(|next| next <= now.mono)
    }

    /// Returns whether these are no later than `others`. Early ones lead to a spurious timeout.
    fn cover(&self, others: &Self, now: Now) -> bool {
        let is_covered = |other| self.next(now).is_some_and(|next| next <= now.mono.max(other));
        others.next(now).is_none_or(is_covered)
    }
}

impl Agent {
    /// Restores the agent from the storage.
    ///
    /// # Errors
    ///
    /// [`StoredStateError`] when there is no valid root or the journal is invalid; nothing on disk
    /// is changed then.
    pub fn new(now: Now, config: Config, stored: StoredState) -> Result<Self, StoredStateError> {
        let client = DmClient::new(config.dm.clone(), client_limits(&config));
        let account = &config.dm.account;
        let secret = account.server.as_ref().map(|server| server.secret.clone());
        let notifications = NotificationFilter::new(account.server_id.clone(), secret);
        let schedule = SessionSchedule::new(now.mono, config.check_in);
        let mut owners = restore(now, config, stored)?;
        resume(&mut owners, now);
        let timers = Timers::default();
        let mut agent = Self { client, notifications, schedule, owners, timers };
        agent.settle(now);
        Ok(agent)
    }

    /// Handles a datagram that arrived on a channel from the address `source`.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        channel: std::net::SocketAddr,
        source: std::net::IpAddr,
        datagram: &[u8],
    ) {
        self.owners.reception.handle_datagram(now.mono, channel, source, datagram);
    }

    /// Runs all timers that are due. Late and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.owners.reception.handle_timeout(now.mono);
        if !self.timers.is_due(now) {
            return;
        }
        window_timeout(&mut self.owners, now);
        self.poll_prompts(now);
        download_timeout(&mut self.owners, now);
        installer_timeout(&mut self.owners, now);
        self.start_due_session(now);
        self.settle(now);
    }

    /// Starts a DM session at once.
    pub fn check_in(&mut self, now: Now) {
        self.schedule.request_now(now.mono);
        self.start_due_session(now);
        self.settle(now);
    }

    // spec: oma-003 6.1.4.6, oma-003 6.1.4.7
    /// Handles a notification message, authentic or not; during a voice call too.
    pub fn handle_notification(&mut self, now: Now, octets: &[u8]) {
        let verdict =
            self.notifications.check(now.mono, self.owners.dm.account.server_nonce(), octets);
        tracing::debug!(?verdict, "notification received");
        if let NotificationOutcome::Begin { session_id, .. } = verdict {
            self.schedule.notified(now.mono, session_id);
            self.start_due_session(now);
        }
        self.settle(now);
    }

    /// Adds a suspend reason.
    pub fn handle_suspend(&mut self, now: Now, reason: SuspendReason) {
        if reason == SuspendReason::Call {
            self.owners.prompts.call_began();
        }
        suspend_for(&mut self.owners, now, reason);
        self.settle(now);
    }

    /// Removes a suspend reason.
    pub fn handle_resume(&mut self, now: Now, reason: SuspendReason) {
        if reason == SuspendReason::Call {
            self.owners.prompts.call_ended();
            show_next_prompt(&mut self.owners);
        }
        resume_from(&mut self.owners, now, reason);
        self.settle(now);
    }

    /// Syncs all received symbols before the process ends.
    pub fn handle_shutdown(&mut self) {
        self.owners.reception.flush();
    }

    /// Handles a completion of the storage.
    pub fn handle_storage(&mut self, now: Now, completion: Completion) {
        if let Completion::Flushed(key, ticket) = completion {
            // The blocks are polled with the outputs. After the last window it may be the end.
            if !self.owners.reception.handle_flushed(key, ticket) {
                return;
            }
            after_storage(&mut self.owners, now);
        } else {
            handle_storage(&mut self.owners, now, completion);
        }
        self.settle(now);
    }

    /// Handles the answer of the network to a request other than a DM message.
    pub fn handle_network(&mut self, now: Now, answer: NetworkAnswer) {
        match answer {
            NetworkAnswer::Fetched(fetched) => handle_fetched(&mut self.owners, now, fetched),
            NetworkAnswer::Notified(arrived) => {
                handle_install_notified(&mut self.owners, now, arrived)
            }
        }
        self.settle(now);
    }

    /// Handles the answer of the installer.
    pub fn handle_installer(&mut self, now: Now, answer: InstallerAnswer) {
        match answer {
            InstallerAnswer::Version(version) => {
                handle_version(&mut self.owners, now, version);
                self.start_due_session(now);
            }
            InstallerAnswer::Components(deployed) => {
                handle_components(&mut self.owners, now, deployed);
                self.start_due_session(now);
            }
            InstallerAnswer::Ended(outcome) => handle_installed(&mut self.owners, now, outcome),
        }
        self.settle(now);
    }

    /// Handles the server's response to a DM message.
    pub fn handle_response<'a>(&mut self, now: Now, reply: impl Into<HttpResponse<'a>>) {
        let step = self.client.handle_response(now, &mut self.owners, reply);
        self.handle_step(now, step);
    }

    /// Handles a DM message without a response.
    pub fn handle_post_failure(&mut self, now: Now, error: TransportError) {
        let step = self.client.handle_failure(error);
        self.handle_step(now, step);
    }

    /// Returns the next effect; `None` while a completion is awaited or the queue is empty.
    pub fn poll_output(&mut self, now: Now) -> Option<Output> {
        if now.utc < self.timers.read {
            self.settle(now);
        }
        debug_assert!(
            self.is_settled(now),
            "an input moved the gate or a timer and did not settle"
        );
        if let Some(event) = self.owners.reception.poll() {
            handle_reception_events(&mut self.owners, now, event);
            self.settle(now);
        }
        loop {
            let state = || {
                let mut state = JournalState::default();
                self.owners.update.write_journal(&mut state);
                self.owners.reception.write_journal(self.owners.installer.boot_id(), &mut state);
                self.owners.trust.write_journal(&mut state);
                self.owners.announced.write_journal(&mut state);
                self.owners.suspension.write_journal(&mut state);
                self.owners.prompts.write_journal(&mut state);
                self.owners.installer.write_journal(&mut state);
                self.owners.download.write_journal(&mut state);
                self.owners.dm.account.write_journal(&mut state);
                self.owners.dm.reports.write_journal(&mut state);
                state
            };
            match self.owners.effects.poll(state) {
                NextEffect::Output(output) => {
                    if let Output::Storage(command) = &output {
                        self.owners.reception.handle_command(command);
                    }
                    return Some(output);
                }
                NextEffect::DeferredEffect(DeferredEffect::BlockDone(sbn)) => {
                    self.owners.reception.handle_block_done(sbn);
                }
                NextEffect::Nothing => {
                    return self.owners.reception.poll_log().map(Output::Storage);
                }
            }
        }
    }

    /// Returns the time of the next [`Self::handle_timeout`].
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<Mono> {
        [self.owners.reception.flush_deadline(), self.timers.next(now)].into_iter().flatten().min()
    }

    /// Requests an update in a session that begins at once. A session in progress is not used: the
    /// request is part of package 1 of the next.
    pub fn request_update(&mut self, now: Now, request: UpdateRequest) {
        self.owners.dm.update_request.request(request);
        self.check_in(now);
    }

    /// Returns the address of the device's firmware object.
    #[must_use]
    pub fn firmware_object(&self) -> String {
        self.owners.config.dm.object.to_string()
    }

    /// Starts a DM session when one is due and none is in progress. The firmware version is read
    /// first: the tree shows it.
    fn start_due_session(&mut self, now: Now) {
        if self.session_timers(now).next(now).is_none_or(|due| due > now.mono) {
            return;
        }
        let (trigger, id) = match self.schedule.started() {
            Some(id) => (Trigger::Server, id),
            None => {
                let id = u16::try_from(self.owners.rng.next_u64() & 0xffff).unwrap_or(1);
                (Trigger::Client, id)
            }
        };
        self.begin_session(now);
        let post = self.client.start(now, &mut self.owners, trigger, id);
        self.owners.effects.push_after_commit(NetworkRequest::SendDmMessage(post));
    }

    /// Aborts a DM session in progress before the process ends; no other begins.
    pub fn shut_down(&mut self, now: Now) {
        self.schedule.close();
        self.abort(now);
        self.settle(now);
    }

    /// Returns whether a DM session is in progress.
    #[must_use]
    pub const fn is_in_session(&self) -> bool {
        self.client.is_busy()
    }

    /// Aborts the session of a device that went offline. A session that waits for the user needs no
    /// network, and its prompt stays.
    fn abort_if_offline(&mut self, now: Now) {
        if self.owners.suspension.is_offline() && !self.client.is_waiting_for_user() {
            self.abort(now);
        }
    }

    fn abort(&mut self, now: Now) {
        if let Some(post) = self.client.abort(now, &mut self.owners) {
            self.owners.prompts.forget(PromptPurpose::Session);
            self.owners.effects.push_after_commit(NetworkRequest::SendDmMessage(post));
        }
    }

    fn handle_step(&mut self, now: Now, step: Step) {
        match step {
            Step::Send(post) => {
                self.owners.effects.push_after_commit(NetworkRequest::SendDmMessage(post))
            }
            Step::WaitForUser => {}
            Step::Done(outcome) => {
                self.session_ended(now, &outcome);
                self.start_due_session(now);
            }
        }
        self.settle(now);
    }

    /// Returns the status for operators.
    #[must_use]
    pub fn status(&self) -> Status {
        status(&self.owners)
    }

    /// Returns the counters of this run.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        self.owners.reception.stats()
    }

    /// Imports a package from local media, whose front is `head`; the user has agreed. Returns its
    /// version.
    ///
    /// # Errors
    ///
    /// [`Refusal`] by the same rules as for a campaign over DM.
    // spec: oma-003 5.5.1.5.1 (a kiosk)
    pub fn import(&mut self, now: Now, path: &str, head: &[u8]) -> Result<String, Refusal> {
        let outcome = import(&mut self.owners, now, path, head);
        self.settle(now);
        outcome
    }

    /// Returns the names of the small files that are in use; the others can be removed.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        [root_file(self.owners.trust.root_version())]
            .into_iter()
            .chain(self.owners.update.files())
            .chain(self.owners.partial_package.files())
            .collect()
    }

    /// Stores the readings of the sensors.
    pub fn handle_readings(&mut self, now: Now, readings: Readings) {
        self.owners.suspension.handle_readings(readings);
        self.reevaluate(now);
    }

    /// Handles the begin of a condition, as a program on the device reports it.
    pub fn condition_began(&mut self, now: Now, condition: ExternalCondition) {
        if condition == ExternalCondition::Call {
            self.owners.prompts.call_began();
        }
        self.owners.suspension.condition_began(condition);
        self.reevaluate(now);
    }

    /// Handles the end of a condition, as a program on the device reports it.
    pub fn condition_ended(&mut self, now: Now, condition: ExternalCondition) {
        if condition == ExternalCondition::Call {
            self.owners.prompts.call_ended();
            show_next_prompt(&mut self.owners);
        }
        self.owners.suspension.condition_ended(condition);
        self.reevaluate(now);
    }

    fn reevaluate(&mut self, now: Now) {
        reevaluate(&mut self.owners, now);
        self.abort_if_offline(now);
        self.start_due_session(now);
        self.settle(now);
    }

    /// Handles the user's answer to the prompt with this ticket; a late answer is dropped.
    pub fn handle_user_reply(&mut self, now: Now, ticket: u64, reply: Reply) {
        if let Some(question) = self.owners.prompts.take_shown(ticket) {
            self.on_user_answer(now, &question, reply);
        }
        show_next_prompt(&mut self.owners);
        self.settle(now);
    }

    /// Expires prompts, and prompts again for deferred consent.
    fn poll_prompts(&mut self, now: Now) {
        while let Some(question) = self.owners.prompts.expired(now.mono) {
            self.on_user_answer(now, &question, Reply::Answer(Answer::TimedOut));
        }
        if self.owners.prompts.asks_again(now.mono) {
            ask_for_consent(&mut self.owners, now);
        }
        show_next_prompt(&mut self.owners);
    }

    fn on_user_answer(&mut self, now: Now, question: &Question, reply: Reply) {
        match self.owners.prompts.handle_reply(question, reply) {
            PromptEvent::Session(answer) => {
                let step = self.client.handle_user_answer(now, &mut self.owners, &answer);
                self.handle_step(now, step);
            }
            event @ (PromptEvent::Queued
            | PromptEvent::Consent(..)
            | PromptEvent::InventoryDecided
            | PromptEvent::Nothing) => handle_prompt_event(&mut self.owners, now, event),
        }
    }

    /// Returns the timers of the next DM session, if one may begin.
    fn session_timers(&self, now: Now) -> Timers {
        let may = self.owners.installer.knows_what_is_installed() && session_allowed(&self.owners);
        if !may || self.client.is_busy() || self.schedule.is_closed() {
            return Timers::default();
        }
        let report = self.owners.dm.reports.next_due(now.utc);
        let report = report.filter(|_| self.schedule.allows_reports());
        Timers { mono: Some(self.schedule.next()), report, read: now.utc }
    }

    /// Asks every owner of a timer.
    fn timers(&self, now: Now) -> Timers {
        let session = self.session_timers(now);
        let window = self.owners.reception.next_window_change(now.mono);
        let (question, download) =
            (self.owners.prompts.deadline(), self.owners.download.deadline());
        let installer = self.owners.installer.deadline();
        let mono = [session.mono, window, question, download, installer];
        let mono = mono.into_iter().flatten().min();
        Timers { mono, report: session.report, read: now.utc }
    }

    fn begin_session(&mut self, now: Now) {
        self.owners.prompts.begin_session();
        self.owners.partial_package.begin_session();
        self.owners.dm.update_request.begin_session();
        self.schedule.record_due(self.owners.dm.reports.due(now.utc));
    }

    fn session_ended(&mut self, now: Now, outcome: &SessionOutcome) {
        self.owners.dm.update_request.conclude();
        let due = self.owners.dm.reports.due(now.utc);
        self.schedule.ended(now.mono, outcome, &due, &mut self.owners.rng);
    }

    /// Runs after every input but packets and syncs: a changed state is written to the journal, and
    /// the gate of the reception and the timers follow from it.
    fn settle(&mut self, now: Now) {
        self.owners.effects.commit_if_dirty();
        let gate = reception_gate(&self.owners);
        self.owners.reception.renew(now.mono, gate);
        self.timers = self.timers(now);
    }

    /// Returns whether a timeout is due, or [`Self::settle`] would change nothing.
    fn is_settled(&self, now: Now) -> bool {
        let gate = reception_gate(&self.owners);
        self.timers.is_due(now)
            || self.owners.reception.is_renewed(now.mono, gate)
                && self.timers.cover(&self.timers(now), now)
    }
}
