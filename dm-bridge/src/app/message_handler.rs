//! One DM message in, one out: stored rows are loaded before it is handled, and stored before the
//! reply is sent. Between messages, a bounded table has the sessions of all devices.
//!
//! A slot is active from the admission of a message until a message leaves with no session open, so
//! the limit holds also while many first messages are in flight. The state of a closed session is
//! stored for a while and does not count.

use std::{collections::BTreeMap, time::Duration};

use proto::{
    crypto::{Digest, sha256},
    dm::{
        alert::GenericAlert,
        fumo::UpdateRequest,
        syncml::{Command, Message},
    },
    ids::DeviceId,
    time::{Mono, Utc},
};

use crate::{
    campaign::model::{CampaignState, DeliveryMethod},
    dm::{
        Limits,
        context::{Context, DeviceContext, campaign_of, changes_since, latest, mark_stored},
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
                return Ok(MessageOutcome::unknown_device(inbound, limits));
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
                        mark_stored(&before, &mut stored);
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
        let known = campaign_of(context, campaign.id).is_some();
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
    let changes = changes_since(before, after);
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

/// Idle time after which an open session is closed.
pub const SESSION_IDLE: Duration = Duration::from_secs(600);
/// Time for which a closed session is stored, for a device that has not received the last reply.
pub const REPLY_RETENTION: Duration = Duration::from_secs(60);
/// Minimum interval between sweeps while slots are free; a sweep visits every slot.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The DM sessions of all devices, at most `limit` active at once.
#[derive(Debug)]
pub struct SessionTable<T> {
    limit: usize,
    slots: BTreeMap<DeviceId, Slot<T>>,
    active: usize,
    last_sweep: Option<Mono>,
}

#[derive(Debug)]
struct Slot<T> {
    state: T,
    last_used: Mono,
    /// Messages being handled.
    in_flight: u32,
    open: bool,
    /// Set once a session was open.
    had_session: bool,
}

impl<T> Slot<T> {
    const fn is_active(&self) -> bool {
        self.open || self.in_flight > 0
    }
}

impl<T: Clone + Default> SessionTable<T> {
    /// Returns an empty table for at most `limit` active sessions.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, slots: BTreeMap::new(), active: 0, last_sweep: None }
    }

    /// Returns the number of active slots.
    #[must_use]
    pub const fn active(&self) -> usize {
        self.active
    }

    /// Admits a message of a device; returns the state of its session, or `None` when all slots are
    /// active. Each admitted message must be [released](Self::release).
    // spec: oma-002 4 (admission limit)
    pub fn admit(&mut self, id: &DeviceId, now: Mono) -> Option<T> {
        let is_active = self.slots.get(id).is_some_and(Slot::is_active);
        if !is_active && (self.active >= self.limit || self.sweep_due(now)) {
            self.sweep(now);
        }
        if !is_active && self.active >= self.limit {
            return None;
        }
        let slot = self.slots.entry(id.clone()).or_insert_with(|| Slot {
            state: T::default(),
            last_used: now,
            in_flight: 0,
            open: false,
            had_session: false,
        });
        slot.in_flight += 1;
        self.active += usize::from(!is_active);
        Some(slot.state.clone())
    }

    /// Releases a message of a device that was replied to.
    pub fn release(&mut self, id: &DeviceId, now: Mono, update: SlotUpdate) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.in_flight = slot.in_flight.saturating_sub(1);
        match update {
            SlotUpdate::SessionOpen => (slot.open, slot.last_used) = (true, now),
            SlotUpdate::SessionClosed => (slot.open, slot.last_used) = (false, now),
            SlotUpdate::NoSession => {}
        }
        slot.had_session |= update != SlotUpdate::NoSession;
        if !slot.is_active() {
            self.active = self.active.saturating_sub(1);
            // A device id without a session is not stored: anybody can make up ids.
            if !slot.had_session {
                self.slots.remove(id);
            }
        }
    }

    fn sweep_due(&self, now: Mono) -> bool {
        let is_due = self.last_sweep.is_none_or(|swept| now.since(swept) >= SWEEP_INTERVAL);
        is_due && self.slots.len() >= self.limit
    }

    fn sweep(&mut self, now: Mono) {
        self.last_sweep = Some(now);
        let mut freed = 0;
        self.slots.retain(|_, slot| {
            let lifetime = if slot.open { SESSION_IDLE } else { REPLY_RETENTION };
            let remains = slot.in_flight > 0 || now.since(slot.last_used) < lifetime;
            freed += usize::from(!remains && slot.is_active());
            remains
        });
        self.active = self.active.saturating_sub(freed);
    }
}

