//! The acceptance of a campaign: every check between the octets that a DM session wrote and the
//! armed campaign in the journal, in their order.
//!
//! Pure: the history of the device and its limits are arguments.

use std::fmt;

use proto::{
    crypto::Digest,
    dm::fumo::ResultCode,
    ids::{CampaignId, ClassId, ComponentId, VendorId},
    time::Utc,
    trust::{
        Campaign, Component, ComponentEncoding, Manifest, PlannedObject, Root, TrustError, Verified,
    },
    tune_in::{TuneIn, Window},
};

use crate::store::ObjectLayout;

/// The vendor and class of the device, as enrolled.
#[derive(Debug, Clone, Copy)]
pub struct DeviceClass {
    /// The vendor.
    pub vendor: VendorId,
    /// The class of firmware that fits the device.
    pub class: ClassId,
}

/// The capacity of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Source symbols of a block, 1..=56,403.
    pub max_block_symbols: u32,
    /// Octets of memory that the decoder may use.
    pub max_memory_bytes: u64,
    /// Octets that one reception may use on disk.
    pub max_storage_bytes: u64,
    /// Octets of an image.
    pub max_image_bytes: u64,
    /// Octets of a package received inside a DM session; it is held in memory.
    pub max_package_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_block_symbols: 8192,
            max_memory_bytes: 128 << 20,
            max_storage_bytes: 6 << 30,
            max_image_bytes: 2 << 30,
            max_package_bytes: 8 << 20,
        }
    }
}

/// The campaigns and manifests that the device has seen.
#[derive(Debug, Clone, Default)]
pub struct AcceptanceHistory {
    /// Sequence and digest of the last campaign accepted.
    pub accepted: Option<(u64, Digest)>,
    /// Sequence and digest of the manifest whose firmware was confirmed last.
    pub installed: Option<(u64, Digest)>,
    /// No manifest below this sequence.
    pub floor: u64,
    /// Campaigns that ended with success.
    pub finished: Vec<CampaignId>,
    /// The lower bound of the time.
    pub clock_floor: Utc,
}

/// A campaign as a DM session wrote it.
#[derive(Debug, Clone)]
pub struct CampaignOffer<'a> {
    /// The campaign's envelope.
    pub campaign: &'a [u8],
    /// The manifest's envelope.
    pub manifest: &'a [u8],
    /// Channels and their windows, at least one.
    pub windows: Vec<(TuneIn, Window)>,
    /// The component, where the package is not received by broadcast: then there is no window, and
    /// the limits of the decoder do not apply.
    pub carried: Option<ComponentId>,
}

/// A campaign that the device accepts.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The campaign.
    pub campaign: Verified<Campaign>,
    /// Its manifest.
    pub manifest: Verified<Manifest>,
    /// The one object to receive.
    pub object: PlannedObject,
}

/// The outcome for an offer that is not refused.
#[derive(Debug, Clone)]
pub enum Acceptance {
    /// The campaign is accepted.
    Accepted(Box<Accepted>),
    /// The same package is installed already.
    AlreadyInstalled(CampaignId),
}

/// The reason to refuse a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The result code that is reported.
    pub result: ResultCode,
    /// The class of the reason, a word for `Reasons`.
    pub reason: &'static str,
    /// The finding, for the device's own log.
    pub detail: String,
}

impl Refusal {
    fn new(result: ResultCode, reason: &'static str, detail: impl fmt::Display) -> Self {
        Self { result, reason, detail: detail.to_string() }
    }

    fn limits(detail: impl fmt::Display) -> Self {
        Self::new(ResultCode::REFUSED, "limits", detail)
    }
}

impl From<TrustError> for Refusal {
    fn from(error: TrustError) -> Self {
        match &error {
            TrustError::Threshold { .. } | TrustError::ForeignSignature { .. } => {
                Self::new(ResultCode::BAD_SIGNATURE, "signature", error)
            }
            TrustError::Malformed(_) => Self::new(ResultCode::BAD_SIGNATURE, "malformed", error),
            TrustError::NotUnderstood { .. } => {
                Self::new(ResultCode::NOT_ACCEPTABLE, "not-understood", error)
            }
            TrustError::Mismatch { .. } => Self::new(ResultCode::REFUSED, "mismatch", error),
            TrustError::Generation { .. } => Self::new(ResultCode::REFUSED, "generation", error),
        }
    }
}

