//! Sessions with a request, at the seam between DM session and device.

use proto::dm::{
    code::StatusCode,
    fumo::{UpdateInitiator, UpdateRequest},
};

use super::*;
use crate::dm::client::SessionOutcome;
use crate::dm::update_request::RequestOutcome;

fn asking(initiator: UpdateInitiator) -> Device {
    let mut device = Device::new();
    let request = UpdateRequest { initiator, object: None, data: String::new() };
    device.agent.request_update(device.now, request);
    device.agent.owners.dm.update_request.begin_session();
    device
}

fn outcome(device: &Device) -> RequestOutcome {
    device.agent.status().request.expect("something was asked for").outcome
}

// test: oma-004 6.1 (what a status means, and what silence means to a user)
#[test]
fn a_request_ends_by_its_status_and_a_user_who_is_not_addressed_learns_that_there_is_no_support() {
    for (initiator, said, code, expected) in [
        (UpdateInitiator::Device, None, StatusCode::OK, RequestOutcome::Update),
        (UpdateInitiator::Device, None, StatusCode::ACCEPTED, RequestOutcome::Later),
        (UpdateInitiator::Device, None, StatusCode::UNSUPPORTED_FORMAT, RequestOutcome::Refused),
        (UpdateInitiator::User, Some("wait"), StatusCode::OK, RequestOutcome::Update),
        (UpdateInitiator::User, Some("wait"), StatusCode::ACCEPTED, RequestOutcome::Later),
        (UpdateInitiator::User, None, StatusCode::OK, RequestOutcome::Unsupported),
        (UpdateInitiator::User, None, StatusCode::ACCEPTED, RequestOutcome::Unsupported),
    ] {
        let mut device = asking(initiator);
        assert!(device.agent.owners.update_request().is_some());
        device.agent.owners.on_request_status(device.now, code);
        if let Some(text) = said {
            device.agent.owners.on_user_message(text);
        }
        device.agent.owners.dm.update_request.conclude();
        assert_eq!(outcome(&device), expected, "{initiator} {code}");
        let status = device.agent.status().request.unwrap();
        assert_eq!(status.server_text.as_deref(), said);
        assert!(device.agent.owners.update_request().is_none(), "it is not asked again");
    }
}

#[test]
fn a_request_that_no_session_carried_is_sent_again() {
    let mut device = asking(UpdateInitiator::User);
    device.agent.owners.dm.update_request.conclude();
    assert_eq!(outcome(&device), RequestOutcome::Waiting);
    device.agent.owners.dm.update_request.begin_session();
    assert!(device.agent.owners.update_request().is_some());
}

// test: oma-004 6.1 (no update is processed)
#[test]
fn a_server_that_does_not_notify_the_requesting_user_does_not_update_the_device() {
    for addressed in [false, true] {
        let mut device = asking(UpdateInitiator::User);
        device.agent.owners.on_request_status(device.now, StatusCode::OK);
        if addressed {
            device.agent.owners.on_user_message("it begins");
        }
        device.arm();
        let refused = device.results() == [ResultCode::POLICY.0];
        assert_eq!(refused, !addressed);
    }
}

#[test]
fn a_result_of_a_session_goes_with_the_next_one_and_an_unacknowledged_one_waits() {
    for (comes_up_before, at_once) in [(false, true), (true, false)] {
        let mut device = Device::new();
        let now = device.now;
        let agent = &mut device.agent;
        let alert = bad_url();
        if comes_up_before {
            agent.owners.refuse(now, alert.clone());
        }
        agent.begin_session(now);
        if !comes_up_before {
            agent.owners.refuse(now, alert);
        }
        agent.session_ended(now, &SessionOutcome::Complete);
        assert_eq!(agent.owners.dm.reports.due(now.utc).len(), 1);
        let due = agent.session_timers(now).next(now).is_some_and(|due| due <= now.mono);
        assert_eq!(due, at_once, "{comes_up_before}");
    }
}
