//! The operator API: the types of its JSON, apart from core types and table rows.
//!
//! All routes but `/healthz` and `/metrics` want `Authorization: Bearer TOKEN`. Times are whole
//! UTC seconds; a field that does not apply is `null`.
//!
//! | route | answers |
//! | --- | --- |
//! | `GET /api/v1/campaigns` | list of [`CampaignBody`] |
//! | `GET /api/v1/campaigns/{id}` | [`CampaignBody`] |
//! | `GET /api/v1/campaigns/{id}/devices` | list of [`CampaignDeviceBody`] |
//! | `POST /api/v1/campaigns/{id}/start` | takes [`StartBody`], answers [`CampaignBody`] |
//! | `POST /api/v1/campaigns/{id}/stop` | [`CampaignBody`] |
//! | `POST /api/v1/campaigns/{id}/on-request` | takes [`OnRequestBody`], answers [`CampaignBody`] |
//! | `GET /api/v1/devices` | list of [`DeviceBody`] |
//! | `GET /api/v1/devices/{id}` | [`DeviceBody`] |
//! | `POST /api/v1/devices/{id}/on-request` | takes [`OnRequestBody`], answers [`DeviceBody`] |
//! | `GET /api/v1/devices/{id}/components` | [`ComponentsBody`] |
//! | `POST /api/v1/devices/{id}/components` | takes [`ComponentOrderBody`], answers [`ComponentsBody`] |
//! | `POST /api/v1/devices/{id}/rest` | takes [`RestBody`], answers [`DeviceBody`] |
//! | `POST /api/v1/devices/{id}/policy` | takes [`PolicyBody`], answers [`DeviceBody`] |
//!
//! Refusals carry an [`ErrorBody`].

use std::collections::BTreeMap;

use proto::{
    dm::{policy::PolicyNode, scomo::Branch},
    ids::{CampaignId, ClassId, DeviceId, PackageId, VendorId},
    time::Utc,
};
use serde::{Deserialize, Serialize};

use crate::{
    campaign::rollout::CampaignView,
    fleet::{
        arming::Arming,
        components::{ComponentWork, Components, Held},
        device::Device,
        policy::Order,
        profile::{Profile, Quirk},
    },
};

/// A campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignBody {
    /// Its id.
    pub id: CampaignId,
    /// Epoch of its sequence.
    pub epoch: u32,
    /// Its sequence.
    pub sequence: u64,
    /// Firmware version that it brings, or the version of the component.
    pub firmware_version: String,
    /// The package of a software component; `null` for firmware.
    pub component: Option<String>,
    /// What is done with the component.
    pub operation: Option<String>,
    /// `created`, `running`, `stopping`, `stopped` or `closed`.
    pub state: String,
    /// Opening of the window.
    pub opens_utc: Option<u64>,
    /// Closing of the window.
    pub closes_utc: Option<u64>,
    /// Multicast group.
    pub group: String,
    /// UDP port.
    pub port: u16,
    /// Address that the image server sends from.
    pub source: Option<String>,
    /// FLUTE session.
    pub tsi: Option<u64>,
    /// Span over which devices spread their reports, in seconds.
    pub report_spread_seconds: u32,
    /// What a device that asks for an update gets: `now`, `later` or `none`.
    pub on_request: String,
    /// What keeps it from going on.
    pub problem: Option<String>,
    /// Devices by phase.
    pub devices: BTreeMap<String, u64>,
    /// When it was created here.
    pub created_utc: u64,
}

