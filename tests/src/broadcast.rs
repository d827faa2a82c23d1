//! A broadcast made whole in memory: keys, signed documents, plan, and the packets of one pass.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::Context as _;
use carousel::plan::schedule::{Cursor, Record, Schedule};
use proto::{
    crypto::{Hash16, SigningKey, sha256},
    fec::{
        codec::BlockEncoder as _,
        oti::{RaptorQOti, RaptorQParameters},
        raptorq_crate::Encoder,
    },
    flute::{
        alc::{Packet, Payload, PayloadId},
        ext::{self, Extensions},
        lct::Header,
    },
    ids::{CampaignId, ClassId, ComponentId, Esi, Sbn, Toi, Tsi, VendorId},
    time::Utc,
    trust::{
        Campaign, Component, ComponentEncoding, DocumentKind, Envelope, Manifest, PlannedObject,
        Role, RoleKeys, Root, Verified,
        campaign::CampaignObject,
        plan::{
            NodeTree, PlanHeader, PlanShape, TableProof, leaf, object_key, table_node,
            table_symbols,
        },
    },
    tune_in::{TuneIn, Window},
};

use crate::lab::rng::SeededRng;

/// The keys of one operator.
#[derive(Debug)]
pub struct Keys {
    /// Signs roots.
    pub root: SigningKey,
    /// Signs manifests.
    pub release: SigningKey,
    /// Signs campaigns.
    pub campaign: SigningKey,
    /// Floors of the sequences in the root.
    pub sequence_floor: u64,
}

/// Signed documents and packets of an image.
#[derive(Debug)]
pub struct Broadcast {
    /// Signing keys.
    pub keys: Keys,
    /// Octets of the image.
    pub image: Vec<u8>,
    /// The manifest, before it is signed.
    pub manifest: Manifest,
    /// The campaign, before it is signed.
    pub campaign: Campaign,
    /// The one object.
    pub object: PlannedObject,
    /// The plan header that the campaign pins.
    pub header: PlanHeader,
    /// Leaves of all symbols, in plan order.
    pub leaves: Vec<Hash16>,
    tables: Vec<Vec<u8>>,
    tree: NodeTree,
    encoders: Vec<Encoder>,
}

/// Vendor of the devices that the broadcast is for.
pub const VENDOR: VendorId = VendorId([1; 16]);
/// Their class.
pub const CLASS: ClassId = ClassId([2; 16]);
/// The session.
pub const TSI: Tsi = Tsi(7);
/// A moment at which all documents are valid.
pub const NOW: Utc = Utc::from_seconds(1_800_000_000);
/// Octets of a symbol.
pub const SYMBOL_BYTES: u16 = 256;
const DAY: u64 = 24 * 3600;
/// FEC Encoding IDs.
const NO_CODE: u8 = 0;
const RAPTORQ: u8 = 6;

impl Keys {
    /// Makes new keys.
    ///
    /// # Errors
    ///
    /// When the machine's generator gives no key.
    pub fn new() -> anyhow::Result<Self> {
        let key = || SigningKey::from_pkcs8(&SigningKey::generate_pkcs8()).context("a made key");
        Ok(Self { root: key()?, release: key()?, campaign: key()?, sequence_floor: 0 })
    }

    /// Returns the envelope of a root that names the three.
    ///
    /// # Errors
    ///
    /// When the document would break its own limits.
    pub fn root_envelope(&self) -> anyhow::Result<Vec<u8>> {
        let role = |key: &SigningKey| RoleKeys { threshold: 1, keys: vec![key.public()] };
        let root = Root {
            version: 1,
            expires: after(10 * DAY),
            roles: BTreeMap::from([
                (Role::Root, role(&self.root)),
                (Role::Release, role(&self.release)),
                (Role::Campaign, role(&self.campaign)),
            ]),
            sequence_floor: self.sequence_floor,
            epoch: 1,
        };
        seal(DocumentKind::Root, root.emit()?, &self.root)
    }

    /// Returns the root as a device holds it.
    ///
    /// # Errors
    ///
    /// When the document would break its own limits.
    pub fn verified_root(&self) -> anyhow::Result<Verified<Root>> {
        Ok(Root::from_factory(&self.root_envelope()?)?)
    }
}

/// Signs a document.
///
/// # Errors
///
/// When it breaks the limits of envelopes.
pub fn seal(kind: DocumentKind, payload: Vec<u8>, key: &SigningKey) -> anyhow::Result<Vec<u8>> {
    let mut envelope = Envelope::new(kind, payload)?;
    envelope.sign(key)?;
    Ok(envelope.emit())
}

impl Broadcast {
    /// Makes the broadcast of an image of so many symbols in so many blocks.
    ///
    /// # Errors
    ///
    /// When the numbers make no plan.
    pub fn new(symbols: u32, blocks: u8) -> anyhow::Result<Self> {
        Self::of_symbols(symbols, blocks, SYMBOL_BYTES)
    }

