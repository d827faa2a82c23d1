//! Package of a world: keys that are the same in each run, signed documents, a plan as the image
//! server makes it. A few packages are made once for a process and serve every seed.

use std::{collections::BTreeMap, io, net::IpAddr, num::NonZeroUsize, sync::OnceLock};

use anyhow::Context as _;
use carousel::{
    flute::session::{AiredObject, Records},
    plan::encode::{PlanJob, write_plan},
    plan::schedule::Schedule,
};
use proto::{
    crypto::{SigningKey, sha256},
    fec::oti::{RaptorQOti, RaptorQParameters},
    ids::{CampaignId, ClassId, ComponentId, Esi, Sbn, VendorId},
    time::Utc,
    trust::{
        Campaign, Component, ComponentEncoding, DocumentKind, Envelope, Manifest, PlannedObject,
        Role, RoleKeys, Root,
        campaign::CampaignObject,
        plan::{PlanParameters, PlanShape, object_key},
    },
};
use receiver::store::ObjectLayout;

use crate::{
    broadcast::seal,
    lab::rng::SeededRng,
    memory::{self, Memory},
};

/// Vendor of the devices.
pub const VENDOR: VendorId = VendorId([1; 16]);
/// Their class.
pub const CLASS: ClassId = ClassId([2; 16]);
/// The moment at which every world begins.
pub const BEGIN: Utc = Utc::from_seconds(1_800_000_000);
/// The version that the package brings.
pub const VERSION: &str = "2.0";
/// The component that is sent.
pub const COMPONENT: ComponentId = ComponentId(0);
/// The addresses that may send.
pub const SOURCES: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)),
];

const DAY: u64 = 24 * 3600;

/// Signed documents that bring the image; one issue supersedes those before it.
#[derive(Debug)]
pub struct Issue {
    /// Envelopes of the roots, the factory's first.
    pub roots: Vec<Vec<u8>>,
    /// Envelope of the manifest.
    pub manifest: Vec<u8>,
    /// Envelope of the campaign.
    pub campaign: Vec<u8>,
    /// The campaign.
    pub terms: Campaign,
}

proto::words! {
    /// Relation of an issue to the one before; the number of an issue is that of its relation in
    /// `ALL`.
    pub enum Follows {
        /// By a higher sequence, signed by the same keys.
        BySequence = "by-sequence",
        /// The same, signed by keys of a root that revokes those before.
        ByRotation = "by-rotation",
        /// In a new epoch, by the lowest sequence.
        ByEpoch = "by-epoch",
    }
}

/// A package with all that was made of it.
#[derive(Debug)]
pub struct Package {
    /// The documents of the first campaign, and of those that may follow it.
    issues: [Issue; 4],
    /// The object.
    pub object: PlannedObject,
    /// The image.
    pub image: Vec<u8>,
    /// Object that the image server airs.
    pub aired: AiredObject,
    /// Layout of a device's storage of it.
    pub layout: ObjectLayout,
    plan: Vec<u8>,
}

/// Shapes of packages: octets of the image and of a symbol, blocks, repair symbols, segment, table
/// repair.
const SHAPES: [(usize, u16, u8, u32, u32, u16); 8] = [
    (700, 64, 1, 11, 8, 3),
    (1_500, 64, 2, 12, 16, 3),
    (3_001, 128, 2, 12, 12, 4),
    (2_560, 64, 4, 10, 16, 2),
    (5_120, 128, 3, 14, 20, 3),
    (6_399, 64, 3, 34, 48, 4),
    (7_000, 256, 2, 14, 9, 4),
    (9_000, 64, 5, 29, 40, 3),
];

/// Returns the package of this number; there are some, and any number is one of them.
///
/// # Panics
///
/// Never: the shapes are within the limits.
pub fn package(number: u64) -> &'static Package {
    static MADE: [OnceLock<Package>; SHAPES.len()] = [const { OnceLock::new() }; SHAPES.len()];
    let number = usize::try_from(number % SHAPES.len() as u64).unwrap_or_default();
    let (shape, made) = SHAPES.iter().zip(&MADE).nth(number).expect("it is below the length");
    made.get_or_init(|| Package::new(*shape).expect("the shapes are within the limits"))
}

