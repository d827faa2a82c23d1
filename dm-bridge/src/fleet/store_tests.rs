//! The test-suite that every store passes.

use proto::{
    crypto::Digest,
    dm::{
        auth::{AuthKind, Secret},
        code::StatusCode,
        scomo::{Branch, ComponentState, Operation},
    },
    ids::{CampaignId, ClassId, Correlator, DeviceId, VendorId},
    peer::PeerNetwork,
    time::Utc,
};

use super::{
    address::ProvedFrom,
    attempt::{ArmingAttempt, ArmingPhase},
    audit::{Actor, Audit},
    components::{ComponentOperation, Components, InventoryEntry, OperationState},
    device::{
        AccountTerms, DEFAULT_FUMO_OBJECT, Device, DeviceAuth, DeviceNonce, FirmwareObject, Nonce,
        ServerCredentials, SuspendCommand,
    },
    package_secret::PackageSecret,
    policy::DesiredPolicy,
    profile::{Profile, Quirk},
    store::{Change, FleetStore, StoreError},
};
use crate::campaign::{
    model::{Campaign, CampaignState, PreparedSession, Software, Window, samples},
    update_requests::UpdateRequestPolicy,
};

/// Runs the whole suite, each part on an empty store.
pub(crate) async fn run<S, F, R>(empty: F)
where
    S: FleetStore,
    F: Fn() -> R,
    R: Future<Output = S>,
{
    rows_are_read_as_they_were_written(&empty().await).await;
    a_row_changes_only_from_the_version_it_was_read_at(&empty().await).await;
    a_batch_is_made_as_a_whole_or_not_at_all(&empty().await).await;
    every_change_leaves_one_sealed_line(&empty().await).await;
    no_two_attempts_share_a_correlator(&empty().await).await;
    the_latest_attempt_of_a_device_counts(&empty().await).await;
    campaigns_come_in_the_order_of_creation(&empty().await).await;
    a_campaign_is_added_after_the_last_one_that_was_read(&empty().await).await;
    lists_come_in_pages(&empty().await).await;
    missing_rows_are_none(&empty().await).await;
    a_day_has_one_challenge_key(&empty().await).await;
    a_user_of_hmac_has_one_device(&empty().await).await;
}

/// Returns an enrolled device with every field set.
pub(crate) fn device(name: &str) -> Device {
    Device {
        id: id(name),
        version: 0,
        manufacturer: "fumocast".to_owned(),
        model: "lab".to_owned(),
        vendor: VendorId([1; 16]),
        class: ClassId([2; 16]),
        url: "http://127.0.0.1:8080/dm".to_owned(),
        object: FirmwareObject::learnt(DEFAULT_FUMO_OBJECT.to_owned()),
        auth: DeviceAuth {
            kind: AuthKind::Md5,
            user: name.to_owned(),
            secret: Secret::new(name, "password").into(),
            next_nonce: Some(Nonce([5; 16])),
            challenge_count: 2,
            proved_from: proved_from(1, Utc(1_234)),
        },
        account: AccountTerms::usual(AuthKind::Md5),
        server: Some(ServerCredentials {
            secret: Secret::new("fumocast", "server password").into(),
            nonce: DeviceNonce(vec![7; 16]),
        }),
        update_requests: Some(UpdateRequestPolicy::Later),
        profile: Profile { name: "own".to_owned(), quirks: Quirk::ALL.iter().copied().collect() },
        pending_suspension: Some(SuspendCommand::Resume),
        policy: policy(),
        components: components(),
        firmware_version: Some("1.0".to_owned()),
        enrolled: Utc(1_000),
        last_seen: Some(Utc(1_234)),
    }
}

/// Returns the networks of a device that has proved itself from one address.
pub(crate) fn proved_from(last: u8, at: Utc) -> ProvedFrom {
    let mut proved = ProvedFrom::default();
    proved.record(PeerNetwork::of([192, 0, 2, last].into()), at);
    proved
}

fn policy() -> DesiredPolicy {
    let mut policy = DesiredPolicy::default();
    for text in ["thermal=\"-5\"", "install=on-command"] {
        policy.set(text.parse().unwrap(), Utc(9));
    }
    policy.record_status(&"thermal=\"-5\"".parse().unwrap(), StatusCode::BAD_REQUEST, Utc(10));
    policy
}

