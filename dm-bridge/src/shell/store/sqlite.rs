//! The fleet in one SQLite file.
//!
//! With write-ahead logging the command line works beside a running server. Every write transaction
//! takes the write lock first, so that no other change comes between reading and writing.
//! `PRAGMA user_version` is the schema version; `schema` leads from each to the next.

mod challenge_keys;
mod columns;
mod connection;
#[cfg(test)]
pub(in crate::shell) mod faults;
mod reader;
pub mod rotation;
mod rows;
mod schema;
mod sealing;
mod table;
mod writer;

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use proto::{
    ids::{CampaignId, Correlator, DeviceId},
    time::Utc,
};
use sqlx::{
    ConnectOptions as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};

use self::{
    challenge_keys::KeyOfDay,
    columns::{parsed, unavailable},
    connection::{Pool, PoolOptions},
    reader::Reader,
    rows::{
        attempt::read_attempt,
        audit::read_line,
        campaign::{read_campaign, read_damaged_campaign},
        device::{json, read_device},
    },
    sealing::Secrets,
    table::BATCH,
    writer::Writer,
};
use super::key_file::KeyFile;
use crate::{
    campaign::model::{Campaign, DeliveryMethod},
    fleet::{
        address::ProvedFrom,
        attempt::ArmingAttempt,
        audit::{Audit, AuditLine},
        challenge::ChallengeKey,
        device::Device,
        package_secret::PackageSecret,
        store::{
            CampaignDevice, Change, DamagedCampaign, FleetStore, Listed, PhaseCounts, StoreError,
        },
    },
};

/// The key file, beside the database unless it is named.
pub const KEYS: &str = "fleet.keys";

/// The folder of the packages, beside the database.
pub const PACKAGES: &str = "packages";

/// Wait of a writer for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections of one process, beside those of the readers and the writer.
const MAX_CONNECTIONS: u32 = 4;

/// The fleet in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pool: Pool,
    reader: Reader,
    writer: Writer,
    challenge_keys: KeyOfDay,
    packages: PathBuf,
    keys: KeyFile,
}

impl SqliteStore {
    /// Opens the file, creates it when it is missing, and migrates its schema; its secrets are
    /// sealed with a key of `keys`.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooNew`] for a file of a later version, [`StoreError::Sealed`] when `keys`
    /// lacks one of its keys, [`StoreError::Unavailable`] when it cannot be opened or is no
    /// database.
    pub async fn open(path: &Path, keys: KeyFile) -> Result<Self, StoreError> {
        let options = PoolOptions {
            connect: connect_options(path)?,
            #[cfg(test)]
            faults: faults::Faults::default(),
        };
        Self::open_with(path, &options, keys).await
    }

    /// Opens a database whose statements fail as `faults` says.
    #[cfg(test)]
    pub(in crate::shell) async fn open_with_faults(
        path: &Path,
        keys: KeyFile,
        faults: &faults::Faults,
    ) -> Result<Self, StoreError> {
        // Nothing here is about power cuts, and there are many transactions.
        let connect = connect_options(path)?.synchronous(SqliteSynchronous::Off);
        let options = PoolOptions { connect, faults: faults.clone() };
        Self::open_with(path, &options, keys).await
    }

    async fn open_with(
        path: &Path,
        options: &PoolOptions,
        keys: KeyFile,
    ) -> Result<Self, StoreError> {
        let pool = Pool::new(MAX_CONNECTIONS, options);
        schema::migrate(&pool, &keys).await?;
        let packages = path.parent().unwrap_or(Path::new(".")).join(PACKAGES);
        // A connection rereads the pages that another one wrote: one connection writes.
        let lone = || Pool::new(1, options);
        let reader = Reader::start([lone(), lone()], keys.clone());
        let writer = Writer::start(lone(), keys.clone());
        let challenge_keys = KeyOfDay::new(pool.clone());
        Ok(Self { pool, reader, writer, challenge_keys, packages, keys })
    }

    /// Limits the pages that the writer may use; the file stays as large as it is, and no page of it
    /// is free.
    #[cfg(test)]
    pub(in crate::shell) async fn limit_pages(&self, pages: u32) {
        let fill = "PRAGMA max_page_count = 1000000; INSERT INTO probe (filler) \
                    SELECT zeroblob(4096 * (freelist_count + 1)) FROM pragma_freelist_count";
        self.writer.run(&format!("{fill}; PRAGMA max_page_count = {pages}")).await;
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
        self.pool.close().await;
    }
}

