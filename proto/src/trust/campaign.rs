//! The campaign: the release of a package for a set of devices, within limits.
//!
//! It names neither time nor group, so that the operator can move windows without the key holder;
//! [`Campaign::check_window`] and [`Campaign::admits_source`] enforce its limits.

use std::net::IpAddr;

use prost::Message as _;

use super::{
    checks::{check_count, check_critical, check_schema, check_unique, component_id, fixed},
    document_kind::DocumentKind,
    envelope::{Envelope, Verified},
    error::TrustError,
    manifest::Manifest,
    messages,
    plan::hashes::object_key,
    role::Role,
    root::{Root, check_generation},
    strict_protobuf::{self, Field, MessageSchema, Unknown},
};
use crate::{
    crypto::{Digest, Hash16},
    fec::oti::{RaptorQOti, RaptorQParameters},
    ids::{CampaignId, ComponentId},
    time::Utc,
    wire::WireError,
};

/// Largest report spread, in seconds.
pub const MAX_REPORT_SPREAD_SECONDS: u32 = 604_800;

/// The release of a package for a set of devices, within limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Random.
    pub id: CampaignId,
    /// Higher than the last accepted for this class, or equal with the same digest.
    pub sequence: u64,
    /// H(document) of the manifest.
    pub manifest_sha256: Digest,
    /// 1 to 16, components unique.
    pub objects: Vec<CampaignObject>,
    /// Every window lies at or after it.
    pub not_before: Utc,
    /// Every window lies at or before it.
    pub latest_stop: Utc,
    /// 1 to 8, the only addresses that image servers send from.
    pub sources: Vec<IpAddr>,
    /// Upper bound of the report spread, 0..=[`MAX_REPORT_SPREAD_SECONDS`].
    pub report_spread_max_s: u32,
    /// At or after `latest_stop`.
    pub expires: Utc,
    /// The device's epoch.
    pub epoch: u32,
}

/// The campaign's entry of one component: FEC parameters and the plan that authenticates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CampaignObject {
    /// Id of the component in the manifest.
    pub component: ComponentId,
    /// T, octets, 64..=1,408.
    pub symbol_size: u16,
    /// Z, 1..=255.
    pub source_blocks: u8,
    /// Al, octets: 1, 2, 4 or 8.
    pub alignment: u8,
    /// H("fcplan1" ‖ plan header).
    pub plan_root: Digest,
    /// R, repair symbols of each block.
    pub repair_per_block: u32,
}

/// A component of the manifest with its campaign entry: parameters that are safe for a codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedObject {
    /// Id of the component in the manifest.
    pub component: ComponentId,
    /// The FEC parameters; N is 1.
    pub oti: RaptorQOti,
    /// R, repair symbols of each block.
    pub repair_per_block: u32,
    /// H("fcplan1" ‖ plan header).
    pub plan_root: Digest,
    /// SHA-256 of what the broadcast carries.
    pub stored_sha256: Digest,
    /// Key of object and parameters in leaves, tables and stores.
    pub object_key: Hash16,
}

impl Campaign {
    /// Reads a campaign that enough campaign keys of `root` have signed.
    ///
    /// # Errors
    ///
    /// [`TrustError`] in the order of checks: envelope, signatures, fields, epoch.
    pub fn verify(root: &Verified<Root>, envelope: &[u8]) -> Result<Verified<Self>, TrustError> {
        let envelope = Envelope::parse(envelope)?;
        let campaign = envelope
            .verify(DocumentKind::Campaign, root.keys(Role::Campaign))?
            .into_verified(Self::read)?;
        check_generation(root, campaign.epoch, 0)?;
        Ok(campaign)
    }

    /// Returns the components of `manifest` that this campaign sends.
    ///
    /// # Errors
    ///
    /// [`TrustError::Mismatch`] when the campaign was made for another manifest,
    /// [`TrustError::Malformed`] when parameters leave the range that a codec may be given.
    pub fn planned_objects(
        &self,
        manifest: &Verified<Manifest>,
    ) -> Result<Vec<PlannedObject>, TrustError> {
        if self.manifest_sha256 != manifest.digest() {
            return Err(TrustError::Mismatch { what: "manifest_sha256" });
        }
        self.objects.iter().map(|object| object.plan(manifest)).collect()
    }

