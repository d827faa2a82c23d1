//! Mistakes that a world can be given, to see that they are found.

use std::str::FromStr;

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plant {
    /// None.
    #[default]
    Nothing,
    /// Symbols are acknowledged before they are synced.
    AcknowledgeBeforeSync,
    /// Every third journal is acknowledged and not written.
    ForgetJournals,
    /// The image is handed off without being read back.
    HandOffUnverified,
    /// The management server counts every result twice.
    CountTwice,
}

impl Plant {
    /// All mistakes.
    pub const ALL: [Self; 4] = [
        Self::AcknowledgeBeforeSync,
        Self::ForgetJournals,
        Self::HandOffUnverified,
        Self::CountTwice,
    ];

    /// Returns the word for it on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::AcknowledgeBeforeSync => "acknowledge-before-sync",
            Self::ForgetJournals => "forget-journals",
            Self::HandOffUnverified => "hand-off-unverified",
            Self::CountTwice => "count-twice",
        }
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = Self::ALL.map(Self::word).join(", ");
        let found = Self::ALL.into_iter().find(|plant| plant.word() == text);
        found.ok_or_else(|| format!("one of {words}"))
    }
}
