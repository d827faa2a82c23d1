//! Bodies of requests.

use std::collections::BTreeMap;

use proto::ids::PackageId;
use serde::{Deserialize, Serialize};

/// The window of a campaign to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// Opening time: RFC 3339, `now`, or `+30s`, `+10m`, `+2h`.
    pub opens: String,
    /// Closing time, in the same form.
    pub closes: String,
}

/// The policy for update requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequestsRequest {
    /// `now`, `later` or `none`; for a device also `null`: the policy of the campaign.
    pub update_requests: Option<String>,
}

/// The place of the FUMO object of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareObjectRequest {
    /// Root of the object; `null` looks for it in the next DM session.
    pub firmware_object: Option<String>,
}

/// A suspend or resume command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuspensionRequest {
    /// `suspend` or `resume`; `null` cancels the command that is pending.
    pub suspension: Option<String>,
}

/// Values for the policy of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRequest {
    /// Value by node; `null` cancels a value that is pending.
    pub policy: BTreeMap<String, Option<String>>,
}

/// A device to enrol.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// Device id.
    pub id: String,
    /// URL of this server for the device.
    pub url: String,
    /// Vendor id, 32 hex digits.
    pub vendor: String,
    /// Class id, 32 hex digits.
    pub class: String,
    /// Manufacturer; `fumocast` by default.
    pub manufacturer: Option<String>,
    /// Model; `lab` by default.
    pub model: Option<String>,
    /// `xml` (by default) or `wbxml`.
    pub encoding: Option<String>,
    /// Profile; by default that of the class.
    pub profile: Option<String>,
    /// Root of its FUMO object; by default it is looked for.
    pub firmware_object: Option<String>,
    /// Its account.
    #[serde(default)]
    pub account: AccountRequest,
}

/// The account of a device to enrol; what is absent is made.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountRequest {
    /// Authentication type of the device: `md5` (by default), `hmac`, `basic` or `transport`.
    pub auth: Option<String>,
    /// Authentication type of this server; by default that of the device.
    pub server_auth: Option<String>,
    /// User name of the device; by default its id.
    pub user: Option<String>,
    /// Password of the device.
    pub password: Option<String>,
    /// Server id by which the device knows this server; by default `fumocast`.
    pub server_id: Option<String>,
    /// Password of this server.
    pub server_password: Option<String>,
    /// SHA-256 of the client certificate that the device is tied to, in hex.
    pub certificate: Option<String>,
}

/// An operation on a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentOperationRequest {
    /// `component-install`, `component-install-inactive`, `component-activate`,
    /// `component-deactivate`, `component-remove`, `component-remove-package`; `null` reads the
    /// inventory.
    pub operation: Option<String>,
    /// Package or component.
    pub id: Option<PackageId>,
}