    /// Makes the broadcast of an image of so many symbols of so many octets.
    ///
    /// # Errors
    ///
    /// When the numbers make no plan.
    pub fn of_symbols(symbols: u32, blocks: u8, symbol_size: u16) -> anyhow::Result<Self> {
        let length = u64::from(symbols) * u64::from(symbol_size);
        let mut image = vec![0; usize::try_from(length)?];
        SeededRng::new(1, "image").fill_bytes(&mut image);
        let parameters = RaptorQParameters {
            transfer_length: length,
            symbol_size,
            source_blocks: blocks,
            sub_blocks: 1,
            alignment: 8,
        };
        let oti = RaptorQOti::new(parameters).ok().context("valid parameters")?;
        let shape = PlanShape::for_loss(oti, symbols / u32::from(blocks), 30)?;
        let key = object_key(&sha256(&[&image]), &oti);
        let encoders = encoders(&image, &oti)?;
        let leaves = leaves(&shape, &key, &encoders)?;
        let (tables, nodes) = tables(&shape, &key, &leaves)?;
        let tree = NodeTree::new(&shape, nodes).context("a tree of all table symbols")?;
        let header = PlanHeader::new(shape, key, &tree).context("a header of that tree")?;
        let manifest = manifest(&image)?;
        let object = PlannedObject {
            component: ComponentId(0),
            oti,
            repair_per_block: shape.parameters().repair_per_block,
            plan_root: header.root(),
            stored_sha256: sha256(&[&image]),
            object_key: key,
        };
        let campaign = campaign(&manifest, &object)?;
        let keys = Keys::new()?;
        Ok(Self { keys, image, manifest, campaign, object, header, leaves, tables, tree, encoders })
    }

    /// Returns the signed manifest.
    ///
    /// # Errors
    ///
    /// When the document was changed beyond its limits.
    pub fn manifest_envelope(&self) -> anyhow::Result<Vec<u8>> {
        seal(DocumentKind::Manifest, self.manifest.emit()?, &self.keys.release)
    }

    /// Returns the signed campaign.
    ///
    /// # Errors
    ///
    /// When the document was changed beyond its limits.
    pub fn campaign_envelope(&self) -> anyhow::Result<Vec<u8>> {
        seal(DocumentKind::Campaign, self.campaign.emit()?, &self.keys.campaign)
    }

    /// Returns where to listen.
    ///
    /// # Errors
    ///
    /// When the document was changed beyond its limits.
    pub fn tune_in(&self) -> anyhow::Result<TuneIn> {
        Ok(TuneIn {
            channel: ([232, 1, 2, 3], 3400).into(),
            tsi: TSI,
            source: IpAddr::from([192, 0, 2, 1]),
            campaign: self.campaign.id,
            campaign_digest: sha256(&[&self.campaign.emit()?]),
            component: None,
        })
    }

    /// Returns a window within the limits.
    pub fn window(&self) -> Window {
        Window { opens: after(60), closes: after(3600) }
    }

    /// Returns the packet of the plan header.
    ///
    /// # Errors
    ///
    /// Never: the header is no longer than a packet.
    pub fn header_packet(&self) -> anyhow::Result<Vec<u8>> {
        let header = Header::wide(TSI, Toi::plan_header(self.object.component), NO_CODE);
        packet(header, Extensions::NONE, (Sbn(0), Esi(0)), &self.header.emit())
    }

    /// Returns the packet of a table symbol with its path.
    ///
    /// # Errors
    ///
    /// When there is no such table symbol.
    pub fn table_packet(&self, index: u32) -> anyhow::Result<Vec<u8>> {
        let mut auth = vec![ext::AUTH, 0];
        TableProof::emit(&self.tree, index, &mut auth);
        let words = u8::try_from(auth.len() / 4)?;
        *auth.get_mut(1).context("a length")? = words;
        let per_segment = self.header.shape().table_symbols_per_segment();
        let id = (Sbn(index / per_segment), Esi(index % per_segment));
        let symbol = self.tables.get(usize::try_from(index)?).context("a table symbol")?;
        let header = Header::wide(TSI, Toi::tables(self.object.component), RAPTORQ);
        packet(header, Extensions::new(&auth)?, id, symbol)
    }

    /// Returns the packet of the data symbol at a place of the plan.
    ///
    /// # Errors
    ///
    /// When the plan has no such place.
    pub fn data_packet(&self, place: u64) -> anyhow::Result<Vec<u8>> {
        let (sbn, esi) = self.header.shape().symbol_at(place).context("a place of the plan")?;
        let encoder = self.encoders.get(usize::try_from(sbn.0)?).context("a block")?;
        let symbol = symbol(encoder, esi);
        let header = Header::wide(TSI, Toi::object(self.object.component), RAPTORQ);
        packet(header, Extensions::NONE, (sbn, esi), &symbol)
    }

