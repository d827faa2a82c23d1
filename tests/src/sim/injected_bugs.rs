//! Bugs that can be injected into a simulation, to test that its checks find them.

proto::words! {
    /// A bug.
    pub enum InjectedBug: "bug" {
        /// Symbols are acknowledged before they are synced.
        AcknowledgeBeforeSync = "acknowledge-before-sync",
        /// Every third journal is acknowledged and not written.
        ForgetJournals = "forget-journals",
        /// The image is handed off without being read back.
        HandOffUnverified = "hand-off-unverified",
        /// The management server counts every result twice.
        CountTwice = "count-twice",
        /// Symbols are stored unverified.
        StoreUnchecked = "store-unchecked",
        /// More is reported than was received.
        ClaimAhead = "claim-ahead",
        /// The image is handed off with a bit flipped.
        DeliverAnother = "deliver-another",
        /// The image is handed off twice.
        HandOffTwice = "hand-off-twice",
        /// A lost answer is logged as an error.
        LogAnError = "log-an-error",
        /// A device that has the image does not connect to the management server again.
        FallSilent = "fall-silent",
        /// The management server replaces results.
        ChangeResults = "change-results",
        /// An image server that starts again gives the numbers of its FDT instances twice.
        ReuseInstances = "reuse-instances",
        /// The management server never looks at the sessions that it has opened.
        NeverLook = "never-look",
        /// Image servers do not compare the numbers of windows: late calls have an effect.
        IgnoreWindowNumbers = "ignore-window-numbers",
        /// A device that starts again loses the roots that it has stored.
        ForgetRoots = "forget-roots",
    }
}

impl InjectedBug {
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
            Self::NeverLook => "has no open session",
            Self::IgnoreWindowNumbers => "after its stop was answered",
            Self::ForgetRoots => "root fell",
        }
    }

    /// Returns whether it is found in worlds with peers that hang alone.
    pub const fn needs_hanging_peers(self) -> bool {
        match self {
            Self::NeverLook | Self::IgnoreWindowNumbers => true,
            Self::AcknowledgeBeforeSync
            | Self::ForgetJournals
            | Self::HandOffUnverified
            | Self::CountTwice
            | Self::StoreUnchecked
            | Self::ClaimAhead
            | Self::DeliverAnother
            | Self::HandOffTwice
            | Self::LogAnError
            | Self::FallSilent
            | Self::ChangeResults
            | Self::ReuseInstances
            | Self::ForgetRoots => false,
        }
    }
}
