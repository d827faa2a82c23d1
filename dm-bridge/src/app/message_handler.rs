//! One DM message in, one out: stored rows are loaded before it is handled, and stored before the
//! reply is sent.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use proto::{
    crypto::{Digest, sha256},
    dm::{
        alert::GenericAlert,
        auth::Mac,
        code::StatusCode,
        encoding::{Encoding, MetaOrder},
        fumo::UpdateRequest,
        syncml::{Command, Message},
    },
    ids::DeviceId,
    time::Utc,
};

use crate::{
    campaign::model::{CampaignState, DeliveryMethod},
    dm::{
        Limits,
        context::{Context, DeviceContext, latest},
        outbox::refuse,
        session::{DmSession, OpenOutcome, ReceivedMessage},
        session_table::retry_uri,
    },
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        audit::{Actor, Audit},
        profile::Quirk,
        store::{FleetStore, StoreError},
    },
    random::RandomBytes,
};

/// Retries after a conflict with another writer.
const MAX_RETRIES: u32 = 8;

/// Lifetime of the cached device context; a stale row is caught by compare-and-set, a stale
/// campaign is used for at most this time.
const CONTEXT_TTL: Duration = Duration::from_secs(1);

/// State of one device between its messages: the open session, and the last reply, which is sent
/// again to a device that has not received it.
#[derive(Debug, Default)]
pub struct DeviceSession {
    session: Option<DmSession>,
    last_reply: Option<(Digest, OutboundMessage)>,
    /// The cached context, with the time when it was loaded.
    context: Option<(Utc, DeviceContext)>,
}

/// A message of a device, encoded and parsed.
#[derive(Debug, Clone, Copy)]
pub struct InboundMessage<'a> {
    /// The encoded message.
    pub bytes: &'a [u8],
    /// The parsed message.
    pub message: &'a Message,
    /// The session token, from the request URI.
    pub token: Option<&'a str>,
    /// The HMAC over the encoded message, from its HTTP header.
    pub mac: Option<&'a Mac>,
}

impl<'a> InboundMessage<'a> {
    /// Returns the encoding of the message, which the reply has too.
    fn encoding(&self) -> Encoding {
        Encoding::recognise(self.bytes)
    }

    fn as_received(&self) -> ReceivedMessage<'a> {
        let mac = self.mac.map(|mac| (mac, self.bytes));
        ReceivedMessage { message: self.message, encoding: self.encoding(), mac }
    }

    fn encode_with_mac(
        &self,
        session: &DmSession,
        context: &DeviceContext,
        reply: &Message,
    ) -> OutboundMessage {
        let bytes = self.encode(context, reply);
        let mac = session.mac(&context.device, &bytes);
        OutboundMessage { bytes, mac }
    }

    /// Encodes a message by the profile of the device.
    fn encode(&self, context: &DeviceContext, message: &Message) -> Bytes {
        let order = match context.device.profile.quirks.contains(&Quirk::TypeFirst) {
            true => MetaOrder::TypeFirst,
            false => MetaOrder::FormatFirst,
        };
        self.encoding().emit_ordered(message, order).into()
    }
}

/// A message to a device, in the encoding of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundMessage {
    /// The encoded message.
    pub bytes: Bytes,
    /// The HMAC of this server over it.
    pub mac: Option<Mac>,
}

/// Outcome of a message. Replies have the encoding of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageOutcome {
    /// The reply of a session.
    Reply(OutboundMessage),
    /// The message is a repetition; this is the reply that it had.
    Replay(OutboundMessage),
    /// No credential; the reply carries a challenge.
    AuthRequired(Bytes),
    /// Wrong credential; the reply carries a challenge.
    AuthFailed(Bytes),
    /// The device is not enrolled.
    UnknownDevice(Bytes),
    /// All session slots are active; the reply carries the time to retry.
    Busy(Bytes),
    /// Too many failures; retry after this time.
    LockedOut(Duration),
}

