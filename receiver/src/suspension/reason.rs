//! The reasons to suspend reception.

use std::fmt;

/// A reason to suspend reception. Several can be active at once; reception resumes when none is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SuspendReason {
    /// The user asked for it.
    User,
    /// The server asked for it.
    Server,
    /// The battery is below its floor.
    Battery,
    /// Memory or storage is above its threshold.
    Memory,
    /// A voice call is in progress.
    Call,
    /// The network is metered or lost.
    Network,
    /// The device is too hot.
    Thermal,
}

impl SuspendReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::User,
        Self::Server,
        Self::Battery,
        Self::Memory,
        Self::Call,
        Self::Network,
        Self::Thermal,
    ];

    /// Returns the word that nodes and the journal use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Server => "server",
            Self::Battery => "battery",
            Self::Memory => "memory",
            Self::Call => "call",
            Self::Network => "network",
            Self::Thermal => "thermal",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

impl fmt::Display for SuspendReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
