//! Verification of the signed documents of a campaign.
//!
//! Devices verify all of this again; a campaign that they would reject is rejected here, before
//! anything is sent.

use std::collections::BTreeMap;

use proto::{
    ids::{CampaignId, ClassId, ComponentId},
    time::Utc,
    trust::{self, Manifest, PlannedObject, RootChain, TrustError, Verified, plan::PlanHeader},
    wire::WireError,
};
use thiserror::Error;

use super::model::{Campaign, SignedDocuments, SignedTerms};
use crate::fleet::store::DamagedCampaign;

/// The documents of a campaign, before their verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// Envelopes of the root that the others are signed under, and of the chain up to it.
    pub roots: Vec<Vec<u8>>,
    /// Envelope of the manifest.
    pub manifest: Vec<u8>,
    /// Envelope of the campaign.
    pub campaign: Vec<u8>,
    /// Plan headers by component.
    pub plan_headers: BTreeMap<ComponentId, Vec<u8>>,
}

/// A campaign whose documents are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCampaign {
    /// The campaign's id.
    pub id: CampaignId,
    /// Content of the documents.
    pub terms: SignedTerms,
    /// The documents.
    pub documents: SignedDocuments,
    /// Upper bound of the report spread in seconds.
    pub report_spread_max_seconds: u32,
}

/// A reason to reject the documents of a campaign.
#[derive(Debug, Error)]
pub enum VerificationError {
    /// A document is malformed, or not signed as it must be.
    #[error("the {document} is not trusted: {source}")]
    Untrusted {
        /// Name of the document.
        document: &'static str,
        /// Cause.
        source: TrustError,
    },
    /// A document is out of date.
    #[error("the {document} expired at {at}")]
    Expired {
        /// Name of the document.
        document: &'static str,
        /// Time of expiry.
        at: Utc,
    },
    /// A plan header is not the one that the campaign was signed for.
    #[error("the plan header of component {component} is not that of the campaign: {source}")]
    PlanHeader {
        /// Number of the component.
        component: u8,
        /// Cause.
        source: WireError,
    },
    /// A plan header names a component that the campaign does not broadcast.
    #[error("the campaign has no component {component}")]
    NoSuchComponent {
        /// Number of the component.
        component: u8,
    },
    /// A later campaign was created for one of the classes.
    #[error("sequence {found} is not above {newest} of campaign {campaign} for the same class")]
    OlderSequence {
        /// Sequence in the document.
        found: u64,
        /// Sequence of the newest campaign.
        newest: u64,
        /// Id of that campaign.
        campaign: CampaignId,
    },
    /// A campaign whose row is damaged may be a later one for one of the classes.
    #[error(
        "campaign {campaign} is damaged ({damage}), and its sequence, {newest}, may not be below \
         {found} for the same class: restore its row from a backup of the data directory"
    )]
    DamagedSequence {
        /// Sequence in the document.
        found: u64,
        /// Sequence of the damaged campaign, if it can be read.
        newest: String,
        /// Id of that campaign, as stored.
        campaign: String,
        /// Error of its row.
        damage: String,
    },
    /// The sequence of the manifest is below the floor of the root.
    #[error("sequence {found} of the manifest is below the floor {floor} of the root")]
    BelowFloor {
        /// Sequence in the document.
        found: u64,
        /// Floor in the root.
        floor: u64,
    },
}

/// Verifies documents at `now`.
///
/// # Errors
///
/// [`VerificationError`] in the order of the security facts 3.3.
pub fn verify_documents(
    documents: Documents,
    now: Utc,
) -> Result<VerifiedCampaign, VerificationError> {
    let untrusted = |document| move |source| VerificationError::Untrusted { document, source };
    let chain = RootChain::verify(documents.roots).map_err(untrusted("root"))?;
    let root = chain.newest().clone();
    check_expiry("root", root.expires, now)?;
    let campaign =
        trust::Campaign::verify(&root, &documents.campaign).map_err(untrusted("campaign"))?;
    let manifest = Manifest::verify(&root, &documents.manifest).map_err(untrusted("manifest"))?;
    if manifest.sequence < root.sequence_floor {
        let (found, floor) = (manifest.sequence, root.sequence_floor);
        return Err(VerificationError::BelowFloor { found, floor });
    }
    check_expiry("campaign", campaign.expires, now)?;
    check_expiry("manifest", manifest.expires, now)?;
    let objects = campaign.planned_objects(&manifest).map_err(untrusted("campaign"))?;
    check_plan_headers(&documents.plan_headers, &objects)?;
    Ok(VerifiedCampaign {
        id: campaign.id,
        terms: terms(&campaign, &manifest, &objects),
        documents: SignedDocuments {
            campaign: documents.campaign,
            manifest: documents.manifest,
            roots: chain.into_envelopes(),
            plan_headers: documents.plan_headers,
        },
        report_spread_max_seconds: campaign.report_spread_max_s,
    })
}

