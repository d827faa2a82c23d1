//! One attempt to arm one device for one campaign, and what came of it.

use std::{fmt, str::FromStr};

use proto::{
    ids::{CampaignId, Correlator, DeviceId},
    time::Utc,
    wire::WireError,
};

use crate::campaign::model::Way;

/// A row of the arming queue: one (device, campaign, attempt).
///
/// An attempt keeps its correlator until the device has refused it or has reported a result;
/// so an Exec whose answer was lost is repeated with the same one and answered 202 again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arming {
    /// The device.
    pub device: DeviceId,
    /// The campaign.
    pub campaign: CampaignId,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Row version for compare-and-set; 0 before it was stored.
    pub version: u64,
    /// Ties the result to this attempt; no two attempts share one.
    pub correlator: Correlator,
    /// How the package is to reach the device.
    pub way: Way,
    /// Where the attempt stands.
    pub phase: ArmingPhase,
    /// Revision of the window that the device has accepted; 0: it was never armed.
    pub armed_revision: u32,
    /// Result code of the device's final alert. It is set once.
    pub result_code: Option<u16>,
    /// Why it stands there, in words.
    pub reason: Option<String>,
    /// Firmware version that was read back in or after the session that brought the result.
    pub read_back: Option<String>,
    /// When the row last changed.
    pub updated: Utc,
}

impl Arming {
    /// Returns a first or further attempt that waits for the device's next session.
    #[must_use]
    pub fn pending(
        device: DeviceId,
        campaign: CampaignId,
        attempt: u32,
        correlator: Correlator,
        now: Utc,
    ) -> Self {
        Self {
            device,
            campaign,
            attempt,
            version: 0,
            correlator,
            way: Way::Broadcast,
            phase: ArmingPhase::Pending,
            armed_revision: 0,
            result_code: None,
            reason: None,
            read_back: None,
            updated: now,
        }
    }

    /// Tells whether the device accepted this attempt: it answered 202 and did not refuse it in
    /// its final alert, which is how a device says why.
    #[must_use]
    pub const fn armed(&self) -> bool {
        let refused = matches!(self.phase, ArmingPhase::Refused | ArmingPhase::UnicastNeeded);
        self.armed_revision > 0 && !refused
    }
}

macro_rules! phases {
    ($($(#[$docs:meta])* $name:ident = $word:literal,)*) => {
        /// Where an attempt stands: the words of the device's phases and those of the desk.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ArmingPhase {
            $($(#[$docs])* $name,)*
        }

        impl ArmingPhase {
            /// All phases.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the word that nodes, API and lab use.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

phases! {
    /// Selected; waits for a session in which it can be armed.
    Pending = "pending",
    /// Answered the Exec with 202.
    Armed = "armed",
    /// Tuned in.
    Receiving = "receiving",
    /// Keeps what it has and waits.
    Suspended = "suspended",
    /// All symbols decoded.
    Assembled = "assembled",
    /// The digest is right.
    Verified = "verified",
    /// Received and held; the installation waits.
    Deferred = "deferred",
    /// Given to the installer.
    HandedOver = "handed-over",
    /// Reported success; the firmware version has not been read back yet.
    Reported = "reported",
    /// Success, and the version read back agrees.
    Confirmed = "confirmed",
    /// Reported success, but runs another version.
    Contradicted = "contradicted",
    /// Reported a failure.
    Failed = "failed",
    /// Never tuned in.
    Missed = "missed",
    /// Tuned in, but did not get enough.
    Incomplete = "incomplete",
    /// The time for it has passed.
    Expired = "expired",
    /// Told not to, or superseded.
    Disarmed = "disarmed",
    /// Refused, by the device or by this server.
    Refused = "refused",
    /// Cannot listen to a broadcast.
    UnicastNeeded = "unicast-needed",
    /// Silent past every deadline; neither done nor failed.
    Unknown = "unknown",
}

impl ArmingPhase {
    /// Tells whether the device may still need the carousel.
    #[must_use]
    pub const fn needs_air(self) -> bool {
        matches!(self, Self::Pending | Self::Armed | Self::Receiving | Self::Suspended)
    }

    /// Tells whether the server still waits for something to happen to this attempt.
    #[must_use]
    pub const fn is_open(self) -> bool {
        self.needs_air() || matches!(self, Self::Assembled | Self::Verified | Self::HandedOver)
    }

    /// Tells whether the device has what the campaign brings, so that it needs no further attempt.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Confirmed | Self::Reported | Self::Deferred)
    }
}

impl fmt::Display for ArmingPhase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

impl FromStr for ArmingPhase {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        Self::ALL
            .iter()
            .copied()
            .find(|phase| phase.word() == word)
            .ok_or_else(|| WireError::invalid("phase", word, "a phase of an arming"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_read_as_it_is_written() {
        for phase in ArmingPhase::ALL {
            assert_eq!(phase.word().parse::<ArmingPhase>().unwrap(), *phase);
        }
        assert!("done".parse::<ArmingPhase>().is_err());
    }

    #[test]
    fn what_needs_the_carousel_is_open_and_what_is_done_is_not() {
        for phase in ArmingPhase::ALL {
            assert!(!phase.needs_air() || phase.is_open(), "{phase}");
            assert!(!(phase.is_done() && phase.is_open()), "{phase}");
        }
    }
}
