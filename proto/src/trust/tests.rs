use std::collections::BTreeMap;

use super::{
    campaign::CampaignObject,
    envelope::{MAX_ENVELOPE_BYTES, MAX_PAYLOAD_BYTES, MAX_SIGNATURES},
    *,
};
use crate::{
    crypto::{Digest, SigningKey, sha256},
    fixtures::documents::random_key,
    ids::{CampaignId, ClassId, ComponentId, VendorId},
    time::Utc,
};

mod hostile;
mod theft;

/// One key for each role, and more where a test needs them.
struct Keys {
    root: Vec<SigningKey>,
    release: Vec<SigningKey>,
    campaign: Vec<SigningKey>,
}

impl Keys {
    fn new() -> Self {
        Self {
            root: vec![random_key()],
            release: vec![random_key(), random_key()],
            campaign: vec![random_key()],
        }
    }

    fn root_document(&self) -> Root {
        let role = |keys: &[SigningKey]| RoleKeys {
            threshold: u32::try_from(keys.len()).unwrap(),
            keys: keys.iter().map(SigningKey::public).collect(),
        };
        Root {
            version: 1,
            expires: Utc::from_seconds(9_000),
            roles: BTreeMap::from([
                (Role::Root, role(&self.root)),
                (Role::Release, role(&self.release)),
                (Role::Campaign, role(&self.campaign)),
            ]),
            sequence_floor: 0,
            epoch: 3,
        }
    }

    fn root(&self) -> Verified<Root> {
        let payload = self.root_document().emit().unwrap();
        Root::from_factory(&seal(DocumentKind::Root, payload, &self.root)).unwrap()
    }
}

#[test]
fn the_class_of_a_component_depends_on_the_devices_and_on_the_package() {
    let class =
        |octet: u8, package: &str| component_class(ClassId([octet; 16]), &package.parse().unwrap());
    // printf 'fccomponent1%splayer' "$(printf '\002%.0s' {1..16})" | sha256sum
    assert_eq!(class(2, "player").to_string(), "4f41c1f0bf186704814d7cbcf4a66202");
    assert_ne!(class(3, "player"), class(2, "player"));
    assert_ne!(class(2, "player2"), class(2, "player"));
}

fn seal(kind: DocumentKind, payload: Vec<u8>, keys: &[SigningKey]) -> Vec<u8> {
    let mut envelope = Envelope::new(kind, payload).unwrap();
    keys.iter().for_each(|key| envelope.sign(key).unwrap());
    envelope.emit()
}

fn manifest() -> Manifest {
    let stored = sha256(&[b"image"]);
    Manifest {
        sequence: 5,
        floor_after_commit: 2,
        vendor: VendorId([1; 16]),
        classes: vec![ClassId([2; 16])],
        firmware_version: "2.0".to_owned(),
        components: vec![Component {
            id: ComponentId(0),
            stored_len: 100_000,
            stored_sha256: stored,
            encoding: ComponentEncoding::None,
            decoded_len: 100_000,
            decoded_sha256: stored,
            memory_needed: 0,
        }],
        not_before: Utc::from_seconds(100),
        expires: Utc::from_seconds(900),
        root_version: 1,
        epoch: 3,
    }
}

fn campaign(manifest_sha256: Digest) -> Campaign {
    Campaign {
        id: CampaignId([7; 16]),
        sequence: 5,
        manifest_sha256,
        objects: vec![CampaignObject {
            component: ComponentId(0),
            symbol_size: 1408,
            source_blocks: 1,
            alignment: 8,
            plan_root: Digest([9; 32]),
            repair_per_block: 72,
        }],
        not_before: Utc::from_seconds(200),
        latest_stop: Utc::from_seconds(800),
        sources: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        report_spread_max_s: 3600,
        expires: Utc::from_seconds(800),
        epoch: 3,
    }
}

fn sealed_manifest(keys: &Keys, manifest: &Manifest) -> Vec<u8> {
    seal(DocumentKind::Manifest, manifest.emit().unwrap(), &keys.release)
}

fn sealed_campaign(keys: &Keys, campaign: &Campaign) -> Vec<u8> {
    seal(DocumentKind::Campaign, campaign.emit().unwrap(), &keys.campaign)
}

