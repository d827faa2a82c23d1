//! Readers for DM messages: devices that wait together are read together.
//!
//! The cost of a query is the switch to the thread of its connection and back.

use std::{collections::BTreeMap, sync::Arc};

use proto::ids::DeviceId;
use sqlx::sqlite::SqliteRow;
use tokio::sync::{mpsc, oneshot};

use super::{
    columns::{get, unavailable},
    connection::Pool,
    rows::{attempt::read_attempt, device::read_device},
    sealing::Secrets,
    table::BATCH,
};
use crate::{
    fleet::{attempt::ArmingAttempt, device::Device, store::StoreError},
    shell::store::key_file::KeyFile,
};

/// Devices that may wait.
const QUEUE: usize = 1_024;

/// A handle to the readers.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pools: [Pool; 2],
    devices: mpsc::Sender<Job<Option<Device>>>,
    attempts: mpsc::Sender<Job<Vec<ArmingAttempt>>>,
}

#[derive(Debug)]
struct Job<T> {
    id: DeviceId,
    done: oneshot::Sender<Result<T, StoreError>>,
}

/// One statement for the rows of a batch, and the column of its device ids.
type Statement = (&'static str, &'static str);

const SELECT_DEVICES: Statement =
    ("SELECT device.* FROM json_each(?) AS wanted JOIN device ON device.id = wanted.value", "id");

const SELECT_ATTEMPTS: Statement = (
    "SELECT arming.* FROM json_each(?) AS wanted \
     JOIN arming ON arming.device = wanted.value ORDER BY campaign, attempt",
    "device",
);

impl Reader {
    /// Starts the readers; they end with the last handle to them.
    pub(super) fn start(pools: [Pool; 2], keys: KeyFile) -> Self {
        let (devices, queue) = mpsc::channel(QUEUE);
        let read = move |rows: &[SqliteRow]| {
            rows.first().map(|row| read_device(row, Secrets::Opened(&keys))).transpose()
        };
        tokio::spawn(serve(pools[0].clone(), SELECT_DEVICES, read, queue));
        let (attempts, queue) = mpsc::channel(QUEUE);
        let read = |rows: &[SqliteRow]| Ok(rows.iter().filter_map(sound_attempt).collect());
        tokio::spawn(serve(pools[1].clone(), SELECT_ATTEMPTS, read, queue));
        Self { pools, devices, attempts }
    }

    pub(super) async fn close(&self) {
        for pool in &self.pools {
            pool.close().await;
        }
    }

    pub(super) async fn device(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        ask(&self.devices, id).await
    }

    pub(super) async fn attempts(&self, id: &DeviceId) -> Result<Vec<ArmingAttempt>, StoreError> {
        ask(&self.attempts, id).await
    }
}

/// Returns an attempt; a damaged one is left out, and marked where attempts are listed.
fn sound_attempt(row: &SqliteRow) -> Option<ArmingAttempt> {
    match read_attempt(row) {
        Ok(attempt) => Some(attempt),
        Err(error) => {
            tracing::warn!(%error, "attempt left out of a DM session");
            None
        }
    }
}

async fn ask<T>(jobs: &mpsc::Sender<Job<T>>, id: &DeviceId) -> Result<T, StoreError> {
    let (done, answer) = oneshot::channel();
    let gone = || unavailable("be read")(std::io::Error::other("the reader has ended"));
    jobs.send(Job { id: id.clone(), done }).await.map_err(|_| gone())?;
    answer.await.unwrap_or_else(|_| Err(gone()))
}

/// Reads what waits, a batch at a time. Each device is parsed for its own reader, so that a damaged
/// one affects no other.
async fn serve<T>(
    pool: Pool,
    statement: Statement,
    parse: impl Fn(&[SqliteRow]) -> Result<T, StoreError>,
    mut queue: mpsc::Receiver<Job<T>>,
) {
    let mut jobs = Vec::new();
    while queue.recv_many(&mut jobs, BATCH).await > 0 {
        let ids = jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>();
        let ids = serde_json::json!(ids).to_string();
        let read = read(&pool, statement, &ids).await.map_err(Arc::new);
        for Job { id, done } in jobs.drain(..) {
            let found = match &read {
                Ok(rows) => parse(rows.get(id.as_str()).map_or(&[][..], Vec::as_slice)),
                Err(error) => Err(unavailable("read a device")(Arc::clone(error))),
            };
            if done.send(found).is_err() {
                tracing::debug!("the reader of a device has gone");
            }
        }
    }
}

/// Returns the rows of a batch by device.
async fn read(
    pool: &Pool,
    (text, column): Statement,
    ids: &str,
) -> Result<BTreeMap<String, Vec<SqliteRow>>, StoreError> {
    let rows =
        pool.fetch_all(sqlx::query(text).bind(ids)).await.map_err(unavailable("read devices"))?;
    let mut by_device: BTreeMap<String, Vec<SqliteRow>> = BTreeMap::new();
    for row in rows {
        by_device.entry(get(&row, column)?).or_default().push(row);
    }
    Ok(by_device)
}
