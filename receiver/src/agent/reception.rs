//! Reception, from the open window to the end of the operation: receive, decode, verify, hand off.

use proto::{
    dm::{
        fumo::{Phase, ResultCode},
        scomo::Branch,
    },
    time::Now,
};

use super::{AgentState, DeferredEffect, NetworkRequest};
use crate::store::commands::{Completion, StorageCommand, VerifyOutcome};
use crate::update::installer::InstallerCall;
use crate::{
    flute::reception::{Gate, ReceptionEvent},
    store::StorageError,
    update::installer::{CONTRACT_VERSION, InstallOutcome, InstallRequest},
};

impl AgentState {
    pub(super) fn handle_timeout(&mut self, now: Now) {
        self.reception.handle_timeout(now.mono);
        self.tune(now);
        self.end_windows(now);
    }

    /// Routes what the blocks have come to.
    pub(super) fn poll_reception(&mut self, now: Now) {
        while let Some(event) = self.reception.poll(self.reception_gate()) {
            self.handle_reception_event(now, event);
        }
    }

    /// Handles a completion of the storage.
    pub(super) fn handle_storage(&mut self, now: Now, completion: Completion) {
        match completion {
            Completion::JournalWritten(generation) => {
                self.effects.handle_journal_written(generation);
                self.poll_reception(now);
            }
            // No effect behind a failed write is executed.
            Completion::JournalFailed(_, error) | Completion::FileFailed(_, error) => {
                self.effects.fail(error);
            }
            Completion::OptionalFileWritten(outcome) => {
                self.partial_package.handle_written(&outcome);
            }
            Completion::ImageWritten(key, outcome) => {
                if self.reception.is_armed(key) {
                    self.handle_image_written(now, outcome);
                } else {
                    self.handle_late_image_written(now);
                }
            }
            Completion::ObjectsRemoved(Err(error)) => {
                tracing::warn!(%error, "failed to remove files");
            }
            Completion::FileDone(_) | Completion::ObjectsRemoved(Ok(())) => {}
            Completion::Recovered(..)
            | Completion::Reserved(..)
            | Completion::OpenFailed(..)
            | Completion::Flushed(..)
            | Completion::LogFailed(..)
            | Completion::Decoded(..)
            | Completion::ImageVerified(..) => {
                if let Some(event) = self.reception.handle_storage(now.mono, completion) {
                    self.handle_reception_event(now, event);
                }
                self.after_storage(now);
            }
        }
    }

    /// Routes an event of the reception.
    fn handle_reception_event(&mut self, now: Now, event: ReceptionEvent) {
        match event {
            ReceptionEvent::Opened { is_verified } => self.handle_opened(now, is_verified),
            ReceptionEvent::NotOpened(error) => self.handle_open_failed(now, &error),
            ReceptionEvent::SlotsFailed(error) => self.handle_slots_failed(now, error),
            ReceptionEvent::Decodable(job) => self.effects.push(StorageCommand::Decode(job)),
            ReceptionEvent::BlockDecoded(sbn) => {
                self.effects.mark_dirty();
                self.effects.run_after_commit(DeferredEffect::BlockDone(sbn));
            }
            ReceptionEvent::NoRoom => {
                self.complete(now, Phase::Failed, ResultCode::NO_ROOM_TO_DOWNLOAD);
            }
            ReceptionEvent::BlockNotDecoded | ReceptionEvent::Enough => self.tune(now),
            ReceptionEvent::Assembled => {
                let changed = self.update.assemble();
                self.mark_dirty_if(changed);
                self.verify_image();
            }
            ReceptionEvent::ImageVerified(outcome) => self.handle_image_verified(now, outcome),
            ReceptionEvent::WindowsOver { received } => {
                let (phase, result) = if self.phase() == Phase::Armed {
                    (Phase::Missed, ResultCode::MISSED)
                } else if received {
                    (Phase::Incomplete, ResultCode::INCOMPLETE)
                } else {
                    (Phase::Incomplete, ResultCode::NOTHING_RECEIVED)
                };
                self.complete(now, phase, result);
            }
        }
    }

    /// Goes on after a completion of the storage or the decoder.
    pub(super) fn after_storage(&mut self, now: Now) {
        self.commit_if_dirty();
        self.poll_reception(now);
        self.tune(now);
        self.end_windows(now);
        self.commit_if_dirty();
    }

