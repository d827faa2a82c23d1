//! The secrets of devices: sealed as they are written, and sealed anew with another key.
//!
//! ```text
//! key file (old, new) | row of the new key | devices, a batch at a time | row of the old key goes |
//! key file (new)
//! ```
//!
//! Each step is durable before the next, so whatever a power cut leaves opens, and what was begun is
//! gone on with. Whoever seals reads in its own transaction which key is the latest, so nothing is
//! sealed with an old one once the last device has been looked at. The database had the secrets in
//! the clear up to version 9: those are sealed in the transaction that leads to version 10, and
//! the latest version says that nothing of them is left in free pages or in the write-ahead log.

use std::{collections::BTreeSet, sync::Arc};

use proto::{crypto::random, dm::auth::Secret, ids::DeviceId};
use sqlx::{SqliteConnection, SqlitePool, sqlite::SqliteRow};
use zeroize::Zeroizing;

use super::{
    MIGRATIONS, SqliteStore,
    rows::{get, parsed, unavailable, unsigned},
};
use crate::{
    fleet::{
        device::{Device, Kept, SERVER_ID},
        sealing::{KeyId, KeyRing, Owner, Role, key_id},
        store::StoreError,
    },
    shell::store::key_file::KeyFile,
};

/// Devices that are sealed in one transaction.
const BATCH: i64 = 512;

/// What seals, within one transaction.
pub(super) struct Sealer {
    ring: Arc<KeyRing>,
    id: KeyId,
}

/// The sealed secrets of a device; what the store holds already is absent.
pub(super) type Sealed = (Option<Vec<u8>>, Option<Vec<u8>>);

impl Sealer {
    /// Returns what seals as long as the transaction of this connection lasts.
    pub(super) async fn open(
        connection: &mut SqliteConnection,
        keys: &KeyFile,
    ) -> Result<Self, StoreError> {
        let id = known(connection).await?.pop().ok_or_else(no_key)?;
        Ok(Self { ring: keys.with(id)?, id })
    }

    fn seal(&self, owner: Owner<'_>, secret: &Secret) -> Vec<u8> {
        let sealed = self.ring.seal(self.id, random(), owner, secret);
        sealed.expect("the ring was asked for this key")
    }
}

fn no_key() -> StoreError {
    StoreError::Damaged { what: "sealing_key", found: "no key".to_owned() }
}

/// Tells whether a change of the device brings secrets that the store does not hold.
pub(super) fn is_fresh(row: &Device) -> bool {
    let fresh = |secret: &Kept| row.version == 0 || !secret.is_stored();
    fresh(&row.auth.secret) || row.server.as_ref().is_some_and(|server| fresh(&server.secret))
}

/// Seals what the store does not hold; without a sealer it holds all.
// spec: security 7.4 (secrets at rest)
pub(super) fn seal(sealer: Option<&Sealer>, row: &Device) -> Sealed {
    let seal = |role, user, secret: &Kept| {
        let is_held = row.version > 0 && secret.is_stored();
        let sealer = sealer.filter(|_| !is_held)?;
        Some(sealer.seal(Owner { device: &row.id, role, user }, secret))
    };
    let server = row.server.as_ref();
    (
        seal(Role::Device, &row.auth.user, &row.auth.secret),
        server.and_then(|server| seal(Role::Server, SERVER_ID, &server.secret)),
    )
}

/// The ids of the keys that secrets may be sealed with, the one that seals last.
async fn known(connection: &mut SqliteConnection) -> Result<Vec<KeyId>, StoreError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar("SELECT id FROM sealing_key ORDER BY number")
        .fetch_all(connection)
        .await
        .map_err(unavailable("read its keys"))?;
    let read = |id: Vec<u8>| id.try_into().map(KeyId).map_err(|_| no_key());
    rows.into_iter().map(read).collect()
}

async fn insert(connection: &mut SqliteConnection, id: KeyId) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO sealing_key (id) VALUES (?)")
        .bind(id.0.to_vec())
        .execute(connection)
        .await
        .map_err(unavailable("keep a key"))?;
    Ok(())
}

/// Reads the key file, and refuses one that lacks a key of this database.
pub(super) async fn check(
    connection: &mut SqliteConnection,
    keys: &KeyFile,
) -> Result<(), StoreError> {
    keys.load()?;
    for id in known(connection).await? {
        keys.with(id)?;
    }
    Ok(())
}

