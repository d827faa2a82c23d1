use std::net::IpAddr;

use proto::{dm::scomo::Operation, ids::ClassId, time::Utc, trust::component_class};

use super::*;
use crate::{
    app::devices::{self, Enrolment, tests as samples},
    campaign::{
        model::{BroadcastTarget, Software},
        update_requests::UpdateRequestPolicy,
        verify::tests::{Kit, NOW},
    },
    fleet::memory::MemoryStore,
};

/// Counts, so that no two correlators are alike.
fn counting() -> impl FnMut() -> [u8; 16] {
    let mut count = 0_u128;
    move || {
        count += 1;
        count.to_be_bytes()
    }
}

fn order(kit: &Kit) -> CreateCampaign {
    CreateCampaign {
        documents: kit.documents(),
        parameters: CampaignParameters {
            target: BroadcastTarget {
                carousel_url: "http://127.0.0.1:9000".to_owned(),
                token_file: "carousel.token".to_owned(),
                group: IpAddr::from([232, 1, 2, 3]),
                port: 3_400,
            },
            delivery: Delivery::default(),
            update_requests: UpdateRequestPolicy::Nothing,
        },
        plain_http: PlainHttp::LoopbackOnly,
        selection: Selection::All,
        report_spread_seconds: Some(10),
    }
}

async fn fleet(names: &[&str]) -> MemoryStore {
    let store = MemoryStore::default();
    for name in names {
        let enrolment = samples::enrolment(name);
        devices::enrol(&store, NOW, enrolment, samples::SECRETS).await.unwrap();
    }
    store
}

async fn refused(store: &MemoryStore, order: CreateCampaign) -> (u8, String) {
    let error = create(store, NOW, order, &mut counting()).await.unwrap_err();
    assert!(store.campaigns().await.unwrap().is_empty());
    (error.exit_code(), error.to_string())
}

// test: oma-003 5.5.1.6.2
#[tokio::test]
async fn every_selected_device_waits_to_be_armed() {
    let store = fleet(&["a", "b", "c"]).await;
    let selection = Selection::Named(vec!["a".parse().unwrap(), "c".parse().unwrap()]);
    let order = CreateCampaign { selection, ..order(&Kit::new()) };
    let id = create(&store, NOW, order, &mut counting()).await.unwrap();
    let rows = store.campaign_attempts(id).await.unwrap();
    let seen: Vec<_> = rows.iter().map(|row| (row.device.as_str(), row.phase)).collect();
    assert_eq!(seen, [("a", ArmingPhase::Pending), ("c", ArmingPhase::Pending)]);
}

#[tokio::test]
async fn devices_of_another_vendor_or_class_are_refused_with_the_reason() {
    let store = fleet(&["a"]).await;
    let class = Enrolment { class: ClassId([9; 16]), ..samples::enrolment("b") };
    devices::enrol(&store, NOW, class, samples::SECRETS).await.unwrap();
    let vendor = Enrolment { vendor: proto::ids::VendorId([9; 16]), ..samples::enrolment("c") };
    devices::enrol(&store, NOW, vendor, samples::SECRETS).await.unwrap();
    let id = create(&store, NOW, order(&Kit::new()), &mut counting()).await.unwrap();
    let rows = store.campaign_attempts(id).await.unwrap();
    assert_eq!(rows[0].phase, ArmingPhase::Pending);
    assert_eq!((rows[1].phase, rows[2].phase), (ArmingPhase::Refused, ArmingPhase::Refused));
    assert!(rows[1].reason.as_ref().unwrap().starts_with("class 0909"));
    assert!(rows[2].reason.as_ref().unwrap().starts_with("vendor 0909"));
}

