//! Connections to the database: every statement of the store goes through one.
//!
//! After an error the effect of a statement is unknown: SQLite may have rolled a transaction back by
//! itself, or kept it. Such a connection is closed, and the next one is new. The same holds for a
//! statement that was not awaited to its end, and for a transaction that was not ended.

use std::ops::{Deref, DerefMut};

use sqlx::{
    Execute as _, Sqlite, SqliteConnection, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteQueryResult, SqliteRow},
};

#[cfg(test)]
use super::faults::{FaultKind, Faults, Side};
use super::table::SqliteQuery;

/// A pool of connections.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    connections: SqlitePool,
    #[cfg(test)]
    pub(super) faults: Faults,
}

/// Options of the connections of a database, and what makes them fail in a test.
#[derive(Debug, Clone)]
pub(super) struct PoolOptions {
    pub(super) connect: SqliteConnectOptions,
    #[cfg(test)]
    pub(super) faults: Faults,
}

impl Pool {
    /// Returns a pool of at most `count` connections, which are made when they are needed.
    pub(super) fn new(count: u32, options: &PoolOptions) -> Self {
        // A file needs no liveness test as a server does.
        let pool = SqlitePoolOptions::new().max_connections(count).test_before_acquire(false);
        Self {
            connections: pool.connect_lazy_with(options.connect.clone()),
            #[cfg(test)]
            faults: options.faults.clone(),
        }
    }

    /// Takes a connection out of the pool.
    pub(super) async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        #[cfg(test)]
        self.faults.connect()?;
        Ok(Connection {
            inner: Some(self.connections.acquire().await?),
            is_sound: true,
            #[cfg(test)]
            faults: self.faults.clone(),
            #[cfg(test)]
            fault: None,
        })
    }

    /// Begins a transaction, and takes the write lock first.
    pub(super) async fn begin(&self) -> Result<Writing, sqlx::Error> {
        let mut connection = self.acquire().await?;
        connection.execute(sqlx::query("BEGIN IMMEDIATE")).await?;
        Ok(Writing { connection, is_ended: false })
    }

    /// Runs statements without values.
    pub(super) async fn run(&self, text: &str) -> Result<(), sqlx::Error> {
        self.acquire().await?.run(text).await
    }

    /// Returns all rows of one query.
    pub(super) async fn fetch_all<'q>(
        &self,
        query: SqliteQuery<'q>,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        self.acquire().await?.fetch_all(query).await
    }

    /// Returns the first row of one query, if there is one.
    pub(super) async fn fetch_optional<'q>(
        &self,
        query: SqliteQuery<'q>,
    ) -> Result<Option<SqliteRow>, sqlx::Error> {
        self.acquire().await?.fetch_optional(query).await
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }

    /// Returns the connections without faults.
    #[cfg(test)]
    pub(super) const fn raw(&self) -> &SqlitePool {
        &self.connections
    }
}

/// A connection, which goes back to its pool unless an error has made it unsound.
#[derive(Debug)]
pub(super) struct Connection {
    /// Absent only while it is dropped.
    inner: Option<PoolConnection<Sqlite>>,
    is_sound: bool,
    #[cfg(test)]
    faults: Faults,
    /// The fault of the statement that runs, after its effect.
    #[cfg(test)]
    fault: Option<FaultKind>,
}

