//! Device management: the session with the server, the tree it sees, and the reports it gets.
//!
//! | module | holds |
//! | --- | --- |
//! | [`client`] | [`DmClient`](client::DmClient): one DM session as a core without I/O |
//! | [`scomo`] | the SCOMO object: downloads, delivered packages, installed components |
//! | [`tree`] | DevInfo, DevDetail, DMAcc and the FUMO object, addressed by URI |
//! | [`fumo`] | the FUMO object with `Ext/Broadcast`: what is staged until its Exec |
//! | [`notified`] | notifications: which ones count |
//! | [`report`] | the queue of final alerts and the slot in which each is sent |
//! | [`backoff`] | when to try again |
//!
//! The agent implements [`Device`]; nothing here knows of sockets, files or clocks.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use proto::{
    dm::{
        auth::{AuthKind, Secret},
        code::StatusCode,
        encoding::Encoding,
        fumo::{
            HeldPackage, Operation, OperationResult, PackageData, Phase, ResultCode, UpdateRequest,
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
    components::{Announced, Software, Subject},
    sensors::Policy,
};

mod account;
pub mod backoff;
pub mod client;
pub mod fumo;
pub mod notified;
pub mod report;
pub mod scomo;
pub mod tree;

#[cfg(test)]
mod fake;

/// Who the device is and whom it talks to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What DevInfo and DevDetail say.
    pub identity: Identity,
    /// The one account.
    pub account: Account,
    /// The place of the FUMO object, `./FwUpdate/Main` by default.
    pub object: NodeUri,
}

/// What DevInfo and DevDetail say, apart from the firmware version.
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
    /// Returns an identity with plain values for what is not enrolled.
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

/// The management server and the proof that the device owes it.
#[derive(Clone)]
pub struct Account {
    /// Where messages go, `https://…` or `http://…`.
    pub url: String,
    /// The server's identifier.
    pub server_id: String,
    /// The form of the messages.
    pub encoding: Encoding,
    /// What either side proves itself by to the other; a challenge may ask for another.
    pub auth: AuthKind,
    /// The user name of the device.
    pub user: String,
    /// What is left of the password.
    pub secret: Secret,
    /// What the server proves itself by. Without it notifications are not believed, and DM
    /// messages for the sake of TLS alone.
    pub server: Option<ServerProof>,
}

impl Account {
    /// Returns the account as its server has changed it.
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

/// What the account's server has changed of the account: it counts from the next DM session on.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// Where messages go.
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

/// What the server proves itself by.
#[derive(Clone)]
pub struct ServerProof {
    /// What is left of the server's password.
    pub secret: Secret,
    /// The nonce of its first proof.
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

/// All that a DM session staged for one Exec. Nothing in it is checked beyond its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmRequest {
    /// What the Exec asked for.
    pub operation: Operation,
    /// The tune-in URL; its scheme is `fumocast:`.
    pub url: String,
    /// The envelope of the campaign; empty when the session wrote none.
    pub campaign: Vec<u8>,
    /// The envelope of the manifest; empty when the session wrote none.
    pub manifest: Vec<u8>,
    /// Plan headers by component.
    pub plan_headers: BTreeMap<ComponentId, Vec<u8>>,
    /// The server's time at this moment.
    pub server_now: Option<Utc>,
    /// Opening of the first window by the server's time.
    pub opens: Option<Utc>,
    /// Closing of the first window by the server's time.
    pub closes: Option<Utc>,
    /// Further windows, `URL opens closes` each.
    pub sessions: Vec<String>,
    /// Base URL of the repair, `https://…`, or `http://…` when the server itself is reached so.
    pub repair: Option<String>,
    /// When and whether the result is to be reported.
    pub report: ReportSettings,
    /// What the final alert must carry.
    pub correlator: Option<Correlator>,
    /// The software component that it is for; `None` for firmware.
    pub subject: Option<Subject>,
}

/// What an Exec asks to be fetched by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadRequest {
    /// What the Exec asked for.
    pub operation: Operation,
    /// A descriptor or a package, `http:` or `https:`.
    pub url: String,
    /// When and whether the result is to be reported.
    pub report: ReportSettings,
    /// What the final alert must carry.
    pub correlator: Option<Correlator>,
    /// The software component that it is for; `None` for firmware.
    pub subject: Option<Subject>,
}

