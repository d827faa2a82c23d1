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
    dm::{code::StatusCode, fumo::ResultCode, syncml::Verb},
    ids::{CampaignId, Correlator},
};

use super::{
    Limits,
    capabilities::Capabilities,
    context::{
        Context, DeviceContext, audit_note, campaign_of, is_firmware, latest, update_attempt,
        update_latest,
    },
    outbox::{GroupKind, GroupSupport, PlannedCommand, Requirement, UNANSWERED, is_carried_out},
};
use crate::{
    arming::commands::{self, ArmingCommands, ArmingInput, UnicastPackage},
    campaign::model::DeliveryMethod,
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        package_secret::PackageSecret,
    },
    random::fresh_correlator,
};

/// Status that a FUMO 1.0 client may return for an unknown URL scheme, instead of an alert.
const BAD_URL: StatusCode = StatusCode(411);

/// The remaining commands up to the Exec of one device.
#[derive(Debug, Clone)]
pub(super) struct ArmingSequence {
    campaign: CampaignId,
    /// Revision of the window.
    revision: u32,
    consent_prompt: Option<PlannedCommand>,
    /// Commands whose order matters: roots, which a device cannot roll back, and new nodes.
    first: Vec<PlannedCommand>,
    writes: Vec<PlannedCommand>,
    /// The package URL and the Exec.
    start: Vec<PlannedCommand>,
    /// Status and reason against sending the Exec.
    blocked: Option<(StatusCode, String)>,
    is_over: bool,
    /// Set while all commands may fit one message.
    may_fit_message: bool,
    /// Remaining commands and their grouping before the last step.
    previous_step: Option<(Vec<PlannedCommand>, GroupSupport, bool)>,
}

/// Answer of the user to the question whether to update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consent {
    /// The user accepts.
    Granted,
    /// The user declines or does not answer.
    Missing,
}

/// Commands with the revision of their window, or phase and reason of an attempt without any.
type CommandsResult = Result<(u32, ArmingCommands), (Option<ArmingPhase>, String)>;

impl ArmingSequence {
    /// Returns the sequence for a campaign; it asks the user unless he has accepted before, or the
    /// campaign is in `consented`. Without a sequence, the attempt has the reason.
    pub(super) fn begin(
        ctx: &mut Context<'_>,
        capabilities: &Capabilities,
        id: CampaignId,
        consented: &BTreeSet<CampaignId>,
    ) -> Option<Self> {
        let row = latest(&ctx.stored.attempts).find(|row| row.campaign == id).cloned()?;
        match Self::plan(ctx, capabilities, &row, consented) {
            Ok(sequence) => Some(sequence),
            Err((phase, reason)) => {
                update_latest(ctx, id, |row| row.enter(phase.unwrap_or(row.phase), reason));
                None
            }
        }
    }

    fn plan(
        ctx: &mut Context<'_>,
        capabilities: &Capabilities,
        row: &ArmingAttempt,
        consented: &BTreeSet<CampaignId>,
    ) -> Result<Self, (Option<ArmingPhase>, String)> {
        let (id, method) = (row.campaign, row.delivery_method);
        let has_consent = consented.contains(&id) || row.has_consent();
        let consent_prompt = consent_prompt(ctx.stored, capabilities, id);
        let consent_prompt = consent_prompt.filter(|_| !has_consent);
        if is_firmware(ctx.stored, id) {
            if let Some(reason) = capabilities.is_busy(row, consent_prompt.is_some()) {
                return Err((None, reason));
            }
            if let Some(reason) = capabilities.lacks_operation(method) {
                return Err((Some(ArmingPhase::NeedsUnicast), reason));
            }
        }
        let (revision, commands) = match method {
            DeliveryMethod::Broadcast => broadcast_commands(ctx, capabilities, id),
            DeliveryMethod::Download | DeliveryMethod::Direct => {
                unicast_commands(ctx, capabilities, row)
            }
        }?;
        if let Some(code) = capabilities.cannot_ask().filter(|_| consent_prompt.is_some()) {
            return Err((Some(ArmingPhase::Refused), cannot_ask(code)));
        }
        let campaign = campaign_of(ctx.stored, id);
        let exec = campaign.and_then(|it| commands::exec(it, &ctx.stored.device, row));
        let exec = exec.ok_or_else(|| {
            (None, format!("{method} delivery cannot start the operation of the campaign"))
        })?;
        Ok(Self {
            campaign: id,
            revision,
            consent_prompt,
            first: commands.first,
            writes: commands.writes,
            start: commands.address.into_iter().chain([exec]).collect(),
            blocked: None,
            is_over: false,
            may_fit_message: true,
            previous_step: None,
        })
    }

