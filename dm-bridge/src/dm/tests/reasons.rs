//! Refusals, missing statuses and odd final alerts: each has its outcome, and its reason is shown.

use proto::dm::fumo::{Operation, OperationResult, ResultCode};

use super::*;
use crate::campaign::model::DeliveryMethod;

fn asking() -> DeviceContext {
    let mut context = device_context();
    context.campaigns[0].delivery.ask_user = Some("Update?".to_owned());
    context
}

fn again(context: &mut DeviceContext) {
    context.device.auth.next_nonce = Some(Nonce([1; 16]));
}

/// Runs a session in which each message of the device is changed before it is sent; ends it after
/// the Exec when `change` returns false.
pub(super) fn run_changed(
    device: &mut ScriptedDevice,
    context: &mut DeviceContext,
    mut change: impl FnMut(&mut Message) -> bool,
) {
    let mut count = 200;
    let mut random = || {
        count += 1;
        [count; 16]
    };
    let first = device.first_with(&[1; 16]);
    let (mut session, mut reply) =
        accepted(open(context, &first, NOW, Limits::default(), &mut random));
    while let Some(mut next) = device.answer(&reply) {
        if !change(&mut next) {
            break;
        }
        reply = proceed(&mut session, context, &next, NOW, &mut random);
    }
    again(context);
}

fn execs(message: &Message) -> bool {
    message.statuses().any(|status| status.verb == Verb::Exec)
}

/// A session that is lost when the device has executed the Exec.
fn lose_the_status(device: &mut ScriptedDevice, context: &mut DeviceContext) {
    run_changed(device, context, |message| !execs(message));
}

// test: oma-dm 11.4 (a refusal covers what follows from it)
#[test]
fn refused_writes_count_as_a_refused_exec_does_and_the_user_is_asked_once() {
    let mut context = asking();
    let mut asked = 0;
    for attempt in 1..=Limits::default().attempts {
        again(&mut context);
        let row = latest(&context);
        assert_eq!((row.phase, row.attempt), (ArmingPhase::Pending, attempt));
        let refused = Some(("Manifest", StatusCode::PERMISSION_DENIED));
        let mut device = ScriptedDevice { refused, ..scripted() };
        device.run(&mut context);
        asked += device.written().iter().filter(|it| *it == "Alert 1101").count();
        let reason = latest(&context).reason.as_deref().unwrap();
        assert!(reason.ends_with("Replace of Manifest answered 425"), "{reason}");
    }
    assert_eq!((latest(&context).phase, asked), (ArmingPhase::Failed, 1));
    again(&mut context);
    let mut device = scripted();
    device.run(&mut context);
    assert_eq!(device.written(), [""; 0]);
}

#[test]
fn a_refused_write_says_what_is_done_next() {
    for (code, phase, attempts) in [
        (404, ArmingPhase::NeedsUnicast, 1),
        (405, ArmingPhase::NeedsUnicast, 1),
        (406, ArmingPhase::NeedsUnicast, 1),
        (501, ArmingPhase::NeedsUnicast, 1),
        (417, ArmingPhase::Pending, 1),
        (503, ArmingPhase::Pending, 1),
        (413, ArmingPhase::Pending, 2),
        (420, ArmingPhase::Pending, 2),
        (500, ArmingPhase::Pending, 2),
        (0, ArmingPhase::Pending, 2),
    ] {
        let mut context = device_context();
        let refused = Some(("Campaign", StatusCode(code)));
        ScriptedDevice { refused, sequence: StatusCode::NOT_SUPPORTED, ..scripted() }
            .run(&mut context);
        let row = latest(&context);
        assert_eq!((row.phase, row.attempt), (phase, attempts), "{code}");
        assert!(row.reason.as_ref().unwrap().contains("Replace of Campaign"), "{code}: {row:?}");
        assert!(!row.was_accepted() && !row.may_run());
    }
}

// test: oma-dm 4.4 (a device that cannot ask its user)
#[test]
fn a_device_without_a_user_is_no_user_who_does_not_answer() {
    for (code, phase, attempts, reason) in [
        (404, ArmingPhase::Refused, 1, "the device cannot ask its user: 404"),
        (405, ArmingPhase::Refused, 1, "the device cannot ask its user: 405"),
        (406, ArmingPhase::Refused, 1, "the device cannot ask its user: 406"),
        (415, ArmingPhase::Refused, 1, "the device cannot ask its user: 415"),
        (416, ArmingPhase::Refused, 1, "the device cannot ask its user: 416"),
        (501, ArmingPhase::Refused, 1, "the device cannot ask its user: 501"),
        (304, ArmingPhase::Refused, 1, "the user declined"),
        (214, ArmingPhase::Refused, 1, "the user declined"),
        (408, ArmingPhase::Pending, 1, "the user did not answer: 408"),
        (417, ArmingPhase::Pending, 1, "the device does not ask its user now: 417"),
        (500, ArmingPhase::Pending, 2, "attempt 1: the question to the user was answered 500"),
        (
            0,
            ArmingPhase::Pending,
            2,
            "attempt 1: the device did not answer the question to its user",
        ),
    ] {
        let mut context = asking();
        let mut device = ScriptedDevice { user: StatusCode(code), ..scripted() };
        device.run(&mut context);
        assert_eq!(device.written(), ["Alert 1101"], "{code}");
        let row = latest(&context);
        let found = (row.phase, row.attempt, row.reason.as_deref());
        assert_eq!(found, (phase, attempts, Some(reason)), "{code}");
        assert!(!row.has_consent() && !row.may_run(), "{code}");
        assert_eq!(context.attempts[0].result_code.is_some(), reason == "the user declined");
    }
}

