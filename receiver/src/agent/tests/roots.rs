//! The chain of roots: what comes over DM, what survives the power, and what it revokes.

use proto::{
    dm::code::StatusCode,
    fixtures::{
        broadcast::EARLY,
        documents::{Keys, random_key, seal},
    },
    trust::{DocumentKind, Root},
};

use super::*;

const OK: StatusCode = StatusCode::OK;
const REFUSED: StatusCode = StatusCode::FAILED;

impl Device {
    pub(super) fn offer_root(&mut self, envelope: &[u8]) -> StatusCode {
        let status = self.agent.owners.offer_root(self.now, envelope);
        self.agent.settle(self.now);
        self.run();
        status
    }

    fn arm_as(&mut self, correlator: &str) {
        let correlator = Some(Correlator(correlator.to_owned()));
        self.arm_with(ArmRequest { correlator, ..self.request() });
    }

    fn root_version(&self) -> u64 {
        self.agent.owners.trust.root_version()
    }

    /// Returns other keys of the same operator, and the envelope of root `version` that brings them
    /// after those that `before` holds.
    fn rotated(before: &Keys, version: u64) -> (Keys, Vec<u8>) {
        let keys = Keys::random(EARLY);
        let envelope = keys.root_after(before, version, |_| ());
        (keys, envelope)
    }
}

// test: security 2 (rotation of the root)
#[test]
fn a_device_goes_from_root_1_to_3_one_by_one_and_accepts_neither_gaps_nor_strangers() {
    let mut device = Device::new();
    let (two, second) = Device::rotated(&device.broadcast.keys, 2);
    let (three, third) = Device::rotated(&two, 3);
    assert_eq!(device.offer_root(&third), REFUSED, "3 after 1");
    let by_stranger = two.root_after(&three, 2, |_| ());
    assert_eq!(device.offer_root(&by_stranger), REFUSED, "not signed by root 1");
    let by_old_alone = seal(
        DocumentKind::Root,
        Root { version: 2, ..two.root_document() }.emit().unwrap(),
        &device.broadcast.keys.root,
    );
    assert_eq!(device.offer_root(&by_old_alone), REFUSED, "not signed by its own keys");
    assert_eq!(device.root_version(), 1);

    assert_eq!(device.offer_root(&second), OK);
    assert_eq!(device.journal().root_version, 2, "stored before the answer");
    assert_eq!(device.offer_root(&second), REFUSED, "again");
    assert_eq!(device.offer_root(&third), OK);
    assert_eq!(device.offer_root(&second), REFUSED, "back");
    let lower_epoch = three.root_after(&three, 4, |root| root.epoch = 0);
    assert_eq!(device.offer_root(&lower_epoch), REFUSED);
    assert_eq!(device.offer_root(b"junk"), REFUSED);
    device.restart();
    assert_eq!(device.root_version(), 3);
}

#[test]
fn a_power_cut_at_any_step_of_a_rotation_leaves_the_old_or_the_new_root() {
    for power_left in 0..6 {
        let mut device = Device::new();
        let (two, second) = Device::rotated(&device.broadcast.keys, 2);
        assert_eq!(device.offer_root(&second), OK);
        let (_, third) = Device::rotated(&two, 3);
        device.power_left = Some(power_left);
        device.offer_root(&third);
        device.restart();
        let version = device.root_version();
        assert!(matches!(version, 2 | 3), "{version} after {power_left} outputs");
        let expected = if version == 2 { OK } else { REFUSED };
        assert_eq!(device.offer_root(&third), expected, "again after {power_left} outputs");
        assert_eq!(device.root_version(), 3);
    }
}

#[test]
fn a_device_whose_newest_root_is_gone_does_not_go_back_to_an_older_one() {
    let mut device = Device::new();
    let (two, second) = Device::rotated(&device.broadcast.keys, 2);
    assert_eq!(device.offer_root(&second), OK);
    let factory = device.broadcast.keys.root_envelope();
    for damage in [None, Some(device.broadcast.keys.root_envelope())] {
        let mut disk = device.disk.clone();
        match damage {
            None => disk.files.remove("2.root"),
            Some(older) => disk.files.insert("2.root".to_owned(), older),
        };
        let lost = try_boot(factory.clone(), &disk, device.now, 9).unwrap_err();
        assert_eq!(lost, crate::trust::RootError::Lost { stored: 2, factory: 1 }.into());
        let newer = two.root_after(&two, 2, |_| ());
        assert!(try_boot(newer, &disk, device.now, 9).is_ok(), "the maker gives one as new");
    }
}

