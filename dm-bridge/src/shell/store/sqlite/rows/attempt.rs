//! Attempts to arm a device.

use std::sync::LazyLock;

use proto::ids::Correlator;
use sqlx::sqlite::SqliteRow;

use super::super::{
    columns::{
        check_one_row, get, int, list, map_write_error, number, optional, optional_parsed, parsed,
        unsigned, utc, words,
    },
    connection::Connection,
    table::{SqliteQuery, Table, table},
};
use crate::fleet::{attempt::ArmingAttempt, store::StoreError};

table! {
    /// The arming queue.
    const TABLE: "arming";
    bind(row: &ArmingAttempt);
    key {
        device: parsed = row.device.as_str(),
        campaign: parsed = row.campaign.to_string(),
        attempt: number = row.attempt,
        version: unsigned = int(row.version),
    }
    fixed {}
    variable {
        correlator: get = &row.correlator.0,
        delivery_method: parsed = row.delivery_method.as_str(),
        package_secret: optional_parsed = row.package_secret.as_ref().map(|it| it.as_url_part()),
        phase: parsed = row.phase.as_str(),
        armed_revision: number = row.armed_revision,
        result_code: optional = row.result_code,
        reason: get = &row.reason,
        read_back: get = &row.read_back,
        updated: utc = int(row.updated.0),
        marks: list = words(row.marks.iter()),
    }
    pub(in crate::shell::store::sqlite) fn read_attempt() {
        Ok(ArmingAttempt {
            device: device()?,
            campaign: campaign()?,
            attempt: attempt()?,
            version: version()?,
            correlator: Correlator(correlator()?),
            delivery_method: delivery_method()?,
            marks: marks()?.into_iter().collect(),
            package_secret: package_secret()?,
            phase: phase()?,
            armed_revision: armed_revision()?,
            result_code: result_code()?,
            reason: reason()?,
            read_back: read_back()?,
            updated: updated()?,
        })
    }
}

static INSERT: LazyLock<String> = LazyLock::new(|| TABLE.insert());

static UPDATE: LazyLock<String> = LazyLock::new(|| TABLE.update());

/// Writes an attempt over the version that it was read at.
pub(in crate::shell::store::sqlite) async fn write_attempt(
    connection: &mut Connection,
    row: &ArmingAttempt,
) -> Result<(), StoreError> {
    let statement = if row.version == 0 { &INSERT } else { &UPDATE };
    let written = connection.execute(bind(sqlx::query(statement), row)).await;
    check_one_row(&written.map_err(map_write_error("attempt"))?, "attempt")
}
