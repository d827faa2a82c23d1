//! The schedule of DM sessions.

use std::time::Duration;

use proto::time::{Mono, Now};

use super::{Agent, AgentState, Output};
use crate::{
    dm::{
        FinalAlert,
        backoff::Backoff,
        client::{SessionOutcome, Step, Trigger},
    },
    user::PromptPurpose,
};

/// The time of the next DM session: requested, due by the clock, or after a back-off.
#[derive(Debug)]
pub(super) struct SessionSchedule {
    next: Mono,
    backoff: Backoff,
    /// Set when a session was requested while one was in progress.
    again: bool,
    /// The session that a notification requested.
    notified: Option<u16>,
    /// The results that were due when the session began.
    reports_due: Vec<FinalAlert>,
    /// Set when no other session may begin in this run.
    closed: bool,
}

impl SessionSchedule {
    /// Schedules the first session at once.
    pub(super) fn new(now: Mono) -> Self {
        Self {
            next: now,
            backoff: Backoff::default(),
            again: false,
            notified: None,
            reports_due: Vec::new(),
            closed: false,
        }
    }

    pub(super) const fn next(&self) -> Mono {
        self.next
    }

    /// Returns whether the last session failed: due reports wait for the back-off then.
    pub(super) const fn is_backing_off(&self) -> bool {
        self.backoff.failures() > 0
    }

    /// Requests a session for a person or the device itself.
    pub(super) fn request_now(&mut self, now: Mono) {
        self.next = now;
        self.again = true;
        self.backoff.succeeded();
    }

    /// Requests the session of a notification.
    pub(super) fn notified(&mut self, now: Mono, session_id: u16) {
        self.request_now(now);
        self.notified = Some(session_id);
    }

    /// Starts a session; returns its number when a notification requested it.
    const fn started(&mut self) -> Option<u16> {
        self.again = false;
        self.next = Mono(u64::MAX);
        self.notified.take()
    }

    pub(super) fn succeeded(&mut self, now: Mono, check_in: Duration) {
        self.backoff.succeeded();
        self.next = if std::mem::take(&mut self.again) { now } else { now + check_in };
    }

    /// Schedules another session in place of an aborted one, as soon as sessions are allowed.
    const fn aborted(&mut self, now: Mono) {
        self.next = now;
    }

    pub(super) fn failed(&mut self, now: Mono, wanted: Option<Duration>, chance: u64) {
        self.again = false;
        self.next = now + self.backoff.failed(wanted, chance);
    }
}

impl Agent {
    /// Starts a DM session when one is due and none is in progress. The firmware version is read
    /// first: the tree shows it.
    pub(super) fn start_due_session(&mut self, now: Now) {
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
        self.state.effects.push_after_commit(Output::SendDmMessage(post));
    }

    /// Aborts a DM session in progress before the process ends; no other begins.
    pub fn shut_down(&mut self, now: Now) {
        self.state.schedule.closed = true;
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
    pub(super) fn abort_if_offline(&mut self, now: Now) {
        if self.state.is_offline() && !self.client.is_waiting_for_user() {
            self.abort(now);
        }
    }

    fn abort(&mut self, now: Now) {
        if let Some(post) = self.client.abort(now, &mut self.state) {
            self.state.prompts.forget(PromptPurpose::Session);
            self.state.effects.push_after_commit(Output::SendDmMessage(post));
        }
    }

    pub(super) fn handle_step(&mut self, now: Now, step: Step) {
        match step {
            Step::Send(post) => self.state.effects.push_after_commit(Output::SendDmMessage(post)),
            Step::WaitForUser => {}
            Step::Done(outcome) => {
                self.state.session_ended(now, &outcome);
                self.start_due_session(now);
            }
        }
        self.state.commit_if_dirty();
    }
}

impl AgentState {
    /// Returns the time of the next session: by the clock, or because a report is due.
    pub(super) fn session_deadline(&self, now: Now) -> Option<Mono> {
        if self.schedule.closed || !self.knows_what_is_installed() || !self.session_allowed() {
            return None;
        }
        let report = self
            .reports
            .next_due(now.utc)
            .filter(|_| !self.schedule.is_backing_off())
            .map(|due| now.mono + due.since(now.utc));
        [Some(self.schedule.next()), report].into_iter().flatten().min()
    }

    /// Returns whether a result is due that already was when the session began.
    fn owes_still(&self, now: Now) -> bool {
        self.reports.due(now.utc).iter().any(|due| self.schedule.reports_due.contains(due))
    }

    pub(super) fn begin_session(&mut self, now: Now) {
        self.prompts.agreed = false;
        self.partial_package.begin_session();
        self.begin_request();
        self.schedule.reports_due = self.reports.due(now.utc);
    }

    pub(super) fn session_ended(&mut self, now: Now, outcome: &SessionOutcome) {
        self.conclude_request();
        match outcome {
            // A result that the server did not accept is sent again later, not at once. One that
            // fell due meanwhile may have missed the last message.
            SessionOutcome::Complete if self.owes_still(now) => {
                self.schedule.failed(now.mono, None, self.rng.next_u64());
            }
            SessionOutcome::Complete => {
                self.schedule.succeeded(now.mono, self.config.check_in);
            }
            SessionOutcome::RetryLater { wait } => {
                tracing::info!(?wait, "server busy, retrying");
                self.schedule.failed(now.mono, *wait, self.rng.next_u64());
            }
            SessionOutcome::Aborted => {
                tracing::info!("DM session aborted");
                self.schedule.aborted(now.mono);
            }
            SessionOutcome::Failed(error) => {
                tracing::warn!(%error, "DM session failed");
                self.schedule.failed(now.mono, None, self.rng.next_u64());
            }
        }
    }
}
