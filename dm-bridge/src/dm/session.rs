//! One authenticated DM session: packages 1 to 4, and again from 3 while there is work.
//!
//! ```text
//! package 1  credential, DevInfo, alerts   ->  statuses, Gets                      Query
//! package 3  values                        ->  the commands that arm, in as few messages as the
//!                                              device accepts                      Arming
//! package 3  202, perhaps a final alert    ->  more commands, or none: the end     Schedule, Done
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use proto::{
    dm::{
        auth::{AuthKind, Mac},
        code::{AlertCode, StatusCode},
        encoding::Encoding,
        large::Reassembler,
        nodes::{broadcast, device, fumo},
        syncml::{Challenge, CommandId, Header, Item, Message, MessageId},
    },
    ids::CampaignId,
};

use super::{
    Limits,
    arming_sequence::{ArmingSequence, GroupSupport},
    auth::{self, AuthOutcome, ClientCredentials},
    command::{PlannedCommand, Property},
    context::{Context, DeviceContext},
    inventory::InventorySync,
    large_objects::OutboundObject,
    message_builder::{MessageBuilder, SentCommand, refuse},
    server_auth::{ServerAuth, challenge_of},
};
use crate::{
    arming::{
        commands,
        tasks::{self, ArmingTask},
    },
    campaign::model::{CampaignState, DeliveryMethod},
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        device::Nonce,
        policy::NodeValue,
        profile::Quirk,
    },
};

/// A received message.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedMessage<'a> {
    /// Its contents.
    pub message: &'a Message,
    /// Its encoding, which the reply has too.
    pub encoding: Encoding,
    /// The HMAC beside it, and the octets that it covers.
    pub mac: Option<(&'a Mac, &'a [u8])>,
}

impl ReceivedMessage<'_> {
    fn credentials(&self) -> ClientCredentials<'_> {
        let header = &self.message.header;
        ClientCredentials {
            credential: header.credential.as_ref(),
            mac: self.mac,
            user: header.source.name.as_deref(),
            session: &header.session_id,
        }
    }
}

/// Outcome of the first message of a peer.
#[derive(Debug, Clone)]
pub enum OpenOutcome {
    /// Authenticated: store the session, send the reply.
    Accepted(Box<DmSession>, Message),
    /// No credential: send the challenge, store no session.
    AuthRequired(Message),
    /// Wrong credential: send the challenge, store no session.
    AuthFailed(Message),
    /// Too many failures: retry after this time.
    LockedOut(Duration),
}

/// A DM session with an authenticated device.
#[derive(Debug, Clone)]
pub struct DmSession {
    id: String,
    token: String,
    /// Set when each message carries its own HMAC.
    proof_per_message: bool,
    /// Authentication of this server to the device.
    pub(super) server_auth: ServerAuth,
    pub(super) limits: Limits,
    /// Message size limit of the device, in octets.
    pub(super) message_bytes: usize,
    /// Object size limit of the device, in octets; `None` when it announces none.
    pub(super) object_bytes: Option<u64>,
    /// Large object that the device is sending.
    pub(super) reassembler: Reassembler,
    /// Set when the current message contains a chunk.
    pub(super) chunk_in_message: bool,
    /// Objects of the device that ended without their last chunk.
    pub(super) aborted_objects: Vec<Item>,
    /// Set while our package is open because a chunk was sent.
    pub(super) package_open: bool,
    /// Large object that is being sent to the device.
    pub(super) outbound_object: Option<OutboundObject>,
    pub(super) properties: BTreeMap<Property, String>,
    pub(super) queue: VecDeque<PlannedCommand>,
    /// All sent commands, for Results that arrive after their Status.
    pub(super) sent: BTreeMap<(MessageId, CommandId), SentCommand>,
    /// Sent commands without a Status.
    pub(super) awaiting_status: BTreeSet<(MessageId, CommandId)>,
    pub(super) stage: Stage,
    /// Set once the capabilities were queried, which only a session with a task does.
    capabilities_queried: bool,
    /// Inventory and operations of software components.
    pub(super) inventory: InventorySync,
    /// Set once a pending Suspend or Resume was sent.
    suspend_sent: bool,
    /// Policy settings that were sent.
    policies_sent: BTreeSet<NodeValue>,
    /// Campaigns that are not attempted again in this session.
    pub(super) attempted: BTreeSet<CampaignId>,
    /// Campaigns that the user has accepted.
    pub(super) consented: BTreeSet<CampaignId>,
    /// Set when chunks may be sent to a device that supports large objects.
    pub(super) chunking_allowed: bool,
    /// Groups that the device supports, as far as known.
    pub(super) groups: GroupSupport,
    /// Groups that the current message rejects.
    pub(super) refused_groups: BTreeSet<(MessageId, CommandId)>,
    /// The campaign that is being armed.
    pub(super) arming: Option<ArmingSequence>,
    last_message: MessageId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Query,
    Schedule,
    Arming,
    Exec,
    Done,
}

