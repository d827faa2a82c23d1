//! The secrets of devices, sealed as they are written.
//!
//! Whoever seals reads in its own transaction which key is the latest, so nothing is sealed with an
//! old one once a sealing anew has looked at the last device. The database had the secrets in the
//! clear up to version 9: those are sealed in the transaction that leads to version 10, and the
//! latest version says that nothing of them is left in free pages or in the write-ahead log.

use std::sync::Arc;

use proto::{crypto::random, dm::auth::Secret, ids::DeviceId};
use sqlx::{SqliteConnection, SqlitePool, sqlite::SqliteRow};
use zeroize::Zeroizing;

use super::columns::{get, parsed, unavailable};
use crate::{
    fleet::{
        device::{Device, Kept, SERVER_ID},
        sealing::{KeyId, KeyRing, Owner, Role},
        store::StoreError,
    },
    shell::store::key_file::KeyFile,
};

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
        Self::with(keys, known(connection).await?.pop().ok_or_else(no_key)?)
    }

    /// Returns what seals with this key.
    pub(super) fn with(keys: &KeyFile, id: KeyId) -> Result<Self, StoreError> {
        Ok(Self { ring: keys.with(id)?, id })
    }

    /// Seals one secret.
    pub(super) fn seal(&self, owner: Owner<'_>, secret: &Secret) -> Vec<u8> {
        let sealed = self.ring.seal(self.id, random(), owner, secret);
        sealed.expect("the ring was asked for this key")
    }
}

pub(super) fn no_key() -> StoreError {
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
pub(super) async fn known(connection: &mut SqliteConnection) -> Result<Vec<KeyId>, StoreError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar("SELECT id FROM sealing_key ORDER BY number")
        .fetch_all(connection)
        .await
        .map_err(unavailable("read its keys"))?;
    let read = |id: Vec<u8>| id.try_into().map(KeyId).map_err(|_| no_key());
    rows.into_iter().map(read).collect()
}

pub(super) async fn insert(connection: &mut SqliteConnection, id: KeyId) -> Result<(), StoreError> {
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

pub(super) async fn update(
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

/// Takes away what is left of secrets in the clear: in free pages, and in the log; tells whether
/// it could: others may use the database.
pub(super) async fn scrub(pool: &SqlitePool) -> Result<bool, StoreError> {
    let mut connection = pool.acquire().await.map_err(unavailable("be cleaned"))?;
    sqlx::raw_sql("VACUUM").execute(&mut *connection).await.map_err(unavailable("be cleaned"))?;
    let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(&mut *connection)
        .await
        .map_err(unavailable("be cleaned"))?;
    Ok(busy == 0)
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
