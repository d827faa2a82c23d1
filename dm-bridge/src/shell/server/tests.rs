//! The whole server over real sockets: devices, operators, an image server.

mod device;
mod download;
mod enrolment;
mod image_servers;
mod proofs;
mod strangers;

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use prost::Message as _;
use proto::{
    control::{OpenRequest, PrepareReply, PrepareRequest},
    crypto::random,
    dm::{encoding::Encoding, policy::PolicyNode},
    ids::CampaignId,
};

use self::device::{Answer, Device, send};
use super::*;
use crate::{
    api::responses::{
        CampaignBody, CampaignDeviceBody, DeviceBody, DeviceDetailBody, PageBody, PolicySettingBody,
    },
    app::{
        campaigns::{self, CreateCampaign, Selection},
        devices,
    },
    campaign::{
        model::{BroadcastTarget, CampaignParameters, Delivery},
        update_requests::UpdateRequestPolicy,
        verify::tests::Kit,
    },
    fleet::store::FleetStore as _,
    shell::http::api::{Access, routes},
};

/// A bridge on a port of its own, in a directory of its own.
struct Bridge {
    folder: tempfile::TempDir,
    running: Option<RunningServer>,
    address: SocketAddr,
    token: String,
}

impl Bridge {
    async fn start() -> Self {
        Self::start_with(Admission::default()).await
    }

    async fn start_with(admission: Admission) -> Self {
        test_log::capture();
        let folder = tempfile::tempdir().unwrap();
        DataDir::init(folder.path(), None, random()).await.unwrap();
        test_log::collect_folder(folder.path());
        let running = run(folder.path(), "127.0.0.1:0".parse().unwrap(), admission).await;
        let token = DataDir::open(folder.path(), None).unwrap().token().unwrap();
        let address = running.address;
        Self { folder, running: Some(running), address, token }
    }

    async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    async fn start_again(&mut self) {
        let admission = Admission::default();
        self.running = Some(run(self.folder.path(), self.address, admission).await);
    }

