//! Packages that are kept before their campaigns, and commands at once.

use std::{
    path::PathBuf,
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::*;
use crate::{
    app::{
        PlainHttp,
        campaigns::{CreateCampaign, Selection, create, create_with_package},
        devices,
    },
    campaign::{
        model::{BroadcastTarget, CampaignParameters, Delivery, DeliveryMethod},
        update_requests::UpdateRequestPolicy,
        verify::{
            Documents,
            tests::{Kit, NOW},
        },
    },
    fleet::store::FleetStore as _,
};

const BUNDLE: u64 = 3 << 20;

fn order(documents: Documents) -> CreateCampaign {
    CreateCampaign {
        documents,
        parameters: CampaignParameters {
            target: BroadcastTarget {
                carousel_url: "http://127.0.0.1:9000".to_owned(),
                token_file: "carousel.token".to_owned(),
                group: [232, 1, 2, 3].into(),
                port: 3_400,
            },
            delivery: Delivery {
                methods: vec![DeliveryMethod::Download],
                bundle_bytes: BUNDLE,
                ask_user: None,
                software: None,
            },
            update_requests: UpdateRequestPolicy::Nothing,
        },
        plain_http: PlainHttp::LoopbackOnly,
        selection: Selection::All,
        report_spread_seconds: Some(0),
    }
}

/// A directory with a device, and a bundle beside it.
async fn fleet(folder: &Path) -> (DataDir, SqliteStore, PathBuf) {
    let data = DataDir::init(&folder.join("data"), None, [7; 32]).await.unwrap();
    let store = data.store().await.unwrap();
    let enrolment = devices::tests::enrolment("a");
    devices::enrol(&store, NOW, enrolment, devices::tests::SECRETS).await.unwrap();
    let bundle = folder.join("bundle");
    fs::write(&bundle, [0xb0; 1 << 10].repeat(3 << 10)).unwrap();
    (data, store, bundle)
}

/// A keeper that counts, and fails where it has to.
struct Counting {
    kept: AtomicU32,
    fails: bool,
    has: bool,
}

impl PackageKeeper for Counting {
    fn has(&self, _: CampaignId) -> bool {
        self.has
    }

    fn keep(&self, _: CampaignId) -> Result<(), AppError> {
        if self.fails {
            return Err(AppError::Configuration("no space left".to_owned()));
        }
        self.kept.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test]
async fn a_campaign_whose_package_cannot_be_kept_is_not_created_and_can_be_later() {
    let folder = tempfile::tempdir().unwrap();
    let (_, store, _) = fleet(folder.path()).await;
    let documents = Kit::new().documents();
    let try_create = async |fails, has| {
        let keeper = Counting { kept: AtomicU32::new(0), fails, has };
        let made = create_with_package(
            &store,
            NOW,
            order(documents.clone()),
            &mut random::<16>,
            Some(&keeper),
        )
        .await;
        (made.map_err(|error| error.exit_code()).map(drop), keeper.kept.into_inner())
    };
    assert_eq!(try_create(true, false).await, (Err(3), 0));
    assert!(store.campaigns().await.unwrap().is_empty());
    assert_eq!(try_create(false, false).await, (Ok(()), 1));
    assert_eq!(try_create(false, true).await, (Err(7), 0), "it is complete");
    // As an earlier version has left it: stored, and its package not kept.
    assert_eq!(try_create(true, false).await, (Err(3), 0));
    assert_eq!(try_create(false, false).await, (Ok(()), 1));
    assert_eq!(store.campaigns().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_campaigns_of_one_sequence_that_are_created_at_once_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let (data, store, _) = fleet(folder.path()).await;
    let mut kit = Kit::new();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..6 {
        kit.campaign.id = CampaignId([number; 16]);
        let (store, documents) = (data.store().await.unwrap(), kit.documents());
        tasks.spawn(async move {
            let made = create(&store, NOW, order(documents), &mut random::<16>).await;
            made.map(drop).map_err(|error| error.exit_code())
        });
    }
    let mut made = tasks.join_all().await;
    made.sort();
    assert_eq!(made, [Ok(()), Err(8), Err(8), Err(8), Err(8), Err(8)]);
    assert_eq!(store.campaigns().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_that_get_their_profiles_at_once_all_have_them() {
    let folder = tempfile::tempdir().unwrap();
    let (data, ..) = fleet(folder.path()).await;
    std::thread::scope(|scope| {
        for number in 0..8 {
            let data = &data;
            scope.spawn(move || {
                for class in 0..8 {
                    data.set_class_profile(ClassId([8 * number + class; 16]), "minimal").unwrap();
                }
            });
        }
    });
    for class in 0..64 {
        assert_eq!(data.profile_of(ClassId([class; 16])).unwrap().name, "minimal", "{class}");
    }
    data.remove_parts().unwrap();
    assert!(parts(&folder.path().join("data")).is_empty());
}

fn parts(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == PART)).collect()
}

#[test]
fn what_was_left_half_written_is_removed_and_what_is_being_written_stays() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir { path: folder.path().to_owned(), keys: None };
    fs::create_dir(folder.path().join(PACKAGES)).unwrap();
    let [left, held] = ["left", "held"].map(|name| {
        let path = folder.path().join(PACKAGES).join(name).with_extension(PART);
        (File::create(&path).unwrap(), path)
    });
    held.0.lock().unwrap();
    fs::write(folder.path().join("classes.part"), "").unwrap();
    data.remove_parts().unwrap();
    assert!(!left.1.exists() && held.1.exists());
    assert!(parts(folder.path()).is_empty());
}

/// Environment variable that names the folder of a command that will be killed.
const KILLED: &str = "FUMOCAST_KILLED_FOLDER";

const DOCUMENTS: [&str; 4] = ["root", "manifest", "campaign", "header"];

fn read_documents(folder: &Path) -> Documents {
    let [root, manifest, campaign, header] =
        DOCUMENTS.map(|name| fs::read(folder.join(name)).unwrap());
    let plan_headers = BTreeMap::from([(proto::ids::ComponentId(0), header)]);
    Documents { roots: vec![root], manifest, campaign, plan_headers }
}

/// Creates the campaign of a folder, as the command does.
async fn create_in(folder: &Path) -> Result<CampaignId, AppError> {
    let data = DataDir::open(&folder.join("data"), None)?;
    let package = BundleFile { data: data.clone(), from: folder.join("bundle") };
    let store = data.store().await?;
    fs::write(folder.join("started"), "").unwrap();
    let order = order(read_documents(folder));
    let made = create_with_package(&store, NOW, order, &mut random::<16>, Some(&package)).await;
    store.close().await;
    made
}

fn spawn(folder: &Path) -> Child {
    let name =
        "shell::data_dir::package_tests::a_kill_at_any_time_leaves_no_campaign_without_its_package";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(KILLED, folder)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !folder.join("started").exists() {
        std::thread::yield_now();
    }
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_time_leaves_no_campaign_without_its_package() {
    if let Some(folder) = std::env::var_os(KILLED) {
        create_in(Path::new(&folder)).await.unwrap();
        return;
    }
    let documents = Kit::new().documents();
    let header = documents.plan_headers.values().next().unwrap();
    let clock = crate::shell::state::Clock;
    let (mut whole, mut stored, mut left) = (Duration::ZERO, 0, 0);
    for round in 0..16 {
        let folder = tempfile::tempdir().unwrap();
        let (data, store, _) = fleet(folder.path()).await;
        let octets = [&documents.roots[0], &documents.manifest, &documents.campaign, header];
        for (name, octets) in DOCUMENTS.iter().zip(octets) {
            fs::write(folder.path().join(name), octets).unwrap();
        }
        let mut child = spawn(folder.path());
        let begun = clock.now().mono;
        if round == 0 {
            assert!(child.wait().unwrap().success());
            whole = clock.now().mono.since(begun);
        } else {
            while clock.now().mono.since(begun) < whole * round / 12 {
                std::thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let is_kept =
            |id| fs::metadata(data.package_path(id)).is_ok_and(|found| found.len() == BUNDLE);
        for campaign in store.campaigns().await.unwrap() {
            assert!(is_kept(campaign.id), "{round}");
            stored += 1;
        }
        left += parts(&folder.path().join("data").join(PACKAGES)).len();
        data.remove_parts().unwrap();
        assert!(parts(&folder.path().join("data").join(PACKAGES)).is_empty(), "{round}");
        let again = create_in(folder.path()).await;
        assert!(again.as_ref().map_or_else(|error| error.exit_code() == 7, |_| true), "{again:?}");
        let [campaign] = <[_; 1]>::try_from(store.campaigns().await.unwrap()).unwrap();
        assert!(is_kept(campaign.id), "{round}");
    }
    println!("{stored} campaigns were stored, {left} packages half written");
    assert!((1..16).contains(&stored), "{stored}: some kills came before the end");
}
