//! One writer for all: changes that wait together are made in one transaction.
//!
//! A flush of the disk costs more than all else that a change does. Whoever asks is answered after
//! the commit that holds its change, so nothing is told before it is durable. Each change stands or
//! falls by itself: one that conflicts is undone and leaves the others of its batch alone.

use std::collections::BTreeMap;

use proto::{crypto::Digest, time::Utc};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::{
    columns::{self, unavailable},
    rows::{self, BATCH},
    sealing::{self, Sealer},
};
use crate::{
    fleet::{
        audit::{Audit, AuditLine},
        device::Device,
        store::{Change, StoreError},
    },
    shell::store::key_file::KeyFile,
};

/// Changes that may wait.
const QUEUE: usize = 1_024;

/// Where changes are handed in.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pool: SqlitePool,
    jobs: mpsc::Sender<Job>,
}

/// One change of a few rows, with its line in the log.
#[derive(Debug)]
struct Job {
    at: Utc,
    audit: Audit,
    changes: Vec<Change>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// Number and seal of the last line of the log, if there is one.
type Last = Option<(u64, Digest)>;

impl Writer {
    /// Starts the writer; it ends with the last handle to it.
    pub(super) fn start(pool: SqlitePool, keys: KeyFile) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(pool.clone(), keys, queue));
        Self { pool, jobs }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    pub(super) async fn apply(
        &self,
        at: Utc,
        audit: Audit,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        let gone = |_| unavailable("be written")(std::io::Error::other("the writer has ended"));
        self.jobs
            .send(Job { at, audit, changes, done })
            .await
            .map_err(|error| unavailable("be written")(std::io::Error::other(error.to_string())))?;
        answer.await.unwrap_or_else(|error| Err(gone(error)))
    }
}

async fn write(pool: SqlitePool, keys: KeyFile, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::new();
    let mut last = None;
    while queue.recv_many(&mut jobs, BATCH).await > 0 {
        let jobs =
            jobs.drain(..).map(|Job { at, audit, changes, done }| (done, (at, audit, changes)));
        let (answers, work): (Vec<_>, Vec<_>) = jobs.unzip();
        for (answer, result) in
            answers.into_iter().zip(batch((&pool, &keys), &work, &mut last).await)
        {
            if answer.send(result).is_err() {
                tracing::debug!("who asked for a change has gone");
            }
        }
    }
}

/// The database, and the keys of its secrets.
type Place<'a> = (&'a SqlitePool, &'a KeyFile);

type Work = (Utc, Audit, Vec<Change>);

/// What became of each change of a batch.
type Results = Vec<Result<(), StoreError>>;

/// Makes a batch; when it cannot be committed, none of its changes was made.
///
/// Nobody else writes, as a rule: the log goes on after `last`, which this writer wrote, and
/// devices are what they were when they were read. Where that is not so the batch is made again
/// with care.
async fn batch(store: Place<'_>, work: &[Work], last: &mut Option<Last>) -> Results {
    let made = match last.take() {
        Some(line) => match hopeful(store, work, line).await {
            Ok(None) => careful(store, work).await,
            Ok(Some(made)) => Ok(made),
            Err(error) => Err(error),
        },
        None => careful(store, work).await,
    };
    match made {
        Ok((results, line)) => {
            *last = Some(line);
            results
        }
        Err(error) => {
            let text = || std::io::Error::other("the batch was not committed");
            let others = work.iter().skip(1).map(|_| Err(unavailable("commit a change")(text())));
            std::iter::once(Err(error)).chain(others).collect()
        }
    }
}

/// Makes a batch with all its devices in one statement; `None` and no change when `last` is not
/// the last line any more, or one of the devices is another.
async fn hopeful(
    (pool, keys): Place<'_>,
    work: &[Work],
    last: Last,
) -> Result<Option<(Results, Last)>, StoreError> {
    let mut writing = begin(pool).await?;
    let sealer = sealer(&mut writing, keys, work).await?;
    let mut together = BTreeMap::new();
    for row in work.iter().filter_map(|(.., changes)| alone(changes)) {
        together.entry(&row.id).or_insert(row);
    }
    let rows: Vec<_> = together.values().copied().collect();
    if !rows.is_empty() {
        let count = rows::update_devices(&mut writing, &rows, sealer.as_ref()).await?;
        if count != rows.len() as u64 {
            return Ok(None);
        }
    }
    let mut results = Vec::with_capacity(work.len());
    for (.., changes) in work {
        results.push(match alone(changes) {
            // Of two changes of one device the first is made; the other is to be made anew.
            Some(row) if together.remove(&row.id).is_some() => Ok(()),
            Some(_) => Err(StoreError::Conflict("device")),
            None => change(&mut writing, changes, sealer.as_ref()).await?,
        });
    }
    match finish(writing, work, results, last).await {
        Err(StoreError::Conflict(_)) => Ok(None),
        made => made.map(Some),
    }
}

