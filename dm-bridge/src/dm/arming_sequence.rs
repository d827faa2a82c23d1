//! The ordered commands that arm one device: consent, writes, Exec, and the groups around them.
//!
//! ```text
//! whole     Sequence { 1101, Replace …, Replace PkgURL, Exec }        where it fits one message
//! in steps  1101;  Atomic { Replace … };  Sequence { Replace PkgURL, Exec }
//! singly    1101;  Replace …, Replace PkgURL;  Exec                   for clients without groups
//! ```
//!
//! A device may run the commands of one message in any order, so an Exec is gated by a Sequence or
//! is sent in a later message than the writes it needs. A step consists of the commands that have
//! not succeeded so far: members that a device skipped because of an earlier member are sent again
//! without that member.

use std::collections::BTreeSet;

use proto::{
    dm::{
        code::StatusCode,
        fumo::ResultCode,
        nodes::broadcast,
        syncml::{CommandId, Message, MessageId, Verb},
    },
    ids::CampaignId,
};

use super::{
    command::{GroupKind, PlannedCommand, Property, Requirement},
    context::{Context, DeviceContext},
    session::{DmSession, Stage},
};
use crate::{
    arming::commands::{self, ArmingCommands, ArmingInput},
    campaign::model::DeliveryMethod,
    fleet::{attempt::ArmingPhase, profile::Quirk},
};

/// Groups that a device supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupSupport {
    pub(super) sequence: bool,
    pub(super) atomic: bool,
}

impl GroupSupport {
    /// Returns the assumption about a device that has not answered a group yet.
    pub(super) fn of(quirks: &BTreeSet<Quirk>) -> Self {
        let supports = |quirk| !quirks.contains(&quirk);
        Self { sequence: supports(Quirk::NoSequence), atomic: supports(Quirk::NoAtomic) }
    }
}

/// The remaining commands up to the Exec of one device.
#[derive(Debug, Clone)]
pub(super) struct ArmingSequence {
    pub(super) campaign: CampaignId,
    /// Revision of the window.
    pub(super) revision: u32,
    consent_prompt: Option<PlannedCommand>,
    /// Commands whose order matters: roots, which a device cannot roll back, and new nodes.
    first: Vec<PlannedCommand>,
    writes: Vec<PlannedCommand>,
    /// The package URL and the Exec.
    start: Vec<PlannedCommand>,
    /// Reason against sending the Exec.
    blocked: Option<String>,
    is_over: bool,
    /// Set while all commands may fit one message.
    may_fit_message: bool,
    /// Remaining commands and their grouping before the last step.
    previous_step: Option<(Vec<PlannedCommand>, GroupSupport, bool)>,
}

impl ArmingSequence {
    fn new(
        (campaign, revision): (CampaignId, u32),
        prepared: ArmingCommands,
        exec: PlannedCommand,
    ) -> Self {
        Self {
            campaign,
            revision,
            consent_prompt: None,
            first: prepared.first,
            writes: prepared.writes,
            start: prepared.address.into_iter().chain([exec]).collect(),
            blocked: None,
            is_over: false,
            may_fit_message: true,
            previous_step: None,
        }
    }

