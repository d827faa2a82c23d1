//! Values and reports of a device: their effect on its rows.

use proto::{
    dm::{
        alert::GenericAlert,
        code::StatusCode,
        fumo::{Operation, OperationResult, Phase},
        syncml::{Alert, Command, CommandId, Item, Message, ShortText},
    },
    ids::Correlator,
};

use super::{
    context::{Context, DeviceContext, audit_note, is_firmware, latest, update_latest},
    outbox::{UNANSWERED, is_carried_out},
};
use crate::{
    arming::results::{self, Receipt},
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        device::{ObjectOrigin, SuspendCommand},
        policy::NodeValue,
    },
};

/// Handles the DevInfo of the device.
pub(super) fn on_dev_info(ctx: &mut Context<'_>, items: &[Item]) -> StatusCode {
    fn uri(item: &Item) -> &str {
        item.source_uri().or(item.target_uri()).unwrap_or_default()
    }
    let is_info = |item: &Item| uri(item).trim_start_matches("./").starts_with("DevInfo/");
    if !items.iter().all(is_info) {
        return StatusCode::NOT_ALLOWED;
    }
    let mut ids = items.iter().filter(|item| uri(item).ends_with("DevInfo/DevId"));
    if ids.any(|item| {
        item.decoded_text().as_deref().map(str::trim) != Some(ctx.stored.device.id.as_str())
    }) {
        audit_note(ctx, "DevInfo names another device");
        return StatusCode::FORBIDDEN;
    }
    StatusCode::OK
}

