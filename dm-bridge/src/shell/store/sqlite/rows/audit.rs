//! Lines of the audit log.

use std::sync::LazyLock;

use proto::crypto::Digest;
use sqlx::sqlite::SqliteRow;

use super::super::{
    columns::{array, get, int, map_write_error, unsigned, utc},
    connection::Connection,
    table::{BatchTexts, SqliteQuery, Table, table},
};
use crate::fleet::{audit::AuditLine, store::StoreError};

table! {
    /// The log of changes.
    const TABLE: "audit";
    bind(line: &AuditLine);
    key {
        number: unsigned = int(line.number),
    }
    fixed {
        at: utc = int(line.at.0),
        actor: get = &line.actor,
        action: get = &line.action,
        subject: get = &line.subject,
        detail: get = &line.detail,
        seal: array = line.seal.0.as_slice(),
    }
    variable {}
    pub(in crate::shell::store::sqlite) fn read_line() {
        Ok(AuditLine {
            number: number()?,
            at: at()?,
            actor: actor()?,
            action: action()?,
            subject: subject()?,
            detail: detail()?,
            seal: Digest(seal()?),
        })
    }
}

static APPEND: LazyLock<BatchTexts> = LazyLock::new(|| {
    let names = TABLE.names();
    BatchTexts::new(TABLE.len(), |values| {
        format!("INSERT INTO audit ({names}) SELECT * FROM ({values}) WHERE column1 IS NOT NULL")
    })
});

/// Appends at most [`BATCH`](super::super::table::BATCH) lines to the log.
pub(in crate::shell::store::sqlite) async fn append(
    connection: &mut Connection,
    lines: &[AuditLine],
) -> Result<(), StoreError> {
    let query = lines.iter().fold(sqlx::query(APPEND.of(lines.len())), bind);
    connection.execute(query).await.map_err(map_write_error("log"))?;
    Ok(())
}
