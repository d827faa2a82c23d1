//! Messages of the device: objects that arrive in chunks, and values and reports for its rows.

use std::borrow::Cow;

use proto::dm::{
    code::StatusCode,
    fumo::{OperationResult, Phase},
    large::Reassembler,
    syncml::{Item, Verb},
};

use super::{
    context::Context,
    outbox::{UNANSWERED, is_carried_out},
};
use crate::{
    arming::results::{self, Receipt},
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        device::SuspendCommand,
        policy::NodeValue,
    },
};

/// Objects that the device sends in chunks, one at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct InboundObjects {
    /// The object whose last chunk has not arrived.
    open: Option<Reassembler>,
    /// Set when the current message contains a chunk.
    chunk_in_message: bool,
    /// Objects that ended without their last chunk.
    aborted: Vec<Item>,
}

impl InboundObjects {
    /// Returns the complete items, or the status code of a chunk.
    pub(super) fn complete<'i>(
        &mut self,
        verb: Verb,
        items: &'i [Item],
        limit: u64,
    ) -> Result<Cow<'i, [Item]>, StatusCode> {
        if self.open.is_none() && items.iter().all(|item| !item.more_data) {
            return Ok(Cow::Borrowed(items));
        }
        let mut open = self.open.take().unwrap_or_default();
        let complete = items.iter().map(|item| {
            self.aborted.extend(open.interrupted_by(verb, Some(item)));
            self.chunk_in_message |= item.more_data;
            open.push(verb, item, limit)
        });
        let complete = complete.collect::<Result<_, _>>().map(Cow::Owned);
        self.open = open.is_open().then_some(open);
        complete
    }

    /// Ends a message; an object whose next chunk is missing is aborted.
    pub(super) fn end_of_message(&mut self) {
        if !std::mem::take(&mut self.chunk_in_message)
            && let Some(mut open) = self.open.take()
        {
            self.aborted.extend(open.interrupted_by(Verb::Header, None));
        }
    }

    /// Removes and returns the aborted objects.
    pub(super) fn take_aborted(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.aborted)
    }
}

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
    if ids.any(|item| item.data_text().map(str::trim) != Some(ctx.stored.device.id.as_str())) {
        ctx.audit_note("DevInfo names another device");
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
pub(super) fn on_policy_status(ctx: &mut Context<'_>, setting: &NodeValue, code: StatusCode) {
    if code == UNANSWERED {
        ctx.audit_note(format!("policy {setting} not answered"));
        return;
    }
    ctx.audit_note(format!("policy {setting} answered {code}"));
    ctx.stored.device.policy.record_status(setting, code, ctx.now);
}

/// Handles a final alert of an attempt.
pub(super) fn on_result(ctx: &mut Context<'_>, result: &OperationResult) -> Receipt {
    let receipt = results::record_result(&mut ctx.stored.attempts, result, ctx.now);
    ctx.audit_note(match receipt {
        Receipt::Recorded => format!("result {}", result.result),
        Receipt::Duplicate => format!("result {} again", result.result),
        Receipt::Unmatched => format!("result {} of no attempt, not counted", result.result),
    });
    receipt
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
