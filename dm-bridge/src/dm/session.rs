//! One authenticated DM session: packages 1 to 4, and again from 3 while there is work.
//!
//! ```text
//! package 1  credential, DevInfo, alerts   ->  statuses, Gets                      Query
//! package 3  values                        ->  the commands that arm, in as few messages as the
//!                                              device accepts                      Arming
//! package 3  202, perhaps a final alert    ->  more commands, or none: the end     Schedule, Done
//! ```

use std::collections::BTreeSet;

use proto::{
    dm::{
        alert::GenericAlert,
        auth::AuthKind,
        code::{AlertCode, StatusCode},
        encoding::Encoding,
        fumo::{OperationResult, UpdateRequest},
        scomo,
        syncml::{
            Alert, Challenge, Command, CommandId, Header, Item, Message, MessageId, Results,
            Status, Verb,
        },
    },
    ids::CampaignId,
    wire::WireError,
};

use super::{
    Limits,
    arming_sequence::{self, ArmingSequence, Consent},
    capabilities::Capabilities,
    context::{AuthContext, Context, audit_note, campaign_of, update_latest},
    incoming::{self, clip},
    inventory::{self, MAX_LIST_BYTES},
    message::{
        InboundMessage, InboundObjects, MessageBuilder, MessageOutcome, OutboundMessage, meta_order,
    },
    outbox::{
        GroupKind, Outbox, Packed, PlannedCommand, Property, Purpose, Request, UNANSWERED,
        is_carried_out,
    },
    proof::verify,
    server_auth::{self, ServerAuth},
    tasks::{ArmingTask, SessionTasks, Step},
    update_request,
};
use crate::{
    arming::results::Receipt,
    campaign::model::CampaignState,
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        profile::Quirk,
    },
};

/// A DM session with an authenticated device.
#[derive(Debug, Clone)]
pub struct DmSession {
    id: String,
    token: String,
    last_message: MessageId,
    /// Our last message.
    last_reply: MessageId,
    /// Messages of the device.
    messages: u32,
    limits: Limits,
    /// Set when each message carries its own HMAC.
    proof_per_message: bool,
    stage: Stage,
    server_auth: ServerAuth,
    capabilities: Capabilities,
    inbound: InboundObjects,
    outbox: Outbox,
    tasks: SessionTasks,
}

#[derive(Debug, Clone)]
enum Stage {
    Query,
    Schedule,
    Arming(Box<ArmingSequence>),
    Exec,
    Done,
}

impl DmSession {
    /// Returns a message that continues this session without a proof of its own; `None` for any
    /// other, which is [authenticated](Self::authenticate).
    #[must_use]
    pub fn proceed(&self, inbound: InboundMessage<'_>) -> Option<AuthenticatedMessage> {
        let continues = self.is_continued_by(inbound.message, inbound.token);
        (continues && !self.proof_per_message).then(|| AuthenticatedMessage {
            session: Box::new(self.clone()),
            challenge: None,
            is_first: false,
        })
    }

    /// Authenticates a message by the row of its device: the message continues `current`, or opens
    /// a session in its place.
    ///
    /// # Errors
    ///
    /// The outcome for a peer that has not proved itself; the row and the session are as before.
    pub fn authenticate(
        current: Option<&Self>,
        ctx: &mut AuthContext<'_>,
        inbound: InboundMessage<'_>,
        limits: Limits,
    ) -> Result<AuthenticatedMessage, MessageOutcome> {
        // spec: oma-dm 5.1 (proof over each message)
        let next = verify(ctx, inbound, limits)?;
        let kind = ctx.device.auth.kind;
        let challenge = kind.has_nonce().then(|| Challenge::new(kind, &next.0));
        let running = current.filter(|it| it.is_continued_by(inbound.message, inbound.token));
        let session = running.map_or_else(
            || {
                let quirks = &ctx.device.profile.quirks;
                let header = &inbound.message.header;
                let mut session = Self::begin(header, limits, (ctx.random)(), quirks);
                session.proof_per_message = kind == AuthKind::Mac;
                session
            },
            Self::clone,
        );
        let (session, is_first) = (Box::new(session), running.is_none());
        Ok(AuthenticatedMessage { session, challenge, is_first })
    }

