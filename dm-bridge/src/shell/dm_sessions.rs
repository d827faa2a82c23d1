//! The DM sessions that this server has, and how many it admits.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use proto::{ids::DeviceId, time::Mono};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    app::exchange::Conversation,
    doors::{Doors, Session},
};

/// Limits on what the DM side of a server admits at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Messages that are worked on at once.
    pub messages: usize,
    /// Sessions that are open at once.
    pub sessions: usize,
    /// When a device that is turned away shall come back.
    pub retry_after: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self { messages: 256, sessions: 2_048, retry_after: Duration::from_secs(5) }
    }
}

/// The sessions of this server.
#[derive(Debug)]
pub struct Sessions(Mutex<Doors<Arc<AsyncMutex<Conversation>>>>);

impl Sessions {
    /// Makes a table for so many sessions at once.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self(Mutex::new(Doors::new(limit)))
    }

    /// Returns how many sessions are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.doors().taken()
    }

    fn doors(&self) -> std::sync::MutexGuard<'_, Doors<Arc<AsyncMutex<Conversation>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the place of a device; `None` when the server has taken on enough.
    pub(super) fn enter(&self, id: &DeviceId, now: Mono) -> Option<Visit<'_>> {
        let slot = self.doors().enter(id, now)?;
        Some(Visit { sessions: self, id: id.clone(), now, slot, leaves: Session::Untouched })
    }
}

/// A message that is worked on. It leaves when this goes, however the work ends.
pub(super) struct Visit<'a> {
    sessions: &'a Sessions,
    id: DeviceId,
    now: Mono,
    pub(super) slot: Arc<AsyncMutex<Conversation>>,
    pub(super) leaves: Session,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.sessions.doors().leave(&self.id, self.now, self.leaves);
    }
}