// test: security 2 (revocation)
#[test]
fn a_root_without_the_key_of_the_armed_campaign_ends_it() {
    let mut device = Device::new();
    device.arm();
    assert_eq!(device.phase(), Phase::Armed);
    let stolen = std::mem::replace(&mut device.broadcast.keys.campaign, random_key());
    let next = device.broadcast.keys.root_after(&device.broadcast.keys, 2, |_| ());
    device.broadcast.keys.campaign = stolen;
    assert_eq!(device.offer_root(&next), OK);
    assert_eq!((device.phase(), device.results()), (Phase::Refused, vec![404]));
    device.restart();
    assert_eq!(device.results(), [404]);
    device.arm_as("c-2");
    assert_eq!(device.results(), [404, 404], "and the revoked key arms nothing");
}

/// A device whose whole image is being verified while a root revokes the campaign, and the same
/// image is armed again by the next keys.
fn revoked_while_verifying() -> Device {
    let mut device = Device::new();
    device.arm();
    device.to(OPENS);
    device.held = Held::Finish;
    device.receive_pass();
    assert_eq!(device.phase(), Phase::Assembled);
    let (keys, next) = Device::rotated(&device.broadcast.keys, 2);
    device.broadcast.keys = keys;
    device.broadcast.campaign.sequence += 1;
    device.broadcast.campaign.id.0[0] ^= 1;
    assert_eq!(device.offer_root(&next), OK);
    device.arm_as("c-2");
    assert_eq!((device.phase(), device.results()), (Phase::Armed, vec![404]));
    device
}

#[test]
fn a_verification_of_the_operation_before_does_not_count_in_the_next() {
    let mut device = revoked_while_verifying();
    device.release();
    assert_eq!(device.phase(), Phase::Receiving, "the window is open");
    assert_eq!(device.installed.len(), 0);
    device.receive_pass();
    assert_eq!(device.phase(), Phase::Confirmed);
}

#[test]
fn what_is_stored_is_removed_after_the_verification_that_reads_it() {
    let mut device = revoked_while_verifying();
    assert_eq!(device.disk.object, Some(device.broadcast.object.object_key));
    assert!(!device.disk.image.is_empty(), "the decoder reads it");
    device.release();
    assert!(device.disk.image.is_empty());
}

#[test]
fn a_power_cut_while_a_document_is_stored_with_other_signatures_leaves_one_of_the_two() {
    for power_left in 0.. {
        let mut device = Device::new();
        device.arm();
        let factory = device.broadcast.keys.root_envelope();
        let (keys, next) = Device::rotated(&device.broadcast.keys, 2);
        device.broadcast.keys = keys;
        device.broadcast.campaign.sequence += 1;
        device.power_left = Some(power_left);
        assert_eq!(device.agent.owners.offer_root(device.now, &next), OK);
        device.arm_as("c-2");
        let again = try_boot(factory, &device.disk, device.now, 1).unwrap();
        assert_eq!(again.status().phase, Phase::Armed, "cut at {power_left}");
        if !device.stopped {
            return;
        }
    }
}

#[test]
fn a_root_with_the_same_keys_leaves_the_armed_campaign_alone() {
    let mut device = Device::new();
    device.arm();
    let keys = &device.broadcast.keys;
    let next = keys.root_after(keys, 2, |_| ());
    assert_eq!(device.offer_root(&next), OK);
    device.restart();
    assert_eq!((device.phase(), device.results()), (Phase::Armed, vec![]));
}

// test: security 2 (epoch)
#[test]
fn a_new_epoch_is_the_way_out_when_the_highest_sequence_was_signed() {
    let mut device = Device::new();
    device.broadcast.campaign.sequence = u64::MAX;
    device.arm_as("c-1");
    device.agent.owners.disarm(device.now);
    device.run();
    device.broadcast.campaign.sequence = 1;
    device.broadcast.campaign.id.0[0] ^= 1;
    device.arm_as("c-2");
    assert_eq!(device.results(), [453, 455], "nothing is above the highest sequence");

    let keys = &device.broadcast.keys;
    let next = keys.root_after(keys, 2, |root| root.epoch = 2);
    assert_eq!(device.offer_root(&next), OK);
    device.arm_as("c-3");
    assert_eq!(device.phase(), Phase::Refused, "documents of the epoch before");
    device.broadcast.campaign.epoch = 2;
    device.broadcast.manifest.epoch = 2;
    device.broadcast.campaign.manifest_sha256 =
        sha256(&[&device.broadcast.manifest.emit().unwrap()]);
    device.arm_as("c-4");
    assert_eq!(device.phase(), Phase::Armed);
    device.restart();
    assert_eq!(device.phase(), Phase::Armed);
}

#[test]
fn a_root_waits_until_the_installation_is_over() {
    let mut device = Device::new();
    device.arm();
    device.agent.owners.update.hand_over();
    let (_, second) = Device::rotated(&device.broadcast.keys, 2);
    assert_eq!(device.offer_root(&second), StatusCode::FORBIDDEN);
    assert_eq!(device.root_version(), 1);
}
