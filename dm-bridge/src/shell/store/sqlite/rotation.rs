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

use proto::{crypto::random, dm::auth::Secret, ids::DeviceId};
use sqlx::sqlite::SqliteRow;

use super::{
    SqliteStore,
    columns::{get, parsed, unavailable, unsigned},
    connection::{Pool, Writing},
    sealing::{self, Names, Sealer, insert, known, no_key, update},
};
use crate::{
    fleet::{
        sealing::{KeyId, Role, key_id},
        store::StoreError,
    },
    shell::store::key_file::KeyFile,
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
    damaged: Vec<String>,
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
    /// Devices whose secrets cannot be opened; they are as they were.
    pub damaged: Vec<String>,
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
        Ok(Self { store, new: id, cursor: String::new(), sealed: 0, devices, damaged: Vec::new() })
    }

    /// Seals the next devices; returns whether there are more.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the secrets cannot be read or written.
    pub async fn step(&mut self) -> Result<bool, StoreError> {
        let mut writing = begin(&self.store.pool).await?;
        let rows = writing.fetch_all(sqlx::query(
            "SELECT id, user, secret, server_secret, server_id FROM device WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(&self.cursor)
        .bind(BATCH))
        .await
        .map_err(unavailable("read the devices"))?;
        let keys = &self.store.keys;
        let sealer = Sealer::with(keys, self.new)?;
        let (mut sealed, mut damaged, mut last) = (0, Vec::new(), None);
        for row in &rows {
            let key: String = get(row, "id")?;
            match reseal(row, keys, &sealer, self.new) {
                Ok(Some((device, secrets))) => {
                    update(&mut writing, &device, secrets).await?;
                    sealed += 1;
                }
                Ok(None) => {}
                // The others go on; the key that the row may need stays.
                Err(error) => {
                    tracing::warn!(%error, device = key, "secrets not sealed again");
                    damaged.push(key.clone());
                }
            }
            last = Some(key);
        }
        writing.commit().await.map_err(unavailable("seal secrets"))?;
        self.sealed += sealed;
        self.damaged.append(&mut damaged);
        self.cursor = last.clone().unwrap_or_default();
        Ok(last.is_some())
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
        let Self { new: key, sealed, damaged, .. } = self;
        Ok(RotationReport { key, sealed, removed, damaged })
    }
}

/// The sealed secrets of a device.
type SealedPair = (Vec<u8>, Option<Vec<u8>>);

/// Seals the secrets of a row with the new key; returns `None` for one that has them so.
fn reseal(
    row: &SqliteRow,
    keys: &KeyFile,
    sealer: &Sealer,
    new: KeyId,
) -> Result<Option<(DeviceId, SealedPair)>, StoreError> {
    let (device, user): (DeviceId, String) = (parsed(row, "id")?, get(row, "user")?);
    let is_new = |sealed: &Vec<u8>| key_id(sealed) == Ok(new);
    let own: Vec<u8> = get(row, "secret")?;
    let server: Option<Vec<u8>> = get(row, "server_secret")?;
    if is_new(&own) && server.as_ref().is_none_or(is_new) {
        return Ok(None);
    }
    let server_id: String = get(row, "server_id")?;
    let names = Names::of(&device, (&user, &server_id));
    let (own, server) = sealing::open_sealed(keys, (own, server), names)?;
    let seal = |role, secret: &Secret| sealer.seal(names.owner(role), secret);
    let sealed = (seal(Role::Device, &own), server.map(|it| seal(Role::Server, &it)));
    Ok(Some((device, sealed)))
}

async fn begin(pool: &Pool) -> Result<Writing, StoreError> {
    pool.begin().await.map_err(unavailable("be written"))
}

#[cfg(test)]
mod tests;
