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
        array, damaged, get, int, list, maybe, moment, nonce, number, optional, parsed, refused,
        unsigned, words, written,
    },
    sealing::{self, Sealer},
};
use crate::{
    campaign::{
        model::{Air, Campaign, Delivery, Papers, Place, Software, Terms, Window},
        on_request::OnRequest,
    },
    fleet::{
        arming::Arming,
        audit::AuditLine,
        components::Components,
        device::{Challenge, Device, DeviceAuth, DeviceNonce, Rest, ServerProof},
        policy::PolicyOrders,
        profile::Profile,
        store::StoreError,
    },
    shell::store::key_file::KeyFile,
};

/// Rows that one statement writes, at most.
pub(super) const BATCH: usize = 128;

/// What may change of a device.
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
    "on_request",
    "profile",
    "quirks",
    "rest",
    "components",
    "policy",
];

type Bound<'q> = Query<'q, Sqlite, SqliteArguments<'q>>;

/// Binds id, version and what may change.
fn bind_device<'q>(query: Bound<'q>, row: &'q Device, sealer: Option<&Sealer>) -> Bound<'q> {
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
        .bind(row.on_request.map(OnRequest::word))
        .bind(&row.profile.name)
        .bind(words(row.profile.quirks.iter()))
        .bind(row.rest.map(Rest::word))
        .bind(components(&row.components))
        .bind(policy(&row.policy))
}

/// Most devices have none.
fn components(components: &Components) -> Option<String> {
    let is_known = *components != Components::default();
    is_known.then(|| serde_json::to_string(components).expect("our own types have string keys"))
}

fn read_components(row: &SqliteRow) -> Result<Components, StoreError> {
    let Some(text) = get::<Option<String>>(row, "components")? else {
        return Ok(Components::default());
    };
    serde_json::from_str(&text).map_err(|error| damaged("components")(error.to_string()))
}

/// Most devices have none.
fn policy(policy: &PolicyOrders) -> Option<String> {
    let is_set = !policy.is_empty();
    is_set.then(|| serde_json::to_string(policy).expect("nodes are string keys"))
}

fn read_policy(row: &SqliteRow) -> Result<PolicyOrders, StoreError> {
    let Some(text) = get::<Option<String>>(row, "policy")? else {
        return Ok(PolicyOrders::default());
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
    written(&query.execute(connection).await.map_err(refused("device"))?, "device")
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
    let set = (3..).zip(DEVICE).map(|(place, column)| match column {
        "secret" | "server_secret" => {
            format!("{column} = COALESCE(new.column{place}, device.{column})")
        }
        _ => format!("{column} = new.column{place}"),
    });
    let set = set.collect::<Vec<_>>().join(", ");
    BatchTexts::new(2 + DEVICE.len(), |values| {
        format!(
            "UPDATE device SET version = 1 + new.column2, {set} FROM ({values}) AS new \
             WHERE id = new.column1 AND version = new.column2"
        )
    })
});

/// Writes at most [`BATCH`] devices, each over the version that it was read at; returns how many
/// of them had it still.
pub(super) async fn update_devices(
    connection: &mut SqliteConnection,
    rows: &[&Device],
    sealer: Option<&Sealer>,
) -> Result<u64, StoreError> {
    let query = sqlx::query(UPDATE_DEVICES.of(rows.len()));
    let query = rows.iter().fold(query, |query, row| bind_device(query, row, sealer));
    let result = query.execute(connection).await.map_err(refused("device"))?;
    Ok(result.rows_affected())
}

/// One statement for each power of two up to [`BATCH`]: few texts are prepared, once. The values
/// that are left over are not bound, which makes them NULL.
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
            made: moment(row, "challenge_made")?,
        }),
        None => None,
    };
    let server_nonce: Option<Vec<u8>> = get(row, "server_nonce")?;
    let proof = |(secret, nonce)| ServerProof { secret, nonce: DeviceNonce(nonce) };
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
            failing_since: moment(row, "failing_since")?,
        },
        server: server_secret.zip(server_nonce).map(proof),
        on_request: maybe(row, "on_request")?,
        profile: Profile {
            name: get(row, "profile")?,
            quirks: list(row, "quirks")?.into_iter().collect(),
        },
        rest: maybe(row, "rest")?,
        policy: read_policy(row)?,
        components: read_components(row)?,
        firmware_version: get(row, "firmware_version")?,
        enrolled: moment(row, "enrolled")?,
        last_seen: optional(row, "last_seen")?.map(Utc),
    })
}

