//! The transitions of each state on each event, as a table, before and after a restart; and the
//! suspend reasons of the environment.

use super::*;
use crate::suspension::{ExternalCondition, Policy, Readings};

/// The state of a device before the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Idle,
    Armed,
    Receiving,
    Suspended,
    Assembled,
    Verified,
    HandedOver,
    Reporting,
}

/// The event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    WindowOpens,
    Trigger,
    SameExec,
    OtherArm,
    NewerArm,
    Disarm,
    Notification,
}

/// The result: phase, joined channels, active reasons, queued results.
type Expected = (Phase, usize, usize, &'static [u16]);

const EVENTS: [Event; 7] = [
    Event::WindowOpens,
    Event::Trigger,
    Event::SameExec,
    Event::OtherArm,
    Event::NewerArm,
    Event::Disarm,
    Event::Notification,
];

/// In the order of [`EVENTS`].
const TABLE: [(Row, [Expected; 7]); 8] = [
    (
        Row::Idle,
        [
            (Phase::Idle, 0, 0, &[]),
            (Phase::Idle, 0, 0, &[]),
            (Phase::Armed, 0, 0, &[]),
            (Phase::Armed, 0, 0, &[]),
            (Phase::Armed, 0, 0, &[]),
            (Phase::Idle, 0, 0, &[]),
            (Phase::Idle, 0, 0, &[]),
        ],
    ),
    (
        Row::Armed,
        [
            (Phase::Receiving, 1, 0, &[]),
            (Phase::Armed, 0, 1, &[]),
            (Phase::Armed, 0, 0, &[]),
            (Phase::Armed, 0, 0, &[455]),
            (Phase::Armed, 0, 0, &[453]),
            (Phase::Disarmed, 0, 0, &[453]),
            (Phase::Armed, 0, 0, &[]),
        ],
    ),
    (
        Row::Receiving,
        [
            (Phase::Receiving, 1, 0, &[]),
            (Phase::Suspended, 0, 1, &[]),
            (Phase::Receiving, 1, 0, &[]),
            (Phase::Receiving, 1, 0, &[455]),
            (Phase::Receiving, 1, 0, &[453]),
            (Phase::Disarmed, 0, 0, &[453]),
            (Phase::Receiving, 1, 0, &[]),
        ],
    ),
    (
        Row::Suspended,
        [
            (Phase::Suspended, 0, 1, &[]),
            (Phase::Suspended, 0, 2, &[]),
            (Phase::Suspended, 0, 1, &[]),
            (Phase::Suspended, 0, 1, &[455]),
            (Phase::Receiving, 1, 0, &[453]),
            (Phase::Disarmed, 0, 0, &[453]),
            (Phase::Suspended, 0, 1, &[]),
        ],
    ),
    (
        Row::Assembled,
        [
            (Phase::Confirmed, 0, 0, &[200]),
            // The write is finished, then reception is suspended.
            (Phase::Verified, 0, 1, &[]),
            (Phase::Confirmed, 0, 0, &[200]),
            (Phase::Confirmed, 0, 0, &[455, 200]),
            (Phase::Confirmed, 0, 0, &[452, 200]),
            (Phase::Disarmed, 0, 0, &[453]),
            (Phase::Confirmed, 0, 0, &[200]),
        ],
    ),
    (
        Row::Verified,
        [
            (Phase::Verified, 0, 1, &[]),
            (Phase::Verified, 0, 2, &[]),
            (Phase::Verified, 0, 1, &[]),
            (Phase::Verified, 0, 1, &[455]),
            (Phase::Verified, 0, 1, &[452]),
            (Phase::Disarmed, 0, 0, &[453]),
            (Phase::Verified, 0, 1, &[]),
        ],
    ),
    (
        Row::HandedOver,
        [
            (Phase::Confirmed, 0, 0, &[200]),
            // An installation is never interrupted.
            (Phase::Confirmed, 0, 0, &[200]),
            (Phase::Confirmed, 0, 0, &[200]),
            (Phase::Confirmed, 0, 0, &[455, 200]),
            (Phase::Confirmed, 0, 0, &[452, 200]),
            (Phase::Confirmed, 0, 0, &[200]),
            (Phase::Confirmed, 0, 0, &[200]),
        ],
    ),
    (
        // The next arming is taken at once: the result that waits keeps its place and its slot.
        Row::Reporting,
        [
            (Phase::Confirmed, 0, 0, &[200]),
            (Phase::Confirmed, 0, 0, &[200]),
            // The same Exec again has this result.
            (Phase::Confirmed, 0, 0, &[200]),
            (Phase::Refused, 0, 0, &[200, 455]),
            (Phase::Idle, 0, 0, &[200, 251]),
            (Phase::Confirmed, 0, 0, &[200]),
            (Phase::Confirmed, 0, 0, &[200]),
        ],
    ),
];

impl Device {
    fn standing(row: Row) -> Self {
        let mut device = Self::new();
        let listen = |device: &mut Self| {
            device.arm();
            device.to(OPENS);
            device.receive_some(45);
        };
        match row {
            Row::Idle => {}
            Row::Armed => device.arm(),
            Row::Receiving => listen(&mut device),
            Row::Suspended => {
                listen(&mut device);
                device.agent.handle_suspend(device.now, SuspendReason::User);
                device.run();
            }
            Row::Assembled | Row::HandedOver => {
                device.held = if row == Row::Assembled { Held::Finish } else { Held::Install };
                listen(&mut device);
                device.receive_pass();
                let phase =
                    if row == Row::Assembled { Phase::Assembled } else { Phase::HandedOver };
                assert_eq!(device.phase(), phase);
            }
            Row::Verified => {
                device.held = Held::Finish;
                listen(&mut device);
                device.receive_pass();
                device.agent.handle_suspend(device.now, SuspendReason::User);
                device.release();
                assert_eq!(device.phase(), Phase::Verified);
            }
            Row::Reporting => {
                listen(&mut device);
                device.receive_pass();
                assert_eq!(device.phase(), Phase::Confirmed);
            }
        }
        device
    }

    fn happen(&mut self, event: Event) {
        let correlator = |name: &str| Some(Correlator(name.to_owned()));
        match event {
            Event::WindowOpens => self.to(OPENS + 1),
            Event::Trigger => {
                let low = Readings { battery_percent: Some(1), ..Readings::default() };
                self.agent.handle_readings(self.now, low);
            }
            Event::SameExec => self.arm(),
            Event::OtherArm | Event::NewerArm => {
                self.broadcast.campaign.sequence = if event == Event::OtherArm { 4 } else { 9 };
                self.broadcast.campaign.id = proto::ids::CampaignId([0x77; 16]);
                let request = ArmRequest { correlator: correlator("c-2"), ..self.request() };
                self.arm_with(request);
            }
            Event::Disarm => {
                self.agent.owners.disarm(self.now);
                self.agent.settle(self.now);
            }
            Event::Notification => self.agent.check_in(self.now),
        }
        self.run();
    }

    fn seen(&self) -> (Phase, usize, usize, Vec<u16>) {
        let reasons = self.agent.status().reasons.len();
        (self.phase(), self.joined.len(), reasons, self.results())
    }
}

// test: oma-002 3 (every state and every event)
#[test]
fn every_state_handles_every_event_as_in_the_table() {
    for (row, expected) in TABLE {
        for (event, (phase, joined, reasons, results)) in EVENTS.into_iter().zip(expected) {
            let mut device = Device::standing(row);
            device.posts = 0;
            device.happen(event);
            if device.held == Held::Install {
                assert_eq!(device.posts, 0, "{row:?} {event:?}: no session beside an installer");
            }
            device.release();
            let expected = (phase, joined, reasons, results.to_vec());
            assert_eq!(device.seen(), expected, "{row:?} {event:?}");
            if event == Event::Notification {
                assert!(device.posts > 0, "{row:?}: the session takes place");
            }
        }
    }
}

// test: oma-002 3 (every state survives a restart)
#[test]
fn every_state_is_the_same_after_a_restart() {
    for (row, phase, reasons, results) in [
        (Row::Idle, Phase::Idle, 0, &[][..]),
        (Row::Armed, Phase::Armed, 0, &[]),
        (Row::Receiving, Phase::Receiving, 0, &[]),
        (Row::Suspended, Phase::Suspended, 1, &[]),
        (Row::Verified, Phase::Verified, 1, &[]),
        (Row::Reporting, Phase::Confirmed, 0, &[200]),
        // What was going on is done again: the check at once, the installation never.
        (Row::Assembled, Phase::Confirmed, 0, &[200]),
        (Row::HandedOver, Phase::Failed, 0, &[410]),
    ] {
        let mut device = Device::standing(row);
        device.held = Held::Nothing;
        device.restart();
        device.restart();
        let seen = (device.phase(), device.agent.status().reasons.len(), device.results());
        assert_eq!(seen, (phase, reasons, results.to_vec()), "{row:?}");
        assert!(device.installed.len() <= 1);
    }
}

// test: oma-002 2 (resume needs no reason left)
#[test]
fn reasons_of_the_environment_follow_it_and_explicit_ones_are_resumed_explicitly() {
    let mut device = Device::standing(Row::Receiving);
    let readings = |device: &mut Device, readings| {
        device.agent.handle_readings(device.now, readings);
        device.run();
    };
    let low = Readings { battery_percent: Some(3), ..Readings::default() };
    readings(&mut device, Readings { link_lost: true, ..low });
    device.agent.condition_began(device.now, ExternalCondition::Call);
    device.agent.handle_suspend(device.now, SuspendReason::User);
    device.run();
    assert_eq!(device.agent.status().reasons, ["user", "battery", "call", "network"]);
    device.agent.condition_ended(device.now, ExternalCondition::Call);
    readings(&mut device, Readings { battery_percent: Some(90), ..Readings::default() });
    assert_eq!((device.phase(), device.agent.status().reasons.len()), (Phase::Suspended, 1));
    device.agent.handle_resume(device.now, SuspendReason::User);
    device.run();
    assert_eq!((device.phase(), device.joined.len()), (Phase::Receiving, 1));
    device.receive_pass();
    assert_eq!(device.results(), [200]);
}

#[test]
fn a_device_that_is_armed_in_a_call_or_with_a_low_battery_waits_for_their_end() {
    let mut device = Device::new();
    device.agent.condition_began(device.now, ExternalCondition::Call);
    let low = Readings { battery_percent: Some(3), ..Readings::default() };
    device.agent.handle_readings(device.now, low);
    device.arm();
    assert_eq!(device.agent.status().reasons, ["battery", "call"]);
    device.to(OPENS);
    assert_eq!((device.phase(), device.joined.len()), (Phase::Armed, 0));
    device.agent.condition_ended(device.now, ExternalCondition::Call);
    device.agent.handle_readings(device.now, Readings::default());
    device.run();
    assert_eq!((device.phase(), device.joined.len()), (Phase::Receiving, 1));
}

#[test]
fn a_reason_of_the_environment_is_active_over_a_restart_until_sensors_are_read() {
    let mut device = Device::standing(Row::Receiving);
    let low = Readings { battery_percent: Some(3), ..Readings::default() };
    device.agent.handle_readings(device.now, low);
    device.run();
    device.restart();
    assert_eq!((device.phase(), device.joined.len()), (Phase::Suspended, 0));
    device.agent.handle_readings(device.now, Readings::default());
    device.run();
    assert_eq!((device.phase(), device.joined.len()), (Phase::Receiving, 1));
}

#[test]
fn there_is_no_session_in_a_call_or_without_a_link() {
    let mut device = Device::new();
    device.posts = 0;
    device.agent.condition_began(device.now, ExternalCondition::Call);
    device.agent.check_in(device.now);
    device.run();
    assert_eq!(device.posts, 0);
    let lost = Readings { link_lost: true, ..Readings::default() };
    device.agent.handle_readings(device.now, lost);
    device.agent.condition_ended(device.now, ExternalCondition::Call);
    device.run();
    assert_eq!(device.posts, 0);
    device.agent.handle_readings(device.now, Readings::default());
    device.run();
    assert_eq!(device.posts, 1, "what was asked for meanwhile takes place then");
}

// test: oma-002 2 (thresholds that a server sets)
#[test]
fn a_policy_that_the_server_sets_counts_at_once_and_after_a_restart() {
    use proto::dm::{code::StatusCode, policy::PolicyNode};
    let mut device = Device::standing(Row::Receiving);
    let half = Readings { battery_percent: Some(50), ..Readings::default() };
    device.agent.handle_readings(device.now, half);
    let set = |device: &mut Device, value: &str| {
        let code = device.agent.owners.set_policy(device.now, PolicyNode::Battery.path(), value);
        device.agent.settle(device.now);
        device.run();
        code
    };
    assert_eq!(set(&mut device, "60"), StatusCode::OK);
    assert_eq!(device.phase(), Phase::Suspended);
    assert_eq!(set(&mut device, "600"), StatusCode::BAD_REQUEST);
    device.restart();
    let policy = device.agent.owners.suspension.policy();
    assert_eq!(policy, Policy { battery_floor: 60, ..Policy::default() });
    device.agent.handle_readings(device.now, half);
    assert_eq!(set(&mut device, "40"), StatusCode::OK);
    assert_eq!(device.phase(), Phase::Receiving);
}
