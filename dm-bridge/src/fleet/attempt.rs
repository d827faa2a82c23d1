//! One attempt to arm one device for one campaign, and its result.

use std::collections::BTreeSet;

use proto::{
    dm::fumo::ResultCode,
    ids::{CampaignId, Correlator, DeviceId},
    time::Utc,
};

use super::package_secret::PackageSecret;
use crate::campaign::model::DeliveryMethod;

/// Reason of an attempt whose Exec was sent.
const EXEC_SENT: &str = "the Exec was sent, and its status has not come";

/// A row of the arming queue: one (device, campaign, attempt).
///
/// An attempt has one correlator until the device rejects it or reports a result, so an Exec whose
/// status was lost is repeated with the same correlator and answered 202 again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmingAttempt {
    /// The device.
    pub device: DeviceId,
    /// The campaign.
    pub campaign: CampaignId,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Row version for compare-and-set; 0 before it was stored.
    pub version: u64,
    /// Correlates the result; no two attempts share one.
    pub correlator: Correlator,
    /// Delivery method of the package.
    pub delivery_method: DeliveryMethod,
    /// Steps that it has taken.
    pub marks: BTreeSet<AttemptMark>,
    /// Secret in the URLs of its package; absent until one is sent.
    pub package_secret: Option<PackageSecret>,
    /// Phase of the attempt.
    pub phase: ArmingPhase,
    /// Revision of the window that the device has accepted; 0 when it was never armed.
    pub armed_revision: u32,
    /// Result code of the device's final alert. It is set once.
    pub result_code: Option<u16>,
    /// Reason for the phase, as text.
    pub reason: Option<String>,
    /// Firmware version that was read back in or after the session that brought the result.
    pub read_back: Option<String>,
    /// Time of the last change.
    pub updated: Utc,
}

impl ArmingAttempt {
    /// Returns an attempt that waits for the device's next DM session.
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
            delivery_method: DeliveryMethod::Broadcast,
            marks: BTreeSet::new(),
            package_secret: None,
            phase: ArmingPhase::Pending,
            armed_revision: 0,
            result_code: None,
            reason: None,
            read_back: None,
            updated: now,
        }
    }

    /// Returns an attempt after this one that waits for the device's next DM session: it has the
    /// reason of this one, and the consent of the user.
    #[must_use]
    pub fn successor(&self, correlator: Correlator, now: Utc) -> Self {
        let (device, attempt) = (self.device.clone(), self.attempt + 1);
        let next = Self::pending(device, self.campaign, attempt, correlator, now);
        let reason = self.reason.as_ref();
        Self {
            delivery_method: self.delivery_method,
            marks: self
                .marks
                .iter()
                .copied()
                .filter(|mark| *mark == AttemptMark::Consent)
                .collect(),
            reason: reason.map(|reason| format!("attempt {}: {reason}", self.attempt)),
            ..next
        }
    }

    /// Records that the user has accepted.
    pub fn consent(&mut self) {
        self.marks.insert(AttemptMark::Consent);
    }

    /// Records that the Exec leaves: until its status arrives, it may be executed.
    pub fn start(&mut self) {
        self.marks.insert(AttemptMark::ExecSent);
        self.reason = Some(EXEC_SENT.to_owned());
    }

    /// Records that the device has skipped the Exec.
    pub fn skip_exec(&mut self) {
        if self.marks.remove(&AttemptMark::ExecSent) && self.reason.as_deref() == Some(EXEC_SENT) {
            self.reason = None;
        }
    }

    /// Records that no Exec is under way, whatever the reason of the attempt.
    pub fn clear_exec(&mut self) {
        self.marks.remove(&AttemptMark::ExecSent);
    }

    /// Returns whether an Exec is under way without a status.
    #[must_use]
    pub fn has_exec_out(&self) -> bool {
        self.marks.contains(&AttemptMark::ExecSent)
    }

    /// Returns whether the user has accepted.
    #[must_use]
    pub fn has_consent(&self) -> bool {
        self.was_accepted() || self.marks.contains(&AttemptMark::Consent)
    }

    /// Returns whether the device may be executing the Exec, or has accepted it.
    #[must_use]
    pub fn may_run(&self) -> bool {
        self.result_code.is_none() && (self.was_accepted() || self.has_exec_out())
    }

    /// Records that the device has accepted the Exec for a revision of the window; a reason that
    /// goes with it is shown. A result that came before stays.
    pub fn accept(&mut self, revision: u32, reason: Option<String>) {
        self.armed_revision = revision;
        self.clear_exec();
        if self.result_code.is_some() {
            return;
        }
        self.reason = reason;
        if matches!(self.phase, ArmingPhase::Pending | ArmingPhase::Unknown) {
            self.phase = ArmingPhase::Armed;
        }
    }

    /// Records the reason for which the attempt stays in its phase.
    pub fn postpone(&mut self, reason: String) {
        self.reason = Some(reason);
    }

    /// Enters a phase, with its reason.
    pub fn enter(&mut self, phase: ArmingPhase, reason: String) {
        self.phase = phase;
        self.reason = Some(reason);
    }

    /// Ends the attempt of a device that has no firmware object; one that may be running waits.
    pub fn end_without_object(&mut self, reason: String) {
        if self.may_run() {
            self.postpone(reason);
        } else {
            self.enter(ArmingPhase::Failed, reason);
        }
    }

    /// Enters the phase that the device shows.
    pub fn show(&mut self, phase: ArmingPhase, now: Utc) {
        if self.phase != phase {
            self.phase = phase;
            self.updated = now;
        }
    }

    /// Records a result of the device, unless it has one; returns whether it is the first one.
    // spec: oma-dm 15.4 (a result is counted once)
    pub fn record_result(&mut self, code: u16, phase: ArmingPhase, text: &str, now: Utc) -> bool {
        let is_first = self.result_code.is_none();
        if is_first {
            // A device that reports the end has received the Exec, also where its status is lost.
            if self.may_run() {
                self.armed_revision = self.armed_revision.max(1);
            }
            self.result_code = Some(code);
            self.enter(phase, text.to_owned());
            self.updated = now;
        }
        is_first
    }

    /// Records that the device has downloaded the package and goes on; returns whether the attempt
    /// has no result yet.
    pub fn record_download(&mut self, text: String, now: Utc) -> bool {
        let is_open = self.result_code.is_none();
        if is_open {
            self.armed_revision = self.armed_revision.max(1);
            self.enter(ArmingPhase::Assembled, text);
            self.updated = now;
        }
        is_open
    }

    /// Records the success of an earlier attempt, which makes this one needless. It has no result of
    /// its own: that is counted once.
    pub fn succeed_with(&mut self, phase: ArmingPhase, reason: String, now: Utc) {
        self.enter(phase, reason);
        self.updated = now;
    }

    /// Records the answer of the user, with the result code when he has declined.
    pub fn record_consent(
        &mut self,
        phase: ArmingPhase,
        reason: String,
        declined: Option<ResultCode>,
    ) {
        self.enter(phase, reason);
        self.result_code = declined.map(|code| code.0);
    }

    /// Records the firmware version that was read back after a reported success, and the phase
    /// that follows.
    pub fn read_back(&mut self, phase: ArmingPhase, firmware: &str, now: Utc) {
        self.phase = phase;
        self.read_back = Some(firmware.to_owned());
        self.updated = now;
    }

    /// Sets the secret in the URLs of its package.
    pub fn set_package_secret(&mut self, secret: PackageSecret) {
        self.package_secret = Some(secret);
    }

    /// Records the time of a change.
    pub const fn mark_changed(&mut self, now: Utc) {
        self.updated = now;
    }

    /// Counts up the row version, after the row was stored.
    pub const fn mark_stored(&mut self) {
        self.version += 1;
    }

    /// Returns whether the device accepted this attempt: the status was 202 and no final alert
    /// rejected it.
    #[must_use]
    pub const fn was_accepted(&self) -> bool {
        let refused = matches!(self.phase, ArmingPhase::Refused | ArmingPhase::NeedsUnicast);
        self.armed_revision > 0 && !refused
    }
}

