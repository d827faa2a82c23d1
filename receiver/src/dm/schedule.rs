//! The schedule of DM sessions.

use std::time::Duration;

use proto::time::Mono;

use super::{FinalAlert, backoff::Backoff, client::SessionOutcome};
use crate::rng::SplitMix64;

/// The time of the next DM session: requested, due by the clock, or after a back-off.
#[derive(Debug)]
pub(crate) struct SessionSchedule {
    next: Mono,
    /// The least time between sessions that nothing else triggers.
    check_in: Duration,
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
    pub(crate) fn new(now: Mono, check_in: Duration) -> Self {
        Self {
            next: now,
            check_in,
            backoff: Backoff::default(),
            again: false,
            notified: None,
            reports_due: Vec::new(),
            closed: false,
        }
    }

    /// Returns the time of the next session that no report triggers.
    pub(crate) const fn next(&self) -> Mono {
        self.next
    }

    /// Returns whether a due report triggers a session. After a failure it waits for the back-off.
    pub(crate) const fn allows_reports(&self) -> bool {
        self.backoff.failures() == 0
    }

    /// Returns whether no other session may begin in this run.
    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Requests a session for a person or the device itself.
    pub(crate) fn request_now(&mut self, now: Mono) {
        self.next = now;
        self.again = true;
        self.backoff.succeeded();
    }

    /// Requests the session of a notification.
    pub(crate) fn notified(&mut self, now: Mono, session_id: u16) {
        self.request_now(now);
        self.notified = Some(session_id);
    }

    /// Starts a session; returns its number when a notification requested it.
    pub(crate) const fn started(&mut self) -> Option<u16> {
        self.again = false;
        self.next = Mono(u64::MAX);
        self.notified.take()
    }

    /// Records the results that are due in the session that begins.
    pub(crate) fn record_due(&mut self, reports: Vec<FinalAlert>) {
        self.reports_due = reports;
    }

    /// Begins no other session in this run.
    pub(crate) const fn close(&mut self) {
        self.closed = true;
    }

    /// Schedules the next session after the end of one; `due` are the results that are due.
    pub(crate) fn ended(
        &mut self,
        now: Mono,
        outcome: &SessionOutcome,
        due: &[FinalAlert],
        rng: &mut SplitMix64,
    ) {
        match outcome {
            // A result that the server did not accept is sent again later, not at once. One that
            // fell due meanwhile may have missed the last message.
            SessionOutcome::Complete if due.iter().any(|due| self.reports_due.contains(due)) => {
                self.failed(now, None, rng.next_u64());
            }
            SessionOutcome::Complete => {
                self.backoff.succeeded();
                let again = std::mem::take(&mut self.again);
                self.next = if again { now } else { now + self.check_in };
            }
            SessionOutcome::RetryLater { wait } => {
                tracing::info!(?wait, "server busy, retrying");
                self.failed(now, *wait, rng.next_u64());
            }
            // Another takes its place as soon as sessions are allowed.
            SessionOutcome::Aborted => {
                tracing::info!("DM session aborted");
                self.next = now;
            }
            SessionOutcome::Failed(error) => {
                tracing::warn!(%error, "DM session failed");
                self.failed(now, None, rng.next_u64());
            }
        }
    }

    fn failed(&mut self, now: Mono, wanted: Option<Duration>, chance: u64) {
        self.again = false;
        self.next = now + self.backoff.failed(wanted, chance);
    }
}
