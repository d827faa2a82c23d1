//! Tests of the columns: each is written and read with a value that no other column of its row has,
//! so that two swapped values are noticed.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use proto::{
    crypto::Digest,
    dm::{
        auth::{AuthKind, Secret},
        scomo::Operation,
    },
    ids::{ClassId, Correlator, Tsi, VendorId},
    time::Utc,
};
use sqlx::Row as _;

use super::super::{KEYS, SqliteStore};
use crate::{
    campaign::{
        model::{
            Campaign, CampaignState, Delivery, DeliveryMethod, PreparedSession, Software, Window,
            samples,
        },
        update_requests::UpdateRequestPolicy,
    },
    fleet::{
        attempt::{ArmingAttempt, ArmingPhase, AttemptMark},
        audit::{Actor, Audit},
        components::Components,
        device::{
            AccountTerms, Device, DeviceAuth, DeviceNonce, FirmwareObject, Nonce,
            ServerCredentials, SuspendCommand,
        },
        package_secret::PackageSecret,
        policy::DesiredPolicy,
        profile::Profile,
        store::{Change, FleetStore as _},
        store_tests,
    },
    shell::store::key_file::KeyFile,
};

async fn open(folder: &Path) -> SqliteStore {
    let keys = KeyFile::from_path(&folder.join(KEYS));
    SqliteStore::open(&folder.join("fleet.db"), keys).await.unwrap()
}

async fn put(store: &SqliteStore, change: impl Into<Change>) {
    let (subject, detail) = ("a subject".to_owned(), "a detail".to_owned());
    let audit = Audit { actor: Actor::Operator, action: "test.change", subject, detail };
    store.apply(Utc(77), audit, vec![change.into()]).await.unwrap();
}

/// Asserts that each column of the only row of a table has a value, and that no two are the same.
async fn assert_distinct(store: &SqliteStore, table: &str) {
    let columns: Vec<String> =
        sqlx::query_scalar("SELECT name FROM pragma_table_info(?) WHERE name <> 'number'")
            .bind(table)
            .fetch_all(store.pool.raw())
            .await
            .unwrap();
    let quoted: Vec<_> = columns.iter().map(|column| format!("quote({column})")).collect();
    let select = format!("SELECT {} FROM {table}", quoted.join(", "));
    let row = sqlx::query(&select).fetch_one(store.pool.raw()).await.unwrap();
    let mut found = BTreeMap::new();
    for (at, column) in columns.iter().enumerate() {
        let value: String = row.get(at);
        assert_ne!(value, "NULL", "{table}.{column}");
        if let Some(other) = found.insert(value, column) {
            panic!("{table}.{column} and {table}.{other} have one value");
        }
    }
}

#[tokio::test]
async fn each_column_of_a_campaign_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let mut row = campaign();
    put(&store, row.clone()).await;
    row.version = 1;
    assert_distinct(&store, "campaign").await;
    assert_eq!(store.campaign(row.id).await.unwrap().unwrap(), row);

    row = Campaign {
        report_spread_seconds: 61,
        update_requests: UpdateRequestPolicy::Later,
        state: CampaignState::Stopping,
        window: Some(Window { opens: Utc(1_101), closes: Utc(1_102), revision: 103 }),
        prepared: Some(PreparedSession {
            source: IpAddr::from([192, 0, 2, 104]),
            tsi: Tsi(105),
            revision: 106,
            opened: true,
        }),
        last_error: Some("another error".to_owned()),
        ..row
    };
    put(&store, row.clone()).await;
    row.version = 2;
    assert_distinct(&store, "campaign").await;
    assert_eq!(store.campaign(row.id).await.unwrap().unwrap(), row);
}

fn campaign() -> Campaign {
    let mut row = samples::running();
    row.terms.digest = Digest([9; 32]);
    row.terms.epoch = 21;
    row.terms.sequence = u64::MAX;
    row.documents.campaign = vec![1; 30];
    row.documents.manifest = vec![2; 30];
    row.delivery = Delivery {
        methods: vec![DeliveryMethod::Direct, DeliveryMethod::Broadcast],
        bundle_bytes: 22,
        ask_user: Some("Update?".to_owned()),
        software: Some(Software {
            package: "org.example.player".parse().unwrap(),
            operation: Operation::DownloadInstallInactive,
        }),
    };
    row.window = Some(Window { opens: Utc(1_001), closes: Utc(1_002), revision: 23 });
    row.prepared = Some(PreparedSession {
        source: IpAddr::from([192, 0, 2, 24]),
        tsi: Tsi(25),
        revision: 26,
        opened: false,
    });
    row.last_error = Some("an error".to_owned());
    row
}

