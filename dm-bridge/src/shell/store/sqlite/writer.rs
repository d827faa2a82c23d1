//! One writer for all changes: those that wait together are made in one transaction.
//!
//! A flush of the disk costs more than the change itself. A change is acknowledged after the commit
//! that holds it, so it is durable by then. A change that conflicts is rolled back by itself; the
//! others of its batch are committed.

use std::collections::BTreeMap;

use proto::{
    crypto::{Digest, sha256},
    time::Utc,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    columns::{self, int, unavailable},
    connection::{Connection, Pool, Writing},
    rows::{
        attempt::write_attempt,
        audit::append,
        campaign::{check_last_campaign, write_campaign},
        device::{update_devices, write_device},
    },
    sealing::{self, Sealer},
    table::BATCH,
};
use crate::{
    fleet::{
        audit::{Audit, AuditLine},
        device::Device,
        store::{Change, StoreError},
    },
    shell::store::key_file::KeyFile,
};

/// A write as that of a change: it needs a page, which it then frees.
const PROBE: [&str; 2] =
    ["INSERT INTO probe (filler) VALUES (randomblob(4096))", "DELETE FROM probe"];

/// Changes that may wait.
const QUEUE: usize = 1_024;

/// A handle to the writer.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pool: Pool,
    jobs: mpsc::Sender<Queued>,
}

/// Work of the writer.
#[derive(Debug)]
enum Queued {
    Change(Job),
    /// A write whose outcome shows whether changes can be made.
    Probe(oneshot::Sender<Result<(), StoreError>>),
}

