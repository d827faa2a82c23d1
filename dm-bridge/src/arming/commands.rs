//! The commands that arm a device for a campaign. Only this file and [`crate::campaign`] name a
//! FLUTE session.

use std::net::SocketAddr;

use proto::{
    dm::{
        code::Format,
        fumo::{Operation, PackagePrefix},
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
    campaign::model::{Campaign, DeliveryMethod, PreparedSession, Window},
    dm::outbox::{PlannedCommand, Purpose, Request, Requirement},
    fleet::{
        attempt::ArmingAttempt, device::Device, package_secret::PackageSecret, profile::Quirk,
    },
};

/// Returns the tune-in parameters of a campaign.
#[must_use]
pub fn tune_in(campaign: &Campaign, air: PreparedSession) -> TuneIn {
    TuneIn {
        channel: SocketAddr::new(campaign.target.group, campaign.target.port),
        tsi: air.tsi,
        source: air.source,
        campaign: campaign.id,
        campaign_digest: campaign.terms.digest,
        component: None,
    }
}

/// Input of [`arming_commands`].
#[derive(Debug, Clone)]
pub struct ArmingInput<'a> {
    /// The campaign.
    pub campaign: &'a Campaign,
    /// Its window.
    pub window: Window,
    /// Its FLUTE session.
    pub air: PreparedSession,
    /// The device.
    pub device: &'a Device,
    /// Envelopes of the roots that the device lacks, in order.
    pub roots: Vec<&'a [u8]>,
}

/// Commands before an Exec, in this order.
#[derive(Debug, Clone, Default)]
pub struct ArmingCommands {
    /// Roots, each signed by the one before, and the node of a component.
    pub first: Vec<PlannedCommand>,
    /// Further nodes that the Exec needs.
    pub writes: Vec<PlannedCommand>,
    /// Package URL.
    pub address: Option<PlannedCommand>,
}

/// Returns the commands before the Exec, in the order of the security facts 3.4.
#[must_use]
pub fn arming_commands(input: &ArmingInput<'_>, now: Utc) -> ArmingCommands {
    let ArmingInput { campaign, window, air, device, roots } = input;
    let (window, air) = (*window, *air);
    let object = object(device, campaign, DeliveryMethod::Broadcast);
    let node = |path: &str| format!("{object}/{path}");
    let octets = |path: &str, octets: &[u8]| Item::octets(node(path), octets);
    let text = |path: &str, text: String| Item::text(node(path), text);
    let seconds = |path: &str, at: Utc| text(path, at.seconds().to_string());
    // spec: security 3.4, oma-002 1 (order of arming: the device is prepared before the window)
    let papers = &campaign.documents;
    let root = |root: &&[u8]| {
        let item = Item::octets(device.object.node(broadcast::ROOT), *root);
        PlannedCommand::write(Requirement::Required, "Root", item)
    };
    let mut writes = vec![
        PlannedCommand::write(
            Requirement::Required,
            "Manifest",
            octets(broadcast::MANIFEST, &papers.manifest),
        ),
        PlannedCommand::write(
            Requirement::Required,
            "Campaign",
            octets(broadcast::CAMPAIGN, &papers.campaign),
        ),
    ];
    for (component, header) in &papers.plan_headers {
        if component.0 < broadcast::PLAN_NODES {
            let path = format!("{}/{}", broadcast::PLAN, component.0);
            writes.push(PlannedCommand::write(
                Requirement::Optional,
                "Plan",
                octets(&path, header),
            ));
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
        PlannedCommand::write(Requirement::Required, "Now", seconds(broadcast::NOW, now)),
        PlannedCommand::write(
            Requirement::Required,
            "Opens",
            seconds(broadcast::OPENS, window.opens),
        ),
        PlannedCommand::write(
            Requirement::Required,
            "Closes",
            seconds(broadcast::CLOSES, window.closes),
        ),
        PlannedCommand::write(Requirement::Optional, "Report/Spread", spread),
    ]);
    let announced = component_nodes(device, campaign, DeliveryMethod::Broadcast);
    let first = roots.iter().map(root).chain(announced).collect();
    ArmingCommands { first, writes, address: Some(package_url(device, campaign, url)) }
}

