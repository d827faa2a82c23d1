//! Bodies of responses.

use std::collections::BTreeMap;

use proto::{
    dm::{policy::PolicyNode, scomo::Branch},
    ids::{CampaignId, ClassId, DeviceId, VendorId},
    time::Utc,
};
use serde::{Deserialize, Serialize};

use crate::{
    campaign::{model::Campaign, reconcile::CampaignView},
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        audit::AuditLine,
        components::{ComponentOperation, Components, InventoryEntry},
        device::Device,
        policy::PolicySetting,
        profile::{Profile, Quirk},
        store::{CampaignDevice, Listed},
    },
};

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageBody<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Damaged rows of the page.
    pub damaged: Vec<DamagedBody>,
    /// Value of `after` for the next page; `null` when there is none.
    pub next: Option<String>,
}

/// A damaged row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedBody {
    /// Its id, or its number.
    pub id: String,
    /// The value that is damaged.
    pub damaged: String,
}

impl<T> PageBody<T> {
    /// Returns the body of a page of at most `limit` rows.
    pub fn new<R>(rows: Vec<Listed<R>>, limit: u32) -> Self
    where
        T: for<'r> From<&'r R>,
    {
        let is_full = u32::try_from(rows.len()).is_ok_and(|length| length == limit);
        let next = rows.last().filter(|_| is_full).map(|last| last.key.clone());
        let (mut items, mut damaged) = (Vec::new(), Vec::new());
        for Listed { key, row } in rows {
            match row {
                Ok(row) => items.push(T::from(&row)),
                Err(error) => damaged.push(DamagedBody { id: key, damaged: error }),
            }
        }
        Self { items, damaged, next }
    }
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBody {
    /// Its number.
    pub number: u64,
    /// Time of the change.
    pub at_utc: u64,
    /// `operator`, `reconciler` or `device`.
    pub actor: String,
    /// Kind of the change.
    pub action: String,
    /// The device or campaign that was changed.
    pub subject: String,
    /// Details.
    pub detail: String,
    /// Seal of the chain, in hex.
    pub seal: String,
}

impl From<&AuditLine> for AuditBody {
    fn from(line: &AuditLine) -> Self {
        Self {
            number: line.number,
            at_utc: line.at.seconds(),
            actor: line.actor.clone(),
            action: line.action.clone(),
            subject: line.subject.clone(),
            detail: line.detail.clone(),
            seal: line.seal.0.iter().map(|octet| format!("{octet:02x}")).collect(),
        }
    }
}

/// A campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignBody {
    /// Its id.
    pub id: CampaignId,
    /// Epoch of its sequence.
    pub epoch: u32,
    /// Its sequence.
    pub sequence: u64,
    /// Firmware version, or version of the component.
    pub firmware_version: String,
    /// Package of a software component; `null` for firmware.
    pub component: Option<String>,
    /// Operation on the component.
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
    /// Policy for update requests: `now`, `later` or `none`.
    pub update_requests: String,
    /// Error that blocks the next step.
    pub last_error: Option<String>,
    /// Devices by phase.
    pub devices: BTreeMap<String, u64>,
    /// Time of its creation.
    pub created_utc: u64,
}

impl From<&CampaignView> for CampaignBody {
    fn from(view: &CampaignView) -> Self {
        // A field of a campaign is part of the body, or is left out here.
        let Campaign {
            id,
            version: _,
            terms,
            documents: _,
            target,
            delivery,
            report_spread_seconds,
            update_requests,
            state,
            window,
            prepared,
            last_error,
            created,
        } = &view.campaign;
        let software = delivery.software.as_ref();
        let count = |(phase, devices): (&ArmingPhase, &u64)| (phase.as_str().to_owned(), *devices);
        Self {
            id: *id,
            epoch: terms.epoch,
            sequence: terms.sequence,
            firmware_version: terms.firmware_version.clone(),
            component: software.map(|software| software.package.to_string()),
            operation: software.map(|software| software.operation.to_string()),
            state: state.as_str().to_owned(),
            opens_utc: window.map(|window| window.opens.seconds()),
            closes_utc: window.map(|window| window.closes.seconds()),
            group: target.group.to_string(),
            port: target.port,
            source: prepared.map(|session| session.source.to_string()),
            tsi: prepared.map(|session| session.tsi.0),
            report_spread_seconds: *report_spread_seconds,
            update_requests: update_requests.to_string(),
            last_error: last_error.clone(),
            devices: view.phase_counts.iter().map(count).collect(),
            created_utc: created.seconds(),
        }
    }
}

/// A device of a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignDeviceBody {
    /// The device.
    pub id: DeviceId,
    /// Set when it accepted its latest attempt.
    pub armed: bool,
    /// Delivery method: `broadcast`, `download` or `direct`.
    pub delivery: String,
    /// Phase of the attempt: a phase of the device, or `pending`, `version-mismatch`,
    /// `needs-unicast`, `unknown`.
    pub phase: String,
    /// Result code of its final alert.
    pub result_code: Option<u16>,
    /// Reason for the phase.
    pub result_text: Option<String>,
    /// Firmware version as last read from the device.
    pub firmware_version: Option<String>,
    /// Number of attempts.
    pub attempts: u32,
    /// Time of its last authenticated message.
    pub last_seen_utc: Option<u64>,
}

