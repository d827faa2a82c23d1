//! OMA DM on the device: the session with the server, the management tree, and the reports.
//!
//! | module | holds |
//! | --- | --- |
//! | [`client`] | [`DmClient`](client::DmClient): one DM session as a core without I/O |
//! | [`scomo`] | the SCOMO object: downloads, delivered packages, installed components |
//! | [`tree`] | DevInfo, DevDetail, DMAcc and the FUMO object, addressed by URI |
//! | [`fumo`] | the FUMO object with `Ext/Broadcast`, staged until its Exec |
//! | [`notification`] | the filter of notifications |
//! | [`report`] | the queue of final alerts, each with its send time |
//! | `account`, `schedule` | the stored state of the account; the time of the next session |
//! | [`update_request`] | update requests of the device or its user |
//! | [`backoff`] | the back-off after failures |
//!
//! The agent implements [`ManagementBackend`]; this module has no sockets, files or clocks.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use proto::{
    dm::{
        auth::{AuthKind, Secret},
        code::StatusCode,
        encoding::Encoding,
        fumo::{
            Operation, OperationResult, PackageData, PackagePrefix, Phase, ResultCode,
            UpdateRequest,
        },
        scomo as component,
        syncml::{Alert, CommandId},
        ui::{Answer, Prompt},
        uri::NodeUri,
    },
    ids::{CampaignId, ComponentId, Correlator, DeviceId},
    time::{Now, Utc},
    wire::WireError,
};
use serde::{Deserialize, Serialize};

use crate::{
    components::{Announced, ComponentTarget, Software},
    suspension::Policy,
};

pub(crate) mod account;
pub mod backoff;
pub mod client;
pub mod fumo;
pub mod notification;
pub mod report;
pub(crate) mod schedule;
pub mod scomo;
pub mod tree;
pub mod update_request;

#[cfg(test)]
mod fake;

/// Identity of the device, and its account.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Content of DevInfo and DevDetail.
    pub identity: Identity,
    /// The one account.
    pub account: Account,
    /// Root of the FUMO object, `./FwUpdate/Main` by default.
    pub object: NodeUri,
}

/// Content of DevInfo and DevDetail, apart from the firmware version.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `DevId`.
    pub device_id: DeviceId,
    /// `Man`.
    pub manufacturer: String,
    /// `Mod`.
    pub model: String,
    /// `Lang`.
    pub language: String,
    /// `DevTyp`.
    pub device_type: String,
    /// `OEM`.
    pub oem: String,
    /// `HwV`.
    pub hardware_version: String,
}

impl Identity {
    /// Returns an identity with default values for the other fields.
    #[must_use]
    pub fn new(device_id: DeviceId, manufacturer: String, model: String) -> Self {
        Self {
            device_id,
            oem: manufacturer.clone(),
            manufacturer,
            model,
            language: "en".to_owned(),
            device_type: "receiver".to_owned(),
            hardware_version: "1".to_owned(),
        }
    }
}

/// The management server, and the credentials of both sides.
#[derive(Clone)]
pub struct Account {
    /// URL of DM messages, `https://…` or `http://…`.
    pub url: String,
    /// The server's identifier.
    pub server_id: String,
    /// Encoding of the messages.
    pub encoding: Encoding,
    /// Authentication type of the device; a challenge may require another.
    pub auth: AuthKind,
    /// The user name of the device.
    pub user: String,
    /// Secret derived from the password.
    pub secret: Secret,
    /// Credentials of the server. Without them notifications are rejected, and DM messages are
    /// authenticated by TLS only.
    pub server: Option<ServerProof>,
}

impl Account {
    /// Returns the account with the changes of its server.
    #[must_use]
    pub fn with(&self, change: &AccountChange) -> Self {
        let mut account = self.clone();
        if let Some(url) = &change.url {
            account.url.clone_from(url);
        }
        if let Some(password) = &change.password {
            account.secret = Secret::for_kind(self.auth, &self.user, password);
        }
        account
    }
}

/// Changes of the account by its server, which apply from the next DM session on.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// URL of DM messages.
    pub url: Option<String>,
    /// The device's password.
    pub password: Option<String>,
}

