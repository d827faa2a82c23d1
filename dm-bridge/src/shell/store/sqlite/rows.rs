//! Table rows and the types of the core, converted in both directions.

use std::sync::LazyLock;

use proto::{
    crypto::Digest,
    ids::{Correlator, DeviceId, Tsi},
    time::Utc,
};
use sqlx::{
    Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{
    columns::{
        array, check_one_row, damaged, get, int, list, map_write_error, nonce, number, optional,
        optional_parsed, parsed, unsigned, utc, words,
    },
    sealing::{self, Sealer},
};
use crate::{
    campaign::{
        model::{
            BroadcastTarget, Campaign, Delivery, PreparedSession, SignedDocuments, SignedTerms,
            Software, Window,
        },
        update_requests::UpdateRequestPolicy,
    },
    fleet::{
        attempt::ArmingAttempt,
        audit::AuditLine,
        components::Components,
        device::{Challenge, Device, DeviceAuth, DeviceNonce, ServerCredentials, SuspendCommand},
        policy::DesiredPolicy,
        profile::Profile,
        store::StoreError,
    },
    shell::store::key_file::KeyFile,
};

/// Rows that one statement writes, at most.
pub(super) const BATCH: usize = 128;

/// Columns of a device that may change.
const DEVICE: [&str; 26] = [
    "manufacturer",
    "model",
    "vendor",
    "class",
    "url",
    "object",
    "user",
    "secret",
    "next_nonce",
    "challenge_nonce",
    "challenge_session",
    "challenge_made",
    "failures",
    "failing_since",
    "firmware_version",
    "enrolled",
    "last_seen",
    "server_secret",
    "server_nonce",
    "auth",
    "update_requests",
    "profile",
    "quirks",
    "pending_suspension",
    "components",
    "policy",
];

type SqliteQuery<'q> = Query<'q, Sqlite, SqliteArguments<'q>>;

/// Binds id, version and the columns that may change.
fn bind_device<'q>(
    query: SqliteQuery<'q>,
    row: &'q Device,
    sealer: Option<&Sealer>,
) -> SqliteQuery<'q> {
    let (secret, server_secret) = sealing::seal(sealer, row);
    let challenge = row.auth.challenge.as_ref();
    let server = row.server.as_ref();
    query
        .bind(row.id.as_str())
        .bind(int(row.version))
        .bind(&row.manufacturer)
        .bind(&row.model)
        .bind(row.vendor.to_string())
        .bind(row.class.to_string())
        .bind(&row.url)
        .bind(&row.object)
        .bind(&row.auth.user)
        .bind(secret)
        .bind(row.auth.next_nonce.as_ref().map(|nonce| nonce.0.as_slice()))
        .bind(challenge.map(|challenge| challenge.nonce.0.as_slice()))
        .bind(challenge.map(|challenge| &challenge.session))
        .bind(challenge.map(|challenge| int(challenge.made.0)))
        .bind(row.auth.failures)
        .bind(int(row.auth.failing_since.0))
        .bind(&row.firmware_version)
        .bind(int(row.enrolled.0))
        .bind(row.last_seen.map(|seen| int(seen.0)))
        .bind(server_secret)
        .bind(server.map(|server| &server.nonce.0))
        .bind(row.auth.kind.as_str())
        .bind(row.update_requests.map(UpdateRequestPolicy::as_str))
        .bind(&row.profile.name)
        .bind(words(row.profile.quirks.iter()))
        .bind(row.pending_suspension.map(SuspendCommand::as_str))
        .bind(components_json(&row.components))
        .bind(policy_json(&row.policy))
}

/// Returns the JSON of the components; most devices have none.
fn components_json(components: &Components) -> Option<String> {
    let is_known = *components != Components::default();
    is_known.then(|| serde_json::to_string(components).expect("our own types have string keys"))
}

fn read_components(row: &SqliteRow) -> Result<Components, StoreError> {
    let Some(text) = get::<Option<String>>(row, "components")? else {
        return Ok(Components::default());
    };
    serde_json::from_str(&text).map_err(|error| damaged("components")(error.to_string()))
}

