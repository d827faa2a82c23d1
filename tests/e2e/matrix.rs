//! Attack x place. What is refused, by whom, for which reason.
//!
//! | attack | management server | image server | device |
//! | --- | --- | --- | --- |
//! | stranger's key | campaign is not trusted | refused (5) | 404 |
//! | older sequence | older than the newest campaign | below the floor of the root (8) | 455 rollback |
//! | other device class | device refused, never armed | has no devices | 403 |
//! | each octet of campaign and manifest changed | not trusted | refused (5) | 404, or 455 for another manifest |
//! | window or source outside the limits | policy | policy | 455 limits |
//!
//! In process, on the very functions that decide; and one cell of each place over real sockets.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use carousel::{
    control::manager::{AirablePackage, Control, Defaults},
    control::plan_check::PlanCheck,
    error::ExitCode,
    flute::pacing::Rate,
    shell::package_dir::OpenPackage,
};
use dm_bridge::{
    app::{
        AppError, PlainHttp,
        campaigns::{self, CreateCampaign, Selection},
        devices::{self, Enrolment, FreshSecrets},
    },
    campaign::{
        model::{BroadcastTarget, CampaignParameters, Delivery},
        update_requests::UpdateRequestPolicy,
        verify::{Documents, VerificationError, verify_documents},
    },
    fleet::{attempt::ArmingPhase, memory::MemoryStore, store::FleetStore},
};
use proto::{
    control::PrepareRequest,
    dm::encoding::Encoding,
    fixtures::{
        broadcast::{Broadcast, NOW},
        documents::{CLASS, Keys, VENDOR, Validity, seal},
    },
    ids::{ClassId, ComponentId, Tsi},
    time::{Mono, Now, Utc},
    trust::DocumentKind,
    tune_in::Window,
};
use receiver::update::acceptance::{
    Acceptance, AcceptanceHistory, CampaignOffer, DeviceClass, Limits, Refusal, evaluate,
};

mod sockets;

/// Documents of an attacker, for a victim who trusts `root`.
#[derive(Debug, Clone)]
struct Attempt {
    root: Vec<u8>,
    campaign: Vec<u8>,
    manifest: Vec<u8>,
}

impl Attempt {
    /// Nothing is wrong with it.
    fn honest(broadcast: &Broadcast) -> Self {
        Self {
            root: broadcast.keys.root_envelope(),
            campaign: broadcast.campaign_envelope(),
            manifest: broadcast.manifest_envelope(),
        }
    }

    fn by_a_stranger(broadcast: &Broadcast) -> Self {
        let stranger = Keys::random(Validity::of_a_day(NOW));
        let campaign = broadcast.campaign.emit().unwrap();
        let campaign = seal(DocumentKind::Campaign, campaign, &stranger.campaign);
        Self { campaign, ..Self::honest(broadcast) }
    }

    /// Each octet of each document changed in turn.
    fn changed(broadcast: &Broadcast) -> impl Iterator<Item = Self> {
        let honest = Self::honest(broadcast);
        let (campaign, manifest) = (honest.campaign.len(), honest.manifest.len());
        (0..campaign + manifest).map(move |at| {
            let mut attempt = honest.clone();
            match at.checked_sub(campaign) {
                None => attempt.campaign[at] ^= 1,
                Some(at) => attempt.manifest[at] ^= 1,
            }
            attempt
        })
    }
}

fn broadcast() -> Broadcast {
    Broadcast::new(128, 1)
}

// The device.

fn at_the_device(attempt: &Attempt, case: &Device) -> Result<(), (u16, &'static str)> {
    let root = proto::trust::Root::from_factory(&attempt.root).unwrap();
    let offer = CampaignOffer {
        campaign: &attempt.campaign,
        manifest: &attempt.manifest,
        windows: vec![(case.tune_in.clone(), case.window)],
        carried: None,
    };
    match evaluate(&root, case.kind, &case.history, &Limits::default(), &offer) {
        Ok(Acceptance::Accepted(_)) => Ok(()),
        Ok(Acceptance::AlreadyInstalled(_)) => panic!("nothing is installed"),
        Err(Refusal { result, reason, .. }) => Err((result.0, reason)),
    }
}

struct Device {
    kind: DeviceClass,
    history: AcceptanceHistory,
    tune_in: proto::tune_in::TuneIn,
    window: Window,
}

impl Device {
    fn new(broadcast: &Broadcast) -> Self {
        Self {
            kind: DeviceClass { vendor: VENDOR, class: CLASS },
            history: AcceptanceHistory::default(),
            tune_in: broadcast.tune_in(),
            window: broadcast.window(),
        }
    }
}