fn connect_options(path: &Path) -> Result<SqliteConnectOptions, StoreError> {
    Ok(SqliteConnectOptions::from_str("sqlite://")
        .map_err(unavailable("be named"))?
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        // Rows of a batch are buffered.
        .row_buffer_size(2 * BATCH)
        // The cache holds a fleet of some ten thousand devices, and checkpoints are rare: a
        // power cut loses nothing by either.
        .pragma("cache_size", "-65536")
        .pragma("wal_autocheckpoint", "8192")
        .disable_statement_logging())
}

/// After none all; after one that does not exist none.
const SELECT_CAMPAIGNS: &str = "SELECT * FROM campaign WHERE ?1 IS NULL \
    OR number > (SELECT number FROM campaign WHERE id = ?1) ORDER BY number LIMIT ?2";

const SELECT_CAMPAIGN_DEVICES: &str = "SELECT a.*, device.firmware_version AS runs, \
    device.last_seen AS seen FROM arming AS a LEFT JOIN device ON device.id = a.device \
    WHERE campaign = ? AND device > ? AND attempt = \
    (SELECT MAX(attempt) FROM arming AS b WHERE b.campaign = a.campaign AND b.device = a.device) \
    ORDER BY device LIMIT ?";

/// Marks a row that is damaged.
fn listed<T>(
    row: &SqliteRow,
    key: &'static str,
    read: Result<T, StoreError>,
) -> Result<Listed<T>, StoreError> {
    Ok(Listed { key: columns::get(row, key)?, row: read.map_err(|error| error.to_string()) })
}

fn read_campaign_device(row: &SqliteRow) -> Result<CampaignDevice, StoreError> {
    Ok(CampaignDevice {
        attempt: read_attempt(row)?,
        firmware_version: columns::get(row, "runs")?,
        last_seen: columns::optional(row, "seen")?.map(Utc),
    })
}

const SELECT_PHASE_COUNTS: &str =
    "SELECT phase, devices FROM phase_count WHERE campaign = ? AND devices > 0";

#[async_trait]
impl FleetStore for SqliteStore {
    async fn apply(&self, at: Utc, audit: Audit, changes: Vec<Change>) -> Result<(), StoreError> {
        self.writer.apply(at, audit, changes).await
    }

    async fn device(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        let query = sqlx::query("SELECT * FROM device WHERE id = ?").bind(id.as_str());
        let row = self.pool.fetch_optional(query).await.map_err(unavailable("read a device"))?;
        row.map(|row| read_device(&row, Secrets::Sealed)).transpose()
    }

    async fn device_with_secrets(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        self.reader.device(id).await
    }

    async fn device_of_user(&self, user: &str) -> Result<Option<DeviceId>, StoreError> {
        let query = sqlx::query("SELECT id FROM device WHERE auth = 'hmac' AND user = ?");
        let row = self.pool.fetch_optional(query.bind(user)).await;
        let row = row.map_err(unavailable("read a device"))?;
        row.map(|row| parsed(&row, "id")).transpose()
    }

    async fn device_page(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<Device>>, StoreError> {
        let query = sqlx::query("SELECT * FROM device WHERE id > ? ORDER BY id LIMIT ?");
        let rows = self
            .pool
            .fetch_all(query.bind(after.unwrap_or_default()).bind(limit))
            .await
            .map_err(unavailable("read the devices"))?;
        rows.iter().map(|row| listed(row, "id", read_device(row, Secrets::Sealed))).collect()
    }

    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, StoreError> {
        let row = self
            .pool
            .fetch_optional(sqlx::query("SELECT * FROM campaign WHERE id = ?").bind(id.to_string()))
            .await
            .map_err(unavailable("read a campaign"))?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(read_campaign(&self.pool, &row).await?))
    }

    async fn campaign_page(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<Campaign>>, StoreError> {
        let query = sqlx::query(SELECT_CAMPAIGNS).bind(after).bind(limit);
        let rows = self.pool.fetch_all(query).await.map_err(unavailable("read the campaigns"))?;
        let mut campaigns = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = match read_campaign(&self.pool, row).await {
                // The database fails, and not the row.
                Err(error @ StoreError::Unavailable { .. }) => return Err(error),
                read => read,
            };
            campaigns.push(listed(row, "id", read)?);
        }
        Ok(campaigns)
    }

