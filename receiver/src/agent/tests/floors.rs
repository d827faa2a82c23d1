//! The floors of a device, also when its journal is lost.

use super::*;
use crate::store::floors::TrustState;

impl Device {
    fn arm_sequence(&mut self, sequence: u64, correlator: &str) -> Vec<u16> {
        self.broadcast.campaign.sequence = sequence;
        self.broadcast.campaign.id.0[1] = u8::try_from(sequence).unwrap();
        let correlator = Some(Correlator(correlator.to_owned()));
        self.arm_with(ArmRequest { correlator, ..self.request() });
        self.results()
    }

    fn lose_journal(&mut self) {
        for copy in &mut self.disk.journal {
            copy.truncate(30);
        }
    }

    fn reasons(&self) -> Vec<String> {
        self.agent.status().reasons
    }

    fn floors(&self) -> Option<Floors> {
        match FloorsFile::read(self.disk.floors.as_deref()).unwrap() {
            FloorsFile::Sound(floors) => Some(floors),
            FloorsFile::Missing | FloorsFile::Damaged => None,
        }
    }
}

/// Returns a device that has been armed with the sequences 7 and 9, so that both copies of its
/// journal are written.
fn armed() -> Device {
    let mut device = Device::new();
    device.arm_sequence(7, "c-1");
    device.arm_sequence(9, "c-2");
    assert_eq!(device.phase(), Phase::Armed);
    device
}

#[test]
fn a_device_that_lost_both_copies_of_its_journal_accepts_no_older_campaign() {
    let mut device = armed();
    device.lose_journal();
    device.restart();
    assert_eq!((device.phase(), device.reasons()), (Phase::Idle, vec!["trust-state".to_owned()]));
    assert_eq!(device.arm_sequence(8, "c-3"), [455]);
    device.restart();
    assert_eq!(device.reasons(), ["trust-state"], "until it is armed again");
    assert_eq!(device.arm_sequence(10, "c-4"), [455]);
    assert_eq!((device.phase(), device.reasons()), (Phase::Armed, vec![]));
}

#[test]
fn a_device_that_lost_its_floors_too_is_armed_by_nobody_before_a_person_sets_them() {
    for damage in [None, Some(b"FCFL and no more".to_vec())] {
        let mut device = armed();
        device.lose_journal();
        device.disk.floors = damage;
        device.restart();
        assert_eq!(device.reasons(), ["trust-state-lost"]);
        assert_eq!(device.arm_sequence(99, "c-3"), [455]);
        // The journal that it writes meanwhile changes nothing.
        device.restart();
        device.restart();
        assert_eq!(device.arm_sequence(99, "c-4"), [455, 455]);
        assert_eq!(device.floors(), None, "nothing makes them anew");
        let set =
            Floors { root_version: 1, epoch: 1, general: 5, is_reset: true, ..Floors::default() };
        device.disk.floors = Some(set.emit());
        device.restart();
        assert_eq!(device.reasons(), Vec::<String>::new());
        assert_eq!(device.arm_sequence(5, "c-5"), [455, 455, 455]);
        device.arm_sequence(10, "c-6");
        assert_eq!(device.phase(), Phase::Armed);
        assert_eq!(device.floors().unwrap().general, 5, "kept with what was accepted since");
    }
}

#[test]
fn a_power_cut_between_floors_and_journal_loses_neither() {
    let mut device = Device::new();
    device.arm_sequence(7, "c-1");
    let before = device.disk.journal.clone();
    device.arm_sequence(9, "c-2");
    // The floors of the second arming were written, and its journal was not.
    device.disk.journal = before;
    device.restart();
    assert_eq!(device.journal().accepted[0].sequence, 7);
    assert_eq!(device.floors().unwrap().accepted[0].sequence, 9);
    assert_eq!(device.reasons(), Vec::<String>::new());
    assert_eq!(device.arm_sequence(8, "c-3").last(), Some(&455));
    // The same campaign again is no other one.
    device.arm_sequence(9, "c-4");
    assert_eq!(device.phase(), Phase::Armed);
}

// test: security 2 (revocation)
#[test]
fn a_campaign_whose_keys_a_root_before_the_power_cut_revoked_is_revoked_and_not_damaged() {
    let mut device = Device::new();
    device.arm();
    let before = device.disk.journal.clone();
    let stolen = std::mem::replace(
        &mut device.broadcast.keys.campaign,
        proto::fixtures::documents::random_key(),
    );
    let next = device.broadcast.keys.root_after(&device.broadcast.keys, 2, |_| ());
    device.broadcast.keys.campaign = stolen;
    device.offer_root(&next);
    assert_eq!(device.results(), [404]);
    // The root and the floors were written, and the journal was not.
    device.disk.journal = before;
    device.restart();
    assert_eq!((device.phase(), device.results()), (Phase::Refused, vec![404]));
    // Damaged files are an error.
    let mut device = armed();
    device.disk.files.retain(|name, _| !name.ends_with("campaign"));
    device.restart();
    assert_eq!((device.phase(), device.results()), (Phase::Failed, vec![453, 409]));
}

#[test]
fn lost_floors_are_made_from_the_journal() {
    for damage in [None, Some(b"junk".to_vec())] {
        let mut device = armed();
        let expected = device.floors();
        device.disk.floors = damage;
        device.restart();
        device.agent.check_in(device.now);
        device.run();
        device.agent.owners.effects.mark_dirty();
        device.agent.owners.effects.commit_if_dirty();
        device.run();
        assert_eq!(device.floors(), expected);
        assert_eq!(TrustState::of_number(device.journal().trust_state), TrustState::Sound);
    }
}

#[test]
fn floors_are_written_only_when_they_change() {
    let mut device = armed();
    device.disk.floors = None;
    device.to(OPENS);
    device.receive_some(40);
    assert_eq!(device.disk.floors, None, "what a reception writes is no floor");
    device.receive_pass();
    assert_eq!(device.phase(), Phase::Confirmed);
    let installed = &device.floors().expect("an installation raises one").installed;
    assert_eq!(installed.len(), 1);
}