impl DmSession {
    /// Handles a message that belongs to no session yet.
    pub fn open(
        ctx: &mut Context<'_>,
        received: ReceivedMessage<'_>,
        limits: Limits,
    ) -> OpenOutcome {
        let message = received.message;
        let kind = ctx.stored.device.auth.kind;
        let challenge = |nonce: &Nonce| Some(Challenge::new(kind, &nonce.0));
        match auth::authenticate(
            &mut ctx.stored.device,
            received.credentials(),
            ctx.now,
            Nonce((ctx.random)()),
        ) {
            AuthOutcome::Accepted(next) => {
                ctx.audit_note("authenticated");
                let quirks = &ctx.stored.device.profile.quirks;
                let mut session = Self::begin(&message.header, limits, (ctx.random)(), quirks);
                session.proof_per_message = kind == AuthKind::Mac;
                // Basic authentication has no nonce.
                let challenge = challenge(&next).filter(|_| kind != AuthKind::Basic);
                let reply = session.respond(ctx, received, challenge);
                OpenOutcome::Accepted(Box::new(session), reply)
            }
            AuthOutcome::AuthRequired(nonce) => OpenOutcome::AuthRequired(refuse(
                message,
                StatusCode::MISSING_CREDENTIALS,
                challenge(&nonce),
            )),
            AuthOutcome::AuthFailed(nonce) => {
                ctx.audit_note("credential refused");
                OpenOutcome::AuthFailed(refuse(
                    message,
                    StatusCode::INVALID_CREDENTIALS,
                    challenge(&nonce),
                ))
            }
            AuthOutcome::LockedOut(wait) => OpenOutcome::LockedOut(wait),
        }
    }

    fn begin(header: &Header, limits: Limits, token: [u8; 16], quirks: &BTreeSet<Quirk>) -> Self {
        Self {
            id: header.session_id.clone(),
            token: format!("{:032x}", u128::from_be_bytes(token)),
            proof_per_message: false,
            server_auth: ServerAuth::default(),
            limits,
            message_bytes: limits.message_bytes,
            object_bytes: None,
            reassembler: Reassembler::default(),
            chunk_in_message: false,
            aborted_objects: Vec::new(),
            package_open: false,
            outbound_object: None,
            properties: BTreeMap::new(),
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
            awaiting_status: BTreeSet::new(),
            stage: Stage::Query,
            capabilities_queried: false,
            inventory: InventorySync::default(),
            suspend_sent: false,
            policies_sent: BTreeSet::new(),
            attempted: BTreeSet::new(),
            consented: BTreeSet::new(),
            chunking_allowed: !quirks.contains(&Quirk::NoLargeObjects),
            groups: GroupSupport::of(quirks),
            refused_groups: BTreeSet::new(),
            arming: None,
            last_message: MessageId(0),
        }
    }