/// Checks that no later campaign was created for one of the same classes.
///
/// # Errors
///
/// [`VerificationError::OlderSequence`] when one was. The same document again is not older.
pub fn check_sequence(terms: &SignedTerms, known: &[Campaign]) -> Result<(), VerificationError> {
    let newest = known
        .iter()
        .filter(|other| {
            let shared = other.terms.classes.iter().any(|class| terms.classes.contains(class));
            shared && other.terms.vendor == terms.vendor && other.terms.digest != terms.digest
        })
        .max_by_key(|other| (other.terms.epoch, other.terms.sequence));
    match newest {
        Some(other)
            if (other.terms.epoch, other.terms.sequence) >= (terms.epoch, terms.sequence) =>
        {
            Err(VerificationError::OlderSequence {
                found: terms.sequence,
                newest: other.terms.sequence,
                campaign: other.id,
            })
        }
        Some(_) | None => Ok(()),
    }
}

/// Checks that no campaign whose row is damaged was a later one for one of the same classes. What of its
/// row cannot be read counts as if it were.
///
/// # Errors
///
/// [`VerificationError::DamagedSequence`] when one was, or may have been.
pub fn check_damaged(
    terms: &SignedTerms,
    damaged: &[DamagedCampaign],
) -> Result<(), VerificationError> {
    let may_share = |other: &&DamagedCampaign| {
        let shared =
            |classes: &Vec<ClassId>| classes.iter().any(|class| terms.classes.contains(class));
        other.vendor.is_none_or(|vendor| vendor == terms.vendor)
            && other.classes.as_ref().is_none_or(shared)
    };
    let may_be_later = |other: &&DamagedCampaign| {
        other.sequence.is_none_or(|sequence| sequence >= (terms.epoch, terms.sequence))
    };
    match damaged.iter().filter(may_share).find(may_be_later) {
        None => Ok(()),
        Some(other) => Err(VerificationError::DamagedSequence {
            found: terms.sequence,
            newest: other.sequence.map_or("unreadable".to_owned(), |(_, found)| found.to_string()),
            campaign: other.id.clone(),
            damage: other.damage.clone(),
        }),
    }
}

fn check_expiry(document: &'static str, expires: Utc, now: Utc) -> Result<(), VerificationError> {
    if now > expires { Err(VerificationError::Expired { document, at: expires }) } else { Ok(()) }
}

fn check_plan_headers(
    headers: &BTreeMap<ComponentId, Vec<u8>>,
    objects: &[PlannedObject],
) -> Result<(), VerificationError> {
    for (component, header) in headers {
        let component = component.0;
        let object = objects
            .iter()
            .find(|object| object.component.0 == component)
            .ok_or(VerificationError::NoSuchComponent { component })?;
        PlanHeader::parse(header, object)
            .map_err(|source| VerificationError::PlanHeader { component, source })?;
    }
    Ok(())
}

fn terms(
    campaign: &Verified<trust::Campaign>,
    manifest: &Verified<Manifest>,
    objects: &[PlannedObject],
) -> SignedTerms {
    let blocks = objects.iter().map(|object| object.oti.partition().largest());
    SignedTerms {
        digest: campaign.digest(),
        epoch: campaign.epoch,
        sequence: campaign.sequence,
        vendor: manifest.vendor,
        classes: manifest.classes.clone(),
        firmware_version: manifest.firmware_version.clone(),
        not_before: campaign.not_before,
        latest_stop: campaign.latest_stop,
        sources: campaign.sources.clone(),
        stored_bytes: manifest.components.iter().map(|component| component.stored_len).sum(),
        largest_block: blocks.max().unwrap_or(0),
    }
}

#[cfg(test)]
pub(crate) mod tests;
