//! One DM message in, one out: stored rows are loaded before it is handled, and stored before the
//! reply is sent.

use std::{collections::BTreeMap, time::Duration};

use proto::{
    crypto::{Digest, sha256},
    dm::{
        alert::GenericAlert,
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
        message::{InboundMessage, MessageOutcome, OutboundMessage},
        session::DmSession,
    },
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        audit::{Actor, Audit},
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
    session: Option<Box<DmSession>>,
    last_reply: Option<(Digest, OutboundMessage)>,
    /// The cached context, with the time when it was loaded.
    context: Option<(Utc, DeviceContext)>,
}

impl DeviceSession {
    /// Returns whether a session is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_finished())
    }

    /// Handles a message that claims to come from `id`: loads its rows, lets the session reply, and
    /// stores the changes. Retries when another writer has changed a row.
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
        let is_fresh = |read: Utc| read <= now && now.since(read) < CONTEXT_TTL;
        let mut cached = self.context.take().filter(|(read, _)| is_fresh(*read));
        let mut retries = 0;
        loop {
            let loaded = match cached.take() {
                Some((_, stored)) => Some(stored),
                None => load(store, id).await?,
            };
            let Some(mut before) = loaded else {
                return Ok(MessageOutcome::unknown_device(inbound));
            };
            if asks_for_update(inbound.message) {
                add_running_campaigns(store, &mut before).await?;
            }
            let mut stored = before.clone();
            let ctx = &mut Context { stored: &mut stored, now, random };
            let (outcome, session) =
                DmSession::receive(self.session.as_deref(), ctx, inbound, limits);
            match store_changes(store, now, &before, &stored).await {
                Ok(()) => {
                    if let (Some(session), MessageOutcome::Reply(reply)) = (session, &outcome) {
                        stored.mark_stored(&before);
                        self.context = (!session.is_finished()).then_some((now, stored));
                        self.session = Some(session);
                        self.last_reply = Some((digest, reply.clone()));
                    }
                    return Ok(outcome);
                }
                Err(StoreError::Conflict(_)) if retries < MAX_RETRIES => retries += 1,
                Err(error) => return Err(error),
            }
        }
    }
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
