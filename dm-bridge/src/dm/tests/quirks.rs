//! Profiles of clients, and suspension.

use super::*;
use crate::campaign::model::DeliveryMethod;

/// Returns the octets that the server sends to a device of a profile, and the device.
fn session(
    context: &mut DeviceContext,
    quirks: &[Quirk],
    mut device: ScriptedDevice,
) -> (String, ScriptedDevice) {
    context.device.profile.quirks = quirks.iter().copied().collect();
    let replies = device.run(context);
    let octets = replies.iter().flat_map(|reply| Encoding::Xml.emit(reply)).collect();
    (String::from_utf8(octets).unwrap(), device)
}

#[test]
fn without_a_sequence_each_step_has_its_message() {
    let (plain, _) = session(&mut device_context(), &[], scripted());
    let (quirky, device) = session(&mut device_context(), &[Quirk::NoSequence], scripted());
    assert!(plain.contains("<Sequence>") && !quirky.contains("<Sequence>"));
    assert!(quirky.contains("<Atomic>"));
    assert!(device.written().contains(&"Exec DownloadAndUpdate".to_owned()));
}

#[test]
fn without_an_atomic_what_is_staged_comes_one_by_one() {
    let quirks = [Quirk::NoSequence, Quirk::NoAtomic];
    let (quirky, device) = session(&mut device_context(), &quirks, scripted());
    assert!(!quirky.contains("<Sequence>") && !quirky.contains("<Atomic>"));
    assert!(device.written().contains(&"Exec DownloadAndUpdate".to_owned()));
}

#[test]
fn a_device_whose_large_objects_fail_gets_its_package_by_url() {
    let large = || {
        let mut context = device_context();
        let campaign = &mut context.campaigns[0];
        campaign.delivery.methods = vec![DeliveryMethod::Direct, DeliveryMethod::Download];
        campaign.delivery.bundle_bytes = 5_000;
        context.attempts[0].delivery_method = DeliveryMethod::Direct;
        context.packages.insert(campaign.id, vec![9; 5_000].into());
        context
    };
    let device = || ScriptedDevice { limit: 4_096, ..scripted().with("LrgObj", "true") };
    let (plain, _) = session(&mut large(), &[], device());
    assert!(plain.contains("<MoreData"));
    let mut context = large();
    let (quirky, _) = session(&mut context, &[Quirk::NoLargeObjects], device());
    assert!(!quirky.contains("<MoreData") && !quirky.contains("PkgData"));
    context.device.auth.next_nonce = Some(Nonce([1; 16]));
    let (quirky, device) = session(&mut context, &[Quirk::NoLargeObjects], device());
    assert!(quirky.contains("/descriptor"), "{quirky}");
    assert_eq!(device.written().last().unwrap(), "Exec DownloadAndUpdate");
    assert_eq!(
        (latest(&context).delivery_method, latest(&context).phase),
        (DeliveryMethod::Download, ArmingPhase::Armed)
    );
}

#[test]
fn a_client_that_wants_a_correlator_gets_one_in_every_exec() {
    for (quirks, expected) in [(&[][..], false), (&[Quirk::CorrelatorAlways], true)] {
        let mut context = device_context();
        context.attempts.clear();
        context.device.pending_suspension = Some(SuspendCommand::Suspend);
        let (octets, _) = session(&mut context, quirks, scripted());
        assert!(octets.contains("Ext/Broadcast/Suspend"));
        assert_eq!(octets.contains("<Correlator>"), expected);
    }
}

#[test]
fn suspend_and_resume_are_sent_once_in_the_next_session() {
    for (command, node) in
        [(SuspendCommand::Suspend, "Exec Suspend"), (SuspendCommand::Resume, "Exec Resume")]
    {
        for (code, is_left) in
            [(200, false), (202, false), (404, false), (406, false), (500, true), (417, true)]
        {
            let mut context = device_context();
            context.attempts.clear();
            context.device.pending_suspension = Some(command);
            let mut device = ScriptedDevice { exec: StatusCode(code), ..scripted() };
            device.run(&mut context);
            assert_eq!(device.written(), [node], "{code}");
            assert_eq!(context.device.pending_suspension.is_some(), is_left, "{code}");
            assert!(
                context.notes.contains(&format!("{command} answered {code}")),
                "{:?}",
                context.notes
            );
        }
    }
}

#[test]
fn a_device_that_is_resumed_is_armed_in_the_same_session() {
    let mut context = device_context();
    context.device.pending_suspension = Some(SuspendCommand::Resume);
    let mut device = scripted();
    device.run(&mut context);
    assert_eq!(device.written()[..2], ["Exec Resume", "Manifest"]);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
}
