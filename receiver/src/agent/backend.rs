//! The device as the DM session sees it.

use proto::{
    dm::{
        code::StatusCode,
        fumo::{PackagePrefix, Phase, ResultCode, UpdateRequest},
        ui::{Answer, Prompt},
    },
    ids::Correlator,
    time::Now,
};

use super::{
    arming::{arm, install_root, refuse},
    operations::{
        apply_policy, ask, complete, handle_prompt_event, has_download, is_occupied, package_data,
        reevaluate, resume_from, suspend_for,
    },
    owners::Owners,
    packages::{
        begin_change, begin_download, download_progress, exec_update, receive_package_data,
        receive_remainder_of_package, software_view, store_chunk_of_package,
    },
    status::all_reasons,
};
use crate::{
    components::{Announced, ComponentTarget, Software},
    dm::{
        AccountChange, AccountStore, AlertQueue, ArmRequest, ChunkPosition, DeviceLimits,
        DeviceView, DownloadRequest, FinalAlert, FirmwareBackend, SoftwareBackend, UserPrompt,
    },
    suspension::SuspendReason,
};

impl FirmwareBackend for Owners {
    fn view(&self) -> DeviceView {
        let manifest = self.update.accepted().map(|accepted| &accepted.manifest);
        let progress = download_progress(self);
        let progress = progress.unwrap_or_else(|| self.reception.progress_per_mille());
        let limits = self.config.limits;
        DeviceView {
            firmware_version: self.installer.firmware_version().unwrap_or_default().to_owned(),
            phase: self.update.phase(),
            data: package_data(self),
            reasons: all_reasons(self),
            progress_per_mille: progress,
            root_version: self.trust.root_version(),
            package_name: self.update.armed().map(|armed| armed.id().to_string()),
            package_version: manifest.map(|manifest| manifest.firmware_version.clone()),
            policy: self
                .suspension
                .policy()
                .requiring(self.prompts.required(self.suspension.policy().consent())),
            limits: DeviceLimits {
                max_block_symbols: limits.max_block_symbols,
                max_memory_kib: limits.max_memory_bytes / 1024,
                max_storage_kib: limits.max_storage_bytes / 1024,
                encodings: vec!["none".to_owned()],
            },
        }
    }

    fn arm(&mut self, now: Now, request: ArmRequest) {
        arm(self, now, request);
    }

    fn download(&mut self, now: Now, request: DownloadRequest) {
        begin_download(self, now, request);
    }

    fn receive_package(&mut self, _now: Now, package: &[u8]) -> StatusCode {
        receive_package_data(self, None, package)
    }

    fn store_chunk(&mut self, piece: ChunkPosition, octets: &[u8]) {
        store_chunk_of_package(self, piece, octets);
    }

    fn partial_package(&self) -> Option<PackagePrefix> {
        self.partial_package.held()
    }

    fn receive_remainder(&mut self, _now: Now, remainder: &[u8]) -> StatusCode {
        receive_remainder_of_package(self, remainder)
    }

    fn update(&mut self, now: Now, correlator: Option<Correlator>) -> StatusCode {
        exec_update(self, now, None, correlator)
    }

    fn disarm(&mut self, now: Now) -> StatusCode {
        if self.update.phase() == Phase::HandedOver {
            return StatusCode::FAILED;
        }
        if self.update.is_armed() || has_download(self) {
            complete(self, now, Phase::Disarmed, ResultCode::DISARMED);
        }
        StatusCode::OK
    }

    fn set_policy(&mut self, now: Now, node: &str, value: &str) -> StatusCode {
        let user = &self.config.user;
        if let Err(code) = self.suspension.set_policy(node, value, user.consent, &user.front) {
            return code;
        }
        self.effects.mark_dirty();
        reevaluate(self, now);
        apply_policy(self, now);
        StatusCode::OK
    }

    fn suspend(&mut self, now: Now) -> StatusCode {
        suspend_for(self, now, SuspendReason::Server);
        StatusCode::OK
    }