impl From<&CampaignDevice> for CampaignDeviceBody {
    fn from(device: &CampaignDevice) -> Self {
        let CampaignDevice { attempt, firmware_version, last_seen } = device;
        Self {
            id: attempt.device.clone(),
            armed: attempt.was_accepted(),
            delivery: attempt.delivery_method.as_str().to_owned(),
            phase: attempt.phase.as_str().to_owned(),
            result_code: attempt.result_code,
            result_text: attempt.reason.clone(),
            firmware_version: firmware_version.clone(),
            attempts: attempt.attempt,
            last_seen_utc: last_seen.map(Utc::seconds),
        }
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceBody {
    /// Its id.
    pub id: DeviceId,
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Vendor.
    pub vendor_id: VendorId,
    /// Class.
    pub class_id: ClassId,
    /// Root of its FUMO object.
    pub object: String,
    /// Origin of that place: `assumed`, `learnt` or `set`.
    pub object_origin: String,
    /// Its account.
    pub account: AccountBody,
    /// Policy for its update requests; takes precedence over those of campaigns.
    pub update_requests: Option<String>,
    /// Name of its profile.
    pub profile: String,
    /// Quirks of its client.
    pub quirks: Vec<String>,
    /// Command that its next DM session sends: `suspend` or `resume`.
    pub pending_suspension: Option<String>,
    /// Values of its policy with their statuses, by node.
    pub policy: BTreeMap<PolicyNode, PolicySettingBody>,
    /// Firmware version as last read.
    pub firmware_version: Option<String>,
    /// Time of its enrolment.
    pub enrolled_utc: u64,
    /// Time of its last authenticated message.
    pub last_seen_utc: Option<u64>,
}

/// A note about a device: what a session did, and what of it was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteBody {
    /// Its time.
    pub at_utc: u64,
    /// Its text.
    pub text: String,
}

impl From<AuditLine> for NoteBody {
    fn from(line: AuditLine) -> Self {
        Self { at_utc: line.at.seconds(), text: line.detail }
    }
}

impl From<&Device> for DeviceBody {
    fn from(device: &Device) -> Self {
        Self {
            id: device.id.clone(),
            manufacturer: device.manufacturer.clone(),
            model: device.model.clone(),
            vendor_id: device.vendor,
            class_id: device.class,
            object: device.object.uri.clone(),
            object_origin: device.object.origin.to_string(),
            account: device.into(),
            update_requests: device.update_requests.map(|policy| policy.to_string()),
            profile: device.profile.name.clone(),
            quirks: device.profile.quirks.iter().map(ToString::to_string).collect(),
            pending_suspension: device.pending_suspension.map(|command| command.to_string()),
            policy: device.policy.iter().map(|(node, setting)| (node, setting.into())).collect(),
            firmware_version: device.firmware_version.clone(),
            enrolled_utc: device.enrolled.seconds(),
            last_seen_utc: device.last_seen.map(Utc::seconds),
        }
    }
}

/// A device with its campaigns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceDetailBody {
    /// The device.
    #[serde(flatten)]
    pub device: DeviceBody,
    /// Its latest attempt of each campaign, the last changed first.
    pub campaigns: Vec<DeviceCampaignBody>,
    /// The last notes about it, oldest first.
    #[serde(default)]
    pub notes: Vec<NoteBody>,
}

impl DeviceDetailBody {
    /// Returns the body of a device with its latest attempts.
    #[must_use]
    pub fn new(device: &Device, attempts: &[ArmingAttempt]) -> Self {
        let campaigns = attempts.iter().map(Into::into).collect();
        Self { device: device.into(), campaigns, notes: Vec::new() }
    }

    /// Adds the notes that lines of the log are.
    #[must_use]
    pub fn with_notes(mut self, lines: Vec<AuditLine>) -> Self {
        self.notes.extend(lines.into_iter().map(NoteBody::from));
        self
    }
}

/// A campaign of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCampaignBody {
    /// The campaign.
    pub campaign: CampaignId,
    /// Set when the device accepted its latest attempt.
    pub armed: bool,
    /// Delivery method: `broadcast`, `download` or `direct`.
    pub delivery: String,
    /// Phase of the attempt.
    pub phase: String,
    /// Result code of its final alert.
    pub result_code: Option<u16>,
    /// Reason for the phase.
    pub result_text: Option<String>,
    /// Number of attempts.
    pub attempts: u32,
    /// Time of the last change.
    pub updated_utc: u64,
}