/// Handles the firmware version, which confirms or contradicts the attempts that report success.
pub(super) fn on_firmware_version(ctx: &mut Context<'_>, firmware: String) {
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
pub(super) fn on_phase(ctx: &mut Context<'_>, word: &str) {
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
pub(super) fn on_suspend_status(ctx: &mut Context<'_>, command: SuspendCommand, code: StatusCode) {
    audit_note(ctx, format!("{command} answered {code}"));
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
pub(super) fn on_policy_status(ctx: &mut Context<'_>, setting: &NodeValue, code: StatusCode) {
    if code == UNANSWERED {
        audit_note(ctx, format!("policy {setting} not answered"));
        return;
    }
    audit_note(ctx, format!("policy {setting} answered {code}"));
    ctx.stored.device.policy.record_status(setting, code, ctx.now);
}

/// Handles a final alert of an attempt. Without a correlator it counts for the only operation that
/// it can be about; one that counts for none is shown at the operations in progress.
pub(super) fn on_result(ctx: &mut Context<'_>, result: &OperationResult) -> Receipt {
    let stored = &mut *ctx.stored;
    let named = match &result.correlator {
        Some(correlator) => Some(correlator.clone()),
        None => adopted(stored, result),
    };
    let receipt = results::record_result_of(&mut stored.attempts, named.as_ref(), result, ctx.now);
    let code = result.result;
    let text = match receipt {
        Receipt::Recorded => format!("result {code}"),
        Receipt::Duplicate => format!("result {code} again"),
        Receipt::Unmatched => format!("result {code} of no attempt, not counted"),
    };
    if receipt == Receipt::Unmatched {
        let is_ours = is_about_object(stored, result);
        let why = match &result.correlator {
            Some(_) => "the Correlator of no operation here",
            None if !is_ours => "no Correlator, and is about another object",
            None => "no Correlator, and may be about several operations",
        };
        let text = format!("a final alert with result {code} has {why}: not counted");
        let campaigns: Vec<_> = running_firmware(stored).map(|row| row.campaign).collect();
        for campaign in campaigns {
            update_latest(ctx, campaign, |row| row.postpone(text.clone()));
        }
    }
    audit_note(ctx, text);
    receipt
}

/// Returns the correlator of the operation that a final alert without one counts for.
fn adopted(stored: &DeviceContext, result: &OperationResult) -> Option<Correlator> {
    let is_ours = is_about_object(stored, result);
    let firmware = latest(&stored.attempts).filter(|row| is_firmware(stored, row.campaign));
    results::only_operation(&firmware.collect::<Vec<_>>()).filter(|_| is_ours)
}

/// Returns whether a final alert is about the firmware object of the device, as far as it says.
fn is_about_object(stored: &DeviceContext, result: &OperationResult) -> bool {
    let object = &stored.device.object;
    object.origin == ObjectOrigin::Assumed
        || result.object.as_deref().is_none_or(|uri| uri.is_empty() || object.contains(uri))
}

/// Notes a generic alert that is not accepted; where it should end an operation, with its attempts.
pub(super) fn on_refused_alert(
    ctx: &mut Context<'_>,
    (alert, item): (&Alert, &Item),
    code: StatusCode,
    reason: &str,
) {
    let generic = GenericAlert::from_item(item).ok();
    let kind = generic.as_ref().map_or("", |generic| generic.kind.as_str());
    let kind = clip(kind, MAX_KIND_BYTES);
    audit_note(ctx, format!("alert of type {kind:?} answered {code}: {reason}"));
    if generic.as_ref().and_then(Operation::of_alert).is_none() {
        return;
    }
    let is_named = |row: &&ArmingAttempt| {
        alert.correlator.as_ref().is_none_or(|correlator| row.correlator == *correlator)
    };
    let running = running_firmware(ctx.stored).filter(is_named);
    let campaigns: Vec<_> = running.map(|row| row.campaign).collect();
    for campaign in campaigns {
        update_latest(ctx, campaign, |row| {
            row.postpone(format!("a final alert was not accepted: {reason}"));
        });
    }
}

/// Octets of the type of an alert in a note.
const MAX_KIND_BYTES: usize = 128;

fn running_firmware(stored: &DeviceContext) -> impl Iterator<Item = &ArmingAttempt> {
    latest(&stored.attempts)
        .filter(|row| row.may_run() && row.phase.is_open() && is_firmware(stored, row.campaign))
}

/// Rejected commands of a message that its note names.
const MAX_NAMED: usize = 4;

/// Notes the commands of a message that could not be read, and the elements that are none; the first
/// ones by name.
pub(super) fn note_rejected(ctx: &mut Context<'_>, message: &Message) {
    let mut open: Vec<&Command> = message.commands.iter().rev().collect();
    let mut found = Vec::new();
    while let Some(command) = open.pop() {
        match command {
            Command::Rejected(rejected) => found.push(rejected),
            Command::Sequence(group) | Command::Atomic(group) => {
                open.extend(group.commands.iter().rev());
            }
            Command::Status(_)
            | Command::Results(_)
            | Command::Alert(_)
            | Command::Exec(_)
            | Command::Get(_)
            | Command::Add(_)
            | Command::Replace(_)
            | Command::Delete(_)
            | Command::Copy(_) => {}
        }
    }
    for rejected in found.iter().take(MAX_NAMED) {
        let name = clip(rejected.verb.as_str(), ShortText::MAX_LENGTH);
        tracing::debug!(device = ctx.stored.device.id.as_str(), fault = %rejected.fault, "command rejected");
        let answer = match rejected.id == CommandId::ABSENT {
            true => "without an answer".to_owned(),
            false => format!("with {}", rejected.code),
        };
        audit_note(ctx, format!("{name} rejected {answer}"));
    }
    if let Some(more @ 1..) = found.len().checked_sub(MAX_NAMED) {
        audit_note(ctx, format!("{more} more rejected"));
    }
}

/// Truncates a text of a device and removes control characters.
pub(super) fn clip(text: &str, limit: usize) -> String {
    let mut clipped = String::new();
    for c in text.trim().chars().filter(|c| !c.is_control()) {
        if clipped.len() + c.len_utf8() > limit {
            break;
        }
        clipped.push(c);
    }
    clipped
}
