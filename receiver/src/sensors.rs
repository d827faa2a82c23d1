//! From what sensors show, and what programs on the device say, to reasons to rest.
//!
//! A core: the shell reads, this decides. A reason that came at its threshold goes only when the
//! value is [`MARGIN`] better, so that a device at the edge does not tune in and out all night.

use std::{collections::BTreeSet, fmt, str::FromStr};

use proto::{dm::policy::PolicyNode, wire::WireError};
use serde::Serialize;

use crate::{suspension::SuspendReason, user::Consent};

/// How much better than its threshold a value must be before its reason goes.
pub const MARGIN: u8 = 3;

/// What the sensors show; what a device does not have, or cannot read, is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Readings {
    /// Charge of the battery, per cent.
    pub battery_percent: Option<u8>,
    /// Whether the device runs on a supply that does not end.
    pub on_mains: bool,
    /// Memory that is in use, per cent.
    pub memory_percent: Option<u8>,
    /// Storage of the data directory that is in use, per cent.
    pub storage_percent: Option<u8>,
    /// Whether the link is gone.
    pub link_lost: bool,
    /// The hottest zone, degrees Celsius.
    pub celsius: Option<i16>,
}

/// What a program on the device says that no sensor shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// A voice call goes on.
    Call,
    /// The network costs money.
    Metered,
    /// There is no network.
    Network,
    /// The battery is low.
    Battery,
    /// Memory or storage is short.
    Memory,
    /// The device is too hot.
    Thermal,
}

impl Told {
    const ALL: [Self; 6] =
        [Self::Call, Self::Metered, Self::Network, Self::Battery, Self::Memory, Self::Thermal];

    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Metered => "metered",
            Self::Network => "network",
            Self::Battery => "battery",
            Self::Memory => "memory",
            Self::Thermal => "thermal",
        }
    }
}

impl FromStr for Told {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        Self::ALL.into_iter().find(|told| told.as_str() == word).ok_or_else(|| {
            WireError::invalid("reason", word, "user, call, metered, network, battery, …")
        })
    }
}

/// Whether something makes the device rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does.
    Suspend,
    /// It does not.
    Ignore,
}

impl fmt::Display for Effect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Suspend => "suspend",
            Self::Ignore => "ignore",
        })
    }
}

impl FromStr for Effect {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        match word {
            "suspend" => Ok(Self::Suspend),
            "ignore" => Ok(Self::Ignore),
            _ => Err(WireError::invalid("effect", word, "suspend or ignore")),
        }
    }
}

/// When a verified image is handed to the installer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Install {
    /// As soon as it is verified, where the Exec asked for the installation.
    #[default]
    AtOnce,
    /// When the server says `Update`, or sets [`Self::AtOnce`] again.
    OnCommand,
}

impl fmt::Display for Install {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AtOnce => "at-once",
            Self::OnCommand => "on-command",
        })
    }
}

impl FromStr for Install {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        match word {
            "at-once" => Ok(Self::AtOnce),
            "on-command" => Ok(Self::OnCommand),
            _ => Err(WireError::invalid("install", word, "at-once or on-command")),
        }
    }
}