impl Package {
    fn new(
        (octets, symbol_size, blocks, repair, segment, table_repair): (
            usize,
            u16,
            u8,
            u32,
            u32,
            u16,
        ),
    ) -> anyhow::Result<Self> {
        let mut image = vec![0; octets];
        SeededRng::new(octets as u64, "image").fill_bytes(&mut image);
        let digest = sha256(&[&image]);
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: octets as u64,
            symbol_size,
            source_blocks: blocks,
            sub_blocks: 1,
            alignment: 8,
        })
        .ok()
        .context("valid parameters")?;
        let parameters = PlanParameters {
            repair_per_block: repair,
            segment_symbols: segment,
            table_repair,
            table_symbol_bytes: 64,
        };
        let schedule = Schedule::new(PlanShape::new(oti, parameters)?);
        let key = object_key(&digest, &oti);
        let plan = Memory::new(vec![0; usize::try_from(schedule.file_bytes())?]);
        let job = PlanJob {
            schedule,
            object_key: key,
            image: &Memory::new(image.clone()),
            plan: &plan,
            threads: NonZeroUsize::MIN,
            progress: &|_| (),
        };
        let header = write_plan(&job)?;
        let object = PlannedObject {
            component: COMPONENT,
            oti,
            repair_per_block: repair,
            plan_root: header.root(),
            stored_sha256: digest,
            object_key: key,
        };
        Ok(Self {
            issues: [
                first_issue(&image, &object)?,
                following_issue(&image, &object, Follows::BySequence)?,
                following_issue(&image, &object, Follows::ByRotation)?,
                following_issue(&image, &object, Follows::ByEpoch)?,
            ],
            object,
            layout: ObjectLayout::new(key, digest, oti),
            image,
            aired: AiredObject { object, schedule, plan_header: header.emit() },
            plan: plan.into_bytes(),
        })
    }

    /// Returns the documents of the first campaign.
    pub const fn first(&self) -> &Issue {
        let [first, ..] = &self.issues;
        first
    }

    /// Returns the envelope of the root that devices are made with.
    pub fn factory_root(&self) -> Vec<u8> {
        self.first().roots.first().cloned().unwrap_or_default()
    }

    /// Returns the documents of a campaign that supersedes the first one.
    pub const fn following(&self, follows: Follows) -> &Issue {
        let [_, by_sequence, by_rotation, by_epoch] = &self.issues;
        match follows {
            Follows::BySequence => by_sequence,
            Follows::ByRotation => by_rotation,
            Follows::ByEpoch => by_epoch,
        }
    }

    /// Returns the documents of a campaign.
    pub fn issue(&self, id: CampaignId) -> Option<&Issue> {
        self.issues.iter().find(|issue| issue.terms.id == id)
    }

    /// Returns whether a root of this version still has the keys of a campaign.
    pub fn is_trusted(&self, id: CampaignId, root_version: u64) -> bool {
        self.issue(id).is_some_and(|issue| {
            let latest = issue.roots.len() as u64;
            // A later root revokes the keys of those before it.
            latest == root_version
        })
    }

    /// Returns a symbol as the plan has it; `None` when it has none of that name.
    pub fn symbol(&self, sbn: Sbn, esi: Esi) -> Option<&[u8]> {
        let record = carousel::plan::schedule::Record::Data { sbn, esi };
        let offset = usize::try_from(self.aired.schedule.offset(record)?).ok()?;
        let length = usize::try_from(self.aired.schedule.data_bytes()).ok()?;
        // The payload id precedes the symbol.
        self.plan.get(offset + 4..offset + length)
    }

    /// Returns the octets of a block of the image.
    pub fn block(&self, sbn: Sbn) -> Option<&[u8]> {
        let place = self.layout.block_place(sbn)?;
        let (from, to) = (place.offset, place.offset + place.octets);
        self.image.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }
}

