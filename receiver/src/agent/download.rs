//! Packages that are received by unicast: over HTTP by a descriptor (the Download User Agent),
//! inside a DM session, or from local media. All of them are bundles, and all are processed like a
//! broadcast image once they are stored: check, hand-off, result.
//!
//! ```text
//! Exec -> descriptor -> documents verified -> chunks, each synced -> assembled -> verified -> …
//!         (HTTP alone)  PkgData: all of it, in chunks of `partial_package` ^
//! ```

use std::time::Duration;

use proto::{
    crypto::sha256,
    dm::{
        code::StatusCode,
        descriptor::{self, Descriptor, InstallStatus},
        fumo::{Operation as Exec, Phase, ResultCode},
        scomo,
    },
    ids::{Correlator, PackageId},
    time::{Mono, Now},
    trust::bundle::{self, BundleHead},
};

use super::{Agent, AgentState, NetworkRequest, Operation, persistent_state::ArmedCampaign};
use crate::store::commands::{FileName, StorageCommand};
use crate::{
    components::ComponentTarget,
    dm::{DownloadRequest, FinalAlert, ReportSettings},
    store::{ObjectLayout, StorageError},
    suspension::InstallPolicy,
    update::acceptance::{Acceptance, Accepted, CampaignOffer, Refusal},
};

/// Octets of the image that are requested at once, and synced together.
const CHUNK: u64 = 1 << 20;
/// Attempts at one range before the download is aborted.
const MAX_FAILURES: u32 = 8;
/// The longest wait between two attempts.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// Attempts at an installation notification before it is dropped.
const MAX_NOTIFICATION_ATTEMPTS: u32 = 5;
/// Installation notifications that are queued at most.
const MAX_NOTIFICATIONS: usize = 2;
/// The URL scheme of an import; no URL of a server begins so.
const FILE: &str = "file:";

/// A unicast download, as the journal stores it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Download {
    /// URL of a descriptor, or of the package. Empty when there is nothing to fetch.
    pub url: String,
    /// URL of the package, once that is known.
    pub object: Option<String>,
    /// URL that receives the outcome.
    pub notify: Option<String>,
    /// Octets of the package by its descriptor; 0 when there was none.
    pub size: u64,
    /// Offset of the image in the package.
    pub image_offset: u64,
    /// Octets of the image that are synced.
    pub fetched: u64,
}

/// A queued installation notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallNotification {
    /// The destination.
    pub url: String,
    /// The status that it carries.
    pub status: InstallStatus,
    /// Attempts so far.
    pub tries: u32,
}

/// A range to fetch: octets `from..to` of the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// `http:`, `https:`, or `file:` and a path.
    pub url: String,
    /// The first octet.
    pub from: u64,
    /// The one behind the last.
    pub to: u64,
}

/// A fetched range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its media type; empty when unknown.
    pub media_type: String,
    /// Octets of the whole, when that is known.
    pub total: Option<u64>,
    /// The octets, from `from` on; fewer when the whole is shorter.
    pub octets: Vec<u8>,
}

/// The reason why a fetch failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchError {
    /// The device does not follow this URL.
    Refused,
    /// The server's status code.
    Status(u16),
    /// No connection, no response in time, or no trust.
    Network,
}

/// The volatile state of a download.
#[derive(Debug, Default)]
pub(super) struct Fetcher {
    /// Set while a completion of the network or the storage is awaited.
    busy: bool,
    /// Set when that completion belongs to an operation that has ended.
    stale: bool,
    failures: u32,
    retry: Option<Mono>,
    /// Octets that are being stored.
    storing: u64,
    notifying: bool,
    next_notification: Option<Mono>,
    /// The reason why the package in `PkgData`, or in the `Data` of a component, is refused: the
    /// result of its Exec.
    refusal: Option<(Option<PackageId>, ResultCode)>,
    /// The outcome as an OMA DL status, where the result code is ambiguous.
    status: Option<InstallStatus>,
}

