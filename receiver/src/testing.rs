//! A small complete broadcast: keys, documents, plan, packets. For unit tests.

use std::{collections::BTreeMap, net::IpAddr};

use proto::{
    crypto::{Digest, SigningKey, sha256},
    fec::{
        ENCODING_ID_NO_CODE, ENCODING_ID_RAPTORQ,
        codec::BlockEncoder as _,
        oti::{RaptorQOti, RaptorQParameters},
        raptorq_crate::Encoder,
    },
    flute::{
        alc::{Packet, Payload, PayloadId},
        ext::{AUTH, ExtensionWriter, Extensions},
        lct::Header,
    },
    ids::{CampaignId, ClassId, ComponentId, Esi, Sbn, Toi, Tsi, VendorId},
    time::Utc,
    trust::{
        Campaign, Component, ComponentEncoding, DocumentKind, Envelope, Manifest, PlannedObject,
        Role, RoleKeys, Root, Verified,
        campaign::CampaignObject,
        plan::{self, NodeTree, PlanHeader, PlanParameters, PlanShape, TableProof},
    },
    tune_in::TuneIn,
};

use crate::update::acceptance::DeviceClass;

pub(crate) const SYMBOL_BYTES: u16 = 64;
pub(crate) const TSI: Tsi = Tsi(7);
pub(crate) const COMPONENT: ComponentId = ComponentId(0);

/// Seconds within which every document is valid.
pub(crate) const NOT_BEFORE: u64 = 1_000;
pub(crate) const LATEST_STOP: u64 = 100_000;

/// A signing key that is the same in each run.
pub(crate) fn key() -> SigningKey {
    SigningKey::from_pkcs8(&SigningKey::generate_pkcs8()).expect("a made key is a key")
}

pub(crate) struct Keys {
    pub(crate) root: SigningKey,
    pub(crate) release: SigningKey,
    pub(crate) campaign: SigningKey,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self { root: key(), release: key(), campaign: key() }
    }

    pub(crate) fn root_envelope(&self) -> Vec<u8> {
        seal(DocumentKind::Root, self.root_document().emit().unwrap(), &self.root)
    }

    pub(crate) fn root_document(&self) -> Root {
        let role = |key: &SigningKey| RoleKeys { threshold: 1, keys: vec![key.public()] };
        Root {
            version: 1,
            expires: Utc::from_seconds(2 * LATEST_STOP),
            roles: BTreeMap::from([
                (Role::Root, role(&self.root)),
                (Role::Release, role(&self.release)),
                (Role::Campaign, role(&self.campaign)),
            ]),
            sequence_floor: 0,
            epoch: 1,
        }
    }

    /// Returns root `version` of these keys, signed by them and by the root key of `before`.
    pub(crate) fn root_after(
        &self,
        before: &Self,
        version: u64,
        change: impl FnOnce(&mut Root),
    ) -> Vec<u8> {
        let mut root = Root { version, ..self.root_document() };
        change(&mut root);
        let mut envelope = Envelope::new(DocumentKind::Root, root.emit().unwrap()).unwrap();
        envelope.sign(&before.root).unwrap();
        envelope.sign(&self.root).unwrap();
        envelope.emit()
    }

    pub(crate) fn root(&self) -> Verified<Root> {
        Root::from_factory(&self.root_envelope()).unwrap()
    }
}

pub(crate) fn seal(kind: DocumentKind, payload: Vec<u8>, key: &SigningKey) -> Vec<u8> {
    let mut envelope = Envelope::new(kind, payload).unwrap();
    envelope.sign(key).unwrap();
    envelope.emit()
}

pub(crate) fn device_class() -> DeviceClass {
    DeviceClass { vendor: VendorId([1; 16]), class: ClassId([2; 16]) }
}

pub(crate) fn source() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

