//! The log of changes: append-only, each line sealed with the hash of the line before it.

use proto::{
    crypto::{Digest, sha256},
    time::Utc,
};

/// What a change says about itself; the store adds number, time and seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Who made the change.
    pub actor: Actor,
    /// What was done, as `area.verb`.
    pub action: &'static str,
    /// What it was done to.
    pub subject: String,
    /// What else is worth knowing, in words; never a secret.
    pub detail: String,
}

/// Who makes changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A person at the desk: command line or API.
    Operator,
    /// A device in its DM session.
    Device,
    /// The server by itself.
    Reconciler,
}

impl Actor {
    /// Returns the word for it in the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Device => "device",
            Self::Reconciler => "reconciler",
        }
    }
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Number of the line, from 1.
    pub number: u64,
    /// When the change was made.
    pub at: Utc,
    /// Who made it.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// What else is worth knowing.
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
            actor: audit.actor.word().to_owned(),
            action: audit.action.to_owned(),
            subject: audit.subject,
            detail: audit.detail,
            seal: Digest([0; 32]),
        };
        line.seal = line.seal_after(&seal);
        line
    }

    /// Tells whether this line is the unchanged successor of the one sealed with `previous`.
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