    fn begin(header: &Header, limits: Limits, token: [u8; 16], quirks: &BTreeSet<Quirk>) -> Self {
        Self {
            id: header.session_id.clone(),
            token: format!("{:032x}", u128::from_be_bytes(token)),
            last_message: MessageId::new(0),
            last_reply: MessageId::new(0),
            messages: 0,
            limits,
            proof_per_message: false,
            stage: Stage::Query,
            server_auth: ServerAuth::default(),
            capabilities: Capabilities::new(quirks),
            inbound: InboundObjects::default(),
            outbox: Outbox::new(limits, quirks),
            tasks: SessionTasks::default(),
        }
    }

    /// Returns the token of this session, which `RespURI` carries; further messages repeat it.
    #[cfg(test)]
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Returns whether `message`, received with `token`, continues this session.
    pub(super) fn is_continued_by(&self, message: &Message, token: Option<&str>) -> bool {
        let token = token.unwrap_or_default();
        message.header.session_id == self.id
            && message.header.message_id.may_follow(self.last_message)
            && proto::crypto::equal_in_constant_time(token.as_bytes(), self.token.as_bytes())
    }

    /// Returns whether the session has ended.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    fn respond(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: InboundMessage<'_>,
        challenge: Option<Challenge>,
    ) -> Message {
        let reply = self.compose_reply(ctx, inbound, challenge);
        self.server_auth.record_sent(&reply);
        self.last_reply = reply.header.message_id;
        reply
    }

    fn compose_reply(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: InboundMessage<'_>,
        challenge: Option<Challenge>,
    ) -> Message {
        let (message, encoding) =
            (inbound.message.in_reply_to(self.last_reply), inbound.encoding());
        let message = &*message;
        self.last_message = message.header.message_id;
        self.messages += 1;
        self.outbox.adopt_limits(message.header.meta.as_ref(), self.limits);
        let uri = self.reply_uri(&ctx.stored.device.url);
        let account = &ctx.stored.device.account;
        let mut reply = MessageBuilder::new(message, self.limits, uri).named(&account.server_id);
        // spec: oma-dm 5 (212 and the nonce of the next session)
        let code = if self.proof_per_message { StatusCode::OK } else { StatusCode::AUTHENTICATED };
        reply.header_status(code, challenge);
        if let Some(status) = self.server_auth.challenge_of(message) {
            match self.server_auth.resend(ctx, &mut reply, status) {
                Some(sent_as) => self.outbox.renumber(sent_as, reply.id()),
                None => {
                    audit_note(ctx, "server authentication rejected");
                    self.end();
                }
            }
            return reply.finish();
        }
        self.handle_commands(ctx, message, &mut reply);
        self.server_auth.add_credential(&ctx.stored.device, &mut reply);
        for item in self.inbound.take_aborted() {
            reply.alert(AlertCode::NO_END_OF_DATA, vec![item]);
        }
        if self.is_finished() {
            return reply.finish();
        }
        if let Some(reason) = self.abort_reason(ctx) {
            audit_note(ctx, format!("session aborted: {reason}"));
            self.end();
            reply.alert(AlertCode::SESSION_ABORT, Vec::new());
            return reply.finish();
        }
        let is_our_turn = self.outbox.take_package_open() || message.is_final;
        if self.outbox.chunk_due() {
            self.send_chunk(ctx, &mut reply, encoding);
            return reply.finish();
        }
        self.on_chunk_unanswered(ctx);
        if !is_our_turn {
            // spec: oma-dm 1 (next message)
            return reply.request_next_message();
        }
        self.next_package(ctx, &mut reply, encoding);
        reply.finish()
    }

    /// Handles all commands of a message; each that requires a Status gets one.
    fn handle_commands(
        &mut self,
        ctx: &mut Context<'_>,
        message: &Message,
        reply: &mut MessageBuilder<'_>,
    ) {
        self.outbox.record_refused_groups(message);
        let limit = self.limits.object_bytes;
        for command in &message.commands {
            let code = match command {
                Command::Status(status) => {
                    self.on_status(ctx, status);
                    continue;
                }
                Command::Results(results) => {
                    let meta = results.meta.as_ref();
                    match self.inbound.complete(Verb::Results, (meta, &results.items), limit) {
                        Ok(items) => {
                            self.on_results(ctx, results, &items);
                            continue;
                        }
                        Err(code) => code,
                    }
                }
                Command::Alert(alert) => {
                    match self.inbound.complete(Verb::Alert, (None, &alert.items), limit) {
                        Ok(items) => self.on_alert(ctx, alert, &items),
                        Err(code) => code,
                    }
                }
                Command::Replace(manage) => {
                    let meta = manage.meta.as_ref();
                    match self.inbound.complete(Verb::Replace, (meta, &manage.items), limit) {
                        Ok(items) => incoming::on_dev_info(ctx, &items),
                        Err(code) => code,
                    }
                }
                // spec: oma-dm 1 (a client sends Replace, Results, Alert and Status alone)
                Command::Exec(_)
                | Command::Get(_)
                | Command::Add(_)
                | Command::Delete(_)
                | Command::Copy(_)
                | Command::Sequence(_)
                | Command::Atomic(_) => StatusCode::NOT_ALLOWED,
                Command::Rejected(rejected) => rejected.code,
            };
            if command.wants_status() || matches!(command, Command::Results(_)) {
                reply.command_status(command, code);
            }
        }
        self.inbound.end_of_message();
        incoming::note_rejected(ctx, message);
    }

    fn on_status(&mut self, ctx: &mut Context<'_>, status: &Status) {
        if status.command_ref == CommandId::HEADER {
            if !self.server_auth.is_answered_by(status) {
                ServerAuth::take_nonce(&mut ctx.stored.device, status);
            } else if status.code.is_success() {
                self.server_auth.on_accepted(&mut ctx.stored.device, status);
            } else if status.code == StatusCode(0) {
                // No code of the standard: some devices write it for success.
                audit_note(ctx, "header answered 0");
            } else {
                audit_note(ctx, format!("header answered {}", status.code));
                self.end();
            }
        } else if let Some((planned, code)) = self.outbox.on_status(status) {
            self.on_command_status(ctx, &planned, code);
        }
    }

    /// Aborts the object being sent: its chunk has no status.
    fn on_chunk_unanswered(&mut self, ctx: &mut Context<'_>) {
        if let Some(planned) = self.outbox.abort_object() {
            self.on_command_status(ctx, &planned, UNANSWERED);
        }
    }

    /// Passes the status of a command to the owner of its purpose.
    fn on_command_status(
        &mut self,
        ctx: &mut Context<'_>,
        planned: &PlannedCommand,
        code: StatusCode,
    ) {
        match planned.purpose() {
            Purpose::Read(property) => {
                if !code.is_success() {
                    self.capabilities.remove(*property, code);
                }
            }
            Purpose::Inventory => self.tasks.inventory().on_status(planned, code),
            Purpose::Component(correlator) => {
                audit_note(ctx, format!("operation on a component answered {code}"));
                let components = &mut ctx.stored.device.components;
                inventory::on_operation_status(components, correlator, code, ctx.now);
            }
            Purpose::FindObject => self.tasks.search().on_status(planned, code),
            Purpose::Write(need, name) => {
                self.capabilities.on_write_refused(planned, code);
                if let Stage::Arming(sequence) = &mut self.stage {
                    sequence.on_write_status(ctx, planned, code, (*need, name));
                }
            }
            Purpose::Arm(campaign) if code == StatusCode::NOT_EXECUTED => {
                update_latest(ctx, *campaign, ArmingAttempt::skip_exec);
            }
            Purpose::Arm(campaign) => self.on_exec_status(ctx, *campaign, planned, code),
            Purpose::Group(kind) => {
                if !code.is_success() {
                    audit_note(ctx, format!("{kind} answered {code}"));
                    self.outbox.remove_groups(*kind);
                }
            }
            Purpose::NotifyUser => audit_note(ctx, format!("display alert answered {code}")),
            Purpose::AskUser(campaign) => self.on_consent_status(ctx, *campaign, code),
            Purpose::Suspension(command) => incoming::on_suspend_status(ctx, *command, code),
            Purpose::Policy(setting) => incoming::on_policy_status(ctx, setting, code),
            Purpose::Disarm(campaign) => {
                audit_note(ctx, format!("disarm answered {code}"));
                if is_carried_out(code) {
                    update_latest(ctx, *campaign, |row| {
                        row.enter(ArmingPhase::Disarmed, "the campaign was stopped".to_owned());
                    });
                }
            }
        }
    }

    fn on_exec_status(
        &mut self,
        ctx: &mut Context<'_>,
        campaign: CampaignId,
        planned: &PlannedCommand,
        code: StatusCode,
    ) {
        audit_note(ctx, format!("{campaign}: Exec answered {code}"));
        let revision = match &mut self.stage {
            Stage::Arming(sequence) => {
                sequence.end();
                sequence.revision()
            }
            Stage::Query | Stage::Schedule | Stage::Exec | Stage::Done => 0,
        };
        if let Request::Exec(_, Some(correlator)) = planned.request() {
            arming_sequence::on_exec_status(ctx, (correlator, revision), code, self.limits);
        }
    }

    fn on_consent_status(&mut self, ctx: &mut Context<'_>, campaign: CampaignId, code: StatusCode) {
        if arming_sequence::says_no_user(code) {
            self.capabilities.record_no_user(code);
        }
        let consent = arming_sequence::on_consent_status(ctx, campaign, code, self.limits);
        let Some(consent) = consent else { return };
        if consent == Consent::Granted {
            self.tasks.record_consent(campaign);
        }
        if let Stage::Arming(sequence) = &mut self.stage {
            sequence.on_consent(consent);
        }
    }

    fn on_results(&mut self, ctx: &mut Context<'_>, results: &Results, items: &[Item]) {
        let message_ref = results.message_ref.unwrap_or(self.last_reply);
        let Some(planned) = self.outbox.sent(message_ref, results.command_ref) else { return };
        let Some(text) = items.first().and_then(Item::decoded_text) else { return };
        let text = &*text;
        if let (Purpose::Inventory, Request::Get(uri)) = (planned.purpose(), planned.request()) {
            return self.tasks.inventory().on_value(uri, clip(text, MAX_LIST_BYTES));
        }
        if let (Purpose::FindObject, Request::Get(uri)) = (planned.purpose(), planned.request()) {
            return self.tasks.search().on_value(uri, clip(text, MAX_LIST_BYTES));
        }
        let Purpose::Read(property) = *planned.purpose() else { return };
        let is_list = property == Property::Nodes;
        let text = clip(text, if is_list { MAX_LIST_BYTES } else { self.limits.text_bytes });
        self.capabilities.record(property, text.clone());
        match property {
            Property::Firmware => incoming::on_firmware_version(ctx, text),
            Property::Phase => incoming::on_phase(ctx, &text),
            Property::State
            | Property::Nodes
            | Property::BroadcastVersion
            | Property::MaxBlockSymbols
            | Property::MaxStorage
            | Property::LargeObjects
            | Property::PartialPackage
            | Property::Root => {}
        }
    }

    fn on_alert(&mut self, ctx: &mut Context<'_>, alert: &Alert, items: &[Item]) -> StatusCode {
        match alert.code {
            // spec: oma-dm 1.1 (1223)
            AlertCode::SESSION_ABORT => {
                audit_note(ctx, "session aborted by the device");
                self.end();
                StatusCode::OK
            }
            AlertCode::GENERIC => self.on_generic_alert(ctx, alert, items),
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

    fn on_generic_alert(
        &mut self,
        ctx: &mut Context<'_>,
        alert: &Alert,
        items: &[Item],
    ) -> StatusCode {
        let (mut accepted, mut refused) = (None, None);
        for item in items {
            match self.on_alert_item(ctx, alert, item) {
                Ok(code) if code.is_success() => accepted = Some(code),
                Ok(code) => refused = refused.or(Some(code)),
                Err(AlertRefusal { code, reason }) => {
                    incoming::on_refused_alert(ctx, (alert, item), code, &reason);
                    refused = refused.or(Some(code));
                }
            }
        }
        // One status for all: of an alert with an accepted item, a device keeps nothing to repeat.
        accepted.or(refused).unwrap_or(StatusCode::INCOMPLETE)
    }

    // spec: oma-dm 4 (generic alert)
    fn on_alert_item(
        &mut self,
        ctx: &mut Context<'_>,
        alert: &Alert,
        item: &Item,
    ) -> Result<StatusCode, AlertRefusal> {
        let generic = GenericAlert::from_item(item)?;
        let correlator = alert.correlator.as_ref();
        if let Some(result) = scomo::OperationResult::from_item(item, correlator)? {
            let receipt = inventory::on_component_result(ctx, &result);
            return Ok(self.on_result(receipt));
        }
        Ok(match OperationResult::from_alert(&generic, correlator)? {
            Some(result) => {
                self.tasks.search().add_hint(generic.source.as_deref().unwrap_or_default());
                let receipt = incoming::on_result(ctx, &result);
                let code = self.on_result(receipt);
                // A version read before the result proves nothing.
                if receipt == Receipt::Recorded && !matches!(self.stage, Stage::Query) {
                    self.outbox.push(PlannedCommand::read_firmware());
                }
                code
            }
            None => match UpdateRequest::from_alert(&generic) {
                Some(request) => {
                    let named = request.object.as_deref().unwrap_or_default();
                    self.tasks.search().add_hint(named);
                    let (code, text) =
                        update_request::on_update_request(ctx, &mut self.tasks, &request);
                    self.outbox.extend(text);
                    self.resume();
                    code
                }
                None => {
                    let (code, reason) = (StatusCode::UNSUPPORTED_FORMAT, "its type is unknown");
                    return Err(AlertRefusal { code, reason: reason.to_owned() });
                }
            },
        })
    }

    fn on_result(&mut self, receipt: Receipt) -> StatusCode {
        match receipt {
            Receipt::Recorded => {
                self.resume();
                StatusCode::OK
            }
            Receipt::Duplicate => StatusCode::OK,
            // Accepted, so that the device does not send it for ever; it is in the audit log only.
            Receipt::Unmatched => StatusCode::ACCEPTED,
        }
    }

    /// Schedules again after the last task: there is a new one.
    fn resume(&mut self) {
        if self.is_finished() {
            self.stage = Stage::Schedule;
        }
    }

    /// Ends the session; whatever is planned is dropped.
    fn end(&mut self) {
        self.outbox.clear();
        self.stage = Stage::Done;
    }

    /// Returns the reason to abort this session: its campaign was stopped meanwhile, or it has too
    /// many messages.
    // spec: oma-dm 1.1 (1223)
    fn abort_reason(&self, ctx: &Context<'_>) -> Option<String> {
        if self.messages > self.limits.messages {
            return Some(format!("more than {} messages", self.limits.messages));
        }
        let Stage::Arming(sequence) = &self.stage else { return None };
        let campaign = sequence.open_campaign()?;
        let found = campaign_of(ctx.stored, campaign);
        let runs = found.is_some_and(|it| it.state == CampaignState::Running);
        (!runs).then(|| format!("campaign {campaign} was stopped"))
    }

    fn reply_uri(&self, url: &str) -> String {
        let joint = if url.contains('?') { '&' } else { '?' };
        format!("{url}{joint}s={}", self.token)
    }

    /// Fills our next package: every command that was sent is answered or counts as not executed.
    fn next_package(
        &mut self,
        ctx: &mut Context<'_>,
        reply: &mut MessageBuilder<'_>,
        encoding: Encoding,
    ) {
        for (planned, code) in self.outbox.take_unanswered() {
            self.on_command_status(ctx, &planned, code);
        }
        if matches!(self.stage, Stage::Query) && !self.outbox.has_sent() {
            self.outbox.extend(self.capabilities.first_query(ctx.stored));
        }
        while self.outbox.is_empty() && !self.is_finished() {
            self.next_step(ctx);
        }
        loop {
            match self.outbox.pack(reply, encoding) {
                Packed::Full => {
                    if let Some(campaign) = self.outbox.armed_by(reply.id()) {
                        update_latest(ctx, campaign, ArmingAttempt::start);
                    }
                    return;
                }
                Packed::GroupTooLarge(kind) => self.regroup(ctx, kind),
                Packed::TooLarge(planned) => {
                    let may_split = self.capabilities.accepts_large_objects();
                    let reason = self.outbox.why_too_large(&planned, encoding, may_split);
                    if may_split && self.outbox.start_object(planned.clone(), encoding) {
                        self.send_chunk(ctx, reply, encoding);
                    } else if !self.outbox.defer(planned, reply, encoding) {
                        self.abort_oversized(ctx, reason);
                    }
                    return;
                }
            }
        }
    }

    /// Selects the next stage after every sent command has a status.
    fn next_step(&mut self, ctx: &mut Context<'_>) {
        match self.stage {
            Stage::Query | Stage::Exec => self.stage = Stage::Schedule,
            Stage::Arming(_) => self.next_arming_step(ctx),
            Stage::Done => {}
            Stage::Schedule => match self.tasks.next(ctx, &mut self.capabilities) {
                Step::Send(commands) => {
                    self.outbox.extend(commands);
                    self.stage = Stage::Exec;
                }
                Step::Query => {
                    self.outbox.extend(self.capabilities.query(ctx.stored));
                    self.stage = Stage::Query;
                }
                Step::Arm(sequence) => self.stage = Stage::Arming(sequence),
                Step::End => self.stage = Stage::Done,
            },
        }
    }

    /// Queues the next step of the sequence, or ends it.
    fn next_arming_step(&mut self, ctx: &mut Context<'_>) {
        let commands = match &mut self.stage {
            Stage::Arming(sequence) if !sequence.is_over() => {
                sequence.next(ctx, self.outbox.groups(), self.limits)
            }
            Stage::Arming(_) | Stage::Query | Stage::Schedule | Stage::Exec | Stage::Done => None,
        };
        match commands {
            Some(commands) => self.outbox.extend(commands),
            None => self.stage = Stage::Schedule,
        }
    }

    /// Splits a group that exceeds a message.
    fn regroup(&mut self, ctx: &mut Context<'_>, kind: GroupKind) {
        let was_whole = match &mut self.stage {
            Stage::Arming(sequence) => sequence.split(kind),
            Stage::Query | Stage::Schedule | Stage::Exec | Stage::Done => false,
        };
        if !was_whole {
            self.outbox.remove_groups(kind);
        }
        self.next_arming_step(ctx);
    }

    fn send_chunk(
        &mut self,
        ctx: &mut Context<'_>,
        reply: &mut MessageBuilder<'_>,
        encoding: Encoding,
    ) {
        if self.outbox.send_chunk(reply, encoding).is_err() {
            let reason = self.outbox.why_no_room();
            self.abort_oversized(ctx, reason);
        }
    }

    /// Ends the session: a command exceeds the sizes that the device accepts.
    fn abort_oversized(&mut self, ctx: &mut Context<'_>, reason: String) {
        audit_note(ctx, &*reason);
        let campaign = match &self.stage {
            Stage::Arming(sequence) => Some(sequence.campaign()),
            // No command of the one that is next gets through either.
            Stage::Query | Stage::Schedule | Stage::Exec | Stage::Done => {
                self.tasks.next_arming(ctx).map(ArmingTask::campaign)
            }
        };
        if let Some(id) = campaign {
            // The next session uses the next delivery method, if there is one.
            let campaign = campaign_of(ctx.stored, id).cloned();
            let next = |method| campaign.as_ref().and_then(|campaign| campaign.next_method(method));
            let mut is_last = false;
            update_latest(ctx, id, |row| {
                is_last = next(row.delivery_method).is_none();
                if !is_last {
                    row.enter(ArmingPhase::NeedsUnicast, reason.clone());
                }
            });
            if is_last {
                let refusal = (StatusCode::TOO_LARGE, reason);
                arming_sequence::refuse_latest(ctx, id, refusal, self.limits);
            }
        }
        self.end();
    }
}

/// An item of a generic alert that is not accepted.
#[derive(Debug)]
struct AlertRefusal {
    code: StatusCode,
    reason: String,
}

impl From<WireError> for AlertRefusal {
    fn from(error: WireError) -> Self {
        Self { code: StatusCode::INCOMPLETE, reason: error.to_string() }
    }
}

/// A message whose sender has proved itself.
#[derive(Debug, Clone)]
pub struct AuthenticatedMessage {
    session: Box<DmSession>,
    /// The nonce of the next credential.
    challenge: Option<Challenge>,
    /// Set when the message opens the session.
    is_first: bool,
}

impl AuthenticatedMessage {
    /// Handles the message; returns the reply, and the session after it.
    pub fn respond(
        self,
        ctx: &mut Context<'_>,
        inbound: InboundMessage<'_>,
    ) -> (OutboundMessage, Box<DmSession>) {
        let Self { mut session, challenge, is_first } = self;
        if is_first {
            audit_note(ctx, "authenticated");
        }
        let reply = session.respond(ctx, inbound, challenge);
        let mut outbound = inbound.encode(meta_order(&ctx.stored.device.profile), &reply);
        outbound.mac = server_auth::mac(&ctx.stored.device, &outbound.bytes);
        (outbound, session)
    }
}