    async fn store(&self) -> SqliteStore {
        DataDir::open(self.folder.path(), None).unwrap().store().await.unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn enrol(&self, name: &str) -> Device {
        let enrolment =
            devices::Enrolment { url: self.url("/dm"), ..devices::tests::enrolment(name) };
        let secrets = devices::FreshSecrets {
            password: random(),
            nonce: random(),
            server_password: random(),
            server_nonce: random(),
        };
        let store = self.store().await;
        let settings = devices::enrol(&store, Clock.now().utc, enrolment, secrets).await.unwrap();
        test_log::record_secret("toml", settings.as_bytes());
        Device::new(&settings, self.url("/dm"))
    }

    /// Creates a campaign for all devices and starts it; it closes in an hour.
    async fn campaign(&self, carousel: &str) -> CampaignId {
        self.campaign_by(carousel, Delivery::default()).await
    }

    async fn campaign_by(&self, carousel: &str, delivery: Delivery) -> CampaignId {
        self.campaign_of(&current(Clock.now().utc), carousel, delivery).await
    }

    async fn campaign_of(&self, kit: &Kit, carousel: &str, delivery: Delivery) -> CampaignId {
        let store = self.store().await;
        let now = Clock.now().utc;
        let token_file = self.folder.path().join("carousel.token");
        std::fs::write(&token_file, "a-token-of-the-carousel\n").unwrap();
        test_log::collect_folder(self.folder.path());
        let order = CreateCampaign {
            documents: kit.documents(),
            parameters: CampaignParameters {
                target: BroadcastTarget {
                    carousel_url: carousel.to_owned(),
                    token_file: token_file.to_str().unwrap().to_owned(),
                    group: "232.1.2.3".parse().unwrap(),
                    port: 3_400,
                },
                delivery,
                update_requests: UpdateRequestPolicy::Nothing,
            },
            plain_http: PlainHttp::LoopbackOnly,
            selection: Selection::All,
            report_spread_seconds: Some(0),
        };
        let id = campaigns::create(&store, now, order, &mut random::<16>).await.unwrap();
        let window = (now, now + Duration::from_secs(3_600));
        campaigns::start(&store, now, id, window, &mut random::<16>).await.unwrap();
        id
    }

    fn get(&self, path: &str) -> Answer {
        send(&self.url(path), "GET", Some(&self.token), None)
    }

    /// Waits until something holds.
    async fn until(&self, holds: impl Fn() -> bool, what: &str) {
        for _ in 0..200 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not within 10 s: {what}");
    }

    fn show(&self, id: CampaignId) -> CampaignBody {
        serde_json::from_slice(&self.get(&format!("/api/v1/campaigns/{id}")).body).unwrap()
    }

    fn devices(&self, id: CampaignId) -> Vec<CampaignDeviceBody> {
        let answer = self.get(&format!("/api/v1/campaigns/{id}/devices"));
        serde_json::from_slice::<PageBody<_>>(&answer.body).unwrap().items
    }

    fn wait_for(&self, id: CampaignId, what: &str, reached: impl Fn(&CampaignBody) -> bool) {
        let begun = Clock.now().mono;
        while !reached(&self.show(id)) {
            let waited = Clock.now().mono.since(begun);
            assert!(waited < Duration::from_secs(20), "not {what}: {:?}", self.show(id));
            std::thread::yield_now();
        }
    }
}

async fn run(folder: &Path, listen: SocketAddr, admission: Admission) -> RunningServer {
    start(settings(folder, listen, admission)).await.unwrap()
}

fn settings(folder: &Path, listen: SocketAddr, admission: Admission) -> Settings {
    Settings {
        data: DataDir::open(folder, None).unwrap(),
        listen,
        tls: None,
        plain_http: PlainHttp::LoopbackOnly,
        policy: ReconcilePolicy::default(),
        admission,
        trusted_proxies: Vec::new(),
    }
}

fn current(now: proto::time::Utc) -> Kit {
    let at = |seconds| proto::time::Utc::from_seconds(now.seconds() + seconds);
    let mut kit = Kit::new();
    kit.root.expires = at(90_000);
    kit.manifest.expires = at(80_000);
    kit.campaign.latest_stop = at(50_000);
    kit.campaign.expires = at(60_000);
    kit.tie();
    kit
}

/// Calls to the image server, in order.
type Asked = Arc<Mutex<Vec<String>>>;

/// An image server that accepts every call.
async fn image_server() -> (String, Asked) {
    image_server_that_compares(0).await
}

/// An image server whose first answers are that it still compares the plan, this many.
async fn image_server_that_compares(comparing: usize) -> (String, Asked) {
    let asked = Asked::default();
    let note = |asked: &Asked, text: String| asked.lock().unwrap().push(text);
    let prepare = move |State(asked): State<Asked>, body: Bytes| async move {
        let request = PrepareRequest::decode(body).unwrap();
        note(&asked, "prepare".to_owned());
        let reply = PrepareReply {
            source: "127.0.0.1".to_owned(),
            tsi: 77,
            group: request.group,
            port: request.port,
            plan_symbols: 4,
            bytes_per_pass: 6_000,
            checking: asked.lock().unwrap().len() <= comparing,
            checked_percent: 50,
        };
        reply.encode_to_vec()
    };
    let open = move |State(asked): State<Asked>, body: Bytes| async move {
        let request = OpenRequest::decode(body).unwrap();
        note(&asked, format!("open {}", request.tsi));
    };
    let stop = move |State(asked): State<Asked>| async move { note(&asked, "stop".to_owned()) };
    let router = Router::new()
        .route("/control/v1/prepare", post(prepare))
        .route("/control/v1/open", post(open))
        .route("/control/v1/stop", post(stop))
        .with_state(Arc::clone(&asked));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

// test: oma-dm 6 (media types by their suffix)
#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_challenged_armed_and_its_result_confirmed_in_both_forms() {
    for encoding in [Encoding::Xml, Encoding::Wbxml] {
        challenged_armed_and_confirmed(encoding).await;
    }
}

async fn challenged_armed_and_confirmed(encoding: Encoding) {
    let bridge = Bridge::start().await;
    let (carousel, asked) = image_server().await;
    let mut device = bridge.enrol("LAB-0001").await;
    device.encoding = encoding;
    let id = bridge.campaign(&carousel).await;
    bridge.wait_for(id, "on air", |campaign| campaign.tsi == Some(77));

    device.next_session();
    let first = device.first(None);
    let answer = device.post(&first);
    assert_eq!(answer.header_code(), 407);
    let credential = device.script.client.secret.credential(&answer.nonce());
    let second = device.first(Some(credential));
    let answer = device.post(&second);
    assert_eq!(answer.header_code(), 212);
    device.nonce = answer.nonce();
    device.go_on(answer);
    let rows = bridge.devices(id);
    assert_eq!((rows[0].armed, rows[0].phase.as_str()), (true, "armed"));
    assert_eq!(rows[0].firmware_version.as_deref(), Some("1.0"));

    device.script.set("FwV", "2.0");
    device.report(200);
    device.run();
    let rows = bridge.devices(id);
    assert_eq!((rows[0].result_code, rows[0].phase.as_str()), (Some(200), "confirmed"));
    bridge.wait_for(id, "closed", |campaign| campaign.state == "closed");
    assert_eq!(*asked.lock().unwrap(), ["prepare", "open 77", "stop"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_bridge_continues_and_counts_a_result_once() {
    let mut bridge = Bridge::start().await;
    let (carousel, asked) = image_server().await;
    let mut device = bridge.enrol("LAB-0001").await;
    let mut other = bridge.enrol("LAB-0002").await;
    let id = bridge.campaign(&carousel).await;
    bridge.wait_for(id, "on air", |campaign| campaign.tsi == Some(77));
    device.run();
    other.run();
    bridge.stop().await;

    bridge.start_again().await;
    device.script.set("FwV", "2.0");
    for _ in 0..3 {
        device.report(200);
        device.run();
    }
    let campaign = bridge.show(id);
    assert_eq!(campaign.devices.get("confirmed"), Some(&1), "{campaign:?}");
    assert_eq!(campaign.devices.get("armed"), Some(&1), "{campaign:?}");
    assert_eq!(campaign.state, "running");
    assert_eq!(*asked.lock().unwrap(), ["prepare", "open 77"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_still_compared_arms_nobody_and_is_asked_for_again() {
    let bridge = Bridge::start().await;
    let (carousel, asked) = image_server_that_compares(2).await;
    let mut device = bridge.enrol("LAB-0001").await;
    let id = bridge.campaign(&carousel).await;
    let named = |campaign: &CampaignBody| {
        campaign.last_error.as_ref().is_some_and(|error| error.contains("50 % are done"))
    };
    bridge.wait_for(id, "compared", named);
    device.run();
    bridge.wait_for(id, "on air", |campaign| campaign.tsi == Some(77));
    bridge.until(|| asked.lock().unwrap().len() == 4, "the session is opened").await;
    assert_eq!(*asked.lock().unwrap(), ["prepare", "prepare", "prepare", "open 77"]);
    assert_eq!(bridge.show(id).last_error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_image_server_is_named_and_arms_nobody() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    let id = bridge.campaign("http://127.0.0.1:1").await;
    let named = |campaign: &CampaignBody| {
        campaign.last_error.as_ref().is_some_and(|error| error.contains("cannot be reached"))
    };
    bridge.wait_for(id, "hindered", named);
    device.run();
    assert_eq!(bridge.devices(id)[0].phase, "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_nonce_opens_nothing() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    let used = device.credential();
    device.run();
    device.next_session();
    let replayed = device.first(Some(used));
    let answer = device.post(&replayed);
    assert_eq!(answer.header_code(), 401);
    let credential = device.script.client.secret.credential(&answer.nonce());
    let again = device.first(Some(credential));
    assert_eq!(device.post(&again).header_code(), 212);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_the_quirk_type_first_gets_types_before_formats() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    let id = "LAB-0001".parse().unwrap();
    for (name, is_first) in [("standard", false), ("as-sampled", true)] {
        let profile = DataDir::open(bridge.folder.path(), None).unwrap().profile(name).unwrap();
        let store = bridge.store().await;
        devices::set_profile(&store, Clock.now().utc, &id, &profile).await.unwrap();
        device.next_session();
        let first = device.first(None);
        let answer = device.post(&first);
        assert_eq!(answer.header_code(), 407);
        let text = String::from_utf8(answer.body).unwrap();
        let places = (text.find("<Type").unwrap(), text.find("<Format").unwrap());
        assert_eq!(places.0 < places.1, is_first, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_sent_again_and_nothing_happens_twice() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    let store = bridge.store().await;
    device.next_session();
    let credential = device.credential();
    let first = device.first(Some(credential));
    let answer = device.post(&first);
    let lines = store.audit_tail(100).await.unwrap().len();
    assert_eq!(device.post(&first).body, answer.body);
    assert_eq!(store.audit_tail(100).await.unwrap().len(), lines);
    let (url, body) = device.reply(&answer.message()).unwrap();
    let content_type = "application/vnd.syncml.dm+xml";
    let second = device::post(&url, content_type, &body);
    assert_eq!(device::post(&url, content_type, &body).body, second.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_id_alone_does_not_authenticate_a_device() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    device.next_session();
    let credential = device.credential();
    let first = device.first(Some(credential));
    let answer = device.post(&first);
    let (url, body) = device.reply(&answer.message()).unwrap();
    assert_eq!(device.post(&body).header_code(), 407, "no token");
    let guessed = device::post(&format!("{url}0"), "application/vnd.syncml.dm+xml", &body);
    assert_eq!(guessed.header_code(), 407);
    let right = device::post(&url, "application/vnd.syncml.dm+xml", &body);
    assert_eq!(right.header_code(), 212, "the session itself is unharmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_of_an_enrolled_device_changes_nothing() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    let store = bridge.store().await;
    let before = (store.devices().await.unwrap(), store.audit_tail(100).await.unwrap());
    let kind = "application/vnd.syncml.dm+xml";
    device.next_session();
    let message = device.first(None);
    let cases: [(&str, Vec<u8>, u16); 8] = [
        (kind, b"hello".to_vec(), 400),
        (kind, b"<html/>".to_vec(), 400),
        (kind, Vec::new(), 400),
        (kind, message[..message.len() / 2].to_vec(), 400),
        (kind, vec![b' '; 64 * 1024 + 1], 413),
        (kind, vec![b' '; 64 * 1024], 400),
        ("application/vnd.syncml.dm+wbxml", message.clone(), 400),
        ("application/json", message, 415),
    ];
    for (content_type, body, status) in cases {
        let answer = device::post(&bridge.url("/dm"), content_type, &body);
        assert_eq!(answer.status, status, "{content_type} {}", body.len());
    }
    for unknown in ["LAB-0002", "not an id"] {
        unknown.clone_into(&mut device.script.client.id);
        let credential = device.credential();
        let first = device.first(Some(credential));
        assert_eq!(device.post(&first).header_code(), 401);
    }
    let after = (store.devices().await.unwrap(), store.audit_tail(100).await.unwrap());
    assert_eq!(before, after);
}

// test: oma-dm 6 (no content encoding)
#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_a_content_encoding_is_refused() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    device.next_session();
    let message = device.first(None);
    for (names, status) in [
        (&["gzip"][..], 415),
        (&["identity", "deflate"], 415),
        (&["identity, br"], 415),
        (&["identity"], 200),
        (&["Identity", ""], 200),
    ] {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        let request = agent.post(bridge.url("/dm")).content_type("application/vnd.syncml.dm+xml");
        let request = names.iter().fold(request, |it, name| it.header("Content-Encoding", *name));
        let response = request.send(&message[..]).unwrap();
        assert_eq!(response.status().as_u16(), status, "{names:?}");
        let accepted = response.headers().get("accept-encoding").map(|it| it.to_str().unwrap());
        assert_eq!(accepted, (status == 415).then_some("identity"), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_beyond_the_limit_are_answered_with_the_time_to_retry() {
    let admission = Admission { sessions: 1, ..Admission::default() };
    let bridge = Bridge::start_with(admission).await;
    let mut devices = [bridge.enrol("LAB-0001").await, bridge.enrol("LAB-0002").await];
    let answers = devices.each_mut().map(|device| {
        device.next_session();
        let credential = device.credential();
        let first = device.first(Some(credential));
        device.post(&first)
    });
    assert_eq!(answers[0].header_code(), 212);
    // The time stands in the reply address.
    assert_eq!(answers[1].header_code(), 417);
    assert!(answers[1].reply_address().is_some_and(|address| address.contains("after=")));
    let [first, second] = answers;
    devices[0].go_on(first);
    drop(second);
    devices[1].run();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_token_gets_nothing_from_any_route_of_operators() {
    let bridge = Bridge::start().await;
    let id = "0".repeat(32);
    let mut refused = 0;
    for route in routes() {
        let url = bridge.url(&route.path.replace("{id}", &id));
        for token in [None, Some("wrong"), Some("")] {
            let answer = send(&url, route.method, token, None);
            match route.access {
                Access::Operator => {
                    assert_eq!(answer.status, 401, "{} {}", route.method, route.path);
                    refused += 1;
                }
                Access::Open => assert_ne!(answer.status, 401, "{}", route.path),
            }
        }
    }
    assert_eq!(refused, 17 * 3, "every other route is an operator's");
    let open = routes().into_iter().filter(|route| route.access == Access::Open);
    let open: Vec<_> = open.map(|route| route.path).collect();
    assert_eq!(open, ["/healthz", "/readyz"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_when_the_store_cannot_be_written_and_when_it_can_again() {
    let bridge = Bridge::start().await;
    for (pages, status) in [(1, 503), (1_000_000, 200)] {
        bridge.running.as_ref().unwrap().store.limit_pages(pages).await;
        for path in ["/healthz", "/readyz"] {
            let says = || send(&bridge.url(path), "GET", None, None).status == status;
            bridge.until(says, path).await;
        }
    }
    bridge.enrol("LAB-0001").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routes_of_devices_are_no_routes_of_operators() {
    let bridge = Bridge::start().await;
    for (method, path, status) in [
        ("POST", "/dm", 415),
        ("GET", "/download/x/y/descriptor", 404),
        ("GET", "/download/x/y/package", 404),
        ("POST", "/download/x/y/notify", 404),
    ] {
        assert_eq!(send(&bridge.url(path), method, None, None).status, status, "{path}");
        let top = path.split('/').nth(1).unwrap();
        let of_operators = routes().iter().any(|route| route.path.split('/').nth(1) == Some(top));
        assert!(!of_operators, "{path}");
    }
}

// test: oma-001 8.1.1.0
#[tokio::test(flavor = "multi_thread")]
async fn operators_see_the_fleet_and_move_windows() {
    let bridge = Bridge::start().await;
    let (carousel, _) = image_server().await;
    bridge.enrol("LAB-0001").await;
    let id = bridge.campaign(&carousel).await;
    bridge.until(|| bridge.get("/healthz").body == b"ok\n", "the store is probed").await;
    let gauge = format!("fumocast_bridge_devices{{campaign=\"{id}\",phase=\"pending\"}} 1");
    let counted = || String::from_utf8(bridge.get("/metrics").body).unwrap().contains(&gauge);
    bridge.until(counted, "the reconciler has read the campaign").await;
    let devices = String::from_utf8(bridge.get("/api/v1/devices").body).unwrap();
    assert!(devices.contains("\"LAB-0001\"") && !devices.contains("secret"), "{devices}");
    assert_eq!(bridge.get("/api/v1/devices/LAB-0002").status, 404);
    assert_eq!(bridge.get("/api/v1/campaigns/nonsense").status, 400);
    let ask = |verb: &str, body: &str| {
        let url = bridge.url(&format!("/api/v1/campaigns/{id}/{verb}"));
        let body = Some(("application/json", body.as_bytes()));
        send(&url, "POST", Some(&bridge.token), body).status
    };
    assert_eq!(ask("start", "{\"opens\":\"now\"}"), 400);
    assert_eq!(ask("start", "{\"opens\":\"now\",\"closes\":\"+30d\"}"), 422);
    assert_eq!(ask("start", "{\"opens\":\"now\",\"closes\":\"+1h\"}"), 200);
    assert_eq!(ask("stop", ""), 200);
    bridge.wait_for(id, "stopped", |campaign| campaign.state == "stopped");
    let disarmed = |campaign: &CampaignBody| campaign.devices.contains_key("disarmed");
    bridge.wait_for(id, "disarmed", disarmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_of_a_bounded_size() {
    let bridge = Bridge::start().await;
    let (carousel, _) = image_server().await;
    for number in 1..=5 {
        bridge.enrol(&format!("LAB-000{number}")).await;
    }
    let id = bridge.campaign(&carousel).await;
    let page = |path: &str| -> PageBody<serde_json::Value> {
        let answer = bridge.get(path);
        assert_eq!(answer.status, 200, "{path}");
        serde_json::from_slice(&answer.body).unwrap()
    };
    let of_campaign = format!("/api/v1/campaigns/{id}/devices");
    for path in ["/api/v1/devices", of_campaign.as_str()] {
        let (mut seen, mut next) = (Vec::new(), Some("LAB".to_owned()));
        while let Some(after) = next {
            let page = page(&format!("{path}?limit=2&after={after}"));
            assert!(page.items.len() <= 2 && page.damaged.is_empty());
            seen.extend(page.items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            next = page.next;
        }
        assert_eq!(seen, [1, 2, 3, 4, 5].map(|number| format!("LAB-000{number}")), "{path}");
    }
    let all = page("/api/v1/devices");
    assert_eq!((all.items.len(), all.next), (5, None));
    assert_eq!(page("/api/v1/campaigns?limit=1").next, Some(id.to_string()));
    assert!(page(&format!("/api/v1/campaigns?after={id}")).items.is_empty());
    let audit = page("/api/v1/audit?after=1&limit=3");
    assert_eq!(audit.items[0]["number"], 2);
    assert_eq!(audit.next.as_deref(), Some("4"));
    for wrong in ["limit=0", "limit=1001", "limit=x", "from=1"] {
        assert_eq!(bridge.get(&format!("/api/v1/devices?{wrong}")).status, 400, "{wrong}");
    }
    assert_eq!(bridge.get("/api/v1/audit?after=x").status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_set_nodes_of_a_policy_and_see_what_the_device_answered() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    let ask = |body: &str| {
        let url = bridge.url("/api/v1/devices/LAB-0001/policy");
        send(&url, "POST", Some(&bridge.token), Some(("application/json", body.as_bytes())))
    };
    for wrong in ["{}", r#"{"policy":{}}"#, r#"{"policy":{"x":"1"}}"#, r#"{"policy":{"call":""}}"#]
    {
        assert_eq!(ask(wrong).status, 400, "{wrong}");
    }
    let body = r#"{"policy":{"install":"on-command","consent":"both"}}"#;
    assert_eq!(ask(body).status, 200);
    assert_eq!(ask(r#"{"policy":{"consent":null}}"#).status, 200);
    device.run();
    let shown = bridge.get("/api/v1/devices/LAB-0001").body;
    let shown: DeviceBody = serde_json::from_slice(&shown).unwrap();
    let summary = |(node, it): (&PolicyNode, &PolicySettingBody)| (*node, it.status, it.pending);
    let policy: Vec<_> = shown.policy.iter().map(summary).collect();
    assert_eq!(policy, [(PolicyNode::Install, Some(200), false)]);
    let log = bridge.store().await.audit_tail(100).await.unwrap();
    for detail in ["install=on-command consent=both", "policy install=on-command answered 200"] {
        assert!(log.iter().any(|line| line.detail.contains(detail)), "{detail}: {log:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_set_the_place_of_a_firmware_object_and_see_the_campaigns_of_a_device() {
    let bridge = Bridge::start().await;
    let (carousel, _) = image_server().await;
    bridge.enrol("LAB-0001").await;
    let id = bridge.campaign(&carousel).await;
    let put = |body: &str| {
        let url = bridge.url("/api/v1/devices/LAB-0001/firmware-object");
        send(&url, "PUT", Some(&bridge.token), Some(("application/json", body.as_bytes())))
    };
    for wrong in ["", r#"{"firmware_object":"."}"#, r#"{"firmware_object":"./a//b"}"#] {
        assert_eq!(put(wrong).status, 400, "{wrong}");
    }
    let object = |origin: &str| -> String {
        let shown = bridge.get("/api/v1/devices/LAB-0001").body;
        let shown: DeviceDetailBody = serde_json::from_slice(&shown).unwrap();
        let [row] = &shown.campaigns[..] else { panic!("{shown:?}") };
        assert_eq!((row.campaign, row.phase.as_str(), row.armed), (id, "pending", false));
        assert_eq!(shown.device.object_origin, origin);
        shown.device.object
    };
    assert_eq!(object("assumed"), "./FwUpdate/Main");
    assert_eq!(put(r#"{"firmware_object":"Vendor/Fota"}"#).status, 200);
    assert_eq!(object("set"), "./Vendor/Fota");
    assert_eq!(put(r#"{"firmware_object":null}"#).status, 200);
    assert_eq!(object("assumed"), "./FwUpdate/Main");
}

#[tokio::test]
async fn plain_http_beyond_this_machine_has_to_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    DataDir::init(folder.path(), None, random()).await.unwrap();
    let settings = Settings {
        data: DataDir::open(folder.path(), None).unwrap(),
        listen: "0.0.0.0:0".parse().unwrap(),
        tls: None,
        plain_http: PlainHttp::LoopbackOnly,
        policy: ReconcilePolicy::default(),
        admission: Admission::default(),
        trusted_proxies: Vec::new(),
    };
    let refused = start(settings.clone()).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.exit_code(), 8);
    let running = start(Settings { plain_http: PlainHttp::Anywhere, ..settings }).await.unwrap();
    running.stop().await;
}
