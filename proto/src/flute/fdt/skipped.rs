//! The parts of a file delivery table that cannot be read, and cost nothing else.

use std::{collections::BTreeSet, fmt};

use crate::{ids::Toi, wire::WireError};

/// Parts of one instance that are kept with their reasons; all are counted.
const MAX_PARTS: usize = 16;

/// Objects of one instance whose entry was left out and that are kept.
const MAX_TOIS: usize = 1024;

/// The parts of an FDT instance that were left out because they cannot be read.
///
/// # Source
///
/// RFC 6726 §3.4.2 has receivers ignore what they do not know; it says nothing of what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Skipped {
    /// Entries of files: what they describe cannot be received.
    pub entries: u64,
    /// Details that no file needs.
    pub details: u64,
    /// Objects whose entries were left out, where their TOI can be read; 1,024 at most.
    pub tois: BTreeSet<Toi>,
    /// The first parts, in document order.
    pub parts: Vec<SkippedPart>,
}

/// One part that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedPart {
    /// Its place.
    pub place: Place,
    /// The reason.
    pub reason: WireError,
}

/// The place of a part in its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The entry of a file.
    Entry {
        /// Its number in document order, from 1.
        number: usize,
        /// Its TOI, where that can be read.
        toi: Option<Toi>,
    },
    /// Any other part.
    Detail,
}

impl Skipped {
    /// Returns whether nothing was left out.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries == 0 && self.details == 0
    }

    /// Returns the objects whose entries were left out, where their TOI can be read; 1,024 at most.
    pub fn tois(&self) -> impl Iterator<Item = Toi> {
        self.tois.iter().copied()
    }

    /// Adds a part.
    pub(super) fn add(&mut self, place: Place, reason: WireError) {
        match place {
            Place::Entry { toi, .. } => {
                self.entries += 1;
                self.tois.extend(toi.filter(|_| self.tois.len() < MAX_TOIS));
            }
            Place::Detail => self.details += 1,
        }
        if self.parts.len() < MAX_PARTS {
            self.parts.push(SkippedPart { place, reason });
        }
    }
}

impl fmt::Display for SkippedPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, reason } = self;
        match place {
            Place::Entry { toi: Some(toi), .. } => {
                write!(formatter, "the entry of TOI {} is skipped: {reason}", toi.0)
            }
            Place::Entry { number, toi: None } => {
                write!(formatter, "entry {number} is skipped: {reason}")
            }
            Place::Detail => write!(formatter, "ignored: {reason}"),
        }
    }
}
