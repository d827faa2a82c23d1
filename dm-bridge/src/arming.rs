//! From a campaign to the commands that arm one device; with [`crate::campaign`] the only place
//! that knows how a FLUTE session is named.

use std::{collections::BTreeSet, net::SocketAddr};

use proto::{
    dm::{
        code::Format,
        fumo::{HeldPackage, Operation},
        nodes::{broadcast, fumo, scomo},
        scomo::Branch,
        syncml::{Item, Meta},
        ui::Prompt,
    },
    ids::CampaignId,
    time::Utc,
    tune_in::TuneIn,
};

use crate::{
    campaign::model::{Air, Campaign, CampaignState, Way, Window},
    engine::{
        Desk,
        command::{Need, Planned, Purpose, Request},
        latest,
    },
    fleet::{
        arming::{Arming, ArmingPhase},
        device::{Device, Rest},
        policy::Setting,
        profile::Quirk,
    },
    random::{RandomBytes, fresh_correlator},
};

/// What a device still has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Arm it for this campaign.
    Arm(CampaignId),
    /// Take the arming for this campaign back.
    Disarm(CampaignId),
}

/// Returns what one device has to be told next; `tried` is left alone until its next session.
#[must_use]
pub fn next_work(
    armings: &[Arming],
    campaigns: &[Campaign],
    tried: &BTreeSet<CampaignId>,
    now: Utc,
) -> Option<Work> {
    let open = || {
        latest(armings)
            .filter(|row| !tried.contains(&row.campaign) && row.result_code.is_none())
            .filter_map(|row| {
                let campaign = campaigns.iter().find(|campaign| campaign.id == row.campaign)?;
                Some((row, campaign))
            })
    };
    let disarm = open().find(|(row, campaign)| wants_disarming(row, campaign));
    if let Some((row, _)) = disarm {
        return Some(Work::Disarm(row.campaign));
    }
    open()
        .filter(|(row, campaign)| wants_arming(row, campaign, now))
        .max_by_key(|(_, campaign)| (campaign.terms.epoch, campaign.terms.sequence))
        .map(|(row, _)| Work::Arm(row.campaign))
}

fn wants_arming(row: &Arming, campaign: &Campaign, now: Utc) -> bool {
    let waits = row.phase.needs_air() || row.phase == ArmingPhase::Unknown;
    let window = match row.way {
        Way::Broadcast => campaign.armable(now).map(|(window, _)| window),
        Way::Download | Way::Direct => campaign.serves(now),
    };
    // What a device has begun by unicast needs no other window.
    let is_new = |window: Window| match row.way {
        Way::Broadcast => row.armed_revision < window.revision,
        Way::Download | Way::Direct => row.armed_revision == 0,
    };
    waits && window.is_some_and(is_new)
}

fn wants_disarming(row: &Arming, campaign: &Campaign) -> bool {
    let stopped = matches!(campaign.state, CampaignState::Stopping | CampaignState::Stopped);
    stopped && row.armed() && row.phase.is_open()
}

/// Returns where the campaign is heard.
#[must_use]
pub fn tune_in(campaign: &Campaign, air: Air) -> TuneIn {
    TuneIn {
        channel: SocketAddr::new(campaign.place.group, campaign.place.port),
        tsi: air.tsi,
        source: air.source,
        campaign: campaign.id,
        campaign_digest: campaign.terms.digest,
        component: None,
    }
}

/// What the commands that arm a device are made of.
#[derive(Debug, Clone)]
pub struct Preparation<'a> {
    /// The campaign.
    pub campaign: &'a Campaign,
    /// Its window.
    pub window: Window,
    /// Its session on air.
    pub air: Air,
    /// The device.
    pub device: &'a Device,
    /// Envelopes of the roots that the device lacks, in order.
    pub roots: Vec<&'a [u8]>,
}

/// What is laid down before an Exec, in this order.
#[derive(Debug, Clone, Default)]
pub struct LaidDown {
    /// Roots, each vouched for by the one before, and the node of a component.
    pub first: Vec<Planned>,
    /// What the device needs beside the address.
    pub writes: Vec<Planned>,
    /// The address of what is started.
    pub address: Option<Planned>,
}

