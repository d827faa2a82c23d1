//! Campaigns: create, start, stop.

use std::net::IpAddr;

use proto::{
    dm::scomo::Branch,
    ids::{CampaignId, DeviceId},
    time::{Utc, text::check_window as check_ordered},
};

use super::{AppError, PlainHttp, check_url};
use crate::{
    campaign::{
        model::{
            Campaign, CampaignParameters, CampaignState, Delivery, DeliveryMethod, SignedTerms,
        },
        verify::{self, Documents, VerifiedCampaign},
    },
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        audit::{Actor, Audit},
        device::Device,
        store::{Change, FleetStore, Listed, StoreError},
    },
    random::{RandomBytes, fresh_correlator},
};

/// The parameters of a new campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateCampaign {
    /// The signed documents.
    pub documents: Documents,
    /// Parameters that are stored with it.
    pub parameters: CampaignParameters,
    /// Use of plain HTTP to the image server.
    pub plain_http: PlainHttp,
    /// Devices of the campaign.
    pub selection: Selection,
    /// Span over which devices spread their reports; by default as long as it takes at fifty
    /// sessions a second.
    ///
    /// # Units
    ///
    /// Seconds.
    pub report_spread_seconds: Option<u32>,
}

/// A selection of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All enrolled devices.
    All,
    /// Devices by id.
    Named(Vec<DeviceId>),
}

/// The place where packages are kept for unicast.
pub trait PackageKeeper: Sync {
    /// Returns whether the package of a campaign is there.
    fn has(&self, id: CampaignId) -> bool;

    /// Keeps the package of a campaign, durably, in place of one that is there.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when it cannot be kept.
    fn keep(&self, id: CampaignId) -> Result<(), AppError>;
}

/// Creates a campaign without a package, as [`create_with_package`].
///
/// # Errors
///
/// As [`create_with_package`].
pub async fn create(
    store: &dyn FleetStore,
    now: Utc,
    request: CreateCampaign,
    random: RandomBytes<'_>,
) -> Result<CampaignId, AppError> {
    create_with_package(store, now, request, random, None).await
}

/// Creates a campaign and queues its devices for arming. The package is kept before the campaign is
/// stored, and a campaign that lacks its package gets it when it is created again.
///
/// A device of another vendor or class is rejected here with the reason; nothing is sent to it.
///
/// # Errors
///
/// [`AppError::Verification`] when the documents are not valid, [`AppError::NotFound`] for a device
/// that is not enrolled, [`AppError::Conflict`] when the campaign exists.
// spec: oma-003 5.5.1.6.2
pub async fn create_with_package(
    store: &dyn FleetStore,
    now: Utc,
    request: CreateCampaign,
    random: RandomBytes<'_>,
    package: Option<&dyn PackageKeeper>,
) -> Result<CampaignId, AppError> {
    check_target(&request)?;
    check_delivery(&request)?;
    let verified = verify::verify_documents(request.documents, now)?;
    check_sources(&verified.terms, request.parameters.target.group)?;
    let devices = select(store, request.selection).await?;
    let spread = report_spread(&verified, request.report_spread_seconds, devices.len())?;
    let id = verified.id;
    let mut tries = 0;
    loop {
        let last = store.last_campaign().await?;
        let known = store.campaigns().await?;
        if let Some(found) = known.iter().find(|campaign| campaign.id == id) {
            return complete(found, &verified, &request.parameters.delivery, package);
        }
        verify::check_sequence(&verified.terms, &known)?;
        verify::check_damaged(&verified.terms, &store.damaged_campaigns().await?)?;
        if let Some(package) = package
            && tries == 0
        {
            package.keep(id)?;
        }
        let signed = (verified.terms.clone(), verified.documents.clone());
        let campaign = Campaign::new(id, signed, request.parameters.clone(), spread, now);
        let rows = devices.iter().map(|device| enqueue(device, &campaign, now, &mut *random));
        // Of two that are created at once, the second is checked against the first.
        let mut changes = vec![Change::LastCampaign(last)];
        changes.extend(rows.map(Change::from));
        changes.push(campaign.into());
        let audit = audit("campaign.create", id, format!("{} devices", devices.len()));
        match store.apply(now, audit, changes).await {
            Err(StoreError::Conflict(_)) if tries < MAX_TRIES => tries += 1,
            done => return Ok(done.map(|()| id)?),
        }
    }
}