/// All packets of a broadcast, and its signed documents.
pub(crate) struct Broadcast {
    pub(crate) keys: Keys,
    pub(crate) image: Vec<u8>,
    pub(crate) manifest: Manifest,
    pub(crate) campaign: Campaign,
    pub(crate) object: PlannedObject,
    pub(crate) header: PlanHeader,
    /// Symbols in plan order.
    pub(crate) symbols: Vec<Vec<u8>>,
    tables: Vec<Vec<u8>>,
    tree: NodeTree,
}

impl Broadcast {
    /// Two blocks of 20 symbols, as many repair symbols, segments of 16 symbols.
    pub(crate) fn new() -> Self {
        Self::of_image((0..64 * 39 + 5).map(|at: u32| at.to_le_bytes()[0] ^ 0x5a).collect())
    }

    pub(crate) fn of_image(image: Vec<u8>) -> Self {
        let digest = sha256(&[&image]);
        let manifest = manifest(digest, image.len());
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: image.len() as u64,
            symbol_size: SYMBOL_BYTES,
            source_blocks: 2,
            sub_blocks: 1,
            alignment: 8,
        })
        .unwrap();
        let shape = PlanShape::new(
            oti,
            PlanParameters {
                repair_per_block: 20,
                segment_symbols: 16,
                table_repair: 3,
                table_symbol_bytes: 64,
            },
        )
        .unwrap();
        let key = plan::object_key(&digest, &oti);
        let symbols = symbols(&image, &shape);
        let leaves: Vec<_> = (0..)
            .zip(&symbols)
            .map(|(index, symbol)| {
                let (sbn, esi) = shape.symbol_at(index).unwrap();
                plan::leaf(&key, sbn, esi, symbol)
            })
            .collect();
        let mut tables = Vec::new();
        let mut nodes = Vec::new();
        for (segment, leaves) in (0..).map(Sbn).zip(leaves.chunks(16)) {
            for (esi, table) in (0..).zip(plan::table_symbols(&shape, segment, leaves).unwrap()) {
                nodes.push(plan::table_node(&key, segment, Esi(esi), &table));
                tables.push(table);
            }
        }
        let tree = NodeTree::new(&shape, nodes).unwrap();
        let header = PlanHeader::new(shape, key, &tree).unwrap();
        let keys = Keys::new();
        let payload = manifest.emit().unwrap();
        let campaign = campaign(sha256(&[&payload]), header.root());
        let envelope = seal(DocumentKind::Manifest, payload, &keys.release);
        let verified = Manifest::verify(&keys.root(), &envelope).unwrap();
        let object = campaign.planned_objects(&verified).unwrap()[0];
        Self { keys, image, manifest, campaign, object, header, symbols, tables, tree }
    }

    pub(crate) fn manifest_envelope(&self) -> Vec<u8> {
        seal(DocumentKind::Manifest, self.manifest.emit().unwrap(), &self.keys.release)
    }

    pub(crate) fn campaign_envelope(&self) -> Vec<u8> {
        seal(DocumentKind::Campaign, self.campaign.emit().unwrap(), &self.keys.campaign)
    }

    pub(crate) fn tune_in(&self) -> TuneIn {
        TuneIn {
            channel: "232.1.2.3:3400".parse().unwrap(),
            tsi: TSI,
            source: source(),
            campaign: self.campaign.id,
            campaign_digest: sha256(&[&self.campaign.emit().unwrap()]),
            component: None,
        }
    }

    pub(crate) fn data_packet(&self, index: u64) -> Vec<u8> {
        let (sbn, esi) = self.header.shape().symbol_at(index).unwrap();
        let symbol = &self.symbols[usize::try_from(index).unwrap()];
        packet(Toi::object(COMPONENT), ENCODING_ID_RAPTORQ, &[], sbn, esi, symbol)
    }

    pub(crate) fn table_packets(&self, segment: u32) -> Vec<Vec<u8>> {
        let per_segment = self.header.shape().table_symbols_per_segment();
        (0..per_segment)
            .map(|esi| {
                let index = segment * per_segment + esi;
                let mut proof = Vec::new();
                TableProof::emit(&self.tree, index, &mut proof);
                let mut extensions = Vec::new();
                ExtensionWriter::new(&mut extensions).variable(AUTH, &proof).unwrap();
                let table = &self.tables[usize::try_from(index).unwrap()];
                let toi = Toi::tables(COMPONENT);
                packet(toi, ENCODING_ID_RAPTORQ, &extensions, Sbn(segment), Esi(esi), table)
            })
            .collect()
    }

    pub(crate) fn header_packet(&self) -> Vec<u8> {
        let toi = Toi::plan_header(COMPONENT);
        packet(toi, ENCODING_ID_NO_CODE, &[], Sbn(0), Esi(0), &self.header.emit())
    }

    /// One pass as the carousel sends it, tables in front of their segments.
    pub(crate) fn pass(&self) -> Vec<Vec<u8>> {
        let shape = self.header.shape();
        let mut packets = vec![self.header_packet()];
        for segment in 0..u32::from(shape.segments()) {
            packets.extend(self.table_packets(segment));
            packets.extend(shape.segment(Sbn(segment)).unwrap().map(|at| self.data_packet(at)));
        }
        packets
    }
}