    /// Checks that a window lies inside the limits.
    ///
    /// # Errors
    ///
    /// [`TrustError::Malformed`] that names the end that leaves them.
    pub fn check_window(&self, opens: Utc, closes: Utc) -> Result<(), TrustError> {
        if opens >= closes {
            return Err(
                WireError::invalid("window", "closed before it opens", "opens < closes").into()
            );
        }
        if opens < self.not_before {
            return Err(WireError::invalid(
                "opens",
                opens,
                "at or after the campaign's not_before",
            )
            .into());
        }
        if closes > self.latest_stop {
            return Err(WireError::invalid(
                "closes",
                closes,
                "at or before the campaign's latest_stop",
            )
            .into());
        }
        Ok(())
    }

    /// Returns whether image servers may send from `source`.
    #[must_use]
    // spec: rfc6726 7.3.1, rfc5651 7, rfc6330 6 (what is not in the campaign is not tuned in to)
    // spec: rfc5052 11
    pub fn admits_source(&self, source: IpAddr) -> bool {
        self.sources.contains(&source)
    }

    /// Returns the document to sign.
    ///
    /// # Errors
    ///
    /// [`TrustError::Malformed`] when a field leaves its range.
    pub fn emit(&self) -> Result<Vec<u8>, TrustError> {
        let address = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let octets = messages::Campaign {
            schema: 1,
            campaign_id: self.id.0.to_vec(),
            sequence: self.sequence,
            manifest_sha256: self.manifest_sha256.0.to_vec(),
            objects: self.objects.iter().map(|object| object.to_message()).collect(),
            not_before: self.not_before.seconds(),
            latest_stop: self.latest_stop.seconds(),
            sources: self.sources.iter().map(address).collect(),
            report_spread_max_s: self.report_spread_max_s,
            expires: self.expires.seconds(),
            epoch: self.epoch,
            critical: Vec::new(),
        }
        .encode_to_vec();
        Self::read(&octets)?;
        Ok(octets)
    }

    /// Parses the fields without verification, to show a document to people.
    ///
    /// # Errors
    ///
    /// [`TrustError`] when a field leaves its range.
    pub fn read(octets: &[u8]) -> Result<Self, TrustError> {
        strict_protobuf::scan(octets, &CAMPAIGN)?;
        let message = messages::Campaign::decode(octets)
            .map_err(|error| WireError::invalid("campaign", error, "a protobuf message"))?;
        check_schema("campaign schema", message.schema)?;
        check_critical(DocumentKind::Campaign, &message.critical)?;
        check_count("objects", message.objects.len(), 16)?;
        check_count("sources", message.sources.len(), 8)?;
        let objects: Vec<_> =
            message.objects.iter().map(CampaignObject::read).collect::<Result<_, _>>()?;
        check_unique("object component", objects.iter().map(|object| object.component))?;
        if message.report_spread_max_s > MAX_REPORT_SPREAD_SECONDS {
            let found = message.report_spread_max_s;
            return Err(WireError::invalid("report_spread_max_s", found, "at most 604800").into());
        }
        if message.not_before >= message.latest_stop {
            let found = message.latest_stop;
            return Err(WireError::invalid("latest_stop", found, "after not_before").into());
        }
        if message.expires < message.latest_stop {
            let found = message.expires;
            return Err(WireError::invalid("expires", found, "at or after latest_stop").into());
        }
        Ok(Self {
            id: CampaignId(fixed("campaign_id", &message.campaign_id)?),
            sequence: message.sequence,
            manifest_sha256: Digest(fixed("manifest_sha256", &message.manifest_sha256)?),
            objects,
            not_before: Utc::from_seconds(message.not_before),
            latest_stop: Utc::from_seconds(message.latest_stop),
            sources: message.sources.iter().map(|s| read_source(s)).collect::<Result<_, _>>()?,
            report_spread_max_s: message.report_spread_max_s,
            expires: Utc::from_seconds(message.expires),
            epoch: message.epoch,
        })
    }
}

