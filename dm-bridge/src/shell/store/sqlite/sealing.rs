//! The secrets of devices, sealed as they are written.
//!
//! A transaction that seals reads the id of the latest key first, so nothing is sealed with an old
//! one after a rotation has passed the last device. Up to schema version 9 the secrets were not
//! sealed; the migration to version 10 seals them, and the latest version is set when no free page
//! and no write-ahead log has any of them.

use std::sync::Arc;

use proto::{crypto::random, dm::auth::Secret, ids::DeviceId};
use zeroize::Zeroizing;

use super::{
    columns::{array, get, parsed, unavailable},
    connection::{Connection, Pool},
};
use crate::{
    fleet::{
        device::{Device, SERVER_ID, StoredSecret},
        sealing::{KeyId, KeyRing, Owner, Role},
        store::StoreError,
    },
    shell::store::key_file::KeyFile,
};

/// The key that seals within one transaction.
pub(super) struct Sealer {
    ring: Arc<KeyRing>,
    id: KeyId,
}

/// The sealed secrets of a device; secrets that the store has are absent.
pub(super) type Sealed = (Option<Vec<u8>>, Option<Vec<u8>>);

impl Sealer {
    /// Returns the sealer for the transaction of this connection.
    pub(super) async fn open(
        connection: &mut Connection,
        keys: &KeyFile,
    ) -> Result<Self, StoreError> {
        Self::with(keys, known(connection).await?.pop().ok_or_else(no_key)?)
    }

    /// Returns the sealer with this key.
    pub(super) fn with(keys: &KeyFile, id: KeyId) -> Result<Self, StoreError> {
        Ok(Self { ring: keys.with(id)?, id })
    }

    /// Seals one secret.
    pub(super) fn seal(&self, owner: Owner<'_>, secret: &Secret) -> Vec<u8> {
        let sealed = self.ring.seal(self.id, random(), owner, secret);
        sealed.expect("the ring was asked for this key")
    }
}

/// Returns the error for a database without a key.
pub(super) fn no_key() -> StoreError {
    StoreError::Damaged { what: "sealing_key", found: "no key".to_owned() }
}

/// Returns whether a device has secrets that the store lacks.
pub(super) fn is_fresh(row: &Device) -> bool {
    let fresh = |secret: &StoredSecret| row.version == 0 || !secret.is_stored();
    fresh(&row.auth.secret) || row.server.as_ref().is_some_and(|server| fresh(&server.secret))
}

/// Seals the secrets that the store lacks; without a sealer there are none.
// spec: security 7.4 (stored secrets)
pub(super) fn seal(sealer: Option<&Sealer>, row: &Device) -> Sealed {
    let seal = |role, user, secret: &StoredSecret| {
        let is_held = row.version > 0 && secret.is_stored();
        let sealer = sealer.filter(|_| !is_held)?;
        Some(sealer.seal(Owner { device: &row.id, role, user }, secret.opened()?))
    };
    let server = row.server.as_ref();
    (
        seal(Role::Device, &row.auth.user, &row.auth.secret),
        server.and_then(|server| seal(Role::Server, &row.account.server_id, &server.secret)),
    )
}

/// Returns the ids of the keys in use; the last one seals.
pub(super) async fn known(connection: &mut Connection) -> Result<Vec<KeyId>, StoreError> {
    let rows = connection
        .fetch_all(sqlx::query("SELECT id FROM sealing_key ORDER BY number"))
        .await
        .map_err(unavailable("read its keys"))?;
    rows.iter().map(|row| array(row, "id").map(KeyId)).collect()
}

/// Records a key.
pub(super) async fn insert(connection: &mut Connection, id: KeyId) -> Result<(), StoreError> {
    connection
        .execute(sqlx::query("INSERT INTO sealing_key (id) VALUES (?)").bind(id.0.to_vec()))
        .await
        .map_err(unavailable("store a key"))?;
    Ok(())
}

/// Reads the key file and rejects one that lacks a key of this database.
pub(super) async fn check(connection: &mut Connection, keys: &KeyFile) -> Result<(), StoreError> {
    keys.load()?;
    for id in known(connection).await? {
        keys.with(id)?;
    }
    Ok(())
}

