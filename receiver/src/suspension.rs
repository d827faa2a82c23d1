//! Suspend and resume: reception stops while at least one reason is active, and what was received
//! stays.
//!
//! User and server reasons are explicit; the others follow from the environment by the policy.

mod policy;
mod reason;

use std::collections::BTreeSet;

use proto::{
    dm::{code::StatusCode, policy::PolicyNode},
    wire::WireError,
};

pub use self::{
    policy::{HYSTERESIS, InstallPolicy, Policy, Readings, SuspendOn},
    reason::{ExternalCondition, Source, SuspendReason},
};
use crate::{
    store::journal_state::{JournalState, PolicySetting},
    user::{Consent, UserInterface},
};

/// The active suspend reasons, and the environment and the policy from which some of them follow.
#[derive(Debug)]
pub(crate) struct Suspension {
    reasons: BTreeSet<SuspendReason>,
    policy: Policy,
    /// Absent until sensors are read: the reasons in the journal are valid until then.
    readings: Option<Readings>,
    conditions: BTreeSet<ExternalCondition>,
}

/// A change of a suspend reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SuspensionEvent {
    /// A reason holds.
    Holds(SuspendReason),
    /// A reason does not hold any more.
    Ended(SuspendReason),
}

impl Suspension {
    /// Restores reasons and policy. A call that began in the same boot of the machine is still in
    /// progress.
    pub(crate) fn from_journal(state: &JournalState, boot_id: &str) -> Result<Self, WireError> {
        let words = state.suspend_reasons.iter();
        let reasons: BTreeSet<_> =
            words.filter_map(|word| word.parse::<SuspendReason>().ok()).collect();
        let mut policy = Policy::default();
        for setting in &state.policy {
            policy.set(&setting.node, &setting.value)?;
        }
        let same_boot = state.tune_ins.first().is_some_and(|record| record.boot_id == boot_id);
        let call = same_boot && reasons.contains(&SuspendReason::Call);
        let conditions = call.then_some(ExternalCondition::Call).into_iter().collect();
        Ok(Self { reasons, policy, readings: None, conditions })
    }

    /// Writes reasons and policy into the journal.
    pub(crate) fn write_journal(&self, state: &mut JournalState) {
        state.suspend_reasons = self.reasons();
        let setting =
            |(node, value): (&str, String)| PolicySetting { node: node.to_owned(), value };
        state.policy = self.policy.nodes().map(setting).into();
    }

    /// Returns whether reception is suspended.
    pub(crate) fn is_active(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// Returns the active reasons.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.reasons.iter().map(ToString::to_string).collect()
    }

    /// Adds a reason; returns whether it was not active.
    pub(crate) fn add(&mut self, reason: SuspendReason) -> bool {
        self.reasons.insert(reason)
    }

    /// Removes a reason; returns whether it was active.
    pub(crate) fn remove(&mut self, reason: SuspendReason) -> bool {
        self.reasons.remove(&reason)
    }

    /// Removes all reasons at the end of an operation.
    pub(crate) fn clear(&mut self) {
        self.reasons.clear();
    }

    /// Stores the readings of the sensors.
    pub(crate) const fn handle_readings(&mut self, readings: Readings) {
        self.readings = Some(readings);
    }

    /// Stores the begin of a condition.
    pub(crate) fn condition_began(&mut self, condition: ExternalCondition) {
        self.conditions.insert(condition);
    }

    /// Stores the end of a condition.
    pub(crate) fn condition_ended(&mut self, condition: ExternalCondition) {
        self.conditions.remove(&condition);
    }

    /// Returns the readings of the sensors, once they were read.
    pub(crate) const fn readings(&self) -> Option<Readings> {
        self.readings
    }

    /// Evaluates the reasons of the environment; those of user and server are explicit.
    // spec: oma-002 2 (several reasons hold at once, resume needs none)
    pub(crate) fn evaluate(&self) -> Vec<SuspensionEvent> {
        // No sensor was read yet: the reasons before the restart are still valid.
        if self.readings.is_none() && self.conditions.is_empty() && self.is_active() {
            return Vec::new();
        }
        let readings = self.readings.unwrap_or_default();
        let holding = self.policy.reasons(&readings, &self.conditions, &self.reasons);
        let event = |reason| {
            let holds = holding.contains(&reason);
            if holds { SuspensionEvent::Holds(reason) } else { SuspensionEvent::Ended(reason) }
        };
        let reasons = SuspendReason::ALL.into_iter();
        reasons.filter(|reason| reason.source() == Source::Environment).map(event).collect()
    }

    /// Returns whether a call or a lost network prevents DM sessions.
    pub(crate) fn is_offline(&self) -> bool {
        let lost = self.readings.is_some_and(|readings| readings.link_lost);
        let in_call = self
            .policy
            .reasons(&Readings::default(), &self.conditions, &BTreeSet::new())
            .contains(&SuspendReason::Call);
        lost || in_call || self.conditions.contains(&ExternalCondition::Network)
    }

    /// Returns the policy.
    pub(crate) const fn policy(&self) -> Policy {
        self.policy
    }

    /// Sets a node of the policy, where the device's own consent setting and its user interface
    /// allow the value.
    ///
    /// # Errors
    ///
    /// The status for the server.
    pub(crate) fn set_policy(
        &mut self,
        node: &str,
        value: &str,
        own: Consent,
        front: &UserInterface,
    ) -> Result<(), StatusCode> {
        let mut policy = self.policy;
        if let Err(error) = policy.set(node, value) {
            tracing::info!(%error, "policy rejected");
            return Err(StatusCode::BAD_REQUEST);
        }
        let consent = policy.consent();
        if node == PolicyNode::Consent.path() && consent.and(own) != consent {
            tracing::info!(value, "policy rejected: weaker than the device's own consent setting");
            return Err(StatusCode::FORBIDDEN);
        }
        if consent != Consent::None && *front == UserInterface::Absent {
            tracing::info!(value, "policy rejected: no user interface");
            return Err(StatusCode::NOT_SUPPORTED);
        }
        self.policy = policy;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_and_policy_are_read_as_they_were_written() {
        let mut suspension = Suspension::from_journal(&JournalState::default(), "boot").unwrap();
        assert!(suspension.add(SuspendReason::Battery) && suspension.add(SuspendReason::User));
        let set = |suspension: &mut Suspension, node, value| {
            suspension.set_policy(node, value, Consent::None, &UserInterface::Absent)
        };
        assert_eq!(set(&mut suspension, PolicyNode::Battery.path(), "33"), Ok(()));
        assert_eq!(set(&mut suspension, PolicyNode::Thermal.path(), "-7"), Ok(()));
        let write = |suspension: &Suspension| {
            let mut state = JournalState::default();
            suspension.write_journal(&mut state);
            state
        };
        let state = write(&suspension);
        assert_eq!(state.suspend_reasons, ["user", "battery"]);
        assert_eq!(write(&Suspension::from_journal(&state, "boot").unwrap()), state);
    }
}