/// Thresholds and choices that a server can set: the nodes below `Ext/Broadcast/Policy`.
///
/// # Units
///
/// Percentages from 0 to 100, degrees Celsius from -40 to 200. A threshold of 100 is never
/// exceeded, nor is a floor of 0 ever undercut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Below this charge the device rests, unless it is on mains.
    pub battery_floor: u8,
    /// Above this share of memory in use it rests.
    pub memory_limit: u8,
    /// Above this share of storage in use it rests.
    pub storage_limit: u8,
    /// Above this temperature it rests.
    pub thermal_limit: i16,
    /// What a metered network does.
    pub metered: Effect,
    /// What a voice call does.
    pub call: Effect,
    /// When a verified image is installed.
    pub install: Install,
    /// What the user is asked, beside what the device's own settings ask.
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
            metered: Effect::Suspend,
            call: Effect::Suspend,
            install: Install::AtOnce,
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
    /// [`WireError::Invalid`] for a node that there is not, or a value that it does not take.
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

    /// Returns the reasons to rest that hold, given those that held before.
    // spec: oma-002 2 (memory above its threshold, battery low, voice call, network lost)
    #[must_use]
    pub fn reasons(
        &self,
        readings: &Readings,
        told: &BTreeSet<Told>,
        before: &BTreeSet<SuspendReason>,
    ) -> BTreeSet<SuspendReason> {
        let said = |told_this| told.contains(&told_this);
        let margin = |reason| if before.contains(&reason) { MARGIN } else { 0 };
        let above = |value: Option<u8>, limit: u8| {
            let limit_now = limit.saturating_sub(margin(SuspendReason::Memory));
            limit < 100 && value.is_some_and(|value| value > limit_now)
        };
        let floor = self.battery_floor.saturating_add(margin(SuspendReason::Battery));
        let low = self.battery_floor > 0
            && !readings.on_mains
            && readings.battery_percent.is_some_and(|percent| percent < floor);
        let limit = self.thermal_limit - i16::from(margin(SuspendReason::Thermal));
        let hot = readings.celsius.is_some_and(|celsius| celsius > limit);
        let metered = said(Told::Metered) && self.metered == Effect::Suspend;
        [
            (SuspendReason::Battery, low || said(Told::Battery)),
            (
                SuspendReason::Memory,
                above(readings.memory_percent, self.memory_limit)
                    || above(readings.storage_percent, self.storage_limit)
                    || said(Told::Memory),
            ),
            (SuspendReason::Call, said(Told::Call) && self.call == Effect::Suspend),
            (SuspendReason::Network, readings.link_lost || said(Told::Network) || metered),
            (SuspendReason::Thermal, hot || said(Told::Thermal)),
        ]
        .into_iter()
        .filter_map(|(reason, holds)| holds.then_some(reason))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use proto::dm::nodes::broadcast;

    use super::*;

    fn judged(readings: Readings, told: &[Told], before: &[SuspendReason]) -> Vec<SuspendReason> {
        let policy = Policy { storage_limit: 95, ..Policy::default() };
        let (told, before) = (told.iter().copied().collect(), before.iter().copied().collect());
        policy.reasons(&readings, &told, &before).into_iter().collect()
    }

    // test: oma-002 2 (battery low)
    #[test]
    fn a_low_battery_is_a_reason_until_it_is_well_above_its_floor_or_on_mains() {
        use SuspendReason::Battery;
        let charge = |percent| Readings { battery_percent: Some(percent), ..Readings::default() };
        assert_eq!(judged(charge(15), &[], &[]), []);
        assert_eq!(judged(charge(14), &[], &[]), [Battery]);
        assert_eq!(judged(charge(17), &[], &[Battery]), [Battery]);
        assert_eq!(judged(charge(18), &[], &[Battery]), []);
        assert_eq!(judged(Readings { on_mains: true, ..charge(1) }, &[], &[]), []);
        assert_eq!(judged(Readings::default(), &[], &[Battery]), [], "no battery, no reason");
    }

    // test: oma-002 2 (memory usage above its threshold)
    #[test]
    fn memory_or_storage_above_its_threshold_is_one_reason() {
        use SuspendReason::Memory;
        let memory = |percent| Readings { memory_percent: Some(percent), ..Readings::default() };
        let storage = |percent| Readings { storage_percent: Some(percent), ..Readings::default() };
        assert_eq!(judged(memory(97), &[], &[]), []);
        assert_eq!(judged(memory(98), &[], &[]), [Memory]);
        assert_eq!(judged(memory(95), &[], &[Memory]), [Memory]);
        assert_eq!(judged(memory(94), &[], &[Memory]), []);
        assert_eq!(judged(storage(96), &[], &[]), [Memory]);
        let off = Policy { storage_limit: 100, ..Policy::default() };
        let none = off.reasons(&storage(100), &BTreeSet::new(), &BTreeSet::from([Memory]));
        assert!(none.is_empty(), "a limit of 100 is never exceeded");
    }

    // test: oma-002 2 (voice call, network lost, heat)
    #[test]
    fn calls_networks_and_heat_are_reasons_and_several_hold_at_once() {
        use SuspendReason::{Call, Network, Thermal};
        let lost = Readings { link_lost: true, ..Readings::default() };
        assert_eq!(judged(lost, &[Told::Call], &[]), [Call, Network]);
        assert_eq!(judged(Readings::default(), &[Told::Metered], &[]), [Network]);
        let hot = Readings { celsius: Some(86), ..Readings::default() };
        assert_eq!(judged(hot, &[], &[]), [Thermal]);
        assert_eq!(judged(Readings { celsius: Some(83), ..hot }, &[], &[Thermal]), [Thermal]);
        assert_eq!(judged(Readings { celsius: Some(82), ..hot }, &[], &[Thermal]), []);
        for told in Told::ALL {
            assert_eq!(told.as_str().parse(), Ok(told));
            assert_eq!(judged(Readings::default(), &[told], &[]).len(), 1, "{told:?}");
        }
    }

    #[test]
    fn a_policy_is_read_as_it_is_written_and_takes_nothing_else() {
        let mut policy = Policy::default();
        for (node, value) in [
            (broadcast::POLICY_BATTERY, "30"),
            (broadcast::POLICY_MEMORY, "80"),
            (broadcast::POLICY_STORAGE, "90"),
            (broadcast::POLICY_THERMAL, "-5"),
            (broadcast::POLICY_METERED, "ignore"),
            (broadcast::POLICY_CALL, "ignore"),
            (broadcast::POLICY_INSTALL, "on-command"),
            (broadcast::POLICY_CONSENT, "install"),
        ] {
            policy.set(node, value).unwrap();
            assert!(policy.nodes().contains(&(node, value.to_owned())), "{node}");
            assert!(policy.set(node, "much").is_err(), "{node}");
        }
        assert!(policy.set(broadcast::POLICY_BATTERY, "101").is_err());
        assert!(policy.set(broadcast::POLICY_THERMAL, "201").is_err());
        assert!(policy.set("Ext/Broadcast/Policy/Other", "1").is_err());
        let told = BTreeSet::from([Told::Call, Told::Metered]);
        assert!(policy.reasons(&Readings::default(), &told, &BTreeSet::new()).is_empty());
    }
}
