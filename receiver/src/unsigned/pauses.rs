//! The pauses of a session, and what they make of the symbols that come after them.
//!
//! A sender that starts again has the same TSI and TOIs, and other contents. Another content of a
//! TOI begins, with a key of its own,
//!
//! * when an instance describes it otherwise, as soon as the file is finished or no symbol of it
//!   came for ten seconds; until then symbols of the TOI wait, those of several descriptions one
//!   after the other;
//! * when it has no digest and is described again after its description has expired or its session
//!   was over: another document came after the flag A and five seconds without a symbol, or under
//!   a known FDT Instance ID after ten seconds of silence. A file of which symbols came in the last
//!   ten seconds goes on all the same.
//!
//! A pause alone is no restart. What comes after it is used for what is described; copies are kept,
//! within the limit of what waits, for another content that an instance may describe. A file without
//! a digest is complete when an instance has come, or none for a minute: its symbols from before and
//! after the pause would be of two contents otherwise. What came before the first description of
//! all is of what that describes.
//!
//! Of two objects with one location that of the newer instance is the file; the older one is
//! received until the newer has all its symbols. The symbols of a file with a digest are kept for
//! when it is described again, also by a later run; those of one without are not, unless the user
//! knows that the sender still sends the same ([`Undigested`](super::record::Undigested)).

use std::time::Duration;

use proto::time::Mono;

use super::announced::SILENT_AFTER;

/// Time without a symbol of a session after which a flag A ended it: the flag can be forged.
const CLOSED_AFTER: Duration = Duration::from_secs(5);

/// Time after a pause in which a sender that has started again sends its FDT: what came without a
/// digest is not complete before.
const FDT_AWAITED: Duration = Duration::from_secs(60);

/// Knowledge of the content of symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// They are of the described content.
    Nothing,
    /// They came after a pause, and an instance is awaited.
    Early,
    /// They came after a pause, and no instance has come for a while.
    Late,
}

/// The pauses of a session.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// Time of the last packet with a symbol, of the FDT or of a file.
    received_at: Option<Mono>,
    /// Time of the first flag A after the last symbol of a file.
    closed_at: Option<Mono>,
    /// Set when the session was silent, and no instance came since.
    was_silent: bool,
    /// Set when the flag A ended it, and no instance came since.
    was_closed: bool,
    /// Time of the first packet after the last pause.
    ended_at: Mono,
    /// Time until which an instance is awaited.
    awaited_until: Option<Mono>,
}

impl Pauses {
    /// Handles a packet with a symbol, of the FDT or of a file; returns whether a pause ends.
    pub(super) fn handle_symbol(&mut self, now: Mono, is_of_fdt: bool) -> bool {
        let is_closed = self.closed_at.is_some_and(|at| now.since(at) >= CLOSED_AFTER);
        let is_silent = self.received_at.is_some_and(|at| now.since(at) >= SILENT_AFTER);
        self.was_silent |= is_silent;
        self.was_closed |= is_closed;
        if is_silent || is_closed {
            (self.ended_at, self.awaited_until) = (now, Some(now + FDT_AWAITED));
        }
        if !is_of_fdt || is_closed {
            self.closed_at = None;
        }
        self.received_at = Some(now);
        is_silent || is_closed
    }

    /// Handles a packet with the flag A.
    // spec: rfc5651 5.1 (A is a hint: it counts only once the session is silent)
    pub(super) fn handle_close(&mut self, now: Mono) {
        self.closed_at.get_or_insert(now);
    }

    /// Handles an instance: what it says counts for what came since the pause.
    pub(super) const fn handle_instance(&mut self) {
        (self.was_silent, self.was_closed) = (false, false);
        (self.awaited_until, self.closed_at) = (None, None);
    }

    /// Handles the time; returns whether an instance is awaited no longer.
    pub(super) fn handle_timeout(&mut self, now: Mono) -> bool {
        let is_over = self.awaited_until.is_some_and(|until| until <= now);
        if is_over {
            self.awaited_until = None;
        }
        is_over
    }

    /// Returns the time until which an instance is awaited.
    pub(super) const fn awaited_until(&self) -> Option<Mono> {
        self.awaited_until
    }

    /// Returns what is known of the content of symbols that arrived at `at`.
    pub(super) fn doubt(&self, at: Mono) -> Doubt {
        match (self.was_silent || self.was_closed) && at >= self.ended_at {
            true if self.awaited_until.is_some() => Doubt::Early,
            true => Doubt::Late,
            false => Doubt::Nothing,
        }
    }

    /// Returns whether the session was silent, and no instance came since.
    pub(super) const fn was_silent(&self) -> bool {
        self.was_silent
    }

    /// Returns whether the flag A ended the session, and no instance came since.
    pub(super) const fn was_closed(&self) -> bool {
        self.was_closed
    }
}
