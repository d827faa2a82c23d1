//! The place of the FUMO object, its nodes and its state: learnt or set, and looked at before the
//! user is asked.

use proto::dm::{
    fumo::{UpdateInitiator, UpdateRequest},
    syncml::Alert,
};

use super::*;
use crate::{
    campaign::model::DeliveryMethod,
    fleet::device::{FirmwareObject, ObjectOrigin},
};

const ELSEWHERE: &str = "./Vendor/Fota";

/// A context whose device has shown no object yet, and whose campaign asks the user.
fn unknown(methods: &[DeliveryMethod]) -> DeviceContext {
    let mut context = device_context();
    context.device.object = FirmwareObject::new(None);
    let campaign = &mut context.campaigns[0];
    campaign.delivery.ask_user = Some("Update?".to_owned());
    campaign.delivery.methods = methods.to_vec();
    campaign.delivery.bundle_bytes = 10;
    context.attempts[0].delivery_method = methods[0];
    context.packages.insert(campaign.id, vec![9; 10].into());
    context
}

fn elsewhere() -> ScriptedDevice {
    scripted().with_object(ELSEWHERE)
}

/// A client of FUMO 1.0 that takes a package in the session alone.
fn with_package_data_alone() -> ScriptedDevice {
    scripted().lacking("/DownloadAndUpdate").lacking("/Ext/")
}

fn again(context: &mut DeviceContext) {
    context.device.auth.next_nonce = Some(Nonce([1; 16]));
}

fn count(device: &ScriptedDevice, name: &str) -> usize {
    device.written().iter().filter(|it| *it == name).count()
}

fn reads(device: &ScriptedDevice, uri: &str) -> bool {
    device.seen.iter().any(|command| match command {
        Command::Get(get) => get.items[0].target_uri() == Some(uri),
        _ => false,
    })
}

// test: oma-dm 11.3 (the place of the object is learnt by Get)
#[test]
fn an_object_elsewhere_is_learnt_and_everything_goes_there() {
    let kind = "urn:oma:mo:oma-fumo:1.0";
    for shown in [
        &[(".", "DevInfo/Vendor"), ("./Vendor", "Fota"), ("./Vendor/Fota?prop=Type", kind)][..],
        &[(".", "Vendor"), ("./Vendor", "Fota"), (ELSEWHERE, "State/DownloadAndUpdate/Ext")],
    ] {
        let mut context = unknown(&[DeliveryMethod::Broadcast]);
        context.device.policy.set("install=on-command".parse().unwrap(), NOW);
        let with = |device: ScriptedDevice, (node, value): &(&str, &str)| device.with(node, value);
        let device = || shown.iter().fold(elsewhere(), with);
        let mut first = device();
        first.run(&mut context);
        let written = first.written();
        assert_eq!(written[0], format!("{ELSEWHERE}/Policy/Install"), "the policy waits for it");
        assert!(
            written.iter().all(|it| it.contains(ELSEWHERE) || it == "Alert 1101"),
            "{written:?}"
        );
        assert_eq!(written.last().unwrap(), &format!("Exec {ELSEWHERE}/DownloadAndUpdate"));
        assert_eq!(latest(&context).phase, ArmingPhase::Armed, "{:?}", latest(&context).reason);
        assert_eq!(context.device.object, FirmwareObject::learnt(ELSEWHERE.to_owned()));
        // The next session knows it.
        again(&mut context);
        let mut second = device().alerting(200, "c1").with("FwV", "2.0");
        second.run(&mut context);
        assert!(!reads(&second, ".") && !reads(&second, "./FwUpdate/Main/State"));
        assert_eq!(latest(&context).phase, ArmingPhase::Confirmed);
    }
}

#[test]
fn an_object_that_an_alert_names_is_looked_at_first() {
    let request = UpdateRequest {
        initiator: UpdateInitiator::Device,
        object: Some(format!("{ELSEWHERE}/DownloadAndUpdate")),
        data: String::new(),
    };
    let mut context = unknown(&[DeliveryMethod::Broadcast]);
    let mut device = elsewhere().with(ELSEWHERE, "State/DownloadAndUpdate/Ext");
    device.alerts.push(request.to_alert(CommandId::new(9)));
    let replies = device.run(&mut context);
    assert_eq!(codes(&replies[0]).last(), Some(&(Verb::Alert, 200)), "it is about firmware");
    assert_eq!(context.device.object.uri, ELSEWHERE);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
}

