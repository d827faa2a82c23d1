//! The schema: one migration from each version to the next.

use super::{
    columns::{get, unavailable},
    connection::Pool,
    sealing,
};
use crate::{fleet::store::StoreError, shell::store::key_file::KeyFile};

/// Each entry leads from the schema version of its index to the next.
pub(super) const MIGRATIONS: [&str; 23] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
    include_str!("schema_8.sql"),
    include_str!("schema_9.sql"),
    include_str!("schema_10.sql"),
    // Nothing but what `sealing::scrub` does.
    "",
    include_str!("schema_12.sql"),
    // Nothing but what `sealing::scrub` does.
    "",
    include_str!("schema_14.sql"),
    // Nothing but what `sealing::scrub` does.
    "",
    include_str!("schema_16.sql"),
    // Nothing but what `sealing::scrub` does.
    "",
    include_str!("schema_18.sql"),
    // Nothing but what `sealing::scrub` does.
    "",
    include_str!("schema_20.sql"),
    // Nothing but what `sealing::scrub` does.
    "",
    include_str!("schema_22.sql"),
    // Nothing but what `sealing::scrub` does, which is done last.
    "",
];

/// The schema version from which secrets are sealed.
const SEALED: usize = 10;

/// The schema version that lacks only `sealing::scrub`, which may have to wait until no other
/// process uses the database.
const UNCLEANED: usize = MIGRATIONS.len() - 1;

/// Brings the schema of a database up to date.
pub(super) async fn migrate(pool: &Pool, keys: &KeyFile) -> Result<(), StoreError> {
    let mut writing = pool.begin().await.map_err(unavailable("be written"))?;
    let version = writing
        .fetch_one(sqlx::query("PRAGMA user_version"))
        .await
        .map_err(unavailable("read its version"))?;
    let found: i64 = get(&version, "user_version")?;
    let known = i64::try_from(MIGRATIONS.len()).expect("there are few migrations");
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    if done >= SEALED {
        sealing::check(&mut writing, keys).await?;
    }
    if done == MIGRATIONS.len() {
        return writing.rollback().await.map_err(unavailable("be opened"));
    }
    for (version, migration) in (1..=UNCLEANED).zip(MIGRATIONS).skip(done) {
        writing.run(migration).await.map_err(unavailable("be migrated"))?;
        if version == SEALED {
            sealing::seal_all(&mut writing, keys).await?;
        }
    }
    writing
        .run(&format!("PRAGMA user_version = {UNCLEANED}"))
        .await
        .map_err(unavailable("be migrated"))?;
    writing.commit().await.map_err(unavailable("be migrated"))?;
    if !sealing::scrub(pool).await? {
        tracing::warn!(
            "another process uses the database: secrets in the clear are removed at the next start"
        );
        return Ok(());
    }
    pool.run(&format!("PRAGMA user_version = {}", MIGRATIONS.len()))
        .await
        .map_err(unavailable("be cleaned"))?;
    Ok(())
}

#[cfg(test)]
mod tests;