/// Returns all that is laid down before the Exec, in the order of the security facts 3.4.
#[must_use]
pub fn lay_down(preparation: &Preparation<'_>, now: Utc) -> LaidDown {
    let Preparation { campaign, window, air, device, roots } = preparation;
    let (window, air) = (*window, *air);
    let object = object(device, campaign, Way::Broadcast);
    let node = |path: &str| format!("{object}/{path}");
    let octets = |path: &str, octets: &[u8]| Item::octets(node(path), octets);
    let text = |path: &str, text: String| Item::text(node(path), text);
    let seconds = |path: &str, at: Utc| text(path, at.seconds().to_string());
    // spec: security 3.4, oma-002 1 (order of arming: the device is prepared before the window)
    let papers = &campaign.papers;
    let root = |root: &&[u8]| {
        let item = Item::octets(format!("{}/{}", device.object, broadcast::ROOT), *root);
        Planned::write(Need::Required, "Root", item)
    };
    let mut writes = vec![
        Planned::write(Need::Required, "Manifest", octets(broadcast::MANIFEST, &papers.manifest)),
        Planned::write(Need::Required, "Campaign", octets(broadcast::CAMPAIGN, &papers.campaign)),
    ];
    for (component, header) in &papers.plan_headers {
        if component.0 < broadcast::PLAN_NODES {
            let path = format!("{}/{}", broadcast::PLAN, component.0);
            writes.push(Planned::write(Need::Optional, "Plan", octets(&path, header)));
        }
    }
    let spread = Item::value("", Format::Int, campaign.report_spread_seconds.to_string());
    let spread = Item {
        source: None,
        target: Item::target(node(broadcast::REPORT_SPREAD)).target,
        ..spread
    };
    let url = tune_in(campaign, air).to_string();
    writes.extend([
        Planned::write(Need::Required, "Now", seconds(broadcast::NOW, now)),
        Planned::write(Need::Required, "Opens", seconds(broadcast::OPENS, window.opens)),
        Planned::write(Need::Required, "Closes", seconds(broadcast::CLOSES, window.closes)),
        Planned::write(Need::Optional, "Report/Spread", spread),
    ]);
    let announced = announcement(device, campaign, Way::Broadcast);
    let first = roots.iter().map(root).chain(announced).collect();
    LaidDown { first, writes, address: Some(address(device, campaign, url)) }
}

/// The object that a campaign is about: the firmware of a device, the download of a component, or
/// the package of one that is delivered inside the DM session.
fn object(device: &Device, campaign: &Campaign, way: Way) -> String {
    let Some(software) = &campaign.delivery.software else { return device.object.clone() };
    let branch = match way {
        Way::Broadcast | Way::Download => Branch::Download,
        Way::Direct => Branch::Delivered,
    };
    format!("{}/{}", scomo::ROOT, branch.node(software.package.as_str()))
}

/// Announces a component: its node, and which package it is.
// spec: oma-002 7 (components by the same arming)
fn announcement(device: &Device, campaign: &Campaign, way: Way) -> Vec<Planned> {
    let Some(software) = &campaign.delivery.software else { return Vec::new() };
    let object = object(device, campaign, way);
    // Some parsers want Data in every Add.
    let has_data = device.profile.quirks.contains(&Quirk::DataOnInteriorAdd);
    let interior = Item {
        meta: Some(Meta::format(Format::Node)),
        data: has_data.then(|| "".into()),
        ..Item::target(&object)
    };
    let package = Item::text(format!("{object}/{}", scomo::PACKAGE_ID), software.package.as_str());
    vec![
        Planned::add(Need::Required, "the package", interior),
        Planned::add(Need::Required, "PkgID", package),
    ]
}