    /// Returns the token of this session, which `RespURI` carries; further messages repeat it.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Returns whether `message`, received with `token`, continues this session.
    #[must_use]
    pub fn is_continued_by(&self, message: &Message, token: Option<&str>) -> bool {
        let token = token.unwrap_or_default();
        message.header.session_id == self.id
            && message.header.message_id > self.last_message
            && proto::crypto::equal_in_constant_time(token.as_bytes(), self.token.as_bytes())
    }

    /// Returns whether the session has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Handles a further message.
    pub fn handle(&mut self, ctx: &mut Context<'_>, received: ReceivedMessage<'_>) -> Message {
        if !self.proof_per_message {
            return self.respond(ctx, received, None);
        }
        // spec: oma-dm 5.1 (proof over each message)
        let refusal = |code, challenge| refuse(received.message, code, challenge);
        let challenge = |next: &Nonce| Some(Challenge::new(AuthKind::Mac, &next.0));
        match auth::authenticate(
            &mut ctx.stored.device,
            received.credentials(),
            ctx.now,
            Nonce((ctx.random)()),
        ) {
            AuthOutcome::Accepted(next) => self.respond(ctx, received, challenge(&next)),
            AuthOutcome::AuthRequired(next) => {
                refusal(StatusCode::MISSING_CREDENTIALS, challenge(&next))
            }
            AuthOutcome::AuthFailed(next) => {
                ctx.audit_note("proof of a message refused");
                refusal(StatusCode::INVALID_CREDENTIALS, challenge(&next))
            }
            AuthOutcome::LockedOut(_) => refusal(StatusCode::UNAVAILABLE, None),
        }
    }

    fn respond(
        &mut self,
        ctx: &mut Context<'_>,
        received: ReceivedMessage<'_>,
        challenge: Option<Challenge>,
    ) -> Message {
        let reply = self.compose_reply(ctx, received, challenge);
        self.record_sent(&reply);
        reply
    }

    fn compose_reply(
        &mut self,
        ctx: &mut Context<'_>,
        ReceivedMessage { message, encoding, .. }: ReceivedMessage<'_>,
        challenge: Option<Challenge>,
    ) -> Message {
        self.last_message = message.header.message_id;
        let announced = message.header.meta.as_ref().and_then(|meta| meta.max_message_size);
        if let Some(size) = announced.and_then(|size| usize::try_from(size).ok()) {
            self.message_bytes = size.min(self.limits.message_bytes);
        }
        let largest = message.header.meta.as_ref().and_then(|meta| meta.max_object_size);
        self.object_bytes = largest.or(self.object_bytes);
        let mut reply = MessageBuilder::new(message, self.reply_uri(&ctx.stored.device.url));
        // spec: oma-dm 5 (212 and the nonce of the next session)
        let code = if self.proof_per_message { StatusCode::OK } else { StatusCode::AUTHENTICATED };
        reply.header_status(code, challenge);
        if let Some(status) = challenge_of(message) {
            return self.resend(ctx, reply, status);
        }
        for (command, code) in self.handle_commands(ctx, message) {
            reply.command_status(command, code);
        }
        self.add_credential(&ctx.stored.device, &mut reply);
        for item in std::mem::take(&mut self.aborted_objects) {
            reply.alert(AlertCode::NO_END_OF_DATA, vec![item]);
        }
        if self.stage == Stage::Done {
            return reply.finish();
        }
        if let Some(reason) = self.abort_reason(ctx.stored) {
            ctx.audit_note(format!("session aborted: {reason}"));
            self.end();
            reply.alert(AlertCode::SESSION_ABORT, Vec::new());
            return reply.finish();
        }
        let is_our_turn = std::mem::take(&mut self.package_open) || message.is_final;
        if self.chunk_due() {
            self.send_chunk(&mut reply, encoding, ctx);
            return reply.finish();
        }
        self.on_chunk_unanswered(ctx);
        if !is_our_turn {
            // spec: oma-dm 1 (next message)
            return reply.request_next_message();
        }
        self.on_status_missing(ctx);
        if self.stage == Stage::Query && self.sent.is_empty() {
            self.query_firmware(ctx.stored);
        }
        while self.queue.is_empty() && self.stage != Stage::Done {
            self.next_step(ctx);
        }
        self.pack_message(&mut reply, encoding, ctx);
        reply.finish()
    }

