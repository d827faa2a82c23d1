//! Faults that a test injects into the statements of a store, for a while.
//!
//! | fault | effect beside the error |
//! | --- | --- |
//! | full | SQLite rolls the transaction back by itself |
//! | I/O error, busy | none: the transaction stays as it was |
//! | connection lost | the connection answers nothing any more |

use std::{
    borrow::Cow,
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sqlx::{
    Row as _, SqliteConnection,
    error::{DatabaseError, ErrorKind},
};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::shell) enum FaultKind {
    Full,
    InputOutput,
    Busy,
    ConnectionLost,
}

impl FaultKind {
    pub(in crate::shell) const ALL: [Self; 4] =
        [Self::Full, Self::InputOutput, Self::Busy, Self::ConnectionLost];
}

/// The side of the effect of a statement on which it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::shell) enum Side {
    Before,
    After,
}

/// The span for which a fault lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::shell) enum Span {
    /// One statement.
    Once,
    /// All statements from the first one on, until it is ended.
    UntilEnded,
}

/// A fault of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shell) struct Fault {
    /// Number of the statement that fails, from 1.
    pub(in crate::shell) statement: usize,
    pub(in crate::shell) kind: FaultKind,
    pub(in crate::shell) side: Side,
    pub(in crate::shell) span: Span,
}

/// The faults of a store; copies are the same.
#[derive(Debug, Clone, Default)]
pub(in crate::shell) struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    fault: Option<Fault>,
    /// Statements since the fault was planned.
    texts: Vec<String>,
    has_lost_connections: bool,
}

impl Faults {
    /// Plans a fault; statements are counted from here.
    pub(in crate::shell) fn plan(&self, fault: Option<Fault>) {
        let mut plan = self.lock();
        plan.fault = fault;
        plan.texts.clear();
    }

    /// Returns whether a statement has met the fault.
    pub(in crate::shell) fn is_met(&self) -> bool {
        let plan = self.lock();
        plan.fault.is_some_and(|fault| plan.texts.len() >= fault.statement)
    }

    /// Ends the fault; returns the statements since it was planned.
    pub(in crate::shell) fn end(&self) -> Vec<String> {
        let mut plan = self.lock();
        plan.fault = None;
        std::mem::take(&mut plan.texts)
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails while a fault lasts: a connection cannot be made either.
    pub(super) fn connect(&self) -> Result<(), sqlx::Error> {
        let plan = self.lock();
        let lasting =
            |fault: Fault| fault.span == Span::UntilEnded && plan.texts.len() >= fault.statement;
        match plan.fault.filter(|fault| lasting(*fault)) {
            Some(fault) => Err(error(fault.kind)),
            None => Ok(()),
        }
    }

    /// Counts a statement; returns its fault.
    pub(super) fn next(&self, text: &str) -> Option<(FaultKind, Side)> {
        let mut plan = self.lock();
        plan.texts.push(text.to_owned());
        let (number, fault) = (plan.texts.len(), plan.fault?);
        if number == fault.statement {
            return Some((fault.kind, fault.side));
        }
        let lasts = fault.span == Span::UntilEnded && number > fault.statement;
        lasts.then_some((fault.kind, Side::Before))
    }

    /// Makes a connection fail; returns the error.
    pub(super) async fn inject(
        &self,
        kind: FaultKind,
        connection: &mut SqliteConnection,
    ) -> sqlx::Error {
        match kind {
            FaultKind::Full => {
                // Without a transaction there is nothing to roll back.
                sqlx::query("ROLLBACK").execute(connection).await.ok();
            }
            FaultKind::ConnectionLost => {
                self.lock().has_lost_connections = true;
                sqlx::query("PRAGMA query_only = 1").execute(connection).await.unwrap();
            }
            FaultKind::InputOutput | FaultKind::Busy => {}
        }
        error(kind)
    }

    /// Fails on a connection that was lost before.
    pub(super) async fn check(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if !self.lock().has_lost_connections {
            return Ok(());
        }
        let row = sqlx::query("PRAGMA query_only").fetch_one(connection).await?;
        if row.get::<i64, _>(0) == 0 { Ok(()) } else { Err(error(FaultKind::ConnectionLost)) }
    }
}

fn error(kind: FaultKind) -> sqlx::Error {
    let (code, text) = match kind {
        FaultKind::Full => ("13", "database or disk is full"),
        FaultKind::InputOutput => ("10", "disk I/O error"),
        FaultKind::Busy => ("5", "database is locked"),
        FaultKind::ConnectionLost => return sqlx::Error::WorkerCrashed,
    };
    sqlx::Error::Database(Box::new(Injected { code, text }))
}

/// An error as of the database.
#[derive(Debug)]
struct Injected {
    code: &'static str,
    text: &'static str,
}

impl fmt::Display for Injected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "(code: {}) {} (injected)", self.code, self.text)
    }
}

impl Error for Injected {}

impl DatabaseError for Injected {
    fn message(&self) -> &str {
        self.text
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.into())
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

mod life;
