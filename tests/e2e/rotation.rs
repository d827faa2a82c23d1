//! Two rotations of the root while a device is off: it receives both over DM, in their order, and
//! then accepts a campaign that only keys of the last root have signed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser as _;
use fumocast_tests::lab::{
    addresses::Addresses,
    device::{Arming, Device, DeviceOptions, Surroundings},
    documents::Documents,
    folder::Folder,
    headend::{CLASS, CampaignDevice, Headend, Package, Paths, VENDOR},
    image,
    options::Options,
    process::{Role, use_program},
    schedule::Schedule,
};
use proto::{crypto::SigningKey, dm::encoding::Encoding};
use receiver::store::{CopyName, JournalImage, journal_state::JournalState};

use crate::lab_program;

const ROLES: [&str; 3] = ["root", "release", "campaign"];
const IMAGE_BYTES: u64 = 64 << 10;

#[tokio::test]
async fn two_rotations_arrive_in_order_and_the_new_keys_are_trusted() {
    use_program(Path::new(lab_program()));
    let folder = Folder::new(None).unwrap();
    let keys =
        Keys { folder: folder.path().join("keys"), scratch: folder.below("scratch").unwrap() };
    keys.make().await;
    let options = Options::parse_from(["lab", "--loss", "0"]);
    let addresses = Addresses::allocate().unwrap();
    let paths = Paths::new(&folder).unwrap();
    // All servers trust the last root; the device was made with the first one.
    fs::copy(keys.root(3), paths.root()).unwrap();
    let package = keys.package(folder.path(), &addresses).await;
    let around = Surroundings {
        seed: 1,
        loss: options.loss,
        channel: addresses.channel,
        source: addresses.interface,
        root: keys.root(1),
        logs: paths.logs().to_owned(),
    };
    let headend = Headend::start(paths, addresses, &options).await.unwrap();
    let enrolled = headend.enrol("LAB-0001", Encoding::Xml).await.unwrap();
    let place = folder.path().join("LAB-0001");
    let ways = (&around, DeviceOptions::default());
    let mut device = Device::new(&place, "LAB-0001", Arming::Armed, &enrolled, ways).unwrap();
    let schedule = Schedule::new(IMAGE_BYTES, 1, options.loss, options.rate);
    let devices = [device.id.clone()];
    headend.start_campaign(&package, &devices, schedule, 0).await.unwrap();
    until_on_air_is_prepared(&headend, &package).await;
    device.start(&around).unwrap();

    let standing = settled(&headend, &package, &device.id).await;
    assert_eq!((standing.result_code, &*standing.phase), (Some(200), "confirmed"));
    device.end();
    let journal = journal(&place.join("data"));
    assert_eq!((journal.root_version, journal.epoch), (3, 1));
    assert_eq!(journal.accepted.iter().map(|it| it.sequence).collect::<Vec<_>>(), [1]);
}

/// Keys and roots, a folder of keys for each root.
struct Keys {
    folder: PathBuf,
    scratch: PathBuf,
}

impl Keys {
    fn key(&self, version: u64, role: &str) -> PathBuf {
        self.folder.join(version.to_string()).join(format!("{role}.key"))
    }

    fn root(&self, version: u64) -> PathBuf {
        match version {
            1 => self.folder.join("1/root.env"),
            later => self.folder.join(format!("{later}.root.env")),
        }
    }

    /// Makes the first root, and two that follow, each with three new keys.
    async fn make(&self) {
        fs::create_dir_all(&self.folder).unwrap();
        let first = carousel().args(["trust", "init", "--dir"]).arg(self.folder.join("1"));
        self.run(first).await;
        for version in [2, 3] {
            self.rotate(version).await;
        }
    }