const INSERT_CAMPAIGN: &str = "INSERT INTO campaign (state, window_opens, window_closes, \
    window_revision, air_source, air_tsi, air_revision, air_opened, problem, report_spread, \
    on_request, version, id, digest, epoch, sequence, vendor, classes, firmware_version, not_before, \
    latest_stop, sources, stored_bytes, largest_block, campaign_paper, manifest_paper, carousel_url, \
    token_file, group_address, port, created, ways, bundle_octets, ask_user, software, software_operation) VALUES \
    (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1 + ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const UPDATE_CAMPAIGN: &str = "UPDATE campaign SET state = ?, window_opens = ?, \
    window_closes = ?, window_revision = ?, air_source = ?, air_tsi = ?, air_revision = ?, \
    air_opened = ?, problem = ?, report_spread = ?, on_request = ?, version = 1 + ? WHERE id = ? AND version = ?";

/// Writes a campaign over the version that it was read at. What was signed never changes.
pub(super) async fn write_campaign(
    connection: &mut SqliteConnection,
    row: &Campaign,
) -> Result<(), StoreError> {
    let statement = if row.version == 0 { INSERT_CAMPAIGN } else { UPDATE_CAMPAIGN };
    let mut query = sqlx::query(statement)
        .bind(row.state.word())
        .bind(row.window.map(|window| int(window.opens.0)))
        .bind(row.window.map(|window| int(window.closes.0)))
        .bind(row.window.map(|window| window.revision))
        .bind(row.air.map(|air| air.source.to_string()))
        .bind(row.air.map(|air| int(air.tsi.0)))
        .bind(row.air.map(|air| air.revision))
        .bind(row.air.map(|air| air.opened))
        .bind(&row.problem)
        .bind(row.report_spread_seconds)
        .bind(row.on_request.word())
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
            .bind(&row.papers.campaign)
            .bind(&row.papers.manifest)
            .bind(&row.place.carousel_url)
            .bind(&row.place.token_file)
            .bind(row.place.group.to_string())
            .bind(row.place.port)
            .bind(int(row.created.0))
            .bind(words(&row.delivery.ways))
            .bind(int(row.delivery.bundle_octets))
            .bind(&row.delivery.ask_user)
            .bind(row.delivery.software.as_ref().map(|software| software.package.to_string()))
            .bind(row.delivery.software.as_ref().map(|software| software.operation.as_str()))
    };
    written(&query.execute(&mut *connection).await.map_err(refused("campaign"))?, "campaign")?;
    if row.version == 0 {
        write_papers(connection, row).await?;
    }
    Ok(())
}

async fn write_papers(connection: &mut SqliteConnection, row: &Campaign) -> Result<(), StoreError> {
    for (component, header) in &row.papers.plan_headers {
        sqlx::query("INSERT INTO plan_header (campaign, component, header) VALUES (?, ?, ?)")
            .bind(row.id.to_string())
            .bind(component.0)
            .bind(header)
            .execute(&mut *connection)
            .await
            .map_err(refused("plan header"))?;
    }
    for (version, envelope) in &row.papers.roots {
        sqlx::query("INSERT INTO root_paper (campaign, version, envelope) VALUES (?, ?, ?)")
            .bind(row.id.to_string())
            .bind(int(*version))
            .bind(envelope)
            .execute(&mut *connection)
            .await
            .map_err(refused("root"))?;
    }
    Ok(())
}