/// Keeps the package of a campaign that was stored without it, by an interrupted command.
fn complete(
    found: &Campaign,
    verified: &VerifiedCampaign,
    delivery: &Delivery,
    package: Option<&dyn PackageKeeper>,
) -> Result<CampaignId, AppError> {
    let is_same = found.terms.digest == verified.terms.digest && found.delivery == *delivery;
    match package.filter(|package| is_same && !package.has(found.id)) {
        Some(package) => package.keep(found.id).map(|()| found.id),
        None => Err(AppError::Conflict(format!("campaign {} exists already", found.id))),
    }
}

// spec: oma-001 8.1.1.0
/// Sets the window of a campaign. Devices that have the package are skipped; all others are armed,
/// or armed again.
///
/// # Errors
///
/// [`AppError::Policy`] for a window in the past or outside the campaign's limits, or when no
/// device is left to arm.
pub async fn start(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
    window: (Utc, Utc),
    random: RandomBytes<'_>,
) -> Result<Campaign, AppError> {
    let mut tries = 0;
    loop {
        match try_start(store, now, id, window, &mut *random).await {
            Err(AppError::Store(StoreError::Conflict(_))) if tries < MAX_TRIES => tries += 1,
            done => return done,
        }
    }
}

/// Tries at rows that the reconciler and DM sessions change too.
const MAX_TRIES: u32 = 8;

async fn try_start(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
    (opens, closes): (Utc, Utc),
    random: RandomBytes<'_>,
) -> Result<Campaign, AppError> {
    let campaign = find(store, id).await?;
    if campaign.state == CampaignState::Stopping {
        return Err(AppError::Conflict(format!("campaign {id} is still being stopped")));
    }
    check_window(&campaign.terms, opens, closes, now)?;
    let mut open: u64 = 0;
    let mut changes = Vec::new();
    for row in store.campaign_attempts(id).await? {
        let renewed = next_attempt(&row, now, random);
        open += u64::from(renewed.as_ref().unwrap_or(&row).phase.needs_broadcast());
        changes.extend(renewed.map(Change::from));
    }
    if open == 0 {
        return Err(AppError::Policy(format!(
            "no device of campaign {id} is left to arm: each has the package or was refused"
        )));
    }
    let detail = format!("opens {opens} closes {closes}");
    let started = campaign.started(opens, closes);
    changes.push(started.clone().into());
    store.apply(now, audit("campaign.start", id, detail), changes).await?;
    // Not read again: what is done is not answered with an error.
    Ok(Campaign { version: started.version + 1, ..started })
}

/// Stops a campaign: the reconciler takes it off the air, and each device is disarmed in its next
/// DM session.
///
/// # Errors
///
/// [`AppError::Conflict`] when it is not running.
pub async fn stop(store: &dyn FleetStore, now: Utc, id: CampaignId) -> Result<(), AppError> {
    let mut tries = 0;
    loop {
        match try_stop(store, now, id).await {
            Err(AppError::Store(StoreError::Conflict(_))) if tries < MAX_TRIES => tries += 1,
            done => return done,
        }
    }
}

async fn try_stop(store: &dyn FleetStore, now: Utc, id: CampaignId) -> Result<(), AppError> {
    let campaign = find(store, id).await?;
    match campaign.state {
        CampaignState::Stopping | CampaignState::Stopped => return Ok(()),
        CampaignState::Running => {}
        state @ (CampaignState::Created | CampaignState::Closed) => {
            return Err(AppError::Conflict(format!("campaign {id} is {}", state.as_str())));
        }
    }
    let audit = audit("campaign.stop", id, String::new());
    Ok(store.apply(now, audit, vec![campaign.stopping().into()]).await?)
}

