//! The log of changes: append-only, each line sealed with the hash of the line before it.

use proto::{
    crypto::{Digest, sha256},
    time::Utc,
};

/// The description of a change; the store adds number, time and seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Origin of the change.
    pub actor: Actor,
    /// Action, as `area.verb`.
    pub action: &'static str,
    /// Device or campaign that it applies to.
    pub subject: String,
    /// Details as text; never a secret.
    pub detail: String,
}

proto::words! {
    /// The origin of a change.
    pub enum Actor {
        /// An operator: command line or API.
        Operator = "operator",
        /// A device in its DM session.
        Device = "device",
        /// The server's reconciler.
        Reconciler = "reconciler",
    }
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Number of the line, from 1.
    pub number: u64,
    /// Time of the change.
    pub at: Utc,
    /// Origin of the change.
    pub actor: String,
    /// Action.
    pub action: String,
    /// Device or campaign that it applies to.
    pub subject: String,
    /// Details.
    pub detail: String,
    /// H over the seal before it and everything above.
    pub seal: Digest,
}

impl AuditLine {
    /// Returns the line that follows `previous`.
    #[must_use]
    pub fn after(previous: Option<(u64, Digest)>, at: Utc, audit: Audit) -> Self {
        let (last, seal) = previous.unwrap_or((0, Digest([0; 32])));
        let mut line = Self {
            number: last.saturating_add(1),
            at,
            actor: audit.actor.as_str().to_owned(),
            action: audit.action.to_owned(),
            subject: audit.subject,
            detail: audit.detail,
            seal: Digest([0; 32]),
        };
        line.seal = line.seal_after(&seal);
        line
    }

    /// Returns whether this line is the unchanged successor of the one sealed with `previous`.
    #[must_use]
    pub fn follows(&self, previous: &Digest) -> bool {
        self.seal_after(previous) == self.seal
    }

    fn seal_after(&self, previous: &Digest) -> Digest {
        let length = |text: &str| (text.len() as u64).to_be_bytes();
        sha256(&[
            b"fcaudit1",
            &previous.0,
            &self.number.to_be_bytes(),
            &self.at.0.to_be_bytes(),
            &length(&self.actor),
            self.actor.as_bytes(),
            &length(&self.action),
            self.action.as_bytes(),
            &length(&self.subject),
            self.subject.as_bytes(),
            &length(&self.detail),
            self.detail.as_bytes(),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_breaks_its_seal() {
        let audit = || Audit {
            actor: Actor::Operator,
            action: "device.enrol",
            subject: "a".to_owned(),
            detail: "bc".to_owned(),
        };
        let first = AuditLine::after(None, Utc(1), audit());
        let second = AuditLine::after(Some((first.number, first.seal)), Utc(2), audit());
        assert!(second.follows(&first.seal));
        let moved =
            AuditLine { subject: "ab".to_owned(), detail: "c".to_owned(), ..second.clone() };
        assert!(!moved.follows(&first.seal));
        assert!(!second.follows(&Digest([0; 32])));
    }
}
