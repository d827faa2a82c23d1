//! Reasons why files are not received, where their state does not show them.

use std::collections::BTreeMap;

use crate::store::UnsignedIdentity;

/// Files whose packets could not be used and that are named, at most.
const MAX_FILES: usize = 4096;

/// Reasons by file.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// Of files in their second reception, after a failed verification.
    again: BTreeMap<UnsignedIdentity, String>,
    /// Of packets that could not be used.
    packets: BTreeMap<UnsignedIdentity, String>,
}

impl Problems {
    /// Records a failed verification; returns whether it was the first.
    pub(super) fn fail(&mut self, of: UnsignedIdentity, why: &str) -> bool {
        self.again.insert(of, why.to_owned()).is_none()
    }

    /// Records the reason why packets of a file cannot be used, unless there is one.
    pub(super) fn note(&mut self, of: UnsignedIdentity, reason: impl FnOnce() -> String) {
        if self.packets.len() < MAX_FILES {
            self.packets.entry(of).or_insert_with(reason);
        }
    }

    /// Forgets a file.
    pub(super) fn forget(&mut self, of: &UnsignedIdentity) {
        self.again.remove(of);
        self.packets.remove(of);
    }

    /// Returns the reason of a failed verification.
    pub(super) fn failed(&self, of: &UnsignedIdentity) -> Option<String> {
        self.again.get(of).map(|why| format!("{why}; it is received once more"))
    }

    /// Returns the reason why packets of a file could not be used.
    pub(super) fn of_packets(&self, of: &UnsignedIdentity) -> Option<String> {
        self.packets.get(of).cloned()
    }
}
