//! The secrets of devices, sealed anew with another key.
//!
//! ```text
//! key file (old, new) | row of the new key | devices, a batch at a time | row of the old key goes |
//! key file (new)
//! ```
//!
//! Each step is durable before the next, so whatever a power cut leaves opens, and what was begun is
//! gone on with.

use std::collections::BTreeSet;

use proto::{crypto::random, ids::DeviceId};
use sqlx::SqlitePool;

use super::{
    SqliteStore,
    columns::{get, parsed, unavailable, unsigned},
    sealing::{self, Sealer, insert, known, no_key, update},
};
use crate::fleet::{
    device::SERVER_ID,
    sealing::{KeyId, Owner, Role, key_id},
    store::StoreError,
};

/// Devices that are sealed in one transaction.
const BATCH: i64 = 512;

/// The key of a sealing anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewKey {
    /// One is made, unless a sealing anew was broken off: then that one's.
    Made,
    /// The last one of the key file.
    Last,
}

/// Secrets on their way from one key to another.
#[derive(Debug)]
pub struct Reseal<'a> {
    store: &'a SqliteStore,
    new: KeyId,
    /// The last device that was looked at.
    cursor: String,
    /// Devices that were sealed anew.
    pub sealed: u64,
    /// Devices in all, as of its beginning.
    pub devices: u64,
}

/// What came of a sealing anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resealed {
    /// The key that seals.
    pub key: KeyId,
    /// Devices that were sealed anew.
    pub sealed: u64,
    /// Keys that nothing is sealed with.
    pub removed: Vec<KeyId>,
}

impl<'a> Reseal<'a> {
    /// Takes up the key.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it cannot be kept.
    pub async fn begin(store: &'a SqliteStore, new: NewKey) -> Result<Self, StoreError> {
        // The write lock is held, so that no two processes write the key file.
        let mut writing = begin(&store.pool).await?;
        let ring = store.keys.load()?;
        let known = known(&mut writing).await?;
        let last = ring.last().ok_or_else(no_key)?;
        let is_begun = known.len() > 1 || known.last() != Some(&last);
        let id = match new {
            NewKey::Made if !is_begun => store.keys.add(random())?,
            NewKey::Made | NewKey::Last => last,
        };
        if !known.contains(&id) {
            insert(&mut writing, id).await?;
        }
        let devices = sqlx::query("SELECT COUNT(*) AS devices FROM device")
            .fetch_one(&mut *writing)
            .await
            .map_err(unavailable("count the devices"))?;
        let devices = unsigned(&devices, "devices")?;
        writing.commit().await.map_err(unavailable("keep a key"))?;
        Ok(Self { store, new: id, cursor: String::new(), sealed: 0, devices })
    }

    /// Seals the next devices; tells whether there are more.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when one does not open, or cannot be written.
    pub async fn step(&mut self) -> Result<bool, StoreError> {
        let mut writing = begin(&self.store.pool).await?;
        let rows = sqlx::query(
            "SELECT id, user, secret, server_secret FROM device WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(&self.cursor)
        .bind(BATCH)
        .fetch_all(&mut *writing)
        .await
        .map_err(unavailable("read the devices"))?;
        let keys = &self.store.keys;
        let sealer = Sealer::with(keys, self.new)?;
        for row in &rows {
            let (device, user): (DeviceId, String) = (parsed(row, "id")?, get(row, "user")?);
            self.cursor = device.as_str().to_owned();
            let is_new = |sealed: Vec<u8>| key_id(&sealed) == Ok(self.new);
            let server: Option<Vec<u8>> = get(row, "server_secret")?;
            if is_new(get(row, "secret")?) && server.is_none_or(is_new) {
                continue;
            }
            let (own, server) = sealing::open(keys, row, (&device, &user))?;
            let owner = Owner { device: &device, role: Role::Device, user: &user };
            let theirs = Owner { role: Role::Server, user: SERVER_ID, ..owner };
            let server = server.map(|secret| sealer.seal(theirs, &secret));
            update(&mut writing, &device, (sealer.seal(owner, &own), server)).await?;
            self.sealed += 1;
        }
        writing.commit().await.map_err(unavailable("seal secrets"))?;
        Ok(!rows.is_empty())
    }

    /// Lets go of the keys that nothing is sealed with, once [`Self::step`] has seen all devices.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when they cannot be removed.
    pub async fn end(self) -> Result<Resealed, StoreError> {
        let (pool, keys) = (&self.store.pool, &self.store.keys);
        let mut writing = begin(pool).await?;
        sqlx::query(
            "DELETE FROM sealing_key WHERE id <> (SELECT id FROM sealing_key ORDER BY number DESC LIMIT 1) \
             AND NOT EXISTS (SELECT 1 FROM device WHERE substr(secret, 2, 8) = sealing_key.id \
             OR substr(server_secret, 2, 8) = sealing_key.id)",
        )
        .execute(&mut *writing)
        .await
        .map_err(unavailable("let go of a key"))?;
        writing.commit().await.map_err(unavailable("let go of a key"))?;
        // The database lets go first: the file holds each key that the database may name.
        let mut writing = begin(pool).await?;
        let known: BTreeSet<_> = known(&mut writing).await?.into_iter().collect();
        let removed = keys.retain(&known)?;
        writing.rollback().await.map_err(unavailable("let go of a key"))?;
        Ok(Resealed { key: self.new, sealed: self.sealed, removed })
    }
}

async fn begin(pool: &SqlitePool) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, StoreError> {
    pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable("be written"))
}

#[cfg(test)]
mod tests;
