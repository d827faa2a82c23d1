//! Documents as a case describes them. Keys are made from their names, so that every run signs
//! alike; documents and envelopes are put together field by field, because the product's writers
//! refuse to write what is wrong.

use std::{collections::BTreeMap, net::IpAddr, sync::LazyLock};

use proto::{
    crypto::{Digest, SigningKey, sha256},
    fixtures::{broadcast::Broadcast, documents::key_of},
    ids::{CampaignId, ClassId, ComponentId},
    time::Utc,
    trust::{
        Campaign, Component, ComponentEncoding, DocumentKind, Manifest, Role, RoleKeys, Root,
        campaign::CampaignObject,
    },
};

use crate::case::{CampaignChange, Envelope, ManifestChange, RootChange, Step, TuneInChange};

/// The moment of the first step.
pub(crate) const NOW: u64 = 1_800_000_000;
const DAY: u64 = 24 * 3600;

/// Documents offered with a campaign.
pub(crate) struct Documents {
    pub(crate) campaign: Option<Vec<u8>>,
    pub(crate) manifest: Option<Vec<u8>>,
    pub(crate) plan: Option<Vec<u8>>,
    pub(crate) url: String,
    pub(crate) opens: u64,
    pub(crate) closes: u64,
}

/// The broadcast that the documents are about.
pub(crate) fn broadcast() -> &'static Broadcast {
    static BROADCAST: LazyLock<Broadcast> = LazyLock::new(|| Broadcast::new(96, 2));
    &BROADCAST
}

/// One that is as good, of another image.
pub(crate) fn other_broadcast() -> &'static Broadcast {
    static BROADCAST: LazyLock<Broadcast> = LazyLock::new(|| Broadcast::new(64, 1));
    &BROADCAST
}

fn key(name: &str) -> SigningKey {
    key_of(&[b"fumocast test key ", name.as_bytes()])
}

fn role(names: Option<&Vec<String>>, default: &str, threshold: Option<u32>) -> RoleKeys {
    let default = vec![default.to_owned()];
    let names = names.unwrap_or(&default);
    RoleKeys {
        threshold: threshold.unwrap_or(1),
        keys: names.iter().map(|name| key(name).public()).collect(),
    }
}

pub(crate) fn root(change: &RootChange) -> Vec<u8> {
    let root = Root {
        version: change.version.unwrap_or(1),
        expires: Utc::from_seconds(change.expires.unwrap_or(NOW + 10 * DAY)),
        roles: BTreeMap::from([
            (Role::Root, role(change.keys.as_ref(), "root", change.threshold)),
            (Role::Release, role(change.release.as_ref(), "release", change.release_threshold)),
            (Role::Campaign, role(change.campaign.as_ref(), "campaign", change.campaign_threshold)),
        ]),
        sequence_floor: change.floor.unwrap_or(0),
        epoch: change.epoch.unwrap_or(1),
    };
    seal(DocumentKind::Root, &root_bytes(&root), "root", &change.envelope)
}

pub(crate) fn documents(step: &Step) -> Documents {
    let manifest = manifest_bytes(&manifest(&step.manifest));
    let offered = payload(&manifest, &step.manifest.envelope);
    let campaign = campaign(&step.campaign, sha256(&[&offered]));
    let campaign_payload = campaign_bytes(&campaign);
    let digest = sha256(&[&payload(&campaign_payload, &step.campaign.envelope)]);
    let TuneInChange { opens, closes, .. } = step.tune_in;
    let seal_manifest =
        || seal(DocumentKind::Manifest, &manifest, "release", &step.manifest.envelope);
    let seal_campaign =
        || seal(DocumentKind::Campaign, &campaign_payload, "campaign", &step.campaign.envelope);
    let offers = |name: &str| !step.without.iter().any(|without| without == name);
    Documents {
        campaign: offers("campaign").then(seal_campaign),
        manifest: offers("manifest").then(seal_manifest),
        plan: step.plan.as_deref().map(|which| match which {
            "forged" => other_broadcast().header.emit(),
            _ => broadcast().header.emit(),
        }),
        url: url(&step.tune_in, campaign.id, digest),
        opens: opens.unwrap_or(NOW + 120),
        closes: closes.unwrap_or(NOW + 3600),
    }
}