fn components() -> Components {
    let entry = |branch, id: &str, state| InventoryEntry {
        branch,
        node: format!("node of {id}"),
        id: id.to_owned(),
        package: Some("pkg".to_owned()),
        name: Some("player \"2\"".to_owned()),
        version: None,
        state,
    };
    Components {
        refresh_requested: true,
        read: Some(Utc(7)),
        refused: Some("425".to_owned()),
        inventory: vec![
            entry(Branch::Delivered, "a", None),
            entry(Branch::Deployed, "b", Some(ComponentState::Inactive)),
        ],
        operations: vec![ComponentOperation {
            correlator: Correlator("w-1".to_owned()),
            operation: Operation::Deactivate,
            id: "b".to_owned(),
            state: OperationState::Failed,
            result_code: Some(1410),
            reason: Some("as reported".to_owned()),
            updated: Utc(8),
        }],
    }
}

fn id(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn audit() -> Audit {
    Audit { actor: Actor::Operator, action: "test.change", subject: "s".into(), detail: "d".into() }
}

fn attempt(name: &str, number: u32, correlator: &str) -> ArmingAttempt {
    let campaign = samples::running().id;
    ArmingAttempt::pending(id(name), campaign, number, Correlator(correlator.to_owned()), Utc(5))
}

async fn put(store: &impl FleetStore, change: impl Into<Change>) {
    store.apply(Utc(1), audit(), vec![change.into()]).await.unwrap();
}

async fn rows_are_read_as_they_were_written(store: &impl FleetStore) {
    let mut plain = device("plain");
    plain.auth.next_nonce = None;
    plain.auth.challenge_count = 0;
    plain.auth.proved_from = ProvedFrom::default();
    plain.update_requests = None;
    plain.profile = Profile::default();
    plain.pending_suspension = None;
    plain.policy = DesiredPolicy::default();
    plain.components = Components::default();
    plain.firmware_version = None;
    plain.last_seen = None;
    for row in [device("full"), plain] {
        put(store, row.clone()).await;
        let stored = store.device_with_secrets(&row.id).await.unwrap().unwrap();
        assert_eq!(store.proved_from(&row.id).await.unwrap(), row.auth.proved_from);
        assert_eq!(stored, Device { version: 1, ..row });
    }

    let mut campaign = samples::running();
    campaign.terms.sequence = u64::MAX;
    campaign.delivery.software = Some(Software {
        package: "org.example.player".parse().unwrap(),
        operation: Operation::DownloadInstallInactive,
    });
    campaign.last_error = Some("none".to_owned());
    put(store, campaign.clone()).await;
    campaign.version = 1;
    assert_eq!(store.campaign(campaign.id).await.unwrap().unwrap(), campaign);
    campaign.update_requests = UpdateRequestPolicy::Now;
    campaign.window = None;
    campaign.prepared = None;
    campaign.last_error = None;
    campaign.state = CampaignState::Created;
    put(store, campaign.clone()).await;
    campaign.version = 2;
    assert_eq!(store.campaign(campaign.id).await.unwrap().unwrap(), campaign);
    let window = Window { opens: Utc(3), closes: Utc(9), revision: 4 };
    campaign.window = Some(window);
    campaign.prepared =
        samples::running().prepared.map(|session| PreparedSession { opened: false, ..session });
    put(store, campaign.clone()).await;
    campaign.version = 3;
    assert_eq!(store.campaign(campaign.id).await.unwrap().unwrap(), campaign);

    for phase in ArmingPhase::ALL {
        let mut row =
            attempt("full", 1 + u32::try_from(row_number(phase)).unwrap(), phase.as_str());
        row.phase = phase;
        row.result_code = Some(599);
        row.reason = Some("as reported".to_owned());
        row.read_back = Some("2.0".to_owned());
        row.armed_revision = 3;
        let secret = PackageSecret::new([u8::try_from(row_number(phase)).unwrap(); 16]);
        assert_eq!(store.attempt_of_package(&secret).await.unwrap(), None);
        row.package_secret = Some(secret.clone());
        put(store, row.clone()).await;
        let stored = store.attempt(&row.correlator).await.unwrap().unwrap();
        assert_eq!(store.attempt_of_package(&secret).await.unwrap().as_ref(), Some(&stored));
        assert_eq!(stored, ArmingAttempt { version: 1, ..row });
    }
}

fn row_number(phase: ArmingPhase) -> usize {
    ArmingPhase::ALL.iter().position(|other| *other == phase).unwrap()
}

async fn a_row_changes_only_from_the_version_it_was_read_at(store: &impl FleetStore) {
    put(store, device("a")).await;
    let again = store.apply(Utc(1), audit(), vec![device("a").into()]).await;
    assert!(matches!(again, Err(StoreError::Conflict("device"))), "{again:?}");

    let read = store.device(&id("a")).await.unwrap().unwrap();
    put(store, Device { model: "first".to_owned(), ..read.clone() }).await;
    let late = Device { model: "second".to_owned(), ..read };
    let refused = store.apply(Utc(1), audit(), vec![late.into()]).await;
    assert!(matches!(refused, Err(StoreError::Conflict("device"))), "{refused:?}");
    assert_eq!(store.device(&id("a")).await.unwrap().unwrap().model, "first");

    let absent = Device { version: 3, ..device("b") };
    assert!(store.apply(Utc(1), audit(), vec![absent.into()]).await.is_err());
}

async fn a_user_of_hmac_has_one_device(store: &impl FleetStore) {
    let with = |name: &str, kind, user: &str| {
        let mut row = device(name);
        row.auth = DeviceAuth { kind, user: user.to_owned(), ..row.auth };
        row
    };
    put(store, with("a", AuthKind::Md5, "u")).await;
    put(store, with("b", AuthKind::Md5, "u")).await;
    assert_eq!(store.device_of_user("u").await.unwrap(), None);
    put(store, with("c", AuthKind::Mac, "u")).await;
    assert_eq!(store.device_of_user("u").await.unwrap(), Some(id("c")));
    let taken = store.apply(Utc(1), audit(), vec![with("d", AuthKind::Mac, "u").into()]).await;
    assert!(matches!(taken, Err(StoreError::Conflict("device"))), "{taken:?}");
    let read = store.device(&id("c")).await.unwrap().unwrap();
    put(store, Device { model: "other".to_owned(), ..read }).await;
    assert_eq!(store.device_of_user("c").await.unwrap(), None);
}

async fn a_batch_is_made_as_a_whole_or_not_at_all(store: &impl FleetStore) {
    put(store, device("a")).await;
    let stale = attempt("a", 1, "one");
    put(store, stale.clone()).await;
    let batch = vec![device("b").into(), samples::running().into(), stale.into()];
    let lines = store.audit_tail(100).await.unwrap().len();
    assert!(store.apply(Utc(1), audit(), batch).await.is_err());
    assert!(store.device(&id("b")).await.unwrap().is_none());
    assert!(store.campaigns().await.unwrap().is_empty());
    assert_eq!(store.audit_tail(100).await.unwrap().len(), lines);
}

async fn every_change_leaves_one_sealed_line(store: &impl FleetStore) {
    for name in ["a", "b", "c"] {
        put(store, device(name)).await;
    }
    let lines = store.audit_tail(100).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2, 3]);
    let mut seal = Digest([0; 32]);
    for line in &lines {
        assert!(line.follows(&seal));
        seal = line.seal;
    }
    let last = store.audit_tail(1).await.unwrap();
    let subject = &lines[0].subject;
    let about: Vec<_> = lines.iter().filter(|line| line.subject == *subject).cloned().collect();
    assert_eq!(store.audit_of(subject, 100).await.unwrap(), about);
    let latest = store.audit_of(subject, 1).await.unwrap();
    assert_eq!(latest, about[about.len() - 1..]);
    assert_eq!(store.audit_of("nobody", 100).await.unwrap(), []);
    assert_eq!(last, lines[2..]);
}

