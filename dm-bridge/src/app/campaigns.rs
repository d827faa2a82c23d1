//! Campaigns: create, start, stop.

use std::net::IpAddr;

use proto::{
    dm::scomo::Branch,
    ids::{CampaignId, DeviceId},
    time::Utc,
};

use super::{AppError, PlainHttp, check_url};
use crate::{
    campaign::{
        admission::{self, Admitted, Documents},
        model::{Campaign, CampaignState, Delivery, Place, Terms, Way, Window},
        on_request::OnRequest,
    },
    fleet::{
        arming::{Arming, ArmingPhase},
        audit::{Actor, Audit},
        device::Device,
        store::{Change, FleetStore, StoreError},
    },
    random::{RandomBytes, fresh_correlator},
};

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The signed documents.
    pub documents: Documents,
    /// Image server and channel.
    pub place: Place,
    /// Ways to the devices.
    pub delivery: Delivery,
    /// Whether the image server may be reached over plain HTTP.
    pub plain_http: PlainHttp,
    /// Which devices.
    pub selection: Selection,
    /// Span over which devices spread their reports; by default as long as it takes at fifty
    /// sessions a second.
    ///
    /// # Units
    ///
    /// Seconds.
    pub report_spread_seconds: Option<u32>,
    /// What a device that asks for an update gets of it.
    pub on_request: OnRequest,
}

/// Which devices a campaign is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All that are enrolled.
    All,
    /// These.
    Named(Vec<DeviceId>),
}

/// Creates a campaign and puts its devices into the arming queue.
///
/// A device of another vendor or class is refused here, with its reason, and never sent anything.
///
/// # Errors
///
/// [`AppError::Admission`] when the documents do not hold, [`AppError::NotFound`] for a device
/// that is not enrolled, [`AppError::Conflict`] when the campaign exists.
// spec: oma-003 5.5.1.6.2
pub async fn create(
    store: &dyn FleetStore,
    now: Utc,
    order: Order,
    chance: RandomBytes<'_>,
) -> Result<CampaignId, AppError> {
    check_place(&order)?;
    check_delivery(&order)?;
    let admitted = admission::admit(order.documents, now)?;
    check_sources(&admitted.terms, order.place.group)?;
    let known = store.campaigns().await?;
    if known.iter().any(|campaign| campaign.id == admitted.id) {
        return Err(AppError::Conflict(format!("campaign {} exists already", admitted.id)));
    }
    admission::check_sequence(&admitted.terms, &known)?;
    let devices = select(store, order.selection).await?;
    let spread = report_spread(&admitted, order.report_spread_seconds, devices.len())?;
    let campaign = Campaign {
        id: admitted.id,
        version: 0,
        terms: admitted.terms,
        papers: admitted.papers,
        place: order.place,
        delivery: order.delivery,
        report_spread_seconds: spread,
        on_request: order.on_request,
        state: CampaignState::Created,
        window: None,
        air: None,
        problem: None,
        created: now,
    };
    let id = campaign.id;
    let rows = devices.iter().map(|device| enqueue(device, &campaign, now, chance));
    let mut changes: Vec<_> = rows.map(Change::from).collect();
    changes.push(campaign.into());
    let audit = audit("campaign.create", id, format!("{} devices", devices.len()));
    store.apply(now, audit, changes).await?;
    Ok(id)
}

// spec: oma-001 8.1.1.0
/// Gives a campaign a window, or moves the one that it has; devices that have what it brings are
/// left alone, all others are armed, or armed again.
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
    chance: RandomBytes<'_>,
) -> Result<Campaign, AppError> {
    let mut tries = 0;
    loop {
        match try_start(store, now, id, window, &mut *chance).await {
            Err(AppError::Store(StoreError::Conflict(_))) if tries < MAX_TRIES => tries += 1,
            done => return done,
        }
    }
}

/// Tries at rows that the reconciler and devices change too.
const MAX_TRIES: u32 = 8;

async fn try_start(
    store: &dyn FleetStore,
    now: Utc,
    id: CampaignId,
    (opens, closes): (Utc, Utc),
    chance: RandomBytes<'_>,
) -> Result<Campaign, AppError> {
    let mut campaign = find(store, id).await?;
    if campaign.state == CampaignState::Stopping {
        return Err(AppError::Conflict(format!("campaign {id} is still being stopped")));
    }
    check_window(&campaign.terms, opens, closes, now)?;
    let mut needy: u64 = 0;
    let mut changes = Vec::new();
    for row in store.campaign_armings(id).await? {
        let renewed = renew(&row, now, chance);
        needy += u64::from(renewed.as_ref().unwrap_or(&row).phase.needs_air());
        changes.extend(renewed.map(Change::from));
    }
    if needy == 0 {
        return Err(AppError::Policy(format!(
            "no device of campaign {id} is left to arm: each has the package or was refused"
        )));
    }
    let revision = campaign.window.map_or(1, |window| window.revision + 1);
    campaign.window = Some(Window { opens, closes, revision });
    campaign.state = CampaignState::Running;
    campaign.problem = None;
    let detail = format!("opens {} closes {}", opens.seconds(), closes.seconds());
    changes.push(campaign.into());
    store.apply(now, audit("campaign.start", id, detail), changes).await?;
    find(store, id).await
}

/// Stops a campaign: the reconciler takes it off the air, devices are disarmed as they come.
///
/// # Errors
///
/// [`AppError::Conflict`] when it does not run.
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
    let mut campaign = find(store, id).await?;
    match campaign.state {
        CampaignState::Stopping | CampaignState::Stopped => return Ok(()),
        CampaignState::Running => {}
        state @ (CampaignState::Created | CampaignState::Closed) => {
            return Err(AppError::Conflict(format!("campaign {id} is {}", state.word())));
        }
    }
    campaign.state = CampaignState::Stopping;
    let audit = audit("campaign.stop", id, String::new());
    Ok(store.apply(now, audit, vec![campaign.into()]).await?)
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

