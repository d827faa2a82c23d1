//! The interface of the agent to the DM session.

use std::collections::BTreeMap;

use proto::{
    dm::{
        code::StatusCode,
        fumo::{PackagePrefix, Phase, ResultCode, UpdateRequest},
        ui::{Answer, Prompt},
    },
    ids::{ComponentId, Correlator},
    time::{Now, Utc},
    trust::{
        Root, Verified,
        plan::{PlanHeader, plan_root},
    },
    tune_in::{TuneIn, Window},
    wire::WireError,
};

use super::AgentState;
use crate::store::commands::StorageCommand;
use crate::{
    components::{Announced, ComponentTarget, Software},
    dm::{
        AccountChange, ArmRequest, ChunkPosition, DeviceLimits, DeviceView, DownloadRequest,
        FinalAlert, ManagementBackend, ReportSettings,
    },
    flute::tuner::Tuner,
    store::ObjectLayout,
    suspension::SuspendReason,
    trust::root_file,
    update::{
        acceptance::{Acceptance, Accepted, CampaignOffer, Refusal, check_tune_in},
        operation::{ArmedCampaign, Exec},
    },
};

/// Windows and image servers that one arming may name.
const MAX_WINDOWS: usize = 16;

impl ManagementBackend for AgentState {
    fn view(&self) -> DeviceView {
        let manifest = self.update.accepted().map(|accepted| &accepted.manifest);
        let progress = self.download_progress();
        let progress = progress.unwrap_or_else(|| self.reception.progress_per_mille());
        let limits = self.config.limits;
        DeviceView {
            firmware_version: self.installer.firmware_version().unwrap_or_default().to_owned(),
            phase: self.phase(),
            data: self.package_data(),
            reasons: self.suspension.reasons(),
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
        let alert = |result, campaign| FinalAlert {
            correlator: request.correlator.clone(),
            operation: request.operation,
            result,
            campaign,
            subject: request.subject.clone(),
        };
        if self.update_request.is_unanswered_user() {
            tracing::info!("server did not notify the user who requested the update");
            return self.refuse(now, alert(ResultCode::POLICY, None));
        }
        let windows = match offered_windows(&request) {
            Ok(windows) => windows,
            Err(error) => {
                tracing::info!(%error, "tune-in refused");
                return self.refuse(now, alert(ResultCode::BAD_URL, None));
            }
        };
        if request.campaign.is_empty() && self.update.is_armed() {
            return self.move_windows(now, &request, &windows);
        }
        let (campaign, manifest) = (&request.campaign, &request.manifest);
        let offer = CampaignOffer { campaign, manifest, windows, carried: None };
        let verdict = self.evaluate_offer(request.subject.as_ref(), &offer);
        let windows = offer.windows;
        match verdict {
            Ok(Acceptance::AlreadyInstalled(id)) => {
                self.refuse(now, alert(ResultCode::UP_TO_DATE, Some(id)));
            }
            Ok(Acceptance::Accepted(accepted)) => {
                self.arm_campaign(now, request, windows, *accepted)
            }
            Err(Refusal { result, reason, detail }) => {
                tracing::info!(%result, reason, detail, "campaign refused");
                self.refuse(now, alert(result, None));
            }
        }
    }

    fn download(&mut self, now: Now, request: DownloadRequest) {
        self.begin_download(now, request);
    }

    fn receive_package(&mut self, _now: Now, package: &[u8]) -> StatusCode {
        self.receive_package_data(None, package)
    }

    fn store_chunk(&mut self, piece: ChunkPosition, octets: &[u8]) {
        self.store_chunk_of_package(piece, octets);
    }

    fn partial_package(&self) -> Option<PackagePrefix> {
        self.partial_package.held()
    }

    fn receive_remainder(&mut self, _now: Now, remainder: &[u8]) -> StatusCode {
        self.receive_remainder_of_package(remainder)
    }

    fn update(&mut self, now: Now, correlator: Option<Correlator>) -> StatusCode {
        self.exec_update(now, None, correlator)
    }

    fn software(&self) -> Option<Software> {
        self.software_view()
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
        self.receive_package_data(Some(subject), package)
    }

    fn change_component(
        &mut self,
        now: Now,
        subject: ComponentTarget,
        correlator: Option<Correlator>,
    ) -> StatusCode {
        self.begin_change(now, subject, correlator)
    }

    fn on_inventory_denied(&mut self, now: Now) {
        let access = self.installer.inventory_access();
        let event = self.prompts.ask_for_inventory_consent(now.mono, access);
        self.handle_prompt_event(now, event);
    }

    fn refuse(&mut self, now: Now, alert: FinalAlert) {
        if !self.is_occupied() {
            self.update.refuse(alert.result);
        }
        self.reports.push(now.utc, alert);
        self.effects.mark_dirty();
    }

    fn disarm(&mut self, now: Now) -> StatusCode {
        if self.phase() == Phase::HandedOver {
            return StatusCode::FAILED;
        }
        if self.update.is_armed() || self.has_download() {
            self.complete(now, Phase::Disarmed, ResultCode::DISARMED);
        }
        StatusCode::OK
    }

    fn set_policy(&mut self, now: Now, node: &str, value: &str) -> StatusCode {
        let user = &self.config.user;
        if let Err(code) = self.suspension.set_policy(node, value, user.consent, &user.front) {
            return code;
        }
        self.effects.mark_dirty();
        self.reevaluate(now);
        self.apply_policy(now);
        StatusCode::OK
    }

    fn suspend(&mut self, now: Now) -> StatusCode {
        self.suspend_for(now, SuspendReason::Server);
        StatusCode::OK
    }

    fn resume(&mut self, now: Now) -> StatusCode {
        self.resume_from(now, SuspendReason::Server);
        StatusCode::OK
    }

    fn offer_root(&mut self, now: Now, envelope: &[u8]) -> StatusCode {
        // A running installation is not verified again.
        if self.phase() == Phase::HandedOver {
            return StatusCode::FORBIDDEN;
        }
        match self.trust.successor(envelope) {
            Ok(root) => {
                self.install_root(now, root, envelope);
                StatusCode::OK
            }
            Err(error) => {
                tracing::info!(%error, "root refused");
                StatusCode::FAILED
            }
        }
    }

    fn on_user_message(&mut self, text: &str) {
        self.update_request.record_user_notified(text);
    }

    fn update_request(&self) -> Option<UpdateRequest> {
        self.update_request.unanswered()
    }

    fn on_request_status(&mut self, _now: Now, code: StatusCode) {
        self.update_request.record_status(code);
    }

    fn ask_user(&mut self, now: Now, prompt: Prompt) -> Option<Answer> {
        self.ask(now, prompt)
    }

    fn due_alerts(&self, now: Now) -> Vec<FinalAlert> {
        self.reports.due(now.utc)
    }

    fn on_alert_acknowledged(&mut self, _now: Now, alert: &FinalAlert) {
        if !self.reports.acknowledge(alert) {
            return;
        }
        self.effects.mark_dirty();
        // The server has the result; the device is idle again.
        if self.reports.waiting() == 0 && !self.is_occupied() {
            self.update.acknowledge();
        }
    }

    fn store_nonce(&mut self, next_nonce: &[u8]) {
        self.account.store_nonce(next_nonce);
        self.effects.mark_dirty();
    }

    fn nonce(&self) -> Vec<u8> {
        self.account.nonce().to_vec()
    }

    fn store_server_nonce(&mut self, next_nonce: &[u8]) {
        self.account.store_server_nonce(next_nonce);
        self.effects.mark_dirty();
    }

    fn server_nonce(&self) -> Vec<u8> {
        self.account.server_nonce().to_vec()
    }

    fn access_lists(&self) -> String {
        self.account.access_lists().to_owned()
    }

    fn store_access_lists(&mut self, lists: &str) {
        self.account.store_access_lists(lists);
        self.effects.mark_dirty();
    }

    fn account_change(&self) -> AccountChange {
        self.account.change().clone()
    }

    fn store_account_change(&mut self, change: AccountChange) {
        self.account.store_change(change);
        self.effects.mark_dirty();
    }

    fn fresh_nonce(&mut self) -> [u8; 16] {
        let numbers = [self.rng.next_u64(), self.rng.next_u64()];
        self.account.fresh_nonce(self.installer.boot_id(), numbers)
    }
}

impl AgentState {
    /// Installs a root. The file is written whole before the journal names it, and both before the
    /// status.
    fn install_root(&mut self, now: Now, root: Verified<Root>, envelope: &[u8]) {
        self.effects.write_before_commit(root_file(root.version), envelope.to_vec());
        self.trust.replace_root(root);
        self.effects.mark_dirty();
        // spec: security 2 (revocation)
        let Some([campaign, manifest]) = self.update.envelopes() else { return };
        if let Err(error) = self.trust.verify(campaign, manifest) {
            let Refusal { result, reason, detail } = Refusal::from(error);
            tracing::info!(%result, reason, detail, "armed campaign revoked");
            self.complete(now, Phase::Refused, result);
        }
    }