impl Fetcher {
    /// Resets the download; a completion that is still pending is dropped when it arrives.
    fn begin_anew(&mut self) {
        let busy = self.busy;
        let (notifying, next_notification) = (self.notifying, self.next_notification);
        *self = Self { busy, stale: busy, notifying, next_notification, ..Self::default() };
    }
}

impl Agent {
    /// Imports a package from local media, whose front is `head`; the user has agreed. Returns its
    /// version.
    ///
    /// # Errors
    ///
    /// [`Refusal`] by the same rules as for a campaign over DM.
    // spec: oma-003 5.5.1.5.1 (a kiosk)
    pub fn import(&mut self, now: Now, path: &str, head: &[u8]) -> Result<String, Refusal> {
        let outcome = self.state.import(now, path, head);
        self.state.commit_if_dirty();
        outcome
    }
}

impl AgentState {
    /// Handles the outcome of a fetch.
    pub(super) fn handle_fetched(&mut self, now: Now, fetched: Result<Fetched, FetchError>) {
        self.fetcher.busy = false;
        match (std::mem::take(&mut self.fetcher.stale), fetched) {
            (true, _) => self.fetch_next(now),
            (false, Ok(fetched)) => self.on_fetched(now, fetched),
            (false, Err(error)) => self.on_fetch_failed(now, error),
        }
    }

    /// Handles the outcome of a write to the image.
    pub(super) fn handle_image_written(&mut self, now: Now, outcome: Result<(), StorageError>) {
        // No completion is awaited for the image of `PkgData`.
        self.fetcher.busy = false;
        if std::mem::take(&mut self.fetcher.stale) {
            self.fetch_next(now);
        } else {
            self.on_image_written(now, outcome);
        }
    }

    /// Handles the end of a write to the image of an operation that has ended.
    pub(super) fn handle_late_image_written(&mut self, now: Now) {
        if self.fetcher.stale || !self.has_download() {
            (self.fetcher.busy, self.fetcher.stale) = (false, false);
            self.fetch_next(now);
        }
    }

    pub(super) fn has_download(&self) -> bool {
        self.persistent.download.is_some()
    }

    /// Starts the download of an Exec with an HTTP URL.
    // spec: oma-001 8.1.2.12, oma-002 fumo.download, oma-002 fumo.both (Download User Agent)
    pub(super) fn begin_download(&mut self, now: Now, request: DownloadRequest) {
        if self.is_occupied() {
            if self.persistent.correlator == request.correlator && self.has_download() {
                return;
            }
            let DownloadRequest { operation, correlator, subject, .. } = request;
            let wrong = ResultCode::WRONG_STATE;
            return self.push_alert(now, correlator, operation, wrong, subject);
        }
        self.persistent.subject = request.subject;
        self.persistent.correlator = request.correlator;
        self.persistent.operation = request.operation;
        self.reports.begin(request.report);
        self.persistent.result = None;
        self.persistent.awaiting_update_exec = false;
        self.prompts.begin_operation();
        self.persistent.download = Some(Download { url: request.url, ..Download::default() });
        self.fetcher.begin_anew();
        self.set_phase(Phase::Receiving);
        self.effects.mark_dirty();
        self.fetch_next(now);
    }

    /// Returns how much of the image is synced, per mille, while one is fetched.
    pub(super) fn download_progress(&self) -> Option<u16> {
        let download = self.persistent.download.as_ref()?;
        let octets = self.reception.layout()?.image_bytes().max(1);
        u16::try_from(download.fetched.min(octets).saturating_mul(1000) / octets).ok()
    }

