//! The download server over real sockets.

use std::io::{Read as _, Write as _};

use proto::dm::{
    descriptor::{self, Descriptor},
    syncml::Command,
};

use super::*;
use crate::campaign::model::DeliveryMethod;

/// Sends a request with these lines of a header; the client of other tests logs what it asks for.
fn ask(method: &str, url: &str, lines: &str, body: &str) -> (u16, String, Vec<u8>) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let host = if lines.contains("Host:") { String::new() } else { format!("Host: {host}\r\n") };
    let request = format!(
        "{method} /{path} HTTP/1.1\r\n{host}{lines}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    let media_type = head.lines().find_map(|line| line.strip_prefix("content-type: "));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, media_type.unwrap_or_default().to_owned(), body)
}

fn get(url: &str, range: Option<&str>) -> (u16, String, Vec<u8>) {
    let range = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
    ask("GET", url, &range, "")
}

/// A campaign by download of these octets, and the device that was sent the URL of its descriptor.
async fn armed(bridge: &Bridge, octets: &[u8]) -> (CampaignId, Device, String) {
    let (carousel, _) = image_server().await;
    let mut device = bridge.enrol("LAB-0001").await;
    let delivery = Delivery {
        methods: vec![DeliveryMethod::Download],
        bundle_bytes: octets.len() as u64,
        ask_user: None,
        software: None,
    };
    let id = bridge.campaign_by(&carousel, delivery).await;
    let file = bridge.folder.path().join("bundle");
    std::fs::write(&file, octets).unwrap();
    DataDir::open(bridge.folder.path(), None).unwrap().store_package(id, &file).unwrap();
    device.run();
    assert_eq!(bridge.devices(id)[0].phase, "armed");
    let url = device.script.seen.iter().find_map(|command| {
        let Command::Replace(write) = command else { return None };
        let is_url = write.items[0].target_uri()?.ends_with("/PkgURL");
        is_url.then(|| write.items[0].data_text().map(str::to_owned))?
    });
    let url = url.unwrap();
    let secret = url.split('/').rev().nth(1).unwrap();
    assert_eq!(secret.len(), 22, "128 bits in base64url");
    test_log::record_secret("package", secret.as_bytes());
    (id, device, url)
}

// test: oma-001 8.1.2.14, oma-001 8.1.2.18, oma-001 8.1.2.23
#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_leads_to_the_package_in_ranges_and_outcomes_are_counted() {
    let bridge = Bridge::start().await;
    let octets: Vec<u8> = (0..5_000_u32).flat_map(u32::to_be_bytes).collect();
    let (id, _, url) = armed(&bridge, &octets).await;

    let (status, media_type, body) = get(&url, None);
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
        assert_eq!(ask("POST", &notify, "", body).0, status, "{body}");
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
    assert_eq!((devices[0].delivery.as_str(), devices[0].phase.as_str()), ("download", "armed"));
}

// test: security 7.3 (packages need a secret)
#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_there_for_the_secret_of_an_attempt_until_that_ends() {
    let bridge = Bridge::start().await;
    let (id, mut device, url) = armed(&bridge, &[7; 5_000]).await;
    let package = url.replace("/descriptor", "/package");
    let secret = url.split('/').rev().nth(1).unwrap();
    let unknown = get(&bridge.url("/download/nothing/of/this"), None);
    let is_unknown = |url: &str| assert_eq!(get(url, None), unknown, "{url}");
    assert_eq!(unknown.0, 404);
    assert_eq!((get(&url, None).0, get(&package, None).0), (200, 200));
    let other = CampaignId([9; 16]).to_string();
    for part in ["descriptor", "package"] {
        is_unknown(&bridge.url(&format!("/download/{id}/{part}")));
        is_unknown(&bridge.url(&format!("/download/{id}/AAAAAAAAAAAAAAAAAAAAAA/{part}")));
        is_unknown(&bridge.url(&format!("/download/{id}/{}/{part}", &secret[1..])));
        is_unknown(&bridge.url(&format!("/download/{other}/{secret}/{part}")));
    }
    is_unknown(&bridge.url("/download/..%2f..%2ffleet.db/x/package"));
    // The same attempt has the same URL.
    device.run();
    assert_eq!(get(&url, None).0, 200);

    device.script.set("FwV", "2.0");
    device.report(200);
    device.run();
    assert_eq!(bridge.devices(id)[0].phase, "confirmed");
    is_unknown(&url);
    is_unknown(&package);
    let notify = url.replace("/descriptor", "/notify");
    let late = ask("POST", &notify, "", "900 Success\r\n");
    assert_eq!(late.0, 204, "what the device has done is still counted");
}

// test: security 7.2 (the URL of enrolment)
#[tokio::test(flavor = "multi_thread")]
async fn urls_have_the_origin_of_enrolment_whatever_a_request_says() {
    let bridge = Bridge::start().await;
    let (_, _, url) = armed(&bridge, &[7; 5_000]).await;
    assert!(url.starts_with(&bridge.url("/download/")), "{url}");
    let lines = "Host: evil.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\
        Forwarded: host=evil.example;proto=https\r\n";
    let (_, _, body) = ask("GET", &url, lines, "");
    let descriptor = Descriptor::parse(&body).unwrap();
    let base = url.strip_suffix("/descriptor").unwrap();
    assert_eq!(descriptor.object_uri, format!("{base}/package"));
    assert_eq!(descriptor.install_notify_uri.unwrap(), format!("{base}/notify"));
}

/// Returns the anonymous memory of this process.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    1_024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_large_package_a_range_alone_is_read() {
    let bridge = Bridge::start().await;
    let (id, _, url) = armed(&bridge, &[7; 5_000]).await;
    let package = url.replace("/descriptor", "/package");
    let path = DataDir::open(bridge.folder.path(), None).unwrap().package_path(id);
    // A file with a hole.
    let length = 4_u64 << 30;
    std::fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
    let before = anonymous_bytes();
    for start in [0, length / 2, length - 100] {
        let (status, _, octets) = get(&package, Some(&format!("bytes={start}-{}", start + 99)));
        assert_eq!((status, octets.len()), (206, 100));
    }
    let more = anonymous_bytes().saturating_sub(before);
    assert!(more < 64 << 20, "{more}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_that_offers_no_download_serves_none() {
    let bridge = Bridge::start().await;
    let (_, _, url) = armed(&bridge, &[7; 100]).await;
    let package = url.replace("/descriptor", "/package");
    let id: CampaignId = url.split('/').rev().nth(2).unwrap().parse().unwrap();
    assert_eq!(get(&package, None).0, 200);
    let store = bridge.store().await;
    campaigns::stop(&store, Clock.now().utc, id).await.unwrap();
    for url in [url, package] {
        assert_eq!(get(&url, None).0, 404, "{url}");
    }
}