/// Leaves out the password.
impl fmt::Debug for AccountChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AccountChange").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Credentials of the server.
#[derive(Clone)]
pub struct ServerProof {
    /// Authentication type of the server: with that of the transport its password is for
    /// notifications alone.
    pub kind: AuthKind,
    /// Secret derived from the server's password.
    pub secret: Secret,
    /// The nonce of its first credentials.
    pub nonce: Vec<u8>,
}

impl fmt::Debug for ServerProof {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ServerProof")
    }
}

/// Leaves out the secret and the user name, which is the device's identifier.
impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Account")
            .field("url", &self.url)
            .field("server_id", &self.server_id)
            .finish_non_exhaustive()
    }
}

/// The writes of a DM session for one Exec, checked for their syntax only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmRequest {
    /// Operation of the Exec.
    pub operation: Operation,
    /// The tune-in URL; its scheme is `fumocast:`.
    pub url: String,
    /// The envelope of the campaign; empty when the session wrote none.
    pub campaign: Vec<u8>,
    /// The envelope of the manifest; empty when the session wrote none.
    pub manifest: Vec<u8>,
    /// Plan headers by component.
    pub plan_headers: BTreeMap<ComponentId, Vec<u8>>,
    /// The current time of the server.
    pub server_now: Option<Utc>,
    /// Opening of the first window by the server's time.
    pub opens: Option<Utc>,
    /// Closing of the first window by the server's time.
    pub closes: Option<Utc>,
    /// Further windows, `URL opens closes` each.
    pub sessions: Vec<String>,
    /// Base URL of the repair, `https://…`, or `http://…` when the server itself is reached so.
    pub repair: Option<String>,
    /// Settings of the report.
    pub report: ReportSettings,
    /// Correlator for the final alert.
    pub correlator: Option<Correlator>,
    /// The software component; `None` for firmware.
    pub subject: Option<ComponentTarget>,
}

/// A download by HTTP, as an Exec requests it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadRequest {
    /// Operation of the Exec.
    pub operation: Operation,
    /// A descriptor or a package, `http:` or `https:`.
    pub url: String,
    /// Settings of the report.
    pub report: ReportSettings,
    /// Correlator for the final alert.
    pub correlator: Option<Correlator>,
    /// The software component; `None` for firmware.
    pub subject: Option<ComponentTarget>,
}

/// Settings of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReportSettings {
    /// The span over which the devices spread their reports.
    pub spread: Duration,
    /// Earliest time of the report.
    pub not_before: Option<Utc>,
    /// Filter of results.
    pub filter: ReportFilter,
}

/// Filter of reported results; as text `all`, `failures` or `sample N/M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ReportFilter {
    /// Every result.
    #[default]
    All,
    /// Failures.
    Failures,
    /// Failures, and the successes of a random `take` in `of` devices.
    Sample {
        /// Number of reporting devices.
        take: u32,
        /// Size of the population; at least 1.
        of: u32,
    },
}

impl fmt::Display for ReportFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            Self::Failures => formatter.write_str("failures"),
            Self::Sample { take, of } => write!(formatter, "sample {take}/{of}"),
        }
    }
}

impl FromStr for ReportFilter {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let sample = || {
            let (take, of) = text.strip_prefix("sample ")?.split_once('/')?;
            let (take, of) = (take.parse().ok()?, of.parse().ok()?);
            (of > 0 && take <= of).then_some(Self::Sample { take, of })
        };
        match text {
            "all" => Ok(Self::All),
            "failures" => Ok(Self::Failures),
            _ => sample().ok_or_else(|| {
                WireError::invalid("report filter", text, "`all`, `failures` or `sample N/M`")
            }),
        }
    }
}

impl TryFrom<String> for ReportFilter {
    type Error = WireError;

    fn try_from(text: String) -> Result<Self, WireError> {
        text.parse()
    }
}

impl From<ReportFilter> for String {
    fn from(filter: ReportFilter) -> Self {
        filter.to_string()
    }
}

/// The final result of an operation, for the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalAlert {
    /// The correlator of the Exec; absent if and only if the Exec had none.
    pub correlator: Option<Correlator>,
    /// The operation.
    pub operation: Operation,
    /// The result code.
    pub result: ResultCode,
    /// The campaign, if one was accepted; local state, not sent.
    pub campaign: Option<CampaignId>,
    /// The software component; `None` for firmware.
    pub subject: Option<ComponentTarget>,
}