impl DeviceSession {
    /// Returns whether a session is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_finished())
    }

    /// Handles a message that claims to come from `id`; its changes are stored on return.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when rows cannot be loaded or stored; nothing has changed then.
    pub async fn handle(
        &mut self,
        store: &dyn FleetStore,
        (now, limits): (Utc, Limits),
        id: &DeviceId,
        inbound: InboundMessage<'_>,
        random: RandomBytes<'_>,
    ) -> Result<MessageOutcome, StoreError> {
        let digest = sha256(&[inbound.bytes]);
        if let Some((answered, reply)) = &self.last_reply
            && *answered == digest
        {
            return Ok(MessageOutcome::Replay(reply.clone()));
        }
        Ok(match self.process(store, (now, limits), id, inbound, random).await? {
            None => unknown_device(inbound),
            Some((ProcessedMessage::Session(session, reply), context)) => {
                self.context = (!session.is_finished()).then_some((now, context));
                self.session = Some(*session);
                self.last_reply = Some((digest, reply.clone()));
                MessageOutcome::Reply(reply)
            }
            Some((ProcessedMessage::AuthRequired(reply), _)) => MessageOutcome::AuthRequired(reply),
            Some((ProcessedMessage::AuthFailed(reply), _)) => MessageOutcome::AuthFailed(reply),
            Some((ProcessedMessage::LockedOut(wait), _)) => MessageOutcome::LockedOut(wait),
        })
    }

    /// Loads, handles and stores; retries when another writer has changed a row.
    async fn process(
        &mut self,
        store: &dyn FleetStore,
        (now, limits): (Utc, Limits),
        id: &DeviceId,
        inbound: InboundMessage<'_>,
        random: RandomBytes<'_>,
    ) -> Result<Option<(ProcessedMessage, DeviceContext)>, StoreError> {
        let mut retries = 0;
        let is_fresh = |read: Utc| read <= now && now.since(read) < CONTEXT_TTL;
        let mut cached = self.context.take().filter(|(read, _)| is_fresh(*read));
        loop {
            let mut before = match cached.take() {
                Some((_, context)) => context,
                None => match load(store, id).await? {
                    Some(context) => context,
                    None => return Ok(None),
                },
            };
            if asks_for_update(inbound.message) {
                add_running_campaigns(store, &mut before).await?;
            }
            let mut context = before.clone();
            let running = self
                .session
                .as_ref()
                .filter(|it| it.is_continued_by(inbound.message, inbound.token));
            let processed = match running {
                Some(session) => {
                    let mut session = Box::new(session.clone());
                    let ctx = &mut Context { stored: &mut context, now, random };
                    let reply = session.handle(ctx, inbound.as_received());
                    let outbound = inbound.encode_with_mac(&session, &context, &reply);
                    ProcessedMessage::Session(session, outbound)
                }
                None => {
                    let ctx = &mut Context { stored: &mut context, now, random };
                    match DmSession::open(ctx, inbound.as_received(), limits) {
                        OpenOutcome::Accepted(session, reply) => {
                            let outbound = inbound.encode_with_mac(&session, &context, &reply);
                            ProcessedMessage::Session(session, outbound)
                        }
                        OpenOutcome::AuthRequired(reply) => {
                            ProcessedMessage::AuthRequired(inbound.encode(&context, &reply))
                        }
                        OpenOutcome::AuthFailed(reply) => {
                            ProcessedMessage::AuthFailed(inbound.encode(&context, &reply))
                        }
                        OpenOutcome::LockedOut(wait) => ProcessedMessage::LockedOut(wait),
                    }
                }
            };
            match store_changes(store, now, &before, &context).await {
                Ok(()) => {
                    context.mark_stored(&before);
                    return Ok(Some((processed, context)));
                }
                Err(StoreError::Conflict(_)) if retries < MAX_RETRIES => retries += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Returns the reply to a device that is not enrolled.
#[must_use]
pub fn unknown_device(inbound: InboundMessage<'_>) -> MessageOutcome {
    let refusal = refuse(inbound.message, StatusCode::NOT_FOUND, None);
    MessageOutcome::UnknownDevice(inbound.encoding().emit(&refusal).into())
}

/// Returns the reply to a device that has to retry after `after`.
#[must_use]
pub fn busy(inbound: InboundMessage<'_>, after: Utc) -> MessageOutcome {
    let mut refusal = refuse(inbound.message, StatusCode::RETRY_LATER, None);
    refusal.header.respond_to = Some(retry_uri(&inbound.message.header.target.uri, after));
    MessageOutcome::Busy(inbound.encoding().emit(&refusal).into())
}

enum ProcessedMessage {
    Session(Box<DmSession>, OutboundMessage),
    AuthRequired(Bytes),
    AuthFailed(Bytes),
    LockedOut(Duration),
}

/// Loads the context of a device; `None` when it is not enrolled.
///
/// # Errors
///
/// [`StoreError`] when it cannot be loaded.
pub async fn load(
    store: &dyn FleetStore,
    id: &DeviceId,
) -> Result<Option<DeviceContext>, StoreError> {
    let Some((device, attempts)) = store.device_with_attempts(id).await? else { return Ok(None) };
    let mut campaigns = Vec::new();
    for row in latest(&attempts).filter(|row| is_unsettled(row)) {
        campaigns.extend(store.campaign(row.campaign).await?);
    }
    let mut packages = BTreeMap::new();
    for campaign in
        campaigns.iter().filter(|it| it.delivery.methods.contains(&DeliveryMethod::Direct))
    {
        packages.extend(store.package(campaign.id).await?.map(|package| (campaign.id, package)));
    }
    Ok(Some(DeviceContext { device, attempts, campaigns, packages, notes: Vec::new() }))
}

/// Adds all running campaigns: a device that requests an update may get one that did not select it.
// spec: oma-004 6.1.3 (the server looks for relevant updates)
async fn add_running_campaigns(
    store: &dyn FleetStore,
    context: &mut DeviceContext,
) -> Result<(), StoreError> {
    for campaign in store.campaigns().await? {
        let known = context.campaign(campaign.id).is_some();
        if campaign.state == CampaignState::Running && !known {
            context.campaigns.push(campaign);
        }
    }
    Ok(())
}

fn asks_for_update(message: &Message) -> bool {
    message.commands.iter().any(|command| {
        let Command::Alert(alert) = command else { return false };
        alert.items.iter().any(|item| {
            GenericAlert::from_item(item)
                .is_ok_and(|generic| UpdateRequest::from_alert(&generic).is_some())
        })
    })
}

fn is_unsettled(row: &ArmingAttempt) -> bool {
    row.phase.is_open()
        || matches!(
            row.phase,
            ArmingPhase::Reported
                | ArmingPhase::Deferred
                | ArmingPhase::Unknown
                | ArmingPhase::NeedsUnicast
        )
}

/// Stores the rows that differ from `before`, with one audit line.
///
/// # Errors
///
/// [`StoreError::Conflict`] when another writer has changed a row: load and handle again.
pub async fn store_changes(
    store: &dyn FleetStore,
    now: Utc,
    before: &DeviceContext,
    after: &DeviceContext,
) -> Result<(), StoreError> {
    let changes = after.changes_since(before);
    if changes.is_empty() && after.notes.is_empty() {
        return Ok(());
    }
    let audit = Audit {
        actor: Actor::Device,
        action: "device.session",
        subject: after.device.id.as_str().to_owned(),
        detail: after.notes.join("; "),
    };
    store.apply(now, audit, changes).await
}