    /// Requests the next missing range, unless the download is blocked.
    // spec: oma-001 8.1.2.13, oma-001 8.1.2.17, oma-001 8.1.2.18
    pub(super) fn fetch_next(&mut self, now: Now) {
        let Some(download) = &self.persistent.download else { return };
        let blocked = self.fetcher.busy || self.fetcher.retry.is_some_and(|at| at > now.mono);
        let may = self.phase() == Phase::Receiving && !self.suspension.is_active();
        if blocked || !may || (download.url.is_empty() && download.object.is_none()) {
            return;
        }
        let image = self.reception.layout().map(ObjectLayout::image_bytes);
        let fetch = match (&download.object, image) {
            (None, _) => {
                let to = u64::try_from(bundle::MAX_HEAD).unwrap_or(u64::MAX);
                Fetch { url: download.url.clone(), from: 0, to }
            }
            (Some(url), None) => {
                let to = u64::try_from(bundle::MAX_HEAD).unwrap_or(u64::MAX);
                Fetch { url: url.clone(), from: 0, to }
            }
            (Some(_), Some(_)) if !self.download_allowed() => return,
            (Some(url), Some(octets)) if download.fetched < octets => {
                let from = download.image_offset + download.fetched;
                let to = (from + CHUNK).min(download.image_offset + octets);
                Fetch { url: url.clone(), from, to }
            }
            (Some(_), Some(_)) => return self.downloaded(),
        };
        self.fetcher.retry = None;
        self.fetcher.busy = true;
        self.effects.push_after_commit(NetworkRequest::Fetch(fetch));
    }

    fn on_fetched(&mut self, now: Now, fetched: Fetched) {
        self.fetcher.failures = 0;
        let Some(download) = &self.persistent.download else { return };
        match (&download.object, self.reception.layout()) {
            (None, _) => self.on_descriptor(now, &fetched),
            (Some(_), None) => self.on_bundle_head(now, &fetched),
            (Some(_), Some(layout)) => {
                if fetched.octets.is_empty() {
                    return self.fail_download(
                        now,
                        ResultCode::CORRUPTED,
                        InstallStatus::ATTRIBUTE_MISMATCH,
                    );
                }
                let (layout, at) = (layout.clone(), download.fetched);
                self.fetcher.busy = true;
                self.fetcher.storing = u64::try_from(fetched.octets.len()).unwrap_or_default();
                self.effects.push(StorageCommand::WriteImage(layout, at, fetched.octets));
            }
        }
    }

    /// Handles the first response: a descriptor, or the package itself.
    // spec: oma-001 8.1.2.15 (the descriptor is checked before anything is fetched)
    fn on_descriptor(&mut self, now: Now, fetched: &Fetched) {
        let refused = |this: &mut Self, result, status| this.fail_download(now, result, status);
        if !fetched.media_type.starts_with(descriptor::MEDIA_TYPE) {
            let url = self.persistent.download.as_ref().map(|download| download.url.clone());
            if let Some(download) = &mut self.persistent.download {
                download.object = url;
                download.size = fetched.total.unwrap_or_default();
            }
            return self.on_bundle_head(now, fetched);
        }
        let Ok(found) = Descriptor::parse(&fetched.octets) else {
            return refused(self, ResultCode::UNDEFINED, InstallStatus::INVALID_DESCRIPTOR);
        };
        if let Some(download) = &mut self.persistent.download {
            download.notify = found.install_notify_uri.clone().filter(|url| is_http(url));
        }
        if !found.is_understood() {
            return refused(self, ResultCode::UNDEFINED, InstallStatus::INVALID_VERSION);
        }
        if !found.types.iter().any(|kind| kind == bundle::MEDIA_TYPE) {
            return refused(self, ResultCode::NOT_ACCEPTABLE, InstallStatus::NOT_ACCEPTABLE);
        }
        let limits = &self.config.limits;
        if found.size > limits.max_image_bytes.min(limits.max_storage_bytes) {
            let full = InstallStatus::INSUFFICIENT_MEMORY;
            return refused(self, ResultCode::NO_ROOM_TO_DOWNLOAD, full);
        }
        if !is_http(&found.object_uri) {
            return refused(self, ResultCode::BAD_URL, InstallStatus::LOADER_ERROR);
        }
        if let Some(download) = &mut self.persistent.download {
            download.object = Some(found.object_uri);
            download.size = found.size;
        }
        self.effects.mark_dirty();
        self.fetch_next(now);
    }

