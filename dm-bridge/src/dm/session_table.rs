//! The bounded table of DM sessions: admission, release, expiry.
//!
//! A slot is active from the admission of a message until a message leaves with no session open, so
//! the limit holds also while many first messages are in flight. The state of a closed session is
//! stored for a while and does not count.

use std::{collections::BTreeMap, fmt, time::Duration};

use proto::{
    ids::DeviceId,
    time::{Mono, Utc},
};

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

/// A time as in the `after` parameter of `RespURI`, `20000512T133000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(pub Utc);

impl fmt::Display for RetryAfter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded up: a retry must not be too early.
        let seconds = i64::try_from(self.0.0.div_ceil(1000)).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
        write!(formatter, "{}", time.strftime("%Y%m%dT%H%M%SZ"))
    }
}

/// Returns the `RespURI` for a device that has to retry, with the time.
// spec: oma-002 4 (417 with the time in the reply address)
#[must_use]
pub fn retry_uri(url: &str, after: Utc) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}after={}", RetryAfter(after))
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

    // test: oma-002 4 (the time in the reply address)
    #[test]
    fn a_retry_uri_carries_the_time() {
        let after = Utc::from_seconds(958_138_200);
        assert_eq!(retry_uri("http://s/dm", after), "http://s/dm?after=20000512T133000Z");
        assert_eq!(retry_uri("http://s/dm?u=j", after), "http://s/dm?u=j&after=20000512T133000Z");
        assert_eq!(RetryAfter(Utc(958_138_199_001)).to_string(), "20000512T133000Z");
    }
}
