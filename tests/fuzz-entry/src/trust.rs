//! Signed documents: the envelope, and each kind of document inside.

use proto::{
    crypto::{PublicKey, sha256},
    fec::oti::RaptorQOti,
    fixtures::packet::raptorq,
    ids::{CampaignId, ClassId, ComponentId, VendorId},
    time::Utc,
    trust::{
        Campaign, Component, ComponentEncoding, DocumentKind, Envelope, Manifest, Role, RoleKeys,
        Root,
        campaign::CampaignObject,
        envelope::{MAX_ENVELOPE_BYTES, MAX_PAYLOAD_BYTES, MAX_SIGNATURES},
    },
};

/// Reads the octets as an envelope and as each document; what is written reads back equal.
pub fn run(octets: &[u8]) {
    if let Ok(envelope) = Envelope::parse(octets) {
        assert!(octets.len() <= MAX_ENVELOPE_BYTES);
        assert!(envelope.payload().len() <= MAX_PAYLOAD_BYTES);
        assert!(envelope.key_ids().count() <= MAX_SIGNATURES);
        assert_eq!(Envelope::parse(&envelope.emit()), Ok(envelope.clone()));
        // Nobody can sign for this root by chance.
        assert!(Root::from_factory(octets).is_err() || is_signed(&envelope));
        documents(envelope.payload());
    }
    documents(octets);
}

fn is_signed(envelope: &Envelope) -> bool {
    envelope.key_ids().count() > 0
}

fn documents(payload: &[u8]) {
    if let Ok(root) = Root::read(payload) {
        let written = root.emit().expect("what was read can be written");
        assert_eq!(Root::read(&written), Ok(root));
    }
    if let Ok(manifest) = Manifest::read(payload) {
        assert!((1..=16).contains(&manifest.components.len()));
        let written = manifest.emit().expect("what was read can be written");
        assert_eq!(Manifest::read(&written), Ok(manifest));
    }
    if let Ok(campaign) = Campaign::read(payload) {
        assert!((1..=16).contains(&campaign.objects.len()));
        let written = campaign.emit().expect("what was read can be written");
        assert_eq!(Campaign::read(&written), Ok(campaign));
    }
}

/// Each document, alone and in an envelope.
///
/// # Panics
///
/// Never: the documents keep their limits.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let (root, manifest, campaign) = (root(), manifest(), campaign(&golden_oti()));
    let documents = [
        (DocumentKind::Root, root.emit().expect("a root")),
        (DocumentKind::Manifest, manifest.emit().expect("a manifest")),
        (DocumentKind::Campaign, campaign.emit().expect("a campaign")),
    ];
    let enveloped = documents.clone().map(|(kind, payload)| {
        let mut octets = Envelope::new(kind, payload).expect("it is short").emit();
        // One signature: 64 octets, and a hint whose key it is.
        octets.extend([0x1a, 84, 0x0a, 64]);
        octets.extend([7; 64]);
        octets.extend([0x12, 16]);
        octets.extend(*b"0123456789abcdef");
        assert!(Envelope::parse(&octets).is_ok());
        octets
    });
    documents.map(|(_, payload)| payload).into_iter().chain(enveloped).collect()
}

fn golden_oti() -> RaptorQOti {
    raptorq(4096, 256, 2, 1, 8)
}

fn root() -> Root {
    let role = |key: u8| RoleKeys { threshold: 1, keys: vec![PublicKey([key; 32])] };
    Root {
        version: 1,
        expires: Utc::from_seconds(1_900_000_000),
        roles: [Role::Root, Role::Release, Role::Campaign]
            .into_iter()
            .zip([1, 2, 3].map(role))
            .collect(),
        sequence_floor: 3,
        epoch: 1,
    }
}

fn manifest() -> Manifest {
    Manifest {
        sequence: 5,
        floor_after_commit: 4,
        vendor: VendorId([1; 16]),
        classes: vec![ClassId([2; 16]), ClassId([3; 16])],
        firmware_version: "2.0".to_owned(),
        components: vec![Component {
            id: ComponentId(0),
            stored_len: 4096,
            stored_sha256: sha256(&[b"image"]),
            encoding: ComponentEncoding::None,
            decoded_len: 4096,
            decoded_sha256: sha256(&[b"image"]),
            memory_needed: 0,
        }],
        not_before: Utc::from_seconds(1_800_000_000),
        expires: Utc::from_seconds(1_850_000_000),
        root_version: 1,
        epoch: 1,
    }
}

fn campaign(oti: &RaptorQOti) -> Campaign {
    let parameters = oti.parameters();
    Campaign {
        id: CampaignId([6; 16]),
        sequence: 5,
        manifest_sha256: sha256(&[b"manifest"]),
        objects: vec![CampaignObject {
            component: ComponentId(0),
            symbol_size: parameters.symbol_size,
            source_blocks: parameters.source_blocks,
            alignment: parameters.alignment,
            plan_root: sha256(&[b"plan"]),
            repair_per_block: 8,
        }],
        not_before: Utc::from_seconds(1_800_000_000),
        latest_stop: Utc::from_seconds(1_800_086_400),
        sources: vec![[192, 0, 2, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()],
        report_spread_max_s: 600,
        expires: Utc::from_seconds(1_800_172_800),
        epoch: 1,
    }
}