async fn no_two_attempts_share_a_correlator(store: &impl FleetStore) {
    put(store, attempt("a", 1, "same")).await;
    let second = store.apply(Utc(1), audit(), vec![attempt("b", 1, "same").into()]).await;
    assert!(matches!(second, Err(StoreError::Conflict(_))), "{second:?}");
}

async fn the_latest_attempt_of_a_device_counts(store: &impl FleetStore) {
    let campaign = samples::running().id;
    let failed = ArmingAttempt { phase: ArmingPhase::Failed, ..attempt("a", 1, "a1") };
    put(store, failed).await;
    put(store, attempt("a", 2, "a2")).await;
    put(store, attempt("b", 1, "b1")).await;
    let other = ArmingAttempt { campaign: CampaignId([8; 16]), ..attempt("a", 1, "other") };
    put(store, other).await;

    let latest = store.campaign_attempts(campaign).await.unwrap();
    let seen: Vec<_> = latest.iter().map(|row| (row.device.as_str(), row.attempt)).collect();
    assert_eq!(seen, [("a", 2), ("b", 1)]);
    let phase_counts = store.phase_counts(campaign).await.unwrap();
    assert_eq!(phase_counts.into_iter().collect::<Vec<_>>(), [(ArmingPhase::Pending, 2)]);
    let of_a = store.device_attempts(&id("a")).await.unwrap();
    let seen: Vec<_> = of_a.iter().map(|row| row.correlator.0.as_str()).collect();
    assert_eq!(seen, ["a1", "a2", "other"]);
}