    /// Returns the reason to abort this session: its campaign was stopped meanwhile, or it has too
    /// many messages.
    // spec: oma-dm 1.1 (1223)
    fn abort_reason(&self, context: &DeviceContext) -> Option<String> {
        if self.last_message.0 > self.limits.messages {
            return Some(format!("more than {} messages", self.limits.messages));
        }
        let campaign = self.arming.as_ref().filter(|sequence| !sequence.is_over())?.campaign;
        let runs = context.campaign(campaign).is_some_and(|it| it.state == CampaignState::Running);
        (!runs).then(|| format!("campaign {campaign} was stopped"))
    }

    fn reply_uri(&self, url: &str) -> String {
        let joint = if url.contains('?') { '&' } else { '?' };
        format!("{url}{joint}s={}", self.token)
    }

    /// Selects the next stage after every sent command has a status.
    fn next_step(&mut self, ctx: &mut Context<'_>) {
        match self.stage {
            Stage::Query | Stage::Exec => self.stage = Stage::Schedule,
            Stage::Schedule => {
                for campaign in tasks::fall_back(ctx) {
                    self.attempted.remove(&campaign);
                }
                self.schedule(ctx);
            }
            Stage::Arming => self.next_arming_step(ctx),
            Stage::Done => {}
        }
    }

    /// Queries the firmware version, and the capabilities when the device has an open attempt.
    fn query_firmware(&mut self, context: &DeviceContext) {
        let firmware = device::FIRMWARE_VERSION.to_owned();
        self.queue.push_back(PlannedCommand::read(Property::Firmware, firmware));
        let waits = |row: &ArmingAttempt| {
            row.result_code.is_none() && (row.phase.is_open() || row.phase == ArmingPhase::Unknown)
        };
        if context.latest().any(waits) {
            self.query_capabilities(context);
        }
    }

    // spec: oma-001 8.1.1.4
    fn query_capabilities(&mut self, context: &DeviceContext) {
        let node = |path: &str| format!("{}/{path}", context.device.object);
        self.capabilities_queried = true;
        self.queue.extend([
            PlannedCommand::read(Property::BroadcastVersion, node(broadcast::VERSION)),
            PlannedCommand::read(Property::MaxBlockSymbols, node(broadcast::MAX_BLOCK_SYMBOLS)),
            PlannedCommand::read(Property::MaxStorage, node(broadcast::MAX_STORAGE)),
            PlannedCommand::read(Property::Root, node(broadcast::ROOT)),
            PlannedCommand::read(Property::State, node(fumo::STATE)),
            PlannedCommand::read(Property::Phase, node(broadcast::PHASE)),
            PlannedCommand::read(Property::LargeObjects, device::LARGE_OBJECTS.to_owned()),
        ]);
        if context.latest().any(|row| {
            row.delivery_method == DeliveryMethod::Direct && row.phase == ArmingPhase::Pending
        }) {
            self.queue.push_back(PlannedCommand::read(
                Property::PartialPackage,
                node(fumo::PACKAGE_HELD),
            ));
        }
    }

    /// Sends the pending policy settings, each once; returns whether any was sent.
    fn send_policies(&mut self, context: &DeviceContext) -> bool {
        let pending: Vec<_> = context
            .device
            .policy
            .pending()
            .filter(|setting| self.policies_sent.insert(setting.clone()))
            .collect();
        let commands =
            pending.into_iter().map(|setting| commands::set_policy(setting, &context.device));
        self.queue.extend(commands);
        !self.queue.is_empty()
    }