fn manifest(change: &ManifestChange) -> Manifest {
    let mut manifest = broadcast().manifest.clone();
    manifest.sequence = change.sequence.unwrap_or(manifest.sequence);
    manifest.floor_after_commit = change.floor.unwrap_or(0);
    manifest.vendor = change.vendor.as_ref().map_or(manifest.vendor, |id| id.parse().unwrap());
    if let Some(classes) = &change.classes {
        manifest.classes = classes.iter().map(|id| id.parse::<ClassId>().unwrap()).collect();
    }
    manifest.firmware_version = change.firmware.clone().unwrap_or("2.0".to_owned());
    manifest.not_before = moment(change.not_before, manifest.not_before);
    manifest.expires = moment(change.expires, manifest.expires);
    manifest.root_version = change.root_version.unwrap_or(1);
    manifest.epoch = change.epoch.unwrap_or(1);
    let component = &mut manifest.components[0];
    component.id = ComponentId(change.component.unwrap_or(0));
    let longer = |length: u64| length.checked_add_signed(change.longer.unwrap_or(0)).unwrap();
    component.stored_len = longer(component.stored_len);
    component.decoded_len = longer(component.decoded_len);
    if change.other_digest {
        component.stored_sha256 = sha256(&[b"another image"]);
        component.decoded_sha256 = component.stored_sha256;
    }
    if change.zstd {
        component.encoding = ComponentEncoding::Zstd;
    }
    manifest
}

fn campaign(change: &CampaignChange, manifest: Digest) -> Campaign {
    let mut campaign = broadcast().campaign.clone();
    campaign.id = change.id.as_ref().map_or(campaign.id, |id| id.parse().unwrap());
    campaign.sequence = change.sequence.unwrap_or(campaign.sequence);
    campaign.manifest_sha256 =
        if change.other_manifest { sha256(&[b"another manifest"]) } else { manifest };
    let object = &mut campaign.objects[0];
    *object = CampaignObject {
        component: ComponentId(change.component.unwrap_or(0)),
        symbol_size: change.symbol_size.unwrap_or(object.symbol_size),
        source_blocks: change.blocks.unwrap_or(object.source_blocks),
        alignment: change.alignment.unwrap_or(object.alignment),
        plan_root: if change.other_plan { sha256(&[b"another plan"]) } else { object.plan_root },
        repair_per_block: change.repair.unwrap_or(object.repair_per_block),
    };
    if change.twice {
        let again = campaign.objects[0];
        campaign.objects.push(again);
    }
    campaign.not_before = moment(change.not_before, campaign.not_before);
    campaign.latest_stop = moment(change.latest_stop, campaign.latest_stop);
    campaign.expires = moment(change.expires, campaign.expires);
    campaign.sources = change.sources.clone().unwrap_or(campaign.sources);
    campaign.epoch = change.epoch.unwrap_or(1);
    campaign
}

fn moment(changed: Option<u64>, honest: Utc) -> Utc {
    changed.map_or(honest, Utc::from_seconds)
}

fn url(change: &TuneInChange, id: CampaignId, digest: Digest) -> String {
    if let Some(url) = &change.url {
        return url.clone();
    }
    let mut tune_in = broadcast().tune_in();
    tune_in.source = change.source.unwrap_or(tune_in.source);
    tune_in.campaign = change.campaign.as_ref().map_or(id, |id| id.parse().unwrap());
    tune_in.campaign_digest = if change.other_digest { sha256(&[]) } else { digest };
    tune_in.component = change.component.map(ComponentId);
    tune_in.to_string()
}

/// The document that is signed.
fn payload(document: &[u8], envelope: &Envelope) -> Vec<u8> {
    [document, &hex(envelope.appended.as_deref().unwrap_or_default())].concat()
}

/// Signs a document by DSSE v1 and puts the envelope together.
fn seal(kind: DocumentKind, document: &[u8], default: &str, change: &Envelope) -> Vec<u8> {
    if let Some(raw) = &change.raw {
        return hex(raw);
    }
    let mut payload = payload(document, change);
    let written = change.kind.clone().unwrap_or(kind.media_type().to_owned());
    let signed = change.signed_kind.as_ref().unwrap_or(&written);
    let text = [
        format!("DSSEv1 {} {signed} {} ", signed.len(), payload.len()).as_bytes(),
        payload.as_slice(),
    ]
    .concat();
    let default = vec![default.to_owned()];
    let signers = change.by.as_ref().unwrap_or(&default);
    let signatures = signers.iter().map(|name| {
        let key = key(name);
        let mut signature = key.sign(&text).to_vec();
        signature.resize(change.signature_length.unwrap_or(64), 0);
        let id = change.key_id.clone().unwrap_or(key.public().key_id());
        [field(1, &signature), field(2, id.as_bytes())].concat()
    });
    let signatures: Vec<u8> = signatures.flat_map(|signature| field(3, &signature)).collect();
    if let Some(at) = change.flip {
        let at = at % payload.len();
        payload[at] ^= 1;
    }
    let mut octets = [field(1, &payload), field(2, written.as_bytes()), signatures].concat();
    octets.extend(hex(change.trailing.as_deref().unwrap_or_default()));
    octets.truncate(change.cut.unwrap_or(octets.len()));
    octets
}