/// Seals the secrets of a database that has them in the clear.
pub(super) async fn seal_all(
    connection: &mut SqliteConnection,
    keys: &KeyFile,
) -> Result<(), StoreError> {
    let id = keys.load_or_make()?.last().ok_or_else(no_key)?;
    insert(connection, id).await?;
    let sealer = Sealer::open(connection, keys).await?;
    let rows =
        sqlx::query("SELECT id, user, auth, secret, server_secret, server_password FROM device")
            .fetch_all(&mut *connection)
            .await
            .map_err(unavailable("read the devices"))?;
    for row in rows {
        let (device, user): (DeviceId, String) = (parsed(&row, "id")?, get(&row, "user")?);
        let hash = |octets: Vec<u8>| {
            let found = format!("{} octets", octets.len());
            let octets = octets.try_into();
            octets.map_err(|_| StoreError::Damaged { what: "secret", found })
        };
        let secret = Secret::from_octets(hash(get(&row, "secret")?)?);
        let password: Option<String> = get(&row, "server_password")?;
        let server = match (password.map(Zeroizing::new), get(&row, "server_secret")?) {
            (Some(password), _) => {
                Some(Secret::for_kind(parsed(&row, "auth")?, SERVER_ID, &password))
            }
            (None, Some(octets)) => Some(Secret::from_octets(hash(octets)?)),
            (None, None) => None,
        };
        let own = Owner { device: &device, role: Role::Device, user: &user };
        let theirs = Owner { device: &device, role: Role::Server, user: SERVER_ID };
        let sealed = (sealer.seal(own, &secret), server.map(|it| sealer.seal(theirs, &it)));
        update(connection, &device, sealed).await?;
    }
    sqlx::raw_sql("ALTER TABLE device DROP COLUMN server_password")
        .execute(connection)
        .await
        .map_err(unavailable("be migrated"))?;
    Ok(())
}

async fn update(
    connection: &mut SqliteConnection,
    device: &DeviceId,
    (own, server): (Vec<u8>, Option<Vec<u8>>),
) -> Result<(), StoreError> {
    sqlx::query("UPDATE device SET secret = ?, server_secret = ? WHERE id = ?")
        .bind(own)
        .bind(server)
        .bind(device.as_str())
        .execute(connection)
        .await
        .map_err(unavailable("seal a secret"))?;
    Ok(())
}

/// Takes away what is left of secrets in the clear: in free pages, and in the log.
pub(super) async fn scrub(pool: &SqlitePool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await.map_err(unavailable("be cleaned"))?;
    sqlx::raw_sql("VACUUM").execute(&mut *connection).await.map_err(unavailable("be cleaned"))?;
    let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(&mut *connection)
        .await
        .map_err(unavailable("be cleaned"))?;
    if busy != 0 {
        tracing::warn!("others use the database: what it held in the clear goes at the next start");
        return Ok(());
    }
    sqlx::raw_sql(&format!("PRAGMA user_version = {}", MIGRATIONS.len()))
        .execute(&mut *connection)
        .await
        .map_err(unavailable("be cleaned"))?;
    Ok(())
}

/// Opens the secrets of a row.
pub(super) fn open(
    keys: &KeyFile,
    row: &SqliteRow,
    (device, user): (&DeviceId, &str),
) -> Result<(Kept, Option<Kept>), StoreError> {
    let open = |role, user, sealed: &[u8]| {
        keys.open(Owner { device, role, user }, sealed).map(Kept::stored)
    };
    let own = open(Role::Device, user, &get::<Vec<u8>>(row, "secret")?)?;
    let server: Option<Vec<u8>> = get(row, "server_secret")?;
    let server = server.map(|sealed| open(Role::Server, SERVER_ID, &sealed)).transpose()?;
    Ok((own, server))
}

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
        let sealer = Sealer { ring: keys.with(self.new)?, id: self.new };
        for row in &rows {
            let (device, user): (DeviceId, String) = (parsed(row, "id")?, get(row, "user")?);
            self.cursor = device.as_str().to_owned();
            let is_new = |sealed: Vec<u8>| key_id(&sealed) == Ok(self.new);
            let server: Option<Vec<u8>> = get(row, "server_secret")?;
            if is_new(get(row, "secret")?) && server.is_none_or(is_new) {
                continue;
            }
            let (own, server) = open(keys, row, (&device, &user))?;
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