fn check_place(order: &Order) -> Result<(), AppError> {
    let place = &order.place;
    if !place.group.is_multicast() {
        let group = place.group;
        return Err(AppError::Usage(format!("group {group} is no multicast address")));
    }
    if place.port == 0 {
        return Err(AppError::Usage("port 0 cannot be sent to".to_owned()));
    }
    check_url(&place.carousel_url, order.plain_http)
}

/// Octets of a bundle that goes through DM sessions, and is held in memory for each.
const MAX_DIRECT: u64 = 16 << 20;

fn check_delivery(order: &Order) -> Result<(), AppError> {
    let Delivery { ways, bundle_octets, .. } = &order.delivery;
    let unicast = ways.iter().any(|way| *way != Way::Broadcast);
    if ways.is_empty() || (unicast && *bundle_octets == 0) {
        return Err(AppError::Usage("ways by unicast need a --package".to_owned()));
    }
    if let Some(software) = &order.delivery.software {
        if software.operation.branch() != Branch::Download {
            let text = format!("{} takes no package", software.operation);
            return Err(AppError::Usage(text));
        }
        if ways.contains(&Way::Direct) && software.operation.of_delivered().is_none() {
            let text = "what is sent inside the DM session is installed: a download alone goes the \
                        ways 3 and 2";
            return Err(AppError::Usage(text.to_owned()));
        }
    }
    if ways.contains(&Way::Direct) && *bundle_octets > MAX_DIRECT {
        let text = format!("{bundle_octets} octets are too many for DM sessions: {MAX_DIRECT} are");
        return Err(AppError::Policy(text));
    }
    Ok(())
}

fn check_sources(terms: &Terms, group: IpAddr) -> Result<(), AppError> {
    if terms.sources.iter().any(|source| source.is_ipv4() == group.is_ipv4()) {
        Ok(())
    } else {
        Err(AppError::Policy(format!("no source of the campaign is of the family of {group}")))
    }
}

fn check_window(terms: &Terms, opens: Utc, closes: Utc, now: Utc) -> Result<(), AppError> {
    let refused = |text: String| Err(AppError::Policy(text));
    let (start, end) = (opens.seconds(), closes.seconds());
    if opens >= closes {
        return refused(format!("the window closes at {end}, not after it opens at {start}"));
    }
    if closes <= now {
        return refused(format!("the window closes at {end}, which has passed"));
    }
    if opens < terms.not_before {
        let limit = terms.not_before.seconds();
        return refused(format!("the window opens at {start}, the campaign not before {limit}"));
    }
    if closes > terms.latest_stop {
        let limit = terms.latest_stop.seconds();
        return refused(format!("the window closes at {end}, the campaign ends by {limit}"));
    }
    Ok(())
}

async fn select(store: &dyn FleetStore, selection: Selection) -> Result<Vec<Device>, AppError> {
    let devices = match selection {
        Selection::All => store.devices().await?,
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

/// Sessions that reports bring in each second, on average, by default.
const REPORTS_PER_SECOND: usize = 50;

fn report_spread(admitted: &Admitted, asked: Option<u32>, devices: usize) -> Result<u32, AppError> {
    let limit = admitted.report_spread_max_seconds;
    match asked {
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

fn enqueue(device: &Device, campaign: &Campaign, now: Utc, chance: RandomBytes<'_>) -> Arming {
    let correlator = fresh_correlator(chance);
    let mut row = Arming::pending(device.id.clone(), campaign.id, 1, correlator, now);
    row.way = campaign.delivery.ways.first().copied().unwrap_or_default();
    if let Some(reason) = mismatch(device, campaign) {
        row.phase = ArmingPhase::Refused;
        row.reason = Some(reason);
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

/// Returns the row with which a device goes into a further window, if it needs another one.
///
/// An attempt that the device has closed by a result gets a successor; one that never came that
/// far goes on under its own correlator, which the device may hold still.
fn renew(row: &Arming, now: Utc, chance: RandomBytes<'_>) -> Option<Arming> {
    let again = |phase| Arming { phase, reason: None, updated: now, ..row.clone() };
    match row.phase {
        ArmingPhase::Confirmed
        | ArmingPhase::Reported
        | ArmingPhase::Deferred
        | ArmingPhase::UnicastNeeded
        | ArmingPhase::Pending
        | ArmingPhase::Armed
        | ArmingPhase::Receiving
        | ArmingPhase::Suspended
        | ArmingPhase::Assembled
        | ArmingPhase::Verified
        | ArmingPhase::HandedOver => None,
        // Refused by this server: by the manifest or by the device's limits.
        ArmingPhase::Refused if row.result_code.is_none() => None,
        ArmingPhase::Unknown => Some(again(ArmingPhase::Pending)),
        ArmingPhase::Expired if row.result_code.is_none() => Some(again(ArmingPhase::Pending)),
        ArmingPhase::Contradicted
        | ArmingPhase::Failed
        | ArmingPhase::Missed
        | ArmingPhase::Incomplete
        | ArmingPhase::Expired
        | ArmingPhase::Disarmed
        | ArmingPhase::Refused => {
            let correlator = fresh_correlator(chance);
            let (device, attempt) = (row.device.clone(), row.attempt + 1);
            let next = Arming::pending(device, row.campaign, attempt, correlator, now);
            Some(Arming { way: row.way, ..next })
        }
    }
}

#[cfg(test)]
mod tests;