    /// An Exec without documents moves the windows of the campaign that the device is armed with.
    fn move_windows(&mut self, now: Now, request: &ArmRequest, windows: &[(TuneIn, Window)]) {
        let Some(Accepted { campaign, .. }) = self.update.accepted() else { return };
        let checked = windows
            .iter()
            .try_for_each(|(tune_in, window)| check_tune_in(campaign, tune_in, *window));
        let result = match checked {
            Err(Refusal { result, reason, detail }) => {
                tracing::info!(%result, reason, detail, "moved windows refused");
                result
            }
            Ok(()) if !self.update.is_of(request.correlator.as_ref()) => ResultCode::WRONG_STATE,
            Ok(()) => {
                self.reception.move_windows(tuner(now, request, windows));
                self.effects.mark_dirty();
                return self.tune(now);
            }
        };
        let alert = FinalAlert {
            correlator: request.correlator.clone(),
            operation: request.operation,
            result,
            campaign: None,
            subject: request.subject.clone(),
        };
        self.refuse(now, alert);
    }

    /// The last of the checks: what the device is doing already decides what a new arming means.
    fn arm_campaign(
        &mut self,
        now: Now,
        request: ArmRequest,
        windows: Vec<(TuneIn, Window)>,
        accepted: Accepted,
    ) {
        let same = self.update.armed().is_some_and(|armed| armed.is(&accepted.campaign));
        let late = !matches!(self.phase(), Phase::Armed | Phase::Receiving | Phase::Suspended)
            || !self.update.concerns(request.subject.as_ref());
        match (self.update.accepted(), same) {
            (Some(_), true) if self.update.is_of(request.correlator.as_ref()) => {
                self.reception.move_windows(tuner(now, &request, &windows));
                self.effects.mark_dirty();
                self.tune(now);
            }
            (Some(running), _)
                if late || running.campaign.sequence >= accepted.campaign.sequence =>
            {
                self.refuse_second(now, request, &accepted);
            }
            (None, _) if self.is_occupied() => self.refuse_second(now, request, &accepted),
            (Some(_), _) => {
                self.complete(now, Phase::Disarmed, ResultCode::DISARMED);
                self.pin(now, request, windows, accepted);
            }
            (None, _) => self.pin(now, request, windows, accepted),
        }
    }