/// The effect of a handled message on its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotUpdate {
    /// The session is open.
    SessionOpen,
    /// The session has ended.
    SessionClosed,
    /// The message belongs to no session.
    NoSession,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    fn table(limit: usize) -> SessionTable<u8> {
        SessionTable::new(limit)
    }

    // test: oma-002 4 (admission limit)
    #[test]
    fn only_so_many_sessions_are_open_at_once() {
        let mut table = table(2);
        for name in ["a", "b"] {
            assert!(table.admit(&id(name), Mono(0)).is_some());
            table.release(&id(name), Mono(0), SlotUpdate::SessionOpen);
        }
        assert!(table.admit(&id("c"), Mono(0)).is_none());
        assert!(table.admit(&id("a"), Mono(0)).is_some(), "an open session continues");
        table.release(&id("a"), Mono(0), SlotUpdate::SessionClosed);
        assert!(table.admit(&id("c"), Mono(0)).is_some());
        table.release(&id("c"), Mono(0), SlotUpdate::SessionOpen);
        assert!(table.admit(&id("a"), Mono(0)).is_none(), "its slot was given away");
        assert_eq!(table.active(), 2);
    }

    #[test]
    fn first_messages_in_flight_are_active_too() {
        let mut table = table(1);
        assert!(table.admit(&id("a"), Mono(0)).is_some());
        assert!(table.admit(&id("b"), Mono(0)).is_none());
        assert!(table.admit(&id("a"), Mono(0)).is_some(), "the same device again");
        table.release(&id("a"), Mono(0), SlotUpdate::NoSession);
        assert!(table.admit(&id("b"), Mono(0)).is_none());
        table.release(&id("a"), Mono(0), SlotUpdate::NoSession);
        assert!(table.admit(&id("b"), Mono(0)).is_some());
        assert_eq!(table.active(), 1);
    }

    #[test]
    fn a_device_without_a_session_is_not_stored() {
        let mut table = table(4);
        for number in 0..1_000 {
            let unknown = id(&format!("unknown-{number}"));
            assert!(table.admit(&unknown, Mono(0)).is_some());
            table.release(&unknown, Mono(0), SlotUpdate::NoSession);
        }
        assert!(table.slots.is_empty() && table.active() == 0);
    }

    #[test]
    fn an_idle_session_is_released() {
        let mut table = table(1);
        table.admit(&id("a"), Mono(0)).unwrap();
        table.release(&id("a"), Mono(0), SlotUpdate::SessionOpen);
        let just_before = Mono(0) + (SESSION_IDLE - Duration::from_millis(1));
        assert!(table.admit(&id("b"), just_before).is_none());
        assert!(table.admit(&id("b"), Mono(0) + SESSION_IDLE).is_some());
        assert_eq!(table.active(), 1);
    }

    #[test]
    fn a_closed_session_is_stored_for_a_while() {
        let mut table: SessionTable<std::sync::Arc<()>> = SessionTable::new(1);
        let first = table.admit(&id("a"), Mono(0)).unwrap();
        table.release(&id("a"), Mono(0), SlotUpdate::SessionClosed);
        let again = table.admit(&id("a"), Mono(0) + REPLY_RETENTION / 2).unwrap();
        assert!(std::sync::Arc::ptr_eq(&first, &again));
        table.release(&id("a"), Mono(0), SlotUpdate::SessionClosed);
        let later = table.admit(&id("a"), Mono(0) + REPLY_RETENTION).unwrap();
        assert!(!std::sync::Arc::ptr_eq(&first, &later));
    }
}
