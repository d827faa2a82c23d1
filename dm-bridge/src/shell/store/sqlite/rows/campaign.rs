//! Campaigns, with their plan headers and roots, which are in tables of their own.

use std::{collections::BTreeMap, sync::LazyLock};

use proto::{
    crypto::Digest,
    ids::{CampaignId, ComponentId, Tsi},
    time::Utc,
};
use sqlx::sqlite::SqliteRow;

use super::super::{
    columns::{
        array, check_one_row, get, int, list, map_write_error, number, optional, optional_parsed,
        parsed, unavailable, unsigned, utc, words,
    },
    connection::{Connection, Pool},
    table::{SqliteQuery, Table, table},
};
use crate::{
    campaign::model::{
        BroadcastTarget, Campaign, Delivery, PreparedSession, SignedDocuments, SignedTerms,
        Software, Window,
    },
    fleet::store::{DamagedCampaign, StoreError},
};

table! {
    /// Campaigns. Signed content never changes, nor does the delivery.
    const TABLE: "campaign";
    bind(row: &Campaign);
    key {
        id: parsed = row.id.to_string(),
        version: unsigned = int(row.version),
    }
    fixed {
        digest: array = row.terms.digest.0.as_slice(),
        epoch: number = row.terms.epoch,
        sequence: parsed = row.terms.sequence.to_string(),
        vendor: parsed = row.terms.vendor.to_string(),
        classes: list = words(&row.terms.classes),
        firmware_version: get = &row.terms.firmware_version,
        not_before: utc = int(row.terms.not_before.0),
        latest_stop: utc = int(row.terms.latest_stop.0),
        sources: list = words(&row.terms.sources),
        stored_bytes: unsigned = int(row.terms.stored_bytes),
        largest_block: number = row.terms.largest_block,
        campaign_envelope: get = &row.documents.campaign,
        manifest_envelope: get = &row.documents.manifest,
        carousel_url: get = &row.target.carousel_url,
        token_file: get = &row.target.token_file,
        group_address: parsed = row.target.group.to_string(),
        port: number = row.target.port,
        delivery_methods: list = words(&row.delivery.methods),
        bundle_bytes: unsigned = int(row.delivery.bundle_bytes),
        ask_user: get = &row.delivery.ask_user,
        software: optional_parsed = row.delivery.software.as_ref().map(|it| it.package.to_string()),
        software_operation: parsed = row.delivery.software.as_ref().map(|it| it.operation.as_str()),
        created: utc = int(row.created.0),
    }
    variable {
        report_spread: number = row.report_spread_seconds,
        update_requests: parsed = row.update_requests.as_str(),
        state: parsed = row.state.as_str(),
        window_opens: optional = row.window.map(|window| int(window.opens.0)),
        window_closes: utc = row.window.map(|window| int(window.closes.0)),
        window_revision: number = row.window.map(|window| window.revision),
        prepared_source: parsed = row.prepared.map(|session| session.source.to_string()),
        prepared_tsi: optional = row.prepared.map(|session| int(session.tsi.0)),
        prepared_revision: number = row.prepared.map(|session| session.revision),
        prepared_opened: get = row.prepared.map(|session| session.opened),
        last_error: get = &row.last_error,
    }
    fn read(documents: StoredDocuments) {
        let window = match window_opens()? {
            Some(opens) => Some(Window {
                opens: Utc(opens),
                closes: window_closes()?,
                revision: window_revision()?,
            }),
            None => None,
        };
        let prepared = match prepared_tsi()? {
            Some(tsi) => Some(PreparedSession {
                source: prepared_source()?,
                tsi: Tsi(tsi),
                revision: prepared_revision()?,
                opened: prepared_opened()?,
            }),
            None => None,
        };
        Ok(Campaign {
            id: id()?,
            version: version()?,
            terms: SignedTerms {
                digest: Digest(digest()?),
                epoch: epoch()?,
                sequence: sequence()?,
                vendor: vendor()?,
                classes: classes()?,
                firmware_version: firmware_version()?,
                not_before: not_before()?,
                latest_stop: latest_stop()?,
                sources: sources()?,
                stored_bytes: stored_bytes()?,
                largest_block: largest_block()?,
            },
            documents: SignedDocuments {
                campaign: campaign_envelope()?,
                manifest: manifest_envelope()?,
                roots: documents.roots,
                plan_headers: documents.plan_headers,
            },
            target: BroadcastTarget {
                carousel_url: carousel_url()?,
                token_file: token_file()?,
                group: group_address()?,
                port: port()?,
            },
            delivery: Delivery {
                methods: delivery_methods()?,
                bundle_bytes: bundle_bytes()?,
                ask_user: ask_user()?,
                software: match software()? {
                    Some(package) => Some(Software { package, operation: software_operation()? }),
                    None => None,
                },
            },
            report_spread_seconds: report_spread()?,
            update_requests: update_requests()?,
            state: state()?,
            window,
            prepared,
            last_error: last_error()?,
            created: created()?,
        })
    }
}

