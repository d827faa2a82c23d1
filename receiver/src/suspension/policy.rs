//! The suspend policy: derives suspend reasons from readings and conditions.
//!
//! A core without I/O: the shell reads the sensors. A reason that began at its threshold ends only
//! when the value is [`HYSTERESIS`] better, so that a device at the edge does not tune in and out
//! all night.

use std::collections::BTreeSet;

use proto::{dm::policy::PolicyNode, wire::WireError, words};
use serde::Serialize;

use super::reason::{ExternalCondition, SuspendReason};
use crate::user::Consent;

/// The distance from its threshold that a value needs before its reason ends.
pub const HYSTERESIS: u8 = 3;

words! {
    /// The effect of a condition on reception.
    pub enum SuspendOn: "effect" {
        /// Reception is suspended.
        Suspend = "suspend",
        /// Reception continues.
        Ignore = "ignore",
    }
}

words! {
    /// The time at which a verified image is handed to the installer.
    #[derive(Default)]
    pub enum InstallPolicy: "install" {
        /// As soon as it is verified, where the Exec requests the installation.
        #[default]
        AtOnce = "at-once",
        /// At the Exec of `Update`, or when the server sets [`Self::AtOnce`] again.
        OnCommand = "on-command",
    }
}

/// The readings of the sensors; those that a device does not have, or cannot read, are absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Readings {
    /// Charge of the battery, per cent.
    pub battery_percent: Option<u8>,
    /// Set when the device runs on mains.
    pub on_mains: bool,
    /// Memory that is in use, per cent.
    pub memory_percent: Option<u8>,
    /// Storage of the data directory that is in use, per cent.
    pub storage_percent: Option<u8>,
    /// Set when the link is lost.
    pub link_lost: bool,
    /// The hottest zone, degrees Celsius.
    pub celsius: Option<i16>,
}

/// Thresholds and choices that a server can set: the nodes below `Ext/Broadcast/Policy`.
///
/// # Units
///
/// Percentages from 0 to 100, degrees Celsius from -40 to 200. A threshold of 100 is never
/// exceeded, nor is a floor of 0 ever undercut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Below this charge reception is suspended, unless the device is on mains.
    pub battery_floor: u8,
    /// Above this share of memory in use it is suspended.
    pub memory_limit: u8,
    /// Above this share of storage in use it is suspended.
    pub storage_limit: u8,
    /// Above this temperature it is suspended.
    pub thermal_limit: i16,
    /// The effect of a metered network.
    pub metered: SuspendOn,
    /// The effect of a voice call.
    pub call: SuspendOn,
    /// The time at which a verified image is installed.
    pub install: InstallPolicy,
    /// The required consent, in addition to that of the device's own settings.
    pub consent: Consent,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            battery_floor: 15,
            memory_limit: 97,
            // Room for a reception is reserved when the device is armed.
            storage_limit: 100,
            thermal_limit: 85,
            metered: SuspendOn::Suspend,
            call: SuspendOn::Suspend,
            install: InstallPolicy::AtOnce,
            consent: Consent::None,
        }
    }
}