/// Returns the JSON of the desired policy; most devices have none.
fn policy_json(policy: &DesiredPolicy) -> Option<String> {
    let is_set = !policy.is_empty();
    is_set.then(|| serde_json::to_string(policy).expect("nodes are string keys"))
}

fn read_policy(row: &SqliteRow) -> Result<DesiredPolicy, StoreError> {
    let Some(text) = get::<Option<String>>(row, "policy")? else {
        return Ok(DesiredPolicy::default());
    };
    serde_json::from_str(&text).map_err(|error| damaged("policy")(error.to_string()))
}

/// Writes a device over the version that it was read at.
pub(super) async fn write_device(
    connection: &mut SqliteConnection,
    row: &Device,
    sealer: Option<&Sealer>,
) -> Result<(), StoreError> {
    if row.version > 0 {
        let count = update_devices(connection, &[row], sealer).await?;
        return if count == 1 { Ok(()) } else { Err(StoreError::Conflict("device")) };
    }
    let query = bind_device(sqlx::query(&INSERT_DEVICE), row, sealer);
    check_one_row(&query.execute(connection).await.map_err(map_write_error("device"))?, "device")
}

static INSERT_DEVICE: LazyLock<String> = LazyLock::new(|| {
    let columns = DEVICE.join(", ");
    format!(
        "INSERT INTO device (id, version, {columns}) VALUES (?, 1 + ?{})",
        ", ?".repeat(DEVICE.len())
    )
});

static UPDATE_DEVICES: LazyLock<BatchTexts> = LazyLock::new(|| {
    // The columns of the values are named by their places, id and version first. A secret that is
    // not given stays as it is sealed.
    let set = (3..).zip(DEVICE).map(|(position, column)| match column {
        "secret" | "server_secret" => {
            format!("{column} = COALESCE(new.column{position}, device.{column})")
        }
        _ => format!("{column} = new.column{position}"),
    });
    let set = set.collect::<Vec<_>>().join(", ");
    BatchTexts::new(2 + DEVICE.len(), |values| {
        format!(
            "UPDATE device SET version = 1 + new.column2, {set} FROM ({values}) AS new \
             WHERE id = new.column1 AND version = new.column2"
        )
    })
});

/// Writes at most [`BATCH`] devices, each over the version that it was read at; returns the number
/// of those that still had it.
pub(super) async fn update_devices(
    connection: &mut SqliteConnection,
    rows: &[&Device],
    sealer: Option<&Sealer>,
) -> Result<u64, StoreError> {
    let query = sqlx::query(UPDATE_DEVICES.of(rows.len()));
    let query = rows.iter().fold(query, |query, row| bind_device(query, row, sealer));
    let result = query.execute(connection).await.map_err(map_write_error("device"))?;
    Ok(result.rows_affected())
}

/// One statement for each power of two up to [`BATCH`], so that few are prepared, once. Excess
/// values are not bound, which makes them NULL.
struct BatchTexts(Vec<(usize, String)>);

impl BatchTexts {
    fn new(columns: usize, text: impl Fn(&str) -> String) -> Self {
        let row = format!("({})", vec!["?"; columns].join(", "));
        let sizes = (0..).map(|power| 1_usize << power).take_while(|size| *size <= BATCH);
        let entry = |size| (size, text(&format!("VALUES {}", vec![row.as_str(); size].join(", "))));
        Self(sizes.map(entry).collect())
    }

    fn of(&self, rows: usize) -> &str {
        let found = self.0.iter().find(|(size, _)| *size >= rows);
        found.map(|(_, text)| text.as_str()).expect("a batch is no larger than the largest")
    }
}