#[test]
fn an_object_at_the_usual_place_is_learnt_there_and_not_looked_for() {
    let mut context = unknown(&[DeliveryMethod::Broadcast]);
    let mut device = scripted();
    device.run(&mut context);
    assert!(!reads(&device, "."));
    assert_eq!(context.device.object, FirmwareObject::learnt("./FwUpdate/Main".to_owned()));
}

// test: oma-dm 11.3 (the place of the object is learnt by Get)
#[test]
fn a_place_that_the_operator_has_set_is_used_and_never_looked_for() {
    for (place, phase) in [(ELSEWHERE, ArmingPhase::Armed), ("./Else", ArmingPhase::Failed)] {
        let mut context = unknown(&[DeliveryMethod::Broadcast]);
        context.device.object = FirmwareObject::new(Some(&place.parse().unwrap()));
        let mut device = elsewhere().with(".", "Vendor").with("./Vendor", "Fota");
        device.run(&mut context);
        assert!(!reads(&device, "."));
        assert_eq!(latest(&context).phase, phase, "{place}");
        assert_eq!(context.device.object.origin, ObjectOrigin::Set);
        assert_eq!(count(&device, "Alert 1101"), usize::from(phase == ArmingPhase::Armed));
    }
}

// test: oma-dm 11.3 (no object here is an outcome)
#[test]
fn a_device_without_a_firmware_object_is_an_outcome_and_nobody_is_asked() {
    let all = [DeliveryMethod::Broadcast, DeliveryMethod::Download, DeliveryMethod::Direct];
    let mut context = unknown(&all);
    for _ in 0..2 {
        let mut device = scripted().with_object("./None");
        device.values.retain(|(node, _)| node == "FwV");
        device.run(&mut context);
        assert_eq!(device.written(), [""; 0]);
        let row = latest(&context);
        assert_eq!((row.phase, row.attempt), (ArmingPhase::Failed, 1));
        let reason =
            "the device has no firmware object: none at ./FwUpdate/Main, none found in its tree";
        assert_eq!(row.reason.as_deref(), Some(reason));
        again(&mut context);
    }
}

#[test]
fn a_device_that_lets_nobody_read_its_object_is_armed_all_the_same() {
    let mut context = unknown(&[DeliveryMethod::Download]);
    let mut device = ScriptedDevice { missing: StatusCode::PERMISSION_DENIED, ..scripted() };
    device.values.clear();
    device.run(&mut context);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
    assert_eq!(context.device.object.origin, ObjectOrigin::Assumed);
}

// test: oma-dm 11.5 (the state is read before the user is asked)
#[test]
fn a_device_that_lists_its_nodes_is_asked_only_for_what_it_can_do() {
    let all = [DeliveryMethod::Broadcast, DeliveryMethod::Download, DeliveryMethod::Direct];
    let mut context = unknown(&all);
    let listing = || with_package_data_alone().with("./FwUpdate/Main", "PkgName/Update/State");
    let mut device = listing();
    device.run(&mut context);
    assert_eq!(device.written(), ["Alert 1101", "Update/PkgData", "Exec Update"]);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
    // With nothing else the user is not asked, in no session.
    let mut context = unknown(&[DeliveryMethod::Download]);
    for _ in 0..2 {
        let mut device = listing();
        device.run(&mut context);
        assert_eq!(device.written(), [""; 0]);
        let row = latest(&context);
        assert_eq!(row.phase, ArmingPhase::NeedsUnicast);
        let reason = "the firmware object has no DownloadAndUpdate";
        assert_eq!(row.reason.as_deref(), Some(reason));
        again(&mut context);
    }
}

