//! Damaged rows: each is marked, and the others go on.

use proto::time::Utc;

use super::*;
use crate::{
    app::{
        PlainHttp,
        campaign_transitions::{self, read_fleet, read_fleet_and_damage},
        campaigns::{self, CreateCampaign, Selection},
        devices::{self, tests::SECRETS},
        message_handler::load,
        status,
    },
    campaign::{
        model::{CampaignParameters, CampaignState, Delivery, samples},
        update_requests::UpdateRequestPolicy,
        verify::tests::{Kit, NOW},
    },
    fleet::{attempt::ArmingPhase, audit::Actor, profile::Profile, store_tests},
};

fn audit() -> Audit {
    Audit {
        actor: Actor::Operator,
        action: "test.change",
        subject: String::new(),
        detail: String::new(),
    }
}

/// Three devices in one of two campaigns; the database is damaged, and opened again.
async fn damaged(folder: &Path, damage: &str) -> SqliteStore {
    let open = async || {
        SqliteStore::open(&folder.join("fleet.db"), KeyFile::from_path(&folder.join(KEYS))).await
    };
    let store = open().await.unwrap();
    let mut second = samples::running();
    second.id = CampaignId([9; 16]);
    let mut changes = vec![samples::running().into(), second.into()];
    for name in ["a", "b", "c"] {
        changes.push(store_tests::device(name).into());
        let correlator = Correlator(name.to_owned());
        let id = samples::running().id;
        changes
            .push(ArmingAttempt::pending(name.parse().unwrap(), id, 1, correlator, Utc(1)).into());
    }
    store.apply(Utc(1), audit(), changes).await.unwrap();
    store.apply(Utc(2), audit(), Vec::new()).await.unwrap();
    sqlx::raw_sql(damage).execute(store.pool.raw()).await.unwrap();
    store.close().await;
    open().await.unwrap()
}

fn keys<T>(rows: &[Listed<T>]) -> Vec<(&str, bool)> {
    rows.iter().map(|row| (row.key.as_str(), row.row.is_ok())).collect()
}