    fn on_bundle_head(&mut self, now: Now, fetched: &Fetched) {
        let announced = self.persistent.download.as_ref().map_or(0, |download| download.size);
        let Ok(head) = BundleHead::parse(&fetched.octets) else {
            let status = InstallStatus::NOT_ACCEPTABLE;
            return self.fail_download(now, ResultCode::NOT_ACCEPTABLE, status);
        };
        if announced != 0 && announced != head.bundle_octets() {
            let status = InstallStatus::ATTRIBUTE_MISMATCH;
            return self.fail_download(now, ResultCode::NOT_ACCEPTABLE, status);
        }
        match self.evaluate_bundle(&head, self.persistent.subject.as_ref()) {
            Ok(accepted) => {
                self.arm_bundle(head, accepted);
                self.set_phase(Phase::Receiving);
                self.ask_for_consent(now);
                self.fetch_next(now);
            }
            Err(Refusal { result, reason, detail }) => {
                tracing::info!(%result, reason, detail, "package refused");
                let up_to_date = result == ResultCode::UP_TO_DATE;
                let phase = if up_to_date { Phase::Idle } else { Phase::Refused };
                self.complete(now, phase, result);
            }
        }
    }

    /// Evaluates the signed documents of a bundle like those of a campaign over DM; there is no
    /// window.
    fn evaluate_bundle(
        &self,
        head: &BundleHead,
        subject: Option<&ComponentTarget>,
    ) -> Result<Accepted, Refusal> {
        let offer = CampaignOffer {
            campaign: &head.campaign,
            manifest: &head.manifest,
            windows: Vec::new(),
            carried: Some(head.component),
        };
        let accepted = match self.evaluate_offer(subject, &offer)? {
            Acceptance::Accepted(accepted) => *accepted,
            Acceptance::AlreadyInstalled(_) => {
                let detail = "this package is installed".to_owned();
                return Err(Refusal {
                    result: ResultCode::UP_TO_DATE,
                    reason: "installed",
                    detail,
                });
            }
        };
        if accepted.object.oti.parameters().transfer_length != head.image_octets {
            let detail = "the image has another length than the signed one".to_owned();
            let result = ResultCode::CORRUPTED;
            return Err(Refusal { result, reason: "mismatch", detail });
        }
        Ok(accepted)
    }

    /// Arms the device with a bundle. All files that a restart needs are written before the journal
    /// names them.
    fn arm_bundle(&mut self, head: BundleHead, accepted: Accepted) {
        let object = accepted.object;
        let pinned = ArmedCampaign {
            id: accepted.campaign.id,
            campaign: accepted.campaign.digest(),
            manifest: accepted.manifest.digest(),
            component: object.component,
            plan_header: None,
        };
        let layout = ObjectLayout::new(object.object_key, object.stored_sha256, object.oti);
        self.effects.push(StorageCommand::WriteFile(
            FileName::ours(&pinned.campaign_file()),
            head.campaign.clone(),
        ));
        self.effects.push(StorageCommand::WriteFile(
            FileName::ours(&pinned.manifest_file()),
            head.manifest.clone(),
        ));
        let class = self.device_class_of(self.persistent.subject.as_ref()).class;
        self.trust.record_accepted(class, &accepted.campaign);
        self.persistent.armed = Some(pinned);
        self.reception.arm_unicast(object);
        if let Some(download) = &mut self.persistent.download {
            download.image_offset = head.image_offset;
            download.fetched = 0;
        }
        let envelopes = [head.campaign, head.manifest];
        self.operation = Some(Operation { accepted, envelopes });
        self.effects.mark_dirty();
        self.effects.push_after_commit(StorageCommand::RemoveOtherObjects(vec![layout]));
    }