    async fn damaged_campaigns(&self) -> Result<Vec<DamagedCampaign>, StoreError> {
        let query = sqlx::query(SELECT_CAMPAIGNS).bind(None::<String>).bind(-1_i64);
        let rows = self.pool.fetch_all(query).await.map_err(unavailable("read the campaigns"))?;
        let mut damaged = Vec::new();
        for row in &rows {
            match read_campaign(&self.pool, row).await {
                Ok(_) => {}
                Err(error @ StoreError::Unavailable { .. }) => return Err(error),
                Err(error) => damaged.push(read_damaged_campaign(row, &error)),
            }
        }
        Ok(damaged)
    }

    async fn campaign_versions(&self) -> Result<Vec<(CampaignId, u64)>, StoreError> {
        let query = sqlx::query("SELECT id, version FROM campaign ORDER BY number");
        let rows = self.pool.fetch_all(query).await.map_err(unavailable("read the campaigns"))?;
        // A damaged one is marked where campaigns are listed.
        let version = |row| {
            let id = columns::parsed(row, "id").ok()?;
            Some((id, columns::unsigned(row, "version").unwrap_or(0)))
        };
        Ok(rows.iter().filter_map(version).collect())
    }

    async fn last_campaign(&self) -> Result<Option<String>, StoreError> {
        let query = sqlx::query("SELECT id FROM campaign ORDER BY number DESC LIMIT 1");
        let row =
            self.pool.fetch_optional(query).await.map_err(unavailable("read the campaigns"))?;
        row.map(|row| columns::get(&row, "id")).transpose()
    }