/// Makes a batch after what the database holds, row by row.
async fn careful((pool, keys): Place<'_>, work: &[Work]) -> Result<(Results, Last), StoreError> {
    let mut writing = begin(pool).await?;
    let sealer = sealer(&mut writing, keys, work).await?;
    let last = last_line(&mut writing).await?;
    let mut results = Vec::with_capacity(work.len());
    for (.., changes) in work {
        results.push(change(&mut writing, changes, sealer.as_ref()).await?);
    }
    finish(writing, work, results, last).await
}

/// Returns what seals the secrets that a batch brings, if it brings any.
async fn sealer(
    connection: &mut SqliteConnection,
    keys: &KeyFile,
    work: &[Work],
) -> Result<Option<Sealer>, StoreError> {
    let is_fresh = |change: &Change| match change {
        Change::Device(row) => sealing::is_fresh(row),
        Change::Campaign(_) | Change::Arming(_) => false,
    };
    if work.iter().flat_map(|(.., changes)| changes).any(is_fresh) {
        Sealer::open(connection, keys).await.map(Some)
    } else {
        Ok(None)
    }
}

async fn begin(pool: &SqlitePool) -> Result<Transaction<'static, Sqlite>, StoreError> {
    pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable("be written"))
}

/// Writes the lines of what was made after `last`, and commits.
async fn finish(
    mut writing: Transaction<'_, Sqlite>,
    work: &[Work],
    results: Results,
    mut last: Last,
) -> Result<(Results, Last), StoreError> {
    let mut lines = Vec::with_capacity(work.len());
    for ((at, audit, _), _) in work.iter().zip(&results).filter(|(_, made)| made.is_ok()) {
        let line = AuditLine::after(last, *at, audit.clone());
        last = Some((line.number, line.seal));
        lines.push(line);
    }
    if !lines.is_empty() {
        rows::append(&mut writing, &lines).await?;
    }
    writing.commit().await.map_err(unavailable("commit a change"))?;
    Ok((results, last))
}

/// Returns the device if it is all that changes, as with most messages: all of a batch are written by
/// one statement.
fn alone(changes: &[Change]) -> Option<&Device> {
    match changes {
        [Change::Device(row)] if row.version > 0 => Some(row),
        _ => None,
    }
}

/// Makes one change; the outer error is the database's, the inner one the change's own.
async fn change(
    writing: &mut Transaction<'_, Sqlite>,
    changes: &[Change],
    sealer: Option<&Sealer>,
) -> Result<Result<(), StoreError>, StoreError> {
    // A single statement that fails has changed nothing; a campaign is more than one.
    let is_divisible =
        changes.len() > 1 || changes.iter().any(|row| matches!(row, Change::Campaign(_)));
    if is_divisible {
        run(writing, "SAVEPOINT change").await?;
    }
    for row in changes {
        if let Err(error) = make(writing, row, sealer).await {
            if is_divisible {
                run(writing, "ROLLBACK TO change").await?;
                run(writing, "RELEASE change").await?;
            }
            return Ok(Err(error));
        }
    }
    if is_divisible {
        run(writing, "RELEASE change").await?;
    }
    Ok(Ok(()))
}

async fn run(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), StoreError> {
    sqlx::query(statement).execute(connection).await.map_err(unavailable("be written"))?;
    Ok(())
}

async fn make(
    connection: &mut SqliteConnection,
    change: &Change,
    sealer: Option<&Sealer>,
) -> Result<(), StoreError> {
    match change {
        Change::Device(row) => rows::write_device(connection, row, sealer).await,
        Change::Campaign(row) => rows::write_campaign(connection, row).await,
        Change::Arming(row) => rows::write_arming(connection, row).await,
    }
}

async fn last_line(connection: &mut SqliteConnection) -> Result<Last, StoreError> {
    let last = sqlx::query("SELECT number, seal FROM audit ORDER BY number DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .map_err(unavailable("read its log"))?;
    match last {
        Some(row) => {
            Ok(Some((columns::unsigned(&row, "number")?, Digest(columns::array(&row, "seal")?))))
        }
        None => Ok(None),
    }
}