impl FinalAlert {
    /// Returns the Alert 1226.
    #[must_use]
    pub fn to_alert(&self, id: CommandId, firmware_object: &str) -> Alert {
        let correlator = self.correlator.clone();
        match &self.subject {
            None => OperationResult {
                object: Some(firmware_object.to_owned()),
                operation: self.operation,
                result: self.result,
                correlator,
            }
            .to_alert(id),
            Some(subject) => component::OperationResult {
                source: Some(subject.source()),
                target: subject.target().filter(|_| self.result.is_success()),
                result: component::ResultCode::of(subject.operation, self.result),
                identifier: Some(subject.package.to_string()),
                correlator,
            }
            .to_alert(id),
        }
    }
}

/// State of the device as the tree shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceView {
    /// The version that the installer reports; never that of a campaign.
    pub firmware_version: String,
    /// Phase of the operation.
    pub phase: Phase,
    /// Presence of the package's data, which decides some FUMO states.
    pub data: PackageData,
    /// Suspend reasons, or the reason of a rejection.
    pub reasons: Vec<String>,
    /// Synced symbols per mille.
    pub progress_per_mille: u16,
    /// Version of the stored root; 0 when there is none.
    pub root_version: u64,
    /// Name of the current package.
    pub package_name: Option<String>,
    /// Version of the current package.
    pub package_version: Option<String>,
    /// The suspend policy.
    pub policy: Policy,
    /// Limits for the planner.
    pub limits: DeviceLimits,
}

/// Limits of the device for the planner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Source symbols of a block.
    pub max_block_symbols: u32,
    /// KiB of memory for the decoder.
    pub max_memory_kib: u64,
    /// KiB of storage for one reception.
    pub max_storage_kib: u64,
    /// Content encodings that the device decodes, `none` among them.
    pub encodings: Vec<String>,
}

/// Position of a chunk in a package that arrives over several messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkPosition {
    /// First chunk of a whole package.
    First,
    /// First chunk of the remainder of the stored package.
    Remainder,
    /// Next chunk of either.
    Next,
}

/// Backend of the management tree: the device as the DM session sees it.
///
/// A call changes the device's state at once; the shell sends the message that a
/// [`Step::Send`](client::Step::Send) holds only after that state is durable.
pub trait ManagementBackend: FirmwareBackend + SoftwareBackend + UserPrompt + AccountStore {}

impl<T: FirmwareBackend + SoftwareBackend + UserPrompt + AccountStore> ManagementBackend for T {}

/// Firmware and its operations, for the FUMO object. A call changes the device at once.
pub trait FirmwareBackend: AlertQueue {
    /// Returns the state for the tree.
    fn view(&self) -> DeviceView;

    /// Evaluates a campaign and arms the device. The status is 202 in any case; a rejection is
    /// queued as a [`FinalAlert`] that is due at once.
    fn arm(&mut self, now: Now, request: ArmRequest);

    /// Starts a download by HTTP. The status is 202 in any case; without a download user agent the
    /// result is that of an unknown URL.
    fn download(&mut self, now: Now, request: DownloadRequest) {
        let DownloadRequest { operation, correlator, subject, .. } = request;
        let (result, campaign) = (ResultCode::BAD_URL, None);
        self.refuse(now, FinalAlert { correlator, operation, result, campaign, subject });
    }

    /// Stores the package of a Replace of `PkgData`; an empty one removes the stored package.
    fn receive_package(&mut self, _now: Now, _package: &[u8]) -> StatusCode {
        StatusCode::NOT_SUPPORTED
    }

    /// Stores a chunk of a package, so that an aborted session costs no more than the data in
    /// flight. The status of the chunk is sent once it is durable.
    fn store_chunk(&mut self, _position: ChunkPosition, _octets: &[u8]) {}

    /// Returns the stored part of an incomplete package.
    fn partial_package(&self) -> Option<PackagePrefix> {
        None
    }