#[tokio::test]
async fn a_component_is_for_devices_whose_class_and_package_the_manifest_names() {
    let package: proto::ids::PackageId = "player".parse().unwrap();
    let order_of = |kit: &Kit, operation, ways: &[DeliveryMethod]| {
        let mut order = order(kit);
        let package = package.clone();
        order.parameters.delivery.software = Some(Software { package, operation });
        order.parameters.delivery.methods = ways.to_vec();
        order.parameters.delivery.bundle_bytes = 10;
        order
    };
    for (is_component, phase) in [(true, ArmingPhase::Pending), (false, ArmingPhase::Refused)] {
        let mut kit = Kit::new();
        if is_component {
            kit.manifest.classes = vec![component_class(ClassId([2; 16]), &package)];
            kit.tie();
        }
        let store = fleet(&["a"]).await;
        let order = order_of(&kit, Operation::DownloadInstall, &DeliveryMethod::ALL);
        let id = create(&store, NOW, order, &mut counting()).await.unwrap();
        assert_eq!(store.campaign_attempts(id).await.unwrap()[0].phase, phase);
    }
    let store = fleet(&["a"]).await;
    let wrong = order_of(&Kit::new(), Operation::Activate, &[DeliveryMethod::Broadcast]);
    assert_eq!(refused(&store, wrong).await.0, 2);
    let wrong = order_of(
        &Kit::new(),
        Operation::Download,
        &[DeliveryMethod::Broadcast, DeliveryMethod::Direct],
    );
    assert_eq!(refused(&store, wrong).await.0, 2, "nothing would come of it");
}

#[tokio::test]
async fn invalid_parameters_create_no_campaign() {
    let store = fleet(&["a"]).await;
    let kit = Kit::new();
    let group = |group: [u8; 4]| {
        let mut order = order(&kit);
        order.parameters.target.group = IpAddr::from(group);
        order
    };
    assert_eq!(refused(&store, group([192, 0, 2, 1])).await.0, 2);
    let mut portless = order(&kit);
    portless.parameters.target.port = 0;
    assert_eq!(refused(&store, portless).await.0, 2);
    let mut family = order(&kit);
    family.parameters.target.group = "ff3e::1".parse().unwrap();
    assert_eq!(refused(&store, family).await.0, 8);
    let mut remote = order(&kit);
    remote.parameters.target.carousel_url = "http://192.0.2.7".to_owned();
    assert_eq!(refused(&store, remote).await.0, 8);
    let nobody = CreateCampaign { selection: Selection::Named(vec![]), ..order(&kit) };
    assert_eq!(refused(&store, nobody).await.0, 2);
    let strange =
        CreateCampaign { selection: Selection::Named(vec!["x".parse().unwrap()]), ..order(&kit) };
    assert_eq!(refused(&store, strange).await.0, 6);
    let spread = CreateCampaign { report_spread_seconds: Some(601), ..order(&kit) };
    assert_eq!(refused(&store, spread).await.0, 8);
}

#[tokio::test]
async fn a_campaign_is_created_once_and_nothing_older_after_it() {
    let store = fleet(&["a"]).await;
    let mut kit = Kit::new();
    create(&store, NOW, order(&kit), &mut counting()).await.unwrap();
    let again = create(&store, NOW, order(&kit), &mut counting()).await.unwrap_err();
    assert_eq!(again.exit_code(), 7);
    kit.campaign.id = CampaignId([7; 16]);
    let older = create(&store, NOW, order(&kit), &mut counting()).await.unwrap_err();
    assert_eq!(older.exit_code(), 8, "{older}");
    kit.campaign.sequence += 1;
    let mut chance = counting();
    let mut later = || {
        let mut octets = chance();
        octets[0] = 1;
        octets
    };
    create(&store, NOW, order(&kit), &mut later).await.unwrap();
}

async fn start_at(
    store: &MemoryStore,
    id: CampaignId,
    opens: u64,
    closes: u64,
) -> Result<Campaign, AppError> {
    let window = (Utc::from_seconds(opens), Utc::from_seconds(closes));
    let mut chance = counting();
    let mut later = || {
        let mut octets = chance();
        octets[0] = u8::try_from(opens % 251).unwrap() + 1;
        octets
    };
    start(store, NOW, id, window, &mut later).await
}