#[test]
fn a_device_refuses_each_attack_for_its_reason() {
    let broadcast = broadcast();
    let honest = Attempt::honest(&broadcast);
    let device = || Device::new(&broadcast);
    assert_eq!(at_the_device(&honest, &device()), Ok(()));

    let stranger = Attempt::by_a_stranger(&broadcast);
    assert_eq!(at_the_device(&stranger, &device()), Err((404, "signature")));

    let mut case = device();
    case.history.accepted = Some((broadcast.campaign.sequence + 1, proto::crypto::sha256(&[])));
    assert_eq!(at_the_device(&honest, &case), Err((455, "rollback")));

    let mut case = device();
    case.kind.class = ClassId([9; 16]);
    assert_eq!(at_the_device(&honest, &case), Err((403, "class")));

    let mut case = device();
    case.window.closes = Utc::from_seconds(broadcast.campaign.latest_stop.seconds() + 1);
    assert_eq!(at_the_device(&honest, &case), Err((455, "limits")));
    let mut case = device();
    case.tune_in.source = IpAddr::from([192, 0, 2, 9]);
    assert_eq!(at_the_device(&honest, &case), Err((455, "limits")));
}

#[test]
fn a_device_refuses_every_changed_octet() {
    let broadcast = broadcast();
    let device = Device::new(&broadcast);
    for attempt in Attempt::changed(&broadcast) {
        let refused = at_the_device(&attempt, &device);
        let expected = matches!(refused, Err((404, "signature" | "malformed")));
        // The key id is a hint outside the signed text: changed, the document is still the same.
        assert!(expected || (refused.is_ok() && only_a_hint_differs(&attempt, &broadcast)));
    }
}

/// Returns whether an attempt differs from the honest one in nothing that is signed.
fn only_a_hint_differs(attempt: &Attempt, broadcast: &Broadcast) -> bool {
    let payload = |octets: &[u8]| {
        let envelope = proto::trust::Envelope::parse(octets).unwrap();
        (envelope.payload().to_vec(), envelope.key_ids().map(str::len).sum::<usize>())
    };
    let honest = Attempt::honest(broadcast);
    payload(&attempt.campaign) == payload(&honest.campaign)
        && payload(&attempt.manifest) == payload(&honest.manifest)
}

// The management server.

fn documents(attempt: &Attempt, broadcast: &Broadcast) -> Documents {
    Documents {
        roots: vec![attempt.root.clone()],
        manifest: attempt.manifest.clone(),
        campaign: attempt.campaign.clone(),
        plan_headers: BTreeMap::from([(ComponentId(0), broadcast.header.emit())]),
    }
}

fn order(attempt: &Attempt, broadcast: &Broadcast) -> CreateCampaign {
    CreateCampaign {
        documents: documents(attempt, broadcast),
        parameters: CampaignParameters {
            target: BroadcastTarget {
                carousel_url: "http://127.0.0.1:9000".to_owned(),
                token_file: "token".to_owned(),
                group: IpAddr::from([232, 1, 2, 3]),
                port: 3400,
            },
            delivery: Delivery::default(),
            update_requests: UpdateRequestPolicy::Nothing,
        },
        plain_http: PlainHttp::LoopbackOnly,
        selection: Selection::All,
        report_spread_seconds: None,
    }
}

async fn fleet(class: ClassId) -> MemoryStore {
    let store = MemoryStore::default();
    let enrolment = Enrolment {
        id: "LAB-0001".parse().unwrap(),
        manufacturer: "fumocast".to_owned(),
        model: "lab".to_owned(),
        vendor: VENDOR,
        class,
        url: "http://127.0.0.1:8080/dm".to_owned(),
        encoding: Encoding::Xml,
        auth: proto::dm::auth::AuthKind::Md5,
        account: dm_bridge::app::enrolment::OwnAccount::default(),
        profile: dm_bridge::fleet::profile::Profile::default(),
        firmware_object: None,
    };
    let secrets = FreshSecrets {
        password: [1; 32],
        nonce: [2; 16],
        server_password: [3; 32],
        server_nonce: [4; 16],
    };
    devices::enrol(&store, NOW, enrolment, secrets).await.unwrap();
    store
}

