//! Bugs that can be injected into a simulation, to test that its checks find them.

use std::str::FromStr;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedBug {
    /// Symbols are acknowledged before they are synced.
    AcknowledgeBeforeSync,
    /// Every third journal is acknowledged and not written.
    ForgetJournals,
    /// The image is handed off without being read back.
    HandOffUnverified,
    /// The management server counts every result twice.
    CountTwice,
    /// Symbols are stored as they come, whatever their hash.
    StoreUnchecked,
    /// More is reported than was received.
    ClaimAhead,
    /// The image is handed off with a bit flipped.
    DeliverAnother,
    /// The image is handed off twice.
    HandOffTwice,
    /// A lost answer is worth an error.
    LogAnError,
    /// Whoever has the image does not call the management server any more.
    FallSilent,
    /// The management server replaces results.
    ChangeResults,
    /// An image server that starts again gives the numbers of its FDT instances twice.
    ReuseInstances,
    /// A device that starts again forgets the roots that it has learned.
    ForgetRoots,
}

impl InjectedBug {
    /// All bugs.
    pub const ALL: [Self; 13] = [
        Self::AcknowledgeBeforeSync,
        Self::ForgetJournals,
        Self::HandOffUnverified,
        Self::CountTwice,
        Self::StoreUnchecked,
        Self::ClaimAhead,
        Self::DeliverAnother,
        Self::HandOffTwice,
        Self::LogAnError,
        Self::FallSilent,
        Self::ChangeResults,
        Self::ReuseInstances,
        Self::ForgetRoots,
    ];

    /// Returns words of the breach by which it is found.
    pub const fn breach(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeSync => "did not survive",
            Self::ForgetJournals => "the journal fell",
            Self::HandOffUnverified => "image",
            Self::CountTwice => "attempts have succeeded",
            Self::StoreUnchecked => "is written to",
            Self::ClaimAhead => "would survive",
            Self::DeliverAnother => "the image handed off is another one",
            Self::HandOffTwice => "hand-offs in",
            Self::LogAnError => "logged as error",
            Self::FallSilent => "is not done",
            Self::ChangeResults => "of an attempt became",
            Self::ReuseInstances => "is sent with two contents",
            Self::ForgetRoots => "root fell",
        }
    }

    /// Returns the word for it on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeSync => "acknowledge-before-sync",
            Self::ForgetJournals => "forget-journals",
            Self::HandOffUnverified => "hand-off-unverified",
            Self::CountTwice => "count-twice",
            Self::StoreUnchecked => "store-unchecked",
            Self::ClaimAhead => "claim-ahead",
            Self::DeliverAnother => "deliver-another",
            Self::HandOffTwice => "hand-off-twice",
            Self::LogAnError => "log-an-error",
            Self::FallSilent => "fall-silent",
            Self::ChangeResults => "change-results",
            Self::ReuseInstances => "reuse-instances",
            Self::ForgetRoots => "forget-roots",
        }
    }
}

impl FromStr for InjectedBug {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = Self::ALL.map(Self::word).join(", ");
        let found = Self::ALL.into_iter().find(|bug| bug.word() == text);
        found.ok_or_else(|| format!("one of {words}"))
    }
}