fn address(device: &Device, campaign: &Campaign, url: String) -> Planned {
    let object = object(device, campaign, Way::Download);
    if campaign.delivery.software.is_some() {
        let item = Item::text(format!("{object}/{}", scomo::PACKAGE_URL), url);
        return Planned::add(Need::Required, "PkgURL", item);
    }
    let item = Item::text(format!("{object}/{}", fumo::DOWNLOAD_AND_UPDATE_URL), url);
    Planned::write(Need::Required, "PkgURL", item)
}

/// Returns the question to the user that stands before everything else.
// spec: oma-001 8.1.1.6, oma-001 8.1.2.0, oma-000 8.2.2.note
#[must_use]
pub fn ask(campaign: CampaignId, text: &str) -> Planned {
    Planned { purpose: Purpose::Ask(campaign), request: Request::Ask(Prompt::confirm(text)) }
}

/// Returns what is laid down before the Exec of a unicast way. `package` is the bundle, and what the
/// device holds of one whose sending broke off: only the rest of it is sent when it is the same.
// spec: oma-001 8.1.1.10, oma-001 8.1.2.10, oma-000 8.1.s1, oma-000 8.1.s2, oma-dm 11.2
#[must_use]
pub fn lay_down_for_unicast(
    campaign: &Campaign,
    device: &Device,
    way: Way,
    package: Option<(&[u8], Option<HeldPackage>)>,
) -> Option<LaidDown> {
    let first = announcement(device, campaign, way);
    match way {
        Way::Broadcast => None,
        Way::Download => {
            let url = descriptor_url(&device.url, campaign.id);
            let address = Some(address(device, campaign, url));
            Some(LaidDown { first, address, writes: Vec::new() })
        }
        Way::Direct => {
            let (package, held) = package?;
            let held = held.filter(|_| campaign.delivery.software.is_none());
            let rest = held.and_then(|held| held.rest_of(package));
            let (path, name, octets) = match (&campaign.delivery.software, rest) {
                (Some(_), _) => (scomo::DATA, "Data", package),
                (None, Some(rest)) => (fumo::PACKAGE_REST, "the rest of PkgData", rest),
                (None, None) => (fumo::PACKAGE_DATA, "PkgData", package),
            };
            let item = Item::octets(format!("{}/{path}", object(device, campaign, way)), octets);
            let writes = vec![Planned::write(Need::Required, name, item)];
            Some(LaidDown { first, writes, address: None })
        }
    }
}

/// Returns where a device that reaches this server at `url` finds the descriptor of a campaign.
#[must_use]
pub fn descriptor_url(url: &str, campaign: CampaignId) -> String {
    let scheme = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(scheme..).unwrap_or_default();
    let end = rest.find(['/', '?']).map_or(url.len(), |at| scheme + at);
    let origin = url.get(..end).unwrap_or(url);
    format!("{origin}/download/{campaign}/descriptor")
}

/// Moves a device on to the next way of its campaign, where it cannot go the one before. Returns
/// the campaigns whose devices were moved.
pub fn fall_back(desk: &mut Desk, now: Utc, chance: RandomBytes<'_>) -> Vec<CampaignId> {
    let stuck: Vec<_> = desk
        .latest()
        .filter(|row| row.phase == ArmingPhase::UnicastNeeded)
        .filter_map(|row| {
            let campaign = desk.campaign(row.campaign)?;
            campaign.serves(now)?;
            Some((row.clone(), campaign.way_after(row.way)?))
        })
        .collect();
    let moved = stuck.iter().map(|(row, _)| row.campaign).collect();
    for (row, way) in stuck {
        let reason = row.reason.as_deref().unwrap_or_default();
        desk.notes
            .push(format!("{}: {} did not do ({reason}), {way} is next", row.campaign, row.way));
        let (attempt, correlator) = (row.attempt + 1, fresh_correlator(chance));
        let next = Arming::pending(row.device, row.campaign, attempt, correlator, now);
        desk.armings.push(Arming { way, ..next });
    }
    moved
}

