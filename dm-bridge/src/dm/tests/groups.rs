//! Sequence and Atomic, and devices without them.

use super::*;
use crate::campaign::model::DeliveryMethod;

fn asking() -> DeviceContext {
    let mut context = device_context();
    context.campaigns[0].delivery.ask_user = Some("Update?".to_owned());
    context
}

const LAID_DOWN: [&str; 8] = [
    "Manifest",
    "Campaign",
    "Plan/0",
    "Now",
    "Opens",
    "Closes",
    "Report/Spread",
    "DownloadAndUpdate/PkgURL",
];

fn execs(device: &ScriptedDevice) -> usize {
    device.written().iter().filter(|name| name.starts_with("Exec")).count()
}

// test: oma-dm 4.2 (what gates an Exec is in its Sequence)
#[test]
fn what_gates_an_exec_is_in_one_sequence_with_it() {
    let mut context = asking();
    let mut device = scripted();
    let replies = device.run(&mut context);
    assert_eq!(replies.len(), 3, "questions, all of the arming, the end");
    assert_eq!(device.groups, [Verb::Sequence]);
    let all = [&["Alert 1101"][..], &LAID_DOWN, &["Exec DownloadAndUpdate"]].concat();
    assert_eq!(device.written(), all);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
}

// test: oma-dm 4.3 (what belongs together is written together)
#[test]
fn what_does_not_fit_one_message_is_staged_in_an_atomic_and_started_in_a_sequence() {
    let whole = scripted().run(&mut asking());
    let longest = whole.iter().map(|reply| Encoding::Xml.emit(reply).len()).max().unwrap();
    let mut context = asking();
    let limit = u64::try_from(longest).unwrap() - 1;
    let mut device = ScriptedDevice { limit, ..scripted() };
    let replies = device.run(&mut context);
    assert_eq!(device.groups, [Verb::Atomic, Verb::Sequence]);
    let all = [&["Alert 1101"][..], &LAID_DOWN, &["Exec DownloadAndUpdate"]].concat();
    assert_eq!(device.written(), all);
    let exec = flat(&replies[replies.len() - 2]);
    let verbs: Vec<_> = exec.iter().map(|command| command.verb()).collect();
    assert_eq!(verbs[1..], [Verb::Sequence, Verb::Replace, Verb::Exec]);
}

#[test]
fn a_device_without_sequence_gets_each_step_in_a_message_of_its_own() {
    for code in [406, 500, 501, 405] {
        let mut context = asking();
        let mut device = ScriptedDevice { sequence: StatusCode(code), ..scripted() };
        let replies = device.run(&mut context);
        assert_eq!(device.groups, [Verb::Sequence, Verb::Atomic], "{code}");
        let all = [&["Alert 1101"][..], &LAID_DOWN, &["Exec DownloadAndUpdate"]].concat();
        assert_eq!(device.written(), all, "{code}");
        assert_eq!(
            (latest(&context).phase, latest(&context).attempt),
            (ArmingPhase::Armed, 1),
            "{code}"
        );
        let exec = &replies[replies.len() - 2];
        assert_eq!(exec.commands.last().unwrap().verb(), Verb::Exec, "{code}");
        assert_eq!(exec.commands.iter().filter(|it| it.wants_status()).count(), 1, "{code}");
    }
}

// test: oma-dm 4.3 (406, 500, 507: the same without the group)
#[test]
fn a_device_without_atomic_gets_the_same_commands_without_it() {
    for code in [406, 500, 507] {
        let mut context = device_context();
        let (sequence, atomic) = (StatusCode::NOT_SUPPORTED, StatusCode(code));
        let mut device = ScriptedDevice { sequence, atomic, ..scripted() };
        device.run(&mut context);
        assert_eq!(device.groups, [Verb::Sequence, Verb::Atomic]);
        assert_eq!(device.written(), [&LAID_DOWN[..], &["Exec DownloadAndUpdate"]].concat());
        assert_eq!(latest(&context).phase, ArmingPhase::Armed, "{code}");
    }
}

#[test]
fn an_atomic_that_fails_for_an_optional_node_is_sent_again_in_parts() {
    let mut context = device_context();
    let refused = Some(("Plan/0", StatusCode::NOT_FOUND));
    let sequence = StatusCode::NOT_SUPPORTED;
    let mut device = ScriptedDevice { refused, sequence, ..scripted() };
    device.run(&mut context);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
    assert_eq!(execs(&device), 1);
}

#[test]
fn an_optional_node_that_is_missing_costs_a_second_sequence_and_no_second_question() {
    let mut context = asking();
    let refused = Some(("Plan/0", StatusCode::NOT_FOUND));
    let mut device = ScriptedDevice { refused, ..scripted() };
    device.run(&mut context);
    assert_eq!(device.groups, [Verb::Sequence, Verb::Sequence]);
    let asked = device.written().iter().filter(|name| *name == "Alert 1101").count();
    assert_eq!((asked, execs(&device)), (1, 1));
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
}

#[test]
fn a_device_that_executes_nothing_stays_pending_with_the_reason() {
    for exec in [215, 214, 216] {
        let mut context = device_context();
        let mut device = ScriptedDevice { exec: StatusCode(exec), ..scripted() };
        device.run(&mut context);
        let row = latest(&context);
        assert!(!row.was_accepted() && row.result_code.is_none(), "{exec}: {row:?}");
        assert!(row.reason.is_some() || row.attempt > 1, "{exec}: {row:?}");
    }
}

/// The script of the facts: 304, then 215 and 215.
#[test]
fn after_a_no_neither_package_url_nor_exec_is_sent() {
    let mut context = asking();
    context.campaigns[0].delivery.methods = vec![DeliveryMethod::Download];
    context.attempts[0].delivery_method = DeliveryMethod::Download;
    context.campaigns[0].delivery.bundle_bytes = 10;
    let mut device = ScriptedDevice { user: StatusCode::NOT_MODIFIED, ..scripted() };
    let replies = device.run(&mut context);
    let verbs: Vec<_> = flat(&replies[1]).iter().map(|command| command.verb()).collect();
    assert_eq!(verbs[1..], [Verb::Sequence, Verb::Alert, Verb::Replace, Verb::Exec]);
    assert_eq!(device.written(), ["Alert 1101"]);
    assert_eq!(latest(&context).phase, ArmingPhase::Refused);
}