    /// Returns the campaign until the sequence is over.
    pub(super) fn open_campaign(&self) -> Option<CampaignId> {
        (!self.is_over).then_some(self.campaign)
    }

    pub(super) const fn campaign(&self) -> CampaignId {
        self.campaign
    }

    pub(super) const fn revision(&self) -> u32 {
        self.revision
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Ends the sequence, whatever its outcome.
    pub(super) const fn end(&mut self) {
        self.is_over = true;
    }

    /// Returns the commands of the next step; `None`, with the reason at the attempt, when the
    /// device is not armed.
    pub(super) fn next(
        &mut self,
        ctx: &mut Context<'_>,
        groups: GroupSupport,
        limits: Limits,
    ) -> Option<Vec<PlannedCommand>> {
        let stuck =
            || (StatusCode::NOT_EXECUTED, "the device does not execute its commands".to_owned());
        let next = match self.blocked.take() {
            Some(refusal) => Err(refusal),
            None => self.next_step(groups).ok_or_else(stuck),
        };
        match next {
            Ok(commands) => Some(commands),
            Err((code, reason)) => {
                audit_note(ctx, format!("not armed: {reason}"));
                refuse_latest(ctx, self.campaign, (code, reason), limits);
                None
            }
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
        if groups.supports(GroupKind::Sequence) && self.may_fit_message {
            return Some(grouped(GroupKind::Sequence, left));
        }
        if let Some(ask) = &self.consent_prompt {
            return Some(vec![ask.clone()]);
        }
        if !self.first.is_empty() {
            let first = self.first.clone();
            let one_by_one = groups.supports(GroupKind::Sequence);
            return Some(if one_by_one { grouped(GroupKind::Sequence, first) } else { first });
        }
        let mut writes = self.writes.clone();
        let mut start = self.start.clone();
        if !groups.supports(GroupKind::Sequence)
            && let Some(exec) = start.pop()
        {
            writes.append(&mut start);
            start.push(exec);
        }
        if !writes.is_empty() {
            // spec: oma-dm 4.3 (what belongs together is written together)
            let together = groups.supports(GroupKind::Atomic);
            return Some(if together { grouped(GroupKind::Atomic, writes) } else { writes });
        }
        Some(grouped(GroupKind::Sequence, start))
    }

    /// Splits the sequence when it exceeds a message as a whole; returns whether it was whole.
    pub(super) const fn split(&mut self, kind: GroupKind) -> bool {
        match kind {
            GroupKind::Sequence => std::mem::replace(&mut self.may_fit_message, false),
            GroupKind::Atomic => false,
        }
    }

    /// Handles the status of a write.
    pub(super) fn on_write_status(
        &mut self,
        ctx: &mut Context<'_>,
        planned: &PlannedCommand,
        code: StatusCode,
        (need, name): (Requirement, &'static str),
    ) {
        if is_carried_out(code) {
            return self.mark_done(planned);
        }
        if code == StatusCode::NOT_EXECUTED || code == StatusCode::ROLLED_BACK {
            return;
        }
        if code == StatusCode::ALREADY_EXISTS && planned.verb() == Verb::Add {
            return self.overwrite(planned);
        }
        let verb = planned.verb();
        let reason = match code {
            UNANSWERED => format!("{verb} of {name} was not answered"),
            _ => format!("{verb} of {name} answered {code}"),
        };
        match need {
            Requirement::Required => {
                self.blocked.get_or_insert((code, reason));
            }
            Requirement::Optional => {
                self.mark_done(planned);
                audit_note(ctx, reason);
            }
        }
    }

    /// Handles the answer of the user.
    pub(super) fn on_consent(&mut self, consent: Consent) {
        match consent {
            Consent::Granted => self.consent_prompt = None,
            Consent::Missing => self.is_over = true,
        }
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

fn broadcast_commands(
    ctx: &Context<'_>,
    capabilities: &Capabilities,
    id: CampaignId,
) -> CommandsResult {
    let found = campaign_of(ctx.stored, id)
        .and_then(|campaign| Some((campaign, campaign.open_broadcast_window(ctx.now)?)));
    let Some((campaign, (window, air))) = found else {
        return Err((None, "the campaign is not on air".to_owned()));
    };
    if let Some(unfit) =
        capabilities.unfit(campaign.terms.largest_block, campaign.terms.stored_bytes)
    {
        let (phase, reason) = unfit;
        return Err((Some(phase), reason));
    }
    let held = capabilities.root();
    let roots = held.map_or(Ok(Vec::new()), |held| campaign.documents.roots_after(held)).map_err(
        |missing| (None, format!("the device lacks root {missing}, which was not handed in")),
    )?;
    let preparation = ArmingInput { campaign, window, air, device: &ctx.stored.device, roots };
    Ok((window.revision, commands::arming_commands(&preparation, ctx.now)))
}

/// Returns the question to the user, if the campaign has one and the device does not run the
/// version already.
// spec: oma-001 8.1.1.6 (the device's firmware is known: it needs the update)
fn consent_prompt(
    stored: &DeviceContext,
    capabilities: &Capabilities,
    id: CampaignId,
) -> Option<PlannedCommand> {
    let campaign = campaign_of(stored, id)?;
    let text = campaign.delivery.ask_user.as_ref()?;
    let runs =
        campaign.delivery.software.is_none() && capabilities.runs(&campaign.terms.firmware_version);
    (!runs).then(|| commands::consent_prompt(id, text))
}

fn unicast_commands(
    ctx: &mut Context<'_>,
    capabilities: &Capabilities,
    row: &ArmingAttempt,
) -> CommandsResult {
    let is_direct = row.delivery_method == DeliveryMethod::Direct;
    if is_direct && !ctx.stored.packages.contains_key(&row.campaign) {
        ctx.stored.wanted_package = Some(row.campaign);
    }
    let secret = package_secret(ctx, row);
    let campaign = campaign_of(ctx.stored, row.campaign);
    let window = campaign.and_then(|campaign| campaign.open_unicast_window(ctx.now));
    let held = capabilities.partial_package();
    let package = match row.delivery_method {
        DeliveryMethod::Broadcast => None,
        DeliveryMethod::Download => secret.as_ref().map(UnicastPackage::Download),
        DeliveryMethod::Direct => {
            let package = ctx.stored.packages.get(&row.campaign);
            package.map(|package| UnicastPackage::Direct(package, held))
        }
    };
    let commands = campaign.zip(package).map(|(campaign, package)| {
        commands::unicast_commands(campaign, &ctx.stored.device, package)
    });
    let missing = || (None, "the package of the campaign is not here".to_owned());
    let (window, commands) = window.zip(commands).ok_or_else(missing)?;
    Ok((window.revision, commands))
}

/// Returns the secret in the URLs of a download, which is made for the first of them.
fn package_secret(ctx: &mut Context<'_>, row: &ArmingAttempt) -> Option<PackageSecret> {
    if row.delivery_method != DeliveryMethod::Download || row.package_secret.is_some() {
        return row.package_secret.clone();
    }
    let secret = PackageSecret::new((ctx.random)());
    update_latest(ctx, row.campaign, |latest| latest.set_package_secret(secret.clone()));
    Some(secret)
}

/// Handles the answer of the user, which goes into the audit log; `None` when there was no
/// question.
// spec: oma-001 8.1.1.9
pub(super) fn on_consent_status(
    ctx: &mut Context<'_>,
    campaign: CampaignId,
    code: StatusCode,
    limits: Limits,
) -> Option<Consent> {
    if code == StatusCode::NOT_EXECUTED {
        return None;
    }
    let is_answer =
        [StatusCode::OK, StatusCode::NOT_MODIFIED, StatusCode::CANCELLED, StatusCode::TIMED_OUT]
            .contains(&code);
    let who = if is_answer { "the user" } else { "the question to the user was" };
    audit_note(ctx, format!("{campaign}: {who} answered {code}"));
    let (phase, reason) = match code {
        StatusCode::OK => {
            update_latest(ctx, campaign, ArmingAttempt::consent);
            return Some(Consent::Granted);
        }
        StatusCode::NOT_MODIFIED | StatusCode::CANCELLED => {
            (ArmingPhase::Refused, "the user declined".to_owned())
        }
        code if says_no_user(code) => (ArmingPhase::Refused, cannot_ask(code)),
        // The next session prompts the user again.
        StatusCode::TIMED_OUT => (ArmingPhase::Pending, format!("the user did not answer: {code}")),
        later if later.is_retry_later() => {
            (ArmingPhase::Pending, format!("the device does not ask its user now: {later}"))
        }
        _ => {
            let reason = match code {
                UNANSWERED => "the device did not answer the question to its user".to_owned(),
                _ => format!("the question to the user was answered {code}"),
            };
            refuse_latest(ctx, campaign, (StatusCode::FAILED, reason), limits);
            return Some(Consent::Missing);
        }
    };
    let refused = code == StatusCode::NOT_MODIFIED || code == StatusCode::CANCELLED;
    let declined = refused.then_some(ResultCode::USER_CANCELLED);
    update_latest(ctx, campaign, |row| row.record_consent(phase, reason, declined));
    Some(Consent::Missing)
}

/// Returns whether the status of a question to the user says that the device cannot ask him.
// spec: oma-dm 4.4 (a device that cannot ask its user)
pub(super) fn says_no_user(code: StatusCode) -> bool {
    [
        StatusCode::NOT_FOUND,
        StatusCode::NOT_ALLOWED,
        StatusCode::NOT_SUPPORTED,
        StatusCode::UNSUPPORTED_FORMAT,
        StatusCode::NOT_DISPLAYABLE,
        StatusCode::NOT_IMPLEMENTED,
    ]
    .contains(&code)
}

fn cannot_ask(code: StatusCode) -> String {
    format!("the device cannot ask its user: {code}")
}

/// Handles the status of the Exec that arms a device, sent for a revision of the window. A result
/// that came before it stays.
// spec: oma-dm 11.6 (the status of the Exec)
pub(super) fn on_exec_status(
    ctx: &mut Context<'_>,
    (correlator, revision): (&Correlator, u32),
    code: StatusCode,
    limits: Limits,
) {
    let reason = format!("Exec answered {code}");
    match code {
        accepted if is_carried_out(accepted) => {
            update_attempt(ctx, correlator, |row| row.accept(revision, None));
        }
        // The result follows in a final alert, as after 202.
        StatusCode(100..200) => {
            let reason = format!("{reason}: in progress");
            update_attempt(ctx, correlator, |row| row.accept(revision, Some(reason)));
        }
        _ => refuse(ctx, correlator, (code, reason), limits),
    }
}

/// As [`refuse`], for the latest attempt of a campaign.
pub(super) fn refuse_latest(
    ctx: &mut Context<'_>,
    campaign: CampaignId,
    refusal: (StatusCode, String),
    limits: Limits,
) {
    let row = latest(&ctx.stored.attempts).find(|row| row.campaign == campaign);
    if let Some(correlator) = row.map(|row| row.correlator.clone()) {
        refuse(ctx, &correlator, refusal, limits);
    }
}

/// Records that the device has refused a command that an attempt needs. The next session repeats
/// it, another delivery method is next, or the attempt has failed: then another one waits, up to the
/// limit.
// spec: oma-dm 11.4 (a refusal covers what follows from it)
fn refuse(
    ctx: &mut Context<'_>,
    correlator: &Correlator,
    (code, reason): (StatusCode, String),
    limits: Limits,
) {
    let mut next = None;
    update_attempt(ctx, correlator, |row| {
        if row.result_code.is_some() {
            return;
        }
        match code {
            // The next session sends the same correlator.
            UNANSWERED if row.has_exec_out() => {
                return row.postpone("the Exec was sent and not answered".to_owned());
            }
            later if later.is_retry_later() => row.postpone(reason),
            StatusCode::NOT_FOUND
            | StatusCode::NOT_ALLOWED
            | StatusCode::NOT_SUPPORTED
            | StatusCode::NOT_IMPLEMENTED
            | BAD_URL => row.enter(ArmingPhase::NeedsUnicast, reason),
            _ => {
                row.enter(ArmingPhase::Failed, reason);
                next = Some(row.clone()).filter(|row| row.attempt < limits.attempts);
            }
        }
        row.clear_exec();
    });
    if let Some(row) = next {
        let correlator = fresh_correlator(ctx.random);
        ctx.stored.attempts.push(row.successor(correlator, ctx.now));
    }
}