impl Connection {
    /// Runs a statement.
    pub(super) async fn execute<'q>(
        &mut self,
        query: SqliteQuery<'q>,
    ) -> Result<SqliteQueryResult, sqlx::Error> {
        self.before(query.sql()).await?;
        let done = query.execute(self.sqlite()).await;
        self.after(done).await
    }

    /// Runs statements without values.
    pub(super) async fn run(&mut self, text: &str) -> Result<(), sqlx::Error> {
        self.before(text).await?;
        let done = sqlx::raw_sql(text).execute(self.sqlite()).await;
        self.after(done).await?;
        Ok(())
    }

    /// Returns all rows of a query.
    pub(super) async fn fetch_all<'q>(
        &mut self,
        query: SqliteQuery<'q>,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        self.before(query.sql()).await?;
        let rows = query.fetch_all(self.sqlite()).await;
        self.after(rows).await
    }

    /// Returns the first row of a query, if there is one.
    pub(super) async fn fetch_optional<'q>(
        &mut self,
        query: SqliteQuery<'q>,
    ) -> Result<Option<SqliteRow>, sqlx::Error> {
        self.before(query.sql()).await?;
        let row = query.fetch_optional(self.sqlite()).await;
        self.after(row).await
    }

    /// Returns the only row of a query.
    pub(super) async fn fetch_one<'q>(
        &mut self,
        query: SqliteQuery<'q>,
    ) -> Result<SqliteRow, sqlx::Error> {
        self.fetch_optional(query).await?.ok_or(sqlx::Error::RowNotFound)
    }

    fn sqlite(&mut self) -> &mut SqliteConnection {
        self.inner.as_mut().expect("it is there until the connection is dropped")
    }

    /// Marks the connection as unsound for as long as the statement runs.
    #[cfg(not(test))]
    #[expect(clippy::unused_async, reason = "a test injects its faults here")]
    async fn before(&mut self, _text: &str) -> Result<(), sqlx::Error> {
        self.is_sound = false;
        Ok(())
    }

    #[cfg(test)]
    async fn before(&mut self, text: &str) -> Result<(), sqlx::Error> {
        self.is_sound = false;
        let faults = self.faults.clone();
        let (now, later) = match faults.next(text) {
            Some((kind, Side::Before)) => (Some(kind), None),
            Some((kind, Side::After)) => (None, Some(kind)),
            None => (None, None),
        };
        self.fault = later;
        match now {
            Some(kind) => Err(faults.inject(kind, self.sqlite()).await),
            None => faults.check(self.sqlite()).await,
        }
    }

    /// Marks the connection as sound again unless the effect of its statement is unknown.
    #[cfg_attr(not(test), expect(clippy::unused_async, reason = "a test injects its faults here"))]
    async fn after<T>(&mut self, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        #[cfg(test)]
        if let Some(kind) = self.fault.take() {
            let faults = self.faults.clone();
            return Err(faults.inject(kind, self.sqlite()).await);
        }
        self.is_sound = done.as_ref().map_or_else(is_without_effect, |_| true);
        done
    }
}

/// Returns whether a statement that failed has changed nothing, and left its transaction as it was.
fn is_without_effect(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_sound {
            return;
        }
        // What is detached is closed, and its place in the pool free.
        drop(self.inner.take().map(PoolConnection::detach));
    }
}

/// A transaction. One that is dropped before its end is rolled back with its connection.
#[derive(Debug)]
pub(super) struct Writing {
    connection: Connection,
    is_ended: bool,
}

impl Writing {
    /// Makes the changes durable.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.connection.execute(sqlx::query("COMMIT")).await?;
        self.is_ended = true;
        Ok(())
    }

    /// Undoes the changes.
    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.connection.execute(sqlx::query("ROLLBACK")).await?;
        self.is_ended = true;
        Ok(())
    }
}

impl Deref for Writing {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.connection.is_sound &= self.is_ended;
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Files of the store that are tests, and the one that wraps the connections.
    const OTHERS: [&str; 3] = ["connection.rs", "tests.rs", "life.rs"];

    /// Names of what runs statements beside a [`Connection`](super::Connection).
    const DIRECT: [&str; 4] = ["SqlitePool", "SqliteConnection", "PoolConnection", "Transaction"];

    fn check(folder: &Path, checked: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                check(&path, checked);
            } else if name.ends_with(".rs") && name != "faults.rs" && !OTHERS.contains(&&*name) {
                let text = fs::read_to_string(&path).unwrap();
                for direct in DIRECT {
                    assert!(!text.contains(direct), "{}: {direct}", path.display());
                }
                checked.push(name);
            }
        }
    }

    #[test]
    fn no_other_file_of_the_store_has_a_connection_of_its_own() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/shell/store");
        let mut checked = Vec::new();
        check(&folder, &mut checked);
        assert!(checked.len() > 12, "{checked:?}");
    }
}