#[test]
fn a_device_that_cannot_ask_its_user_is_not_asked_for_the_next_campaign_of_the_session() {
    let mut context = asking();
    let mut other = context.campaigns[0].clone();
    other.id = CampaignId([8; 16]);
    other.terms.sequence += 1;
    let correlator = Correlator("c2".to_owned());
    context.attempts.push(ArmingAttempt::pending(
        context.device.id.clone(),
        other.id,
        1,
        correlator,
        Utc(1),
    ));
    context.campaigns.push(other);
    let mut device = ScriptedDevice { user: StatusCode::NOT_IMPLEMENTED, ..scripted() };
    device.run(&mut context);
    assert_eq!(device.written(), ["Alert 1101"]);
    for row in &context.attempts {
        let found = (row.phase, row.reason.as_deref());
        assert_eq!(found, (ArmingPhase::Refused, Some("the device cannot ask its user: 501")));
    }
}

// test: oma-dm 11.6 (the status of the Exec)
#[test]
fn each_status_of_an_exec_has_its_reason() {
    for (code, phase, attempts, reason) in [
        (202, ArmingPhase::Armed, 1, None),
        (200, ArmingPhase::Armed, 1, None),
        (101, ArmingPhase::Armed, 1, Some("Exec answered 101: in progress")),
        (500, ArmingPhase::Pending, 2, Some("attempt 1: Exec answered 500")),
        (403, ArmingPhase::Pending, 2, Some("attempt 1: Exec answered 403")),
        (425, ArmingPhase::Pending, 2, Some("attempt 1: Exec answered 425")),
        (417, ArmingPhase::Pending, 1, Some("Exec answered 417")),
        (503, ArmingPhase::Pending, 1, Some("Exec answered 503")),
        (404, ArmingPhase::NeedsUnicast, 1, Some("Exec answered 404")),
        (411, ArmingPhase::NeedsUnicast, 1, Some("Exec answered 411")),
        (0, ArmingPhase::Pending, 1, Some("the Exec was sent and not answered")),
    ] {
        let mut context = device_context();
        ScriptedDevice { exec: StatusCode(code), ..scripted() }.run(&mut context);
        let row = latest(&context);
        let found = (row.phase, row.attempt, row.reason.as_deref());
        assert_eq!(found, (phase, attempts, reason), "{code}");
    }
}

#[test]
fn a_session_that_is_lost_after_the_exec_says_so_and_its_result_counts() {
    for correlator in [Some("c1"), None] {
        let mut context = device_context();
        let mut device = scripted();
        lose_the_status(&mut device, &mut context);
        let row = latest(&context);
        let text = "the Exec was sent, and its status has not come";
        assert_eq!((row.phase, row.reason.as_deref()), (ArmingPhase::Pending, Some(text)));
        assert!(row.may_run() && !row.was_accepted());
        let mut device = scripted().with("FwV", "2.0");
        device.alerts.push(final_alert(200, correlator));
        device.run(&mut context);
        assert_eq!(device.written(), [""; 0], "it is not executed again");
        let row = latest(&context);
        assert_eq!((row.phase, row.result_code), (ArmingPhase::Confirmed, Some(200)));
        assert!(row.was_accepted(), "who reports the end has begun");
    }
}

// test: oma-dm 11.5 (the state is read before the user is asked)
#[test]
fn an_exec_whose_status_is_lost_is_not_repeated_while_a_plain_device_works_on_it() {
    let plain = || scripted().without("Broadcast/Version");
    let mut context = device_context();
    context.campaigns[0].delivery.methods = vec![DeliveryMethod::Download];
    context.attempts[0].delivery_method = DeliveryMethod::Download;
    lose_the_status(&mut plain(), &mut context);
    let mut device = plain().with("State", "30");
    device.run(&mut context);
    assert_eq!(device.written(), [""; 0]);
    let reason = latest(&context).reason.clone().unwrap();
    assert_eq!(
        reason,
        "the Exec was sent without a status, and State is 30: its result is awaited"
    );
    again(&mut context);
    let mut device = plain();
    device.run(&mut context);
    assert_eq!(device.correlator(), Some(&Correlator("c1".to_owned())));
    assert_eq!((latest(&context).phase, latest(&context).attempt), (ArmingPhase::Armed, 1));
}

