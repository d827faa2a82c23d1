use std::path::Path;

use proto::{
    crypto::Digest,
    dm::{
        policy::PolicyNode,
        scomo::{Branch, ComponentState, Operation},
    },
    ids::Correlator,
    time::Utc,
};
use sqlx::{Connection as _, SqliteConnection, raw_sql};

use super::{super::SqliteStore, MIGRATIONS};
use crate::{
    campaign::{
        model::{DeliveryMethod, samples},
        update_requests::UpdateRequestPolicy,
    },
    fleet::{
        attempt::ArmingPhase,
        audit::{Actor, Audit, AuditLine},
        components::OperationState,
        device::{Device, Nonce, SuspendCommand},
        store::FleetStore as _,
        store_tests,
    },
    shell::store::key_file::KeyFile,
};

async fn open(folder: &Path) -> SqliteStore {
    let keys = KeyFile::from_path(&folder.join("fleet.keys"));
    SqliteStore::open(&folder.join("fleet.db"), keys).await.unwrap()
}

async fn connect(folder: &Path) -> SqliteConnection {
    let url = format!("sqlite://{}?mode=rwc", folder.join("fleet.db").display());
    SqliteConnection::connect(&url).await.unwrap()
}

/// The rows of a fleet, as a program of schema version 13 has written them.
const ROWS_13: &str = r#"
    INSERT INTO sealing_key (id) SELECT id FROM latest.sealing_key;
    INSERT INTO device (id, version, manufacturer, model, vendor, class, url, object, user, secret,
        next_nonce, challenge_nonce, challenge_session, challenge_made, failures, failing_since,
        enrolled, auth, on_request, profile, quirks, rest, components, policy)
    SELECT id, 3, 'maker', 'model', vendor, class, 'http://127.0.0.1/dm', './FwUpdate/Main', user,
        secret, x'05050505050505050505050505050505', x'06060606060606060606060606060606', '1A', 6,
        5, 6, 7, 'md5', 'later', 'minimal', 'no-atomic', 'suspend',
        '{"wanted":true,"read":7,"refused":"425","held":[{"branch":"deployed","node":"n","id":"b","package":"pkg","name":"player \"2\"","version":null,"state":"inactive"}],"works":[{"correlator":"w-1","operation":"deactivate","id":"b","phase":"failed","result_code":1410,"reason":"r","updated":8},{"correlator":"w-2","operation":"remove","id":"c","phase":"waiting","result_code":null,"reason":null,"updated":9}]}',
        '{"install":{"value":"on-command","answer":200,"updated":8},"call":{"value":"ignore","answer":null,"updated":9}}'
    FROM latest.device WHERE id = 'full';
    INSERT INTO device (id, version, manufacturer, model, vendor, class, url, object, user, secret,
        failures, failing_since, enrolled, auth)
    SELECT id, 1, '', '', vendor, class, '', '', user, secret, 0, 0, 7, 'md5'
    FROM latest.device WHERE id = 'plain';
    INSERT INTO campaign (id, version, digest, epoch, sequence, vendor, classes, firmware_version,
        not_before, latest_stop, sources, stored_bytes, largest_block, campaign_paper,
        manifest_paper, carousel_url, token_file, group_address, port, report_spread, state,
        window_opens, window_closes, window_revision, air_source, air_tsi, air_revision, air_opened,
        problem, created, on_request, ways, bundle_octets, ask_user)
    SELECT id, 4, digest, epoch, sequence, vendor, classes, firmware_version, not_before,
        latest_stop, sources, stored_bytes, largest_block, campaign_envelope, manifest_envelope,
        carousel_url, token_file, group_address, port, report_spread, state, window_opens,
        window_closes, window_revision, prepared_source, prepared_tsi, prepared_revision,
        prepared_opened, 'no answer', created, 'now', 'broadcast download', 300, 'Update?'
    FROM latest.campaign;
    INSERT INTO plan_header SELECT * FROM latest.plan_header;
    INSERT INTO root_paper SELECT * FROM latest.root_envelope;
    INSERT INTO arming (device, campaign, attempt, version, correlator, way, phase, armed_revision,
        updated)
    SELECT 'full', id, 1, 2, 'c-1', 'broadcast', 'unicast-needed', 0, 5 FROM latest.campaign
    UNION SELECT 'full', id, 2, 2, 'c-2', 'download', 'contradicted', 1, 6 FROM latest.campaign
    UNION SELECT 'plain', id, 1, 1, 'c-3', 'broadcast', 'armed', 1, 6 FROM latest.campaign;
    INSERT INTO audit SELECT * FROM latest.audit;
    PRAGMA user_version = 13;
"#;