#[tokio::test]
async fn each_column_of_an_attempt_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let correlator = Correlator("c-1".to_owned());
    let (device, campaign) = ("a".parse().unwrap(), samples::running().id);
    let mut row = ArmingAttempt {
        delivery_method: DeliveryMethod::Download,
        marks: [AttemptMark::Consent].into(),
        package_secret: Some(PackageSecret::new([1; 16])),
        phase: ArmingPhase::Failed,
        armed_revision: 3,
        result_code: Some(599),
        reason: Some("a reason".to_owned()),
        read_back: Some("2.0".to_owned()),
        ..ArmingAttempt::pending(device, campaign, 4, correlator, Utc(5))
    };
    put(&store, row.clone()).await;
    row.version = 1;
    assert_distinct(&store, "arming").await;
    assert_eq!(store.device_attempts(&row.device).await.unwrap(), [row.clone()]);

    row = ArmingAttempt {
        correlator: Correlator("c-2".to_owned()),
        delivery_method: DeliveryMethod::Direct,
        marks: AttemptMark::ALL.into(),
        package_secret: Some(PackageSecret::new([2; 16])),
        phase: ArmingPhase::Missed,
        armed_revision: 8,
        result_code: Some(598),
        reason: Some("another reason".to_owned()),
        read_back: Some("3.0".to_owned()),
        updated: Utc(6),
        ..row
    };
    put(&store, row.clone()).await;
    row.version = 2;
    assert_distinct(&store, "arming").await;
    assert_eq!(store.device_attempts(&row.device).await.unwrap(), [row]);
}

#[tokio::test]
async fn each_column_of_a_device_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let mut row = store_tests::device("a");
    row.auth.user = "user of a".to_owned();
    row.account = AccountTerms {
        server_id: "server of a".to_owned(),
        server_kind: AuthKind::Basic,
        certificate: Some(Digest([0xce; 32])),
        has_weak_password: true,
    };
    let server = Secret::for_kind(AuthKind::Basic, "server of a", "password of a server");
    row.server = row.server.map(|it| ServerCredentials { secret: server.into(), ..it });
    row.last_seen = Some(Utc(1_235));
    put(&store, row.clone()).await;
    row.version = 1;
    assert_distinct(&store, "device").await;
    assert_eq!(store.device_with_secrets(&row.id).await.unwrap().unwrap(), row);

    row = other_device(&row);
    put(&store, row.clone()).await;
    row.version = 2;
    assert_distinct(&store, "device").await;
    assert_eq!(store.device_with_secrets(&row.id).await.unwrap().unwrap(), row);
}

/// Returns the stored device with every field but its id changed.
fn other_device(row: &Device) -> Device {
    let mut policy = DesiredPolicy::default();
    policy.set("install=on-command".parse().unwrap(), Utc(2_001));
    Device {
        id: row.id.clone(),
        version: 1,
        manufacturer: "another manufacturer".to_owned(),
        model: "another model".to_owned(),
        vendor: VendorId([31; 16]),
        class: ClassId([32; 16]),
        url: "http://127.0.0.2/dm".to_owned(),
        object: FirmwareObject::learnt("./Other".to_owned()),
        auth: DeviceAuth {
            kind: AuthKind::Mac,
            user: "another user".to_owned(),
            secret: Secret::new("another user", "secret").into(),
            next_nonce: Some(Nonce([35; 16])),
            challenge_count: 3,
            proved_from: store_tests::proved_from(2, Utc(2_002)),
        },
        account: AccountTerms {
            server_id: "another server".to_owned(),
            server_kind: AuthKind::Transport,
            certificate: Some(Digest([0xcf; 32])),
            has_weak_password: true,
        },
        server: Some(ServerCredentials {
            secret: Secret::new("fumocast", "another secret").into(),
            nonce: DeviceNonce(vec![37; 16]),
        }),
        update_requests: Some(UpdateRequestPolicy::Now),
        profile: Profile { name: "other".to_owned(), ..row.profile.clone() },
        pending_suspension: Some(SuspendCommand::Suspend),
        policy,
        components: Components { read: Some(Utc(2_004)), ..row.components.clone() },
        firmware_version: Some("1.1".to_owned()),
        enrolled: Utc(2_005),
        last_seen: Some(Utc(2_006)),
    }
}

#[tokio::test]
async fn each_column_of_the_log_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    put(&store, store_tests::device("a")).await;
    assert_distinct(&store, "audit").await;
    let log = store.audit_tail(9).await.unwrap();
    assert_eq!(log.len(), 1);
    assert!(log[0].follows(&Digest([0; 32])), "the seal covers all else: {log:?}");
}