    fn handle_opened(&mut self, now: Now, is_verified: bool) {
        if self.phase() == Phase::Assembled {
            self.verify_image();
        } else if self.update.is_verified() && is_verified {
            self.after_verification(now);
        } else {
            self.ask_for_consent(now);
            self.tune(now);
        }
    }

    fn handle_open_failed(&mut self, now: Now, error: &StorageError) {
        tracing::warn!(%error, "storage not opened");
        match error {
            StorageError::NoSpace { .. } => {
                self.complete(now, Phase::Failed, ResultCode::NO_ROOM_TO_DOWNLOAD);
            }
            // What was synced before may still be there when the campaign is armed again.
            StorageError::Io { .. } => {
                self.complete(now, Phase::Incomplete, ResultCode::CLIENT_ERROR);
            }
        }
    }

    /// Records the failed slots in the journal. A storage that fails repeatedly ends the operation;
    /// synced symbols stay.
    fn handle_slots_failed(&mut self, now: Now, error: Option<StorageError>) {
        self.effects.mark_dirty();
        let result = match error.filter(|_| self.reception_gate() != Gate::Closed) {
            Some(StorageError::NoSpace { .. }) => ResultCode::NO_ROOM_TO_DOWNLOAD,
            Some(StorageError::Io { .. }) => ResultCode::CLIENT_ERROR,
            None => return,
        };
        self.complete(now, Phase::Incomplete, result);
    }

    fn handle_image_verified(&mut self, now: Now, outcome: VerifyOutcome) {
        let by_unicast = self.has_download();
        match outcome {
            VerifyOutcome::Ready { .. } => {
                self.reception.mark_verified();
                let changed = self.update.verify();
                self.mark_dirty_if(changed);
                self.after_verification(now);
            }
            VerifyOutcome::WrongDigest { found } => {
                tracing::error!(%found, "the image is not the signed one");
                self.handle_wrong_image(now);
            }
            VerifyOutcome::WrongContent { why } => {
                tracing::error!(why, "unexpected content encoding of an image");
                self.handle_wrong_image(now);
            }
            VerifyOutcome::Failed(error) if by_unicast => {
                tracing::warn!(%error, "package not read back");
                self.complete(now, Phase::Failed, ResultCode::CLIENT_ERROR);
            }
            VerifyOutcome::Failed(error) => self.effects.fail(error),
        }
    }

    /// Decodes a wrong image once more. A unicast image is not decoded: it is fetched again when
    /// the server requests it.
    fn handle_wrong_image(&mut self, now: Now) {
        let decodes = !self.has_download();
        match decodes.then(|| self.reception.decode_again()).flatten() {
            Some(layout) => {
                let changed = self.update.receive();
                self.mark_dirty_if(changed);
                self.effects.push_after_commit(StorageCommand::Open(layout));
            }
            None => self.complete(now, Phase::Failed, ResultCode::CORRUPTED),
        }
    }

    /// Hands the image to the installer, at most once: the journal records the hand-off before it
    /// begins. A suspended device stores the image until it resumes.
    pub(super) fn install(&mut self, now: Now) {
        if self.suspension.is_active() {
            return self.tune(now);
        }
        if !self.install_allowed() {
            let changed = self.update.defer();
            self.mark_dirty_if(changed);
            self.tune(now);
            return self.ask_for_consent(now);
        }
        let Some(accepted) = self.update.accepted() else { return };
        // A pending answer from the start would be mistaken for one after the installation.
        if !self.installer.knows_what_is_installed() {
            return;
        }
        let manifest = &accepted.manifest;
        let object = accepted.object;
        let request = InstallRequest {
            contract: CONTRACT_VERSION,
            campaign: accepted.campaign.id.to_string(),
            firmware_version: manifest.firmware_version.clone(),
            component: object.component.0,
            length: object.oti.parameters().transfer_length,
            sha256: object.stored_sha256.to_string(),
            software_component: self.component_install().map(Box::new),
        };
        let Some(layout) = self.reception.layout().cloned() else { return };
        let version = manifest.firmware_version.clone();
        self.tune(now);
        let changed = self.update.hand_over();
        self.mark_dirty_if(changed);
        self.installer.start(Some(version));
        self.effects.push_after_commit(InstallerCall::Install(layout, request));
    }