/// Returns the Exec that starts the device on its way; `None` when what is delivered that way would
/// only lie there.
// spec: oma-001 8.1.1.11, oma-001 8.1.2.11
#[must_use]
pub fn exec(campaign: &Campaign, device: &Device, row: &Arming) -> Option<Planned> {
    let node = match (&campaign.delivery.software, row.way) {
        (Some(software), Way::Broadcast | Way::Download) => software.operation.node(),
        (Some(software), Way::Direct) => software.operation.of_delivered()?.node(),
        (None, Way::Broadcast | Way::Download) => Operation::DownloadAndUpdate.node(),
        (None, Way::Direct) => Operation::Update.node(),
    };
    let uri = format!("{}/{node}", object(device, campaign, row.way));
    let request = Request::Exec(uri, Some(row.correlator.clone()));
    Some(Planned { purpose: Purpose::Arm(campaign.id), request })
}

/// Returns the Exec that takes an arming back.
pub fn disarm(campaign: CampaignId, device: &Device, chance: RandomBytes<'_>) -> Planned {
    at_once(Purpose::Disarm(campaign), broadcast::DISARM, device, chance)
}

/// Returns the Exec that has a device rest, or go on.
pub fn rest(rest: Rest, device: &Device, chance: RandomBytes<'_>) -> Planned {
    let node = match rest {
        Rest::Suspend => broadcast::SUSPEND,
        Rest::Resume => broadcast::RESUME,
    };
    at_once(Purpose::Rest(rest), node, device, chance)
}

/// Returns the Replace that sets a node of the device's policy.
#[must_use]
pub fn policy(setting: Setting, device: &Device) -> Planned {
    let node = setting.node();
    let uri = format!("{}/{}", device.object, node.path());
    let item = Item {
        meta: Some(Meta::format(node.format())),
        data: Some(setting.value().into()),
        ..Item::target(uri)
    };
    Planned { purpose: Purpose::Policy(setting), request: Request::Replace(Box::new(item)) }
}

/// What is done when it is answered has no final alert, and a correlator only for clients that do
/// nothing without.
fn at_once(purpose: Purpose, node: &str, device: &Device, chance: RandomBytes<'_>) -> Planned {
    let is_wanted = device.profile.quirks.contains(&Quirk::CorrelatorAlways);
    let correlator = is_wanted.then(|| fresh_correlator(chance));
    Planned { purpose, request: Request::Exec(format!("{}/{node}", device.object), correlator) }
}

#[cfg(test)]
mod tests {
    use proto::ids::Correlator;

    use super::*;
    use crate::{campaign::model::samples, fleet::contract};

    const NOW: Utc = Utc::from_seconds(1_500);

    fn arming(campaign: &Campaign) -> Arming {
        let device = "a".parse().unwrap();
        Arming::pending(device, campaign.id, 1, Correlator("c".to_owned()), Utc(1))
    }

    fn work(row: Arming, campaign: Campaign, now: Utc) -> Option<Work> {
        next_work(&[row], &[campaign], &BTreeSet::new(), now)
    }

    #[test]
    fn a_pending_device_is_armed_until_the_window_closes() {
        let campaign = samples::running();
        let armed = Some(Work::Arm(campaign.id));
        assert_eq!(work(arming(&campaign), campaign.clone(), NOW), armed);
        let closed = Utc::from_seconds(2_000);
        assert_eq!(work(arming(&campaign), campaign, closed), None);
    }

    #[test]
    fn an_armed_device_hears_of_a_moved_window_and_of_nothing_else() {
        let mut campaign = samples::running();
        let mut row = arming(&campaign);
        row.phase = ArmingPhase::Receiving;
        row.armed_revision = 1;
        assert_eq!(work(row.clone(), campaign.clone(), NOW), None);
        campaign.window = campaign.window.map(|window| Window { revision: 2, ..window });
        campaign.air = campaign.air.map(|air| Air { revision: 2, ..air });
        assert_eq!(work(row, campaign.clone(), NOW), Some(Work::Arm(campaign.id)));
    }