/// Seals the secrets of a database that has them in the clear.
pub(super) async fn seal_all(
    connection: &mut Connection,
    keys: &KeyFile,
) -> Result<(), StoreError> {
    let id = keys.load_or_create()?.last().ok_or_else(no_key)?;
    insert(connection, id).await?;
    let sealer = Sealer::open(connection, keys).await?;
    let rows = connection
        .fetch_all(sqlx::query(
            "SELECT id, user, auth, secret, server_secret, server_password FROM device",
        ))
        .await
        .map_err(unavailable("read the devices"))?;
    for row in rows {
        let (device, user): (DeviceId, String) = (parsed(&row, "id")?, get(&row, "user")?);
        let hash = |bytes: Vec<u8>| {
            let found = format!("{} octets", bytes.len());
            let bytes = bytes.try_into();
            bytes.map_err(|_| StoreError::Damaged { what: "secret", found })
        };
        let secret = Secret::from_bytes(hash(get(&row, "secret")?)?);
        let password: Option<String> = get(&row, "server_password")?;
        let server = match (password.map(Zeroizing::new), get(&row, "server_secret")?) {
            (Some(password), _) => {
                Some(Secret::for_kind(parsed(&row, "auth")?, SERVER_ID, &password))
            }
            (None, Some(bytes)) => Some(Secret::from_bytes(hash(bytes)?)),
            (None, None) => None,
        };
        let own = Owner { device: &device, role: Role::Device, user: &user };
        let theirs = Owner { device: &device, role: Role::Server, user: SERVER_ID };
        let sealed = (sealer.seal(own, &secret), server.map(|it| sealer.seal(theirs, &it)));
        update(connection, &device, sealed).await?;
    }
    connection
        .run("ALTER TABLE device DROP COLUMN server_password")
        .await
        .map_err(unavailable("be migrated"))?;
    Ok(())
}

/// Writes the sealed secrets of a device.
pub(super) async fn update(
    connection: &mut Connection,
    device: &DeviceId,
    (own, server): (Vec<u8>, Option<Vec<u8>>),
) -> Result<(), StoreError> {
    connection
        .execute(
            sqlx::query("UPDATE device SET secret = ?, server_secret = ? WHERE id = ?")
                .bind(own)
                .bind(server)
                .bind(device.as_str()),
        )
        .await
        .map_err(unavailable("seal a secret"))?;
    Ok(())
}

/// Removes secrets in the clear from free pages and from the log. Returns `false` when another
/// process uses the database.
pub(super) async fn scrub(pool: &Pool) -> Result<bool, StoreError> {
    let mut connection = pool.acquire().await.map_err(unavailable("be cleaned"))?;
    connection.run("VACUUM").await.map_err(unavailable("be cleaned"))?;
    let row = connection
        .fetch_one(sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)"))
        .await
        .map_err(unavailable("be cleaned"))?;
    Ok(get::<i64>(&row, "busy")? == 0)
}

/// Use of the secrets of a row that is read.
#[derive(Clone, Copy)]
pub(super) enum Secrets<'a> {
    /// They are opened.
    Opened(&'a KeyFile),
    /// They stay sealed: whatever is wrong with them does no harm.
    Sealed,
}

/// The names that the secrets of a device are made with.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    device: &'a DeviceId,
    /// User name of the device.
    user: &'a str,
    server_id: &'a str,
}

impl<'a> Names<'a> {
    /// Returns the names of a device, of its user and of its server.
    pub(super) const fn of(device: &'a DeviceId, (user, server_id): (&'a str, &'a str)) -> Self {
        Self { device, user, server_id }
    }

    /// Returns the owner of one of the secrets.
    pub(super) const fn owner(self, role: Role) -> Owner<'a> {
        let user = match role {
            Role::Device => self.user,
            Role::Server => self.server_id,
        };
        Owner { device: self.device, role, user }
    }
}

/// Returns the secrets of a device.
pub(super) fn read(
    secrets: Secrets<'_>,
    sealed: (Vec<u8>, Option<Vec<u8>>),
    names: Names<'_>,
) -> Result<(StoredSecret, Option<StoredSecret>), StoreError> {
    match secrets {
        Secrets::Opened(keys) => open(keys, sealed, names),
        Secrets::Sealed => Ok((StoredSecret::sealed(), sealed.1.map(|_| StoredSecret::sealed()))),
    }
}

fn open(
    keys: &KeyFile,
    sealed: (Vec<u8>, Option<Vec<u8>>),
    names: Names<'_>,
) -> Result<(StoredSecret, Option<StoredSecret>), StoreError> {
    let (own, server) = open_sealed(keys, sealed, names)?;
    Ok((StoredSecret::from_store(own), server.map(StoredSecret::from_store)))
}

/// Opens the secrets of a device.
pub(super) fn open_sealed(
    keys: &KeyFile,
    (own, server): (Vec<u8>, Option<Vec<u8>>),
    names: Names<'_>,
) -> Result<(Secret, Option<Secret>), StoreError> {
    let own = keys.open(names.owner(Role::Device), &own)?;
    let open = |sealed: Vec<u8>| keys.open(names.owner(Role::Server), &sealed);
    Ok((own, server.map(open).transpose()?))
}