/// Returns a campaign.
///
/// # Errors
///
/// [`AppError::NotFound`] when there is none of this id.
pub async fn find(store: &dyn FleetStore, id: CampaignId) -> Result<Campaign, AppError> {
    let missing = || AppError::NotFound { what: "campaign", name: id.to_string() };
    store.campaign(id).await?.ok_or_else(missing)
}

fn audit(action: &'static str, id: CampaignId, detail: String) -> Audit {
    Audit { actor: Actor::Operator, action, subject: id.to_string(), detail }
}

fn check_target(request: &CreateCampaign) -> Result<(), AppError> {
    let target = &request.parameters.target;
    if !target.group.is_multicast() {
        let group = target.group;
        return Err(AppError::Usage(format!("group {group} is no multicast address")));
    }
    if target.port == 0 {
        return Err(AppError::Usage("port 0 cannot be sent to".to_owned()));
    }
    check_url(&target.carousel_url, request.plain_http)
}

/// Largest bundle for DM sessions, in octets; it is held in memory for each.
const MAX_DIRECT: u64 = 16 << 20;

fn check_delivery(request: &CreateCampaign) -> Result<(), AppError> {
    let Delivery { methods, bundle_bytes, .. } = &request.parameters.delivery;
    let unicast = methods.iter().any(|method| *method != DeliveryMethod::Broadcast);
    if methods.is_empty() || (unicast && *bundle_bytes == 0) {
        return Err(AppError::Usage("delivery by unicast needs --package".to_owned()));
    }
    if let Some(software) = &request.parameters.delivery.software {
        if software.operation.branch() != Branch::Download {
            let text = format!("{} needs no package", software.operation);
            return Err(AppError::Usage(text));
        }
        if methods.contains(&DeliveryMethod::Direct) && software.operation.of_delivered().is_none()
        {
            let text = "direct delivery installs the package: use --delivery broadcast or download for a \
                        download alone";
            return Err(AppError::Usage(text.to_owned()));
        }
    }
    if methods.contains(&DeliveryMethod::Direct) && *bundle_bytes > MAX_DIRECT {
        let text = format!(
            "{bundle_bytes} octets are too many for DM sessions, expected at most {MAX_DIRECT}"
        );
        return Err(AppError::Policy(text));
    }
    Ok(())
}

fn check_sources(terms: &SignedTerms, group: IpAddr) -> Result<(), AppError> {
    if terms.sources.iter().any(|source| source.is_ipv4() == group.is_ipv4()) {
        Ok(())
    } else {
        Err(AppError::Policy(format!("no source of the campaign is of the family of {group}")))
    }
}

fn check_window(terms: &SignedTerms, opens: Utc, closes: Utc, now: Utc) -> Result<(), AppError> {
    let refused = |text: String| Err(AppError::Policy(text));
    check_ordered(now, ("its opening", Some(opens)), ("its close", Some(closes)))
        .or_else(|why| refused(format!("the window cannot be: {why}")))?;
    if opens < terms.not_before {
        let limit = terms.not_before;
        return refused(format!("the window opens at {opens}, the campaign not before {limit}"));
    }
    if closes > terms.latest_stop {
        let limit = terms.latest_stop;
        return refused(format!("the window closes at {closes}, the campaign ends by {limit}"));
    }
    Ok(())
}

/// Devices that are read at once.
const DEVICE_PAGE: u32 = 500;

async fn select(store: &dyn FleetStore, selection: Selection) -> Result<Vec<Device>, AppError> {
    let devices = match selection {
        Selection::All => {
            let (mut devices, mut after) = (Vec::new(), None::<String>);
            loop {
                let page = store.device_page(after.as_deref(), DEVICE_PAGE).await?;
                let Some(last) = page.last() else { break devices };
                after = Some(last.key.clone());
                for Listed { key, row } in page {
                    match row {
                        Ok(device) => devices.push(device),
                        Err(error) => {
                            tracing::warn!(device = key, error, "damaged device not selected")
                        }
                    }
                }
            }
        }
        Selection::Named(mut ids) => {
            ids.sort();
            ids.dedup();
            let mut devices = Vec::new();
            for id in &ids {
                devices.push(super::devices::show(store, id).await?);
            }
            devices
        }
    };
    if devices.is_empty() {
        return Err(AppError::Usage("no device is selected".to_owned()));
    }
    Ok(devices)
}