#[test]
fn documents_are_read_as_they_were_made() {
    let keys = Keys::new();
    let root = keys.root();
    assert_eq!(*root, keys.root_document());
    let read = Manifest::verify(&root, &sealed_manifest(&keys, &manifest())).unwrap();
    assert_eq!(*read, manifest());
    assert_eq!(read.digest(), sha256(&[&manifest().emit().unwrap()]));
    let made = campaign(read.digest());
    let campaign = Campaign::verify(&root, &sealed_campaign(&keys, &made)).unwrap();
    assert_eq!(*campaign, made);
    let [object] = campaign.planned_objects(&read).unwrap()[..] else { panic!("one object") };
    assert_eq!(object.oti.total_symbols(), 72);
    assert_eq!(object.stored_sha256, sha256(&[b"image"]));
}

#[test]
fn documents_for_one_image_stay_small() {
    let keys = Keys::new();
    assert!(sealed_manifest(&keys, &manifest()).len() <= 640);
    assert!(sealed_campaign(&keys, &campaign(Digest([0; 32]))).len() <= 640);
}

#[test]
fn every_changed_octet_of_a_manifest_or_campaign_is_refused() {
    let keys = Keys::new();
    let root = keys.root();
    let manifest_envelope = sealed_manifest(&keys, &manifest());
    let campaign_envelope = sealed_campaign(&keys, &campaign(Digest([0; 32])));
    // The key id is a hint that decides nothing; every other octet counts.
    let hints: Vec<String> =
        keys.release.iter().chain(&keys.campaign).map(|key| key.public().key_id()).collect();
    let is_hint = |octets: &[u8], at: usize| {
        hints.iter().any(|hint| {
            octets.windows(hint.len()).enumerate().any(|(start, window)| {
                window == hint.as_bytes() && (start..start + 16).contains(&at)
            })
        })
    };
    for at in (0..manifest_envelope.len()).filter(|at| !is_hint(&manifest_envelope, *at)) {
        let mut changed = manifest_envelope.clone();
        changed[at] ^= 1;
        assert!(Manifest::verify(&root, &changed).is_err(), "manifest octet {at}");
        assert!(Manifest::verify(&root, &manifest_envelope[..at]).is_err(), "cut at {at}");
    }
    for at in (0..campaign_envelope.len()).filter(|at| !is_hint(&campaign_envelope, *at)) {
        let mut changed = campaign_envelope.clone();
        changed[at] ^= 1;
        assert!(Campaign::verify(&root, &changed).is_err(), "campaign octet {at}");
        assert!(Campaign::verify(&root, &campaign_envelope[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_key_counts_once_however_often_it_signs() {
    let keys = Keys::new();
    let root = keys.root();
    let payload = manifest().emit().unwrap();
    let one = seal(DocumentKind::Manifest, payload.clone(), &keys.release[..1]);
    let expected = TrustError::Threshold { role: Role::Release, valid: 1, needed: 2 };
    assert_eq!(Manifest::verify(&root, &one).unwrap_err(), expected);
    // The same signature three times over, under made-up key ids.
    let mut message: messages::Envelope = prost::Message::decode(one.as_slice()).unwrap();
    for keyid in ["a", "b"] {
        let sig = message.signatures[0].sig.clone();
        message.signatures.push(messages::Signature { sig, keyid: keyid.to_owned() });
    }
    let tripled = prost::Message::encode_to_vec(&message);
    assert_eq!(Manifest::verify(&root, &tripled).unwrap_err(), expected);
}

#[test]
fn a_key_of_another_role_does_not_count() {
    let keys = Keys::new();
    let root = keys.root();
    let by_release =
        seal(DocumentKind::Campaign, campaign(Digest([0; 32])).emit().unwrap(), &keys.release);
    let expected = TrustError::Threshold { role: Role::Campaign, valid: 0, needed: 1 };
    assert_eq!(Campaign::verify(&root, &by_release).unwrap_err(), expected);
    // A campaign key that signs its document under the manifest's name.
    let renamed =
        seal(DocumentKind::Manifest, campaign(Digest([0; 32])).emit().unwrap(), &keys.campaign);
    assert!(Manifest::verify(&root, &renamed).is_err());
    assert!(Campaign::verify(&root, &renamed).is_err());
}

#[test]
fn a_document_of_another_epoch_or_a_later_root_is_refused() {
    let keys = Keys::new();
    let root = keys.root();
    for epoch in [2, 4] {
        let other = Manifest { epoch, ..manifest() };
        let error = Manifest::verify(&root, &sealed_manifest(&keys, &other)).unwrap_err();
        assert!(matches!(error, TrustError::Generation { what: "epoch", .. }), "{error}");
        let other = Campaign { epoch, ..campaign(Digest([0; 32])) };
        assert!(Campaign::verify(&root, &sealed_campaign(&keys, &other)).is_err());
    }
    let later = Manifest { root_version: 2, ..manifest() };
    let error = Manifest::verify(&root, &sealed_manifest(&keys, &later)).unwrap_err();
    assert!(matches!(error, TrustError::Generation { what: "root version", .. }), "{error}");
}

#[test]
fn a_campaign_made_for_another_manifest_is_refused() {
    let keys = Keys::new();
    let root = keys.root();
    let read = Manifest::verify(&root, &sealed_manifest(&keys, &manifest())).unwrap();
    let foreign = campaign(Digest([0; 32]));
    let mismatch = TrustError::Mismatch { what: "manifest_sha256" };
    assert_eq!(foreign.planned_objects(&read).unwrap_err(), mismatch);
    let mut swapped = campaign(read.digest());
    swapped.objects[0].component = ComponentId(1);
    let mismatch = TrustError::Mismatch { what: "a component" };
    assert_eq!(swapped.planned_objects(&read).unwrap_err(), mismatch);
}

#[test]
fn object_parameters_that_no_codec_may_be_given_are_refused() {
    let keys = Keys::new();
    let read = Manifest::verify(&keys.root(), &sealed_manifest(&keys, &manifest())).unwrap();
    let with = |change: fn(&mut CampaignObject)| {
        let mut changed = campaign(read.digest());
        change(&mut changed.objects[0]);
        changed.emit().is_err() || changed.planned_objects(&read).is_err()
    };
    assert!(!with(|_| ()));
    assert!(with(|object| object.symbol_size = 63));
    assert!(with(|object| object.symbol_size = 1416));
    assert!(with(|object| object.symbol_size = 1404));
    assert!(with(|object| object.alignment = 3));
    assert!(with(|object| object.alignment = 0));
    assert!(with(|object| object.source_blocks = 0));
    assert!(with(|object| object.source_blocks = 73));
    assert!(with(|object| object.repair_per_block = 1 << 24));
    assert!(with(|object| object.repair_per_block = u32::MAX));
}

// test: rfc6726 7.3.1, rfc5651 7, rfc6330 6, rfc5052 11
#[test]
fn windows_and_sources_are_held_to_the_limits() {
    let campaign = campaign(Digest([0; 32]));
    let at = Utc::from_seconds;
    assert!(campaign.check_window(at(200), at(800)).is_ok());
    assert!(campaign.check_window(at(199), at(800)).is_err());
    assert!(campaign.check_window(at(200), at(801)).is_err());
    assert!(campaign.check_window(at(300), at(300)).is_err());
    assert!(campaign.admits_source("192.0.2.1".parse().unwrap()));
    assert!(!campaign.admits_source("192.0.2.2".parse().unwrap()));
}

#[test]
fn fields_out_of_range_are_refused_by_name() {
    let refused = |manifest: Manifest| manifest.emit().unwrap_err().to_string();
    let long = Manifest { firmware_version: "x".repeat(65), ..manifest() };
    assert!(refused(long).starts_with("firmware_version"));
    let none = Manifest { classes: vec![], ..manifest() };
    assert!(refused(none).starts_with("class_id"));
    let many = Manifest { classes: vec![ClassId([2; 16]); 17], ..manifest() };
    assert!(refused(many).starts_with("class_id"));
    let floor = Manifest { floor_after_commit: 6, ..manifest() };
    assert!(refused(floor).starts_with("floor_after_commit"));
    let twice = Manifest { components: vec![manifest().components[0].clone(); 2], ..manifest() };
    assert!(refused(twice).starts_with("component id"));
    let mut empty = manifest();
    empty.components[0].stored_len = 0;
    assert!(refused(empty).starts_with("stored_len"));
    let expired = Campaign { expires: Utc::from_seconds(799), ..campaign(Digest([0; 32])) };
    assert!(expired.emit().unwrap_err().to_string().starts_with("expires"));
    let spread = Campaign { report_spread_max_s: 604_801, ..campaign(Digest([0; 32])) };
    assert!(spread.emit().unwrap_err().to_string().starts_with("report_spread_max_s"));
}

#[test]
fn a_threshold_of_none_or_of_more_keys_than_there_are_is_refused() {
    let keys = Keys::new();
    for threshold in [0, 3] {
        let mut root = keys.root_document();
        root.roles.get_mut(&Role::Release).unwrap().threshold = threshold;
        assert!(root.emit().is_err(), "{threshold}");
    }
    let mut root = keys.root_document();
    let release = root.roles.get_mut(&Role::Release).unwrap();
    release.keys[1] = release.keys[0];
    assert!(root.emit().is_err(), "two keys of the same octets");
}

#[test]
fn the_next_root_needs_the_threshold_of_both() {
    let old = Keys::new();
    let mut new = Keys::new();
    let current = old.root();
    let next = |keys: &Keys| Root { version: 2, ..keys.root_document() }.emit().unwrap();
    let by_new = seal(DocumentKind::Root, next(&new), &new.root);
    assert!(Root::successor(&current, &by_new).is_err());
    let by_old = seal(DocumentKind::Root, next(&new), &old.root);
    assert!(Root::successor(&current, &by_old).is_err());
    let payload = next(&new);
    new.root.extend(old.root);
    let by_both = seal(DocumentKind::Root, payload, &new.root);
    assert_eq!(Root::successor(&current, &by_both).unwrap().version, 2);
}

/// Makes root `version` of the keys, signed by them and by the root keys of `before`.
fn root_after(before: &Keys, keys: &Keys, change: impl FnOnce(&mut Root)) -> Vec<u8> {
    let mut root = keys.root_document();
    change(&mut root);
    let mut envelope = Envelope::new(DocumentKind::Root, root.emit().unwrap()).unwrap();
    keys.root.iter().chain(&before.root).for_each(|key| envelope.sign(key).unwrap());
    envelope.emit()
}

#[test]
fn the_next_root_is_the_very_next_and_lowers_neither_epoch_nor_floor() {
    let keys = Keys::new();
    let first = root_after(&keys, &keys, |root| root.sequence_floor = 5);
    let current = Root::from_factory(&first).unwrap();
    let judged = |version, epoch, floor| {
        let next = root_after(&keys, &keys, |root| {
            (root.version, root.epoch, root.sequence_floor) = (version, epoch, floor);
        });
        Root::successor(&current, &next).map(|root| root.version)
    };
    let refused = |what, found, stored| Err(TrustError::Generation { what, found, stored });
    assert_eq!(judged(2, 3, 5), Ok(2));
    assert_eq!(judged(1, 3, 5), refused("root version", 1, 1));
    assert_eq!(judged(3, 3, 5), refused("root version", 3, 1));
    assert_eq!(judged(u64::MAX, 3, 5), refused("root version", u64::MAX, 1));
    assert_eq!(judged(2, 2, 5), refused("epoch", 2, 3));
    assert_eq!(judged(2, 3, 4), refused("sequence floor", 4, 5));
    assert_eq!(judged(2, 4, 0), Ok(2), "a new epoch counts from the beginning");
}

#[test]
fn a_chain_of_roots_leads_to_the_newest_and_has_no_gap() {
    let (one, two, three) = (Keys::new(), Keys::new(), Keys::new());
    let first = root_after(&one, &one, |_| ());
    let second = root_after(&one, &two, |root| root.version = 2);
    let third = root_after(&two, &three, |root| root.version = 3);
    let chain = RootChain::verify(vec![third.clone(), first.clone(), second.clone()]).unwrap();
    assert_eq!(chain.newest().version, 3);
    assert_eq!(chain.into_envelopes().into_keys().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(RootChain::verify(vec![third.clone()]).unwrap().newest().version, 3);
    assert!(RootChain::verify(vec![]).is_err());
    assert!(RootChain::verify(vec![first.clone(), third]).is_err(), "a gap");
    assert!(RootChain::verify(vec![first.clone(); 2]).is_err(), "twice");
    let other = root_after(&three, &two, |root| root.version = 2);
    assert!(RootChain::verify(vec![first, other]).is_err(), "signed by strangers");
    let many = RootChain::verify(vec![second; RootChain::MAX_STEPS + 1]).unwrap_err();
    assert!(matches!(many, TrustError::Malformed(crate::wire::WireError::TooLarge { .. })));
}

#[test]
fn a_signature_made_elsewhere_counts_when_it_is_over_these_very_octets() {
    let keys = Keys::new();
    let root = keys.root();
    let [one, two] = &keys.release[..] else { panic!("two release keys") };
    let mut envelope = Envelope::new(DocumentKind::Manifest, manifest().emit().unwrap()).unwrap();
    let text = envelope.text_to_sign();
    assert!(text.starts_with(b"DSSEv1 36 application/vnd.fumocast.manifest.v1 "));
    envelope.add_signature(one.public(), one.sign(&text)).unwrap();
    let stranger = TrustError::ForeignSignature { key_id: two.public().key_id() };
    assert_eq!(envelope.add_signature(two.public(), one.sign(&text)), Err(stranger.clone()));
    assert_eq!(envelope.add_signature(two.public(), two.sign(envelope.payload())), Err(stranger));
    assert_eq!(envelope.signers(&root.keys(Role::Release).keys), [&one.public()]);
    assert!(Manifest::verify(&root, &envelope.emit()).is_err());
    envelope.add_signature(two.public(), two.sign(&text)).unwrap();
    envelope.add_signature(two.public(), two.sign(&text)).unwrap();
    assert_eq!(envelope.key_ids().count(), 2);
    assert!(Manifest::verify(&root, &envelope.emit()).is_ok());
}

#[test]
fn envelopes_beyond_the_limits_are_refused_before_any_signature() {
    assert!(Envelope::new(DocumentKind::Root, vec![0; MAX_PAYLOAD_BYTES]).is_ok());
    assert!(Envelope::new(DocumentKind::Root, vec![0; MAX_PAYLOAD_BYTES + 1]).is_err());
    assert!(Envelope::parse(&vec![0; MAX_ENVELOPE_BYTES + 1]).is_err());
    let mut envelope = Envelope::new(DocumentKind::Root, vec![1]).unwrap();
    for _ in 0..MAX_SIGNATURES {
        envelope.sign(&random_key()).unwrap();
    }
    assert!(envelope.sign(&random_key()).is_err());
    let with = |change: fn(&mut messages::Envelope)| {
        let mut message: messages::Envelope =
            prost::Message::decode(envelope.emit().as_slice()).unwrap();
        change(&mut message);
        Envelope::parse(&prost::Message::encode_to_vec(&message))
    };
    assert!(with(|_| ()).is_ok());
    assert!(with(|message| message.payload_type.push('x')).is_err());
    assert!(with(|message| message.signatures[0].sig.truncate(63)).is_err());
    assert!(with(|message| message.signatures[0].sig.push(0)).is_err());
    let mut trailing = envelope.emit();
    trailing.extend([0x20, 0]);
    assert!(Envelope::parse(&trailing).is_err(), "a field that the envelope does not have");
}

#[test]
fn an_extension_that_must_be_understood_is_refused_by_number() {
    let payload = campaign(Digest([0; 32])).emit().unwrap();
    let mut message: messages::Campaign = prost::Message::decode(payload.as_slice()).unwrap();
    message.critical = vec![77];
    let error = Campaign::read(&prost::Message::encode_to_vec(&message)).unwrap_err();
    let expected = TrustError::NotUnderstood { document: DocumentKind::Campaign, number: 77 };
    assert_eq!(error, expected);
}