// spec: oma-002 5 (nobody but the holders of the keys puts software on a device)
/// Evaluates an offer.
///
/// # Errors
///
/// The first [`Refusal`] in the order of the checks.
pub fn evaluate(
    root: &Verified<Root>,
    kind: DeviceClass,
    history: &AcceptanceHistory,
    limits: &Limits,
    offer: &CampaignOffer<'_>,
) -> Result<Acceptance, Refusal> {
    let campaign = Campaign::verify(root, offer.campaign)?;
    let manifest = Manifest::verify(root, offer.manifest)?;
    check_sequence(root, history, &campaign)?;
    check_expiry(history.clock_floor, root, &campaign, &manifest)?;
    let objects = campaign.planned_objects(&manifest)?;
    if manifest.vendor != kind.vendor || !manifest.classes.contains(&kind.class) {
        let detail = "the manifest is for another vendor or class";
        return Err(Refusal::new(ResultCode::MISMATCH, "class", detail));
    }
    if history.installed.is_some_and(|(_, digest)| digest == manifest.digest()) {
        return Ok(Acceptance::AlreadyInstalled(campaign.id));
    }
    check_rollback(root, history, &campaign, &manifest)?;
    let object = chosen_object(&objects, offer)?;
    let component = manifest.component(object.component);
    check_component(limits, component, &object)?;
    if offer.carried.is_none() {
        check_reception(limits, &object)?;
    }
    for (tune_in, window) in &offer.windows {
        check_tune_in(&campaign, tune_in, *window)?;
    }
    Ok(Acceptance::Accepted(Box::new(Accepted { campaign, manifest, object })))
}

