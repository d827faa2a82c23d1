//! Package of a world: keys that are the same in each run, signed documents, a plan as the image
//! server makes it. A few packages are made once for a process and serve every seed.

use std::{io, net::IpAddr, num::NonZeroUsize, sync::OnceLock};

use carousel::{
    flute::session::{AiredObject, Records},
    plan::encode::{PlanJob, write_plan},
    plan::schedule::Schedule,
};
use proto::{
    crypto::sha256,
    fixtures::{
        documents::{self, COMPONENT, Keys, Validity, key_of},
        packet::raptorq,
    },
    ids::{CampaignId, Esi, Sbn},
    time::Utc,
    trust::{
        Campaign, Manifest, PlannedObject,
        plan::{PlanParameters, PlanShape, object_key},
    },
};
use receiver::store::ObjectLayout;

use crate::{
    lab::rng::SeededRng,
    memory::{self, Memory},
};

/// The moment at which every world begins.
pub const BEGIN: Utc = Utc::from_seconds(1_800_000_000);
/// The addresses that may send.
pub const SOURCES: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)),
];
/// The channel.
pub const GROUP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(232, 1, 2, 3));
/// Its port.
pub const PORT: u16 = 3400;

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
        let oti = raptorq(octets as u64, symbol_size, blocks, 1, 8);
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
                first_issue(&image, &object),
                following_issue(&image, &object, Follows::BySequence),
                following_issue(&image, &object, Follows::ByRotation),
                following_issue(&image, &object, Follows::ByEpoch),
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

/// The keys of a root's version, which are the same in each run.
fn keys_of(version: u64) -> Keys {
    Keys::new(Validity::of_a_day(BEGIN), |role| match version {
        1 => key_of(&[b"simulated ", role.as_bytes()]),
        later => key_of(&[b"simulated ", format!("{role} {later}").as_bytes()]),
    })
}

fn first_issue(image: &[u8], object: &PlannedObject) -> Issue {
    issue(vec![keys_of(1).root_envelope()], 1, (CampaignId([6; 16]), 5), image, object)
}

fn following_issue(image: &[u8], object: &PlannedObject, follows: Follows) -> Issue {
    let (id, sequence, epoch, version) = match follows {
        Follows::BySequence => (7, 6, 1, 1),
        Follows::ByRotation => (8, 6, 1, 2),
        Follows::ByEpoch => (9, 1, 2, 2),
    };
    let first = keys_of(1);
    let mut roots = vec![first.root_envelope()];
    if version > 1 {
        roots.push(keys_of(version).root_after(&first, version, |root| root.epoch = epoch));
    }
    issue(roots, epoch, (CampaignId([id; 16]), sequence), image, object)
}

/// Signs manifest and campaign with the keys of the last root.
fn issue(
    roots: Vec<Vec<u8>>,
    epoch: u32,
    (id, sequence): (CampaignId, u64),
    image: &[u8],
    object: &PlannedObject,
) -> Issue {
    let (keys, validity) = (keys_of(roots.len() as u64), Validity::of_a_day(BEGIN));
    let manifest = Manifest { epoch, ..documents::manifest(image, validity) };
    let sources = SOURCES.to_vec();
    let campaign = documents::campaign(&manifest, object, validity);
    let terms = Campaign { id, sequence, epoch, sources, ..campaign };
    Issue {
        roots,
        manifest: keys.manifest_envelope(&manifest),
        campaign: keys.campaign_envelope(&terms),
        terms,
    }
}