impl Policy {
    /// Returns the nodes with their values.
    #[must_use]
    pub fn nodes(&self) -> [(&'static str, String); 8] {
        PolicyNode::ALL.map(|node| (node.path(), self.value(node)))
    }

    fn value(&self, node: PolicyNode) -> String {
        match node {
            PolicyNode::Battery => self.battery_floor.to_string(),
            PolicyNode::Memory => self.memory_limit.to_string(),
            PolicyNode::Storage => self.storage_limit.to_string(),
            PolicyNode::Thermal => self.thermal_limit.to_string(),
            PolicyNode::Metered => self.metered.to_string(),
            PolicyNode::Call => self.call.to_string(),
            PolicyNode::Install => self.install.to_string(),
            PolicyNode::Consent => self.consent.as_str().to_owned(),
        }
    }

    /// Sets the value of a node.
    ///
    /// # Errors
    ///
    /// [`WireError::Invalid`] for an unknown node, or an invalid value.
    pub fn set(&mut self, node: &str, value: &str) -> Result<(), WireError> {
        let percent = || {
            let parsed: Option<u8> = value.parse().ok().filter(|percent| *percent <= 100);
            parsed.ok_or_else(|| WireError::invalid("percentage", value, "0 to 100"))
        };
        let Some(node) = PolicyNode::of_path(node) else {
            return Err(WireError::invalid("policy", node, "a node of the policy"));
        };
        match node {
            PolicyNode::Battery => self.battery_floor = percent()?,
            PolicyNode::Memory => self.memory_limit = percent()?,
            PolicyNode::Storage => self.storage_limit = percent()?,
            PolicyNode::Thermal => {
                let celsius = value.parse().ok().filter(|celsius| (-40..=200).contains(celsius));
                let wrong = || WireError::invalid("temperature", value, "-40 to 200");
                self.thermal_limit = celsius.ok_or_else(wrong)?;
            }
            PolicyNode::Metered => self.metered = value.parse()?,
            PolicyNode::Call => self.call = value.parse()?,
            PolicyNode::Install => self.install = value.parse()?,
            PolicyNode::Consent => self.consent = value.parse()?,
        }
        Ok(())
    }

    /// Returns the required consent, in addition to that of the device's own settings.
    #[must_use]
    pub const fn consent(&self) -> Consent {
        self.consent
    }

    /// Returns the policy with another required consent.
    #[must_use]
    pub const fn requiring(self, consent: Consent) -> Self {
        Self { consent, ..self }
    }

    /// Returns when a verified image is installed.
    #[must_use]
    pub const fn install(&self) -> InstallPolicy {
        self.install
    }

    /// Returns the active suspend reasons, given those that were active before.
    // spec: oma-002 2 (memory above its threshold, battery low, voice call, network lost)
    #[must_use]
    pub fn reasons(
        &self,
        readings: &Readings,
        conditions: &BTreeSet<ExternalCondition>,
        before: &BTreeSet<SuspendReason>,
    ) -> BTreeSet<SuspendReason> {
        let holds = |reason: &SuspendReason| {
            let margin = if before.contains(reason) { HYSTERESIS } else { 0 };
            self.suspends_for(*reason, margin, readings, conditions)
        };
        SuspendReason::ALL.into_iter().filter(holds).collect()
    }

    /// Returns whether a reason follows from the environment; a value has to be `margin` better
    /// than its threshold to end it.
    fn suspends_for(
        &self,
        reason: SuspendReason,
        margin: u8,
        readings: &Readings,
        conditions: &BTreeSet<ExternalCondition>,
    ) -> bool {
        let reported = |condition| conditions.contains(&condition);
        let above = |value: Option<u8>, limit: u8| {
            limit < 100 && value.is_some_and(|value| value > limit.saturating_sub(margin))
        };
        match reason {
            SuspendReason::User | SuspendReason::Server => false,
            SuspendReason::Battery => {
                let floor = self.battery_floor.saturating_add(margin);
                let low = self.battery_floor > 0
                    && !readings.on_mains
                    && readings.battery_percent.is_some_and(|percent| percent < floor);
                low || reported(ExternalCondition::Battery)
            }
            SuspendReason::Memory => {
                above(readings.memory_percent, self.memory_limit)
                    || above(readings.storage_percent, self.storage_limit)
                    || reported(ExternalCondition::Memory)
            }
            SuspendReason::Call => {
                reported(ExternalCondition::Call) && self.call == SuspendOn::Suspend
            }
            SuspendReason::Network => {
                let metered =
                    reported(ExternalCondition::Metered) && self.metered == SuspendOn::Suspend;
                readings.link_lost || reported(ExternalCondition::Network) || metered
            }
            SuspendReason::Thermal => {
                let limit = self.thermal_limit - i16::from(margin);
                readings.celsius.is_some_and(|celsius| celsius > limit)
                    || reported(ExternalCondition::Thermal)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(
        readings: Readings,
        conditions: &[ExternalCondition],
        before: &[SuspendReason],
    ) -> Vec<SuspendReason> {
        let policy = Policy { storage_limit: 95, ..Policy::default() };
        let (conditions, before) =
            (conditions.iter().copied().collect(), before.iter().copied().collect());
        policy.reasons(&readings, &conditions, &before).into_iter().collect()
    }

    // test: oma-002 2 (battery low)
    #[test]
    fn a_low_battery_is_a_reason_until_it_is_well_above_its_floor_or_on_mains() {
        use SuspendReason::Battery;
        let charge = |percent| Readings { battery_percent: Some(percent), ..Readings::default() };
        assert_eq!(reasons(charge(15), &[], &[]), []);
        assert_eq!(reasons(charge(14), &[], &[]), [Battery]);
        assert_eq!(reasons(charge(17), &[], &[Battery]), [Battery]);
        assert_eq!(reasons(charge(18), &[], &[Battery]), []);
        assert_eq!(reasons(Readings { on_mains: true, ..charge(1) }, &[], &[]), []);
        assert_eq!(reasons(Readings::default(), &[], &[Battery]), [], "no battery, no reason");
    }

    // test: oma-002 2 (memory usage above its threshold)
    #[test]
    fn memory_or_storage_above_its_threshold_is_one_reason() {
        use SuspendReason::Memory;
        let memory = |percent| Readings { memory_percent: Some(percent), ..Readings::default() };
        let storage = |percent| Readings { storage_percent: Some(percent), ..Readings::default() };
        assert_eq!(reasons(memory(97), &[], &[]), []);
        assert_eq!(reasons(memory(98), &[], &[]), [Memory]);
        assert_eq!(reasons(memory(95), &[], &[Memory]), [Memory]);
        assert_eq!(reasons(memory(94), &[], &[Memory]), []);
        assert_eq!(reasons(storage(96), &[], &[]), [Memory]);
        let off = Policy { storage_limit: 100, ..Policy::default() };
        let none = off.reasons(&storage(100), &BTreeSet::new(), &BTreeSet::from([Memory]));
        assert!(none.is_empty(), "a limit of 100 is never exceeded");
    }

    // test: oma-002 2 (voice call, network lost, heat)
    #[test]
    fn calls_networks_and_heat_are_reasons_and_several_hold_at_once() {
        use SuspendReason::{Call, Network, Thermal};
        let lost = Readings { link_lost: true, ..Readings::default() };
        assert_eq!(reasons(lost, &[ExternalCondition::Call], &[]), [Call, Network]);
        assert_eq!(reasons(Readings::default(), &[ExternalCondition::Metered], &[]), [Network]);
        let hot = Readings { celsius: Some(86), ..Readings::default() };
        assert_eq!(reasons(hot, &[], &[]), [Thermal]);
        assert_eq!(reasons(Readings { celsius: Some(83), ..hot }, &[], &[Thermal]), [Thermal]);
        assert_eq!(reasons(Readings { celsius: Some(82), ..hot }, &[], &[Thermal]), []);
        for condition in ExternalCondition::ALL {
            assert_eq!(condition.as_str().parse(), Ok(condition));
            assert_eq!(reasons(Readings::default(), &[condition], &[]).len(), 1, "{condition:?}");
        }
    }

    #[test]
    fn a_policy_is_read_as_it_is_written_and_accepts_nothing_else() {
        let mut policy = Policy::default();
        for (node, value) in [
            (PolicyNode::Battery.path(), "30"),
            (PolicyNode::Memory.path(), "80"),
            (PolicyNode::Storage.path(), "90"),
            (PolicyNode::Thermal.path(), "-5"),
            (PolicyNode::Metered.path(), "ignore"),
            (PolicyNode::Call.path(), "ignore"),
            (PolicyNode::Install.path(), "on-command"),
            (PolicyNode::Consent.path(), "install"),
        ] {
            policy.set(node, value).unwrap();
            assert!(policy.nodes().contains(&(node, value.to_owned())), "{node}");
            assert!(policy.set(node, "much").is_err(), "{node}");
        }
        assert!(policy.set(PolicyNode::Battery.path(), "101").is_err());
        assert!(policy.set(PolicyNode::Thermal.path(), "201").is_err());
        assert!(policy.set("Ext/Broadcast/Policy/Other", "1").is_err());
        let conditions = BTreeSet::from([ExternalCondition::Call, ExternalCondition::Metered]);
        assert!(policy.reasons(&Readings::default(), &conditions, &BTreeSet::new()).is_empty());
    }
}