    async fn campaign_devices(
        &self,
        id: CampaignId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<CampaignDevice>>, StoreError> {
        let query = sqlx::query(SELECT_CAMPAIGN_DEVICES).bind(id.to_string());
        let rows = self
            .pool
            .fetch_all(query.bind(after.unwrap_or_default()).bind(limit))
            .await
            .map_err(unavailable("read the devices of a campaign"))?;
        rows.iter().map(|row| listed(row, "device", read_campaign_device(row))).collect()
    }

    async fn device_attempts(&self, id: &DeviceId) -> Result<Vec<ArmingAttempt>, StoreError> {
        self.reader.attempts(id).await
    }

    async fn proved_from(&self, id: &DeviceId) -> Result<ProvedFrom, StoreError> {
        let row = self
            .pool
            .fetch_optional(
                sqlx::query("SELECT proved_from FROM device WHERE id = ?").bind(id.as_str()),
            )
            .await
            .map_err(unavailable("read the addresses of a device"))?;
        row.map_or(Ok(ProvedFrom::default()), |row| json(&row, "proved_from"))
    }

    async fn challenge_key(&self, day: u64) -> Result<ChallengeKey, StoreError> {
        self.challenge_keys.of(day).await
    }

    async fn package(&self, id: CampaignId) -> Result<Option<Arc<[u8]>>, StoreError> {
        let path = self.packages.join(format!("{id}.bundle"));
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        match read.map_err(unavailable("read a package"))? {
            Ok(octets) => Ok(Some(octets.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable("read a package")(error)),
        }
    }

    async fn attempt(&self, correlator: &Correlator) -> Result<Option<ArmingAttempt>, StoreError> {
        let row = self
            .pool
            .fetch_optional(
                sqlx::query("SELECT * FROM arming WHERE correlator = ?").bind(&correlator.0),
            )
            .await
            .map_err(unavailable("read an attempt"))?;
        row.map(|row| read_attempt(&row)).transpose()
    }

    async fn attempt_of_package(
        &self,
        secret: &PackageSecret,
    ) -> Result<Option<ArmingAttempt>, StoreError> {
        let query = sqlx::query("SELECT * FROM arming WHERE package_secret = ?");
        let row = self
            .pool
            .fetch_optional(query.bind(secret.as_url_part()))
            .await
            .map_err(unavailable("read an attempt"))?;
        row.map(|row| read_attempt(&row)).transpose()
    }

    async fn downloads_without_secret(&self) -> Result<BTreeSet<CampaignId>, StoreError> {
        let query = sqlx::query(
            "SELECT * FROM arming WHERE package_secret IS NULL AND delivery_method = ?
             AND result_code IS NULL AND armed_revision > 0",
        );
        let rows = self
            .pool
            .fetch_all(query.bind(DeliveryMethod::Download.as_str()))
            .await
            .map_err(unavailable("read attempts"))?;
        let attempts = rows.iter().filter_map(|row| read_attempt(row).ok());
        let open = attempts.filter(|attempt| attempt.phase.is_open());
        Ok(open.map(|attempt| attempt.campaign).collect())
    }

    async fn phase_counts(&self, id: CampaignId) -> Result<PhaseCounts, StoreError> {
        let rows = self
            .pool
            .fetch_all(sqlx::query(SELECT_PHASE_COUNTS).bind(id.to_string()))
            .await
            .map_err(unavailable("read the counts of a campaign"))?;
        let entry = |row| Ok((columns::parsed(row, "phase")?, columns::unsigned(row, "devices")?));
        let sound = |entry: Result<_, StoreError>| match entry {
            Ok(entry) => Some(entry),
            Err(error) => {
                tracing::debug!(%error, campaign = %id, "damaged count left out");
                None
            }
        };
        Ok(rows.iter().map(entry).filter_map(sound).collect())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.writer.probe().await
    }

    async fn audit_page(
        &self,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Listed<AuditLine>>, StoreError> {
        let query = sqlx::query(
            "SELECT *, CAST(number AS TEXT) AS key FROM audit WHERE number > ? ORDER BY number LIMIT ?",
        );
        let rows = self
            .pool
            .fetch_all(query.bind(columns::int(after)).bind(limit))
            .await
            .map_err(unavailable("read its log"))?;
        rows.iter().map(|row| listed(row, "key", read_line(row))).collect()
    }

    async fn audit_tail(&self, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        let rows = self
            .pool
            .fetch_all(sqlx::query("SELECT * FROM audit ORDER BY number DESC LIMIT ?").bind(limit))
            .await
            .map_err(unavailable("read its log"))?;
        rows.iter().rev().map(read_line).collect()
    }

    async fn audit_of(&self, subject: &str, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        let query =
            sqlx::query("SELECT * FROM audit WHERE subject = ? ORDER BY number DESC LIMIT ?");
        let rows = self
            .pool
            .fetch_all(query.bind(subject).bind(limit))
            .await
            .map_err(unavailable("read its log"))?;
        rows.iter().rev().map(read_line).collect()
    }
}

#[cfg(test)]
mod damage_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{attempt::ArmingPhase, store_tests};

    pub(super) async fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(path, KeyFile::from_path(&path.with_file_name(KEYS))).await
    }

    #[tokio::test]
    async fn the_sqlite_store_passes_the_store_tests() {
        let folder = tempfile::tempdir().unwrap();
        let count = std::cell::Cell::new(0);
        store_tests::run(|| {
            count.set(count.get() + 1);
            let path = folder.path().join(format!("{}.db", count.get()));
            async move { open(&path).await.unwrap() }
        })
        .await;
    }

    #[tokio::test]
    async fn rows_are_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.db");
        let audit = Audit {
            actor: crate::fleet::audit::Actor::Operator,
            action: "test.change",
            subject: String::new(),
            detail: String::new(),
        };
        let store = open(&path).await.unwrap();
        store.apply(Utc(1), audit, vec![store_tests::device("a").into()]).await.unwrap();
        store.close().await;
        let store = open(&path).await.unwrap();
        assert_eq!(store.devices().await.unwrap().len(), 1);
        assert_eq!(store.audit_tail(9).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_file_of_a_later_version_is_rejected_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.db");
        let store = open(&path).await.unwrap();
        store.pool.run("PRAGMA user_version = 99").await.unwrap();
        store.close().await;
        let refused = open(&path).await.unwrap_err();
        assert!(matches!(refused, StoreError::TooNew { found: 99, .. }), "{refused}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.db");
        std::fs::write(&path, [b'x'; 5_000]).unwrap();
        assert!(open(&path).await.is_err());
    }

    #[tokio::test]
    async fn a_conflict_does_not_affect_the_other_changes_of_its_batch() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("fleet.db")).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..40 {
            let store = store.clone();
            tasks.spawn(async move {
                let audit = Audit {
                    actor: crate::fleet::audit::Actor::Operator,
                    action: "test.change",
                    subject: String::new(),
                    detail: String::new(),
                };
                // Each second one writes a row that exists, and one that must be rolled back.
                let name = if number % 2 == 0 { format!("device-{number}") } else { "same".into() };
                let beside = store_tests::device(&format!("beside-{number}"));
                let rows = vec![beside.into(), store_tests::device(&name).into()];
                store.apply(Utc(1), audit, rows).await.is_ok()
            });
        }
        let made = tasks.join_all().await.into_iter().filter(|made| *made).count();
        assert_eq!(made, 21, "all even ones, and one of the odd ones");
        assert_eq!(store.devices().await.unwrap().len(), 42);
        assert_eq!(store.audit_tail(100).await.unwrap().len(), 21);
    }

    #[tokio::test]
    async fn a_full_database_refuses_what_does_not_fit_and_is_written_again_once_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("fleet.db")).await.unwrap();
        let apply = async |name: &str, changes: Vec<Change>| {
            let audit = Audit {
                actor: crate::fleet::audit::Actor::Operator,
                action: "test.change",
                subject: String::new(),
                detail: name.repeat(2_000),
            };
            store.apply(Utc(1), audit, changes).await
        };
        apply("a", vec![store_tests::device("a").into()]).await.unwrap();
        store.limit_pages(1).await;
        for name in ["b", "c"] {
            let refused = apply(name, vec![store_tests::device(name).into()]).await;
            assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
            store.limit_pages(1).await;
            assert!(store.probe().await.is_err());
            store.limit_pages(1).await;
        }
        store.limit_pages(1_000_000).await;
        store.probe().await.unwrap();
        apply("d", vec![store_tests::device("d").into()]).await.unwrap();
        let devices = store.devices().await.unwrap();
        let names: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
        assert_eq!(names, ["a", "d"]);
        let log = store.audit_tail(9).await.unwrap();
        assert_eq!(log.len(), 2);
        assert!(log[1].follows(&log[0].seal));
    }

    /// On some errors SQLite rolls a whole transaction back by itself, and `sqlx` counts it on.
    #[tokio::test]
    async fn a_transaction_that_the_database_has_rolled_back_itself_ends_no_writing() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("fleet.db")).await.unwrap();
        let apply = async |names: &[&str]| {
            let audit = Audit {
                actor: crate::fleet::audit::Actor::Operator,
                action: "test.change",
                subject: String::new(),
                detail: String::new(),
            };
            let changes = names.iter().map(|name| store_tests::device(name).into()).collect();
            store.apply(Utc(1), audit, changes).await
        };
        let trigger = "CREATE TRIGGER rolls_back BEFORE INSERT ON device WHEN NEW.id = 'b' \
            BEGIN SELECT RAISE(ROLLBACK, 'as if the disk were full'); END";
        store.pool.run(trigger).await.unwrap();
        assert!(apply(&["a", "b", "c"]).await.is_err());
        store.pool.run("DROP TRIGGER rolls_back").await.unwrap();
        apply(&["d"]).await.unwrap();
        apply(&["b"]).await.unwrap();
        let devices = store.devices().await.unwrap();
        let names: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
        assert_eq!(names, ["b", "d"], "nothing of the failed change is there");
    }

    #[tokio::test]
    async fn of_devices_that_change_together_only_the_stale_one_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("fleet.db")).await.unwrap();
        let apply = async |store: SqliteStore, row: Device| {
            let audit = Audit {
                actor: crate::fleet::audit::Actor::Operator,
                action: "test.change",
                subject: String::new(),
                detail: row.model.clone(),
            };
            store.apply(Utc(1), audit, vec![row.into()]).await.is_ok()
        };
        for name in ["a", "b", "c"] {
            assert!(apply(store.clone(), store_tests::device(name)).await);
        }
        let change = |name: &str, version, model: &str| {
            let row = store_tests::device(name);
            Device { version, model: model.to_owned(), ..row }
        };
        let rows = [
            change("a", 1, "a1"),
            change("b", 7, "b1"),
            change("c", 1, "c1"),
            change("c", 1, "c2"),
        ];
        let mut tasks = tokio::task::JoinSet::new();
        rows.into_iter().for_each(|row| drop(tasks.spawn(apply(store.clone(), row))));
        let made = tasks.join_all().await.into_iter().filter(|made| *made).count();
        assert_eq!(made, 2, "a, and one of the two changes of c");
        let models: Vec<_> =
            store.devices().await.unwrap().into_iter().map(|it| it.model).collect();
        assert_eq!(models[..2], ["a1".to_owned(), store_tests::device("b").model]);
        let log = store.audit_tail(9).await.unwrap();
        assert!(log.iter().any(|line| line.detail == models[2]), "the log names what was made");
        assert_eq!(log.len(), 5);
        for name in ["a", "b", "c", "d"] {
            let id: DeviceId = name.parse().unwrap();
            let listed = store.devices().await.unwrap().into_iter().find(|row| row.id == id);
            assert_eq!(store.device(&id).await.unwrap(), listed, "{name}");
        }
    }

    /// Counts the latest attempts of a campaign by phase, as they stand in the rows.
    async fn counted(store: &SqliteStore, id: CampaignId) -> PhaseCounts {
        let mut counts = PhaseCounts::new();
        for row in store.campaign_attempts(id).await.unwrap() {
            *counts.entry(row.phase).or_default() += 1;
        }
        counts
    }

    #[tokio::test]
    async fn the_counts_that_are_kept_are_those_of_the_rows_after_any_walk() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("fleet.db")).await.unwrap();
        let campaigns = [CampaignId([1; 16]), CampaignId([2; 16])];
        // An xorshift generator with a fixed seed.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % limit as u64).unwrap()
        };
        for step in 0..300 {
            let mut changes = Vec::new();
            let campaign = campaigns[draw(2)];
            let device: DeviceId = format!("device-{}", draw(6)).parse().unwrap();
            let rows = store.device_attempts(&device).await.unwrap();
            let mut rows: Vec<_> =
                rows.into_iter().filter(|row| row.campaign == campaign).collect();
            let phase = ArmingPhase::ALL[draw(ArmingPhase::ALL.len())];
            match draw(3) {
                // Any attempt changes, the latest or one before.
                0 | 1 if !rows.is_empty() => {
                    let row = rows.swap_remove(draw(rows.len()));
                    changes.push(ArmingAttempt { phase, ..row }.into());
                }
                _ => {
                    let number = u32::try_from(rows.len()).unwrap() + 1;
                    let correlator = format!("c-{step}");
                    let correlator = Correlator(correlator);
                    let row = ArmingAttempt::pending(device, campaign, number, correlator, Utc(1));
                    changes.push(ArmingAttempt { phase, ..row }.into());
                }
            }
            // Every fifth change is rolled back.
            let fails = draw(5) == 0;
            if fails {
                changes.push(Device { version: 7, ..store_tests::device("none") }.into());
            }
            let audit = Audit {
                actor: crate::fleet::audit::Actor::Operator,
                action: "test.change",
                subject: String::new(),
                detail: String::new(),
            };
            assert_eq!(store.apply(Utc(1), audit, changes).await.is_err(), fails);
            for id in campaigns {
                let kept = store.phase_counts(id).await.unwrap();
                assert_eq!(kept, counted(&store, id).await, "step {step}");
            }
        }
        assert!(counted(&store, campaigns[0]).await.len() > 2);
    }

    #[tokio::test]
    async fn two_writers_at_once_both_succeed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.db");
        let stores = [open(&path).await.unwrap(), open(&path).await.unwrap()];
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20 {
            let store = stores[number % 2].clone();
            tasks.spawn(async move {
                let audit = Audit {
                    actor: crate::fleet::audit::Actor::Operator,
                    action: "test.change",
                    subject: String::new(),
                    detail: String::new(),
                };
                let row = store_tests::device(&format!("device-{number}"));
                store.apply(Utc(1), audit, vec![row.into()]).await.unwrap();
            });
        }
        tasks.join_all().await;
        assert_eq!(stores[0].audit_tail(100).await.unwrap().len(), 20);
    }

    #[tokio::test]
    async fn a_log_that_two_processes_append_to_stays_one_chain() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.db");
        let stores = [open(&path).await.unwrap(), open(&path).await.unwrap()];
        // Each writer appends after its own line, and then after one of the other.
        for number in [0, 0, 1, 1, 0, 1] {
            let audit = Audit {
                actor: crate::fleet::audit::Actor::Operator,
                action: "test.change",
                subject: String::new(),
                detail: String::new(),
            };
            stores[number].apply(Utc(1), audit, Vec::new()).await.unwrap();
        }
        let log = stores[0].audit_tail(100).await.unwrap();
        assert_eq!(log.len(), 6);
        let chained = log.windows(2).all(|pair| pair[1].follows(&pair[0].seal));
        assert!(chained && log[0].follows(&proto::crypto::Digest([0; 32])), "{log:?}");
    }
}