/// The documents of a campaign that are in tables of their own.
struct StoredDocuments {
    roots: BTreeMap<u64, Vec<u8>>,
    plan_headers: BTreeMap<ComponentId, Vec<u8>>,
}

static INSERT: LazyLock<String> = LazyLock::new(|| TABLE.insert());

static UPDATE: LazyLock<String> = LazyLock::new(|| TABLE.update());

/// Writes a campaign over the version that it was read at.
pub(in crate::shell::store::sqlite) async fn write_campaign(
    connection: &mut Connection,
    row: &Campaign,
) -> Result<(), StoreError> {
    let statement = if row.version == 0 { &INSERT } else { &UPDATE };
    let written = connection.execute(bind(sqlx::query(statement), row)).await;
    check_one_row(&written.map_err(map_write_error("campaign"))?, "campaign")?;
    if row.version == 0 {
        write_documents(connection, row).await?;
    }
    Ok(())
}

/// Reads the columns of a damaged row that tell for which devices its campaign is the newest.
pub(in crate::shell::store::sqlite) fn read_damaged_campaign(
    row: &SqliteRow,
    damage: &StoreError,
) -> DamagedCampaign {
    let sequence = || Some((number(row, "epoch").ok()?, parsed(row, "sequence").ok()?));
    DamagedCampaign {
        id: get(row, "id").unwrap_or_else(|_| "without a readable id".to_owned()),
        damage: damage.to_string(),
        sequence: sequence(),
        vendor: parsed(row, "vendor").ok(),
        classes: list(row, "classes").ok(),
    }
}

/// Checks that no campaign was created after `last`.
pub(in crate::shell::store::sqlite) async fn check_last_campaign(
    connection: &mut Connection,
    last: Option<&str>,
) -> Result<(), StoreError> {
    let row = connection
        .fetch_optional(sqlx::query("SELECT id FROM campaign ORDER BY number DESC LIMIT 1"))
        .await
        .map_err(unavailable("read the campaigns"))?;
    let found: Option<String> = row.map(|row| get(&row, "id")).transpose()?;
    if found.as_deref() == last { Ok(()) } else { Err(StoreError::Conflict("last campaign")) }
}

async fn write_documents(connection: &mut Connection, row: &Campaign) -> Result<(), StoreError> {
    for (component, header) in &row.documents.plan_headers {
        connection
            .execute(
                sqlx::query(
                    "INSERT INTO plan_header (campaign, component, header) VALUES (?, ?, ?)",
                )
                .bind(row.id.to_string())
                .bind(component.0)
                .bind(header),
            )
            .await
            .map_err(map_write_error("plan header"))?;
    }
    for (version, envelope) in &row.documents.roots {
        connection
            .execute(
                sqlx::query(
                    "INSERT INTO root_envelope (campaign, version, envelope) VALUES (?, ?, ?)",
                )
                .bind(row.id.to_string())
                .bind(int(*version))
                .bind(envelope),
            )
            .await
            .map_err(map_write_error("root"))?;
    }
    Ok(())
}

/// Reads a campaign with its documents.
pub(in crate::shell::store::sqlite) async fn read_campaign(
    pool: &Pool,
    row: &SqliteRow,
) -> Result<Campaign, StoreError> {
    let id: CampaignId = parsed(row, "id")?;
    let (mut roots, mut plan_headers) = (BTreeMap::new(), BTreeMap::new());
    let rows = pool
        .fetch_all(
            sqlx::query("SELECT component, header FROM plan_header WHERE campaign = ?")
                .bind(id.to_string()),
        )
        .await
        .map_err(unavailable("read the plan headers"))?;
    for row in rows {
        let component = ComponentId(number(&row, "component")?);
        let header = get(&row, "header")?;
        plan_headers.insert(component, header);
    }
    let rows = pool
        .fetch_all(
            sqlx::query("SELECT version, envelope FROM root_envelope WHERE campaign = ?")
                .bind(id.to_string()),
        )
        .await
        .map_err(unavailable("read the roots"))?;
    for row in rows {
        roots.insert(unsigned(&row, "version")?, get(&row, "envelope")?);
    }
    read(row, StoredDocuments { roots, plan_headers })
}