    /// Returns one pass in sending order: header, what introduces the first segment, the records of
    /// the plan.
    ///
    /// # Errors
    ///
    /// Never: the plan has all that is asked for.
    pub fn pass(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let shape = self.header.shape();
        let schedule = Schedule::new(*shape);
        let session_preamble =
            schedule.session_preamble(Sbn(0)).map(|(segment, esi)| Record::Table { segment, esi });
        let records = (0..u32::from(shape.segments())).flat_map(|segment| {
            let mut cursor = Cursor::start_of(Sbn(segment));
            std::iter::from_fn(move || schedule.next(&mut cursor))
        });
        let mut packets = vec![self.header_packet()?];
        for record in session_preamble.chain(records) {
            packets.push(match record {
                Record::Table { segment, esi } => {
                    self.table_packet(shape.table_index(segment, esi).context("a table symbol")?)?
                }
                Record::Data { sbn, esi } => {
                    self.data_packet(shape.index_of(sbn, esi).context("a symbol")?)?
                }
            });
        }
        Ok(packets)
    }
}

fn after(seconds: u64) -> Utc {
    Utc::from_seconds(NOW.seconds() + seconds)
}

fn manifest(image: &[u8]) -> anyhow::Result<Manifest> {
    let (length, digest) = (u64::try_from(image.len())?, sha256(&[image]));
    Ok(Manifest {
        sequence: 5,
        floor_after_commit: 0,
        vendor: VENDOR,
        classes: vec![CLASS],
        firmware_version: "2.0".to_owned(),
        components: vec![Component {
            id: ComponentId(0),
            stored_len: length,
            stored_sha256: digest,
            encoding: ComponentEncoding::None,
            decoded_len: length,
            decoded_sha256: digest,
            memory_needed: 0,
        }],
        not_before: NOW,
        expires: after(5 * DAY),
        root_version: 1,
        epoch: 1,
    })
}

fn campaign(manifest: &Manifest, object: &PlannedObject) -> anyhow::Result<Campaign> {
    let parameters = object.oti.parameters();
    Ok(Campaign {
        id: CampaignId([6; 16]),
        sequence: 5,
        manifest_sha256: sha256(&[&manifest.emit()?]),
        objects: vec![CampaignObject {
            component: object.component,
            symbol_size: parameters.symbol_size,
            source_blocks: parameters.source_blocks,
            alignment: parameters.alignment,
            plan_root: object.plan_root,
            repair_per_block: object.repair_per_block,
        }],
        not_before: NOW,
        latest_stop: after(DAY),
        sources: vec![IpAddr::from([192, 0, 2, 1])],
        report_spread_max_s: 600,
        expires: after(2 * DAY),
        epoch: 1,
    })
}

fn encoders(image: &[u8], oti: &RaptorQOti) -> anyhow::Result<Vec<Encoder>> {
    let partition = oti.partition();
    let mut encoders = Vec::new();
    let mut remaining = image;
    for sbn in (0..partition.blocks()).map(Sbn) {
        let symbols = partition.symbols_of(sbn).context("a block")?;
        let octets = usize::try_from(symbols)? * usize::from(oti.parameters().symbol_size);
        let (block, left) = remaining.split_at_checked(octets).unwrap_or((remaining, &[]));
        encoders.push(Encoder::new(oti, sbn, block).context("an encoder")?);
        remaining = left;
    }
    Ok(encoders)
}

fn symbol(encoder: &Encoder, esi: Esi) -> Vec<u8> {
    let mut made = Vec::new();
    encoder.for_each_symbol(esi.0..esi.0 + 1, &mut |_, octets| made = octets.to_vec());
    made
}

fn leaves(shape: &PlanShape, key: &Hash16, encoders: &[Encoder]) -> anyhow::Result<Vec<Hash16>> {
    let mut leaves = Vec::new();
    for place in 0..shape.leaves() {
        let (sbn, esi) = shape.symbol_at(place).context("a place")?;
        let encoder = encoders.get(usize::try_from(sbn.0)?).context("a block")?;
        leaves.push(leaf(key, sbn, esi, &symbol(encoder, esi)));
    }
    Ok(leaves)
}

type Tables = (Vec<Vec<u8>>, Vec<Hash16>);

fn tables(shape: &PlanShape, key: &Hash16, leaves: &[Hash16]) -> anyhow::Result<Tables> {
    let (mut tables, mut nodes) = (Vec::new(), Vec::new());
    for segment in (0..u32::from(shape.segments())).map(Sbn) {
        let places = shape.segment(segment).context("a segment")?;
        let places = usize::try_from(places.start)?..usize::try_from(places.end)?;
        let leaves = leaves.get(places).context("its leaves")?;
        let symbols = table_symbols(shape, segment, leaves).context("its table")?;
        for (esi, symbol) in (0..).zip(&symbols) {
            nodes.push(table_node(key, segment, Esi(esi), symbol));
        }
        tables.extend(symbols);
    }
    Ok((tables, nodes))
}

fn packet(
    header: Header,
    extensions: Extensions<'_>,
    id: (Sbn, Esi),
    symbols: &[u8],
) -> anyhow::Result<Vec<u8>> {
    let payload = Some(Payload { id: PayloadId { sbn: id.0, esi: id.1 }, symbols });
    let mut out = Vec::new();
    Packet { header, extensions, payload }.emit(&mut out)?;
    Ok(out)
}
