//! Devices, with their sealed secrets.

use std::sync::LazyLock;

use proto::{crypto::Digest, ids::DeviceId, time::Utc};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::sqlite::SqliteRow;

use super::super::{
    columns::{
        check_one_row, damaged, get, int, list, map_write_error, nonce, optional, optional_parsed,
        parsed, unsigned, utc, words,
    },
    connection::Connection,
    sealing::{self, Names, Sealed, Sealer, Secrets},
    table::{BatchTexts, SqliteQuery, Table, table},
};
use crate::{
    campaign::update_requests::UpdateRequestPolicy,
    fleet::{
        device::{
            AccountTerms, Device, DeviceAuth, DeviceNonce, FirmwareObject, ServerCredentials,
            SuspendCommand,
        },
        profile::Profile,
        store::StoreError,
    },
};

table! {
    /// Enrolled devices.
    const TABLE: "device";
    bind(row: &Device, sealed: Sealed);
    key {
        id: parsed = row.id.as_str(),
        version: unsigned = int(row.version),
    }
    fixed {}
    variable {
        manufacturer: get = &row.manufacturer,
        model: get = &row.model,
        vendor: parsed = row.vendor.to_string(),
        class: parsed = row.class.to_string(),
        url: get = &row.url,
        object: get = &row.object.uri,
        user: get = &row.auth.user,
        secret: get = sealed.0,
        next_nonce: nonce = row.auth.next_nonce.as_ref().map(|nonce| nonce.0.as_slice()),
        challenge_count: unsigned = int(row.auth.challenge_count),
        proved_from: json = to_json(&row.auth.proved_from),
        firmware_version: get = &row.firmware_version,
        enrolled: utc = int(row.enrolled.0),
        last_seen: optional = row.last_seen.map(|seen| int(seen.0)),
        server_secret: get = sealed.1,
        server_nonce: get = row.server.as_ref().map(|server| &server.nonce.0),
        auth: parsed = row.auth.kind.as_str(),
        update_requests: optional_parsed = row.update_requests.map(UpdateRequestPolicy::as_str),
        profile: get = &row.profile.name,
        quirks: list = words(row.profile.quirks.iter()),
        pending_suspension: optional_parsed = row.pending_suspension.map(SuspendCommand::as_str),
        components: json = to_json(&row.components),
        policy: json = to_json(&row.policy),
        object_origin: parsed = row.object.origin.as_str(),
        server_id: get = &row.account.server_id,
        server_auth: parsed = row.account.server_kind.as_str(),
        certificate: digest = row.account.certificate.map(|digest| digest.to_string()),
        account_flags: list = words(row.account.has_weak_password.then_some(WEAK_PASSWORD)),
    }
    pub(in crate::shell::store::sqlite) fn read_device(secrets: Secrets<'_>) {
        let (id, user): (DeviceId, String) = (id()?, user()?);
        let server_id: String = server_id()?;
        let sealed = (secret()?, server_secret()?);
        let names = Names::of(&id, (&user, &server_id));
        let (secret, server_secret) = sealing::read(secrets, sealed, names)?;
        let flags: Vec<String> = account_flags()?;
        let server_nonce: Option<Vec<u8>> = server_nonce()?;
        let credentials = |(secret, nonce)| ServerCredentials { secret, nonce: DeviceNonce(nonce) };
        Ok(Device {
            id,
            version: version()?,
            manufacturer: manufacturer()?,
            model: model()?,
            vendor: vendor()?,
            class: class()?,
            url: url()?,
            object: FirmwareObject { uri: object()?, origin: object_origin()? },
            auth: DeviceAuth {
                kind: auth()?,
                user,
                secret,
                next_nonce: next_nonce()?,
                challenge_count: challenge_count()?,
                proved_from: proved_from()?,
            },
            account: AccountTerms {
                server_id,
                server_kind: server_auth()?,
                certificate: certificate()?,
                has_weak_password: flags.iter().any(|flag| flag == WEAK_PASSWORD),
            },
            server: server_secret.zip(server_nonce).map(credentials),
            update_requests: update_requests()?,
            profile: Profile { name: profile()?, quirks: quirks()?.into_iter().collect() },
            pending_suspension: pending_suspension()?,
            policy: policy()?,
            components: components()?,
            firmware_version: firmware_version()?,
            enrolled: enrolled()?,
            last_seen: last_seen()?.map(Utc),
        })
    }
}

/// Word of the column `account_flags`.
const WEAK_PASSWORD: &str = "weak-password";

fn digest(row: &SqliteRow, column: &'static str) -> Result<Option<Digest>, StoreError> {
    let Some(text) = get::<Option<String>>(row, column)? else { return Ok(None) };
    Digest::from_hex(&text).map(Some).ok_or_else(|| damaged(column)(text))
}

/// Returns the JSON of a value; most devices have the default one, which is absent.
fn to_json<T: Serialize + Default + PartialEq>(value: &T) -> Option<String> {
    let is_set = *value != T::default();
    is_set.then(|| serde_json::to_string(value).expect("our own types have string keys"))
}

pub(in crate::shell::store::sqlite) fn json<T: DeserializeOwned + Default>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    let Some(text) = get::<Option<String>>(row, column)? else { return Ok(T::default()) };
    serde_json::from_str(&text).map_err(|error| damaged(column)(error.to_string()))
}

fn bind_sealed<'q>(
    query: SqliteQuery<'q>,
    row: &'q Device,
    sealer: Option<&Sealer>,
) -> SqliteQuery<'q> {
    bind(query, row, sealing::seal(sealer, row))
}

/// Writes a device over the version that it was read at.
pub(in crate::shell::store::sqlite) async fn write_device(
    connection: &mut Connection,
    row: &Device,
    sealer: Option<&Sealer>,
) -> Result<(), StoreError> {
    if row.version > 0 {
        let count = update_devices(connection, &[row], sealer).await?;
        return if count == 1 { Ok(()) } else { Err(StoreError::Conflict("device")) };
    }
    let written = connection.execute(bind_sealed(sqlx::query(&INSERT), row, sealer)).await;
    check_one_row(&written.map_err(map_write_error("device"))?, "device")
}

static INSERT: LazyLock<String> = LazyLock::new(|| TABLE.insert());

static UPDATE: LazyLock<BatchTexts> = LazyLock::new(|| {
    // The columns of the values are named by their numbers, id and version first. A secret that is
    // not given stays as it is sealed.
    let set = TABLE.variable().map(|(number, column)| match column {
        "secret" | "server_secret" => {
            format!("{column} = COALESCE(new.column{number}, device.{column})")
        }
        _ => format!("{column} = new.column{number}"),
    });
    let set = set.collect::<Vec<_>>().join(", ");
    BatchTexts::new(TABLE.len(), |values| {
        format!(
            "UPDATE device SET version = 1 + new.column2, {set} FROM ({values}) AS new \
             WHERE id = new.column1 AND version = new.column2"
        )
    })
});

/// Writes at most [`BATCH`](super::super::table::BATCH) devices, each over the version that it was
/// read at; returns the number of those that still had it.
pub(in crate::shell::store::sqlite) async fn update_devices(
    connection: &mut Connection,
    rows: &[&Device],
    sealer: Option<&Sealer>,
) -> Result<u64, StoreError> {
    let query = sqlx::query(UPDATE.of(rows.len()));
    let query = rows.iter().fold(query, |query, row| bind_sealed(query, row, sealer));
    let result = connection.execute(query).await.map_err(map_write_error("device"))?;
    Ok(result.rows_affected())
}
