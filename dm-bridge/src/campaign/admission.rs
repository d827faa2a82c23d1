//! Which signed documents make a campaign here.
//!
//! Devices check all of this again for themselves; a campaign that they would refuse is better
//! refused here, before anything is sent.

use std::collections::BTreeMap;

use proto::{
    ids::{CampaignId, ComponentId},
    time::Utc,
    trust::{self, Manifest, PlannedObject, RootChain, TrustError, Verified, plan::PlanHeader},
    wire::WireError,
};
use thiserror::Error;

use super::model::{Campaign, Papers, Terms};

/// The files that an operator hands in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// Envelopes of the root that vouches for the others, and of those that lead to it.
    pub roots: Vec<Vec<u8>>,
    /// Envelope of the manifest.
    pub manifest: Vec<u8>,
    /// Envelope of the campaign.
    pub campaign: Vec<u8>,
    /// Plan headers by component.
    pub plan_headers: BTreeMap<ComponentId, Vec<u8>>,
}

/// What was found in documents that hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The campaign's id.
    pub id: CampaignId,
    /// What the documents say.
    pub terms: Terms,
    /// The documents.
    pub papers: Papers,
    /// Upper bound of the report spread in seconds.
    pub report_spread_max_seconds: u32,
}

/// Why documents make no campaign.
#[derive(Debug, Error)]
pub enum AdmissionError {
    /// A document is malformed, or not signed as it must be.
    #[error("the {document} is not trusted: {source}")]
    Untrusted {
        /// Which one.
        document: &'static str,
        /// What is wrong with it.
        source: TrustError,
    },
    /// A document is out of date.
    #[error("the {document} expired at {at} (UTC seconds)")]
    Expired {
        /// Which one.
        document: &'static str,
        /// When.
        at: u64,
    },
    /// A plan header is not the one that the campaign was signed for.
    #[error("the plan header of component {component} is not that of the campaign: {source}")]
    PlanHeader {
        /// Which component.
        component: u8,
        /// What is wrong with it.
        source: WireError,
    },
    /// A plan header for a component that the campaign does not air.
    #[error("the campaign has no component {component}")]
    NoSuchComponent {
        /// Which component.
        component: u8,
    },
    /// A later campaign was created for one of the classes.
    #[error("sequence {found} is not above {newest} of campaign {campaign} for the same class")]
    OlderSequence {
        /// In the document.
        found: u64,
        /// Of the newest campaign.
        newest: u64,
        /// That campaign.
        campaign: CampaignId,
    },
    /// The manifest lies below the floor of the root.
    #[error("sequence {found} of the manifest is below the floor {floor} of the root")]
    BelowFloor {
        /// In the document.
        found: u64,
        /// In the root.
        floor: u64,
    },
}

/// Checks documents at `now`.
///
/// # Errors
///
/// [`AdmissionError`] in the order of the security facts 3.3.
pub fn admit(documents: Documents, now: Utc) -> Result<Admitted, AdmissionError> {
    let untrusted = |document| move |source| AdmissionError::Untrusted { document, source };
    let chain = RootChain::verify(documents.roots).map_err(untrusted("root"))?;
    let root = chain.newest().clone();
    check_expiry("root", root.expires, now)?;
    let campaign =
        trust::Campaign::verify(&root, &documents.campaign).map_err(untrusted("campaign"))?;
    let manifest = Manifest::verify(&root, &documents.manifest).map_err(untrusted("manifest"))?;
    if manifest.sequence < root.sequence_floor {
        let (found, floor) = (manifest.sequence, root.sequence_floor);
        return Err(AdmissionError::BelowFloor { found, floor });
    }
    check_expiry("campaign", campaign.expires, now)?;
    check_expiry("manifest", manifest.expires, now)?;
    let objects = campaign.planned_objects(&manifest).map_err(untrusted("campaign"))?;
    check_plan_headers(&documents.plan_headers, &objects)?;
    Ok(Admitted {
        id: campaign.id,
        terms: terms(&campaign, &manifest, &objects),
        papers: Papers {
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
/// [`AdmissionError::OlderSequence`] when one was. The same document again is not older.
pub fn check_sequence(terms: &Terms, known: &[Campaign]) -> Result<(), AdmissionError> {
    let rival = known
        .iter()
        .filter(|other| {
            let shared = other.terms.classes.iter().any(|class| terms.classes.contains(class));
            shared && other.terms.vendor == terms.vendor && other.terms.digest != terms.digest
        })
        .max_by_key(|other| (other.terms.epoch, other.terms.sequence));
    match rival {
        Some(other)
            if (other.terms.epoch, other.terms.sequence) >= (terms.epoch, terms.sequence) =>
        {
            Err(AdmissionError::OlderSequence {
                found: terms.sequence,
                newest: other.terms.sequence,
                campaign: other.id,
            })
        }
        Some(_) | None => Ok(()),
    }
}

fn check_expiry(document: &'static str, expires: Utc, now: Utc) -> Result<(), AdmissionError> {
    if now > expires {
        Err(AdmissionError::Expired { document, at: expires.seconds() })
    } else {
        Ok(())
    }
}

fn check_plan_headers(
    headers: &BTreeMap<ComponentId, Vec<u8>>,
    objects: &[PlannedObject],
) -> Result<(), AdmissionError> {
    for (component, header) in headers {
        let component = component.0;
        let object = objects
            .iter()
            .find(|object| object.component.0 == component)
            .ok_or(AdmissionError::NoSuchComponent { component })?;
        PlanHeader::parse(header, object)
            .map_err(|source| AdmissionError::PlanHeader { component, source })?;
    }
    Ok(())
}

fn terms(
    campaign: &Verified<trust::Campaign>,
    manifest: &Verified<Manifest>,
    objects: &[PlannedObject],
) -> Terms {
    let blocks = objects.iter().map(|object| object.oti.partition().largest());
    Terms {
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
