use std::{fs, path::Path};

use proto::{
    dm::auth::{AuthKind, Secret},
    time::Utc,
};
use sqlx::{Connection as _, SqliteConnection};

use super::{super::schema::MIGRATIONS, *};
use crate::{
    fleet::{
        audit::{Actor, Audit},
        device::{Device, SERVER_ID},
        store::FleetStore as _,
        store_tests,
    },
    shell::store::key_file::KeyFile,
};

const PASSWORD: &str = "the password of the server";

async fn open(folder: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&folder.join("fleet.db"), KeyFile::from_path(&folder.join("fleet.keys")))
        .await
}

/// Two devices: one that sends a digest, and one to which the password itself goes.
fn devices() -> [Device; 2] {
    let mut basic = store_tests::device("b");
    basic.auth.kind = AuthKind::Basic;
    let secret = Secret::for_kind(AuthKind::Basic, SERVER_ID, PASSWORD);
    basic.server.as_mut().unwrap().secret = secret.into();
    [store_tests::device("a"), basic]
}

fn audit() -> Audit {
    Audit {
        actor: Actor::Operator,
        action: "test.change",
        subject: String::new(),
        detail: String::new(),
    }
}

async fn enrol(store: &SqliteStore) {
    let rows = devices().map(Into::into).to_vec();
    store.apply(Utc(1), audit(), rows).await.unwrap();
}

/// All secrets as a store holds them; each fits the device that it was made for.
async fn holds_all(store: &SqliteStore) {
    let read = store.devices().await.unwrap();
    for (row, made) in read.iter().zip(devices()) {
        assert!(row.auth.secret.opened().is_none(), "a list opens no secrets");
        let row = store.device_with_secrets(&row.id).await.unwrap().unwrap();
        assert_eq!(row.auth.secret, made.auth.secret);
        assert_eq!(row.server.as_ref().unwrap().secret, made.server.unwrap().secret);
        assert!(row.auth.secret.is_stored());
    }
    assert_eq!(read.len(), 2);
}

/// Searches all files of a folder for what must not be in them.
fn nothing_is_in_the_clear(folder: &Path) {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // The log goes with the last connection, which may be on its way still.
        let Ok(octets) = fs::read(&path) else { continue };
        let holds = |secret: &[u8]| octets.windows(secret.len()).any(|window| window == secret);
        for device in devices() {
            let server = device.server.unwrap().secret;
            for secret in [&device.auth.secret, &server].map(|it| it.opened().unwrap().octets()) {
                assert!(!holds(&secret), "{}", path.display());
            }
        }
        assert!(!holds(PASSWORD.as_bytes()), "{}", path.display());
        files += 1;
    }
    assert!(files >= 2);
}

/// Undoes schema versions 22, 20, 18 and 16, and the names of version 14.
const BEFORE_14: &str = "
    DROP TRIGGER latest_attempt_added; DROP TRIGGER latest_attempt_changed;
    DROP TABLE phase_count; DROP INDEX arming_by_package_secret;
    ALTER TABLE arming DROP COLUMN package_secret;
    DROP TABLE challenge_key; DROP TABLE probe;
    DROP INDEX device_by_hmac_user;
    ALTER TABLE device DROP COLUMN server_id;
    ALTER TABLE device DROP COLUMN server_auth;
    ALTER TABLE device DROP COLUMN certificate;
    ALTER TABLE device DROP COLUMN account_flags;
    ALTER TABLE device DROP COLUMN object_origin;
    ALTER TABLE arming DROP COLUMN marks;
    ALTER TABLE device DROP COLUMN challenge_count;
    ALTER TABLE device DROP COLUMN proved_from;
    ALTER TABLE device ADD COLUMN challenge_nonce BLOB;
    ALTER TABLE device ADD COLUMN challenge_session TEXT;
    ALTER TABLE device ADD COLUMN challenge_made INTEGER;
    ALTER TABLE device ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE device ADD COLUMN failing_since INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE device RENAME COLUMN pending_suspension TO rest;
    ALTER TABLE device RENAME COLUMN update_requests TO on_request;
    ALTER TABLE campaign RENAME COLUMN update_requests TO on_request;
    ALTER TABLE campaign RENAME COLUMN delivery_methods TO ways;
    ALTER TABLE campaign RENAME COLUMN bundle_bytes TO bundle_octets;
    ALTER TABLE campaign RENAME COLUMN campaign_envelope TO campaign_paper;
    ALTER TABLE campaign RENAME COLUMN manifest_envelope TO manifest_paper;
    ALTER TABLE campaign RENAME COLUMN prepared_source TO air_source;
    ALTER TABLE campaign RENAME COLUMN prepared_tsi TO air_tsi;
    ALTER TABLE campaign RENAME COLUMN prepared_revision TO air_revision;
    ALTER TABLE campaign RENAME COLUMN prepared_opened TO air_opened;
    ALTER TABLE campaign RENAME COLUMN last_error TO problem;
    ALTER TABLE arming RENAME COLUMN delivery_method TO way;
    ALTER TABLE root_envelope RENAME TO root_paper;";

