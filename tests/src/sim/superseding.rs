//! The world of a seed without its faults, again and again: each time another campaign supersedes
//! the first one at another step of a device, which is notified at once.

use super::{
    fault::{At, ClockSurvival, Fault, FaultKind, Span},
    package::Follows,
    scenario::{NotificationTimes, Scenario},
    simulation,
    trace::Recording,
};

/// Storage operations after the superseding campaign's start within which the power is cut.
const CUT_WITHIN: u64 = 60;
/// Time within which those operations come.
const CUT_TIME: u64 = 100_000;

/// Returns the world of a seed in which nothing goes wrong.
fn undisturbed(seed: u64) -> Scenario {
    let mut scenario = Scenario::draw(seed);
    scenario.faults.clear();
    for device in &mut scenario.devices {
        device.is_notified = true;
        device.is_addressed = true;
    }
    scenario.notifications = Some(NotificationTimes { sent_within: 1, on_its_way: 2 });
    scenario
}

/// Returns the worlds of a seed: for each step of a device and each relation of the campaigns, one
/// without and one with a power cut soon after.
pub fn worlds(seed: u64) -> Vec<Scenario> {
    let base = undisturbed(seed);
    let outcome = simulation::run(base.clone(), Recording::Digest, None);
    let mut worlds = Vec::new();
    for (number, at) in outcome.device_steps.iter().enumerate() {
        for follows in Follows::ALL {
            let mut scenario = base.clone();
            let span = Span { from: *at, to: At(at.0 + 1) };
            scenario.faults.push(Fault { whose: 0, span, kind: FaultKind::Supersede(follows) });
            worlds.push(scenario.clone());
            let operations = 1 + (number as u64 * 7) % CUT_WITHIN;
            let kind = FaultKind::CutAtOperation { operations, clock: ClockSurvival::Kept };
            let span = Span { from: *at, to: At(at.0 + CUT_TIME) };
            let whose = number % scenario.devices.len();
            scenario.faults.push(Fault { whose, span, kind });
            worlds.push(scenario);
        }
    }
    worlds
}