#[tokio::test]
async fn a_window_lies_ahead_and_inside_the_limits() {
    let store = fleet(&["a"]).await;
    let id = create(&store, NOW, order(&Kit::new()), &mut counting()).await.unwrap();
    // It is 1,000; the campaign is good from 500 to 50,000.
    for (opens, closes) in
        [(600, 1_000), (499, 2_000), (2_000, 50_001), (2_000, 2_000), (3_000, 2_000)]
    {
        let refused = start_at(&store, id, opens, closes).await.unwrap_err();
        assert_eq!(refused.exit_code(), 8, "{opens} {closes}: {refused}");
    }
    let campaign = start_at(&store, id, 500, 50_000).await.unwrap();
    assert_eq!(campaign.state, CampaignState::Running);
    assert_eq!(campaign.window.unwrap().revision, 1);
    let moved = start_at(&store, id, 2_000, 3_000).await.unwrap();
    assert_eq!(moved.window.unwrap().revision, 2);
    let missing = start_at(&store, CampaignId([0; 16]), 2_000, 3_000).await.unwrap_err();
    assert_eq!(missing.exit_code(), 6);
}

#[tokio::test]
async fn a_further_window_is_for_those_who_still_need_it() {
    let store = fleet(&["a", "b", "c", "d"]).await;
    let id = create(&store, NOW, order(&Kit::new()), &mut counting()).await.unwrap();
    start_at(&store, id, 2_000, 3_000).await.unwrap();
    let outcomes = [
        (ArmingPhase::Confirmed, Some(200)),
        (ArmingPhase::Missed, Some(450)),
        (ArmingPhase::Unknown, None),
        (ArmingPhase::Expired, None),
    ];
    for (row, (phase, result_code)) in
        store.campaign_attempts(id).await.unwrap().into_iter().zip(outcomes)
    {
        let row = ArmingAttempt { phase, result_code, ..row };
        store.apply(NOW, audit("test.change", id, String::new()), vec![row.into()]).await.unwrap();
    }
    start_at(&store, id, 4_000, 5_000).await.unwrap();
    let rows = store.campaign_attempts(id).await.unwrap();
    let seen: Vec<_> = rows.iter().map(|row| (row.phase, row.attempt)).collect();
    let expected = [
        (ArmingPhase::Confirmed, 1),
        (ArmingPhase::Pending, 2),
        (ArmingPhase::Pending, 1),
        (ArmingPhase::Pending, 1),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_campaign_that_nobody_needs_is_not_started() {
    let store = fleet(&["a"]).await;
    let id = create(&store, NOW, order(&Kit::new()), &mut counting()).await.unwrap();
    let row = store.campaign_attempts(id).await.unwrap().remove(0);
    let row = ArmingAttempt { phase: ArmingPhase::Confirmed, ..row };
    store.apply(NOW, audit("test.change", id, String::new()), vec![row.into()]).await.unwrap();
    assert_eq!(start_at(&store, id, 2_000, 3_000).await.unwrap_err().exit_code(), 8);
}

#[tokio::test]
async fn only_a_running_campaign_is_stopped_and_twice_is_harmless() {
    let store = fleet(&["a"]).await;
    let id = create(&store, NOW, order(&Kit::new()), &mut counting()).await.unwrap();
    assert_eq!(stop(&store, NOW, id).await.unwrap_err().exit_code(), 7);
    start_at(&store, id, 2_000, 3_000).await.unwrap();
    stop(&store, NOW, id).await.unwrap();
    stop(&store, NOW, id).await.unwrap();
    assert_eq!(find(&store, id).await.unwrap().state, CampaignState::Stopping);
    assert_eq!(start_at(&store, id, 2_000, 3_000).await.unwrap_err().exit_code(), 7);
}
