//! The reasons to suspend reception, and the conditions that programs report.

use proto::words;
use serde::Serialize;

words! {
    /// A reason to suspend reception. Several can be active at once; reception resumes when none
    /// is left.
    pub enum SuspendReason: "reason" {
        /// Request of the user.
        User = "user",
        /// Request of the server.
        Server = "server",
        /// The battery is below its floor.
        Battery = "battery",
        /// Memory or storage is above its threshold.
        Memory = "memory",
        /// A voice call is in progress.
        Call = "call",
        /// The network is metered or lost.
        Network = "network",
        /// The device is too hot.
        Thermal = "thermal",
    }
}

/// Source of a suspend reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A request: the reason is active until it is withdrawn.
    Request,
    /// The environment, from which [`Policy`](super::Policy) derives the reason.
    Environment,
}

impl SuspendReason {
    /// Returns its source.
    #[must_use]
    pub const fn source(self) -> Source {
        match self {
            Self::User | Self::Server => Source::Request,
            Self::Battery | Self::Memory | Self::Call | Self::Network | Self::Thermal => {
                Source::Environment
            }
        }
    }
}

words! {
    /// A condition that a program on the device reports and no sensor shows.
    #[derive(Serialize)]
    pub enum ExternalCondition: "reason", serde {
        /// A voice call is in progress.
        Call = "call",
        /// The network costs money.
        Metered = "metered",
        /// There is no network.
        Network = "network",
        /// The battery is low.
        Battery = "battery",
        /// Memory or storage is short.
        Memory = "memory",
        /// The device is too hot.
        Thermal = "thermal",
    }
}
