//! One DM message in, one out: the device's row is loaded to authenticate it and the other rows to
//! handle it; changes are stored before the reply is sent. Between messages, a bounded table has the
//! sessions of all devices.
//!
//! A slot is active from the admission of a message until a message leaves with no session open, so
//! the limit holds also while many first messages are in flight. The state of a closed session is
//! stored for a while and does not count.

use std::{collections::BTreeMap, time::Duration};

use proto::{
    crypto::Digest,
    dm::{
        alert::GenericAlert,
        auth::Mac,
        fumo::UpdateRequest,
        syncml::{Command, Message},
    },
    ids::DeviceId,
    time::{Mono, Utc},
};

use crate::{
    campaign::model::CampaignState,
    dm::{
        Limits,
        auth::{self, ClientCredentials, MacVerdict},
        context::{
            AuthContext, Context, DeviceContext, campaign_of, changes_since, latest, mark_stored,
        },
        message::{InboundMessage, MessageOutcome, OutboundMessage},
        proof::{self, unknown_device},
        session::{AuthenticatedMessage, DmSession},
    },
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase},
        audit::{Actor, Audit},
        challenge::{ChallengeKeys, Period},
        device::{Device, admits, auth_of_nobody},
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

    /// Returns the outcome of a repetition of the last message that was accepted, by the digest of
    /// its octets and proofs; `None` for any other message.
    #[must_use]
    pub fn repeated(&self, digest: &Digest) -> Option<MessageOutcome> {
        let (answered, reply) = self.last_reply.as_ref()?;
        (answered == digest).then(|| MessageOutcome::Replay(reply.clone()))
    }

    /// Handles a message that claims to come from `id`: loads its row, authenticates the message,
    /// loads the other rows, lets the session reply, and stores the changes. For a peer without
    /// proof only the row is loaded, and nothing is stored. Retries when another writer has changed
    /// a row.
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
        if let Some(rejected) = inbound.message.rejected_header() {
            return Ok(MessageOutcome::other_version(inbound, limits, rejected.code));
        }
        let digest = inbound.raw().digest();
        if let Some(reply) = self.repeated(&digest) {
            return Ok(reply);
        }
        let is_fresh = |read: Utc| read <= now && now.since(read) < CONTEXT_TTL;
        let mut cached = self.context.take().filter(|(read, _)| is_fresh(*read));
        let mut retries = 0;
        loop {
            // spec: security 7.2 (work before proof)
            let found = match &cached {
                Some((_, stored)) => Some(stored.device.clone()),
                None => store.device_with_secrets(id).await?,
            };
            let Some(row) = found else {
                return handle_unknown(store, (now, limits), inbound, random).await;
            };
            let mut device = row.clone();
            let at = (now, limits);
            let message =
                match self.authenticate(store, at, &mut device, inbound, &mut *random).await? {
                    Ok(message) => message,
                    Err(refused) => {
                        self.context = cached;
                        return Ok(refused);
                    }
                };
            let mut before = match cached.take() {
                Some((_, stored)) => stored,
                None => load(store, row).await?,
            };
            if asks_for_update(inbound.message) {
                add_running_campaigns(store, &mut before).await?;
            }
            let mut stored = DeviceContext { device, ..before.clone() };
            let (reply, session) =
                respond(store, &message, &mut stored, inbound, (now, &mut *random)).await?;
            match store_changes(store, now, &before, &stored).await {
                Ok(()) => {
                    mark_stored(&before, &mut stored);
                    stored.packages.clear();
                    self.context = (!session.is_finished()).then_some((now, stored));
                    self.session = Some(session);
                    self.last_reply = Some((digest, reply.clone()));
                    return Ok(MessageOutcome::Reply(reply));
                }
                Err(StoreError::Conflict(_)) if retries < MAX_RETRIES => retries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Authenticates a message, unless it continues the session without a proof of its own.
    async fn authenticate(
        &self,
        store: &dyn FleetStore,
        (now, limits): (Utc, Limits),
        device: &mut Device,
        inbound: InboundMessage<'_>,
        random: RandomBytes<'_>,
    ) -> Result<Result<AuthenticatedMessage, MessageOutcome>, StoreError> {
        if !admits(device, inbound.certificate) {
            return Ok(Err(MessageOutcome::NoCertificate));
        }
        let current = self.session.as_deref();
        if let Some(message) = current.and_then(|session| session.proceed(inbound)) {
            return Ok(Ok(message));
        }
        let challenges = &challenge_keys(store, now).await?;
        let ctx = &mut AuthContext { device, challenges, now, random };
        Ok(DmSession::authenticate(current, ctx, inbound, limits))
    }
}

/// Verifies the HMAC of a message before it is parsed; returns the verdict with the device, `None` for
/// one that is not enrolled. Nothing but its row is read.
///
/// # Errors
///
/// [`StoreError`] when the row or the keys of challenges cannot be loaded.
// spec: security 7.2 (parse only if the MAC is right)
pub async fn verify_mac(
    store: &dyn FleetStore,
    now: Utc,
    id: &DeviceId,
    (mac, bytes): (&Mac, &[u8]),
) -> Result<Option<(MacVerdict, Device)>, StoreError> {
    let challenges = challenge_keys(store, now).await?;
    let Some(device) = store.device_with_secrets(id).await? else { return Ok(None) };
    let verdict = auth::verify_mac(&device.auth, id.as_str(), (mac, bytes), &challenges);
    Ok(Some((verdict, device)))
}

/// Returns whether credentials are right for the stored nonce of a device that has proved itself
/// before; a device that is not enrolled costs as much.
///
/// # Errors
///
/// [`StoreError`] when the row cannot be loaded.
pub async fn fits_stored_nonce(
    store: &dyn FleetStore,
    id: &DeviceId,
    credentials: ClientCredentials<'_>,
    random: RandomBytes<'_>,
) -> Result<bool, StoreError> {
    let device = store.device_with_secrets(id).await?;
    // The nonce of an enrolment may be that of a profile.
    let has_nonce = device.as_ref().is_some_and(|device| device.last_seen.is_some());
    let auth = device.map_or_else(|| auth_of_nobody(id.as_str(), random()), |device| device.auth);
    Ok(auth::fits_stored_nonce(&auth, id.as_str(), credentials) && has_nonce)
}

/// Returns the challenge of a device whose message has a wrong HMAC; of the message the header alone
/// was parsed.
///
/// # Errors
///
/// [`StoreError`] when the keys of challenges cannot be loaded.
pub async fn refuse_mac(
    store: &dyn FleetStore,
    (now, limits): (Utc, Limits),
    (verdict, device): (MacVerdict, &Device),
    inbound: InboundMessage<'_>,
) -> Result<MessageOutcome, StoreError> {
    let challenges = challenge_keys(store, now).await?;
    Ok(proof::refuse_mac(device, verdict, inbound, &challenges, limits))
}

/// Returns the outcome of a message of a device that is not enrolled.
///
/// # Errors
///
/// [`StoreError`] when the keys of challenges cannot be loaded.
pub async fn handle_unknown(
    store: &dyn FleetStore,
    (now, limits): (Utc, Limits),
    inbound: InboundMessage<'_>,
    random: RandomBytes<'_>,
) -> Result<MessageOutcome, StoreError> {
    let challenges = challenge_keys(store, now).await?;
    Ok(unknown_device(inbound, &challenges, limits, random))
}

/// Loads the challenge keys of this period and the one before.
///
/// # Errors
///
/// [`StoreError`] when they cannot be loaded.
pub async fn challenge_keys(store: &dyn FleetStore, now: Utc) -> Result<ChallengeKeys, StoreError> {
    let period = Period::of(now);
    let current = (period, store.challenge_key(period.day()).await?);
    let before = match period.before() {
        Some(before) if before.day() == period.day() => Some((before, current.1.clone())),
        Some(before) => Some((before, store.challenge_key(before.day()).await?)),
        None => None,
    };
    Ok(ChallengeKeys::new(current, before))
}

/// Loads the context of an enrolled device. A damaged campaign is left out: the device is managed
/// without it.
///
/// # Errors
///
/// [`StoreError`] when it cannot be loaded.
pub async fn load(store: &dyn FleetStore, device: Device) -> Result<DeviceContext, StoreError> {
    let attempts = store.device_attempts(&device.id).await?;
    let mut campaigns = Vec::new();
    for row in latest(&attempts).filter(|row| is_unsettled(row)) {
        match store.campaign(row.campaign).await {
            Ok(campaign) => campaigns.extend(campaign),
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::warn!(%error, campaign = %row.campaign, "campaign left out of a DM session");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(DeviceContext {
        device,
        attempts,
        campaigns,
        packages: BTreeMap::new(),
        wanted_package: None,
        notes: Vec::new(),
    })
}

/// Handles an authenticated message; a bundle is read when the reply begins to send it, and the
/// message is handled again with it.
async fn respond(
    store: &dyn FleetStore,
    message: &AuthenticatedMessage,
    stored: &mut DeviceContext,
    inbound: InboundMessage<'_>,
    (now, random): (Utc, RandomBytes<'_>),
) -> Result<(OutboundMessage, Box<DmSession>), StoreError> {
    loop {
        let mut handled = stored.clone();
        let ctx = &mut Context { stored: &mut handled, now, random: &mut *random };
        let (reply, session) = message.clone().respond(ctx, inbound);
        if let Some(id) = handled.wanted_package.take()
            && let Some(package) = store.package(id).await?
        {
            stored.packages.insert(id, package);
            continue;
        }
        *stored = handled;
        return Ok((reply, session));
    }
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

    /// Returns the state of the session of a device, if it has a slot.
    #[must_use]
    pub fn find(&self, id: &DeviceId) -> Option<T> {
        self.slots.get(id).map(|slot| slot.state.clone())
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
mod tests;
