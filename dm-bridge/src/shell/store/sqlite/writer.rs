//! One writer for all: changes that wait together are made in one transaction.
//!
//! A flush of the disk costs more than all else that a change does. Whoever asks is answered after
//! the commit that holds its change, so nothing is told before it is durable. Each change stands or
//! falls by itself: one that conflicts is undone and leaves the others of its batch alone.

use std::collections::{BTreeMap, BTreeSet};

use proto::{crypto::Digest, time::Utc};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::rows::{self, int, unavailable};
use crate::fleet::{
    audit::{Audit, AuditLine},
    device::Device,
    store::{Change, StoreError},
};

/// Changes that are made in one transaction, at most.
const BATCH: usize = 128;
/// Changes that may wait.
const QUEUE: usize = 1_024;

/// Where changes are handed in.
#[derive(Debug, Clone)]
pub(super) struct Writer(mpsc::Sender<Job>);

/// One change of a few rows, with its line in the log.
#[derive(Debug)]
struct Job {
    at: Utc,
    audit: Audit,
    changes: Vec<Change>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// Number and seal of the last line.
type Last = Option<(u64, Digest)>;

impl Writer {
    /// Starts the writer; it ends with the last handle to it.
    pub(super) fn start(pool: SqlitePool) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(pool, queue));
        Self(jobs)
    }

    pub(super) async fn apply(
        &self,
        at: Utc,
        audit: Audit,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        let gone = |_| unavailable("be written")(std::io::Error::other("the writer has ended"));
        self.0
            .send(Job { at, audit, changes, done })
            .await
            .map_err(|error| unavailable("be written")(std::io::Error::other(error.to_string())))?;
        answer.await.unwrap_or_else(|error| Err(gone(error)))
    }
}

async fn write(pool: SqlitePool, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::new();
    while queue.recv_many(&mut jobs, BATCH).await > 0 {
        let (answers, results) = batch(&pool, std::mem::take(&mut jobs)).await;
        for (answer, result) in answers.into_iter().zip(results) {
            if answer.send(result).is_err() {
                tracing::debug!("who asked for a change has gone");
            }
        }
    }
}

type Answers = Vec<oneshot::Sender<Result<(), StoreError>>>;

/// Makes a batch; when it cannot be committed, none of its changes was made.
async fn batch(pool: &SqlitePool, jobs: Vec<Job>) -> (Answers, Vec<Result<(), StoreError>>) {
    let mut answers = Vec::with_capacity(jobs.len());
    let mut work = Vec::with_capacity(jobs.len());
    for Job { at, audit, changes, done } in jobs {
        answers.push(done);
        work.push((at, audit, changes));
    }
    let count = answers.len();
    let results = match commit(pool, work).await {
        Ok(results) => results,
        Err(error) => {
            let mut results = vec![Err(error)];
            let text = || std::io::Error::other("the batch was not committed");
            results.resize_with(count, || Err(unavailable("commit a change")(text())));
            results
        }
    };
    (answers, results)
}

async fn commit(
    pool: &SqlitePool,
    work: Vec<(Utc, Audit, Vec<Change>)>,
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let mut writing =
        pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable("be written"))?;
    let mut last = last_line(&mut writing).await?;
    let mut results = Vec::with_capacity(work.len());
    let mut lines = Vec::with_capacity(work.len());
    let mut together = BTreeMap::new();
    for row in work.iter().filter_map(|(.., changes)| alone(changes)) {
        together.entry(&row.id).or_insert(row);
    }
    let mut written = match together.into_values().collect::<Vec<_>>().as_slice() {
        [] => BTreeSet::new(),
        rows => rows::update_devices(&mut writing, rows).await?,
    };
    for (at, audit, changes) in work {
        let made = match alone(&changes) {
            // Of two changes of one device the first is made; the other is to be made anew.
            Some(row) if written.remove(row.id.as_str()) => Ok(()),
            Some(_) => Err(StoreError::Conflict("device")),
            None => change(&mut writing, changes).await?,
        };
        if made.is_ok() {
            let line = AuditLine::after(last, at, audit);
            last = Some((line.number, line.seal));
            lines.push(line);
        }
        results.push(made);
    }
    append(&mut writing, lines).await?;
    writing.commit().await.map_err(unavailable("commit a change"))?;
    Ok(results)
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
    changes: Vec<Change>,
) -> Result<Result<(), StoreError>, StoreError> {
    // A single statement that fails has changed nothing; a campaign is more than one.
    let is_divisible =
        changes.len() > 1 || changes.iter().any(|row| matches!(row, Change::Campaign(_)));
    if is_divisible {
        run(writing, "SAVEPOINT change").await?;
    }
    for row in changes {
        if let Err(error) = make(writing, row).await {
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

async fn make(connection: &mut SqliteConnection, change: Change) -> Result<(), StoreError> {
    match change {
        Change::Device(row) => rows::write_device(connection, &row).await,
        Change::Campaign(row) => rows::write_campaign(connection, &row).await,
        Change::Arming(row) => rows::write_arming(connection, &row).await,
    }
}

async fn last_line(connection: &mut SqliteConnection) -> Result<Last, StoreError> {
    let last = sqlx::query("SELECT number, seal FROM audit ORDER BY number DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .map_err(unavailable("read its log"))?;
    match last {
        Some(row) => {
            Ok(Some((rows::unsigned(&row, "number")?, Digest(rows::array(&row, "seal")?))))
        }
        None => Ok(None),
    }
}

async fn append(
    connection: &mut SqliteConnection,
    lines: Vec<AuditLine>,
) -> Result<(), StoreError> {
    if lines.is_empty() {
        return Ok(());
    }
    let columns = "INSERT INTO audit (number, at, actor, action, subject, detail, seal) ";
    QueryBuilder::new(columns)
        .push_values(lines, |mut row, line| {
            row.push_bind(int(line.number))
                .push_bind(int(line.at.0))
                .push_bind(line.actor)
                .push_bind(line.action)
                .push_bind(line.subject)
                .push_bind(line.detail)
                .push_bind(line.seal.0.to_vec());
        })
        .build()
        // As many lines as now do not come often.
        .persistent(false)
        .execute(connection)
        .await
        .map_err(unavailable("append to its log"))?;
    Ok(())
}
