//! The download server over real sockets.

use proto::dm::descriptor::{self, Descriptor};
use ureq::http::header;

use super::*;
use crate::campaign::model::DeliveryMethod;

fn get(url: &str, range: Option<&str>) -> (u16, String, Vec<u8>) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut request = agent.get(url);
    if let Some(range) = range {
        request = request.header(header::RANGE, range);
    }
    let mut response = request.call().unwrap();
    let media_type = response.headers().get(header::CONTENT_TYPE);
    let media_type = media_type.map(|it| it.to_str().unwrap().to_owned()).unwrap_or_default();
    (response.status().as_u16(), media_type, response.body_mut().read_to_vec().unwrap())
}

// test: oma-001 8.1.2.14, oma-001 8.1.2.18, oma-001 8.1.2.23
#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_leads_to_the_package_in_ranges_and_outcomes_are_counted() {
    let bridge = Bridge::start().await;
    let (carousel, _) = image_server().await;
    bridge.enrol("LAB-0001").await;
    let octets: Vec<u8> = (0..5_000_u32).flat_map(u32::to_be_bytes).collect();
    let delivery = Delivery {
        methods: vec![DeliveryMethod::Download],
        bundle_bytes: octets.len() as u64,
        ask_user: None,
        software: None,
    };
    let id = bridge.campaign_by(&carousel, delivery).await;
    let file = bridge.folder.path().join("bundle");
    std::fs::write(&file, &octets).unwrap();
    DataDir::open(bridge.folder.path(), None).unwrap().store_package(id, &file).unwrap();

    let (status, media_type, body) = get(&bridge.url(&format!("/download/{id}/descriptor")), None);
    assert_eq!((status, media_type.as_str()), (200, descriptor::MEDIA_TYPE));
    let descriptor = Descriptor::parse(&body).unwrap();
    assert_eq!(descriptor.size, octets.len() as u64);
    assert_eq!(get(&descriptor.object_uri, None).2, octets);
    let (status, media_type, range) = get(&descriptor.object_uri, Some("bytes=100-199"));
    assert_eq!((status, media_type.as_str()), (206, descriptor.types[0].as_str()));
    assert_eq!(range, octets[100..200]);
    assert_eq!(get(&descriptor.object_uri, Some("bytes=20000-20099")).0, 416);

    let notify = descriptor.install_notify_uri.unwrap();
    for (body, status) in [("900 Success\r\n", 204), ("902 User Cancelled\r\n", 204), ("x", 400)] {
        let answer = send(&notify, "POST", None, Some(("text/plain", body.as_bytes())));
        assert_eq!(answer.status, status, "{body}");
    }
    let metrics = String::from_utf8(bridge.get("/metrics").body).unwrap();
    for line in [
        "what=\"descriptor\",code=\"200\"} 1",
        "what=\"package\",code=\"206\"} 1",
        "what=\"notify\",code=\"900\"} 1",
        "what=\"notify\",code=\"902\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let devices = bridge.devices(id);
    assert_eq!((devices[0].delivery.as_str(), devices[0].phase.as_str()), ("download", "pending"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_that_offers_no_download_serves_none() {
    let bridge = Bridge::start().await;
    let (carousel, _) = image_server().await;
    bridge.enrol("LAB-0001").await;
    let id = bridge.campaign(&carousel).await;
    for path in ["descriptor", "package"] {
        assert_eq!(get(&bridge.url(&format!("/download/{id}/{path}")), None).0, 404, "{path}");
    }
    assert_eq!(get(&bridge.url("/download/..%2f..%2ffleet.db/package"), None).0, 400);
}