/// Reads a device.
pub(super) fn read_device(row: &SqliteRow, keys: &KeyFile) -> Result<Device, StoreError> {
    let (id, user): (DeviceId, String) = (parsed(row, "id")?, get(row, "user")?);
    let (secret, server_secret) = sealing::open(keys, row, (&id, &user))?;
    let challenge = match nonce(row, "challenge_nonce")? {
        Some(nonce) => Some(Challenge {
            nonce,
            session: get(row, "challenge_session")?,
            made: utc(row, "challenge_made")?,
        }),
        None => None,
    };
    let server_nonce: Option<Vec<u8>> = get(row, "server_nonce")?;
    let credentials = |(secret, nonce)| ServerCredentials { secret, nonce: DeviceNonce(nonce) };
    Ok(Device {
        id,
        version: unsigned(row, "version")?,
        manufacturer: get(row, "manufacturer")?,
        model: get(row, "model")?,
        vendor: parsed(row, "vendor")?,
        class: parsed(row, "class")?,
        url: get(row, "url")?,
        object: get(row, "object")?,
        auth: DeviceAuth {
            kind: parsed(row, "auth")?,
            user,
            secret,
            next_nonce: nonce(row, "next_nonce")?,
            challenge,
            failures: number(row, "failures")?,
            failing_since: utc(row, "failing_since")?,
        },
        server: server_secret.zip(server_nonce).map(credentials),
        update_requests: optional_parsed(row, "update_requests")?,
        profile: Profile {
            name: get(row, "profile")?,
            quirks: list(row, "quirks")?.into_iter().collect(),
        },
        pending_suspension: optional_parsed(row, "pending_suspension")?,
        policy: read_policy(row)?,
        components: read_components(row)?,
        firmware_version: get(row, "firmware_version")?,
        enrolled: utc(row, "enrolled")?,
        last_seen: optional(row, "last_seen")?.map(Utc),
    })
}

const INSERT_CAMPAIGN: &str = "INSERT INTO campaign (state, window_opens, window_closes, \
    window_revision, prepared_source, prepared_tsi, prepared_revision, prepared_opened, last_error, report_spread, \
    update_requests, version, id, digest, epoch, sequence, vendor, classes, firmware_version, not_before, \
    latest_stop, sources, stored_bytes, largest_block, campaign_envelope, manifest_envelope, carousel_url, \
    token_file, group_address, port, created, delivery_methods, bundle_bytes, ask_user, software, software_operation) VALUES \
    (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1 + ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const UPDATE_CAMPAIGN: &str = "UPDATE campaign SET state = ?, window_opens = ?, \
    window_closes = ?, window_revision = ?, prepared_source = ?, prepared_tsi = ?, prepared_revision = ?, \
    prepared_opened = ?, last_error = ?, report_spread = ?, update_requests = ?, version = 1 + ? WHERE id = ? AND version = ?";

/// Writes a campaign over the version that it was read at. Signed content never changes.
pub(super) async fn write_campaign(
    connection: &mut SqliteConnection,
    row: &Campaign,
) -> Result<(), StoreError> {
    let statement = if row.version == 0 { INSERT_CAMPAIGN } else { UPDATE_CAMPAIGN };
    let mut query = sqlx::query(statement)
        .bind(row.state.as_str())
        .bind(row.window.map(|window| int(window.opens.0)))
        .bind(row.window.map(|window| int(window.closes.0)))
        .bind(row.window.map(|window| window.revision))
        .bind(row.prepared.map(|session| session.source.to_string()))
        .bind(row.prepared.map(|session| int(session.tsi.0)))
        .bind(row.prepared.map(|session| session.revision))
        .bind(row.prepared.map(|session| session.opened))
        .bind(&row.last_error)
        .bind(row.report_spread_seconds)
        .bind(row.update_requests.as_str())
        .bind(int(row.version))
        .bind(row.id.to_string());
    query = if row.version > 0 {
        query.bind(int(row.version))
    } else {
        query
            .bind(row.terms.digest.0.to_vec())
            .bind(row.terms.epoch)
            .bind(row.terms.sequence.to_string())
            .bind(row.terms.vendor.to_string())
            .bind(words(&row.terms.classes))
            .bind(&row.terms.firmware_version)
            .bind(int(row.terms.not_before.0))
            .bind(int(row.terms.latest_stop.0))
            .bind(words(&row.terms.sources))
            .bind(int(row.terms.stored_bytes))
            .bind(row.terms.largest_block)
            .bind(&row.documents.campaign)
            .bind(&row.documents.manifest)
            .bind(&row.target.carousel_url)
            .bind(&row.target.token_file)
            .bind(row.target.group.to_string())
            .bind(row.target.port)
            .bind(int(row.created.0))
            .bind(words(&row.delivery.methods))
            .bind(int(row.delivery.bundle_bytes))
            .bind(&row.delivery.ask_user)
            .bind(row.delivery.software.as_ref().map(|software| software.package.to_string()))
            .bind(row.delivery.software.as_ref().map(|software| software.operation.as_str()))
    };
    check_one_row(
        &query.execute(&mut *connection).await.map_err(map_write_error("campaign"))?,
        "campaign",
    )?;
    if row.version == 0 {
        write_documents(connection, row).await?;
    }
    Ok(())
}