#[tokio::test]
async fn a_damaged_device_is_marked_and_the_others_go_on() {
    for damage in [
        "class = 'nonsense'",
        "policy = '{'",
        "auth = 'none'",
        "last_seen = -5",
        "model = CAST(x'ff' AS TEXT)",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let damage = format!("UPDATE device SET {damage} WHERE id = 'b'");
        let store = damaged(folder.path(), &damage).await;
        let page = store.device_page(None, 10).await.unwrap();
        assert_eq!(keys(&page), [("a", true), ("b", false), ("c", true)], "{damage}");
        let error = page[1].row.as_ref().unwrap_err();
        assert!(error.contains("damaged"), "{error}");
        assert_eq!(store.devices().await.unwrap().len(), 2);
        assert!(store.device(&"b".parse().unwrap()).await.is_err());
        let (profile, _) = Profile::built_in().remove(2);
        let class = store_tests::device("a").class;
        assert_eq!(devices::set_class_profile(&store, Utc(5), class, &profile).await.unwrap(), 2);
        let id = samples::running().id;
        let rows = status::devices_of(&store, id, None, 10).await.unwrap();
        assert_eq!(rows.len(), 3, "{damage}");
        assert_eq!(keys(&rows)[2], ("c", true));
        devices::enrol(&store, Utc(6), devices::tests::enrolment("d"), SECRETS).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_attempt_stops_no_other_of_its_campaign() {
    let folder = tempfile::tempdir().unwrap();
    let damage = "UPDATE arming SET phase = 'nonsense' WHERE device = 'b'";
    let store = damaged(folder.path(), damage).await;
    let id = samples::running().id;
    let rows = status::devices_of(&store, id, None, 10).await.unwrap();
    assert_eq!(keys(&rows), [("a", true), ("b", false), ("c", true)]);
    assert_eq!(store.campaign_attempts(id).await.unwrap().len(), 2);
    campaign_transitions::expire_silent(&store, Utc(5), id).await.unwrap();
    let again = campaign_transitions::expire_silent(&store, Utc(6), id).await.unwrap_err();
    assert!(again.to_string().starts_with("1 attempts"), "it is not tried at once: {again}");
    let view = status::campaign(&store, id).await.unwrap();
    assert_eq!(view.phase_counts, PhaseCounts::from([(ArmingPhase::Unknown, 2)]));
    assert_eq!(store.device_attempts(&"a".parse().unwrap()).await.unwrap().len(), 1);
    assert_eq!(store.device_attempts(&"b".parse().unwrap()).await.unwrap().len(), 0);
    assert!(load(&store, store_tests::device("b")).await.is_ok(), "its DM sessions go on");
}

#[tokio::test]
async fn a_damaged_campaign_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let damage = "UPDATE campaign SET state = 'nonsense' WHERE id LIKE '0909%'";
    let store = damaged(folder.path(), damage).await;
    let (first, second) = (samples::running().id.to_string(), CampaignId([9; 16]).to_string());
    let page = store.campaign_page(None, 10).await.unwrap();
    assert_eq!(keys(&page), [(first.as_str(), true), (second.as_str(), false)]);
    assert_eq!(read_fleet(&store, &[]).await.unwrap().len(), 1);
    let damage = "UPDATE campaign SET state = 'nonsense'";
    sqlx::raw_sql(damage).execute(store.pool.raw()).await.unwrap();
    let context = load(&store, store_tests::device("a")).await.unwrap();
    assert_eq!((context.attempts.len(), context.campaigns.len()), (1, 0), "sessions go on");
    let repair = "UPDATE campaign SET state = 'running' WHERE id NOT LIKE '0909%'";
    sqlx::raw_sql(repair).execute(store.pool.raw()).await.unwrap();
    // One more is created after the damaged one.
    let mut third = samples::running();
    third.id = CampaignId([5; 16]);
    let changes = vec![Change::LastCampaign(Some(second)), third.into()];
    store.apply(Utc(5), audit(), changes).await.unwrap();
    assert_eq!(read_fleet(&store, &[]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_campaign_that_a_damaged_row_may_be_newer_than_is_not_created() {
    // Both stored campaigns have epoch 1 and sequence 5.
    for (damage, sequence, expected) in [
        ("state = 'nonsense'", 4, Err("its sequence, 5, may not be below 4")),
        ("state = 'nonsense'", 5, Err("its sequence, 5, may not be below 5")),
        ("state = 'nonsense'", 6, Ok(())),
        ("sequence = -1", 6, Err("its sequence, unreadable, may not be below 6")),
        ("epoch = -1", 6, Err("its sequence, unreadable, may not be below 6")),
        ("sequence = -1, classes = '09090909090909090909090909090909'", 6, Ok(())),
        ("sequence = -1, vendor = '09090909090909090909090909090909'", 6, Ok(())),
        ("sequence = -1, vendor = 'x', classes = 'y'", 6, Err("unreadable")),
        ("version = -1", 4, Err("its sequence, 5, may not be below 4")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = damaged(folder.path(), &format!("UPDATE campaign SET {damage}")).await;
        let mut kit = Kit::new();
        kit.campaign.id = CampaignId([3; 16]);
        kit.campaign.sequence = sequence;
        let order = CreateCampaign {
            documents: kit.documents(),
            parameters: CampaignParameters {
                target: samples::running().target,
                delivery: Delivery::default(),
                update_requests: UpdateRequestPolicy::Nothing,
            },
            plain_http: PlainHttp::LoopbackOnly,
            selection: Selection::Named(vec!["a".parse().unwrap()]),
            report_spread_seconds: Some(10),
        };
        let created = campaigns::create(&store, NOW, order, &mut || [1; 16]).await;
        match (created, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(text)) => {
                let error = (error.exit_code(), error.to_string());
                assert!(error.0 == 8 && error.1.contains(text), "{damage}: {error:?}");
                assert!(error.1.contains("0707070707") && error.1.contains("backup"), "{error:?}");
            }
            (created, _) => panic!("{damage} {sequence}: {created:?}"),
        }
    }
}

#[tokio::test]
async fn a_damaged_campaign_is_named_whatever_is_damaged() {
    for damage in ["state = 'nonsense'", "version = -1", "window_opens = -5"] {
        let folder = tempfile::tempdir().unwrap();
        let damage = format!("UPDATE campaign SET {damage} WHERE id LIKE '0909%'");
        let store = damaged(folder.path(), &damage).await;
        let (fleet, damaged) = read_fleet_and_damage(&store, &[]).await.unwrap();
        assert_eq!(fleet.len(), 1, "{damage}");
        assert_eq!(damaged.into_keys().collect::<Vec<_>>(), [CampaignId([9; 16])], "{damage}");
    }
}

#[tokio::test]
async fn a_damaged_line_of_the_log_is_marked_and_the_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = damaged(folder.path(), "UPDATE audit SET seal = x'00' WHERE number = 2").await;
    let page = store.audit_page(0, 10).await.unwrap();
    assert_eq!(keys(&page), [("1", true), ("2", false)]);
    for _ in 0..2 {
        store.apply(Utc(5), audit(), Vec::new()).await.unwrap();
    }
    let page = store.audit_page(2, 10).await.unwrap();
    assert_eq!(keys(&page), [("3", true), ("4", true)]);
    let [third, fourth] = [&page[0], &page[1]].map(|row| row.row.as_ref().unwrap());
    assert!(fourth.follows(&third.seal), "from there on it is a chain again");
}

#[tokio::test]
async fn a_look_at_settled_campaigns_is_one_statement() {
    let folder = tempfile::tempdir().unwrap();
    let faults = faults::Faults::default();
    let keys = KeyFile::from_path(&folder.path().join(KEYS));
    let path = folder.path().join("fleet.db");
    let store = SqliteStore::open_with_faults(&path, keys, &faults).await.unwrap();
    let rows = (1..=20).map(|octet| {
        let mut campaign = samples::running();
        campaign.id = CampaignId([octet; 16]);
        campaign.state = CampaignState::Closed;
        campaign.into()
    });
    store.apply(Utc(1), audit(), rows.collect()).await.unwrap();
    let mut fleet = read_fleet(&store, &[]).await.unwrap();
    let mut look = async || {
        faults.plan(None);
        fleet = read_fleet(&store, &fleet).await.unwrap();
        assert_eq!(fleet.len(), 20);
        faults.end().len()
    };
    assert_eq!(look().await, 1);
    let mut changed = store.campaign(CampaignId([3; 16])).await.unwrap().unwrap();
    changed.state = CampaignState::Running;
    store.apply(Utc(2), audit(), vec![changed.into()]).await.unwrap();
    assert_eq!(look().await, 1 + 3 + 1, "the row with its documents, and its counts");
    assert_eq!(look().await, 1 + 1, "its counts");
}
