//! Columns of a row: numbers, texts and octets, read into types and written from them.

use std::{error::Error, fmt::Display, str::FromStr};

use proto::time::Utc;
use sqlx::{Decode, Row as _, Sqlite, Type, sqlite::SqliteRow};

use crate::fleet::{device::Nonce, store::StoreError};

/// Wraps an error of the database, with the attempted operation.
pub(super) fn unavailable<E: Error + Send + Sync + 'static>(
    doing: &'static str,
) -> impl Fn(E) -> StoreError {
    move |source| StoreError::Unavailable { doing, source: Box::new(source) }
}

/// Returns a number as SQLite stores it. Only times beyond the year 292 million saturate.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Reads a column.
pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| damaged(column)(error.to_string()))
}

/// Returns the error for an invalid value.
pub(super) fn damaged(what: &'static str) -> impl Fn(String) -> StoreError {
    move |found| StoreError::Damaged { what, found }
}

/// Reads an integer of the given type.
pub(super) fn number<T: TryFrom<i64>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    let found: i64 = get(row, column)?;
    T::try_from(found).map_err(|_| damaged(column)(found.to_string()))
}

/// Reads an integer that may be absent.
pub(super) fn optional<T: TryFrom<i64>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let found: Option<i64> = get(row, column)?;
    let read = |value| T::try_from(value).map_err(|_| damaged(column)(value.to_string()));
    found.map(read).transpose()
}

/// Reads an integer that is not negative.
pub(super) fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    number(row, column)
}

/// Reads a time.
pub(super) fn utc(row: &SqliteRow, column: &'static str) -> Result<Utc, StoreError> {
    unsigned(row, column).map(Utc)
}

/// Reads a text and parses it.
pub(super) fn parsed<T: FromStr>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let text: String = get(row, column)?;
    text.parse().map_err(|_| damaged(column)(text))
}

/// Reads a text that may be absent, and parses it.
pub(super) fn optional_parsed<T: FromStr>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = get(row, column)?;
    text.map(|text| text.parse().map_err(|_| damaged(column)(text))).transpose()
}

/// Reads a list of words and parses each.
pub(super) fn list<T: FromStr>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Vec<T>, StoreError> {
    let text: String = get(row, column)?;
    let read = |word: &str| word.parse().map_err(|_| damaged(column)(word.to_owned()));
    text.split_whitespace().map(read).collect()
}

/// Reads a fixed number of octets.
pub(super) fn array<const N: usize>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<[u8; N], StoreError> {
    let bytes: Vec<u8> = get(row, column)?;
    bytes.try_into().map_err(|_| damaged(column)("another number of octets".to_owned()))
}

/// Reads a nonce that may be absent.
pub(super) fn nonce(row: &SqliteRow, column: &'static str) -> Result<Option<Nonce>, StoreError> {
    let bytes: Option<Vec<u8>> = get(row, column)?;
    let whole = |bytes: Vec<u8>| {
        bytes
            .try_into()
            .map(Nonce)
            .map_err(|_| damaged(column)("another number of octets".to_owned()))
    };
    bytes.map(whole).transpose()
}

/// Returns a list of words.
pub(super) fn words<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

/// Checks that a statement has changed one row.
pub(super) fn check_one_row(
    result: &sqlx::sqlite::SqliteQueryResult,
    what: &'static str,
) -> Result<(), StoreError> {
    if result.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict(what)) }
}

/// Maps a unique violation to a conflict, and all else to an unavailable store.
pub(super) fn map_write_error(what: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| {
        let taken = error.as_database_error().is_some_and(|error| error.is_unique_violation());
        if taken { StoreError::Conflict(what) } else { unavailable("be written")(error) }
    }
}
