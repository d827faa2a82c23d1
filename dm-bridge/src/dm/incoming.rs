//! Commands of a device: Status, Results, Alert, and Replace of its DevInfo.

use std::borrow::Cow;

use proto::{
    dm::{
        alert::GenericAlert,
        code::{AlertCode, StatusCode},
        fumo::{OperationResult, Phase, UpdateRequest},
        nodes, scomo,
        syncml::{Alert, Command, CommandId, Item, Message, MessageId, Results, Status, Verb},
    },
    ids::CampaignId,
};

use super::{
    Limits,
    arming_sequence::is_carried_out,
    command::{PlannedCommand, Property, Purpose, Request},
    context::Context,
    inventory::on_operation_status,
    session::{DmSession, Stage},
};
use crate::{
    arming::results::{self, Receipt},
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        device::SuspendCommand,
        policy::NodeValue,
    },
    random::fresh_correlator,
};

/// Length limit of a list of nodes of a device, in octets.
const MAX_LIST_BYTES: usize = 4_096;

/// Stands for a missing Status.
const UNANSWERED: StatusCode = StatusCode(0);

impl DmSession {
    /// Handles all commands of a message; returns the status code of each that requires a Status.
    pub(super) fn handle_commands<'m>(
        &mut self,
        ctx: &mut Context<'_>,
        message: &'m Message,
    ) -> Vec<(&'m Command, StatusCode)> {
        self.record_refused_groups(message);
        let mut answers = Vec::new();
        for command in &message.commands {
            let code = match command {
                Command::Status(status) => {
                    self.on_status(ctx, status);
                    continue;
                }
                Command::Results(results) => match self.reassemble(Verb::Results, &results.items) {
                    Ok(Cow::Borrowed(_)) => {
                        self.on_results(ctx, results, message);
                        continue;
                    }
                    Ok(Cow::Owned(items)) => {
                        let results = Results { items, ..results.clone() };
                        self.on_results(ctx, &results, message);
                        continue;
                    }
                    Err(code) => code,
                },
                Command::Alert(alert) => match self.reassemble(Verb::Alert, &alert.items) {
                    Ok(Cow::Borrowed(_)) => self.on_alert(ctx, alert),
                    Ok(Cow::Owned(items)) => self.on_alert(ctx, &Alert { items, ..alert.clone() }),
                    Err(code) => code,
                },
                Command::Replace(manage) => match self.reassemble(Verb::Replace, &manage.items) {
                    Ok(items) => on_dev_info(ctx, &items),
                    Err(code) => code,
                },
                // spec: oma-dm 1 (a client sends Replace, Results, Alert and Status alone)
                Command::Exec(_)
                | Command::Get(_)
                | Command::Add(_)
                | Command::Delete(_)
                | Command::Copy(_)
                | Command::Sequence(_)
                | Command::Atomic(_) => StatusCode::NOT_ALLOWED,
            };
            answers.push((command, code));
        }
        self.end_of_message();
        answers
    }

    fn on_status(&mut self, ctx: &mut Context<'_>, status: &Status) {
        if status.command_ref == CommandId::HEADER {
            if status.code.is_success() {
                self.on_authenticated(&mut ctx.stored.device, status);
            } else {
                ctx.audit_note(format!("header answered {}", status.code));
                self.end();
            }
            return;
        }
        let key = (status.message_ref, status.command_ref);
        if let Some(planned) = self.on_chunk_status(key, status.code) {
            self.on_command_status(ctx, &planned, status.code);
            return;
        }
        if self.awaiting_status.remove(&key) {
            self.on_sent_status(ctx, key, status.code);
        }
    }

    fn on_sent_status(
        &mut self,
        ctx: &mut Context<'_>,
        key: (MessageId, CommandId),
        code: StatusCode,
    ) {
        if let Some(sent) = self.sent.get(&key).cloned() {
            let code = self.code_in_group(sent.group.map(|group| (key.0, group)), code);
            self.on_command_status(ctx, &sent.planned, code);
        }
    }

    /// Ends the session; whatever is planned is dropped.
    pub(super) fn end(&mut self) {
        self.queue.clear();
        self.awaiting_status.clear();
        self.outbound_object = None;
        self.arming = None;
        self.stage = Stage::Done;
    }

    /// Aborts the object being sent: its chunk has no status.
    pub(super) fn on_chunk_unanswered(&mut self, ctx: &mut Context<'_>) {
        if let Some(planned) = self.abort_object() {
            self.on_command_status(ctx, &planned, UNANSWERED);
        }
    }

    /// Handles the end of a package: a command without a Status counts as not executed.
    pub(super) fn on_status_missing(&mut self, ctx: &mut Context<'_>) {
        for key in std::mem::take(&mut self.awaiting_status) {
            self.on_sent_status(ctx, key, UNANSWERED);
        }
    }

    fn on_command_status(
        &mut self,
        ctx: &mut Context<'_>,
        planned: &PlannedCommand,
        code: StatusCode,
    ) {
        match &planned.purpose {
            Purpose::Read(fact) => {
                if !code.is_success() {
                    self.properties.remove(fact);
                }
            }
            Purpose::Inventory => self.on_inventory_status(planned, code),
            Purpose::Component(correlator) => {
                ctx.audit_note(format!("operation on a component answered {code}"));
                on_operation_status(&mut ctx.stored.device.components, correlator, code, ctx.now);
            }
            Purpose::Write(need, name) => self.on_write_status(ctx, (planned, code), (*need, name)),
            Purpose::Arm(_) if code == StatusCode::NOT_EXECUTED => {}
            Purpose::Arm(campaign) => {
                let revision = self.arming.as_ref().map_or(0, |sequence| sequence.revision);
                on_exec_status(ctx, (*campaign, revision), code, self.limits);
                self.end_arming();
            }
            Purpose::Group(kind) => self.on_group_status(ctx, *kind, code),
            Purpose::NotifyUser => ctx.audit_note(format!("display alert answered {code}")),
            Purpose::AskUser(campaign) => self.on_consent_status(ctx, *campaign, code),
            Purpose::Suspension(command) => on_suspend_status(ctx, *command, code),
            Purpose::Policy(setting) => on_policy_status(ctx, setting, code),
            Purpose::Disarm(campaign) => {
                ctx.audit_note(format!("disarm answered {code}"));
                if is_carried_out(code) {
                    ctx.update_latest(*campaign, |row| {
                        row.phase = ArmingPhase::Disarmed;
                        row.reason = Some("the campaign was stopped".to_owned());
                    });
                }
            }
        }
    }

    fn on_results(&mut self, ctx: &mut Context<'_>, results: &Results, message: &Message) {
        // A reply has the number of its request, so our last message is one before.
        let before = message.header.message_id.0.saturating_sub(1);
        let message_ref = results.message_ref.unwrap_or(MessageId(before));
        let key = (message_ref, results.command_ref);
        let Some(planned) = self.sent.get(&key).map(|sent| sent.planned.clone()) else { return };
        let Some(text) = results.items.first().and_then(Item::data_text) else { return };
        if let (Purpose::Inventory, Request::Get(uri)) = (&planned.purpose, &planned.request) {
            return self.on_inventory_value(uri, clip(text, MAX_LIST_BYTES));
        }
        let Purpose::Read(fact) = planned.purpose else { return };
        let text = clip(text, self.limits.text_bytes);
        self.properties.insert(fact, text.clone());
        match fact {
            Property::Firmware => on_firmware_version(ctx, text),
            Property::Phase => on_phase(ctx, &text),
            Property::State
            | Property::BroadcastVersion
            | Property::MaxBlockSymbols
            | Property::MaxStorage
            | Property::LargeObjects
            | Property::PartialPackage
            | Property::Root => {}
        }
    }

    fn on_alert(&mut self, ctx: &mut Context<'_>, alert: &Alert) -> StatusCode {
        match alert.code {
            // spec: oma-dm 1.1 (1223)
            AlertCode::SESSION_ABORT => {
                ctx.audit_note("session aborted by the device");
                self.end();
                StatusCode::OK
            }
            AlertCode::GENERIC => self.on_generic_alert(ctx, alert),
            AlertCode::SERVER_INITIATED
            | AlertCode::CLIENT_INITIATED
            | AlertCode::NEXT_MESSAGE
            | AlertCode::CLIENT_EVENT => StatusCode::OK,
            AlertCode::NO_END_OF_DATA => {
                self.on_chunk_unanswered(ctx);
                StatusCode::OK
            }
            _ => StatusCode::NOT_SUPPORTED,
        }
    }

    fn on_generic_alert(&mut self, ctx: &mut Context<'_>, alert: &Alert) -> StatusCode {
        let mut code = StatusCode::INCOMPLETE;
        for item in &alert.items {
            code = self.on_alert_item(ctx, (alert, item));
            if !code.is_success() {
                return code;
            }
        }
        code
    }

    // spec: oma-dm 4 (generic alert)
    fn on_alert_item(
        &mut self,
        ctx: &mut Context<'_>,
        (alert, item): (&Alert, &Item),
    ) -> StatusCode {
        let Ok(generic) = GenericAlert::from_item(item) else { return StatusCode::INCOMPLETE };
        match scomo::OperationResult::from_item(item, alert.correlator.as_ref()) {
            Ok(Some(result)) => return self.on_component_result(ctx, &result),
            Ok(None) => {}
            Err(_) => return StatusCode::INCOMPLETE,
        }
        match OperationResult::from_alert(&generic, alert.correlator.as_ref()) {
            Ok(Some(result)) => self.on_result(ctx, &result),
            Ok(None) => match UpdateRequest::from_alert(&generic) {
                Some(request) => self.on_update_request(ctx, &request),
                None => StatusCode::UNSUPPORTED_FORMAT,
            },
            Err(_) => StatusCode::INCOMPLETE,
        }
    }

    fn on_result(&mut self, ctx: &mut Context<'_>, result: &OperationResult) -> StatusCode {
        let receipt = results::record_result(&mut ctx.stored.attempts, result, ctx.now);
        ctx.audit_note(match receipt {
            Receipt::Recorded => format!("result {}", result.result),
            Receipt::Duplicate => format!("result {} again", result.result),
            Receipt::Unmatched => format!("result {} of no attempt, not counted", result.result),
        });
        match receipt {
            Receipt::Recorded => {
                // A version read before the result proves nothing.
                if self.stage == Stage::Done {
                    self.stage = Stage::Schedule;
                }
                if self.stage != Stage::Query {
                    let uri = nodes::device::FIRMWARE_VERSION.to_owned();
                    self.queue.push_back(PlannedCommand::read(Property::Firmware, uri));
                }
                StatusCode::OK
            }
            Receipt::Duplicate => StatusCode::OK,
            // Accepted, so that the device does not send it for ever; it is in the audit log only.
            Receipt::Unmatched => StatusCode::ACCEPTED,
        }
    }
}