    // spec: oma-001 8.1.1.13, oma-001 8.1.2.20
    pub(super) fn handle_installed(&mut self, now: Now, outcome: InstallOutcome) {
        self.installer.handle_ended();
        if self.phase() != Phase::HandedOver {
            return;
        }
        match outcome {
            InstallOutcome::Done if self.update.subject().is_some() => self.list_components(),
            InstallOutcome::Done => self.effects.push(InstallerCall::ReadVersion),
            InstallOutcome::RebootNeeded => {
                self.installer.request_reboot();
                self.effects.mark_dirty();
            }
            InstallOutcome::Failed => {
                self.complete(now, Phase::Failed, ResultCode::UPDATE_FAILED);
            }
            InstallOutcome::NotRun => {
                self.complete(now, Phase::Failed, ResultCode::HAND_OFF_FAILED);
            }
        }
    }

    /// Compares the installed version with the expected one; the installer's exit code is not
    /// trusted.
    pub(super) fn handle_version(&mut self, now: Now, version: Option<String>) {
        let is_first = self.installer.record_version(version);
        if is_first && self.update.is_verified() {
            return self.after_verification(now);
        }
        let is_firmware = self.update.subject().is_none();
        if self.phase() != Phase::HandedOver || self.installer.awaits_reboot() || !is_firmware {
            return;
        }
        if self.installer.has_expected_firmware() {
            self.remember_installed();
            self.complete(now, Phase::Confirmed, ResultCode::SUCCESS);
        } else {
            self.complete(now, Phase::Failed, ResultCode::UPDATE_FAILED);
        }
    }

    pub(super) fn remember_installed(&mut self) {
        let class = self.device_class_of(self.update.subject()).class;
        let Some(accepted) = self.update.accepted() else { return };
        self.trust.record_installed(class, &accepted.manifest);
    }

    // spec: oma-001 8.1.2.22
    /// Ends the operation with a result, which is scheduled for its report.
    pub(super) fn complete(&mut self, now: Now, phase: Phase, result: ResultCode) {
        tracing::info!(%phase, %result, text = result.text(), "operation ended");
        self.notify_result(now, phase, result);
        let has_download = self.has_download();
        self.end_download(now, result);
        let had_image = has_download || self.update.is_armed();
        let alert = self.update.end(phase, result);
        match (&alert.subject, alert.campaign) {
            // The image is removed with the operation, and a removed component may be installed
            // again.
            (Some(subject), _) => {
                self.announced.remove(Branch::Delivered, &subject.node);
            }
            (None, Some(campaign)) if super::ends_well(result) => {
                self.trust.record_finished(campaign);
            }
            (None, _) => {}
        }
        self.reports.schedule(now.utc, alert, &mut self.rng);
        self.installer.end_operation();
        self.suspension.clear();
        // Symbols of an incomplete image are reused when it is broadcast again.
        let kept = self.reception.disarm();
        let kept = kept.filter(|_| matches!(phase, Phase::Incomplete | Phase::Missed));
        self.effects.mark_dirty();
        self.tune(now);
        if had_image {
            self.reception.forget_progress_except(kept.as_ref());
            self.effects
                .push_after_commit(StorageCommand::RemoveOtherObjects(Vec::from_iter(kept)));
        }
    }

    /// Joins and leaves channels until they are those that the open windows need.
    pub(super) fn tune(&mut self, now: Now) {
        let Some(change) = self.reception.tune(now.mono, self.reception_gate()) else { return };
        let changed = change.is_tuned_in && self.update.tune_in();
        self.mark_dirty_if(changed);
        change.left.into_iter().for_each(|left| self.effects.push(NetworkRequest::Leave(left)));
        for joined in change.joined {
            self.effects.push_after_commit(NetworkRequest::Join(joined));
        }
    }

    /// Resumes reception or download.
    pub(super) fn resume_reception(&mut self, now: Now) {
        self.tune(now);
        self.fetch_next(now);
    }

    fn reception_gate(&self) -> Gate {
        let is_open = || !self.suspension.is_active() && self.download_allowed();
        match self.phase() {
            Phase::Armed | Phase::Receiving if is_open() => Gate::Open,
            Phase::Armed | Phase::Receiving | Phase::Suspended => Gate::Paused,
            Phase::Idle
            | Phase::Assembled
            | Phase::Verified
            | Phase::Deferred
            | Phase::HandedOver
            | Phase::Confirmed
            | Phase::Failed
            | Phase::Reported
            | Phase::Missed
            | Phase::Expired
            | Phase::Disarmed
            | Phase::Refused
            | Phase::Incomplete => Gate::Closed,
        }
    }

    fn end_windows(&mut self, now: Now) {
        if let Some(event) = self.reception.end_windows(now.mono, self.reception_gate()) {
            self.handle_reception_event(now, event);
        }
    }
}