/// One change of a few rows, with its line in the log.
#[derive(Debug)]
struct Job {
    at: Utc,
    audit: Audit,
    changes: Vec<Change>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The number and seal of the last line of the log.
type LastLine = Option<(u64, Digest)>;

impl Writer {
    /// Starts the writer; it ends with the last handle to it.
    pub(super) fn start(pool: Pool, keys: KeyFile) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(pool.clone(), keys, queue));
        Self { pool, jobs }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Inserts a row of more than a page, and removes it again, after the changes that wait: a queue
    /// that does not move is not healthy.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.queue(Queued::Probe(done), answer).await
    }

    /// Runs a statement on the connection of the writer.
    #[cfg(test)]
    pub(super) async fn run(&self, statement: &str) {
        let mut connection = self.pool.acquire().await.unwrap();
        connection.run(statement).await.unwrap();
    }

    pub(super) async fn apply(
        &self,
        at: Utc,
        audit: Audit,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.queue(Queued::Change(Job { at, audit, changes, done }), answer).await
    }

    async fn queue(
        &self,
        work: Queued,
        answer: oneshot::Receiver<Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let gone = || unavailable("be written")(std::io::Error::other("the writer has ended"));
        self.jobs.send(work).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

async fn write(pool: Pool, keys: KeyFile, mut queue: mpsc::Receiver<Queued>) {
    let mut queued = Vec::new();
    let mut last = None;
    while queue.recv_many(&mut queued, BATCH).await > 0 {
        let (mut answers, mut work, mut probes) = (Vec::new(), Vec::new(), Vec::new());
        for job in queued.drain(..) {
            match job {
                Queued::Change(Job { at, audit, changes, done }) => {
                    answers.push(done);
                    work.push((at, audit, changes));
                }
                Queued::Probe(done) => probes.push(done),
            }
        }
        let mut results = Vec::new();
        if !work.is_empty() {
            results = batch((&pool, &keys), &work, &mut last).await;
        }
        for answer in probes {
            answers.push(answer);
            results.push(probe(&pool).await);
        }
        for (answer, result) in answers.into_iter().zip(results) {
            if answer.send(result).is_err() {
                tracing::debug!("the sender of a change has gone");
            }
        }
    }
}

async fn probe(pool: &Pool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await.map_err(unavailable("be written"))?;
    for statement in PROBE {
        let query = sqlx::query(statement);
        connection.execute(query).await.map_err(unavailable("be written"))?;
    }
    Ok(())
}

/// The database, and the keys of its secrets.
type Db<'a> = (&'a Pool, &'a KeyFile);

type Work = (Utc, Audit, Vec<Change>);

/// Makes a batch; when the commit fails, none of its changes is made.
///
/// Usually there is no other writer: the log continues after `last`, which this writer wrote, and
/// devices have the versions that were read. Otherwise the batch is made again with checks.
async fn batch(
    (pool, keys): Db<'_>,
    work: &[Work],
    last: &mut Option<LastLine>,
) -> Vec<Result<(), StoreError>> {
    match batch_on_connection(pool, keys, work, last.take()).await {
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

/// A batch that was made and is not committed.
struct Made {
    results: Vec<Result<(), StoreError>>,
    lines: Vec<AuditLine>,
    /// The last line before those of the batch.
    before: LastLine,
}

/// Makes a batch on the connection of the writer, and commits it.
async fn batch_on_connection(
    pool: &Pool,
    keys: &KeyFile,
    work: &[Work],
    last: Option<LastLine>,
) -> Result<(Vec<Result<(), StoreError>>, LastLine), StoreError> {
    let made = match last {
        Some(line) => optimistic_batch((pool, keys), work, line).await?,
        None => None,
    };
    let (writing, made) = match made {
        Some(made) => made,
        None => checked_batch((pool, keys), work).await?,
    };
    if let Err(error) = writing.commit().await {
        if !is_committed(pool, &made.lines).await {
            return Err(unavailable("commit a change")(error));
        }
        tracing::info!(%error, "commit failed after its effect");
    }
    let last = made.lines.last().map(|line| (line.number, line.seal)).or(made.before);
    Ok((made.results, last))
}

/// Returns whether a commit that failed has taken effect: then the log has the lines of the batch.
async fn is_committed(pool: &Pool, lines: &[AuditLine]) -> bool {
    let Some(line) = lines.last() else { return false };
    let query = sqlx::query("SELECT seal FROM audit WHERE number = ?").bind(int(line.number));
    match pool.fetch_optional(query).await {
        Ok(row) => row.is_some_and(|row| {
            columns::array(&row, "seal").is_ok_and(|seal| Digest(seal) == line.seal)
        }),
        Err(error) => {
            tracing::debug!(%error, "effect of a commit not known");
            false
        }
    }
}

/// Makes a batch with all its devices in one statement. Returns `None` without a change when `last`
/// is no longer the last line, or a device has another version.
async fn optimistic_batch(
    (pool, keys): Db<'_>,
    work: &[Work],
    last: LastLine,
) -> Result<Option<(Writing, Made)>, StoreError> {
    let mut writing = begin(pool).await?;
    let sealer = sealer(&mut writing, keys, work).await?;
    let mut together = BTreeMap::new();
    for row in work.iter().filter_map(|(.., changes)| single_device(changes)) {
        together.entry(&row.id).or_insert(row);
    }
    let rows: Vec<_> = together.values().copied().collect();
    if !rows.is_empty() {
        let count = update_devices(&mut writing, &rows, sealer.as_ref()).await?;
        if count != rows.len() as u64 {
            return rolled_back(writing).await;
        }
    }
    let mut results = Vec::with_capacity(work.len());
    for (.., changes) in work {
        results.push(match single_device(changes) {
            // Of two changes of one device the first is made; the other conflicts.
            Some(row) if together.remove(&row.id).is_some() => Ok(()),
            Some(_) => Err(StoreError::Conflict("device")),
            None => change(&mut writing, changes, sealer.as_ref()).await?,
        });
    }
    let lines = audit_lines(work, &results, last);
    match append_lines(&mut writing, &lines).await {
        Err(StoreError::Conflict(_)) => rolled_back(writing).await,
        Err(error) => Err(error),
        Ok(()) => Ok(Some((writing, Made { results, lines, before: last }))),
    }
}

/// Ends a transaction of which nothing is to stay.
async fn rolled_back<T>(writing: Writing) -> Result<Option<T>, StoreError> {
    writing.rollback().await.map_err(unavailable("be written"))?;
    Ok(None)
}

/// Makes a batch row by row, after the last line in the database.
async fn checked_batch((pool, keys): Db<'_>, work: &[Work]) -> Result<(Writing, Made), StoreError> {
    let mut writing = begin(pool).await?;
    let sealer = sealer(&mut writing, keys, work).await?;
    let last = last_line(&mut writing).await?;
    let mut results = Vec::with_capacity(work.len());
    for (.., changes) in work {
        results.push(change(&mut writing, changes, sealer.as_ref()).await?);
    }
    let lines = audit_lines(work, &results, last);
    append_lines(&mut writing, &lines).await?;
    Ok((writing, Made { results, lines, before: last }))
}

/// Returns the sealer for a batch that has fresh secrets.
async fn sealer(
    connection: &mut Connection,
    keys: &KeyFile,
    work: &[Work],
) -> Result<Option<Sealer>, StoreError> {
    let is_fresh = |change: &Change| match change {
        Change::Device(row) => sealing::is_fresh(row),
        Change::Campaign(_) | Change::Attempt(_) | Change::LastCampaign(_) => false,
    };
    if work.iter().flat_map(|(.., changes)| changes).any(is_fresh) {
        Sealer::open(connection, keys).await.map(Some)
    } else {
        Ok(None)
    }
}

async fn begin(pool: &Pool) -> Result<Writing, StoreError> {
    pool.begin().await.map_err(unavailable("be written"))
}

/// Returns the audit lines of the changes that were made, after `last`.
fn audit_lines(
    work: &[Work],
    results: &[Result<(), StoreError>],
    mut last: LastLine,
) -> Vec<AuditLine> {
    let made = work.iter().zip(results).filter(|(_, made)| made.is_ok());
    made.map(|((at, audit, _), _)| {
        let line = AuditLine::after(last, *at, audit.clone());
        last = Some((line.number, line.seal));
        line
    })
    .collect()
}

async fn append_lines(connection: &mut Connection, lines: &[AuditLine]) -> Result<(), StoreError> {
    if lines.is_empty() { Ok(()) } else { append(connection, lines).await }
}

/// Returns the device when it is the only change, as with most messages; one statement writes all
/// of a batch.
fn single_device(changes: &[Change]) -> Option<&Device> {
    match changes {
        [Change::Device(row)] if row.version > 0 => Some(row),
        _ => None,
    }
}

/// Makes one change; the outer error is the database's, the inner one the change's own.
async fn change(
    writing: &mut Writing,
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
            // The database may have rolled all of the batch back.
            if matches!(error, StoreError::Unavailable { .. }) {
                return Err(error);
            }
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

async fn run(connection: &mut Connection, statement: &'static str) -> Result<(), StoreError> {
    connection.execute(sqlx::query(statement)).await.map_err(unavailable("be written"))?;
    Ok(())
}

async fn make(
    connection: &mut Connection,
    change: &Change,
    sealer: Option<&Sealer>,
) -> Result<(), StoreError> {
    match change {
        Change::Device(row) => write_device(connection, row, sealer).await,
        Change::Campaign(row) => write_campaign(connection, row).await,
        Change::Attempt(row) => write_attempt(connection, row).await,
        Change::LastCampaign(id) => check_last_campaign(connection, id.as_deref()).await,
    }
}

async fn last_line(connection: &mut Connection) -> Result<LastLine, StoreError> {
    let last = connection
        .fetch_optional(sqlx::query("SELECT number, seal FROM audit ORDER BY number DESC LIMIT 1"))
        .await
        .map_err(unavailable("read its log"))?;
    match last {
        Some(row) => {
            let number = columns::unsigned(&row, "number")?;
            let seal: Vec<u8> = columns::get(&row, "seal")?;
            // After a damaged seal the log goes on, and the break in its chain shows.
            let seal = match <[u8; 32]>::try_from(seal.as_slice()) {
                Ok(seal) => Digest(seal),
                Err(_) => {
                    tracing::warn!(number, "the seal of the last line of the log is damaged");
                    sha256(&[&seal])
                }
            };
            Ok(Some((number, seal)))
        }
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shell::store::sqlite::tests::open;

    #[tokio::test]
    async fn a_probe_shows_that_changes_are_no_more_made() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("fleet.db")).await.unwrap();
        store.writer.probe().await.unwrap();
        let (jobs, queue) = mpsc::channel(QUEUE);
        let stuck = Writer { pool: store.writer.pool.clone(), jobs };
        let soon = Duration::from_millis(1);
        let answer = tokio::time::timeout(soon, stuck.probe()).await;
        assert!(answer.is_err(), "nobody works, and the store is said to be well");
        drop(queue);
        assert!(stuck.probe().await.is_err(), "the writer has ended");
    }
}
