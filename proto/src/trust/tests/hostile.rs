//! Parameters that no codec may be given, signed by keys that the device trusts: a signature says
//! who is to blame, not that a number does no harm.

use prost::Message as _;

use super::*;

type Change = fn(&mut messages::Component, &mut messages::Object);

/// Changes by the signer that must not reach the codec, with the reason.
const HOSTILE: [(&str, Change); 33] = [
    ("T = 0", |_, o| o.symbol_len = 0),
    ("T = 1", |_, o| o.symbol_len = 1),
    ("T below the least", |_, o| o.symbol_len = 56),
    ("T one short of the least", |_, o| o.symbol_len = 63),
    ("T one above the greatest", |_, o| o.symbol_len = 1409),
    ("T above the greatest", |_, o| o.symbol_len = 1416),
    ("T of 16 bits", |_, o| o.symbol_len = 65_535),
    ("T of 17 bits", |_, o| o.symbol_len = 65_536 + 1408),
    ("T of 32 bits", |_, o| o.symbol_len = u32::MAX),
    ("T no multiple of Al", |_, o| o.symbol_len = 1404),
    ("T odd", |_, o| o.symbol_len = 1407),
    ("Al = 0", |_, o| o.align = 0),
    ("Al = 3", |_, o| o.align = 3),
    ("Al = 16", |_, o| o.align = 16),
    ("Al = 255", |_, o| o.align = 255),
    ("Al of 9 bits", |_, o| o.align = 256 + 8),
    ("Al of 32 bits", |_, o| o.align = u32::MAX),
    ("Z = 0", |_, o| o.blocks = 0),
    ("Z above the symbols", |_, o| o.blocks = 73),
    ("Z of 9 bits", |_, o| o.blocks = 256),
    ("Z of 9 bits that wraps to 1", |_, o| o.blocks = 257),
    ("Z of 32 bits", |_, o| o.blocks = u32::MAX),
    ("R one above the last ESI", |_, o| o.repair_per_block = (1 << 24) - 71),
    ("R of 25 bits", |_, o| o.repair_per_block = 1 << 24),
    ("R that wraps with K", |_, o| o.repair_per_block = u32::MAX - 70),
    ("R of 32 bits", |_, o| o.repair_per_block = u32::MAX),
    ("F = 0", |c, _| length(c, 0)),
    ("F of more symbols than a block has", |c, _| length(c, 1408 * 56_403 + 1)),
    ("F of 40 bits", |c, _| length(c, (1 << 40) - 1)),
    ("F of 41 bits", |c, _| length(c, 1 << 40)),
    ("F one above the greatest", |c, o| {
        o.blocks = 255;
        length(c, 942_574_504_276);
    }),
    ("F of 64 bits", |c, _| length(c, u64::MAX)),
    ("F of 64 bits in 255 blocks", |c, o| {
        o.blocks = 255;
        length(c, u64::MAX - 1407);
    }),
];

fn length(component: &mut messages::Component, octets: u64) {
    (component.stored_len, component.decoded_len) = (octets, octets);
}

/// Returns whether the device accepts it: signatures hold, only the numbers can be at fault.
fn reaches_the_codec(change: Change) -> bool {
    let keys = Keys::new();
    let root = keys.root();
    let mut manifest = messages::Manifest::decode(manifest().emit().unwrap().as_slice()).unwrap();
    let mut campaign =
        messages::Campaign::decode(campaign(Digest([0; 32])).emit().unwrap().as_slice()).unwrap();
    change(&mut manifest.components[0], &mut campaign.objects[0]);
    let manifest = manifest.encode_to_vec();
    campaign.manifest_sha256 = sha256(&[&manifest]).0.to_vec();
    let manifest = seal(DocumentKind::Manifest, manifest, &keys.release);
    let campaign = seal(DocumentKind::Campaign, campaign.encode_to_vec(), &keys.campaign);
    let believed = Manifest::verify(&root, &manifest)
        .and_then(|manifest| Campaign::verify(&root, &campaign)?.planned_objects(&manifest));
    believed.is_ok()
}

// test: security 4.6 (range checks)
#[test]
fn no_hostile_parameter_reaches_the_codec_whoever_signed_it() {
    assert!(reaches_the_codec(|_, _| ()), "nothing is wrong with it");
    for (what, change) in HOSTILE {
        assert!(!reaches_the_codec(change), "{what}");
    }
}

#[test]
fn lengths_that_do_not_belong_together_are_refused() {
    // Without compression what is stored is what is installed: one octet more or less is a lie.
    let with = |change: Change| reaches_the_codec(change);
    assert!(!with(|c, _| c.decoded_len += 1));
    assert!(!with(|c, _| c.decoded_len -= 1));
    assert!(!with(|c, _| c.stored_len += 1));
    assert!(!with(|c, _| c.decoded_sha256[0] ^= 1));
    assert!(!with(|c, _| c.encoding = 0));
    assert!(!with(|c, _| c.encoding = 3));
    assert!(!with(|c, _| c.window_log = 25));
    assert!(!with(|c, _| c.precursor_sha256.push(vec![1; 32])));
}