/// Sessions for reports in each second, on average, by default.
const REPORTS_PER_SECOND: usize = 50;

fn report_spread(
    verified: &VerifiedCampaign,
    requested: Option<u32>,
    devices: usize,
) -> Result<u32, AppError> {
    let limit = verified.report_spread_max_seconds;
    match requested {
        Some(seconds) if seconds > limit => Err(AppError::Policy(format!(
            "a report spread of {seconds} s is above the campaign's limit of {limit} s"
        ))),
        Some(seconds) => Ok(seconds),
        None => {
            let seconds = devices.div_ceil(REPORTS_PER_SECOND);
            Ok(u32::try_from(seconds).unwrap_or(u32::MAX).min(limit))
        }
    }
}

fn enqueue(
    device: &Device,
    campaign: &Campaign,
    now: Utc,
    random: RandomBytes<'_>,
) -> ArmingAttempt {
    let correlator = fresh_correlator(random);
    let pending = ArmingAttempt::pending(device.id.clone(), campaign.id, 1, correlator, now);
    let delivery_method = campaign.delivery.methods.first().copied().unwrap_or_default();
    let mut row = ArmingAttempt { delivery_method, ..pending };
    if let Some(reason) = mismatch(device, campaign) {
        row.enter(ArmingPhase::Refused, reason);
    }
    row
}

fn mismatch(device: &Device, campaign: &Campaign) -> Option<String> {
    let terms = &campaign.terms;
    let class = campaign.delivery.class_of(device.class);
    if device.vendor != terms.vendor {
        return Some(format!("vendor {} is not the manifest's {}", device.vendor, terms.vendor));
    }
    (!terms.classes.contains(&class)).then(|| format!("class {class} is not in the manifest"))
}

/// Returns the row for a further window, if the device needs one.
///
/// An attempt that a result has closed gets a successor; one without a result continues with its
/// own correlator, which the device may still have.
fn next_attempt(row: &ArmingAttempt, now: Utc, random: RandomBytes<'_>) -> Option<ArmingAttempt> {
    let again = |phase| ArmingAttempt { phase, reason: None, updated: now, ..row.clone() };
    match row.phase {
        ArmingPhase::Confirmed
        | ArmingPhase::Reported
        | ArmingPhase::Deferred
        | ArmingPhase::NeedsUnicast
        | ArmingPhase::Pending
        | ArmingPhase::Armed
        | ArmingPhase::Receiving
        | ArmingPhase::Suspended
        | ArmingPhase::Assembled
        | ArmingPhase::Verified
        | ArmingPhase::HandedOver => None,
        // Rejected by this server: by the manifest or by the limits of the device.
        ArmingPhase::Refused if row.result_code.is_none() => None,
        ArmingPhase::Unknown => Some(again(ArmingPhase::Pending)),
        ArmingPhase::Expired if row.result_code.is_none() => Some(again(ArmingPhase::Pending)),
        ArmingPhase::VersionMismatch
        | ArmingPhase::Failed
        | ArmingPhase::Missed
        | ArmingPhase::Incomplete
        | ArmingPhase::Expired
        | ArmingPhase::Disarmed
        | ArmingPhase::Refused => {
            let correlator = fresh_correlator(random);
            let (device, attempt) = (row.device.clone(), row.attempt + 1);
            let next = ArmingAttempt::pending(device, row.campaign, attempt, correlator, now);
            Some(ArmingAttempt { delivery_method: row.delivery_method, ..next })
        }
    }
}

#[cfg(test)]
mod tests;