fn on_dev_info(ctx: &mut Context<'_>, items: &[Item]) -> StatusCode {
    fn uri(item: &Item) -> &str {
        item.source_uri().or(item.target_uri()).unwrap_or_default()
    }
    let is_info = |item: &Item| uri(item).trim_start_matches("./").starts_with("DevInfo/");
    if !items.iter().all(is_info) {
        return StatusCode::NOT_ALLOWED;
    }
    let mut ids = items.iter().filter(|item| uri(item).ends_with("DevInfo/DevId"));
    if ids.any(|item| item.data_text().map(str::trim) != Some(ctx.stored.device.id.as_str())) {
        ctx.audit_note("DevInfo names another device");
        return StatusCode::FORBIDDEN;
    }
    StatusCode::OK
}

fn on_firmware_version(ctx: &mut Context<'_>, firmware: String) {
    for row in &mut ctx.stored.attempts {
        let campaign = ctx.stored.campaigns.iter().find(|campaign| campaign.id == row.campaign);
        if let Some(campaign) = campaign.filter(|it| it.delivery.software.is_none()) {
            let before = row.phase;
            results::confirm_version(row, campaign, &firmware, ctx.now);
            if row.phase != before {
                ctx.stored.notes.push(format!("{} is {}", row.campaign, row.phase));
            }
        }
    }
    if ctx.stored.device.firmware_version.as_ref() != Some(&firmware) {
        ctx.stored.notes.push(format!("runs {firmware}"));
        ctx.stored.device.firmware_version = Some(firmware);
    }
}