    /// Advances the download. Nothing is reported before it is synced.
    fn on_image_written(&mut self, now: Now, outcome: Result<(), StorageError>) {
        match outcome {
            Ok(()) => {
                let octets = std::mem::take(&mut self.fetcher.storing);
                if let Some(download) = &mut self.persistent.download {
                    download.fetched += octets;
                    self.effects.mark_dirty();
                }
                self.fetch_next(now);
            }
            Err(StorageError::NoSpace { .. }) => {
                self.complete(now, Phase::Failed, ResultCode::NO_ROOM_TO_DOWNLOAD);
            }
            Err(error @ StorageError::Io { .. }) => {
                tracing::warn!(%error, "package not stored");
                self.complete(now, Phase::Incomplete, ResultCode::CLIENT_ERROR);
            }
        }
    }

    fn downloaded(&mut self) {
        self.set_phase(Phase::Assembled);
        self.verify_image();
    }

    /// Requests the verification of the image.
    pub(super) fn verify_image(&mut self) {
        if let Some(layout) = self.reception.layout() {
            self.effects.push_after_commit(StorageCommand::VerifyImage(layout.clone()));
        }
    }

    fn on_fetch_failed(&mut self, now: Now, error: FetchError) {
        if !self.has_download() {
            return;
        }
        tracing::info!(?error, "fetch failed");
        let (result, status, lasting) = match error {
            FetchError::Refused | FetchError::Status(400 | 404 | 405 | 410) => {
                (ResultCode::BAD_URL, InstallStatus::LOADER_ERROR, true)
            }
            FetchError::Status(401 | 403 | 407) => {
                (ResultCode::DOWNLOAD_AUTHENTICATION, InstallStatus::LOADER_ERROR, true)
            }
            FetchError::Status(408 | 504) => {
                (ResultCode::DOWNLOAD_TIMEOUT, InstallStatus::LOSS_OF_SERVICE, false)
            }
            FetchError::Status(503) => {
                (ResultCode::DOWNLOAD_UNAVAILABLE, InstallStatus::LOSS_OF_SERVICE, false)
            }
            FetchError::Status(500..) => {
                (ResultCode::DOWNLOAD_SERVER_ERROR, InstallStatus::LOSS_OF_SERVICE, false)
            }
            FetchError::Status(_) => (ResultCode::BAD_URL, InstallStatus::LOADER_ERROR, true),
            FetchError::Network => (ResultCode::NETWORK, InstallStatus::LOSS_OF_SERVICE, false),
        };
        self.fetcher.failures += 1;
        if lasting || self.fetcher.failures >= MAX_FAILURES {
            return self.fail_download(now, result, status);
        }
        let wait = Duration::from_secs(1 << self.fetcher.failures.min(8)).min(MAX_WAIT);
        self.fetcher.retry = Some(now.mono + wait);
    }

    fn fail_download(&mut self, now: Now, result: ResultCode, status: InstallStatus) {
        self.fetcher.status = Some(status);
        self.complete(now, Phase::Incomplete, result);
    }

    /// Resumes a download after a restart.
    pub(super) fn resume_download(&mut self, now: Now) {
        match self.phase() {
            Phase::Assembled | Phase::Verified | Phase::Deferred => self.verify_image(),
            Phase::Receiving | Phase::Suspended => {
                self.ask_for_consent(now);
                self.fetch_next(now);
            }
            Phase::Idle
            | Phase::Armed
            | Phase::HandedOver
            | Phase::Confirmed
            | Phase::Failed
            | Phase::Reported
            | Phase::Missed
            | Phase::Expired
            | Phase::Disarmed
            | Phase::Refused
            | Phase::Incomplete => {}
        }
    }