    fn refuse_second(&mut self, now: Now, request: ArmRequest, accepted: &Accepted) {
        let alert = FinalAlert {
            correlator: request.correlator,
            operation: request.operation,
            result: ResultCode::WRONG_STATE,
            campaign: Some(accepted.campaign.id),
            subject: request.subject,
        };
        self.reports.push(now.utc, alert);
        self.effects.mark_dirty();
    }

    /// Everything that a restart needs is in files, and the journal names them, before the 202.
    fn pin(
        &mut self,
        now: Now,
        request: ArmRequest,
        windows: Vec<(TuneIn, Window)>,
        accepted: Accepted,
    ) {
        let object = accepted.object;
        let plan_header = plan_header(request.plan_headers.clone(), object.component)
            .filter(|header| PlanHeader::parse(header, &object).is_ok());
        let armed = ArmedCampaign::new(&accepted, plan_header.as_deref().map(plan_root));
        for (name, octets) in [
            (Some(armed.campaign_file()), Some(&request.campaign)),
            (Some(armed.manifest_file()), Some(&request.manifest)),
            (armed.plan_header_file(), plan_header.as_ref()),
        ] {
            if let (Some(name), Some(octets)) = (name, octets) {
                self.effects.write_before_commit(name, octets.clone());
            }
        }
        let layout = ObjectLayout::new(object.object_key, object.stored_sha256, object.oti);
        let tuner = tuner(now, &request, &windows);
        let class = self.device_class_of(request.subject.as_ref()).class;
        self.trust.record_accepted(class, &accepted.campaign);
        // spec: security 5 (the server's time counts over TLS)
        if let Some(server_now) = request.server_now.filter(|_| self.account.is_secure()) {
            self.trust.raise_clock_floor(server_now);
        }
        let ArmRequest { operation, correlator, subject, .. } = request;
        self.update.begin(Exec { operation, correlator, subject });
        let longest = std::time::Duration::from_secs(accepted.campaign.report_spread_max_s.into());
        let spread = request.report.spread.min(longest);
        self.reports.begin(ReportSettings { spread, ..request.report });
        self.prompts.begin_operation();
        self.reception.arm(object, tuner, plan_header);
        let envelopes = [request.campaign, request.manifest];
        self.update.arm(armed, accepted, envelopes);
        self.update.await_window();
        self.effects.mark_dirty();
        self.effects.push_after_commit(StorageCommand::RemoveOtherObjects(vec![layout.clone()]));
        self.effects.push(StorageCommand::Open(layout));
        self.reevaluate(now);
        self.ask_for_consent(now);
    }
}

fn plan_header(
    mut headers: BTreeMap<ComponentId, Vec<u8>>,
    component: ComponentId,
) -> Option<Vec<u8>> {
    headers.remove(&component)
}

fn tuner(now: Now, request: &ArmRequest, windows: &[(TuneIn, Window)]) -> Tuner {
    Tuner::new(now, request.server_now.unwrap_or(now.utc), windows)
}

/// Reads the tune-in URL with its window, and the further lines `URL opens closes`.
fn offered_windows(request: &ArmRequest) -> Result<Vec<(TuneIn, Window)>, WireError> {
    let missing = |field| WireError::invalid(field, "missing", "decimal UTC seconds");
    let opens = request.opens.ok_or_else(|| missing("Opens"))?;
    let closes = request.closes.ok_or_else(|| missing("Closes"))?;
    let mut windows = vec![(request.url.parse()?, Window { opens, closes })];
    if request.sessions.len() >= MAX_WINDOWS {
        let found = request.sessions.len().to_string();
        return Err(WireError::invalid("Sessions", found, "at most 15 further windows"));
    }
    for line in &request.sessions {
        let mut words = line.split(' ');
        let (Some(url), Some(opens), Some(closes), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(WireError::invalid("Sessions", line, "URL opens closes"));
        };
        let at = |field, text: &str| {
            text.parse()
                .map(Utc::from_seconds)
                .map_err(|_| WireError::invalid(field, text, "decimal UTC seconds"))
        };
        let window = Window { opens: at("opens", opens)?, closes: at("closes", closes)? };
        windows.push((url.parse()?, window));
    }
    Ok(windows)
}
