//! Documents that hold, and every way in which they do not.

use std::{collections::BTreeMap, net::IpAddr};

use proto::{
    crypto::{SigningKey, sha256},
    fec::oti::{RaptorQOti, RaptorQParameters},
    fixtures::documents::{random_key, seal},
    ids::{CampaignId, ClassId, ComponentId, VendorId},
    time::Utc,
    trust::{
        self, Component, ComponentEncoding, DocumentKind, Manifest, Role, RoleKeys, Root,
        campaign::CampaignObject,
        plan::{self, NodeTree, PlanHeader, PlanParameters, PlanShape},
    },
};

use super::*;

/// The moment at which the samples are checked.
pub(crate) const NOW: Utc = Utc::from_seconds(1_000);

/// Keys and documents that belong together, before they are signed.
pub(crate) struct Kit {
    pub(crate) root_key: SigningKey,
    pub(crate) release_key: SigningKey,
    pub(crate) campaign_key: SigningKey,
    pub(crate) root: Root,
    pub(crate) manifest: Manifest,
    pub(crate) campaign: trust::Campaign,
    pub(crate) header: Vec<u8>,
}

impl Kit {
    /// Returns a kit for devices of vendor 1 and class 2.
    pub(crate) fn new() -> Self {
        let (root_key, release_key, campaign_key) = (random_key(), random_key(), random_key());
        let keys = |key: &SigningKey| RoleKeys { threshold: 1, keys: vec![key.public()] };
        let root = Root {
            version: 1,
            expires: Utc::from_seconds(90_000),
            roles: BTreeMap::from([
                (Role::Root, keys(&root_key)),
                (Role::Release, keys(&release_key)),
                (Role::Campaign, keys(&campaign_key)),
            ]),
            sequence_floor: 3,
            epoch: 1,
        };
        let image = sha256(&[b"image"]);
        let manifest = Manifest {
            sequence: 3,
            floor_after_commit: 1,
            vendor: VendorId([1; 16]),
            classes: vec![ClassId([2; 16])],
            firmware_version: "2.0".to_owned(),
            components: vec![Component {
                id: ComponentId(0),
                stored_len: 2_560,
                stored_sha256: image,
                encoding: ComponentEncoding::None,
                decoded_len: 2_560,
                decoded_sha256: image,
                memory_needed: 0,
            }],
            not_before: Utc::from_seconds(0),
            expires: Utc::from_seconds(80_000),
            root_version: 1,
            epoch: 1,
        };
        let (header, plan_root) = plan(&image);
        let campaign = trust::Campaign {
            id: CampaignId([6; 16]),
            sequence: 5,
            manifest_sha256: sha256(&[&manifest.emit().unwrap()]),
            objects: vec![CampaignObject {
                component: ComponentId(0),
                symbol_size: 1_280,
                source_blocks: 1,
                alignment: 8,
                plan_root,
                repair_per_block: 2,
            }],
            not_before: Utc::from_seconds(500),
            latest_stop: Utc::from_seconds(50_000),
            sources: vec![IpAddr::from([127, 0, 0, 1])],
            report_spread_max_s: 600,
            expires: Utc::from_seconds(60_000),
            epoch: 1,
        };
        Self { root_key, release_key, campaign_key, root, manifest, campaign, header }
    }

    /// Signs everything with the keys that it takes.
    pub(crate) fn documents(&self) -> Documents {
        Documents {
            roots: vec![seal(DocumentKind::Root, self.root.emit().unwrap(), &self.root_key)],
            manifest: seal(
                DocumentKind::Manifest,
                self.manifest.emit().unwrap(),
                &self.release_key,
            ),
            campaign: seal(
                DocumentKind::Campaign,
                self.campaign.emit().unwrap(),
                &self.campaign_key,
            ),
            plan_headers: BTreeMap::from([(ComponentId(0), self.header.clone())]),
        }
    }

    /// Ties the campaign to the manifest as it is.
    pub(crate) fn tie(&mut self) {
        self.campaign.manifest_sha256 = sha256(&[&self.manifest.emit().unwrap()]);
    }
}

/// Returns a plan header for an image of 2,560 octets, and its hash.
fn plan(image: &proto::crypto::Digest) -> (Vec<u8>, proto::crypto::Digest) {
    let oti = RaptorQOti::new(RaptorQParameters {
        transfer_length: 2_560,
        symbol_size: 1_280,
        source_blocks: 1,
        sub_blocks: 1,
        alignment: 8,
    })
    .unwrap();
    let parameters = PlanParameters {
        repair_per_block: 2,
        segment_symbols: 1_024,
        table_repair: 1,
        table_symbol_bytes: 1_216,
    };
    let shape = PlanShape::new(oti, parameters).unwrap();
    let nodes = (0..shape.table_symbols()).map(|node| proto::crypto::h16(&[&node.to_be_bytes()]));
    let tree = NodeTree::new(&shape, nodes.collect()).unwrap();
    let header = PlanHeader::new(shape, plan::object_key(image, &oti), &tree).unwrap();
    (header.emit(), header.root())
}

fn refusal(kit: &Kit, change: impl FnOnce(&mut Documents)) -> (u8, String) {
    let mut documents = kit.documents();
    change(&mut documents);
    let error: crate::app::AppError = verify_documents(documents, NOW).unwrap_err().into();
    (error.exit_code(), error.to_string())
}

