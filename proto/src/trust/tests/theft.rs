//! Stolen keys: the powers of a thief with each of them. Two release keys must sign, two of three
//! root keys, one campaign key.

use super::*;

fn victim() -> Keys {
    Keys {
        root: vec![random_key(), random_key(), random_key()],
        release: vec![random_key(), random_key()],
        campaign: vec![random_key()],
    }
}

fn root_of(keys: &Keys) -> Root {
    let mut root = keys.root_document();
    root.roles.get_mut(&Role::Root).unwrap().threshold = 2;
    root
}

fn stored(keys: &Keys) -> Verified<Root> {
    Root::from_factory(&seal(DocumentKind::Root, root_of(keys).emit().unwrap(), &keys.root))
        .unwrap()
}

fn takes_manifest(root: &Verified<Root>, keys: &[SigningKey]) -> bool {
    let envelope = seal(DocumentKind::Manifest, manifest().emit().unwrap(), keys);
    Manifest::verify(root, &envelope).is_ok()
}

fn takes_campaign(root: &Verified<Root>, keys: &[SigningKey]) -> bool {
    let payload = campaign(Digest([0; 32])).emit().unwrap();
    Campaign::verify(root, &seal(DocumentKind::Campaign, payload, keys)).is_ok()
}

/// Returns whether the thief's root, which gives every role to a key of his own, is accepted.
fn takes_root(root: &Verified<Root>, keys: &[SigningKey]) -> bool {
    let own = || RoleKeys { threshold: 1, keys: vec![keys[0].public()] };
    let roles = Role::ALL.into_iter().map(|role| (role, own())).collect();
    let next = Root { version: root.version + 1, roles, ..(**root).clone() };
    Root::successor(root, &seal(DocumentKind::Root, next.emit().unwrap(), keys)).is_ok()
}

#[test]
fn a_stolen_campaign_key_arms_what_the_release_keys_signed_and_nothing_else() {
    let keys = victim();
    let root = stored(&keys);
    assert!(takes_campaign(&root, &keys.campaign), "that is what it is for");
    assert!(!takes_manifest(&root, &keys.campaign));
    assert!(!takes_root(&root, &keys.campaign));
    // With firmware of his own: the campaign is signed, its manifest is not.
    let own = seal(DocumentKind::Manifest, manifest().emit().unwrap(), &keys.campaign);
    let wanted = TrustError::Threshold { role: Role::Release, valid: 0, needed: 2 };
    assert_eq!(Manifest::verify(&root, &own), Err(wanted));
}

#[test]
fn a_stolen_release_key_makes_no_firmware_without_the_other_and_arms_nothing() {
    let keys = victim();
    let root = stored(&keys);
    assert!(!takes_manifest(&root, &keys.release[..1]));
    assert!(takes_manifest(&root, &keys.release), "both have to be stolen");
    assert!(!takes_campaign(&root, &keys.release), "and then nobody is armed with it");
    assert!(!takes_root(&root, &keys.release));
}

#[test]
fn a_stolen_root_key_replaces_no_root_and_signs_nothing_else() {
    let keys = victim();
    let root = stored(&keys);
    assert!(!takes_root(&root, &keys.root[..1]));
    assert!(takes_root(&root, &keys.root[..2]), "two of three have to be stolen");
    assert!(!takes_manifest(&root, &keys.root));
    assert!(!takes_campaign(&root, &keys.root));
}

#[test]
fn the_next_root_takes_a_stolen_key_out_of_use() {
    let keys = victim();
    let root = stored(&keys);
    for role in [Role::Release, Role::Campaign] {
        let mut next = Root { version: 2, ..root_of(&keys) };
        let held = next.roles.get_mut(&role).unwrap();
        held.keys = vec![random_key().public()];
        held.threshold = 1;
        let next = seal(DocumentKind::Root, next.emit().unwrap(), &keys.root);
        let next = Root::successor(&root, &next).unwrap();
        assert_eq!(takes_manifest(&next, &keys.release), role != Role::Release);
        assert_eq!(takes_campaign(&next, &keys.campaign), role != Role::Campaign);
    }
}
