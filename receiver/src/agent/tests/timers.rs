//! The timers, which are kept from input to input.

use super::*;

/// The spread of reports, shorter than the interval of check-ins.
const SPREAD: Duration = Duration::from_secs(1_000);

/// A device without a session in progress, whose only report is due within [`SPREAD`].
fn reporting() -> Device {
    let mut device = Device::new();
    let now = device.now;
    let agent = &mut device.agent;
    agent.session_ended(now, &SessionOutcome::Complete);
    let settings = ReportSettings { spread: SPREAD, ..ReportSettings::default() };
    agent.owners.dm.reports.begin(settings);
    agent.owners.dm.reports.schedule(now.utc, bad_url(), &mut agent.owners.rng);
    agent.settle(now);
    device
}

#[test]
fn a_report_chosen_by_a_clock_that_was_set_back_since_is_due_at_once() {
    let mut device = reporting();
    let now = device.now;
    let due = device.agent.deadline(now).unwrap();
    assert!(now.mono < due && due <= now.mono + SPREAD, "{due:?}");
    let set_back = Now { utc: Utc(0), ..now };
    assert!(device.agent.poll_output(set_back).is_none());
    assert_eq!(device.agent.deadline(set_back), Some(now.mono));
}

#[test]
fn a_clock_that_is_set_forward_brings_a_report_nearer() {
    let device = reporting();
    let now = device.now;
    let due = device.agent.deadline(now).unwrap();
    let forward = Now { utc: now.utc + SPREAD, ..now };
    assert!(now.mono < due);
    assert_eq!(device.agent.deadline(forward), Some(now.mono));
}

#[test]
fn a_packet_moves_no_timer_but_that_of_its_sync() {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    device.receive_some(12);
    let before = device.agent.timers;
    device.agent.owners.reception.flush();
    device.run();
    assert!(device.agent.owners.reception.flush_deadline().is_none());
    let data = device.broadcast.data_packet(5);
    device.receive(&data);
    assert_eq!(device.agent.timers, before);
    let synced = device.agent.status().symbols_synced;
    let sync = device.now.mono + Duration::from_secs(1);
    assert_eq!(device.agent.deadline(device.now), Some(sync));
    device.now = Now { mono: sync, ..device.now };
    device.agent.handle_timeout(device.now);
    device.run();
    assert_eq!(device.agent.timers, before);
    assert_eq!(device.agent.status().symbols_synced, synced + 1);
}