    /// Stores the remainder of that package.
    fn receive_remainder(&mut self, _now: Now, _remainder: &[u8]) -> StatusCode {
        StatusCode::NOT_SUPPORTED
    }

    /// Starts the installation of the stored package (Exec of `Update`).
    fn update(&mut self, _now: Now, _correlator: Option<Correlator>) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Disarms the device.
    fn disarm(&mut self, now: Now) -> StatusCode;

    /// Sets a node of the suspend policy, durably.
    fn set_policy(&mut self, _now: Now, _node: &str, _value: &str) -> StatusCode {
        StatusCode::NOT_SUPPORTED
    }

    /// Suspends reception.
    fn suspend(&mut self, now: Now) -> StatusCode;

    /// Clears the server's suspend reason.
    fn resume(&mut self, now: Now) -> StatusCode;

    /// Verifies and stores the envelope of the next root.
    fn offer_root(&mut self, now: Now, envelope: &[u8]) -> StatusCode;
}

/// Software components and the operations on them, for the SCOMO object.
pub trait SoftwareBackend {
    /// Returns the software components for the tree; `None` on a device without.
    fn software(&self) -> Option<Software> {
        None
    }

    /// Stores the nodes that the server announced, durably.
    fn store_announced(&mut self, _announced: Announced) {}

    /// Stores the package of a component from a Replace of `Data`.
    fn receive_component(
        &mut self,
        _now: Now,
        _subject: ComponentTarget,
        _package: &[u8],
    ) -> StatusCode {
        StatusCode::NOT_SUPPORTED
    }

    /// Starts an operation on a stored package or an installed component.
    fn change_component(
        &mut self,
        _now: Now,
        _subject: ComponentTarget,
        _correlator: Option<Correlator>,
    ) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Handles a denied access of the server to the inventory.
    fn on_inventory_denied(&mut self, _now: Now) {}
}

/// The alerts that a DM session sends: results, and the update request.
pub trait AlertQueue {
    /// Queues the result of an Exec that never became an operation; it is due at once.
    fn refuse(&mut self, now: Now, alert: FinalAlert);

    /// Returns the update request of the device or its user, for package 1.
    fn update_request(&self) -> Option<UpdateRequest> {
        None
    }

    /// Handles the status of [`Self::update_request`].
    fn on_request_status(&mut self, _now: Now, _code: StatusCode) {}

    /// Returns the results to send in this session. They stay queued until acknowledged.
    fn due_alerts(&self, now: Now) -> Vec<FinalAlert>;

    /// Handles the acknowledgement of a result.
    fn on_alert_acknowledged(&mut self, now: Now, alert: &FinalAlert);
}

/// The user, for the commands that prompt and notify.
pub trait UserPrompt {
    /// Prompts the user; `None` when the answer follows later, by
    /// [`DmClient::handle_user_answer`](client::DmClient::handle_user_answer). A device without a
    /// user answers so, and the gated commands are not run.
    fn ask_user(&mut self, _now: Now, _prompt: Prompt) -> Option<Answer> {
        Some(Answer::NoUser)
    }

    /// Handles a message of the server to the user.
    fn on_user_message(&mut self, _text: &str) {}
}

/// The stored state of the account: nonces, access control lists, and changes by its server.
pub trait AccountStore {
    /// Stores the nonce for the next credentials.
    fn store_nonce(&mut self, next_nonce: &[u8]);

    /// Returns the stored nonce; empty when there is none.
    fn nonce(&self) -> Vec<u8>;

    /// Stores the nonce of the server's next credentials.
    fn store_server_nonce(&mut self, next_nonce: &[u8]);

    /// Returns the nonce of the server's next credentials.
    fn server_nonce(&self) -> Vec<u8>;

    /// Returns the stored access control lists; empty when there are none.
    fn access_lists(&self) -> String {
        String::new()
    }

    /// Stores the access control lists, an opaque text.
    fn store_access_lists(&mut self, _lists: &str) {}

    /// Returns the changes of the account by its server.
    fn account_change(&self) -> AccountChange {
        AccountChange::default()
    }

    /// Stores the changes of the account by its server.
    fn store_account_change(&mut self, _change: AccountChange) {}

    /// Returns fresh random octets.
    fn fresh_nonce(&mut self) -> [u8; 16];
}