    /// Continues after the verification of the image: does what the Exec requests, and no more.
    // spec: oma-001 8.1.2.19, oma-001 8.1.1.12, oma-003 5.5.1.6.5 (hand-off)
    pub(super) fn after_verification(&mut self, now: Now) {
        if self.persistent.awaiting_update_exec {
            return;
        }
        let waits = self.suspension.policy().install() == InstallPolicy::OnCommand;
        let held = match self.persistent.operation {
            Exec::Download => Some(ResultCode::SUCCESS),
            // A user who has agreed to the installation does not wait.
            Exec::DownloadAndUpdate if waits && !self.prompts.has_agreed_to_install() => {
                self.persistent.result = Some(ResultCode::DEFERRED);
                Some(ResultCode::DEFERRED)
            }
            Exec::DownloadAndUpdate | Exec::Update => None,
        };
        if let Some(result) = held {
            let operation = self.persistent.operation;
            let correlator = self.persistent.correlator.take();
            let subject = self.persistent.subject.clone();
            if let Some(own) = &mut self.persistent.subject {
                self.announced.mark_delivered(&own.node);
                own.operation = scomo::Operation::Install;
            }
            self.push_alert(now, correlator, operation, result, subject);
            self.persistent.operation = Exec::Update;
            self.persistent.awaiting_update_exec = true;
            self.effects.mark_dirty();
            return;
        }
        self.install(now);
    }

    /// Starts the installation of the stored package.
    // spec: oma-001 8.1.1.11, oma-002 fumo.update, oma-000 8.2.4.1 (Exec Update)
    pub(super) fn exec_update(
        &mut self,
        now: Now,
        subject: Option<ComponentTarget>,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        let holds = matches!(self.phase(), Phase::Verified | Phase::Deferred);
        if holds && self.persistent.awaiting_update_exec && self.concerns(subject.as_ref()) {
            self.persistent.subject = subject;
            self.persistent.correlator = correlator;
            self.persistent.operation = Exec::Update;
            (self.persistent.awaiting_update_exec, self.persistent.result) = (false, None);
            self.effects.mark_dirty();
            self.verify_image();
            return StatusCode::ACCEPTED;
        }
        if self.operation.is_some() && self.persistent.operation == Exec::Update {
            let again = correlator.is_some() && self.persistent.correlator == correlator;
            return if again { StatusCode::ACCEPTED } else { StatusCode::FORBIDDEN };
        }
        let package = subject.as_ref().map(|subject| &subject.package);
        match self.fetcher.refusal.take_if(|(refused, _)| refused.as_ref() == package) {
            Some((_, result)) => {
                self.push_alert(now, correlator, Exec::Update, result, subject);
                StatusCode::ACCEPTED
            }
            None => StatusCode::FORBIDDEN,
        }
    }

    /// Stores the package of a Replace; an empty value deletes the stored one.
    // spec: oma-001 8.1.1.10, oma-002 fumo.direct (the package by Replace)
    pub(super) fn receive_package_data(
        &mut self,
        subject: Option<ComponentTarget>,
        octets: &[u8],
    ) -> StatusCode {
        let held = self.holds_package(subject.as_ref());
        if !held && self.is_occupied() {
            return StatusCode::FORBIDDEN;
        }
        let length = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        if length > self.config.limits.max_package_bytes {
            return StatusCode::TOO_LARGE;
        }
        if length > self.config.limits.max_storage_bytes {
            return StatusCode::DEVICE_FULL;
        }
        if held {
            self.drop_package();
        }
        self.fetcher.begin_anew();
        self.discard_partial_package();
        if octets.is_empty() {
            return StatusCode::OK;
        }
        let package = subject.as_ref().map(|subject| subject.package.clone());
        if let Err(Refusal { result, reason, detail }) = self.hold_package(subject, octets) {
            tracing::info!(%result, reason, detail, "package refused");
            self.fetcher.refusal = Some((package, result));
        }
        StatusCode::OK
    }

    /// Returns whether a package waits for its Exec; another may replace it.
    pub(super) fn holds_package(&self, subject: Option<&ComponentTarget>) -> bool {
        let waits = self.persistent.awaiting_update_exec && self.phase() == Phase::Verified;
        waits && self.concerns(subject)
    }

