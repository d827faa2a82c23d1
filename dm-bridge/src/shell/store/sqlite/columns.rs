//! Columns of a row: numbers, texts and octets, read into types and written from them.

use std::{error::Error, fmt::Display, str::FromStr};

use proto::time::Utc;
use sqlx::{Decode, Row as _, Sqlite, Type, sqlite::SqliteRow};

use crate::fleet::{device::Nonce, store::StoreError};

/// Wraps what the database said into what was attempted.
pub(super) fn unavailable<E: Error + Send + Sync + 'static>(
    doing: &'static str,
) -> impl Fn(E) -> StoreError {
    move |source| StoreError::Unavailable { doing, source: Box::new(source) }
}

/// Returns a number as SQLite keeps it. Only moments beyond the year 292 million saturate.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(unavailable(column))
}

pub(super) fn damaged(what: &'static str) -> impl Fn(String) -> StoreError {
    move |found| StoreError::Damaged { what, found }
}

/// Reads a whole number into the type that it has here.
pub(super) fn number<T: TryFrom<i64>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    let found: i64 = get(row, column)?;
    T::try_from(found).map_err(|_| damaged(column)(found.to_string()))
}

pub(super) fn optional<T: TryFrom<i64>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let found: Option<i64> = get(row, column)?;
    let read = |value| T::try_from(value).map_err(|_| damaged(column)(value.to_string()));
    found.map(read).transpose()
}

/// Reads a number that is not negative.
pub(super) fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    number(row, column)
}

pub(super) fn moment(row: &SqliteRow, column: &'static str) -> Result<Utc, StoreError> {
    unsigned(row, column).map(Utc)
}

/// Reads a text into the type that it is the text form of.
pub(super) fn parsed<T: FromStr>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let text: String = get(row, column)?;
    text.parse().map_err(|_| damaged(column)(text))
}

/// The same where the text may be absent.
pub(super) fn maybe<T: FromStr>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = get(row, column)?;
    text.map(|text| text.parse().map_err(|_| damaged(column)(text))).transpose()
}

pub(super) fn list<T: FromStr>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Vec<T>, StoreError> {
    let text: String = get(row, column)?;
    let read = |word: &str| word.parse().map_err(|_| damaged(column)(word.to_owned()));
    text.split_whitespace().map(read).collect()
}

/// Reads octets of a fixed count.
pub(super) fn array<const N: usize>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<[u8; N], StoreError> {
    let octets: Vec<u8> = get(row, column)?;
    octets.try_into().map_err(|_| damaged(column)("octets of another count".to_owned()))
}

pub(super) fn nonce(row: &SqliteRow, column: &'static str) -> Result<Option<Nonce>, StoreError> {
    let octets: Option<Vec<u8>> = get(row, column)?;
    let whole = |octets: Vec<u8>| {
        octets.try_into().map(Nonce).map_err(|_| damaged(column)("another count".to_owned()))
    };
    octets.map(whole).transpose()
}

pub(super) fn words<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

pub(super) fn written(
    result: &sqlx::sqlite::SqliteQueryResult,
    what: &'static str,
) -> Result<(), StoreError> {
    if result.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict(what)) }
}

/// Tells a row that is there already from a database that does not work.
pub(super) fn refused(what: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| {
        let taken = error.as_database_error().is_some_and(|said| said.is_unique_violation());
        if taken { StoreError::Conflict(what) } else { unavailable("be written")(error) }
    }
}