fn symbols(image: &[u8], shape: &PlanShape) -> Vec<Vec<u8>> {
    let oti = shape.oti();
    let size = usize::from(SYMBOL_BYTES);
    let mut symbols = vec![Vec::new(); usize::try_from(shape.leaves()).unwrap()];
    for sbn in (0..oti.partition().blocks()).map(Sbn) {
        let first = usize::try_from(oti.partition().first_symbol(sbn).unwrap()).unwrap() * size;
        let count = oti.partition().symbols_of(sbn).unwrap();
        let end = (first + usize::try_from(count).unwrap() * size).min(image.len());
        let encoder = Encoder::new(oti, sbn, &image[first..end]).unwrap();
        encoder.for_each_symbol(0..count + 20, &mut |esi, symbol| {
            let index = shape.index_of(sbn, esi).unwrap();
            symbols[usize::try_from(index).unwrap()] = symbol.to_vec();
        });
    }
    symbols
}

pub(crate) fn packet(
    toi: Toi,
    codepoint: u8,
    extensions: &[u8],
    sbn: Sbn,
    esi: Esi,
    symbols: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    Packet {
        header: Header::wide(TSI, toi, codepoint),
        extensions: Extensions::new(extensions).unwrap(),
        payload: Some(Payload { id: PayloadId { sbn, esi }, symbols }),
    }
    .emit(&mut out)
    .unwrap();
    out
}

fn manifest(digest: Digest, length: usize) -> Manifest {
    Manifest {
        sequence: 5,
        floor_after_commit: 2,
        vendor: device_class().vendor,
        classes: vec![device_class().class],
        firmware_version: "2.0".to_owned(),
        components: vec![Component {
            id: COMPONENT,
            stored_len: length as u64,
            stored_sha256: digest,
            encoding: ComponentEncoding::None,
            decoded_len: length as u64,
            decoded_sha256: digest,
            memory_needed: 0,
        }],
        not_before: Utc::from_seconds(NOT_BEFORE),
        expires: Utc::from_seconds(LATEST_STOP + 1),
        root_version: 1,
        epoch: 1,
    }
}

fn campaign(manifest_sha256: Digest, plan_root: Digest) -> Campaign {
    Campaign {
        id: CampaignId([7; 16]),
        sequence: 5,
        manifest_sha256,
        objects: vec![CampaignObject {
            component: COMPONENT,
            symbol_size: SYMBOL_BYTES,
            source_blocks: 2,
            alignment: 8,
            plan_root,
            repair_per_block: 20,
        }],
        not_before: Utc::from_seconds(NOT_BEFORE),
        latest_stop: Utc::from_seconds(LATEST_STOP),
        sources: vec![source()],
        report_spread_max_s: 100,
        expires: Utc::from_seconds(LATEST_STOP),
        epoch: 1,
    }
}
