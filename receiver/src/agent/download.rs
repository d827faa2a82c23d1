//! The routes of packages that are received by unicast.

use proto::{
    crypto::sha256,
    dm::{
        code::StatusCode,
        fumo::{
            Operation::{self, Update},
            Phase, ResultCode,
        },
    },
    ids::Correlator,
    time::Now,
    trust::bundle::BundleHead,
};

use super::{Agent, AgentState, NetworkRequest};
use crate::store::commands::{FileName, StorageCommand};
use crate::{
    components::ComponentTarget,
    dm::{ChunkPosition, DownloadRequest, ReportSettings},
    store::{ObjectLayout, StorageError},
    suspension::InstallPolicy,
    update::{
        acceptance::{Acceptance, Accepted, CampaignOffer, Refusal},
        download::{DownloadEvent, DownloadStep, WantedImage},
        fetch::{FetchError, Fetched},
        operation::{ArmedCampaign, Exec},
        partial_package::StoredChunk,
    },
};

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
    /// Handles the outcome of a write to the image.
    pub(super) fn handle_image_written(&mut self, now: Now, outcome: Result<(), StorageError>) {
        let event = self.download.handle_image_written(outcome);
        self.handle_download_event(now, event);
    }

    /// Handles the end of a write to the image of an operation that has ended.
    pub(super) fn handle_late_image_written(&mut self, now: Now) {
        let event = self.download.handle_late_image_written();
        self.handle_download_event(now, event);
    }

    /// Handles the outcome of an installation notification.
    pub(super) fn handle_install_notified(&mut self, now: Now, arrived: bool) {
        if self.download.handle_notified(now.mono, arrived) {
            self.effects.mark_dirty();
            self.send_install_notification(now);
        }
    }

    pub(super) fn has_download(&self) -> bool {
        self.download.is_active()
    }

    /// Starts the download of an Exec with an HTTP URL.
    // spec: oma-001 8.1.2.12, oma-002 fumo.download, oma-002 fumo.both (Download User Agent)
    pub(super) fn begin_download(&mut self, now: Now, request: DownloadRequest) {
        if self.is_occupied() {
            if self.update.is_of(request.correlator.as_ref()) && self.has_download() {
                return;
            }
            let DownloadRequest { operation, correlator, subject, .. } = request;
            let exec = Exec { operation, correlator, subject };
            return self.push_alert(now, exec, ResultCode::WRONG_STATE);
        }
        let DownloadRequest { operation, correlator, subject, .. } = request;
        self.update.begin_at_once(Exec { operation, correlator, subject });
        self.reports.begin(request.report);
        self.prompts.begin_operation();
        self.download.begin(request.url);
        self.update.receive();
        self.effects.mark_dirty();
        self.fetch_next(now);
    }

    /// Returns how much of the image is synced, per mille, while one is fetched.
    pub(super) fn download_progress(&self) -> Option<u16> {
        self.download.progress_per_mille(self.reception.layout()?.image_bytes())
    }

    fn wanted_image(&self) -> WantedImage {
        match self.reception.layout() {
            None => WantedImage::Unknown,
            Some(_) if !self.download_allowed() => WantedImage::AwaitsConsent,
            Some(layout) => WantedImage::Bytes(layout.image_bytes()),
        }
    }

    /// Requests the next missing range, unless the download is blocked.
    pub(super) fn fetch_next(&mut self, now: Now) {
        if self.phase() != Phase::Receiving || self.suspension.is_active() {
            return;
        }
        match self.download.next_step(now.mono, self.wanted_image()) {
            Some(DownloadStep::Fetch(fetch)) => {
                self.effects.push_after_commit(NetworkRequest::Fetch(fetch));
            }
            Some(DownloadStep::Complete) => {
                let changed = self.update.assemble();
                self.mark_dirty_if(changed);
                self.verify_image();
            }
            None => {}
        }
    }

    pub(super) fn handle_fetched(&mut self, now: Now, fetched: Result<Fetched, FetchError>) {
        let limits = &self.config.limits;
        let room = limits.max_image_bytes.min(limits.max_storage_bytes);
        let event = self.download.handle_fetched(now.mono, fetched, self.wanted_image(), room);
        self.handle_download_event(now, event);
    }

    fn handle_download_event(&mut self, now: Now, event: DownloadEvent) {
        match event {
            DownloadEvent::Nothing => {}
            DownloadEvent::Ready => self.fetch_next(now),
            DownloadEvent::Advanced => {
                self.effects.mark_dirty();
                self.fetch_next(now);
            }
            DownloadEvent::Head(head) => self.handle_bundle_head(now, head),
            DownloadEvent::Image(at, octets) => {
                if let Some(layout) = self.reception.layout() {
                    self.effects.push(StorageCommand::WriteImage(layout.clone(), at, octets));
                }
            }
            DownloadEvent::Failed(phase, result) => self.complete(now, phase, result),
        }
    }

    fn handle_bundle_head(&mut self, now: Now, head: BundleHead) {
        match self.evaluate_bundle(&head, self.update.subject()) {
            Ok(accepted) => {
                self.arm_bundle(head, accepted);
                let changed = self.update.receive();
                self.mark_dirty_if(changed);
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
        let armed = ArmedCampaign::new(&accepted, None);
        let layout = ObjectLayout::new(object.object_key, object.stored_sha256, object.oti);
        self.effects.push(StorageCommand::WriteFile(
            FileName::ours(&armed.campaign_file()),
            head.campaign.clone(),
        ));
        self.effects.push(StorageCommand::WriteFile(
            FileName::ours(&armed.manifest_file()),
            head.manifest.clone(),
        ));
        let class = self.device_class_of(self.update.subject()).class;
        self.trust.record_accepted(class, &accepted.campaign);
        self.reception.arm_unicast(object);
        self.download.record_head(head.image_offset);
        let envelopes = [head.campaign, head.manifest];
        self.update.arm(armed, accepted, envelopes);
        self.effects.mark_dirty();
        self.effects.push_after_commit(StorageCommand::RemoveOtherObjects(vec![layout]));
    }

    /// Requests the verification of the image.
    pub(super) fn verify_image(&mut self) {
        if let Some(layout) = self.reception.layout() {
            self.effects.push_after_commit(StorageCommand::VerifyImage(layout.clone()));
        }
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
        if self.update.awaits_exec() {
            return;
        }
        // A user who has agreed to the installation does not wait.
        let waits = self.suspension.policy().install() == InstallPolicy::OnCommand
            && !self.prompts.has_agreed_to_install();
        if let Some(result) = self.update.held_result(waits) {
            if let Some(own) = self.update.subject() {
                self.announced.mark_delivered(&own.node);
            }
            let alert = self.update.hold(result);
            self.reports.push(now.utc, alert);
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
        let is_held = self.update.is_verified() && self.update.awaits_exec();
        if is_held && self.update.concerns(subject.as_ref()) {
            self.update.begin_at_once(Exec { operation: Update, correlator, subject });
            self.effects.mark_dirty();
            self.verify_image();
            return StatusCode::ACCEPTED;
        }
        if self.update.is_update() {
            let again = self.update.is_repeated_by(correlator.as_ref());
            return if again { StatusCode::ACCEPTED } else { StatusCode::FORBIDDEN };
        }
        let package = subject.as_ref().map(|subject| &subject.package);
        match self.download.take_refusal(package) {
            Some(result) => {
                self.push_alert(now, Exec { operation: Update, correlator, subject }, result);
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
        self.download.begin_anew();
        for name in self.partial_package.discard() {
            self.effects.push_after_commit(StorageCommand::RemoveFile(FileName::ours(&name)));
        }
        if octets.is_empty() {
            return StatusCode::OK;
        }
        let package = subject.as_ref().map(|subject| subject.package.clone());
        if let Err(Refusal { result, reason, detail }) = self.hold_package(subject, octets) {
            tracing::info!(%result, reason, detail, "package refused");
            self.download.refuse(package, result);
        }
        StatusCode::OK
    }

    /// Returns whether a package waits for its Exec; another may replace it.
    pub(super) fn holds_package(&self, subject: Option<&ComponentTarget>) -> bool {
        self.update.is_held() && self.update.concerns(subject)
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
        self.update.begin_held(subject);
        self.prompts.begin_operation();
        let (image_offset, object) = (head.image_offset, accepted.object);
        let image_octets = head.image_octets;
        let layout = ObjectLayout::new(object.object_key, object.stored_sha256, object.oti);
        self.effects.push(StorageCommand::WriteImage(layout, 0, image.to_vec()));
        self.arm_bundle(head, accepted);
        self.download.hold(image_offset, image_octets);
        let changed = self.update.verify();
        self.mark_dirty_if(changed);
        Ok(())
    }

    pub(super) fn drop_package(&mut self) {
        self.update.drop_package();
        self.download.drop_package();
        self.reception.disarm();
        self.reception.forget_progress_except(None);
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
        let operation = Operation::DownloadAndUpdate;
        self.update.begin_at_once(Exec { operation, correlator: None, subject: None });
        self.reports.begin(ReportSettings::default());
        self.prompts.begin_user_operation();
        self.download.begin_import(path);
        self.arm_bundle(head, accepted);
        let changed = self.update.receive();
        self.mark_dirty_if(changed);
        self.fetch_next(now);
        Ok(version)
    }

    pub(super) fn push_alert(&mut self, now: Now, exec: Exec, result: ResultCode) {
        self.reports.push(now.utc, self.update.alert(exec, result));
        self.effects.mark_dirty();
    }

    /// Removes the download at the operation's end and queues its outcome for the download server.
    pub(super) fn end_download(&mut self, now: Now, result: ResultCode) {
        if !self.has_download() {
            return;
        }
        self.update.end_download();
        if self.download.end(result) {
            self.effects.mark_dirty();
            self.send_install_notification(now);
        }
    }

    /// Sends the oldest installation notification when it is due.
    pub(super) fn send_install_notification(&mut self, now: Now) {
        if let Some((url, body)) = self.download.next_notification(now.mono) {
            self.effects.push_after_commit(NetworkRequest::Notify(url, body));
        }
    }

    /// Stores a chunk of a package, unless the package would be refused.
    pub(super) fn store_chunk_of_package(&mut self, position: ChunkPosition, octets: &[u8]) {
        if self.is_occupied() && !self.holds_package(None) {
            return self.partial_package.drop_chunk();
        }
        let limits = &self.config.limits;
        let limit = limits.max_package_bytes.min(limits.max_storage_bytes);
        let StoredChunk { removed, written } =
            self.partial_package.store_chunk(position, octets, limit);
        for name in removed {
            self.effects.push_after_commit(StorageCommand::RemoveFile(FileName::ours(&name)));
        }
        if let Some((name, file)) = written {
            self.effects.push(StorageCommand::WriteOptionalFile(FileName::ours(&name), file));
            // The status of the chunk follows a write of the journal, and that follows this one.
            self.effects.mark_dirty();
        }
    }

    /// Appends the remainder to the synced part and stores the package.
    pub(super) fn receive_remainder_of_package(&mut self, remainder: &[u8]) -> StatusCode {
        match self.partial_package.with_remainder(remainder) {
            Some(package) => self.receive_package_data(None, &package),
            None => StatusCode::NOT_FOUND,
        }
    }

    pub(super) fn download_timeout(&mut self, now: Now) {
        self.fetch_next(now);
        self.send_install_notification(now);
    }
}