/// A database of schema version 9, which has its secrets in the clear, and in free pages those of
/// devices that are gone.
async fn plain(folder: &Path) {
    let url = format!("sqlite://{}?mode=rwc", folder.join("fleet.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    for migration in &MIGRATIONS[..9] {
        sqlx::raw_sql(migration).execute(&mut connection).await.unwrap();
    }
    let gone = (0..60).map(|number| {
        let [_, basic] = devices();
        Device { id: format!("gone-{number}").parse().unwrap(), ..basic }
    });
    for row in devices().into_iter().chain(gone) {
        let server = row.server.unwrap();
        sqlx::query(
            "INSERT INTO device (id, version, manufacturer, model, vendor, class, url, object, user, \
             secret, failures, failing_since, enrolled, server_secret, server_nonce, auth, \
             server_password) VALUES (?, 1, '', '', ?, ?, '', '', ?, ?, 0, 0, 0, ?, ?, ?, ?)",
        )
        .bind(row.id.as_str())
        .bind(row.vendor.to_string())
        .bind(row.class.to_string())
        .bind(row.auth.user)
        .bind(row.auth.secret.opened().unwrap().octets().to_vec())
        .bind(server.secret.opened().unwrap().octets().to_vec())
        .bind(server.nonce.0)
        .bind(row.auth.kind.as_str())
        .bind(server.secret.opened().unwrap().password())
        .execute(&mut connection)
        .await
        .unwrap();
    }
    sqlx::raw_sql("DELETE FROM device WHERE id LIKE 'gone-%'")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::raw_sql("PRAGMA user_version = 9").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

// test: security 7.4 (stored secrets)
#[tokio::test]
async fn a_stolen_database_reveals_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    enrol(&store).await;
    nothing_is_in_the_clear(folder.path());
    holds_all(&store).await;
    store.close().await;
    nothing_is_in_the_clear(folder.path());
    holds_all(&open(folder.path()).await.unwrap()).await;
}

#[tokio::test]
async fn a_database_with_its_secrets_in_the_clear_is_sealed_and_cleaned_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    plain(folder.path()).await;
    let before = fs::read(folder.path().join("fleet.db")).unwrap();
    let password = PASSWORD.as_bytes();
    assert!(before.windows(password.len()).any(|window| window == password), "it was in the clear");
    let store = open(folder.path()).await.unwrap();
    nothing_is_in_the_clear(folder.path());
    holds_all(&store).await;
}

#[tokio::test]
async fn an_interrupted_cleaning_is_done_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    enrol(&store).await;
    let version = async |store: &SqliteStore| -> i64 {
        sqlx::query_scalar("PRAGMA user_version").fetch_one(store.pool.raw()).await.unwrap()
    };
    let latest = version(&store).await;
    sqlx::raw_sql(&format!("PRAGMA user_version = {}", latest - 1))
        .execute(store.pool.raw())
        .await
        .unwrap();
    store.close().await;
    let store = open(folder.path()).await.unwrap();
    assert_eq!(version(&store).await, latest);
    holds_all(&store).await;
}

#[tokio::test]
async fn a_database_that_was_cleaned_before_it_had_all_columns_is_migrated() {
    // Versions 10 and 11 had their cleaning before they had all columns.
    for version in [10, 11] {
        let folder = tempfile::tempdir().unwrap();
        plain(folder.path()).await;
        // Seals the secrets as the migration to version 10 does.
        let store = open(folder.path()).await.unwrap();
        sqlx::raw_sql(&format!("{BEFORE_14} ALTER TABLE device DROP COLUMN policy;"))
            .execute(store.pool.raw())
            .await
            .unwrap();
        sqlx::raw_sql(&format!("PRAGMA user_version = {version}"))
            .execute(store.pool.raw())
            .await
            .unwrap();
        store.close().await;
        holds_all(&open(folder.path()).await.unwrap()).await;
    }
}

#[tokio::test]
async fn the_sealed_secret_of_another_device_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    enrol(&store).await;
    sqlx::raw_sql(
        "UPDATE device SET secret = (SELECT secret FROM device WHERE id = 'b') WHERE id = 'a'",
    )
    .execute(store.pool.raw())
    .await
    .unwrap();
    let [a, b] = devices().map(|device| device.id);
    let refused = store.device_with_secrets(&a).await.unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { what: "secret", .. }), "{refused}");
    assert!(store.device(&a).await.is_ok(), "its secret is not needed for this");
    assert!(store.device_with_secrets(&b).await.is_ok());
}

#[tokio::test]
async fn another_key_file_is_rejected_by_its_name_and_a_missing_one_is_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    enrol(&store).await;
    store.close().await;
    let keys = folder.path().join("fleet.keys");
    fs::rename(&keys, folder.path().join("away")).unwrap();
    let refused = open(folder.path()).await.unwrap_err().to_string();
    assert!(refused.contains("fleet.keys: it is missing"), "{refused}");
    assert!(!keys.exists());
    KeyFile::from_path(&keys).load_or_create().unwrap();
    let refused = open(folder.path()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Sealed(_)), "{refused}");
    assert!(refused.to_string().contains("--secrets-key"), "{refused}");
}