/// Returns the URI of the management object of a campaign: the firmware, the download of a
/// component, or a component delivered inside the DM session.
fn object(device: &Device, campaign: &Campaign, way: DeliveryMethod) -> String {
    let Some(software) = &campaign.delivery.software else {
        return device.object.uri.clone();
    };
    let branch = match way {
        DeliveryMethod::Broadcast | DeliveryMethod::Download => Branch::Download,
        DeliveryMethod::Direct => Branch::Delivered,
    };
    format!("{}/{}", scomo::ROOT, branch.node(software.package.as_str()))
}

/// Returns the commands that create the node of a component and name its package.
// spec: oma-002 7 (components by the same arming)
fn component_nodes(
    device: &Device,
    campaign: &Campaign,
    way: DeliveryMethod,
) -> Vec<PlannedCommand> {
    let Some(software) = &campaign.delivery.software else { return Vec::new() };
    let object = object(device, campaign, way);
    // Some parsers require Data in every Add.
    let has_data = device.profile.quirks.contains(&Quirk::DataOnInteriorAdd);
    let interior = Item {
        meta: Some(Meta::format(Format::Node)),
        data: has_data.then(|| "".into()),
        ..Item::target(&object)
    };
    let package = Item::text(format!("{object}/{}", scomo::PACKAGE_ID), software.package.as_str());
    vec![
        PlannedCommand::add(Requirement::Required, "the package", interior),
        PlannedCommand::add(Requirement::Required, "PkgID", package),
    ]
}

fn package_url(device: &Device, campaign: &Campaign, url: String) -> PlannedCommand {
    let object = object(device, campaign, DeliveryMethod::Download);
    if campaign.delivery.software.is_some() {
        let item = Item::text(format!("{object}/{}", scomo::PACKAGE_URL), url);
        return PlannedCommand::add(Requirement::Required, "PkgURL", item);
    }
    let item = Item::text(format!("{object}/{}", fumo::DOWNLOAD_AND_UPDATE_URL), url);
    PlannedCommand::write(Requirement::Required, "PkgURL", item)
}

/// Returns the question to the user that precedes all other commands.
// spec: oma-001 8.1.1.6, oma-001 8.1.2.0, oma-000 8.2.2.note
#[must_use]
pub fn consent_prompt(campaign: CampaignId, text: &str) -> PlannedCommand {
    PlannedCommand::new(Purpose::AskUser(campaign), Request::Prompt(Prompt::confirm(text)))
}