/// When and whether a result is to be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReportSettings {
    /// The span over which the devices' reports are spread.
    pub spread: Duration,
    /// No report before this moment.
    pub not_before: Option<Utc>,
    /// Which results are reported.
    pub filter: ReportFilter,
}

/// Which results are reported; as text `all`, `failures` or `sample N/M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ReportFilter {
    /// Every one.
    #[default]
    All,
    /// Those that are no success.
    Failures,
    /// Failures, and of the successes those of `take` devices in `of`, chosen by lot.
    Sample {
        /// How many report.
        take: u32,
        /// Of how many; at least 1.
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

/// The end of an operation, on its way to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalAlert {
    /// The correlator of the Exec; absent if and only if the Exec had none.
    pub correlator: Option<Correlator>,
    /// What ended.
    pub operation: Operation,
    /// How it ended.
    pub result: ResultCode,
    /// The campaign, when one was accepted; for the device's own books, it is not sent.
    pub campaign: Option<CampaignId>,
    /// The software component that it is about; `None` for firmware.
    pub subject: Option<Subject>,
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

/// What the tree shows of the device at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceView {
    /// The version that the installer reads back; never one that a campaign names.
    pub firmware_version: String,
    /// The true phase.
    pub phase: Phase,
    /// Whether the package's data is still there, which decides some FUMO states.
    pub data: PackageData,
    /// Why the device waits or refused.
    pub reasons: Vec<String>,
    /// Synced symbols per mille.
    pub progress_per_mille: u16,
    /// Version of the stored root; 0 when there is none.
    pub root_version: u64,
    /// Name of the package that is worked on.
    pub package_name: Option<String>,
    /// Version of the package that is worked on.
    pub package_version: Option<String>,
    /// What makes the device rest.
    pub policy: Policy,
    /// What the planner must respect.
    pub limits: DeviceLimits,
}

/// What the planner must respect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Source symbols that a block may have.
    pub max_block_symbols: u32,
    /// KiB of memory for the decoder.
    pub max_memory_kib: u64,
    /// KiB of storage for one reception.
    pub max_storage_kib: u64,
    /// Encodings that the device undoes, `none` among them.
    pub encodings: Vec<String>,
}

/// A piece of a package that comes over several messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// The first of a whole package.
    First,
    /// The first of the rest of what is held.
    Rest,
    /// The next one of either.
    Next,
}

/// What the DM session does to the device, and asks it.
///
/// A call changes the device's state at once; the shell sends the message that a
/// [`Step::SendDmMessage`](client::Step::Post) holds only after that state is durable.
pub trait Device {
    /// Returns what the tree shows.
    fn view(&self) -> DeviceView;

    /// Judges and pins a campaign. The server reads 202 in any case; a refusal is queued as a
    /// [`FinalAlert`] that is due at once.
    fn arm(&mut self, now: Now, request: ArmRequest);

    /// Begins a download by HTTP. The server reads 202 in any case; a device that has no download
    /// user agent answers like one that does not know the URL.
    fn download(&mut self, now: Now, request: DownloadRequest) {
        let DownloadRequest { operation, correlator, subject, .. } = request;
        let (result, campaign) = (ResultCode::BAD_URL, None);
        self.refuse(now, FinalAlert { correlator, operation, result, campaign, subject });
    }

    /// Takes the package that a Replace of `PkgData` brought; without octets the held one goes.
    fn take_package(&mut self, _now: Now, _package: &[u8]) -> StatusCode {
        StatusCode::NOT_SUPPORTED
    }

    /// Keeps what a piece has brought of a package, so that a session that breaks off costs no more
    /// than what was on its way. The piece is answered once it is durable, as far as it was kept.
    fn keep_piece(&mut self, _piece: Piece, _octets: &[u8]) {}

    /// Returns what is held of a package of which only pieces came.
    fn held_package(&self) -> Option<HeldPackage> {
        None
    }