impl From<&ArmingAttempt> for DeviceCampaignBody {
    fn from(attempt: &ArmingAttempt) -> Self {
        Self {
            campaign: attempt.campaign,
            armed: attempt.was_accepted(),
            delivery: attempt.delivery_method.as_str().to_owned(),
            phase: attempt.phase.as_str().to_owned(),
            result_code: attempt.result_code,
            result_text: attempt.reason.clone(),
            attempts: attempt.attempt,
            updated_utc: attempt.updated.seconds(),
        }
    }
}

/// The account of a device, without its passwords.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountBody {
    /// User name of the device.
    pub user: String,
    /// Authentication type of the device: `md5`, `hmac`, `basic` or `transport`.
    pub auth: String,
    /// Server id by which the device knows this server.
    pub server_id: String,
    /// Authentication type of this server.
    pub server_auth: String,
    /// SHA-256 of the client certificate that the device is tied to, in hex.
    pub certificate: Option<String>,
    /// Set when one of the passwords has fewer than 16 characters.
    pub weak_password: bool,
}

impl From<&Device> for AccountBody {
    fn from(device: &Device) -> Self {
        let account = &device.account;
        Self {
            user: device.auth.user.clone(),
            auth: device.auth.kind.to_string(),
            server_id: account.server_id.clone(),
            server_auth: account.server_kind.to_string(),
            certificate: account.certificate.map(|digest| digest.to_string()),
            weak_password: account.has_weak_password,
        }
    }
}

/// A value for a node of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySettingBody {
    /// Value.
    pub value: String,
    /// Set when the next DM session sends it.
    pub pending: bool,
    /// Status code that the device returned.
    pub status: Option<u16>,
    /// Time of the setting, or of its status.
    pub updated_utc: u64,
}

impl From<&PolicySetting> for PolicySettingBody {
    fn from(setting: &PolicySetting) -> Self {
        Self {
            value: setting.value.clone(),
            pending: setting.is_pending(),
            status: setting.status,
            updated_utc: setting.updated.seconds(),
        }
    }
}

/// A device that was enrolled.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolledBody {
    /// The device.
    pub device: DeviceBody,
    /// Its configuration (TOML), with the passwords.
    pub settings: String,
    /// Weak passwords, a line for each.
    pub warnings: Vec<String>,
}

/// The software components of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentsBody {
    /// The device.
    pub device: DeviceId,
    /// Time of the last reading.
    pub read_utc: Option<u64>,
    /// Set when its next DM session reads the inventory.
    pub refresh_pending: bool,
    /// Reason for which the last reading failed.
    pub refused: Option<String>,
    /// Inventory as last read.
    pub inventory: Vec<InventoryEntryBody>,
    /// Operations on them, the oldest first.
    pub operations: Vec<ComponentOperationBody>,
}

/// A delivered package, or an installed component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryEntryBody {
    /// Package or component.
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
pub struct ComponentOperationBody {
    /// Operation.
    pub operation: String,
    /// Package or component.
    pub id: String,
    /// `waiting`, `accepted`, `done` or `failed`.
    pub state: String,
    /// Result code of the device's final alert.
    pub result_code: Option<u16>,
    /// Reason for the phase.
    pub result_text: Option<String>,
    /// Time of the last change.
    pub updated_utc: u64,
}

impl ComponentsBody {
    /// Returns the body of the components of a device.
    #[must_use]
    pub fn new(device: &DeviceId, components: &Components) -> Self {
        let entry = |entry: &InventoryEntry| InventoryEntryBody {
            id: entry.id.clone(),
            name: entry.name.clone(),
            version: entry.version.clone(),
            state: match entry.branch {
                Branch::Download | Branch::Delivered => Some("delivered".to_owned()),
                Branch::Deployed => entry.state.map(|state| state.to_string()),
            },
        };
        let operation = |it: &ComponentOperation| ComponentOperationBody {
            operation: it.operation.to_string(),
            id: it.id.clone(),
            state: it.state.as_str().to_owned(),
            result_code: it.result_code,
            result_text: it.reason.clone(),
            updated_utc: it.updated.seconds(),
        };
        Self {
            device: device.clone(),
            read_utc: components.read.map(Utc::seconds),
            refresh_pending: components.refresh_requested,
            refused: components.refused.clone(),
            inventory: components.inventory.iter().map(entry).collect(),
            operations: components.operations.iter().map(operation).collect(),
        }
    }
}

/// A profile of clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileBody {
    /// Its name.
    pub name: String,
    /// Description.
    pub about: String,
    /// Quirks of its clients, with the reason for each.
    pub quirks: BTreeMap<String, String>,
}

impl ProfileBody {
    /// Returns the body of a profile.
    #[must_use]
    pub fn new(profile: &Profile, about: &str) -> Self {
        let quirk = |quirk: &Quirk| (quirk.as_str().to_owned(), quirk.reason().to_owned());
        Self {
            name: profile.name.clone(),
            about: about.to_owned(),
            quirks: profile.quirks.iter().map(quirk).collect(),
        }
    }
}

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Text of the error.
    pub error: String,
}