impl From<&CampaignView> for CampaignBody {
    fn from(view: &CampaignView) -> Self {
        let campaign = &view.campaign;
        let software = campaign.delivery.software.as_ref();
        let count = |(phase, devices): (&crate::fleet::arming::ArmingPhase, &u64)| {
            (phase.word().to_owned(), *devices)
        };
        Self {
            id: campaign.id,
            epoch: campaign.terms.epoch,
            sequence: campaign.terms.sequence,
            firmware_version: campaign.terms.firmware_version.clone(),
            component: software.map(|software| software.package.to_string()),
            operation: software.map(|software| software.operation.to_string()),
            state: campaign.state.word().to_owned(),
            opens_utc: campaign.window.map(|window| window.opens.seconds()),
            closes_utc: campaign.window.map(|window| window.closes.seconds()),
            group: campaign.place.group.to_string(),
            port: campaign.place.port,
            source: campaign.air.map(|air| air.source.to_string()),
            tsi: campaign.air.map(|air| air.tsi.0),
            report_spread_seconds: campaign.report_spread_seconds,
            on_request: campaign.on_request.to_string(),
            problem: campaign.problem.clone(),
            devices: view.tally.iter().map(count).collect(),
            created_utc: campaign.created.seconds(),
        }
    }
}

/// A device within a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignDeviceBody {
    /// The device.
    pub id: DeviceId,
    /// Whether it accepted its latest attempt.
    pub armed: bool,
    /// How the package is to reach it: `broadcast`, `download` or `direct`.
    pub way: String,
    /// Where that stands; a word of the design page, or `pending`, `contradicted`,
    /// `unicast-needed`, `unknown`.
    pub phase: String,
    /// Result code of its final alert.
    pub result_code: Option<u16>,
    /// Why it stands there.
    pub result_text: Option<String>,
    /// Firmware version as last read from the device.
    pub firmware_version: Option<String>,
    /// Number of attempts.
    pub attempts: u32,
    /// When the device last proved who it is.
    pub last_seen_utc: Option<u64>,
}

impl CampaignDeviceBody {
    /// Makes the body of an attempt and its device.
    #[must_use]
    pub fn new(row: &Arming, device: Option<&Device>) -> Self {
        Self {
            id: row.device.clone(),
            armed: row.armed(),
            way: row.way.word().to_owned(),
            phase: row.phase.word().to_owned(),
            result_code: row.result_code,
            result_text: row.reason.clone(),
            firmware_version: device.and_then(|device| device.firmware_version.clone()),
            attempts: row.attempt,
            last_seen_utc: device.and_then(|device| device.last_seen).map(Utc::seconds),
        }
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceBody {
    /// Its id.
    pub id: DeviceId,
    /// Maker.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Vendor.
    pub vendor_id: VendorId,
    /// Class.
    pub class_id: ClassId,
    /// Place of its FUMO object.
    pub object: String,
    /// What it gets when it asks for an update, whatever campaigns say.
    pub on_request: Option<String>,
    /// Name of its profile.
    pub profile: String,
    /// What its client does otherwise.
    pub quirks: Vec<String>,
    /// What its next session tells it: `suspend` or `resume`.
    pub rest: Option<String>,
    /// What it is to be told of its policy and what it answered, by node.
    pub policy: BTreeMap<PolicyNode, PolicyOrderBody>,
    /// Firmware version as last read.
    pub firmware_version: Option<String>,
    /// When it was enrolled.
    pub enrolled_utc: u64,
    /// When it last proved who it is.
    pub last_seen_utc: Option<u64>,
}

impl From<&Device> for DeviceBody {
    fn from(device: &Device) -> Self {
        Self {
            id: device.id.clone(),
            manufacturer: device.manufacturer.clone(),
            model: device.model.clone(),
            vendor_id: device.vendor,
            class_id: device.class,
            object: device.object.clone(),
            on_request: device.on_request.map(|choice| choice.to_string()),
            profile: device.profile.name.clone(),
            quirks: device.profile.quirks.iter().map(ToString::to_string).collect(),
            rest: device.rest.map(|rest| rest.to_string()),
            policy: device.policy.iter().map(|(node, order)| (node, order.into())).collect(),
            firmware_version: device.firmware_version.clone(),
            enrolled_utc: device.enrolled.seconds(),
            last_seen_utc: device.last_seen.map(Utc::seconds),
        }
    }
}

/// A value for a node of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyOrderBody {
    /// The value.
    pub value: String,
    /// Whether the device's next DM session tells it.
    pub owed: bool,
    /// The status code of the device's answer.
    pub answer: Option<u16>,
    /// When it was decided, or answered.
    pub updated_utc: u64,
}

impl From<&Order> for PolicyOrderBody {
    fn from(order: &Order) -> Self {
        Self {
            value: order.value.clone(),
            owed: order.is_owed(),
            answer: order.answer,
            updated_utc: order.updated.seconds(),
        }
    }
}

/// The window of a campaign that is to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartBody {
    /// RFC 3339, `now`, or `+30s`, `+10m`, `+2h`.
    pub opens: String,
    /// The same.
    pub closes: String,
}