    /// Stores a package. The image is hashed here and written before the journal records it.
    fn hold_package(
        &mut self,
        subject: Option<ComponentTarget>,
        octets: &[u8],
    ) -> Result<(), Refusal> {
        let refusal =
            |result, detail: &str| Refusal { result, reason: "package", detail: detail.to_owned() };
        let head = BundleHead::parse(octets)
            .map_err(|error| refusal(ResultCode::NOT_ACCEPTABLE, &error.to_string()))?;
        let accepted = self.evaluate_bundle(&head, subject.as_ref())?;
        let place = |octets: u64| usize::try_from(octets).unwrap_or(usize::MAX);
        let (from, length) = (place(head.image_offset), place(head.image_octets));
        let image = octets.get(from..from.saturating_add(length));
        let image = image.ok_or_else(|| refusal(ResultCode::CORRUPTED, "it is cut short"))?;
        if sha256(&[image]) != accepted.object.stored_sha256 {
            return Err(refusal(ResultCode::CORRUPTED, "the image is not the signed one"));
        }
        let whole = Download { fetched: head.image_octets, ..Download::default() };
        self.persistent.download = Some(Download::default());
        self.persistent.subject = subject;
        self.persistent.correlator = None;
        self.persistent.operation = Exec::Update;
        self.persistent.result = None;
        self.persistent.awaiting_update_exec = true;
        self.prompts.begin_operation();
        let (offset, object) = (head.image_offset, accepted.object);
        let layout = ObjectLayout::new(object.object_key, object.stored_sha256, object.oti);
        self.effects.push(StorageCommand::WriteImage(layout, 0, image.to_vec()));
        self.arm_bundle(head, accepted);
        self.persistent.download = Some(Download { image_offset: offset, ..whole });
        self.set_phase(Phase::Verified);
        Ok(())
    }

    // spec: oma-dm 11.1, oma-000 8.2.4.2.end (50 to 10 by deletion of the package)
    pub(super) fn drop_package(&mut self) {
        self.operation = None;
        self.persistent.subject = None;
        self.persistent.armed = None;
        self.persistent.download = None;
        self.persistent.awaiting_update_exec = false;
        self.reception.disarm();
        self.reception.forget_progress_except(None);
        self.set_phase(Phase::Idle);
        self.effects.mark_dirty();
        self.effects.push_after_commit(StorageCommand::RemoveOtherObjects(Vec::new()));
    }

    fn import(&mut self, now: Now, path: &str, head: &[u8]) -> Result<String, Refusal> {
        let refusal = |result, reason, detail: String| Refusal { result, reason, detail };
        if self.is_occupied() {
            let detail = format!("the device is {}", self.phase());
            return Err(refusal(ResultCode::WRONG_STATE, "state", detail));
        }
        let head = BundleHead::parse(head)
            .map_err(|error| refusal(ResultCode::NOT_ACCEPTABLE, "malformed", error.to_string()))?;
        let accepted = self.evaluate_bundle(&head, None)?;
        let version = accepted.manifest.firmware_version.clone();
        self.persistent.subject = None;
        self.persistent.correlator = None;
        self.persistent.operation = Exec::DownloadAndUpdate;
        self.reports.begin(ReportSettings::default());
        self.persistent.result = None;
        self.persistent.awaiting_update_exec = false;
        self.prompts.begin_user_operation();
        let object = Some(format!("{FILE}{path}"));
        self.persistent.download = Some(Download { object, ..Download::default() });
        self.fetcher.begin_anew();
        self.arm_bundle(head, accepted);
        self.set_phase(Phase::Receiving);
        self.fetch_next(now);
        Ok(version)
    }