    /// Queues the next task, by priority: policy, suspension, components, arming.
    fn schedule(&mut self, ctx: &mut Context<'_>) {
        if self.send_policies(ctx.stored) {
            self.stage = Stage::Exec;
            return;
        }
        if let Some(command) = ctx
            .stored
            .device
            .pending_suspension
            .filter(|_| !std::mem::replace(&mut self.suspend_sent, true))
        {
            self.queue.push_back(commands::suspension(command, &ctx.stored.device, ctx.random));
            self.stage = Stage::Exec;
            return;
        }
        if self.next_inventory_step(ctx) {
            return;
        }
        match tasks::next_task(
            &ctx.stored.attempts,
            &ctx.stored.campaigns,
            &self.attempted,
            ctx.now,
        ) {
            None => self.stage = Stage::Done,
            Some(ArmingTask::Disarm(campaign)) => {
                self.attempted.insert(campaign);
                self.queue.push_back(commands::disarm(campaign, &ctx.stored.device, ctx.random));
                self.stage = Stage::Exec;
            }
            // The window opened during the session.
            Some(ArmingTask::Arm(_)) if !self.capabilities_queried => {
                self.query_capabilities(ctx.stored);
                self.stage = Stage::Query;
            }
            Some(ArmingTask::Arm(campaign)) => self.begin_arming(ctx, campaign),
        }
    }

    /// Packs queued commands into the reply up to the device's message size.
    fn pack_message(
        &mut self,
        reply: &mut MessageBuilder<'_>,
        encoding: Encoding,
        ctx: &mut Context<'_>,
    ) {
        let message = reply.message.header.message_id;
        let mut sent = 0;
        while let Some(planned) = self.queue.pop_front() {
            let entries = reply.push_planned(&planned);
            if reply.length(encoding) > self.message_bytes {
                reply.pop();
                if sent > 0 {
                    self.queue.push_front(planned);
                } else if let Some(kind) = planned.group_kind() {
                    self.regroup(kind, ctx);
                    continue;
                } else if self.start_object(planned, encoding) {
                    self.send_chunk(reply, encoding, ctx);
                } else {
                    self.abort_oversized(ctx);
                }
                return;
            }
            sent += 1;
            for (id, entry) in entries {
                self.awaiting_status.insert((message, id));
                self.sent.insert((message, id), entry);
            }
        }
    }
}

impl DmSession {
    /// Renumbers sent commands after their message was sent again under another number.
    pub(super) fn renumber(&mut self, from: MessageId, to: MessageId) {
        let sent_before: Vec<_> = self.sent.keys().filter(|key| key.0 == from).copied().collect();
        for key in sent_before {
            if let Some(sent) = self.sent.remove(&key) {
                self.sent.insert((to, key.1), sent);
            }
            if self.awaiting_status.remove(&key) {
                self.awaiting_status.insert((to, key.1));
            }
        }
        if let Some(sending) = &mut self.outbound_object {
            sending.renumber(from, to);
        }
    }

    /// Ends the session: a command exceeds the message size of the device, and it supports no large
    /// objects.
    pub(super) fn abort_oversized(&mut self, ctx: &mut Context<'_>) {
        let reason = format!("a command does not fit into {} octets", self.message_bytes);
        ctx.audit_note(&*reason);
        if let Some(sequence) = self.arming.take() {
            // The next session uses the next delivery method, if there is one.
            let campaign = ctx.stored.campaign(sequence.campaign).cloned();
            let next = |way| campaign.as_ref().and_then(|campaign| campaign.next_method(way));
            ctx.update_latest(sequence.campaign, |row| {
                row.reason = Some(reason);
                if next(row.delivery_method).is_some() {
                    row.phase = ArmingPhase::NeedsUnicast;
                }
            });
        }
        self.queue.clear();
        self.outbound_object = None;
        self.stage = Stage::Done;
    }
}