    fn resume(&mut self, now: Now) -> StatusCode {
        resume_from(self, now, SuspendReason::Server);
        StatusCode::OK
    }

    fn offer_root(&mut self, now: Now, envelope: &[u8]) -> StatusCode {
        // A running installation is not verified again.
        if self.update.phase() == Phase::HandedOver {
            return StatusCode::FORBIDDEN;
        }
        match self.trust.successor(envelope) {
            Ok(root) => {
                install_root(self, now, root, envelope);
                StatusCode::OK
            }
            Err(error) => {
                tracing::info!(%error, "root refused");
                StatusCode::FAILED
            }
        }
    }
}

impl SoftwareBackend for Owners {
    fn software(&self) -> Option<Software> {
        software_view(self)
    }

    fn store_announced(&mut self, announced: Announced) {
        self.announced = announced;
        self.effects.mark_dirty();
    }

    fn receive_component(
        &mut self,
        _now: Now,
        subject: ComponentTarget,
        package: &[u8],
    ) -> StatusCode {
        receive_package_data(self, Some(subject), package)
    }

    fn change_component(
        &mut self,
        now: Now,
        subject: ComponentTarget,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        begin_change(self, now, subject, correlator)
    }

    fn on_inventory_denied(&mut self, now: Now) {
        let access = self.installer.inventory_access();
        let event = self.prompts.ask_for_inventory_consent(now.mono, access);
        handle_prompt_event(self, now, event);
    }
}

impl AlertQueue for Owners {
    fn refuse(&mut self, now: Now, alert: FinalAlert) {
        refuse(self, now, alert);
    }

    fn update_request(&self) -> Option<UpdateRequest> {
        self.dm.update_request.unanswered()
    }

    fn on_request_status(&mut self, _now: Now, code: StatusCode) {
        self.dm.update_request.record_status(code);
    }

    fn due_alerts(&self, now: Now) -> Vec<FinalAlert> {
        self.dm.reports.due(now.utc)
    }

    fn on_alert_acknowledged(&mut self, _now: Now, alert: &FinalAlert) {
        if !self.dm.reports.acknowledge(alert) {
            return;
        }
        self.effects.mark_dirty();
        // The server has the result; the device is idle again.
        if self.dm.reports.waiting() == 0 && !is_occupied(self) {
            self.update.acknowledge();
        }
    }
}

impl UserPrompt for Owners {
    fn on_user_message(&mut self, text: &str) {
        self.dm.update_request.record_user_notified(text);
    }

    fn ask_user(&mut self, now: Now, prompt: Prompt) -> Option<Answer> {
        ask(self, now, prompt)
    }
}

impl AccountStore for Owners {
    fn store_nonce(&mut self, next_nonce: &[u8]) {
        self.dm.account.store_nonce(next_nonce);
        self.effects.mark_dirty();
    }

    fn nonce(&self) -> Vec<u8> {
        self.dm.account.nonce().to_vec()
    }

    fn store_server_nonce(&mut self, next_nonce: &[u8]) {
        self.dm.account.store_server_nonce(next_nonce);
        self.effects.mark_dirty();
    }

    fn server_nonce(&self) -> Vec<u8> {
        self.dm.account.server_nonce().to_vec()
    }

    fn access_lists(&self) -> String {
        self.dm.account.access_lists().to_owned()
    }

    fn store_access_lists(&mut self, lists: &str) {
        self.dm.account.store_access_lists(lists);
        self.effects.mark_dirty();
    }

    fn account_change(&self) -> AccountChange {
        self.dm.account.change().clone()
    }

    fn store_account_change(&mut self, change: AccountChange) {
        self.dm.account.store_change(change);
        self.effects.mark_dirty();
    }

    fn fresh_nonce(&mut self) -> [u8; 16] {
        let numbers = [self.rng.next_u64(), self.rng.next_u64()];
        self.dm.account.fresh_nonce(self.installer.boot_id(), numbers)
    }
}
