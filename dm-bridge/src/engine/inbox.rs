//! What a device sends: answers to our commands, values, alerts, its DevInfo.

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
    time::Utc,
};

use super::{
    Desk, Limits,
    command::{Fact, Planned, Purpose, Request},
    components::settle_operation,
    course::is_carried_out,
    session::{DmSession, Stage, update},
};
use crate::{
    fleet::{
        arming::{Arming, ArmingPhase},
        device::Rest,
        policy::Setting,
    },
    random::{RandomBytes, fresh_correlator},
    report::{self, Receipt},
};

/// Octets of a list of nodes that are taken from a device.
const MAX_LIST: usize = 4_096;

/// Stands for a Status that never came.
const UNANSWERED: StatusCode = StatusCode(0);

impl DmSession {
    /// Takes all commands of a message; returns what each of those that want a Status gets.
    pub(super) fn take<'m>(
        &mut self,
        desk: &mut Desk,
        message: &'m Message,
        now: Utc,
        chance: RandomBytes<'_>,
    ) -> Vec<(&'m Command, StatusCode)> {
        self.take_refusals(message);
        let mut answers = Vec::new();
        for command in &message.commands {
            let code = match command {
                Command::Status(status) => {
                    self.take_status(desk, status, now, chance);
                    continue;
                }
                Command::Results(results) => match self.whole(Verb::Results, &results.items) {
                    Ok(Cow::Borrowed(_)) => {
                        self.take_results(desk, results, message, now);
                        continue;
                    }
                    Ok(Cow::Owned(items)) => {
                        let results = Results { items, ..results.clone() };
                        self.take_results(desk, &results, message, now);
                        continue;
                    }
                    Err(code) => code,
                },
                Command::Alert(alert) => match self.whole(Verb::Alert, &alert.items) {
                    Ok(Cow::Borrowed(_)) => self.take_alert(desk, alert, now, chance),
                    Ok(Cow::Owned(items)) => {
                        self.take_alert(desk, &Alert { items, ..alert.clone() }, now, chance)
                    }
                    Err(code) => code,
                },
                Command::Replace(manage) => match self.whole(Verb::Replace, &manage.items) {
                    Ok(items) => take_dev_info(desk, &items),
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

    fn take_status(&mut self, desk: &mut Desk, status: &Status, now: Utc, chance: RandomBytes<'_>) {
        if status.command_ref == CommandId::HEADER {
            if status.code.is_success() {
                self.is_believed(&mut desk.device, status);
            } else {
                desk.note(format!("the device answers our header with {}", status.code));
                self.end();
            }
            return;
        }
        let key = (status.message_ref, status.command_ref);
        if let Some(planned) = self.piece_answered(key, status.code) {
            self.settle(desk, &planned, status.code, now, chance);
            return;
        }
        if self.owed.remove(&key) {
            self.settle_sent(desk, key, status.code, now, chance);
        }
    }

    fn settle_sent(
        &mut self,
        desk: &mut Desk,
        key: (MessageId, CommandId),
        code: StatusCode,
        now: Utc,
        chance: RandomBytes<'_>,
    ) {
        if let Some(sent) = self.sent.get(&key).cloned() {
            let code = self.within(sent.group.map(|group| (key.0, group)), code);
            self.settle(desk, &sent.planned, code, now, chance);
        }
    }

    /// Leaves all that was planned.
    pub(super) fn end(&mut self) {
        self.queue.clear();
        self.owed.clear();
        self.sending = None;
        self.course = None;
        self.stage = Stage::Done;
    }

    /// A device that does not say what became of a piece has not taken the object.
    pub(super) fn settle_sending(&mut self, desk: &mut Desk, now: Utc, chance: RandomBytes<'_>) {
        if let Some(planned) = self.stop_sending() {
            self.settle(desk, &planned, UNANSWERED, now, chance);
        }
    }

    /// A device that ends its package without a Status for a command has not done it.
    pub(super) fn settle_unanswered(&mut self, desk: &mut Desk, now: Utc, chance: RandomBytes<'_>) {
        for key in std::mem::take(&mut self.owed) {
            self.settle_sent(desk, key, UNANSWERED, now, &mut *chance);
        }
    }

    fn settle(
        &mut self,
        desk: &mut Desk,
        planned: &Planned,
        code: StatusCode,
        now: Utc,
        chance: RandomBytes<'_>,
    ) {
        match &planned.purpose {
            Purpose::Read(fact) => {
                if !code.is_success() {
                    self.facts.remove(fact);
                }
            }
            Purpose::Inventory => self.settle_inventory(planned, code),
            Purpose::Component(correlator) => {
                desk.note(format!("operation on a component answered {code}"));
                settle_operation(&mut desk.device.components, correlator, code, now);
            }
            Purpose::Write(need, name) => self.settle_write(desk, (planned, code), (*need, name)),
            Purpose::Arm(_) if code == StatusCode::NOT_EXECUTED => {}
            Purpose::Arm(campaign) => {
                let revision = self.course.as_ref().map_or(0, |course| course.revision);
                settle_exec(desk, (*campaign, revision), code, now, self.limits, chance);
                self.end_course();
            }
            Purpose::Group(kind) => self.settle_group(desk, *kind, code),
            Purpose::Tell => desk.note(format!("the user was told, answered {code}")),
            Purpose::Ask(campaign) => self.take_consent(desk, *campaign, code, now),
            Purpose::Rest(rest) => settle_rest(desk, *rest, code),
            Purpose::Policy(setting) => settle_policy(desk, setting, code, now),
            Purpose::Disarm(campaign) => {
                desk.note(format!("disarm answered {code}"));
                if is_carried_out(code) {
                    update(desk, *campaign, now, |row| {
                        row.phase = ArmingPhase::Disarmed;
                        row.reason = Some("the campaign was stopped".to_owned());
                    });
                }
            }
        }
    }

    fn take_results(&mut self, desk: &mut Desk, results: &Results, message: &Message, now: Utc) {
        // Answers have the number of what they answer, so the last message of ours is one before.
        let before = message.header.message_id.0.saturating_sub(1);
        let message_ref = results.message_ref.unwrap_or(MessageId(before));
        let key = (message_ref, results.command_ref);
        let Some(planned) = self.sent.get(&key).map(|sent| sent.planned.clone()) else { return };
        let Some(text) = results.items.first().and_then(Item::data_text) else { return };
        if let (Purpose::Inventory, Request::Get(uri)) = (&planned.purpose, &planned.request) {
            return self.take_inventory(uri, clip(text, MAX_LIST));
        }
        let Purpose::Read(fact) = planned.purpose else { return };
        let text = clip(text, self.limits.text_bytes);
        self.facts.insert(fact, text.clone());
        match fact {
            Fact::Firmware => take_firmware(desk, text, now),
            Fact::Phase => take_phase(desk, &text, now),
            Fact::State
            | Fact::BroadcastVersion
            | Fact::MaxBlockSymbols
            | Fact::MaxStorage
            | Fact::LargeObjects
            | Fact::HeldPackage
            | Fact::Root => {}
        }
    }

    fn take_alert(
        &mut self,
        desk: &mut Desk,
        alert: &Alert,
        now: Utc,
        chance: RandomBytes<'_>,
    ) -> StatusCode {
        match alert.code {
            // spec: oma-dm 1.1 (1223)
            AlertCode::SESSION_ABORT => {
                desk.note("the device broke the session off");
                self.end();
                StatusCode::OK
            }
            AlertCode::GENERIC => self.take_generic_alert(desk, alert, now, chance),
            AlertCode::SERVER_INITIATED
            | AlertCode::CLIENT_INITIATED
            | AlertCode::NEXT_MESSAGE
            | AlertCode::CLIENT_EVENT => StatusCode::OK,
            AlertCode::NO_END_OF_DATA => {
                self.settle_sending(desk, now, chance);
                StatusCode::OK
            }
            _ => StatusCode::NOT_SUPPORTED,
        }
    }

    fn take_generic_alert(
        &mut self,
        desk: &mut Desk,
        alert: &Alert,
        now: Utc,
        chance: RandomBytes<'_>,
    ) -> StatusCode {
        let mut code = StatusCode::INCOMPLETE;
        for item in &alert.items {
            code = self.take_alert_item(desk, (alert, item), now, &mut *chance);
            if !code.is_success() {
                return code;
            }
        }
        code
    }

    // spec: oma-dm 4 (generic alert)
    fn take_alert_item(
        &mut self,
        desk: &mut Desk,
        (alert, item): (&Alert, &Item),
        now: Utc,
        chance: RandomBytes<'_>,
    ) -> StatusCode {
        let Ok(generic) = GenericAlert::from_item(item) else { return StatusCode::INCOMPLETE };
        match scomo::OperationResult::from_item(item, alert.correlator.as_ref()) {
            Ok(Some(result)) => return self.take_component_result(desk, &result, now),
            Ok(None) => {}
            Err(_) => return StatusCode::INCOMPLETE,
        }
        match OperationResult::from_alert(&generic, alert.correlator.as_ref()) {
            Ok(Some(result)) => self.take_result(desk, &result, now),
            Ok(None) => match UpdateRequest::from_alert(&generic) {
                Some(request) => self.take_request(desk, &request, now, chance),
                None => StatusCode::UNSUPPORTED_FORMAT,
            },
            Err(_) => StatusCode::INCOMPLETE,
        }
    }

    fn take_result(&mut self, desk: &mut Desk, result: &OperationResult, now: Utc) -> StatusCode {
        let receipt = report::accept(&mut desk.armings, result, now);
        desk.note(match receipt {
            Receipt::Counted => format!("result {}", result.result),
            Receipt::Repeated => format!("result {} again", result.result),
            Receipt::Orphan => format!("result {} of no attempt, not counted", result.result),
        });
        match receipt {
            Receipt::Counted => {
                // The version read before the result proves nothing.
                if self.stage == Stage::Done {
                    self.stage = Stage::Choose;
                }
                if self.stage != Stage::Inspect {
                    let uri = nodes::device::FIRMWARE_VERSION.to_owned();
                    self.queue.push_back(Planned::read(Fact::Firmware, uri));
                }
                StatusCode::OK
            }
            Receipt::Repeated => StatusCode::OK,
            // The device must not be stuck with it; it is in the log and counts for nobody.
            Receipt::Orphan => StatusCode::ACCEPTED,
        }
    }
}

fn take_dev_info(desk: &mut Desk, items: &[Item]) -> StatusCode {
    fn uri(item: &Item) -> &str {
        item.source_uri().or(item.target_uri()).unwrap_or_default()
    }
    let is_info = |item: &Item| uri(item).trim_start_matches("./").starts_with("DevInfo/");
    if !items.iter().all(is_info) {
        return StatusCode::NOT_ALLOWED;
    }
    let mut ids = items.iter().filter(|item| uri(item).ends_with("DevInfo/DevId"));
    if ids.any(|item| item.data_text().map(str::trim) != Some(desk.device.id.as_str())) {
        desk.note("DevInfo names another device");
        return StatusCode::FORBIDDEN;
    }
    StatusCode::OK
}

fn take_firmware(desk: &mut Desk, firmware: String, now: Utc) {
    for row in &mut desk.armings {
        let campaign = desk.campaigns.iter().find(|campaign| campaign.id == row.campaign);
        if let Some(campaign) = campaign.filter(|it| it.delivery.software.is_none()) {
            let before = row.phase;
            report::read_back(row, campaign, &firmware, now);
            if row.phase != before {
                desk.notes.push(format!("{} is {}", row.campaign, row.phase));
            }
        }
    }
    if desk.device.firmware_version.as_ref() != Some(&firmware) {
        desk.notes.push(format!("runs {firmware}"));
        desk.device.firmware_version = Some(firmware);
    }
}

/// The one attempt that the device has accepted and not reported on is the one it is busy with.
fn take_phase(desk: &mut Desk, word: &str, now: Utc) {
    let Ok(phase) = word.trim().parse::<Phase>() else { return };
    let busy = |row: &&mut Arming| {
        row.armed()
            && row.result_code.is_none()
            && (row.phase.is_open() || row.phase == ArmingPhase::Unknown)
    };
    if let Some(row) = desk.armings.iter_mut().filter(busy).max_by_key(|row| row.updated) {
        let before = row.phase;
        report::observe(row, phase, now);
        if row.phase != before {
            desk.notes.push(format!("{} is {}", row.campaign, row.phase));
        }
    }
}

/// A device that has no such node will not have it next time either; any other refusal may pass.
fn settle_rest(desk: &mut Desk, rest: Rest, code: StatusCode) {
    desk.note(format!("{rest} answered {code}"));
    let never = [
        StatusCode::NOT_FOUND,
        StatusCode::NOT_ALLOWED,
        StatusCode::NOT_SUPPORTED,
        StatusCode::NOT_IMPLEMENTED,
        StatusCode::PERMISSION_DENIED,
    ];
    // What the desk has decided meanwhile stands.
    if desk.device.rest == Some(rest) && (is_carried_out(code) || never.contains(&code)) {
        desk.device.rest = None;
    }
}

/// Any answer is the device's last word on the setting, unless it is to be asked later.
fn settle_policy(desk: &mut Desk, setting: &Setting, code: StatusCode, now: Utc) {
    if code == UNANSWERED {
        desk.note(format!("policy {setting} not answered"));
        return;
    }
    desk.note(format!("policy {setting} answered {code}"));
    desk.device.policy.answered(setting, code, now);
}

/// What the answer to an Exec means for its attempt.
fn settle_exec(
    desk: &mut Desk,
    (campaign, revision): (CampaignId, u32),
    code: StatusCode,
    now: Utc,
    limits: Limits,
    chance: RandomBytes<'_>,
) {
    desk.note(format!("{campaign}: Exec answered {code}"));
    let mut again = None;
    update(desk, campaign, now, |row| match code {
        accepted if is_carried_out(accepted) => {
            row.armed_revision = revision;
            row.reason = None;
            if matches!(row.phase, ArmingPhase::Pending | ArmingPhase::Unknown) {
                row.phase = ArmingPhase::Armed;
            }
        }
        // The same correlator again at the next session.
        UNANSWERED => row.reason = Some("the Exec was not answered".to_owned()),
        later if later.is_retry_later() => row.reason = Some(format!("Exec answered {later}")),
        StatusCode::NOT_FOUND
        | StatusCode::NOT_ALLOWED
        | StatusCode::NOT_SUPPORTED
        | StatusCode::NOT_IMPLEMENTED
        | BAD_URL => {
            row.phase = ArmingPhase::UnicastNeeded;
            row.reason = Some(format!("Exec answered {code}"));
        }
        _ => {
            row.phase = ArmingPhase::Failed;
            row.reason = Some(format!("Exec answered {code}"));
            again = Some((row.device.clone(), row.attempt + 1, row.way));
        }
    });
    if let Some((device, attempt, way)) = again
        && attempt <= limits.attempts
    {
        let correlator = fresh_correlator(chance);
        let next = Arming::pending(device, campaign, attempt, correlator, now);
        desk.armings.push(Arming { way, ..next });
    }
}

/// What a 1.0 client without our scheme may answer to an Exec instead of alerting it.
const BAD_URL: StatusCode = StatusCode(411);

/// Shortens a text from outside and drops what would break a line.
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
