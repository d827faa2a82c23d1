//! Profiles of clients, and devices that are told to rest.

use super::*;
use crate::campaign::model::Way;

/// The octets that the server sends to a device of a profile, and what came of it.
fn said(desk: &mut Desk, quirks: &[Quirk], mut device: Device) -> (String, Device) {
    desk.device.profile.quirks = quirks.iter().copied().collect();
    let replies = device.run(desk);
    let octets = replies.iter().flat_map(|reply| Encoding::Xml.emit(reply)).collect();
    (String::from_utf8(octets).unwrap(), device)
}

#[test]
fn without_a_sequence_each_step_has_its_message() {
    let (plain, _) = said(&mut desk(), &[], Device::new());
    let (quirky, device) = said(&mut desk(), &[Quirk::NoSequence], Device::new());
    assert!(plain.contains("<Sequence>") && !quirky.contains("<Sequence>"));
    assert!(quirky.contains("<Atomic>"));
    assert!(device.written().contains(&"Exec DownloadAndUpdate".to_owned()));
}

#[test]
fn without_an_atomic_what_is_staged_comes_one_by_one() {
    let quirks = [Quirk::NoSequence, Quirk::NoAtomic];
    let (quirky, device) = said(&mut desk(), &quirks, Device::new());
    assert!(!quirky.contains("<Sequence>") && !quirky.contains("<Atomic>"));
    assert!(device.written().contains(&"Exec DownloadAndUpdate".to_owned()));
}

#[test]
fn a_device_whose_large_objects_fail_gets_its_package_by_url() {
    let large = || {
        let mut desk = desk();
        let campaign = &mut desk.campaigns[0];
        campaign.delivery.ways = vec![Way::Direct, Way::Download];
        campaign.delivery.bundle_octets = 5_000;
        desk.armings[0].way = Way::Direct;
        desk.packages.insert(campaign.id, vec![9; 5_000].into());
        desk
    };
    let device = || Device { limit: 4_096, ..Device::new().with("LrgObj", "true") };
    let (plain, _) = said(&mut large(), &[], device());
    assert!(plain.contains("<MoreData"));
    let mut desk = large();
    let (quirky, _) = said(&mut desk, &[Quirk::NoLargeObjects], device());
    assert!(!quirky.contains("<MoreData") && !quirky.contains("PkgData"));
    desk.device.auth.next_nonce = Some(Nonce([1; 16]));
    let (quirky, device) = said(&mut desk, &[Quirk::NoLargeObjects], device());
    assert!(quirky.contains("/descriptor"), "{quirky}");
    assert_eq!(device.written().last().unwrap(), "Exec DownloadAndUpdate");
    assert_eq!((latest(&desk).way, latest(&desk).phase), (Way::Download, ArmingPhase::Armed));
}

#[test]
fn a_client_that_wants_a_correlator_gets_one_in_every_exec() {
    for (quirks, expected) in [(&[][..], false), (&[Quirk::CorrelatorAlways], true)] {
        let mut desk = desk();
        desk.armings.clear();
        desk.device.rest = Some(Rest::Suspend);
        let (octets, _) = said(&mut desk, quirks, Device::new());
        assert!(octets.contains("Ext/Broadcast/Suspend"));
        assert_eq!(octets.contains("<Correlator>"), expected);
    }
}

#[test]
fn a_device_is_told_to_rest_or_to_go_on_in_its_next_session_and_once() {
    for (rest, node) in [(Rest::Suspend, "Exec Suspend"), (Rest::Resume, "Exec Resume")] {
        for (code, is_left) in
            [(200, false), (202, false), (404, false), (406, false), (500, true), (417, true)]
        {
            let mut desk = desk();
            desk.armings.clear();
            desk.device.rest = Some(rest);
            let mut device = Device { exec: StatusCode(code), ..Device::new() };
            device.run(&mut desk);
            assert_eq!(device.written(), [node], "{code}");
            assert_eq!(desk.device.rest.is_some(), is_left, "{code}");
            assert!(desk.notes.contains(&format!("{rest} answered {code}")), "{:?}", desk.notes);
        }
    }
}

#[test]
fn a_device_that_is_told_to_go_on_is_armed_in_the_same_session() {
    let mut desk = desk();
    desk.device.rest = Some(Rest::Resume);
    let mut device = Device::new();
    device.run(&mut desk);
    assert_eq!(device.written()[..2], ["Exec Resume", "Manifest"]);
    assert_eq!(latest(&desk).phase, ArmingPhase::Armed);
}