async fn write_documents(
    connection: &mut SqliteConnection,
    row: &Campaign,
) -> Result<(), StoreError> {
    for (component, header) in &row.documents.plan_headers {
        sqlx::query("INSERT INTO plan_header (campaign, component, header) VALUES (?, ?, ?)")
            .bind(row.id.to_string())
            .bind(component.0)
            .bind(header)
            .execute(&mut *connection)
            .await
            .map_err(map_write_error("plan header"))?;
    }
    for (version, envelope) in &row.documents.roots {
        sqlx::query("INSERT INTO root_envelope (campaign, version, envelope) VALUES (?, ?, ?)")
            .bind(row.id.to_string())
            .bind(int(*version))
            .bind(envelope)
            .execute(&mut *connection)
            .await
            .map_err(map_write_error("root"))?;
    }
    Ok(())
}

/// Reads a campaign without its plan headers and roots, which are in tables of their own.
pub(super) fn read_campaign(row: &SqliteRow) -> Result<Campaign, StoreError> {
    let window = match optional(row, "window_opens")? {
        Some(opens) => Some(Window {
            opens: Utc(opens),
            closes: utc(row, "window_closes")?,
            revision: number(row, "window_revision")?,
        }),
        None => None,
    };
    let prepared = match optional(row, "prepared_tsi")? {
        Some(tsi) => Some(PreparedSession {
            source: parsed(row, "prepared_source")?,
            tsi: Tsi(tsi),
            revision: number(row, "prepared_revision")?,
            opened: get(row, "prepared_opened")?,
        }),
        None => None,
    };
    Ok(Campaign {
        id: parsed(row, "id")?,
        version: unsigned(row, "version")?,
        terms: SignedTerms {
            digest: Digest(array(row, "digest")?),
            epoch: number(row, "epoch")?,
            sequence: parsed(row, "sequence")?,
            vendor: parsed(row, "vendor")?,
            classes: list(row, "classes")?,
            firmware_version: get(row, "firmware_version")?,
            not_before: utc(row, "not_before")?,
            latest_stop: utc(row, "latest_stop")?,
            sources: list(row, "sources")?,
            stored_bytes: unsigned(row, "stored_bytes")?,
            largest_block: number(row, "largest_block")?,
        },
        documents: SignedDocuments {
            campaign: get(row, "campaign_envelope")?,
            manifest: get(row, "manifest_envelope")?,
            roots: std::collections::BTreeMap::new(),
            plan_headers: std::collections::BTreeMap::new(),
        },
        target: BroadcastTarget {
            carousel_url: get(row, "carousel_url")?,
            token_file: get(row, "token_file")?,
            group: parsed(row, "group_address")?,
            port: number(row, "port")?,
        },
        delivery: Delivery {
            methods: list(row, "delivery_methods")?,
            bundle_bytes: unsigned(row, "bundle_bytes")?,
            ask_user: get(row, "ask_user")?,
            software: match optional_parsed(row, "software")? {
                Some(package) => {
                    Some(Software { package, operation: parsed(row, "software_operation")? })
                }
                None => None,
            },
        },
        report_spread_seconds: number(row, "report_spread")?,
        update_requests: parsed(row, "update_requests")?,
        state: parsed(row, "state")?,
        window,
        prepared,
        last_error: get(row, "last_error")?,
        created: utc(row, "created")?,
    })
}