/// Applies the phase to the attempt in progress: the one accepted without a result.
fn on_phase(ctx: &mut Context<'_>, word: &str) {
    let Ok(phase) = word.trim().parse::<Phase>() else { return };
    let busy = |row: &&mut ArmingAttempt| {
        row.was_accepted()
            && row.result_code.is_none()
            && (row.phase.is_open() || row.phase == ArmingPhase::Unknown)
    };
    if let Some(row) = ctx.stored.attempts.iter_mut().filter(busy).max_by_key(|row| row.updated) {
        let before = row.phase;
        results::apply_phase(row, phase, ctx.now);
        if row.phase != before {
            ctx.stored.notes.push(format!("{} is {}", row.campaign, row.phase));
        }
    }
}

/// Handles the status of Suspend or Resume. A missing node is final; any other rejection may pass.
fn on_suspend_status(ctx: &mut Context<'_>, command: SuspendCommand, code: StatusCode) {
    ctx.audit_note(format!("{command} answered {code}"));
    let never = [
        StatusCode::NOT_FOUND,
        StatusCode::NOT_ALLOWED,
        StatusCode::NOT_SUPPORTED,
        StatusCode::NOT_IMPLEMENTED,
        StatusCode::PERMISSION_DENIED,
    ];
    // A later decision of the operator stays pending.
    if ctx.stored.device.pending_suspension == Some(command)
        && (is_carried_out(code) || never.contains(&code))
    {
        ctx.stored.device.pending_suspension = None;
    }
}