// test: oma-dm 11.4 (a refusal covers what follows from it)
#[test]
fn a_node_that_was_refused_is_not_tried_by_another_method_and_the_user_is_asked_once() {
    for methods in [
        &[DeliveryMethod::Download, DeliveryMethod::Direct][..],
        &[DeliveryMethod::Broadcast, DeliveryMethod::Download, DeliveryMethod::Direct],
    ] {
        let mut context = unknown(methods);
        let mut device = scripted().lacking("/DownloadAndUpdate");
        device.run(&mut context);
        assert_eq!(count(&device, "Alert 1101"), 1, "{methods:?}");
        assert_eq!(count(&device, "DownloadAndUpdate/PkgURL"), 1, "{methods:?}");
        assert_eq!(count(&device, "Exec DownloadAndUpdate"), 0, "{methods:?}");
        assert_eq!(device.written().last().unwrap(), "Exec Update");
        let row = latest(&context);
        let found = (row.phase, row.delivery_method, row.reason.as_deref());
        assert_eq!(found, (ArmingPhase::Armed, DeliveryMethod::Direct, None));
    }
    let mut context = unknown(&[DeliveryMethod::Download]);
    for asked in [1, 0] {
        let mut device = with_package_data_alone();
        device.run(&mut context);
        assert_eq!(count(&device, "Alert 1101"), asked);
        let row = latest(&context);
        assert_eq!((row.phase, row.attempt), (ArmingPhase::NeedsUnicast, 1));
        assert_eq!(row.reason.as_deref(), Some("Replace of PkgURL answered 404"));
        again(&mut context);
    }
}

// test: oma-dm 11.5 (the state is read before the user is asked)
#[test]
fn the_user_of_a_busy_device_is_asked_when_it_is_idle() {
    for (state, plain, asked) in [
        ("60", true, 0),
        ("40", true, 0),
        ("30", true, 0),
        ("60", false, 0),
        ("30", false, 1),
        ("10", true, 1),
        ("50", true, 1),
        ("70", true, 1),
        ("100", true, 1),
        ("250", true, 1),
        ("busy", true, 1),
    ] {
        let mut context = unknown(&[DeliveryMethod::Direct]);
        let device = scripted().with("State", state);
        let mut device = if plain { device.without("Broadcast/Version") } else { device };
        device.run(&mut context);
        assert_eq!(count(&device, "Alert 1101"), asked, "{state}");
        if asked == 0 {
            let row = latest(&context);
            assert_eq!((row.phase, row.attempt), (ArmingPhase::Pending, 1), "{state}");
            let reason = format!("the device is busy: State is {state}");
            assert_eq!(row.reason, Some(reason));
            again(&mut context);
            scripted().run(&mut context);
        }
        assert_eq!(latest(&context).phase, ArmingPhase::Armed, "{state}");
    }
}

#[test]
fn a_first_session_without_a_task_learns_the_usual_place_alone() {
    let mut context = unknown(&[DeliveryMethod::Broadcast]);
    context.attempts.clear();
    let mut device = elsewhere().with(".", "Vendor");
    device.run(&mut context);
    assert!(reads(&device, "./FwUpdate/Main/State") && !reads(&device, "."));
    assert_eq!(context.device.object, FirmwareObject::new(None));
    again(&mut context);
    scripted().run(&mut context);
    assert_eq!(context.device.object.origin, ObjectOrigin::Learnt);
}

/// Alerts of other objects of a device are no results of its firmware.
#[test]
fn a_result_of_another_object_without_correlator_is_not_counted() {
    for (origin, counted) in [(ObjectOrigin::Learnt, false), (ObjectOrigin::Assumed, true)] {
        let mut context = device_context();
        scripted().run(&mut context);
        again(&mut context);
        context
            .device
            .object
            .clone_from(&FirmwareObject { origin, ..context.device.object.clone() });
        let mut device = scripted();
        let mut alert: Alert = final_alert(410, None);
        alert.items[0].source = Item::value("./FwUpdate/Modem", Format::Int, "410").source;
        device.alerts.push(alert);
        device.run(&mut context);
        let result = latest(&context).result_code;
        assert_eq!(result.is_some(), counted, "{:?}", latest(&context).reason);
    }
}