    /// Returns the commands of the next step; `None` when the last one has changed nothing.
    fn next_step(&mut self, groups: GroupSupport) -> Option<Vec<PlannedCommand>> {
        let left: Vec<_> =
            [self.consent_prompt.as_slice(), &self.first, &self.writes, &self.start].concat();
        let state = (left.clone(), groups, self.may_fit_message);
        if self.previous_step.replace(state.clone()) == Some(state) {
            return None;
        }
        // spec: oma-dm 4.2 (what gates an Exec is in its Sequence)
        if groups.sequence && self.may_fit_message {
            return Some(grouped(GroupKind::Sequence, left));
        }
        if let Some(ask) = &self.consent_prompt {
            return Some(vec![ask.clone()]);
        }
        if !self.first.is_empty() {
            let first = self.first.clone();
            let one_by_one = groups.sequence;
            return Some(if one_by_one { grouped(GroupKind::Sequence, first) } else { first });
        }
        let mut writes = self.writes.clone();
        let mut start = self.start.clone();
        if !groups.sequence
            && let Some(exec) = start.pop()
        {
            writes.append(&mut start);
            start.push(exec);
        }
        if !writes.is_empty() {
            // spec: oma-dm 4.3 (what belongs together is written together)
            let together = groups.atomic;
            return Some(if together { grouped(GroupKind::Atomic, writes) } else { writes });
        }
        Some(grouped(GroupKind::Sequence, start))
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Removes a command that need not be sent again.
    fn mark_done(&mut self, planned: &PlannedCommand) {
        for left in [&mut self.first, &mut self.writes, &mut self.start] {
            if let Some(place) = left.iter().position(|it| it == planned) {
                left.remove(place);
                return;
            }
        }
    }

    /// Turns an Add whose node exists into a Replace.
    fn overwrite(&mut self, planned: &PlannedCommand) {
        let Some(instead) = planned.overwriting() else { return self.mark_done(planned) };
        for left in [&mut self.first, &mut self.writes, &mut self.start] {
            for place in left.iter_mut().filter(|it| *it == planned) {
                *place = instead.clone();
            }
        }
    }
}

/// Groups commands, unless there is only one.
fn grouped(kind: GroupKind, members: Vec<PlannedCommand>) -> Vec<PlannedCommand> {
    if members.len() < 2 { members } else { vec![PlannedCommand::group(kind, members)] }
}

/// Returns whether a command was executed: some 2xx codes mean that it was not.
pub(super) fn is_carried_out(code: StatusCode) -> bool {
    let skipped =
        [StatusCode::CANCELLED, StatusCode::NOT_EXECUTED, StatusCode::ROLLED_BACK].contains(&code);
    code.is_success() && !skipped
}

impl DmSession {
    pub(super) fn begin_arming(&mut self, ctx: &mut Context<'_>, id: CampaignId) {
        // One attempt per session, whatever its outcome.
        self.attempted.insert(id);
        let Some(row) = ctx.stored.latest().find(|row| row.campaign == id).cloned() else { return };
        let commands = match row.delivery_method {
            DeliveryMethod::Broadcast => self.broadcast_commands(ctx, id),
            DeliveryMethod::Download | DeliveryMethod::Direct => {
                self.unicast_commands(ctx, (id, row.delivery_method))
            }
        };
        match commands {
            Ok((revision, commands)) => {
                let Some(campaign) = ctx.stored.campaign(id) else { return };
                let Some(exec) = commands::exec(campaign, &ctx.stored.device, &row) else { return };
                let mut sequence = ArmingSequence::new((id, revision), commands, exec);
                sequence.consent_prompt = self.consent_prompt(ctx.stored, id);
                self.arming = Some(sequence);
                self.stage = Stage::Arming;
            }
            Err((phase, reason)) => ctx.update_latest(id, |row| {
                row.phase = phase.unwrap_or(row.phase);
                row.reason = Some(reason);
            }),
        }
    }

    fn broadcast_commands(&self, ctx: &Context<'_>, id: CampaignId) -> CommandsResult {
        let found = ctx
            .stored
            .campaign(id)
            .and_then(|campaign| Some((campaign, campaign.open_broadcast_window(ctx.now)?)));
        let Some((campaign, (window, air))) = found else {
            return Err((None, "the campaign is not on air".to_owned()));
        };
        if let Some(unfit) = self.unfit(campaign.terms.largest_block, campaign.terms.stored_bytes) {
            let (phase, reason) = unfit;
            return Err((Some(phase), reason));
        }
        // A device that does not report its root gets none.
        let held = self.properties.get(&Property::Root).and_then(|text| text.trim().parse().ok());
        let roots = held
            .map_or(Ok(Vec::new()), |held| campaign.documents.roots_after(held))
            .map_err(|missing| {
                (None, format!("the device lacks root {missing}, which was not handed in"))
            })?;
        let preparation = ArmingInput { campaign, window, air, device: &ctx.stored.device, roots };
        Ok((window.revision, commands::arming_commands(&preparation, ctx.now)))
    }

    /// Returns the question to the user, if the campaign has one and the device does not run the
    /// version already.
    // spec: oma-001 8.1.1.6 (the device's firmware is known: it needs the update)
    fn consent_prompt(&self, context: &DeviceContext, id: CampaignId) -> Option<PlannedCommand> {
        let campaign = context.campaign(id)?;
        let text = campaign.delivery.ask_user.as_ref()?;
        let runs = campaign.delivery.software.is_none()
            && self.properties.get(&Property::Firmware) == Some(&campaign.terms.firmware_version);
        (!runs && !self.consented.contains(&id)).then(|| commands::consent_prompt(id, text))
    }

