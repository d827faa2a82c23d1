//! Consent of the user, and unicast delivery.

use super::*;
use crate::campaign::model::DeliveryMethod;

fn context_with(ways: &[DeliveryMethod]) -> DeviceContext {
    let mut context = device_context();
    let campaign = &mut context.campaigns[0];
    campaign.delivery.methods = ways.to_vec();
    campaign.delivery.bundle_bytes = 10;
    context.attempts[0].delivery_method = ways[0];
    context.packages.insert(campaign.id, vec![9; 10].into());
    context
}

fn asking() -> DeviceContext {
    let mut context = device_context();
    context.campaigns[0].delivery.ask_user = Some("Update?".to_owned());
    context
}

// test: oma-001 8.1.2.10, oma-001 8.1.2.11, oma-000 8.2.3
#[test]
fn a_device_without_our_extension_gets_a_descriptor_in_the_same_session() {
    let mut context = context_with(&[DeliveryMethod::Broadcast, DeliveryMethod::Download]);
    let mut device = scripted().without("Broadcast/Version");
    device.run(&mut context);
    assert_eq!(device.written(), ["DownloadAndUpdate/PkgURL", "Exec DownloadAndUpdate"]);
    let row = latest(&context);
    assert_eq!(
        (row.delivery_method, row.phase, row.attempt),
        (DeliveryMethod::Download, ArmingPhase::Armed, 2)
    );
    let Command::Replace(url) = &device.seen[device.seen.len() - 2] else { panic!() };
    let url = url.items[0].data_text().unwrap();
    let id = context.campaigns[0].id;
    let secret = row.package_secret.as_ref().unwrap().as_url_part();
    assert!(url.ends_with(&format!("/download/{id}/{secret}/descriptor")), "{url}");
    assert!(
        context.notes.iter().any(|note| note.contains("download is next")),
        "{:?}",
        context.notes
    );
}

#[test]
fn a_device_that_answers_bad_url_falls_back_as_far_as_the_campaign_allows() {
    for ways in [
        &[DeliveryMethod::Broadcast][..],
        &[DeliveryMethod::Broadcast, DeliveryMethod::Direct],
        &[DeliveryMethod::Broadcast, DeliveryMethod::Download, DeliveryMethod::Direct],
    ] {
        let mut context = context_with(ways);
        let mut device = scripted();
        device.exec = StatusCode(411);
        device.run(&mut context);
        let row = latest(&context);
        let last = *ways.last().unwrap();
        assert_eq!((row.delivery_method, row.phase), (last, ArmingPhase::NeedsUnicast), "{ways:?}");
        assert_eq!(context.attempts.len(), ways.len(), "each way is an attempt of its own");
    }
}

#[test]
fn a_result_411_of_an_earlier_session_leads_to_the_next_way() {
    let mut context = context_with(&[DeliveryMethod::Broadcast, DeliveryMethod::Download]);
    context.attempts[0].phase = ArmingPhase::Armed;
    context.attempts[0].armed_revision = 1;
    let mut device = scripted().alerting(411, "c1");
    device.run(&mut context);
    let row = latest(&context);
    assert_eq!(
        (row.delivery_method, row.phase, row.attempt),
        (DeliveryMethod::Download, ArmingPhase::Armed, 2)
    );
    assert_ne!(row.correlator, context.attempts[0].correlator);
}

// test: oma-001 8.1.1.10, oma-001 8.1.1.11, oma-000 8.2.3
#[test]
fn a_package_is_sent_inside_the_session_and_installed_by_update() {
    let mut context = context_with(&[DeliveryMethod::Direct]);
    let mut device = scripted();
    device.run(&mut context);
    assert_eq!(device.written(), ["Update/PkgData", "Exec Update"]);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
    let mut context = context_with(&[DeliveryMethod::Direct]);
    context.packages.clear();
    let mut device = scripted();
    device.run(&mut context);
    assert!(device.written().is_empty());
    assert!(latest(&context).reason.as_ref().unwrap().contains("not here"));
}

