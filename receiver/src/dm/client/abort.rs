//! The abort of a session by this side.

use super::outcome::SessionOutcome;

/// State of an abort by this side.
#[derive(Debug, Default)]
pub(super) enum AbortState {
    /// The session goes on.
    #[default]
    None,
    /// Requested: the abort replaces the response to the next message.
    Requested,
    /// The abort is sent; the outcome of the session.
    Sent(SessionOutcome),
}

impl AbortState {
    /// Requests an abort, unless there is one.
    pub(super) fn request(&mut self) {
        if matches!(self, Self::None) {
            *self = Self::Requested;
        }
    }

    /// Records the abort as sent, with the outcome of the session.
    pub(super) fn send(&mut self, outcome: SessionOutcome) {
        *self = Self::Sent(outcome);
    }

    /// Returns whether an abort is requested or sent.
    pub(super) const fn is_pending(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Returns the outcome of a session that would have ended with `outcome` by itself.
    pub(super) fn outcome_of(self, outcome: SessionOutcome) -> SessionOutcome {
        match (self, outcome) {
            (Self::Sent(outcome), _) => outcome,
            (Self::Requested, SessionOutcome::Complete) => SessionOutcome::Complete,
            (Self::Requested, _) => SessionOutcome::Aborted,
            (Self::None, outcome) => outcome,
        }
    }
}