    // spec: oma-002 8 (the version node distinguishes a plain 1.0 device)
    /// Returns the reason why the device cannot receive a campaign, before anything is sent.
    fn unfit(&self, largest_block: u32, stored_bytes: u64) -> Option<(ArmingPhase, String)> {
        // A later 1.x adds optional nodes; another major version is incompatible.
        let major = |version: &str| version.trim().split('.').next().map(str::to_owned);
        let version =
            self.properties.get(&Property::BroadcastVersion).and_then(|version| major(version));
        if version != major(broadcast::VERSION_VALUE) {
            let reason = "the device has no Ext/Broadcast of version 1.0".to_owned();
            return Some((ArmingPhase::NeedsUnicast, reason));
        }
        let limit =
            |fact| self.properties.get(&fact).and_then(|text| text.trim().parse::<u64>().ok());
        let block = limit(Property::MaxBlockSymbols).filter(|limit| *limit < largest_block.into());
        if let Some(limit) = block {
            let reason =
                format!("blocks have {largest_block} symbols, the device supports {limit}");
            return Some((ArmingPhase::Refused, reason));
        }
        let room = limit(Property::MaxStorage).map(|kibibytes| kibibytes.saturating_mul(1024));
        if let Some(room) = room.filter(|room| *room < stored_bytes) {
            let reason = format!("the package has {stored_bytes} octets, the device holds {room}");
            return Some((ArmingPhase::Refused, reason));
        }
        None
    }

    /// Queues the next step of the sequence, or ends it.
    pub(super) fn next_arming_step(&mut self, ctx: &mut Context<'_>) {
        self.stage = Stage::Schedule;
        let Some(mut sequence) = self.arming.take().filter(|sequence| !sequence.is_over) else {
            return;
        };
        let stuck = || "the device does not execute its commands".to_owned();
        let next = match sequence.blocked.take() {
            Some(reason) => Err(reason),
            None => sequence.next_step(self.groups).ok_or_else(stuck),
        };
        match next {
            Ok(commands) => {
                self.queue.extend(commands);
                self.arming = Some(sequence);
                self.stage = Stage::Arming;
            }
            Err(reason) => {
                ctx.audit_note(format!("not armed: {reason}"));
                // The attempt stays pending: no Exec was sent, so its correlator is unused.
                ctx.update_latest(sequence.campaign, |row| row.reason = Some(reason));
            }
        }
    }

    /// Splits a group that does not fit into a message.
    pub(super) fn regroup(&mut self, kind: GroupKind, ctx: &mut Context<'_>) {
        match (kind, &mut self.arming) {
            (GroupKind::Sequence, Some(sequence)) if sequence.may_fit_message => {
                sequence.may_fit_message = false
            }
            (GroupKind::Sequence, _) => self.groups.sequence = false,
            (GroupKind::Atomic, _) => self.groups.atomic = false,
        }
        self.next_arming_step(ctx);
    }

    /// Records the groups that a message rejects, wherever the statuses of their members are.
    pub(super) fn record_refused_groups(&mut self, message: &Message) {
        let refused = message.statuses().filter(|status| !status.code.is_success());
        let keys = refused.map(|status| (status.message_ref, status.command_ref));
        self.refused_groups = keys.filter(|key| self.group_kind_of(*key).is_some()).collect();
    }

    fn group_kind_of(&self, key: (MessageId, CommandId)) -> Option<GroupKind> {
        self.sent.get(&key).and_then(|sent| sent.planned.group_kind())
    }

    /// Returns the effective status of a member: one of a rejected group that was not executed all
    /// the same is sent again without the group.
    // spec: oma-dm 4.3 (406, 500, 507: the same without the group)
    pub(super) fn code_in_group(
        &self,
        group: Option<(MessageId, CommandId)>,
        code: StatusCode,
    ) -> StatusCode {
        let Some(key) = group.filter(|key| self.refused_groups.contains(key)) else { return code };
        let was_asked = [StatusCode::NOT_MODIFIED, StatusCode::CANCELLED, StatusCode::TIMED_OUT]
            .contains(&code);
        let stands = self.group_kind_of(key) == Some(GroupKind::Sequence)
            && (is_carried_out(code) || was_asked);
        if stands { code } else { StatusCode::NOT_EXECUTED }
    }