    pub(super) fn push_alert(
        &mut self,
        now: Now,
        correlator: Option<Correlator>,
        operation: Exec,
        result: ResultCode,
        subject: Option<ComponentTarget>,
    ) {
        let campaign = self.persistent.armed.as_ref().map(|pin| pin.id);
        let alert = FinalAlert { correlator, operation, result, campaign, subject };
        self.reports.push(now.utc, alert);
        self.effects.mark_dirty();
    }

    /// Removes the download at the operation's end and queues its outcome for the download server.
    // spec: oma-001 8.1.2.21, oma-001 8.1.2.23
    pub(super) fn end_download(&mut self, now: Now, result: ResultCode) {
        let Some(download) = self.persistent.download.take() else { return };
        let status = self.fetcher.status.unwrap_or_else(|| install_status(result));
        self.fetcher.begin_anew();
        self.persistent.awaiting_update_exec = false;
        if let Some(url) = download.notify
            && self.persistent.install_notifications.len() < MAX_NOTIFICATIONS
        {
            self.persistent.install_notifications.push(InstallNotification {
                url,
                status,
                tries: 0,
            });
            self.effects.mark_dirty();
            self.send_install_notification(now);
        }
    }

    /// Sends the oldest installation notification when it is due.
    pub(super) fn send_install_notification(&mut self, now: Now) {
        let due = self.fetcher.next_notification.is_none_or(|at| at <= now.mono);
        let Some(notice) = self.persistent.install_notifications.first() else { return };
        if due && !self.fetcher.notifying {
            self.fetcher.notifying = true;
            self.effects.push_after_commit(NetworkRequest::Notify(
                notice.url.clone(),
                notice.status.emit(),
            ));
        }
    }

    /// Handles the outcome of an installation notification.
    pub(super) fn handle_install_notified(&mut self, now: Now, arrived: bool) {
        self.fetcher.notifying = false;
        self.fetcher.next_notification = None;
        let Some(notice) = self.persistent.install_notifications.first_mut() else { return };
        notice.tries += 1;
        if arrived || notice.tries >= MAX_NOTIFICATION_ATTEMPTS {
            self.persistent.install_notifications.remove(0);
        } else {
            self.fetcher.next_notification =
                Some(now.mono + Duration::from_secs(30 << notice.tries));
        }
        self.effects.mark_dirty();
        self.send_install_notification(now);
    }

    pub(super) fn download_timeout(&mut self, now: Now) {
        self.fetch_next(now);
        self.send_install_notification(now);
    }

    pub(super) fn download_deadline(&self) -> Option<Mono> {
        let notice = self
            .fetcher
            .next_notification
            .filter(|_| !self.persistent.install_notifications.is_empty());
        let retry = self.fetcher.retry.filter(|_| self.has_download());
        [retry, notice].into_iter().flatten().min()
    }
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

/// Returns the outcome of a download for the result of its operation.
const fn install_status(result: ResultCode) -> InstallStatus {
    match result {
        ResultCode::USER_CANCELLED => InstallStatus::USER_CANCELLED,
        ResultCode::NO_ROOM_TO_DOWNLOAD | ResultCode::NO_ROOM_TO_UPDATE => {
            InstallStatus::INSUFFICIENT_MEMORY
        }
        ResultCode::NETWORK | ResultCode::DOWNLOAD_TIMEOUT | ResultCode::DOWNLOAD_UNAVAILABLE => {
            InstallStatus::LOSS_OF_SERVICE
        }
        ResultCode::CORRUPTED => InstallStatus::ATTRIBUTE_MISMATCH,
        ResultCode::MISMATCH
        | ResultCode::BAD_SIGNATURE
        | ResultCode::NOT_ACCEPTABLE
        | ResultCode::REFUSED => InstallStatus::NOT_ACCEPTABLE,
        ResultCode::DISARMED | ResultCode::CLIENT_ERROR | ResultCode::POLICY => {
            InstallStatus::DEVICE_ABORTED
        }
        success if success.is_success() => InstallStatus::SUCCESS,
        _ => InstallStatus::LOADER_ERROR,
    }
}
