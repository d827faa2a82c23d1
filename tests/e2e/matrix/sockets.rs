//! One cell of each place over real sockets, between real processes.

use std::{path::Path, time::Duration};

use clap::Parser as _;
use fumocast_tests::lab::{
    addresses::Addresses,
    device::{Arming, Device, DeviceOptions, Surroundings},
    folder::Folder,
    headend::{self, Headend, Package, Paths},
    image,
    options::Options,
    process::{Role, use_program},
    schedule::Schedule,
};
use prost::Message as _;
use proto::{control::PrepareRequest, dm::encoding::Encoding};

use crate::lab_program;

#[tokio::test]
async fn over_sockets_each_place_refuses_what_it_must() {
    use_program(Path::new(lab_program()));
    let mut folder = Folder::new(None).unwrap();
    folder.keep();
    let site = Site::new(&folder).await;

    let refused = site.prepare_beyond_the_limits().await;
    assert_eq!(refused.status, 422, "{refused}");
    assert!(refused.text.contains("closes"), "{refused}");

    let mut device = site.device_that_trusts_a_stranger(&folder).await;
    let id = device.id.clone();
    site.headend
        .start_campaign(&site.package, std::slice::from_ref(&id), site.schedule, 0)
        .await
        .unwrap();

    let path = format!("campaigns/{}/start", site.package.documents.campaign);
    let body = r#"{"opens":"+1m","closes":"+9000h"}"#.to_owned();
    let refused = site.headend.api(&path, Some(body)).await.unwrap().unwrap_err();
    assert_eq!(refused.status, 422, "{refused}");
    assert!(refused.text.contains("window"), "{refused}");

    site.wait_for_session().await;
    device.start(&site.around).unwrap();
    assert_eq!(site.result_of(&id).await, 404, "signature");
    device.end();
    let layout = site.package.documents.layout();
    assert_eq!(device.sum_up(&layout, &[], None).unwrap().slots_held, 0);
    test_log::collect_folder(folder.path());
    std::fs::remove_dir_all(folder.path()).unwrap();
}

/// A headend with a small package.
struct Site {
    headend: Headend,
    package: Package,
    addresses: Addresses,
    schedule: Schedule,
    around: Surroundings,
}

impl Site {
    async fn new(folder: &Folder) -> Self {
        let options = Options::parse_from(["lab", "--loss", "0"]);
        let addresses = Addresses::allocate().unwrap();
        let paths = Paths::new(folder).unwrap();
        let file = folder.path().join("image");
        image::make(&file, 64 << 10, 1).unwrap();
        let schedule = Schedule::new(64 << 10, 1, options.loss, options.rate);
        let package =
            headend::package(&paths, &file, &options, schedule, &addresses).await.unwrap();
        let around = Surroundings {
            seed: 1,
            loss: options.loss,
            channel: addresses.channel,
            source: addresses.interface,
            root: folder.path().join("strangers/root.env"),
            logs: paths.logs().to_owned(),
        };
        let headend = Headend::start(paths, addresses, &options).await.unwrap();
        Self { headend, package, addresses, schedule, around }
    }

    async fn prepare_beyond_the_limits(&self) -> headend::Refused {
        let campaign = self.package.documents.campaign;
        let limit = 9000 * 3600;
        let now = std::fs::metadata(&self.package.root).unwrap().modified().unwrap();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let request = PrepareRequest {
            campaign_id: campaign.0.to_vec(),
            group: self.addresses.channel.ip().to_string(),
            port: self.addresses.channel.port().into(),
            opens_utc: now + 60,
            closes_utc: now + limit,
            bits_per_second: 0,
            window_revision: 0,
        };
        self.headend.control("prepare", request.encode_to_vec()).await.unwrap().unwrap_err()
    }

    /// Enrolled here, but its factory root is another operator's.
    async fn device_that_trusts_a_stranger(&self, folder: &Folder) -> Device {
        let keys = folder.path().join("strangers");
        let role = Role::new("carousel").unwrap().args(["trust", "init", "--dir"]).arg(&keys);
        role.run(&folder.below("scratch").unwrap()).await.unwrap();
        let enrolled = self.headend.enrol("LAB-0001", Encoding::Xml).await.unwrap();
        let place = folder.path().join("LAB-0001");
        Device::new(
            &place,
            "LAB-0001",
            Arming::Armed,
            &enrolled,
            (&self.around, DeviceOptions::default()),
        )
        .unwrap()
    }

    async fn wait_for_session(&self) {
        for _ in 0..STEPS {
            if self.headend.air(&self.package).await.unwrap().is_some() {
                return;
            }
            tokio::time::sleep(STEP).await;
        }
        panic!("no session was prepared");
    }

    async fn result_of(&self, id: &str) -> u16 {
        for _ in 0..STEPS {
            let results = self.headend.results(&self.package).await.unwrap();
            if let Some(result) = results.get(id).and_then(|standing| standing.result_code) {
                return result;
            }
            tokio::time::sleep(STEP).await;
        }
        panic!("{id} did not report");
    }
}

const STEP: Duration = Duration::from_millis(50);
/// Half a minute of steps.
const STEPS: u32 = 600;