    pub(super) fn on_group_status(
        &mut self,
        ctx: &mut Context<'_>,
        kind: GroupKind,
        code: StatusCode,
    ) {
        if code.is_success() {
            return;
        }
        ctx.audit_note(format!("{kind} answered {code}"));
        match kind {
            GroupKind::Sequence => self.groups.sequence = false,
            GroupKind::Atomic => self.groups.atomic = false,
        }
    }

    pub(super) fn on_write_status(
        &mut self,
        ctx: &mut Context<'_>,
        (planned, code): (&PlannedCommand, StatusCode),
        (need, name): (Requirement, &'static str),
    ) {
        let Some(sequence) = &mut self.arming else { return };
        if is_carried_out(code) {
            return sequence.mark_done(planned);
        }
        if code == StatusCode::NOT_EXECUTED || code == StatusCode::ROLLED_BACK {
            return;
        }
        if code == StatusCode::ALREADY_EXISTS && planned.verb() == Verb::Add {
            return sequence.overwrite(planned);
        }
        let reason = format!("{} of {name} answered {code}", planned.verb().as_str());
        match need {
            Requirement::Required => {
                sequence.blocked.get_or_insert(reason);
            }
            Requirement::Optional => {
                sequence.mark_done(planned);
                ctx.audit_note(reason);
            }
        }
    }

    /// Handles the answer of the user, which goes into the audit log.
    // spec: oma-001 8.1.1.9
    pub(super) fn on_consent_status(
        &mut self,
        ctx: &mut Context<'_>,
        campaign: CampaignId,
        code: StatusCode,
    ) {
        if code == StatusCode::NOT_EXECUTED {
            return;
        }
        ctx.audit_note(format!("{campaign}: the user answered {code}"));
        let (phase, reason) = match code {
            StatusCode::OK => {
                self.consented.insert(campaign);
                if let Some(sequence) = &mut self.arming {
                    sequence.consent_prompt = None;
                }
                return;
            }
            StatusCode::NOT_MODIFIED | StatusCode::CANCELLED => {
                (ArmingPhase::Refused, "the user declined".to_owned())
            }
            StatusCode::NOT_SUPPORTED | StatusCode::NOT_DISPLAYABLE => {
                (ArmingPhase::Refused, format!("the device cannot ask its user: {code}"))
            }
            // The next session prompts the user again.
            _ => (ArmingPhase::Pending, format!("the user did not answer: {code}")),
        };
        let refused = code == StatusCode::NOT_MODIFIED || code == StatusCode::CANCELLED;
        ctx.update_latest(campaign, |row| {
            row.phase = phase;
            row.reason = Some(reason);
            row.result_code = refused.then_some(ResultCode::USER_CANCELLED.0);
        });
        self.end_arming();
    }

    /// Ends the sequence, whatever its outcome.
    pub(super) fn end_arming(&mut self) {
        if let Some(sequence) = &mut self.arming {
            sequence.is_over = true;
        }
    }
}

/// Commands with the revision of their window, or phase and reason of an attempt without any.
type CommandsResult = Result<(u32, ArmingCommands), (Option<ArmingPhase>, String)>;

impl DmSession {
    fn unicast_commands(
        &self,
        ctx: &Context<'_>,
        (id, way): (CampaignId, DeliveryMethod),
    ) -> CommandsResult {
        let campaign = ctx.stored.campaign(id);
        let window = campaign.and_then(|campaign| campaign.open_unicast_window(ctx.now));
        // A value that does not parse is no partial package.
        let held =
            self.properties.get(&Property::PartialPackage).and_then(|text| text.parse().ok());
        let package = ctx.stored.packages.get(&id).map(|package| (&**package, held));
        let prepared = campaign.and_then(|campaign| {
            commands::unicast_commands(campaign, &ctx.stored.device, way, package)
        });
        let missing = || (None, "the package of the campaign is not here".to_owned());
        let (window, prepared) = window.zip(prepared).ok_or_else(missing)?;
        Ok((window.revision, prepared))
    }
}
