//! The place of a connection in the table of its server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::time::Mono;
use tokio::{sync::Notify, time::Instant};

use crate::table::{Admission, ConnectionId, ConnectionTable, Direction, Origin, Phase};

/// The table of a server, with its clock.
#[derive(Debug)]
pub(crate) struct SharedTable {
    table: Mutex<ConnectionTable<Arc<Notify>>>,
    epoch: Instant,
}

impl SharedTable {
    pub(crate) fn new(table: ConnectionTable<Arc<Notify>>) -> Self {
        Self { table: Mutex::new(table), epoch: Instant::now() }
    }

    pub(crate) fn now(&self) -> Mono {
        Mono(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ConnectionTable<Arc<Notify>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the table, left when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    table: Arc<SharedTable>,
    id: ConnectionId,
    closed: Arc<Notify>,
}

impl Place {
    /// Takes a place, and closes the connection that loses its own.
    pub(crate) fn take(table: &Arc<SharedTable>, origin: Origin, phase: Phase) -> Option<Self> {
        let closed = Arc::new(Notify::new());
        match table.lock().admit(table.now(), origin, phase, Arc::clone(&closed)) {
            Admission::Admitted { id, evicted } => {
                if let Some(evicted) = evicted {
                    evicted.notify_one();
                }
                Some(Self { table: Arc::clone(table), id, closed })
            }
            Admission::Refused => None,
        }
    }

    /// Waits until the connection has to be closed.
    pub(crate) async fn closed(&self) {
        self.closed.notified().await;
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.table.lock().enter(self.table.now(), self.id, phase);
    }

    pub(crate) fn body_ended(&self) {
        self.table.lock().body_ended(self.table.now(), self.id);
    }

    pub(crate) fn body_timed_out(&self) {
        self.table.lock().count_timeout(Phase::Body);
    }

    pub(crate) fn moved(&self, direction: Direction, octets: usize) {
        let evicted = self.table.lock().moved(self.table.now(), self.id, direction, octets);
        if let Some(evicted) = evicted {
            evicted.notify_one();
        }
    }

    pub(crate) fn prove(&self) {
        self.table.lock().prove(self.id);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().remove(self.id);
    }
}