#[tokio::test]
async fn a_secret_is_sealed_only_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    enrol(&store).await;
    let sealed = async || -> Vec<u8> {
        sqlx::query_scalar("SELECT secret FROM device WHERE id = 'a'")
            .fetch_one(store.pool.raw())
            .await
            .unwrap()
    };
    let [id, _] = devices().map(|device| device.id);
    let first = sealed().await;
    let mut device = store.device(&id).await.unwrap().unwrap();
    device.model = "another".to_owned();
    store.apply(Utc(2), audit(), vec![device.clone().into()]).await.unwrap();
    assert_eq!(sealed().await, first);
    device.version += 1;
    device.auth.secret = Secret::new("a", "another").into();
    store.apply(Utc(3), audit(), vec![device.into()]).await.unwrap();
    assert_ne!(sealed().await, first);
    let read = store.device_with_secrets(&id).await.unwrap().unwrap();
    assert_eq!(*read.auth.secret.opened().unwrap(), Secret::new("a", "another"));
    assert!(read.server.unwrap().secret.is_stored(), "the other one stays");
}

async fn rotate(store: &SqliteStore) -> RotationReport {
    let mut rotation = Rotation::begin(store, RotateTo::NewKey).await.unwrap();
    while rotation.step().await.unwrap() {}
    rotation.finish().await.unwrap()
}

// test: security 7.4 (re-sealing)
#[tokio::test]
async fn rotation_removes_the_old_key_and_a_running_server_finds_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path()).await.unwrap();
    enrol(&server).await;
    let before = server.keys.ring().last().unwrap();
    let operator = open(folder.path()).await.unwrap();
    let done = rotate(&operator).await;
    assert_eq!((done.sealed, &done.removed), (2, &vec![before]));
    assert_eq!(server.keys.ring().last(), Some(before), "it has not read the file again yet");
    holds_all(&server).await;
    assert_eq!(server.keys.ring().ids().collect::<Vec<_>>(), [done.key]);
    let text = fs::read_to_string(folder.path().join("fleet.keys")).unwrap();
    assert_eq!(text.lines().count(), 1);
}

#[tokio::test]
async fn a_server_that_has_read_the_old_key_alone_seals_with_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path()).await.unwrap();
    let operator = open(folder.path()).await.unwrap();
    let done = rotate(&operator).await;
    enrol(&server).await;
    let sealed: Vec<u8> = sqlx::query_scalar("SELECT secret FROM device WHERE id = 'a'")
        .fetch_one(server.pool.raw())
        .await
        .unwrap();
    assert_eq!(key_id(&sealed).unwrap(), done.key);
}

// test: security 7.4 (re-sealing)
#[tokio::test]
async fn an_interrupted_rotation_leaves_readable_secrets_and_is_resumed() {
    // After the key file, after the row of the key, after a batch, before the file is cleaned.
    for steps in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await.unwrap();
        enrol(&store).await;
        let old = store.keys.ring().last().unwrap();
        let key = match steps {
            0 => store.keys.add([9; 32]).unwrap(),
            _ => {
                let mut rotation = Rotation::begin(&store, RotateTo::NewKey).await.unwrap();
                if steps > 1 {
                    while rotation.step().await.unwrap() {}
                }
                rotation.new
            }
        };
        if steps == 3 {
            sqlx::query("DELETE FROM sealing_key WHERE id = ?")
                .bind(old.0.to_vec())
                .execute(store.pool.raw())
                .await
                .unwrap();
        }
        store.close().await;
        let store = open(folder.path()).await.unwrap();
        holds_all(&store).await;
        let done = rotate(&store).await;
        if steps < 3 {
            assert_eq!(done.key, key, "{steps}: no third key is made");
        }
        assert!(done.removed.contains(&old), "{steps}");
        holds_all(&store).await;
        store.close().await;
        holds_all(&open(folder.path()).await.unwrap()).await;
    }
}

// test: security 7.4 (re-sealing)
#[tokio::test]
async fn a_damaged_secret_stops_no_rotation_and_keeps_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    enrol(&store).await;
    let old = store.keys.ring().last().unwrap();
    let damage =
        "UPDATE device SET secret = CAST(substr(secret, 1, 30) || x'00' AS BLOB) WHERE id = 'a'";
    sqlx::raw_sql(damage).execute(store.pool.raw()).await.unwrap();
    let done = rotate(&store).await;
    assert_eq!((done.sealed, done.damaged), (1, vec!["a".to_owned()]));
    assert!(!done.removed.contains(&old), "the damaged one may still be mended");
    let [a, b] = devices().map(|device| device.id);
    assert!(store.device_with_secrets(&a).await.is_err());
    let sound = store.device_with_secrets(&b).await.unwrap().unwrap();
    assert_eq!(sound.auth.secret, devices()[1].auth.secret);
}