#[test]
fn valid_documents_make_a_campaign() {
    let kit = Kit::new();
    let admitted = verify_documents(kit.documents(), NOW).unwrap();
    assert_eq!(admitted.id, kit.campaign.id);
    assert_eq!((admitted.terms.sequence, admitted.terms.largest_block), (5, 2));
    assert_eq!(admitted.terms.digest, sha256(&[&kit.campaign.emit().unwrap()]));
}

#[test]
fn each_octet_of_campaign_and_manifest_counts() {
    let kit = Kit::new();
    let whole = kit.documents();
    for index in 0..whole.campaign.len() {
        let mut documents = whole.clone();
        documents.campaign[index] ^= 1;
        // A key id is a hint, so a change in it may go unseen; what was signed may not change.
        if let Ok(admitted) = verify_documents(documents, NOW) {
            assert_eq!(
                admitted.terms,
                verify_documents(whole.clone(), NOW).unwrap().terms,
                "{index}"
            );
        }
    }
    for index in 0..whole.manifest.len() {
        let mut documents = whole.clone();
        documents.manifest[index] ^= 1;
        if let Ok(admitted) = verify_documents(documents, NOW) {
            assert_eq!(
                admitted.terms,
                verify_documents(whole.clone(), NOW).unwrap().terms,
                "{index}"
            );
        }
    }
}

#[test]
fn a_tampered_document_is_refused_and_named() {
    let kit = Kit::new();
    let spoil = |octets: &mut Vec<u8>| {
        let middle = octets.len() / 3;
        octets[middle] ^= 1;
    };
    assert_eq!(refusal(&kit, |documents| spoil(&mut documents.roots[0])).0, 5);
    let (code, text) = refusal(&kit, |documents| spoil(&mut documents.campaign));
    assert!(code == 5 && text.contains("campaign"), "{text}");
    let (code, text) = refusal(&kit, |documents| spoil(&mut documents.manifest));
    assert!(code == 5 && text.contains("manifest"), "{text}");
    assert_eq!(refusal(&kit, |documents| documents.campaign.clear()).0, 5);
}

#[test]
fn a_key_of_another_role_signs_nothing() {
    let kit = Kit::new();
    let (code, text) = refusal(&kit, |documents| {
        documents.campaign =
            seal(DocumentKind::Campaign, kit.campaign.emit().unwrap(), &kit.release_key);
    });
    assert!(code == 5 && text.contains("0 of 1"), "{text}");
    let (code, _) = refusal(&kit, |documents| {
        documents.manifest =
            seal(DocumentKind::Manifest, kit.manifest.emit().unwrap(), &kit.campaign_key);
    });
    assert_eq!(code, 5);
}

#[test]
fn a_strangers_root_does_not_know_our_keys() {
    let kit = Kit::new();
    let stranger = Kit::new();
    assert_eq!(refusal(&kit, |documents| documents.roots = stranger.documents().roots).0, 5);
}

#[test]
fn expired_documents_are_refused_one_second_after_their_date() {
    let expiring: [fn(&mut Kit); 3] = [
        |kit| kit.root.expires = NOW,
        |kit| {
            kit.campaign.latest_stop = NOW;
            kit.campaign.expires = NOW;
        },
        |kit| kit.manifest.expires = NOW,
    ];
    for change in expiring {
        let mut kit = Kit::new();
        change(&mut kit);
        kit.tie();
        assert!(verify_documents(kit.documents(), NOW).is_ok());
        let late = verify_documents(kit.documents(), Utc::from_seconds(1_001)).unwrap_err();
        assert!(matches!(late, VerificationError::Expired { .. }), "{late}");
    }
}

#[test]
fn a_campaign_of_another_manifest_is_refused() {
    let mut kit = Kit::new();
    kit.manifest.firmware_version = "3.0".to_owned();
    let (code, text) = refusal(&kit, |_| {});
    assert!(code == 5 && text.contains("manifest_sha256"), "{text}");
}

#[test]
fn a_plan_header_has_the_signed_hash() {
    let kit = Kit::new();
    let (code, text) = refusal(&kit, |documents| {
        documents.plan_headers.get_mut(&ComponentId(0)).unwrap()[40] ^= 1;
    });
    assert!(code == 5 && text.contains("plan header of component 0"), "{text}");
    let (code, text) = refusal(&kit, |documents| {
        documents.plan_headers.insert(ComponentId(3), kit.header.clone());
    });
    assert!(code == 5 && text.contains("no component 3"), "{text}");
}

#[test]
fn a_manifest_below_the_floor_is_refused() {
    let mut kit = Kit::new();
    kit.manifest.sequence = 2;
    kit.tie();
    assert_eq!(refusal(&kit, |_| {}).0, 8);
}

#[test]
fn a_campaign_is_newer_than_all_others_of_its_class() {
    let terms = |epoch, sequence, digest| SignedTerms {
        epoch,
        sequence,
        digest: proto::crypto::Digest([digest; 32]),
        ..crate::campaign::model::samples::running().terms
    };
    // The known campaign has epoch 1, sequence 5 and digest 9.
    let known = [crate::campaign::model::samples::running()];
    assert!(check_sequence(&terms(1, 6, 1), &known).is_ok());
    assert!(check_sequence(&terms(1, 5, 1), &known).is_err());
    assert!(check_sequence(&terms(1, 4, 1), &known).is_err());
    assert!(check_sequence(&terms(1, 5, 9), &known).is_ok(), "it is the same document");
    assert!(check_sequence(&terms(2, 1, 1), &known).is_ok(), "an epoch restarts sequences");
    let other = SignedTerms { classes: vec![ClassId([3; 16])], ..terms(1, 1, 1) };
    assert!(check_sequence(&other, &known).is_ok());
}
