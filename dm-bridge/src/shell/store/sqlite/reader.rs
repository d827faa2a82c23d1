//! One reader for DM messages: devices that wait together are read together.
//!
//! The cost of a query is the switch to the thread of its connection and back; a message needs two
//! queries.

use std::{collections::BTreeMap, sync::Arc};

use proto::ids::DeviceId;
use sqlx::{SqlitePool, sqlite::SqliteRow};
use tokio::sync::{mpsc, oneshot};

use super::{
    columns::{get, unavailable},
    rows::{attempt::read_attempt, device::read_device},
    table::BATCH,
};
use crate::{
    fleet::{attempt::ArmingAttempt, device::Device, store::StoreError},
    shell::store::key_file::KeyFile,
};

/// Devices that may wait.
const QUEUE: usize = 1_024;

/// A device with all attempts for it.
pub(super) type Found = Option<(Device, Vec<ArmingAttempt>)>;

/// A handle to the reader.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pool: SqlitePool,
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    id: DeviceId,
    done: oneshot::Sender<Result<Found, StoreError>>,
}

impl Reader {
    /// Starts the reader; it ends with the last handle to it.
    pub(super) fn start(pool: SqlitePool, keys: KeyFile) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(serve(pool.clone(), keys, queue));
        Self { pool, jobs }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    pub(super) async fn device_with_attempts(&self, id: &DeviceId) -> Result<Found, StoreError> {
        let (done, answer) = oneshot::channel();
        let gone = || unavailable("be read")(std::io::Error::other("the reader has ended"));
        self.jobs.send(Job { id: id.clone(), done }).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

async fn serve(pool: SqlitePool, keys: KeyFile, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::new();
    while queue.recv_many(&mut jobs, BATCH).await > 0 {
        let ids = jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>();
        let read = read(&pool, &serde_json::json!(ids).to_string()).await.map_err(Arc::new);
        for Job { id, done } in jobs.drain(..) {
            let found = match &read {
                Ok(rows) => rows.device_with_attempts(&id, &keys),
                Err(error) => Err(unavailable("read a device")(Arc::clone(error))),
            };
            if done.send(found).is_err() {
                tracing::debug!("the reader of a device has gone");
            }
        }
    }
}

/// The rows of a batch. Each is parsed for its own reader, so that a damaged one affects no other.
struct Rows {
    devices: BTreeMap<String, SqliteRow>,
    attempts: BTreeMap<String, Vec<SqliteRow>>,
}

impl Rows {
    fn device_with_attempts(&self, id: &DeviceId, keys: &KeyFile) -> Result<Found, StoreError> {
        let Some(device) = self.devices.get(id.as_str()) else { return Ok(None) };
        let attempts = self.attempts.get(id.as_str()).into_iter().flatten().map(read_attempt);
        Ok(Some((read_device(device, keys)?, attempts.collect::<Result<_, _>>()?)))
    }
}

const SELECT_DEVICES: &str =
    "SELECT device.* FROM json_each(?) AS wanted JOIN device ON device.id = wanted.value";

const SELECT_ATTEMPTS: &str = "SELECT arming.* FROM json_each(?) AS wanted \
    JOIN arming ON arming.device = wanted.value ORDER BY campaign, attempt";

async fn read(pool: &SqlitePool, ids: &str) -> Result<Rows, StoreError> {
    let mut connection = pool.acquire().await.map_err(unavailable("be read"))?;
    let mut query = async |text: &'static str, column: &'static str| {
        let rows = sqlx::query(text)
            .bind(ids)
            .fetch_all(&mut *connection)
            .await
            .map_err(unavailable("read devices"))?;
        let named = rows.into_iter().map(|row| Ok((get::<String>(&row, column)?, row)));
        named.collect::<Result<Vec<_>, StoreError>>()
    };
    let devices = query(SELECT_DEVICES, "id").await?.into_iter().collect();
    let mut attempts: BTreeMap<String, Vec<SqliteRow>> = BTreeMap::new();
    for (device, row) in query(SELECT_ATTEMPTS, "device").await? {
        attempts.entry(device).or_default().push(row);
    }
    Ok(Rows { devices, attempts })
}