/// Checks that a campaign is newer than the last one, or the same.
fn check_sequence(
    root: &Root,
    history: &AcceptanceHistory,
    campaign: &Verified<Campaign>,
) -> Result<(), Refusal> {
    let refused = |detail: String| Err(Refusal::new(ResultCode::REFUSED, "rollback", detail));
    if campaign.sequence < root.sequence_floor {
        return refused(format!("campaign sequence {} is below the floor", campaign.sequence));
    }
    match history.accepted {
        Some((last, digest)) if campaign.sequence == last && campaign.digest() != digest => {
            refused(format!("another campaign with sequence {last} was accepted before"))
        }
        Some((last, _)) if campaign.sequence < last => {
            refused(format!("campaign sequence {} is below {last}", campaign.sequence))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_expiry(
    clock_floor: Utc,
    root: &Root,
    campaign: &Campaign,
    manifest: &Manifest,
) -> Result<(), Refusal> {
    let expired = |what: &str, expires: Utc| {
        let detail = format!("the {what} expired at {expires}, it is {clock_floor} at least");
        Err(Refusal::new(ResultCode::REFUSED, "freeze", detail))
    };
    // An expired root means that somebody withholds its successors.
    if clock_floor > root.expires {
        return expired("root", root.expires);
    }
    if clock_floor > campaign.expires {
        return expired("campaign", campaign.expires);
    }
    if clock_floor > manifest.expires {
        return expired("manifest", manifest.expires);
    }
    Ok(())
}

fn check_rollback(
    root: &Root,
    history: &AcceptanceHistory,
    campaign: &Campaign,
    manifest: &Manifest,
) -> Result<(), Refusal> {
    let refused = |detail: String| Err(Refusal::new(ResultCode::REFUSED, "rollback", detail));
    if history.finished.contains(&campaign.id) {
        return refused(format!("campaign {} is done", campaign.id));
    }
    let floor = history.floor.max(root.sequence_floor);
    if manifest.sequence < floor {
        return refused(format!("manifest sequence {} is below {floor}", manifest.sequence));
    }
    match history.installed {
        Some((installed, _)) if manifest.sequence <= installed => refused(format!(
            "manifest sequence {} is not above {installed}, which is installed",
            manifest.sequence
        )),
        Some(_) | None => Ok(()),
    }
}

/// Returns the one object to receive: that of the tune-in, or the only one that there is.
fn chosen_object(
    objects: &[PlannedObject],
    offer: &CampaignOffer<'_>,
) -> Result<PlannedObject, Refusal> {
    let mut named = offer.windows.iter().map(|(tune_in, _)| tune_in.component);
    let first: Option<ComponentId> = named.next().flatten();
    if named.any(|component| component != first) {
        return Err(Refusal::limits("the tune-ins name different components"));
    }
    let first = offer.carried.or(first);
    match (first, objects) {
        (Some(id), _) => objects
            .iter()
            .find(|object| object.component == id)
            .copied()
            .ok_or_else(|| Refusal::limits(format!("the campaign has no component {}", id.0))),
        (None, [object]) => Ok(*object),
        (None, _) => {
            let detail = "the campaign has several components and the tune-in names none";
            Err(Refusal::new(ResultCode::NOT_ACCEPTABLE, "components", detail))
        }
    }
}

fn check_component(
    limits: &Limits,
    component: Option<&Component>,
    object: &PlannedObject,
) -> Result<(), Refusal> {
    if component.is_some_and(|component| component.encoding != ComponentEncoding::None) {
        let detail = "the component is compressed, which this device does not support";
        return Err(Refusal::new(ResultCode::NOT_ACCEPTABLE, "encoding", detail));
    }
    let octets = object.oti.parameters().transfer_length;
    if octets > limits.max_image_bytes.min(limits.max_storage_bytes) {
        let detail = format!("the image has {octets} octets");
        return Err(Refusal::new(ResultCode::NO_ROOM_TO_DOWNLOAD, "storage", detail));
    }
    Ok(())
}

/// Checks the limits that a broadcast needs besides room for the image.
fn check_reception(limits: &Limits, object: &PlannedObject) -> Result<(), Refusal> {
    let parameters = object.oti.parameters();
    let symbols = object.oti.partition().largest();
    if symbols > limits.max_block_symbols {
        return Err(Refusal::limits(format!("a block has {symbols} symbols")));
    }
    let memory = decoder_memory_bytes(symbols, parameters.symbol_size);
    if memory > limits.max_memory_bytes {
        return Err(Refusal::limits(format!("the decoder needs {memory} octets of memory")));
    }
    let layout = ObjectLayout::new(object.object_key, object.stored_sha256, object.oti);
    if layout.storage_bytes() > limits.max_storage_bytes {
        let detail = format!("the reception needs {} octets on disk", layout.storage_bytes());
        return Err(Refusal::new(ResultCode::NO_ROOM_TO_DOWNLOAD, "storage", detail));
    }
    Ok(())
}

/// Returns the memory that a decoder of K symbols is expected to use.
///
/// # Source
///
/// Security facts 4.6: 2 × K × T + 64 octets × K × 64.
fn decoder_memory_bytes(symbols: u32, symbol_size: u16) -> u64 {
    2 * u64::from(symbols) * u64::from(symbol_size) + 64 * 64 * u64::from(symbols)
}

/// Checks a channel and its window against the limits of the campaign.
///
/// # Errors
///
/// A [`Refusal`] with 455.
pub fn check_tune_in(
    campaign: &Verified<Campaign>,
    tune_in: &TuneIn,
    window: Window,
) -> Result<(), Refusal> {
    if tune_in.campaign != campaign.id || tune_in.campaign_digest != campaign.digest() {
        let detail = "the tune-in names another campaign";
        return Err(Refusal::new(ResultCode::REFUSED, "mismatch", detail));
    }
    if !campaign.admits_source(tune_in.source) {
        return Err(Refusal::limits(format!("{} is no source of the campaign", tune_in.source)));
    }
    campaign.check_window(window.opens, window.closes).map_err(Refusal::limits)
}

#[cfg(test)]
mod tests;
