//! Key rotation: seals the secrets of devices with another key.
//!
//! ```text
//! key file (old, new) | row of the new key | devices, a batch at a time | row of the old key goes |
//! key file (new)
//! ```
//!
//! Each step is durable before the next, so all secrets can be opened after a power cut, and the
//! next rotation resumes the interrupted one.

use std::collections::BTreeSet;

use proto::{crypto::random, ids::DeviceId};

use super::{
    SqliteStore,
    columns::{get, parsed, unavailable, unsigned},
    connection::{Pool, Writing},
    sealing::{self, Sealer, insert, known, no_key, update},
};
use crate::fleet::{
    device::SERVER_ID,
    sealing::{KeyId, Owner, Role, key_id},
    store::StoreError,
};

/// Devices that are sealed in one transaction.
const BATCH: i64 = 512;

/// The key that a rotation seals with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotateTo {
    /// A new key; that of an interrupted rotation, if there is one.
    NewKey,
    /// The last key of the key file.
    LastKey,
}

/// A rotation in progress.
#[derive(Debug)]
pub struct Rotation<'a> {
    store: &'a SqliteStore,
    new: KeyId,
    /// Last device that was processed.
    cursor: String,
    /// Devices whose secrets were sealed again.
    pub sealed: u64,
    /// Devices at the start.
    pub devices: u64,
}

/// The result of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationReport {
    /// The key that seals.
    pub key: KeyId,
    /// Devices whose secrets were sealed again.
    pub sealed: u64,
    /// Keys that are no longer used.
    pub removed: Vec<KeyId>,
}

impl<'a> Rotation<'a> {
    /// Begins a rotation, or resumes an interrupted one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the key cannot be stored.
    pub async fn begin(store: &'a SqliteStore, to: RotateTo) -> Result<Self, StoreError> {
        // The write lock is held, so that no two processes write the key file.
        let mut writing = begin(&store.pool).await?;
        let ring = store.keys.load()?;
        let known = known(&mut writing).await?;
        let last = ring.last().ok_or_else(no_key)?;
        let is_begun = known.len() > 1 || known.last() != Some(&last);
        let id = match to {
            RotateTo::NewKey if !is_begun => store.keys.add(random())?,
            RotateTo::NewKey | RotateTo::LastKey => last,
        };
        if !known.contains(&id) {
            insert(&mut writing, id).await?;
        }
        let devices = writing
            .fetch_one(sqlx::query("SELECT COUNT(*) AS devices FROM device"))
            .await
            .map_err(unavailable("count the devices"))?;
        let devices = unsigned(&devices, "devices")?;
        writing.commit().await.map_err(unavailable("store a key"))?;
        Ok(Self { store, new: id, cursor: String::new(), sealed: 0, devices })
    }

    /// Seals the next devices; returns whether there are more.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a secret cannot be opened or written.
    pub async fn step(&mut self) -> Result<bool, StoreError> {
        let mut writing = begin(&self.store.pool).await?;
        let rows = writing.fetch_all(sqlx::query(
            "SELECT id, user, secret, server_secret FROM device WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(&self.cursor)
        .bind(BATCH))
        .await
        .map_err(unavailable("read the devices"))?;
        let keys = &self.store.keys;
        let sealer = Sealer::with(keys, self.new)?;
        for row in &rows {
            let (device, user): (DeviceId, String) = (parsed(row, "id")?, get(row, "user")?);
            self.cursor = device.as_str().to_owned();
            let is_new = |sealed: &Vec<u8>| key_id(sealed) == Ok(self.new);
            let own: Vec<u8> = get(row, "secret")?;
            let server: Option<Vec<u8>> = get(row, "server_secret")?;
            if is_new(&own) && server.as_ref().is_none_or(is_new) {
                continue;
            }
            let (own, server) = sealing::open(keys, (own, server), (&device, &user))?;
            let owner = Owner { device: &device, role: Role::Device, user: &user };
            let theirs = Owner { role: Role::Server, user: SERVER_ID, ..owner };
            let server = server.map(|secret| sealer.seal(theirs, &secret));
            update(&mut writing, &device, (sealer.seal(owner, &own), server)).await?;
            self.sealed += 1;
        }
        writing.commit().await.map_err(unavailable("seal secrets"))?;
        Ok(!rows.is_empty())
    }

    /// Removes the keys that are no longer used, after [`Self::step`] has processed all devices.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when they cannot be removed.
    pub async fn finish(self) -> Result<RotationReport, StoreError> {
        let mut writing = begin(&self.store.pool).await?;
        writing.execute(sqlx::query(
            "DELETE FROM sealing_key WHERE id <> (SELECT id FROM sealing_key ORDER BY number DESC LIMIT 1) \
             AND NOT EXISTS (SELECT 1 FROM device WHERE substr(secret, 2, 8) = sealing_key.id \
             OR substr(server_secret, 2, 8) = sealing_key.id)",
        ))
        .await
        .map_err(unavailable("remove a key"))?;
        writing.commit().await.map_err(unavailable("remove a key"))?;
        // The database first: the file has each key that the database may name.
        let mut writing = begin(&self.store.pool).await?;
        let known: BTreeSet<_> = known(&mut writing).await?.into_iter().collect();
        let removed = self.store.keys.remove_unused(&known)?;
        writing.rollback().await.map_err(unavailable("remove a key"))?;
        Ok(RotationReport { key: self.new, sealed: self.sealed, removed })
    }
}

async fn begin(pool: &Pool) -> Result<Writing, StoreError> {
    pool.begin().await.map_err(unavailable("be written"))
}

#[cfg(test)]
mod tests;