// test: oma-dm 11.6 (the status of the Exec)
#[test]
fn a_final_alert_before_the_status_of_its_exec_stays_the_result() {
    for result in ResultCode::NAMED {
        for (exec, correlator) in [(202, Some("c1")), (202, None), (500, Some("c1")), (101, None)] {
            let mut context = device_context();
            let mut device = ScriptedDevice { exec: StatusCode(exec), ..scripted() };
            run_changed(&mut device, &mut context, |message| {
                if execs(message) {
                    message.commands.insert(0, Command::Alert(final_alert(result.0, correlator)));
                }
                true
            });
            let row = &context.attempts[0];
            assert_eq!(row.result_code, Some(result.0), "{exec} {correlator:?}");
            let reason = row.reason.as_ref().unwrap();
            // A success is compared with the version that runs.
            assert!(
                reason.starts_with(result.text()) || row.phase == ArmingPhase::VersionMismatch,
                "{result}: {reason}"
            );
            assert_eq!(context.attempts.len(), 1, "no other attempt follows a result");
        }
    }
}

// test: oma-dm 11.6 (a final alert without a correlator)
#[test]
fn a_result_without_a_correlator_counts_for_the_only_operation_and_says_so() {
    for (code, phase) in
        [(410, ArmingPhase::Failed), (450, ArmingPhase::Missed), (599, ArmingPhase::Failed)]
    {
        let mut context = device_context();
        scripted().run(&mut context);
        for _ in 0..2 {
            again(&mut context);
            let mut device = scripted();
            device.alerts.push(final_alert(code, None));
            let replies = device.run(&mut context);
            let answered = codes(&replies[0]).last().copied().unwrap();
            assert!([(Verb::Alert, 200), (Verb::Alert, 202)].contains(&answered));
            let row = latest(&context);
            assert_eq!((row.phase, row.result_code), (phase, Some(code)));
            let reason = format!("{}; the alert had no Correlator", ResultCode(code).text());
            assert_eq!(row.reason, Some(reason));
        }
    }
}

#[test]
fn a_result_of_several_operations_is_not_counted_and_shown_at_each() {
    for correlator in [None, Some("foreign")] {
        let mut context = device_context();
        scripted().run(&mut context);
        let mut other = latest(&context).clone();
        other.campaign = CampaignId([8; 16]);
        other.correlator = Correlator("c2".to_owned());
        context.campaigns.push(crate::campaign::model::Campaign {
            id: other.campaign,
            ..context.campaigns[0].clone()
        });
        context.attempts.push(other);
        again(&mut context);
        let mut device = scripted();
        device.alerts.push(final_alert(410, correlator));
        device.run(&mut context);
        let why = match correlator {
            None => "no Correlator, and may be about several operations",
            Some(_) => "the Correlator of no operation here",
        };
        let reason = format!("a final alert with result 410 has {why}: not counted");
        for row in &context.attempts {
            let found = (row.result_code, row.phase, row.reason.as_ref());
            assert_eq!(found, (None, ArmingPhase::Armed, Some(&reason)));
        }
    }
    // A device that was never armed has no operation.
    let mut context = device_context();
    context.campaigns[0].state = CampaignState::Created;
    let mut device = scripted();
    device.alerts.push(final_alert(200, None));
    device.run(&mut context);
    assert_eq!(latest(&context).result_code, None);
}

#[test]
fn the_end_of_a_download_alone_is_no_end_of_the_update() {
    let mut context = device_context();
    scripted().run(&mut context);
    let alert = |operation, code| {
        let correlator = Some(Correlator("c1".to_owned()));
        let result = ResultCode(code);
        OperationResult { object: None, operation, result, correlator }.to_alert(CommandId::new(9))
    };
    for (operation, code, phase, result) in [
        (Operation::Download, 200, ArmingPhase::Assembled, None),
        (Operation::Download, 255, ArmingPhase::Assembled, None),
        (Operation::Update, 200, ArmingPhase::Confirmed, Some(200)),
        (Operation::Download, 200, ArmingPhase::Confirmed, Some(200)),
    ] {
        again(&mut context);
        let firmware = if result.is_some() { "2.0" } else { "1.0" };
        let mut device = scripted().with("FwV", firmware);
        device.alerts.push(alert(operation, code));
        device.run(&mut context);
        let row = latest(&context);
        assert_eq!((row.phase, row.result_code), (phase, result), "{operation} {code}");
    }
    let mut context = device_context();
    scripted().run(&mut context);
    again(&mut context);
    let mut device = scripted();
    device.alerts.push(alert(Operation::Download, 503));
    device.run(&mut context);
    assert_eq!(latest(&context).result_code, Some(503));
}