/// Reads a campaign, but for its plan headers and roots, which lie in tables of their own.
pub(super) fn read_campaign(row: &SqliteRow) -> Result<Campaign, StoreError> {
    let window = match optional(row, "window_opens")? {
        Some(opens) => Some(Window {
            opens: Utc(opens),
            closes: moment(row, "window_closes")?,
            revision: number(row, "window_revision")?,
        }),
        None => None,
    };
    let air = match optional(row, "air_tsi")? {
        Some(tsi) => Some(Air {
            source: parsed(row, "air_source")?,
            tsi: Tsi(tsi),
            revision: number(row, "air_revision")?,
            opened: get(row, "air_opened")?,
        }),
        None => None,
    };
    Ok(Campaign {
        id: parsed(row, "id")?,
        version: unsigned(row, "version")?,
        terms: Terms {
            digest: Digest(array(row, "digest")?),
            epoch: number(row, "epoch")?,
            sequence: parsed(row, "sequence")?,
            vendor: parsed(row, "vendor")?,
            classes: list(row, "classes")?,
            firmware_version: get(row, "firmware_version")?,
            not_before: moment(row, "not_before")?,
            latest_stop: moment(row, "latest_stop")?,
            sources: list(row, "sources")?,
            stored_bytes: unsigned(row, "stored_bytes")?,
            largest_block: number(row, "largest_block")?,
        },
        papers: Papers {
            campaign: get(row, "campaign_paper")?,
            manifest: get(row, "manifest_paper")?,
            roots: std::collections::BTreeMap::new(),
            plan_headers: std::collections::BTreeMap::new(),
        },
        place: Place {
            carousel_url: get(row, "carousel_url")?,
            token_file: get(row, "token_file")?,
            group: parsed(row, "group_address")?,
            port: number(row, "port")?,
        },
        delivery: Delivery {
            ways: list(row, "ways")?,
            bundle_octets: unsigned(row, "bundle_octets")?,
            ask_user: get(row, "ask_user")?,
            software: match maybe(row, "software")? {
                Some(package) => {
                    Some(Software { package, operation: parsed(row, "software_operation")? })
                }
                None => None,
            },
        },
        report_spread_seconds: number(row, "report_spread")?,
        on_request: parsed(row, "on_request")?,
        state: parsed(row, "state")?,
        window,
        air,
        problem: get(row, "problem")?,
        created: moment(row, "created")?,
    })
}

const INSERT_ARMING: &str = "INSERT INTO arming (correlator, way, phase, armed_revision, result_code, \
    reason, read_back, updated, version, device, campaign, attempt) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1 + ?, ?, ?, ?)";

const UPDATE_ARMING: &str = "UPDATE arming SET correlator = ?, way = ?, phase = ?, armed_revision = ?, \
    result_code = ?, reason = ?, read_back = ?, updated = ?, version = 1 + ? \
    WHERE device = ? AND campaign = ? AND attempt = ? AND version = ?";

/// Writes an arming over the version that it was read at.
pub(super) async fn write_arming(
    connection: &mut SqliteConnection,
    row: &Arming,
) -> Result<(), StoreError> {
    let statement = if row.version == 0 { INSERT_ARMING } else { UPDATE_ARMING };
    let mut query = sqlx::query(statement)
        .bind(&row.correlator.0)
        .bind(row.way.word())
        .bind(row.phase.word())
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
    written(&query.execute(connection).await.map_err(refused("arming"))?, "arming")
}

/// Reads an arming.
pub(super) fn read_arming(row: &SqliteRow) -> Result<Arming, StoreError> {
    Ok(Arming {
        device: parsed(row, "device")?,
        campaign: parsed(row, "campaign")?,
        attempt: number(row, "attempt")?,
        version: unsigned(row, "version")?,
        correlator: Correlator(get(row, "correlator")?),
        way: parsed(row, "way")?,
        phase: parsed(row, "phase")?,
        armed_revision: number(row, "armed_revision")?,
        result_code: optional(row, "result_code")?,
        reason: get(row, "reason")?,
        read_back: get(row, "read_back")?,
        updated: moment(row, "updated")?,
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
    query.execute(connection).await.map_err(refused("log"))?;
    Ok(())
}

/// Reads a line of the log.
pub(super) fn read_line(row: &SqliteRow) -> Result<AuditLine, StoreError> {
    Ok(AuditLine {
        number: unsigned(row, "number")?,
        at: moment(row, "at")?,
        actor: get(row, "actor")?,
        action: get(row, "action")?,
        subject: get(row, "subject")?,
        detail: get(row, "detail")?,
        seal: Digest(array(row, "seal")?),
    })
}