const INSERT_ATTEMPT: &str = "INSERT INTO arming (correlator, delivery_method, phase, armed_revision, result_code, \
    reason, read_back, updated, version, device, campaign, attempt) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1 + ?, ?, ?, ?)";

const UPDATE_ATTEMPT: &str = "UPDATE arming SET correlator = ?, delivery_method = ?, phase = ?, armed_revision = ?, \
    result_code = ?, reason = ?, read_back = ?, updated = ?, version = 1 + ? \
    WHERE device = ? AND campaign = ? AND attempt = ? AND version = ?";

/// Writes an attempt over the version that it was read at.
pub(super) async fn write_attempt(
    connection: &mut SqliteConnection,
    row: &ArmingAttempt,
) -> Result<(), StoreError> {
    let statement = if row.version == 0 { INSERT_ATTEMPT } else { UPDATE_ATTEMPT };
    let mut query = sqlx::query(statement)
        .bind(&row.correlator.0)
        .bind(row.delivery_method.as_str())
        .bind(row.phase.as_str())
        .bind(row.armed_revision)
        .bind(row.result_code)
        .bind(&row.reason)
        .bind(&row.read_back)
        .bind(int(row.updated.0))
        .bind(int(row.version))
        .bind(row.device.as_str())
        .bind(row.campaign.to_string())
        .bind(row.attempt);
    if row.version > 0 {
        query = query.bind(int(row.version));
    }
    check_one_row(&query.execute(connection).await.map_err(map_write_error("attempt"))?, "attempt")
}

/// Reads an attempt.
pub(super) fn read_attempt(row: &SqliteRow) -> Result<ArmingAttempt, StoreError> {
    Ok(ArmingAttempt {
        device: parsed(row, "device")?,
        campaign: parsed(row, "campaign")?,
        attempt: number(row, "attempt")?,
        version: unsigned(row, "version")?,
        correlator: Correlator(get(row, "correlator")?),
        delivery_method: parsed(row, "delivery_method")?,
        phase: parsed(row, "phase")?,
        armed_revision: number(row, "armed_revision")?,
        result_code: optional(row, "result_code")?,
        reason: get(row, "reason")?,
        read_back: get(row, "read_back")?,
        updated: utc(row, "updated")?,
    })
}

static APPEND: LazyLock<BatchTexts> = LazyLock::new(|| {
    BatchTexts::new(7, |values| {
        format!(
            "INSERT INTO audit (number, at, actor, action, subject, detail, seal) \
             SELECT * FROM ({values}) WHERE column1 IS NOT NULL"
        )
    })
});

/// Appends at most [`BATCH`] lines to the log.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    lines: &[AuditLine],
) -> Result<(), StoreError> {
    let query = lines.iter().fold(sqlx::query(APPEND.of(lines.len())), |query, line| {
        query
            .bind(int(line.number))
            .bind(int(line.at.0))
            .bind(&line.actor)
            .bind(&line.action)
            .bind(&line.subject)
            .bind(&line.detail)
            .bind(line.seal.0.as_slice())
    });
    query.execute(connection).await.map_err(map_write_error("log"))?;
    Ok(())
}

/// Reads a line of the log.
pub(super) fn read_line(row: &SqliteRow) -> Result<AuditLine, StoreError> {
    Ok(AuditLine {
        number: unsigned(row, "number")?,
        at: utc(row, "at")?,
        actor: get(row, "actor")?,
        action: get(row, "action")?,
        subject: get(row, "subject")?,
        detail: get(row, "detail")?,
        seal: Digest(array(row, "seal")?),
    })
}