// test: oma-dm 11.2
#[test]
fn the_remainder_of_a_package_is_sent_to_a_device_that_holds_its_front_and_all_of_it_to_any_other()
{
    let held = |octets: &[u8]| -> &'static str {
        let (octets, sha256) = (octets.len() as u64, proto::crypto::sha256(&[octets]));
        proto::dm::fumo::PackagePrefix { octets, sha256 }.to_string().leak()
    };
    for (shown, node, octets) in [
        (held(&[9; 4]), "Ext/Package/Rest", 6),
        (held(&[8; 4]), "Update/PkgData", 10),
        (held(&[9; 10]), "Update/PkgData", 10),
        (held(&[9; 11]), "Update/PkgData", 10),
        ("", "Update/PkgData", 10),
        ("4 and more", "Update/PkgData", 10),
    ] {
        let mut context = context_with(&[DeliveryMethod::Direct]);
        let mut device = scripted().with("Package/Held", shown);
        device.run(&mut context);
        assert_eq!(device.written(), [node, "Exec Update"], "{shown}");
        let sent = device.seen.iter().find_map(|command| match command {
            Command::Replace(replace) => replace.items[0].to_bytes().ok(),
            _ => None,
        });
        assert_eq!(sent, Some(vec![9; octets]), "{shown}");
    }
}

#[test]
fn a_package_that_the_device_has_no_space_for_is_not_executed() {
    for code in [413, 420] {
        let mut context = context_with(&[DeliveryMethod::Direct]);
        let mut device = scripted();
        device.refused = Some(("PkgData", StatusCode(code)));
        device.run(&mut context);
        assert_eq!(device.written(), ["Update/PkgData"]);
        let reason = latest(&context).reason.clone().unwrap();
        assert_eq!(reason, format!("attempt 1: Replace of PkgData answered {code}"));
    }
}

// test: oma-001 8.1.1.6, oma-001 8.1.1.9
#[test]
fn the_user_is_asked_before_anything_is_written() {
    let mut context = asking();
    let mut device = scripted();
    device.run(&mut context);
    assert_eq!(device.written()[..2], ["Alert 1101", "Manifest"]);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
    assert!(context.notes.iter().any(|note| note.ends_with("the user answered 200")));
}

// test: oma-001 8.1.1.9
#[test]
fn a_user_who_declines_gets_nothing_and_that_is_the_result() {
    for (code, phase, result) in [
        (304, ArmingPhase::Refused, Some(401)),
        (214, ArmingPhase::Refused, Some(401)),
        (408, ArmingPhase::Pending, None),
        (406, ArmingPhase::Refused, None),
        (416, ArmingPhase::Refused, None),
    ] {
        let mut context = asking();
        let mut device = scripted();
        device.user = StatusCode(code);
        device.run(&mut context);
        assert_eq!(device.written(), ["Alert 1101"], "{code}");
        let row = latest(&context);
        assert_eq!((row.phase, row.result_code), (phase, result), "{code}");
        assert!(!row.was_accepted());
    }
}

// test: oma-003 6.1.4.8
#[test]
fn the_user_of_a_device_that_runs_the_version_is_not_asked() {
    let mut context = asking();
    let mut device = scripted().with("FwV", "2.0");
    device.run(&mut context);
    assert!(!device.written().contains(&"Alert 1101".to_owned()));
}

#[test]
fn a_later_minor_version_of_our_extension_is_armed_and_a_later_major_one_is_not() {
    for (version, phase) in [
        ("1.0", ArmingPhase::Armed),
        ("1.7", ArmingPhase::Armed),
        ("2.0", ArmingPhase::NeedsUnicast),
        ("10.0", ArmingPhase::NeedsUnicast),
        ("", ArmingPhase::NeedsUnicast),
    ] {
        let mut context = device_context();
        scripted().with("Broadcast/Version", version).run(&mut context);
        assert_eq!(latest(&context).phase, phase, "{version}");
    }
}

/// Status of a 1.0 client for an unknown node.
#[test]
fn a_client_that_lacks_an_optional_node_is_armed_all_the_same() {
    let mut context = device_context();
    let mut device = scripted();
    device.refused = Some(("Report/Spread", StatusCode::NOT_FOUND));
    device.run(&mut context);
    assert_eq!(latest(&context).phase, ArmingPhase::Armed);
}
