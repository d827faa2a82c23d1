//! Suspend and resume of the agent.
//!
//! User and server reasons are explicit and journaled; the others are derived from readings and
//! conditions, and are evaluated again whenever one of them changes.

use std::collections::BTreeSet;

use proto::{dm::fumo::Phase, time::Now};

use super::{Agent, AgentState};
use crate::suspension::{Environment, ExternalCondition, Readings, SuspendReason};

impl Agent {
    /// Stores the readings of the sensors.
    pub fn handle_readings(&mut self, now: Now, readings: Readings) {
        self.state.environment.readings = Some(readings);
        self.reevaluate(now);
    }

    /// Handles the begin of a condition, as a program on the device reports it.
    pub fn condition_began(&mut self, now: Now, condition: ExternalCondition) {
        if condition == ExternalCondition::Call {
            self.set_in_call(true);
        }
        self.state.environment.conditions.insert(condition);
        self.reevaluate(now);
    }

    /// Handles the end of a condition, as a program on the device reports it.
    pub fn condition_ended(&mut self, now: Now, condition: ExternalCondition) {
        if condition == ExternalCondition::Call {
            self.set_in_call(false);
        }
        self.state.environment.conditions.remove(&condition);
        self.reevaluate(now);
    }

    fn reevaluate(&mut self, now: Now) {
        self.state.reevaluate(now);
        self.abort_if_offline(now);
        self.start_due_session(now);
        self.state.commit_if_dirty();
    }
}

impl AgentState {
    /// Evaluates the reasons of the environment again; those of user and server are explicit.
    // spec: oma-002 2 (several reasons hold at once, resume needs none)
    pub(super) fn reevaluate(&mut self, now: Now) {
        let Environment { readings, conditions } = &self.environment;
        // No sensor was read yet: the reasons before the restart are still valid.
        if readings.is_none() && conditions.is_empty() && !self.persistent.suspended.is_empty() {
            return;
        }
        let readings = readings.unwrap_or_default();
        let holding =
            self.persistent.policy.reasons(&readings, conditions, &self.persistent.suspended);
        for reason in ENVIRONMENT_REASONS {
            if holding.contains(&reason) {
                self.suspend_for(now, reason);
            } else if self.persistent.suspended.contains(&reason) {
                self.resume_from(now, reason);
            }
        }
    }

    /// Returns whether a DM session may begin: not in a call, not without a network.
    pub(super) fn session_allowed(&self) -> bool {
        !self.is_offline() && !self.installing
    }

    /// Returns whether a call or a lost network prevents DM sessions.
    pub(super) fn is_offline(&self) -> bool {
        let Environment { readings, conditions } = &self.environment;
        let lost = readings.is_some_and(|readings| readings.link_lost);
        let in_call = self
            .persistent
            .policy
            .reasons(&Readings::default(), conditions, &BTreeSet::new())
            .contains(&SuspendReason::Call);
        lost || in_call || conditions.contains(&ExternalCondition::Network)
    }

    pub(super) fn suspend_for(&mut self, now: Now, reason: SuspendReason) {
        if self.operation.is_none() || !self.persistent.suspended.insert(reason) {
            return;
        }
        self.effects.mark_dirty();
        self.reception.flush();
        if self.phase() == Phase::Receiving {
            self.set_phase(Phase::Suspended);
        }
        self.tune(now);
    }

    pub(super) fn resume_from(&mut self, now: Now, reason: SuspendReason) {
        if !self.persistent.suspended.remove(&reason) {
            return;
        }
        self.effects.mark_dirty();
        if self.persistent.suspended.is_empty() && self.phase() == Phase::Suspended {
            self.set_phase(Phase::Receiving);
        }
        self.resume_reception(now);
        if self.persistent.suspended.is_empty() && self.phase() == Phase::Verified {
            self.after_verification(now);
        }
    }
}

/// The reasons that are derived from the environment.
const ENVIRONMENT_REASONS: [SuspendReason; 5] = [
    SuspendReason::Battery,
    SuspendReason::Memory,
    SuspendReason::Call,
    SuspendReason::Network,
    SuspendReason::Thermal,
];
