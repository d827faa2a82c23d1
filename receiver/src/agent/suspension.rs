//! When the device rests: reasons of sensors, of programs on the device, of user and server.
//!
//! Reasons of user and server come and go by their word and are kept in the journal. The others
//! are a state of the world: what sensors and programs say counts at this moment, for whatever the
//! device is armed with, and is judged again when any of it changes.

use std::collections::BTreeSet;

use proto::{dm::fumo::Phase, time::Now};

use super::{Agent, AgentState};
use crate::{
    sensors::{Readings, Told},
    suspension::SuspendReason,
};

/// What is known of the world around.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// Absent until sensors were read: what the journal says stands until then.
    readings: Option<Readings>,
    told: BTreeSet<Told>,
}

impl Environment {
    /// A call that the same boot of the machine has seen begin still goes on.
    pub(super) fn recovered(suspended: &BTreeSet<SuspendReason>, same_boot: bool) -> Self {
        let call = same_boot && suspended.contains(&SuspendReason::Call);
        Self { readings: None, told: call.then_some(Told::Call).into_iter().collect() }
    }

    pub(super) const fn readings(&self) -> Option<Readings> {
        self.readings
    }
}

impl Agent {
    /// Takes what the sensors show.
    pub fn handle_readings(&mut self, now: Now, readings: Readings) {
        self.state.environment.readings = Some(readings);
        self.reevaluate(now);
    }

    /// Takes the word of a program on the device that something began.
    pub fn condition_began(&mut self, now: Now, told: Told) {
        if told == Told::Call {
            self.set_in_call(true);
        }
        self.state.environment.told.insert(told);
        self.reevaluate(now);
    }

    /// Takes the word of a program on the device that it is over.
    pub fn condition_ended(&mut self, now: Now, told: Told) {
        if told == Told::Call {
            self.set_in_call(false);
        }
        self.state.environment.told.remove(&told);
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
    /// Brings the reasons of the world in line with it; those of user and server are theirs.
    // spec: oma-002 2 (several reasons hold at once, resume needs none)
    pub(super) fn reevaluate(&mut self, now: Now) {
        let Environment { readings, told } = &self.environment;
        // Nobody has looked yet: what was true before the restart is taken to be true still.
        if readings.is_none() && told.is_empty() && !self.persistent.suspended.is_empty() {
            return;
        }
        let readings = readings.unwrap_or_default();
        let holding = self.persistent.policy.reasons(&readings, told, &self.persistent.suspended);
        for reason in ENVIRONMENT_REASONS {
            if holding.contains(&reason) {
                self.suspend_for(now, reason);
            } else if self.persistent.suspended.contains(&reason) {
                self.resume_from(now, reason);
            }
        }
    }

    /// Whether the device can and may talk to its server: not in a call, not without a network.
    pub(super) fn session_allowed(&self) -> bool {
        !self.is_offline() && !self.installing
    }

    /// Whether the world around keeps the device from talking.
    pub(super) fn is_offline(&self) -> bool {
        let Environment { readings, told } = &self.environment;
        let lost = readings.is_some_and(|readings| readings.link_lost);
        let in_call = self
            .persistent
            .policy
            .reasons(&Readings::default(), told, &BTreeSet::new())
            .contains(&SuspendReason::Call);
        lost || in_call || told.contains(&Told::Network)
    }

    pub(super) fn suspend_for(&mut self, now: Now, reason: SuspendReason) {
        if self.operation.is_none() || !self.persistent.suspended.insert(reason) {
            return;
        }
        self.effects.mark_dirty();
        if let Some(object) = self.object_mut() {
            object.log_mut().flush();
        }
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

/// The reasons that are judged by what the world is like.
const ENVIRONMENT_REASONS: [SuspendReason; 5] = [
    SuspendReason::Battery,
    SuspendReason::Memory,
    SuspendReason::Call,
    SuspendReason::Network,
    SuspendReason::Thermal,
];