/// Makes a database of schema version 13, whose secrets are sealed with the key file beside it.
async fn version_13(folder: &Path) -> AuditLine {
    let other = tempfile::tempdir().unwrap();
    let latest = open(other.path()).await;
    let audit = Audit {
        actor: Actor::Operator,
        action: "device.rest",
        subject: "full".to_owned(),
        detail: "suspend".to_owned(),
    };
    let [full, plain] = ["full", "plain"].map(store_tests::device);
    let rows = vec![full.into(), plain.into(), samples::running().into()];
    latest.apply(Utc(1), audit, rows).await.unwrap();
    let line = latest.audit_tail(1).await.unwrap().remove(0);
    let copy = format!("VACUUM INTO '{}'", folder.join("latest.db").display());
    raw_sql(&copy).execute(latest.pool.raw()).await.unwrap();
    std::fs::copy(other.path().join("fleet.keys"), folder.join("fleet.keys")).unwrap();
    let mut connection = connect(folder).await;
    for migration in &MIGRATIONS[..13] {
        raw_sql(migration).execute(&mut connection).await.unwrap();
    }
    raw_sql("ALTER TABLE device DROP COLUMN server_password")
        .execute(&mut connection)
        .await
        .unwrap();
    let attach = format!("ATTACH '{}' AS latest", folder.join("latest.db").display());
    raw_sql(&attach).execute(&mut connection).await.unwrap();
    raw_sql(ROWS_13).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    line
}

#[tokio::test]
async fn a_database_of_version_13_is_migrated_with_all_rows() {
    let folder = tempfile::tempdir().unwrap();
    let line = version_13(folder.path()).await;
    // The second time nothing is left to migrate.
    for _ in 0..2 {
        let store = open(folder.path()).await;
        let devices = store.devices().await.unwrap();
        let [full, plain] = &devices[..] else { panic!("{devices:?}") };
        check_device(&store.device_with_secrets(&full.id).await.unwrap().unwrap());
        assert_eq!((plain.pending_suspension, plain.update_requests), (None, None));
        assert!(plain.policy.is_empty() && plain.components.operations.is_empty());

        let sample = samples::running();
        let campaign = store.campaign(sample.id).await.unwrap().unwrap();
        assert_eq!(campaign.documents, sample.documents);
        assert_eq!((campaign.prepared, campaign.window), (sample.prepared, sample.window));
        assert_eq!(campaign.last_error.as_deref(), Some("no answer"));
        assert_eq!(campaign.update_requests, UpdateRequestPolicy::Now);
        let methods = [DeliveryMethod::Broadcast, DeliveryMethod::Download];
        assert_eq!(
            (&campaign.delivery.methods[..], campaign.delivery.bundle_bytes),
            (&methods[..], 300)
        );

        let attempts = store.device_attempts(&full.id).await.unwrap();
        let phases: Vec<_> = attempts.iter().map(|it| (it.delivery_method, it.phase)).collect();
        let expected = [
            (DeliveryMethod::Broadcast, ArmingPhase::NeedsUnicast),
            (DeliveryMethod::Download, ArmingPhase::VersionMismatch),
        ];
        assert_eq!(phases, expected);
        assert_eq!(store.campaign_attempts(sample.id).await.unwrap().len(), 2);

        // A line of the log keeps its words: they are part of its seal.
        let log = store.audit_tail(9).await.unwrap();
        assert_eq!(log, std::slice::from_ref(&line));
        assert!(log[0].follows(&Digest([0; 32])));
        store.close().await;
    }
}

fn check_device(device: &Device) {
    assert_eq!(device.auth.secret, store_tests::device("full").auth.secret);
    // A device that was locked out, with the nonce for its next session.
    assert_eq!((&device.auth.next_nonce, device.auth.challenge_count), (&Some(Nonce([5; 16])), 0));
    assert_eq!(device.pending_suspension, Some(SuspendCommand::Suspend));
    assert_eq!(device.update_requests, Some(UpdateRequestPolicy::Later));
    let policy: Vec<_> = device.policy.iter().map(|(node, it)| (node, it.status)).collect();
    let mut expected = [(PolicyNode::Install, Some(200)), (PolicyNode::Call, None)];
    expected.sort_unstable();
    assert_eq!(policy, expected);
    let components = &device.components;
    assert!(components.refresh_requested);
    assert_eq!((components.read, components.refused.as_deref()), (Some(Utc(7)), Some("425")));
    let [entry] = &components.inventory[..] else { panic!("{components:?}") };
    assert_eq!((entry.branch, entry.state), (Branch::Deployed, Some(ComponentState::Inactive)));
    assert_eq!(entry.name.as_deref(), Some("player \"2\""));
    let [first, second] = &components.operations[..] else { panic!("{components:?}") };
    assert_eq!((first.operation, first.state), (Operation::Deactivate, OperationState::Failed));
    assert_eq!((first.result_code, first.updated), (Some(1410), Utc(8)));
    assert_eq!(second.correlator, Correlator("w-2".to_owned()));
    assert_eq!((second.state, second.result_code), (OperationState::Waiting, None));
}
