//! When the device rests: reasons of sensors, of programs on the device, of user and server.
//!
//! Reasons of user and server come and go by their word and are kept in the journal. The others
//! are a state of the world: what sensors and programs say counts at this moment, for whatever the
//! device is armed with, and is judged again when any of it changes.

use std::collections::BTreeSet;

use proto::{dm::fumo::Phase, time::Now};

use super::{Agent, Core};
use crate::{
    sensors::{Readings, Told},
    suspension::SuspendReason,
};

/// What is known of the world around.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Absent until sensors were read: what the journal says stands until then.
    readings: Option<Readings>,
    told: BTreeSet<Told>,
}

impl World {
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
        self.core.world.readings = Some(readings);
        self.judge_world(now);
    }

    /// Takes the word of a program on the device that something began.
    pub fn handle_told(&mut self, now: Now, told: Told) {
        if told == Told::Call {
            self.set_in_call(true);
        }
        self.core.world.told.insert(told);
        self.judge_world(now);
    }

    /// Takes the word of a program on the device that it is over.
    pub fn handle_told_over(&mut self, now: Now, told: Told) {
        if told == Told::Call {
            self.set_in_call(false);
        }
        self.core.world.told.remove(&told);
        self.judge_world(now);
    }

    fn judge_world(&mut self, now: Now) {
        self.core.judge_world(now);
        self.keep_silent(now);
        self.start_due_session(now);
        self.core.settle();
    }
}

impl Core {
    /// Brings the reasons of the world in line with it; those of user and server are theirs.
    // spec: oma-002 2 (several reasons hold at once, resume needs none)
    pub(super) fn judge_world(&mut self, now: Now) {
        let World { readings, told } = &self.world;
        // Nobody has looked yet: what was true before the restart is taken to be true still.
        if readings.is_none() && told.is_empty() && !self.books.suspended.is_empty() {
            return;
        }
        let readings = readings.unwrap_or_default();
        let holding = self.books.policy.reasons(&readings, told, &self.books.suspended);
        for reason in OF_THE_WORLD {
            if holding.contains(&reason) {
                self.suspend_for(now, reason);
            } else if self.books.suspended.contains(&reason) {
                self.resume_from(now, reason);
            }
        }
    }

    /// Whether the device can and may talk to its server: not in a call, not without a network.
    pub(super) fn may_talk(&self) -> bool {
        !self.is_cut_off() && !self.installing
    }

    /// Whether the world around keeps the device from talking.
    pub(super) fn is_cut_off(&self) -> bool {
        let World { readings, told } = &self.world;
        let lost = readings.is_some_and(|readings| readings.link_lost);
        let in_call = self
            .books
            .policy
            .reasons(&Readings::default(), told, &BTreeSet::new())
            .contains(&SuspendReason::Call);
        lost || in_call || told.contains(&Told::Network)
    }

    pub(super) fn suspend_for(&mut self, now: Now, reason: SuspendReason) {
        if self.operation.is_none() || !self.books.suspended.insert(reason) {
            return;
        }
        self.outputs.mark_changed();
        if let Some(object) = self.object_mut() {
            object.log_mut().flush();
        }
        if self.phase() == Phase::Receiving {
            self.enter(Phase::Suspended);
        }
        self.tune(now);
    }

    pub(super) fn resume_from(&mut self, now: Now, reason: SuspendReason) {
        if !self.books.suspended.remove(&reason) {
            return;
        }
        self.outputs.mark_changed();
        if self.books.suspended.is_empty() && self.phase() == Phase::Suspended {
            self.enter(Phase::Receiving);
        }
        self.go_on(now);
        if self.books.suspended.is_empty() && self.phase() == Phase::Verified {
            self.proceed(now);
        }
    }
}

/// The reasons that are judged by what the world is like.
const OF_THE_WORLD: [SuspendReason; 5] = [
    SuspendReason::Battery,
    SuspendReason::Memory,
    SuspendReason::Call,
    SuspendReason::Network,
    SuspendReason::Thermal,
];