/// Handles the status of a policy setting; any status but "retry later" is final.
fn on_policy_status(ctx: &mut Context<'_>, setting: &NodeValue, code: StatusCode) {
    if code == UNANSWERED {
        ctx.audit_note(format!("policy {setting} not answered"));
        return;
    }
    ctx.audit_note(format!("policy {setting} answered {code}"));
    ctx.stored.device.policy.record_status(setting, code, ctx.now);
}

/// Handles the status of the Exec that arms a device.
fn on_exec_status(
    ctx: &mut Context<'_>,
    (campaign, revision): (CampaignId, u32),
    code: StatusCode,
    limits: Limits,
) {
    ctx.audit_note(format!("{campaign}: Exec answered {code}"));
    let mut again = None;
    ctx.update_latest(campaign, |row| match code {
        accepted if is_carried_out(accepted) => {
            row.armed_revision = revision;
            row.reason = None;
            if matches!(row.phase, ArmingPhase::Pending | ArmingPhase::Unknown) {
                row.phase = ArmingPhase::Armed;
            }
        }
        // The next session sends the same correlator.
        UNANSWERED => row.reason = Some("the Exec was not answered".to_owned()),
        later if later.is_retry_later() => row.reason = Some(format!("Exec answered {later}")),
        StatusCode::NOT_FOUND
        | StatusCode::NOT_ALLOWED
        | StatusCode::NOT_SUPPORTED
        | StatusCode::NOT_IMPLEMENTED
        | BAD_URL => {
            row.phase = ArmingPhase::NeedsUnicast;
            row.reason = Some(format!("Exec answered {code}"));
        }
        _ => {
            row.phase = ArmingPhase::Failed;
            row.reason = Some(format!("Exec answered {code}"));
            again = Some((row.device.clone(), row.attempt + 1, row.delivery_method));
        }
    });
    if let Some((device, attempt, way)) = again
        && attempt <= limits.attempts
    {
        let correlator = fresh_correlator(ctx.random);
        let next = ArmingAttempt::pending(device, campaign, attempt, correlator, ctx.now);
        ctx.stored.attempts.push(ArmingAttempt { delivery_method: way, ..next });
    }
}

/// Status that a FUMO 1.0 client may return for an unknown URL scheme, instead of an alert.
const BAD_URL: StatusCode = StatusCode(411);

/// Truncates a text of a device and removes control characters.
fn clip(text: &str, limit: usize) -> String {
    let mut clipped = String::new();
    for c in text.trim().chars().filter(|c| !c.is_control()) {
        if clipped.len() + c.len_utf8() > limit {
            break;
        }
        clipped.push(c);
    }
    clipped
}
