//! When the next DM session takes place.

use std::time::Duration;

use proto::time::{Mono, Now};

use super::{Agent, Core, Output};
use crate::{
    dm::{
        FinalAlert,
        backoff::Backoff,
        client::{SessionOutcome, Step, Trigger},
    },
    user::About,
};

/// When the device talks to the server next: asked for, due by the clock, or after a back-off.
#[derive(Debug)]
pub(super) struct Sessions {
    next: Mono,
    backoff: Backoff,
    /// Whether a session was asked for while one was going on.
    again: bool,
    /// The session that a notification asked for.
    notified: Option<u16>,
    /// The results that were due when the session began.
    owed: Vec<FinalAlert>,
    /// Whether there is to be no other session in this run.
    closed: bool,
}

impl Sessions {
    /// The first session takes place at once.
    pub(super) fn new(now: Mono) -> Self {
        Self {
            next: now,
            backoff: Backoff::default(),
            again: false,
            notified: None,
            owed: Vec::new(),
            closed: false,
        }
    }

    pub(super) const fn next(&self) -> Mono {
        self.next
    }

    /// Returns whether the last session failed: a report that is due waits for the back-off then.
    pub(super) const fn is_backing_off(&self) -> bool {
        self.backoff.failures() > 0
    }

    /// A person or the device itself wants one.
    pub(super) fn ask(&mut self, now: Mono) {
        self.next = now;
        self.again = true;
        self.backoff.succeeded();
    }

    /// The server wants one, by a notification.
    pub(super) fn notified(&mut self, now: Mono, session_id: u16) {
        self.ask(now);
        self.notified = Some(session_id);
    }

    /// Returns the number of the session that a notification asked for.
    const fn started(&mut self) -> Option<u16> {
        self.again = false;
        self.next = Mono(u64::MAX);
        self.notified.take()
    }

    pub(super) fn succeeded(&mut self, now: Mono, check_in: Duration) {
        self.backoff.succeeded();
        self.next = if std::mem::take(&mut self.again) { now } else { now + check_in };
    }

    /// The device broke it off: it is made up for as soon as the device can and may talk again.
    const fn broken_off(&mut self, now: Mono) {
        self.next = now;
    }

    pub(super) fn failed(&mut self, now: Mono, wanted: Option<Duration>, chance: u64) {
        self.again = false;
        self.next = now + self.backoff.failed(wanted, chance);
    }
}

impl Agent {
    /// Begins a DM session when one is due and none goes on. The firmware version is read first:
    /// the tree shows it.
    pub(super) fn start_due_session(&mut self, now: Now) {
        let due = self.core.session_deadline(now).is_some_and(|due| due <= now.mono);
        if !due || self.client.is_busy() {
            return;
        }
        let (trigger, id) = match self.core.sessions.started() {
            Some(id) => (Trigger::Server, id),
            None => {
                let id = u16::try_from(self.core.chance.number() & 0xffff).unwrap_or(1);
                (Trigger::Client, id)
            }
        };
        self.core.begin_session(now);
        let post = self.client.start(now, &mut self.core, trigger, id);
        self.core.outputs.show(Output::Post(post));
    }

    /// Tells the server that the session is over, if one goes on, before the process ends; no other
    /// begins.
    pub fn take_leave(&mut self, now: Now) {
        self.core.sessions.closed = true;
        self.break_off(now);
        self.core.settle();
    }

    /// Returns whether a DM session goes on.
    #[must_use]
    pub const fn is_in_session(&self) -> bool {
        self.client.is_busy()
    }

    /// Breaks off the session of a device that may not talk any more. One that waits for the user
    /// costs nothing meanwhile, and what the user sees stays where it is.
    pub(super) fn keep_silent(&mut self, now: Now) {
        if self.core.is_cut_off() && !self.client.is_resting() {
            self.break_off(now);
        }
    }

    fn break_off(&mut self, now: Now) {
        if let Some(post) = self.client.break_off(now, &mut self.core) {
            self.core.users.forget(About::Session);
            self.core.outputs.show(Output::Post(post));
        }
    }

    pub(super) fn handle_step(&mut self, now: Now, step: Step) {
        match step {
            Step::Post(post) => self.core.outputs.show(Output::Post(post)),
            Step::Rest => {}
            Step::Done(outcome) => {
                self.core.session_ended(now, &outcome);
                self.start_due_session(now);
            }
        }
        self.core.settle();
    }
}

impl Core {
    /// Returns when the next session is due: by the clock, or because a report is.
    pub(super) fn session_deadline(&self, now: Now) -> Option<Mono> {
        if self.sessions.closed || !self.knows_what_is_installed() || !self.may_talk() {
            return None;
        }
        let report = self
            .books
            .reports
            .next_due(now.utc, self.books.report.slot(now.utc, u64::MAX))
            .filter(|_| !self.sessions.is_backing_off())
            .map(|due| now.mono + due.since(now.utc));
        [Some(self.sessions.next()), report].into_iter().flatten().min()
    }

    /// Returns the results whose slot has come.
    pub(super) fn due_reports(&self, now: Now) -> Vec<FinalAlert> {
        self.books.reports.due(now.utc, self.books.report.slot(now.utc, u64::MAX))
    }

    /// Returns whether a result is due that already was when the session began.
    fn owes_still(&self, now: Now) -> bool {
        self.due_reports(now).iter().any(|due| self.sessions.owed.contains(due))
    }

    pub(super) fn begin_session(&mut self, now: Now) {
        self.users.agreed = false;
        self.parcel.begin_session();
        self.begin_request();
        self.sessions.owed = self.due_reports(now);
    }

    pub(super) fn session_ended(&mut self, now: Now, outcome: &SessionOutcome) {
        self.conclude_request();
        match outcome {
            // A result that the server did not take is tried again later, not at once. One that came
            // up meanwhile may have found no message to go with.
            SessionOutcome::Complete if self.owes_still(now) => {
                self.sessions.failed(now.mono, None, self.chance.number());
            }
            SessionOutcome::Complete => {
                self.sessions.succeeded(now.mono, self.config.check_in);
            }
            SessionOutcome::RetryLater { wait } => {
                tracing::info!(?wait, "the server has no time");
                self.sessions.failed(now.mono, *wait, self.chance.number());
            }
            SessionOutcome::BrokenOff => {
                tracing::info!("the DM session was broken off");
                self.sessions.broken_off(now.mono);
            }
            SessionOutcome::Failed(error) => {
                tracing::warn!(%error, "a DM session failed");
                self.sessions.failed(now.mono, None, self.chance.number());
            }
        }
    }
}