    #[test]
    fn the_descriptor_lies_on_the_server_that_the_device_knows() {
        let id = CampaignId([7; 16]);
        for (url, origin) in [
            ("http://127.0.0.1:8080/dm", "http://127.0.0.1:8080"),
            ("https://dm.example.org/a/b?x=/", "https://dm.example.org"),
            ("https://dm.example.org", "https://dm.example.org"),
        ] {
            assert_eq!(descriptor_url(url, id), format!("{origin}/download/{id}/descriptor"));
        }
    }

    #[test]
    fn a_device_that_gets_its_package_by_unicast_needs_no_image_server() {
        let mut campaign = samples::running();
        campaign.air = None;
        campaign.delivery.ways = vec![Way::Download];
        let row = Arming { way: Way::Download, ..arming(&campaign) };
        let armed = Some(Work::Arm(campaign.id));
        assert_eq!(work(row.clone(), campaign.clone(), NOW), armed);
        let begun = Arming { armed_revision: 1, phase: ArmingPhase::Armed, ..row };
        campaign.window = campaign.window.map(|window| Window { revision: 2, ..window });
        assert_eq!(work(begun, campaign, NOW), None);
    }

    #[test]
    fn a_device_with_a_result_is_left_alone() {
        let campaign = samples::running();
        let mut row = arming(&campaign);
        row.result_code = Some(451);
        assert_eq!(work(row, campaign, NOW), None);
    }

    #[test]
    fn a_stopped_campaign_disarms_the_devices_that_it_armed() {
        let mut campaign = samples::running();
        campaign.state = CampaignState::Stopped;
        let mut row = arming(&campaign);
        assert_eq!(work(row.clone(), campaign.clone(), NOW), None, "it was never armed");
        row.phase = ArmingPhase::Armed;
        row.armed_revision = 1;
        assert_eq!(work(row.clone(), campaign.clone(), NOW), Some(Work::Disarm(campaign.id)));
        let tried = BTreeSet::from([campaign.id]);
        assert_eq!(next_work(&[row], &[campaign], &tried, NOW), None);
    }

    #[test]
    fn of_two_campaigns_the_one_with_the_higher_sequence_is_armed() {
        let old = samples::running();
        let mut new = samples::running();
        new.id = CampaignId([8; 16]);
        new.terms.sequence += 1;
        let rows = [arming(&old), arming(&new)];
        let wanted = Some(Work::Arm(new.id));
        assert_eq!(next_work(&rows, &[new.clone(), old], &BTreeSet::new(), NOW), wanted);
    }

    // test: security 3.4 (order of arming)
    #[test]
    fn a_device_is_written_to_in_the_documented_order() {
        let campaign = samples::running();
        let (window, air) = campaign.armable(NOW).unwrap();
        let names = |device_root| {
            let device = &contract::device("a");
            let roots = campaign.papers.roots_after(device_root).unwrap();
            let preparation = Preparation { campaign: &campaign, window, air, device, roots };
            let name = |planned: &Planned| match planned.purpose {
                Purpose::Write(_, name) => name,
                Purpose::Read(_)
                | Purpose::Arm(_)
                | Purpose::Disarm(_)
                | Purpose::Rest(_)
                | Purpose::Policy(_)
                | Purpose::Inventory
                | Purpose::Component(_)
                | Purpose::Tell
                | Purpose::Group(_)
                | Purpose::Ask(_) => "?",
            };
            let LaidDown { first, writes, address } = lay_down(&preparation, NOW);
            [first, writes, address.into_iter().collect()]
                .concat()
                .iter()
                .map(name)
                .collect::<Vec<_>>()
        };
        let rest =
            ["Manifest", "Campaign", "Plan", "Now", "Opens", "Closes", "Report/Spread", "PkgURL"];
        assert_eq!(names(2), rest);
        assert_eq!(names(1), [&["Root"][..], &rest].concat());
    }

    #[test]
    fn the_tune_in_url_is_one_that_a_device_reads() {
        let campaign = samples::running();
        let url = tune_in(&campaign, campaign.air.unwrap()).to_string();
        let read: TuneIn = url.parse().unwrap();
        assert_eq!(read.campaign, campaign.id);
        assert_eq!(read.channel, "232.1.2.3:3400".parse().unwrap());
    }
}