proto::words! {
    /// A step that an attempt has taken.
    pub enum AttemptMark: "mark of an attempt" {
        /// The user has accepted.
        Consent = "consent",
        /// The Exec was sent; it may be executed also without a status.
        ExecSent = "exec-sent",
    }
}

proto::words! {
    /// The phase of an attempt: the phases of devices, and those of the server alone.
    pub enum ArmingPhase: "phase" {
        /// Selected; waits for a session in which it can be armed.
        Pending = "pending",
        /// Accepted: the status of the Exec was 202.
        Armed = "armed",
        /// Tuned in.
        Receiving = "receiving",
        /// Reception is suspended.
        Suspended = "suspended",
        /// All symbols are decoded.
        Assembled = "assembled",
        /// The digest of the image is verified.
        Verified = "verified",
        /// Received and verified; the installation waits.
        Deferred = "deferred",
        /// Handed off to the installer.
        HandedOver = "handed-over",
        /// Reported success; the firmware version is not read back yet.
        Reported = "reported",
        /// Reported success, and the version read back is the expected one.
        Confirmed = "confirmed",
        /// Reported success, but runs another version.
        VersionMismatch = "version-mismatch",
        /// Reported a failure.
        Failed = "failed",
        /// Never tuned in.
        Missed = "missed",
        /// Tuned in, but received too few symbols.
        Incomplete = "incomplete",
        /// The time for it has passed.
        Expired = "expired",
        /// Disarmed, or superseded.
        Disarmed = "disarmed",
        /// Rejected, by the device or by this server.
        Refused = "refused",
        /// Cannot receive the broadcast.
        NeedsUnicast = "needs-unicast",
        /// Silent past every deadline; neither done nor failed.
        Unknown = "unknown",
    }
}

impl ArmingPhase {
    /// Returns whether the device may still need the broadcast.
    #[must_use]
    pub const fn needs_broadcast(self) -> bool {
        matches!(self, Self::Pending | Self::Armed | Self::Receiving | Self::Suspended)
    }

    /// Returns whether the attempt may still change.
    #[must_use]
    pub const fn is_open(self) -> bool {
        self.needs_broadcast()
            || matches!(self, Self::Assembled | Self::Verified | Self::HandedOver)
    }

    /// Returns whether the device has the package, so that no further attempt is needed.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Confirmed | Self::Reported | Self::Deferred)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_read_as_it_is_written() {
        for phase in ArmingPhase::ALL {
            assert_eq!(phase.as_str().parse::<ArmingPhase>().unwrap(), phase);
        }
        assert!("done".parse::<ArmingPhase>().is_err());
    }

    #[test]
    fn a_phase_that_needs_the_broadcast_is_open_and_a_phase_that_is_done_is_not() {
        for phase in ArmingPhase::ALL {
            assert!(!phase.needs_broadcast() || phase.is_open(), "{phase}");
            assert!(!(phase.is_done() && phase.is_open()), "{phase}");
        }
    }
}