    async fn rotate(&self, version: u64) {
        fs::create_dir_all(self.folder.join(version.to_string())).unwrap();
        let before = version - 1;
        let mut rotate = carousel().args(["trust", "rotate"]).arg(self.root(before));
        for role in ROLES {
            let key = self.key(version, role);
            self.run(carousel().args(["key", "new", "--out"]).arg(&key)).await;
            let lost = key_id(&self.key(before, role));
            let given = format!("{role}={}", key.display());
            rotate = rotate.args(["--remove", &format!("{role}={lost}"), "--add", &given]);
        }
        self.run(rotate.arg("--out").arg(self.root(version))).await;
        let sign = carousel().args(["trust", "sign"]).arg(self.root(version));
        let sign = sign.arg("--root").arg(self.root(before));
        let sign = sign.arg("--key").arg(self.key(before, "root"));
        self.run(sign.arg("--key").arg(self.key(version, "root"))).await;
    }

    /// Makes a package that the keys of root 3 sign; those before it sign nothing any more.
    async fn package(&self, folder: &Path, addresses: &Addresses) -> Package {
        let (file, place) = (folder.join("image"), folder.join("air/package"));
        image::make(&file, IMAGE_BYTES, 1).unwrap();
        let version = image::version(&image::digest(&file).unwrap());
        let package = carousel()
            .args(["package", "--vendor", VENDOR, "--class", CLASS, "--sequence", "1"])
            .args(["--version", &version, "--image"])
            .arg(&file)
            .arg("--key")
            .arg(self.key(3, "release"))
            .arg("--root")
            .arg(self.root(3))
            .arg("--out")
            .arg(&place);
        self.run(package).await;
        self.run(carousel().arg("plan").arg(&place)).await;
        let build = |key: PathBuf| {
            carousel()
                .args(["campaign", "build"])
                .arg(&place)
                .args(["--source", &addresses.interface.to_string(), "--not-before", "now"])
                .args(["--latest-stop", "+2h", "--sequence", "1", "--root"])
                .arg(self.root(3))
                .arg("--key")
                .arg(key)
        };
        let refused = build(self.key(1, "campaign")).run(&self.scratch).await;
        assert!(refused.is_err(), "a key that was taken away has signed");
        self.run(build(self.key(3, "campaign"))).await;
        let documents = Documents::read(&place, &self.root(3)).unwrap();
        let folder = folder.join("air").join(documents.campaign.to_string());
        fs::rename(&place, &folder).unwrap();
        let earlier_roots = vec![self.root(2), self.root(1)];
        Package { folder, root: self.root(3), earlier_roots, documents }
    }

    async fn run(&self, role: Role) {
        role.run(&self.scratch).await.unwrap();
    }
}

fn carousel() -> Role {
    Role::new("carousel").unwrap()
}

fn key_id(file: &Path) -> String {
    SigningKey::from_pkcs8(&fs::read(file).unwrap()).unwrap().public().key_id()
}

/// A device that connects before there is a session is armed in its next DM session, an hour later.
async fn until_on_air_is_prepared(headend: &Headend, package: &Package) {
    for _ in 0..STEPS {
        if headend.is_prepared(package).await.unwrap() {
            return;
        }
        tokio::time::sleep(STEP).await;
    }
    panic!("no session was prepared");
}

async fn settled(headend: &Headend, package: &Package, id: &str) -> CampaignDevice {
    for _ in 0..STEPS {
        let results = headend.results(package).await.unwrap();
        if let Some(standing) = results.get(id).filter(|standing| standing.is_settled()) {
            return standing.clone();
        }
        tokio::time::sleep(STEP).await;
    }
    panic!("{id} did not report");
}

/// Reads the newer copy of a device's journal.
fn journal(data: &Path) -> JournalState {
    let copies = CopyName::BOTH.map(|copy| {
        let octets = fs::read(data.join(copy.file_name())).unwrap_or_default();
        JournalImage::<JournalState>::parse(&octets).ok()
    });
    let newer = copies.into_iter().flatten().max_by_key(|image| image.generation);
    newer.unwrap().body
}

const STEP: Duration = Duration::from_millis(50);
/// A minute of steps.
const STEPS: u32 = 1_200;