/// What devices that ask for an update get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnRequestBody {
    /// `now`, `later` or `none`; for a device also `null`: as the campaigns say.
    pub on_request: Option<String>,
}

/// Whether a device rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestBody {
    /// `suspend` or `resume`; `null` takes back what its next session would have said.
    pub rest: Option<String>,
}

/// What is set of a device's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyBody {
    /// A value for each node; `null` takes back what the device has not answered.
    pub policy: BTreeMap<String, Option<String>>,
}

/// What is to be done with a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentOrderBody {
    /// `component-install`, `component-install-inactive`, `component-activate`,
    /// `component-deactivate`, `component-remove`, `component-remove-package`; `null` reads what
    /// the device holds.
    pub operation: Option<String>,
    /// The package or the component.
    pub id: Option<PackageId>,
}

/// The software components of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentsBody {
    /// The device.
    pub device: DeviceId,
    /// When they were read last.
    pub read_utc: Option<u64>,
    /// Whether its next session reads them.
    pub wanted: bool,
    /// Why they could not be read the last time.
    pub refused: Option<String>,
    /// What it held when they were read.
    pub held: Vec<HeldBody>,
    /// What was to be done with them, the oldest first.
    pub operations: Vec<ComponentWorkBody>,
}

/// A package that a device holds, or a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBody {
    /// The package or the component.
    pub id: String,
    /// A name for people.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// `delivered`, `inactive` or `active`.
    pub state: Option<String>,
}

/// An operation on a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentWorkBody {
    /// What is to be done.
    pub operation: String,
    /// With what.
    pub id: String,
    /// `waiting`, `accepted`, `done` or `failed`.
    pub phase: String,
    /// Result code of the device's final alert.
    pub result_code: Option<u16>,
    /// Why it stands there.
    pub result_text: Option<String>,
    /// When it last changed.
    pub updated_utc: u64,
}

impl ComponentsBody {
    /// Makes the body of the components of a device.
    #[must_use]
    pub fn new(device: &DeviceId, components: &Components) -> Self {
        let held = |held: &Held| HeldBody {
            id: held.id.clone(),
            name: held.name.clone(),
            version: held.version.clone(),
            state: match held.branch {
                Branch::Download | Branch::Delivered => Some("delivered".to_owned()),
                Branch::Deployed => held.state.map(|state| state.to_string()),
            },
        };
        let operation = |work: &ComponentWork| ComponentWorkBody {
            operation: work.operation.to_string(),
            id: work.id.clone(),
            phase: work.phase.word().to_owned(),
            result_code: work.result_code,
            result_text: work.reason.clone(),
            updated_utc: work.updated.seconds(),
        };
        Self {
            device: device.clone(),
            read_utc: components.read.map(Utc::seconds),
            wanted: components.wanted,
            refused: components.refused.clone(),
            held: components.held.iter().map(held).collect(),
            operations: components.works.iter().map(operation).collect(),
        }
    }
}

/// A profile of clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileBody {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// What its clients do otherwise, with the reason for each.
    pub quirks: BTreeMap<String, String>,
}

impl ProfileBody {
    /// Makes the body of a profile.
    #[must_use]
    pub fn new(profile: &Profile, about: &str) -> Self {
        let quirk = |quirk: &Quirk| (quirk.word().to_owned(), quirk.reason().to_owned());
        Self {
            name: profile.name.clone(),
            about: about.to_owned(),
            quirks: profile.quirks.iter().map(quirk).collect(),
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: String,
}