/// The plan as an image server reads it.
#[derive(Debug)]
pub struct PlanFile(pub &'static Package);

impl Records for PlanFile {
    fn read(&mut self, _: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        memory::read(&self.0.plan, offset, buffer)
    }
}

/// Makes the key of a role from its name: PKCS#8, version 1, around 32 octets.
fn key_of(role: &str) -> SigningKey {
    const HEAD: [u8; 16] = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    let seed = sha256(&[b"simulated ", role.as_bytes()]);
    SigningKey::from_pkcs8(&[&HEAD[..], &seed.0].concat()).expect("a key in its version 1")
}

/// The keys of a root's version: root, release, campaign.
fn keys_of(version: u64) -> [SigningKey; 3] {
    ["root", "release", "campaign"].map(|role| match version {
        1 => key_of(role),
        later => key_of(&format!("{role} {later}")),
    })
}

fn first_issue(image: &[u8], object: &PlannedObject) -> anyhow::Result<Issue> {
    let keys = keys_of(1);
    let [root_key, ..] = &keys;
    let factory = seal(DocumentKind::Root, root(1, 1, &keys).emit()?, root_key)?;
    let manifest = manifest(image, 1)?;
    issue(vec![factory], manifest, CampaignId([6; 16]), 5, object)
}

fn following_issue(
    image: &[u8],
    object: &PlannedObject,
    follows: Follows,
) -> anyhow::Result<Issue> {
    let mut roots = first_issue(image, object)?.roots;
    let (id, sequence, epoch, version) = match follows {
        Follows::BySequence => (7, 6, 1, 1),
        Follows::ByRotation => (8, 6, 1, 2),
        Follows::ByEpoch => (9, 1, 2, 2),
    };
    if version > 1 {
        let (before, keys) = (keys_of(1), keys_of(version));
        let mut envelope = Envelope::new(DocumentKind::Root, root(version, epoch, &keys).emit()?)?;
        for [root_key, ..] in [&before, &keys] {
            envelope.sign(root_key)?;
        }
        roots.push(envelope.emit());
    }
    issue(roots, manifest(image, epoch)?, CampaignId([id; 16]), sequence, object)
}

/// Signs manifest and campaign with the keys of the last root.
fn issue(
    roots: Vec<Vec<u8>>,
    manifest: Manifest,
    id: CampaignId,
    sequence: u64,
    object: &PlannedObject,
) -> anyhow::Result<Issue> {
    let [_, release_key, campaign_key] = keys_of(roots.len() as u64);
    let epoch = manifest.epoch;
    let manifest = manifest.emit()?;
    let terms = Campaign { id, sequence, epoch, ..campaign(&manifest, object) };
    Ok(Issue {
        roots,
        manifest: seal(DocumentKind::Manifest, manifest, &release_key)?,
        campaign: seal(DocumentKind::Campaign, terms.emit()?, &campaign_key)?,
        terms,
    })
}

fn root(version: u64, epoch: u32, [root, release, campaign]: &[SigningKey; 3]) -> Root {
    let role = |key: &SigningKey| RoleKeys { threshold: 1, keys: vec![key.public()] };
    Root {
        version,
        expires: after(10 * DAY),
        roles: BTreeMap::from([
            (Role::Root, role(root)),
            (Role::Release, role(release)),
            (Role::Campaign, role(campaign)),
        ]),
        sequence_floor: 0,
        epoch,
    }
}

fn manifest(image: &[u8], epoch: u32) -> anyhow::Result<Manifest> {
    let (length, digest) = (u64::try_from(image.len())?, sha256(&[image]));
    Ok(Manifest {
        sequence: 5,
        floor_after_commit: 2,
        vendor: VENDOR,
        classes: vec![CLASS],
        firmware_version: VERSION.to_owned(),
        components: vec![Component {
            id: COMPONENT,
            stored_len: length,
            stored_sha256: digest,
            encoding: ComponentEncoding::None,
            decoded_len: length,
            decoded_sha256: digest,
            memory_needed: 0,
        }],
        not_before: BEGIN,
        expires: after(5 * DAY),
        root_version: 1,
        epoch,
    })
}

fn campaign(manifest: &[u8], object: &PlannedObject) -> Campaign {
    let parameters = object.oti.parameters();
    Campaign {
        id: CampaignId([6; 16]),
        sequence: 5,
        manifest_sha256: sha256(&[manifest]),
        objects: vec![CampaignObject {
            component: object.component,
            symbol_size: parameters.symbol_size,
            source_blocks: parameters.source_blocks,
            alignment: parameters.alignment,
            plan_root: object.plan_root,
            repair_per_block: object.repair_per_block,
        }],
        not_before: BEGIN,
        latest_stop: after(DAY),
        sources: SOURCES.to_vec(),
        report_spread_max_s: 600,
        expires: after(2 * DAY),
        epoch: 1,
    }
}

fn after(seconds: u64) -> Utc {
    Utc::from_seconds(BEGIN.seconds() + seconds)
}
