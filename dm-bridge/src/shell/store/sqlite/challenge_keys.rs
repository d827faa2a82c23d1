//! The challenge keys: one for each day, made by the first who needs it.
//!
//! A key makes nonces unpredictable and is no secret of a device: it lies in the clear, as the stored
//! nonces do. It is written once a day whatever peers do, and read once a day by each process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proto::crypto::random;

use super::{
    columns::{array, int, unavailable},
    connection::Pool,
};
use crate::fleet::{challenge::ChallengeKey, store::StoreError};

/// Keys in memory, at most.
const CACHED: usize = 4;

/// Keys that are stored: those of the latest days. One that a clock in the future asks for removes no
/// key that other servers use.
const KEYS_STORED: u32 = 8;

/// The challenge keys of a database.
#[derive(Debug, Clone)]
pub(super) struct KeyOfDay {
    pool: Pool,
    cache: Arc<Mutex<BTreeMap<u64, ChallengeKey>>>,
}

impl KeyOfDay {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, cache: Arc::default() }
    }

    /// Returns the key of a day; makes it when there is none.
    pub(super) async fn of(&self, day: u64) -> Result<ChallengeKey, StoreError> {
        let cached = self.cache().get(&day).cloned();
        if let Some(key) = cached {
            return Ok(key);
        }
        let key = match self.read(day).await? {
            Some(key) => key,
            None => self.make(day).await?,
        };
        let mut cache = self.cache();
        if cache.len() >= CACHED {
            cache.clear();
        }
        cache.insert(day, key.clone());
        Ok(key)
    }

    fn cache(&self) -> MutexGuard<'_, BTreeMap<u64, ChallengeKey>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, day: u64) -> Result<Option<ChallengeKey>, StoreError> {
        let row = self
            .pool
            .fetch_optional(
                sqlx::query("SELECT key FROM challenge_key WHERE day = ?").bind(int(day)),
            )
            .await
            .map_err(unavailable("read a challenge key"))?;
        row.map(|row| array(&row, "key").map(ChallengeKey::new)).transpose()
    }

    /// Makes the key of a day, unless another process was faster, and removes those of long ago.
    async fn make(&self, day: u64) -> Result<ChallengeKey, StoreError> {
        let failed = || unavailable("store a challenge key");
        let mut writing = self.pool.begin().await.map_err(failed())?;
        writing
            .execute(
                sqlx::query("INSERT OR IGNORE INTO challenge_key (day, key) VALUES (?, ?)")
                    .bind(int(day))
                    .bind(random::<{ ChallengeKey::LEN }>().to_vec()),
            )
            .await
            .map_err(failed())?;
        writing
            .execute(
                sqlx::query(
                    "DELETE FROM challenge_key WHERE day <> ? AND day NOT IN
                     (SELECT day FROM challenge_key ORDER BY day DESC LIMIT ?)",
                )
                .bind(int(day))
                .bind(KEYS_STORED),
            )
            .await
            .map_err(failed())?;
        writing.commit().await.map_err(failed())?;
        let found = || StoreError::Damaged { what: "challenge_key", found: "no key".to_owned() };
        self.read(day).await?.ok_or_else(found)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::SqliteStore;
    use crate::{fleet::store::FleetStore as _, shell::store::key_file::KeyFile};

    async fn open(folder: &Path) -> SqliteStore {
        let keys = KeyFile::from_path(&folder.join("fleet.keys"));
        SqliteStore::open(&folder.join("fleet.db"), keys).await.unwrap()
    }

    // test: security 7.2 (challenges without stored state)
    #[tokio::test]
    async fn all_that_share_a_database_have_one_key_for_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let stores = [open(folder.path()).await, open(folder.path()).await];
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20 {
            let store = stores[number % 2].clone();
            tasks.spawn(async move { store.challenge_key(20_000).await.unwrap() });
        }
        let keys = tasks.join_all().await;
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_ne!(keys[0].octets(), [0; 32]);
        let later = open(folder.path()).await;
        assert_eq!(later.challenge_key(20_000).await.unwrap(), keys[0]);
    }

    // test: security 7.2 (second bridge with another clock)
    #[tokio::test]
    async fn a_clock_in_the_future_takes_no_key_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let today = open(folder.path()).await.challenge_key(20_000).await.unwrap();
        open(folder.path()).await.challenge_key(20_003).await.unwrap();
        assert_eq!(open(folder.path()).await.challenge_key(20_000).await.unwrap(), today);
    }

    #[tokio::test]
    async fn keys_of_long_ago_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        for day in 20_000..20_010 {
            store.challenge_key(day).await.unwrap();
        }
        let days: Vec<i64> = store
            .pool
            .fetch_all(sqlx::query("SELECT day FROM challenge_key ORDER BY day"))
            .await
            .unwrap()
            .iter()
            .map(|row| super::super::columns::get(row, "day").unwrap())
            .collect();
        assert_eq!(days, (20_002..20_010).collect::<Vec<_>>());
        assert!(store.challenge_keys.cache().len() <= super::CACHED);
        // The clock of another server is far behind: it gets a key, and the others keep theirs.
        let behind = store.challenge_key(1).await.unwrap();
        assert_eq!(store.challenge_key(1).await.unwrap(), behind);
        assert_eq!(open(folder.path()).await.challenge_key(1).await.unwrap(), behind);
    }
}