/// The package of a unicast delivery method.
#[derive(Debug, Clone, Copy)]
pub enum UnicastPackage<'a> {
    /// The secret in the URLs at which it is downloaded.
    Download(&'a PackageSecret),
    /// The bundle, and the part of it that the device has received: only the remainder is sent when
    /// it is the same bundle.
    Direct(&'a [u8], Option<PackagePrefix>),
}

/// Returns the commands before the Exec of a unicast delivery method.
// spec: oma-001 8.1.1.10, oma-001 8.1.2.10, oma-000 8.1.s1, oma-000 8.1.s2, oma-dm 11.2
#[must_use]
pub fn unicast_commands(
    campaign: &Campaign,
    device: &Device,
    package: UnicastPackage<'_>,
) -> ArmingCommands {
    match package {
        UnicastPackage::Download(secret) => {
            let first = component_nodes(device, campaign, DeliveryMethod::Download);
            let url = format!("{}/descriptor", download_url(&device.url, campaign.id, secret));
            let address = Some(package_url(device, campaign, url));
            ArmingCommands { first, address, writes: Vec::new() }
        }
        UnicastPackage::Direct(package, held) => {
            let way = DeliveryMethod::Direct;
            let first = component_nodes(device, campaign, way);
            let held = held.filter(|_| campaign.delivery.software.is_none());
            let remainder = held.and_then(|held| held.remainder_of(package));
            let (path, name, octets) = match (&campaign.delivery.software, remainder) {
                (Some(_), _) => (scomo::DATA, "Data", package),
                (None, Some(remainder)) => {
                    (fumo::PACKAGE_REMAINDER, "the remainder of PkgData", remainder)
                }
                (None, None) => (fumo::PACKAGE_DATA, "PkgData", package),
            };
            let item = Item::octets(format!("{}/{path}", object(device, campaign, way)), octets);
            let writes = vec![PlannedCommand::write(Requirement::Required, name, item)];
            ArmingCommands { first, writes, address: None }
        }
    }
}

/// Returns the URL below which an attempt finds descriptor and package, for a device that reaches
/// this server at `url`. The secret is in no log: what has it gets the package.
// spec: security 7.3 (packages need a secret)
#[must_use]
pub fn download_url(url: &str, campaign: CampaignId, secret: &PackageSecret) -> String {
    let scheme = url.find("://").map_or(0, |at| at + 3);
    let authority = url.get(scheme..).unwrap_or_default();
    let end = authority.find(['/', '?']).map_or(url.len(), |at| scheme + at);
    let origin = url.get(..end).unwrap_or(url);
    format!("{origin}/download/{campaign}/{}", secret.as_url_part())
}

/// Returns the Exec that starts the update; `None` when the operation has no unicast form.
// spec: oma-001 8.1.1.11, oma-001 8.1.2.11
#[must_use]
pub fn exec(campaign: &Campaign, device: &Device, row: &ArmingAttempt) -> Option<PlannedCommand> {
    let node = match (&campaign.delivery.software, row.delivery_method) {
        (Some(software), DeliveryMethod::Broadcast | DeliveryMethod::Download) => {
            software.operation.node()
        }
        (Some(software), DeliveryMethod::Direct) => software.operation.of_delivered()?.node(),
        (None, DeliveryMethod::Broadcast | DeliveryMethod::Download) => {
            Operation::DownloadAndUpdate.node()
        }
        (None, DeliveryMethod::Direct) => Operation::Update.node(),
    };
    let uri = format!("{}/{node}", object(device, campaign, row.delivery_method));
    let request = Request::Exec(uri, Some(row.correlator.clone()));
    Some(PlannedCommand::new(Purpose::Arm(campaign.id), request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{campaign::model::samples, fleet::store_tests};

    const NOW: Utc = Utc::from_seconds(1_500);

    #[test]
    fn a_download_has_the_origin_of_the_device_url_and_the_secret_of_its_attempt() {
        let (id, secret) = (CampaignId([7; 16]), PackageSecret::new([0; 16]));
        for (url, origin) in [
            ("http://127.0.0.1:8080/dm", "http://127.0.0.1:8080"),
            ("https://dm.example.org/a/b?x=/", "https://dm.example.org"),
            ("https://dm.example.org", "https://dm.example.org"),
        ] {
            let expected = format!("{origin}/download/{id}/AAAAAAAAAAAAAAAAAAAAAA");
            assert_eq!(download_url(url, id, &secret), expected);
        }
    }

    // test: security 3.4 (order of arming)
    #[test]
    fn a_device_is_armed_in_the_documented_order() {
        let campaign = samples::running();
        let (window, air) = campaign.open_broadcast_window(NOW).unwrap();
        let names = |device_root| {
            let device = &store_tests::device("a");
            let roots = campaign.documents.roots_after(device_root).unwrap();
            let input = ArmingInput { campaign: &campaign, window, air, device, roots };
            let name = |planned: &PlannedCommand| match *planned.purpose() {
                Purpose::Write(_, name) => name,
                Purpose::Read(_)
                | Purpose::Arm(_)
                | Purpose::Disarm(_)
                | Purpose::Suspension(_)
                | Purpose::Policy(_)
                | Purpose::Inventory
                | Purpose::FindObject
                | Purpose::Component(_)
                | Purpose::NotifyUser
                | Purpose::Group(_)
                | Purpose::AskUser(_) => "?",
            };
            let ArmingCommands { first, writes, address } = arming_commands(&input, NOW);
            [first, writes, address.into_iter().collect()]
                .concat()
                .iter()
                .map(name)
                .collect::<Vec<_>>()
        };
        let without_root =
            ["Manifest", "Campaign", "Plan", "Now", "Opens", "Closes", "Report/Spread", "PkgURL"];
        assert_eq!(names(2), without_root);
        assert_eq!(names(1), [&["Root"][..], &without_root].concat());
    }

    #[test]
    fn the_tune_in_url_parses_on_a_device() {
        let campaign = samples::running();
        let url = tune_in(&campaign, campaign.prepared.unwrap()).to_string();
        let read: TuneIn = url.parse().unwrap();
        assert_eq!(read.campaign, campaign.id);
        assert_eq!(read.channel, "232.1.2.3:3400".parse().unwrap());
    }
}
