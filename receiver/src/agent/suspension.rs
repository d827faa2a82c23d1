//! Suspend and resume of the agent.
//!
//! User and server reasons are explicit and journaled; the others are derived from readings and
//! conditions, and are evaluated again whenever one of them changes.

use proto::{dm::fumo::Phase, time::Now};

use super::{Agent, AgentState};
use crate::suspension::{ExternalCondition, Readings, SuspendReason, SuspensionEvent};

impl Agent {
    /// Stores the readings of the sensors.
    pub fn handle_readings(&mut self, now: Now, readings: Readings) {
        self.state.suspension.handle_readings(readings);
        self.reevaluate(now);
    }

    /// Handles the begin of a condition, as a program on the device reports it.
    pub fn condition_began(&mut self, now: Now, condition: ExternalCondition) {
        if condition == ExternalCondition::Call {
            self.state.prompts.call_began();
        }
        self.state.suspension.condition_began(condition);
        self.reevaluate(now);
    }

    /// Handles the end of a condition, as a program on the device reports it.
    pub fn condition_ended(&mut self, now: Now, condition: ExternalCondition) {
        if condition == ExternalCondition::Call {
            self.state.prompts.call_ended();
            self.state.show_next_prompt();
        }
        self.state.suspension.condition_ended(condition);
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
    /// Evaluates the reasons of the environment again.
    pub(super) fn reevaluate(&mut self, now: Now) {
        for event in self.suspension.evaluate() {
            match event {
                SuspensionEvent::Holds(reason) => self.suspend_for(now, reason),
                SuspensionEvent::Ended(reason) => self.resume_from(now, reason),
            }
        }
    }

    /// Returns whether a DM session may begin: not in a call, not without a network.
    pub(super) fn session_allowed(&self) -> bool {
        !self.suspension.is_offline() && !self.installer.is_running()
    }

    pub(super) fn suspend_for(&mut self, now: Now, reason: SuspendReason) {
        if !self.update.is_armed() || !self.suspension.add(reason) {
            return;
        }
        self.effects.mark_dirty();
        self.reception.flush();
        self.update.suspend();
        self.tune(now);
    }

    pub(super) fn resume_from(&mut self, now: Now, reason: SuspendReason) {
        if !self.suspension.remove(reason) {
            return;
        }
        self.effects.mark_dirty();
        if !self.suspension.is_active() {
            self.update.resume();
        }
        self.resume_reception(now);
        if !self.suspension.is_active() && self.phase() == Phase::Verified {
            self.after_verification(now);
        }
    }
}