#[tokio::test]
async fn the_management_server_refuses_each_attack_for_its_reason() {
    let mut chance = proto::crypto::random::<16>;
    let broadcast = broadcast();
    let honest = order(&Attempt::honest(&broadcast), &broadcast);
    let store = fleet(CLASS).await;

    let stranger = order(&Attempt::by_a_stranger(&broadcast), &broadcast);
    let refused = campaigns::create(&store, NOW, stranger, &mut chance).await.unwrap_err();
    assert!(matches!(
        refused,
        AppError::Verification(VerificationError::Untrusted { document: "campaign", .. })
    ));

    let id = campaigns::create(&store, NOW, honest.clone(), &mut chance).await.unwrap();
    let mut older = self::broadcast();
    older.keys = Keys::random(Validity::of_a_day(NOW));
    older.campaign.id.0[0] ^= 1;
    older.campaign.sequence -= 1;
    let older = order(&Attempt::honest(&older), &older);
    let refused = campaigns::create(&store, NOW, older, &mut chance).await.unwrap_err();
    assert!(matches!(refused, AppError::Verification(VerificationError::OlderSequence { .. })));

    let late = Utc::from_seconds(broadcast.campaign.latest_stop.seconds() + 1);
    let window = (broadcast.window().opens, late);
    let refused = campaigns::start(&store, NOW, id, window, &mut chance).await.unwrap_err();
    assert!(matches!(refused, AppError::Policy(_)), "{refused}");

    let store = fleet(ClassId([9; 16])).await;
    let id = campaigns::create(&store, NOW, honest, &mut chance).await.unwrap();
    let rows = store.campaign_attempts(id).await.unwrap();
    assert_eq!(rows[0].phase, ArmingPhase::Refused);
    assert!(rows[0].reason.as_ref().unwrap().contains("class"), "{rows:?}");
}

#[test]
fn the_management_server_refuses_every_changed_octet() {
    let broadcast = broadcast();
    for attempt in Attempt::changed(&broadcast) {
        match verify_documents(documents(&attempt, &broadcast), NOW) {
            Err(VerificationError::Untrusted { document: "campaign" | "manifest", .. }) => {}
            Ok(_) if only_a_hint_differs(&attempt, &broadcast) => {}
            other => panic!("{other:?}"),
        }
    }
}

// The image server.

fn at_the_image_server(attempt: &Attempt, folder: &Path) -> ExitCode {
    let root = proto::trust::Root::from_factory(&attempt.root).unwrap();
    std::fs::write(folder.join("manifest.env"), &attempt.manifest).unwrap();
    std::fs::write(folder.join("campaign.env"), &attempt.campaign).unwrap();
    // Documents are judged before the plan is looked for, which is not there.
    OpenPackage::open(folder, Some(&root), NOW).unwrap_err().exit_code()
}

#[test]
fn the_image_server_refuses_each_attack_for_its_reason() {
    let broadcast = broadcast();
    let folder = tempfile::tempdir().unwrap();
    let judged = |attempt: &Attempt| at_the_image_server(attempt, folder.path());
    assert_eq!(
        judged(&Attempt::honest(&broadcast)),
        ExitCode::NotFound,
        "only the plan is missing"
    );
    assert_eq!(judged(&Attempt::by_a_stranger(&broadcast)), ExitCode::Refused);

    let mut floor = self::broadcast();
    floor.keys.sequence_floor = floor.campaign.sequence + 1;
    assert_eq!(judged(&Attempt::honest(&floor)), ExitCode::Policy);

    let now = Now { mono: Mono(0), utc: NOW };
    let prepare = |source: IpAddr, closes: Utc| {
        let rate = Rate::new(40_000_000).unwrap();
        let mut control = Control::new(Defaults { source, rate });
        let campaign = broadcast.campaign.clone();
        let offer =
            AirablePackage { campaign, plan_symbols: 1, pass_bytes: 1, check: PlanCheck::Passed };
        let request = PrepareRequest {
            campaign_id: broadcast.campaign.id.0.to_vec(),
            group: "232.1.2.3".to_owned(),
            port: 3400,
            opens_utc: broadcast.window().opens.seconds(),
            closes_utc: closes.seconds(),
            bits_per_second: 0,
            window_revision: 0,
        };
        control.prepare(now, &request, offer, Tsi(7), None).map(drop)
    };
    let source = broadcast.campaign.sources[0];
    let closes = broadcast.window().closes;
    assert_eq!(prepare(source, closes), Ok(()));
    let late = Utc::from_seconds(broadcast.campaign.latest_stop.seconds() + 1);
    for refused in [prepare(source, late), prepare(IpAddr::from([192, 0, 2, 9]), closes)] {
        assert!(
            matches!(refused, Err(carousel::control::manager::Refusal::Policy(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn the_image_server_refuses_every_changed_octet() {
    let broadcast = broadcast();
    let folder = tempfile::tempdir().unwrap();
    for attempt in Attempt::changed(&broadcast) {
        let exit = at_the_image_server(&attempt, folder.path());
        let is_refused = exit == ExitCode::Refused;
        assert!(is_refused || only_a_hint_differs(&attempt, &broadcast), "{exit:?}");
    }
}