impl CampaignObject {
    fn plan(&self, manifest: &Manifest) -> Result<PlannedObject, TrustError> {
        let component = manifest
            .component(self.component)
            .ok_or(TrustError::Mismatch { what: "a component" })?;
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: component.stored_len,
            symbol_size: self.symbol_size,
            source_blocks: self.source_blocks,
            sub_blocks: 1,
            alignment: self.alignment,
        })
        .map_err(|error| WireError::invalid("object parameters", error, "a valid OTI"))?;
        // spec: security 4.6 (range checks)
        let symbols_of_block = oti.partition().largest().checked_add(self.repair_per_block);
        if symbols_of_block.is_none_or(|symbols| symbols > MAX_SYMBOLS_OF_BLOCK) {
            let found = self.repair_per_block;
            return Err(WireError::invalid("repair_per_block", found, "K + R up to 2^24").into());
        }
        Ok(PlannedObject {
            component: self.component,
            oti,
            repair_per_block: self.repair_per_block,
            plan_root: self.plan_root,
            stored_sha256: component.stored_sha256,
            object_key: object_key(&component.stored_sha256, &oti),
        })
    }

    fn to_message(self) -> messages::Object {
        messages::Object {
            component: self.component.0.into(),
            symbol_len: self.symbol_size.into(),
            blocks: self.source_blocks.into(),
            align: self.alignment.into(),
            plan_root: self.plan_root.0.to_vec(),
            repair_per_block: self.repair_per_block,
        }
    }

    fn read(message: &messages::Object) -> Result<Self, WireError> {
        let symbol_size = u16::try_from(message.symbol_len)
            .ok()
            .filter(|size| (MIN_SYMBOL_BYTES..=MAX_SYMBOL_BYTES).contains(size))
            .ok_or_else(|| WireError::invalid("symbol_len", message.symbol_len, "64 to 1408"))?;
        let alignment = u8::try_from(message.align)
            .ok()
            .filter(|alignment| matches!(alignment, 1 | 2 | 4 | 8))
            .ok_or_else(|| WireError::invalid("align", message.align, "1, 2, 4 or 8"))?;
        let source_blocks = u8::try_from(message.blocks)
            .ok()
            .filter(|blocks| *blocks > 0)
            .ok_or_else(|| WireError::invalid("blocks", message.blocks, "1 to 255"))?;
        Ok(Self {
            component: component_id("object component", message.component)?,
            symbol_size,
            source_blocks,
            alignment,
            plan_root: Digest(fixed("plan_root", &message.plan_root)?),
            repair_per_block: message.repair_per_block,
        })
    }
}

fn read_source(octets: &[u8]) -> Result<IpAddr, WireError> {
    if let Ok(address) = <[u8; 4]>::try_from(octets) {
        return Ok(address.into());
    }
    fixed::<16>("source address", octets).map(IpAddr::from)
}

/// T at least, octets.
pub const MIN_SYMBOL_BYTES: u16 = 64;

/// T at most: leaves room for all headers within 1,500 octets.
pub const MAX_SYMBOL_BYTES: u16 = 1408;

const MAX_SYMBOLS_OF_BLOCK: u32 = 1 << 24;

static OBJECT: MessageSchema = MessageSchema {
    name: "object",
    fields: &[
        Field::one(1),
        Field::one(2),
        Field::one(3),
        Field::one(4),
        Field::one(5),
        Field::one(6),
    ],
    unknown: Unknown::Skip,
};

static CAMPAIGN: MessageSchema = MessageSchema {
    name: "campaign",
    fields: &[
        Field::one(1),
        Field::one(2),
        Field::one(3),
        Field::one(4),
        Field::messages(5, &OBJECT),
        Field::one(6),
        Field::one(7),
        Field::many(8),
        Field::one(9),
        Field::one(10),
        Field::one(11),
        Field::many(12),
    ],
    unknown: Unknown::Skip,
};
