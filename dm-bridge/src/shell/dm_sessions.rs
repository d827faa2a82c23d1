//! The DM sessions of this server, and how many it admits.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use proto::{ids::DeviceId, time::Mono};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    app::message_handler::DeviceSession,
    dm::session_table::{SessionTable, SlotUpdate},
};

/// Limits on what the DM side of a server admits at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Messages handled at once.
    pub messages: usize,
    /// Sessions open at once.
    pub sessions: usize,
    /// Time after which a rejected device may retry.
    pub retry_after: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self { messages: 256, sessions: 2_048, retry_after: Duration::from_secs(5) }
    }
}

/// The DM sessions of this server, shared by its requests.
#[derive(Debug)]
pub struct DmSessions(Mutex<SessionTable<Arc<AsyncMutex<DeviceSession>>>>);

impl DmSessions {
    /// Returns an empty table for at most `limit` sessions.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self(Mutex::new(SessionTable::new(limit)))
    }

    /// Returns the number of active sessions.
    #[must_use]
    pub fn active(&self) -> usize {
        self.table().active()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, SessionTable<Arc<AsyncMutex<DeviceSession>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a guard over the slot of a device; `None` when all slots are active.
    pub(super) fn admit(&self, id: &DeviceId, now: Mono) -> Option<SlotGuard<'_>> {
        let slot = self.table().admit(id, now)?;
        Some(SlotGuard { sessions: self, id: id.clone(), now, slot, update: SlotUpdate::NoSession })
    }
}

/// A message in flight. Dropping it releases the slot, however the handling ends.
pub(super) struct SlotGuard<'a> {
    sessions: &'a DmSessions,
    id: DeviceId,
    now: Mono,
    pub(super) slot: Arc<AsyncMutex<DeviceSession>>,
    pub(super) update: SlotUpdate,
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        self.sessions.table().release(&self.id, self.now, self.update);
    }
}