fn root_bytes(root: &Root) -> Vec<u8> {
    let role = |(role, keys): (&Role, &RoleKeys)| {
        let number = match role {
            Role::Root => 1,
            Role::Release => 2,
            Role::Campaign => 3,
        };
        let octets: Vec<u8> = keys.keys.iter().flat_map(|key| field(3, &key.0)).collect();
        field(
            4,
            &[number_field(1, number), number_field(2, keys.threshold.into()), octets].concat(),
        )
    };
    [
        number_field(1, 1),
        number_field(2, root.version),
        number_field(3, root.expires.seconds()),
        root.roles.iter().flat_map(role).collect(),
        number_field(5, root.sequence_floor),
        number_field(6, root.epoch.into()),
    ]
    .concat()
}

fn manifest_bytes(manifest: &Manifest) -> Vec<u8> {
    let component = |component: &Component| {
        let encoding = match component.encoding {
            ComponentEncoding::None => 1,
            ComponentEncoding::Zstd => 2,
        };
        [
            number_field(1, component.id.0.into()),
            number_field(2, component.stored_len),
            field(3, &component.stored_sha256.0),
            number_field(4, encoding),
            number_field(5, component.decoded_len),
            field(6, &component.decoded_sha256.0),
        ]
        .concat()
    };
    [
        number_field(1, 1),
        number_field(2, manifest.sequence),
        number_field(3, manifest.floor_after_commit),
        field(4, &manifest.vendor.0),
        manifest.classes.iter().flat_map(|class| field(5, &class.0)).collect(),
        field(6, manifest.firmware_version.as_bytes()),
        manifest.components.iter().flat_map(|it| field(7, &component(it))).collect(),
        number_field(8, manifest.not_before.seconds()),
        number_field(9, manifest.expires.seconds()),
        number_field(10, manifest.root_version),
        number_field(11, manifest.epoch.into()),
    ]
    .concat()
}

fn campaign_bytes(campaign: &Campaign) -> Vec<u8> {
    let object = |object: &CampaignObject| {
        [
            number_field(1, object.component.0.into()),
            number_field(2, object.symbol_size.into()),
            number_field(3, object.source_blocks.into()),
            number_field(4, object.alignment.into()),
            field(5, &object.plan_root.0),
            number_field(6, object.repair_per_block.into()),
        ]
        .concat()
    };
    let source = |source: &IpAddr| match source {
        IpAddr::V4(source) => field(8, &source.octets()),
        IpAddr::V6(source) => field(8, &source.octets()),
    };
    [
        number_field(1, 1),
        field(2, &campaign.id.0),
        number_field(3, campaign.sequence),
        field(4, &campaign.manifest_sha256.0),
        campaign.objects.iter().flat_map(|it| field(5, &object(it))).collect(),
        number_field(6, campaign.not_before.seconds()),
        number_field(7, campaign.latest_stop.seconds()),
        campaign.sources.iter().flat_map(source).collect(),
        number_field(9, campaign.report_spread_max_s.into()),
        number_field(10, campaign.expires.seconds()),
        number_field(11, campaign.epoch.into()),
    ]
    .concat()
}

/// A length-delimited protobuf field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = varint(u64::try_from(content.len()).unwrap());
    [vec![number << 3 | 2], length, content.to_vec()].concat()
}

/// A number; zero is left out.
fn number_field(number: u8, value: u64) -> Vec<u8> {
    if value == 0 { Vec::new() } else { [vec![number << 3], varint(value)].concat() }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut octets = Vec::new();
    while value > 127 {
        octets.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    octets.push(u8::try_from(value).unwrap());
    octets
}

fn hex(text: &str) -> Vec<u8> {
    let octet = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(octet).collect()
}