async fn campaigns_come_in_the_order_of_creation(store: &impl FleetStore) {
    for octet in [9, 3, 7] {
        let mut campaign = samples::running();
        campaign.id = CampaignId([octet; 16]);
        campaign.created = Utc(1);
        put(store, campaign).await;
    }
    let order: Vec<_> = store.campaigns().await.unwrap().iter().map(|row| row.id.0[0]).collect();
    assert_eq!(order, [9, 3, 7]);
}

async fn a_campaign_is_added_after_the_last_one_that_was_read(store: &impl FleetStore) {
    let add = async |octet, last: Option<u8>| {
        let mut campaign = samples::running();
        campaign.id = CampaignId([octet; 16]);
        let last = Change::LastCampaign(last.map(|octet| CampaignId([octet; 16]).to_string()));
        store.apply(Utc(1), audit(), vec![last, campaign.into()]).await
    };
    add(9, None).await.unwrap();
    for last in [None, Some(8)] {
        let refused = add(7, last).await;
        assert!(matches!(refused, Err(StoreError::Conflict("last campaign"))), "{refused:?}");
    }
    add(7, Some(9)).await.unwrap();
    assert_eq!(store.campaigns().await.unwrap().len(), 2);
}

async fn lists_come_in_pages(store: &impl FleetStore) {
    let first = samples::running().id;
    for octet in [9, 3, 7] {
        put(store, Campaign { id: CampaignId([octet; 16]), ..samples::running() }).await;
    }
    for name in ["b", "a", "d", "c", "e"] {
        put(store, device(name)).await;
        put(store, attempt(name, 1, name)).await;
    }
    put(store, attempt("c", 2, "c2")).await;
    let keys = |rows: Vec<(String, bool)>| {
        assert!(rows.iter().all(|(_, is_sound)| *is_sound));
        rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    let devices = async |after: Option<&str>, limit| {
        let rows = store.device_page(after, limit).await.unwrap();
        keys(rows.into_iter().map(|row| (row.key, row.row.is_ok())).collect())
    };
    assert_eq!(devices(None, 2).await, ["a", "b"]);
    assert_eq!(devices(Some("b"), 2).await, ["c", "d"]);
    // The device after which a page begins may be gone.
    assert_eq!(devices(Some("cc"), 9).await, ["d", "e"]);
    assert!(devices(Some("e"), 2).await.is_empty());
    let of_campaign = async |after: Option<&str>, limit| {
        let rows = store.campaign_devices(first, after, limit).await.unwrap();
        rows.into_iter().map(|row| row.row.unwrap().attempt).collect::<Vec<_>>()
    };
    let page = of_campaign(Some("b"), 2).await;
    assert_eq!(
        page.iter().map(|it| (it.device.as_str(), it.attempt)).collect::<Vec<_>>(),
        [("c", 2), ("d", 1)]
    );
    assert_eq!(of_campaign(None, 9).await.len(), 5);
    let campaigns = async |after: Option<u8>, limit| {
        let after = after.map(|octet| CampaignId([octet; 16]).to_string());
        let rows = store.campaign_page(after.as_deref(), limit).await.unwrap();
        rows.into_iter().map(|row| row.row.unwrap().id.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(campaigns(None, 2).await, [9, 3]);
    assert_eq!(campaigns(Some(3), 2).await, [7]);
    assert!(campaigns(Some(1), 2).await.is_empty(), "there is no such campaign");
    let lines = store.audit_page(3, 2).await.unwrap();
    let numbers: Vec<_> = lines.into_iter().map(|line| line.row.unwrap().number).collect();
    assert_eq!(numbers, [4, 5]);
}

async fn missing_rows_are_none(store: &impl FleetStore) {
    assert!(store.device(&id("a")).await.unwrap().is_none());
    assert!(store.devices().await.unwrap().is_empty());
    assert_eq!(store.proved_from(&id("a")).await.unwrap(), ProvedFrom::default());
    assert!(store.campaign(CampaignId([0; 16])).await.unwrap().is_none());
    assert!(store.attempt(&Correlator("none".to_owned())).await.unwrap().is_none());
    assert!(store.phase_counts(CampaignId([0; 16])).await.unwrap().is_empty());
    assert!(store.audit_tail(10).await.unwrap().is_empty());
}

async fn a_day_has_one_challenge_key(store: &impl FleetStore) {
    let first = store.challenge_key(20_000).await.unwrap();
    assert_eq!(store.challenge_key(20_000).await.unwrap(), first);
    let next = store.challenge_key(20_001).await.unwrap();
    assert_ne!(next, first);
    assert_eq!(store.challenge_key(20_000).await.unwrap(), first, "a period of the day before");
    assert_eq!(store.challenge_key(20_001).await.unwrap(), next);
    assert!(store.audit_tail(10).await.unwrap().is_empty());
}
