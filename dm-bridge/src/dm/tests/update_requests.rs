//! Update requests of devices and users.

use proto::dm::{
    fumo::{UpdateInitiator, UpdateRequest},
    syncml::Data,
};

use super::*;
use crate::campaign::update_requests::UpdateRequestPolicy;

fn asking(asker: UpdateInitiator, object: Option<&str>) -> ScriptedDevice {
    let request =
        UpdateRequest { initiator: asker, object: object.map(str::to_owned), data: String::new() };
    let mut device = scripted();
    device.alerts.push(request.to_alert(CommandId::new(9)));
    device
}

/// Returns the status of the request, the text displayed to the user, and whether the device is
/// armed.
fn outcome(context: &mut DeviceContext, mut device: ScriptedDevice) -> (u16, Option<String>, bool) {
    let replies = device.run(context);
    let (_, code) = codes(&replies[0])[3];
    let displayed = |command: &Command| match command {
        Command::Alert(alert) if alert.code == AlertCode::DISPLAY => {
            Some(alert.items[1].data.clone().and_then(|data| match data {
                Data::Text(text) => Some(text),
                Data::Octets(_) => None,
            }))
        }
        _ => None,
    };
    let notified = replies[0].commands.iter().find_map(displayed).flatten();
    (code, notified, device.written().contains(&"Exec DownloadAndUpdate".to_owned()))
}

// test: oma-004 6.1 (200 or 202, and a word to the user)
#[test]
fn a_selected_device_that_requests_an_update_is_armed_at_once_and_its_user_notified() {
    let (code, notified, armed) =
        outcome(&mut device_context(), asking(UpdateInitiator::Device, None));
    assert_eq!((code, notified, armed), (200, None, true));
    let (code, notified, armed) =
        outcome(&mut device_context(), asking(UpdateInitiator::User, None));
    let text = "Version 2.0 is being prepared.".to_owned();
    assert_eq!((code, notified, armed), (200, Some(text), true));
}

// test: oma-004 6.1.3 (the server looks for relevant updates)
#[test]
fn an_unselected_device_is_armed_by_the_policy_of_the_campaign_or_its_own() {
    use UpdateRequestPolicy::{Later, Nothing, Now};
    for (campaign, own, code, armed, rows) in [
        (Now, None, 200, true, 1),
        (Later, None, 202, false, 1),
        (Nothing, None, 202, false, 0),
        (Now, Some(Nothing), 202, false, 0),
        (Nothing, Some(Now), 200, true, 1),
        (Now, Some(Later), 202, false, 1),
    ] {
        let mut context = device_context();
        context.attempts.clear();
        context.campaigns[0].update_requests = campaign;
        context.device.update_requests = own;
        let (answered, notified, is_armed) =
            outcome(&mut context, asking(UpdateInitiator::User, None));
        let seen = (answered, is_armed, context.attempts.len());
        assert_eq!(seen, (code, armed, rows), "{campaign} {own:?}");
        assert!(notified.is_some(), "the user is notified in any case");
        if campaign == Later {
            // The next session brings what this one put off.
            context.device.auth.next_nonce = Some(Nonce([1; 16]));
            let mut device = scripted();
            device.run(&mut context);
            assert_eq!(latest(&context).phase, ArmingPhase::Armed);
        }
    }
}

#[test]
fn what_does_not_fit_the_device_or_runs_on_it_already_is_no_update() {
    type Change = fn(&mut DeviceContext);
    let changes: [Change; 4] = [
        |context| context.campaigns[0].terms.vendor = proto::ids::VendorId([8; 16]),
        |context| context.campaigns[0].terms.classes.clear(),
        |context| context.campaigns[0].terms.firmware_version = "1.0".to_owned(),
        |context| context.campaigns[0].state = CampaignState::Stopped,
    ];
    for change in changes {
        let mut context = device_context();
        context.attempts.clear();
        context.campaigns[0].update_requests = UpdateRequestPolicy::Now;
        change(&mut context);
        let (code, notified, armed) = outcome(&mut context, asking(UpdateInitiator::User, None));
        let text = "There is no update for this device at present.".to_owned();
        assert_eq!((code, notified, armed), (202, Some(text), false));
        assert!(context.attempts.is_empty());
    }
}

// test: oma-004 6.1.3 (the address of the object)
#[test]
fn a_request_about_the_object_or_below_it_counts_and_about_another_one_does_not() {
    for (object, code) in [
        ("./FwUpdate/Main", 200),
        ("./FwUpdate/Main/DownloadAndUpdate", 200),
        ("./FwUpdate/MainOther", 202),
        ("./FwUpdate/Modem", 202),
    ] {
        // What was selected is armed all the same: the request alone is about something else.
        let (answered, _, armed) =
            outcome(&mut device_context(), asking(UpdateInitiator::Device, Some(object)));
        assert_eq!((answered, armed), (code, true), "{object}");
    }
}

#[test]
fn a_user_of_a_device_with_an_update_in_progress_is_notified_of_it() {
    let mut context = device_context();
    context.attempts[0].phase = ArmingPhase::Receiving;
    context.attempts[0].armed_revision = 1;
    let (code, notified, armed) = outcome(&mut context, asking(UpdateInitiator::User, None));
    let text = "An update is on its way to this device already.".to_owned();
    assert_eq!((code, notified, armed), (202, Some(text), false));
}
