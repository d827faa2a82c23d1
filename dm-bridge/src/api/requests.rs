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