    /// Takes the rest of the package of which that is the front.
    fn take_rest(&mut self, _now: Now, _rest: &[u8]) -> StatusCode {
        StatusCode::NOT_SUPPORTED
    }

    /// Starts the installation of the package that is held (Exec of `Update`).
    fn update(&mut self, _now: Now, _correlator: Option<Correlator>) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Returns what the tree shows of the software components; `None` on a device that has none.
    fn software(&self) -> Option<Software> {
        None
    }

    /// Keeps what the server has announced, durably.
    fn keep_announced(&mut self, _announced: Announced) {}

    /// Takes the package of a component that a Replace of `Data` brought.
    fn take_component(&mut self, _now: Now, _subject: Subject, _package: &[u8]) -> StatusCode {
        StatusCode::NOT_SUPPORTED
    }

    /// Starts an operation on a package that is held, or on a component that is installed.
    fn change_component(
        &mut self,
        _now: Now,
        _subject: Subject,
        _correlator: Option<Correlator>,
    ) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Takes note that the server was not let see the inventory.
    fn inventory_was_denied(&mut self, _now: Now) {}

    /// Queues the result of an Exec that never became an operation; it is due at once.
    fn refuse(&mut self, now: Now, alert: FinalAlert);

    /// Forgets the campaign.
    fn disarm(&mut self, now: Now) -> StatusCode;

    /// Sets what makes the device rest, durably.
    fn set_policy(&mut self, _now: Now, _node: &str, _value: &str) -> StatusCode {
        StatusCode::NOT_SUPPORTED
    }

    /// Stops receiving and keeps what is held.
    fn suspend(&mut self, now: Now) -> StatusCode;

    /// Takes the server's reason to suspend away.
    fn resume(&mut self, now: Now) -> StatusCode;

    /// Judges and stores the envelope of the next root.
    fn offer_root(&mut self, now: Now, envelope: &[u8]) -> StatusCode;

    /// Asks the user; `None` when the answer comes later, by
    /// [`DmClient::handle_user_answer`](client::DmClient::handle_user_answer). A device without a
    /// user says so, and what the question gates does not happen.
    fn ask_user(&mut self, _now: Now, _prompt: Prompt) -> Option<Answer> {
        Some(Answer::NoUser)
    }

    /// Takes note that the server has sent the user something in this session.
    fn user_was_addressed(&mut self, _text: &str) {}

    /// Returns what the device or its user asks the server for, to be sent in package 1.
    fn update_request(&self) -> Option<UpdateRequest> {
        None
    }

    /// Takes the server's answer to what [`Self::update_request`] asks for.
    fn request_answered(&mut self, _now: Now, _code: StatusCode) {}

    /// Returns the results to send in this session. They stay queued until acknowledged.
    fn due_alerts(&self, now: Now) -> Vec<FinalAlert>;

    /// Takes note that the server has a result.
    fn alert_acknowledged(&mut self, now: Now, alert: &FinalAlert);

    /// Stores the nonce for the next credentials.
    fn keep_nonce(&mut self, next_nonce: &[u8]);

    /// Returns the stored nonce; empty when there is none.
    fn nonce(&self) -> Vec<u8>;

    /// Stores the nonce that the server's next proof must be made with.
    fn keep_server_nonce(&mut self, next_nonce: &[u8]);

    /// Returns the nonce that the server's next proof must be made with.
    fn server_nonce(&self) -> Vec<u8>;

    /// Returns the access control lists that were kept; empty when there are none.
    fn access_lists(&self) -> String {
        String::new()
    }

    /// Stores access control lists, as a text that is handed back.
    fn keep_access_lists(&mut self, _lists: &str) {}

    /// Returns what the account's server has changed of the account.
    fn account_change(&self) -> AccountChange {
        AccountChange::default()
    }

    /// Stores what the account's server has changed of the account.
    fn keep_account_change(&mut self, _change: AccountChange) {}

    /// Returns octets that were never used before and that nobody can guess.
    fn fresh_nonce(&mut self) -> [u8; 16];
}
