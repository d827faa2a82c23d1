//! The control API over real HTTP, against a package in a directory.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    sync::Mutex,
    thread,
};

use prost::Message;
use proto::{
    control::{AirPhase, CONTENT_TYPE, PATH},
    fixtures::documents::random_key,
    flute::alc::Packet,
    ids::ComponentId,
    trust::{DocumentKind, Envelope},
};
use proto_http::{limits::Limits, open_files, server::Connections};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime};

use super::*;
use crate::{
    package::documents::{
        YEAR, make_root, object_of_plan, signed,
        tests::{campaign, manifest},
    },
    plan::encode::tests::{Sample, sample},
    shell::control_http,
};

const TOKEN: &str = "0123456789abcdef";
const ID: CampaignId = CampaignId([7; 16]);

/// Writes a data directory with one package whose campaign runs for the next hour.
fn data() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let now = Utc::from_seconds(clock::now().utc.seconds());
    let (root, release, operator) = (random_key(), random_key(), random_key());
    let envelope = make_root(now, &root, release.public(), operator.public()).unwrap();
    fs::write(directory.path().join("root.env"), envelope).unwrap();
    let package = directory.path().join(ID.to_string());
    fs::create_dir(&package).unwrap();
    let Sample { header, file, .. } = sample();
    fs::write(package.join("0.plan"), file).unwrap();
    let mut document = manifest(&sample());
    document.not_before = now;
    document.expires = now + YEAR;
    let payload = document.emit().unwrap();
    let object = object_of_plan(&document, ComponentId(0), &header.emit()).unwrap();
    let mut document = campaign(&payload, object);
    document.not_before = now;
    document.latest_stop = now + Duration::from_secs(3600);
    document.expires = now + YEAR;
    let envelope = signed(DocumentKind::Manifest, payload, &[release]).unwrap();
    fs::write(package.join("manifest.env"), envelope).unwrap();
    let payload = document.emit().unwrap();
    let envelope = signed(DocumentKind::Campaign, payload, &[operator]).unwrap();
    fs::write(package.join("campaign.env"), envelope).unwrap();
    directory
}

fn open(directory: &Path) -> SessionManager {
    let send_options =
        SendOptions { interface: Ipv4Addr::LOCALHOST.into(), source: None, ttl: 1, dscp: 0 };
    let root = directory.join("root.env");
    SessionManager::new(directory.to_owned(), &root, send_options, Rate::new(2_000_000).unwrap())
        .unwrap()
}

/// A server in a thread of its own; ends with the value.
struct Server {
    address: SocketAddr,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(directory: &Path) -> Self {
        test_log::capture();
        test_log::record_secret("token", TOKEN.as_bytes());
        let manager = open(directory);
        let (tell, address) = std::sync::mpsc::channel();
        let (end, ended) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let shared = SharedManager::new(manager);
                let connections = Connections::new(Limits::default(), &[]);
                tokio::select! {
                    () = control_http::serve(listener, shared.clone(), TOKEN.into(), connections) => {}
                    () = shared.drive() => {}
                    _ = ended => {}
                }
                shared.shut_down();
            });
        });
        Self { address: address.recv().unwrap(), end: Some(end), thread: Some(thread) }
    }

    /// Sends a request as it is; returns status and body.
    fn raw(&self, request: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        (status, answer[end + 4..].to_vec())
    }

    fn post(&self, path: &str, token: Option<&str>, kind: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let token = token.unwrap_or_default();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\n{token}\r\n"
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    fn call<Answer: Message + Default>(
        &self,
        operation: &str,
        request: &impl Message,
    ) -> Result<Answer, (u16, String)> {
        let path = format!("{PATH}/{operation}");
        match self.post(&path, Some(TOKEN), CONTENT_TYPE, &request.encode_to_vec()) {
            (200, body) => Ok(Answer::decode(body.as_slice()).unwrap()),
            (status, body) => Err((status, String::from_utf8(body).unwrap())),
        }
    }

    fn phase(&self) -> AirPhase {
        let reply: StatusReply = self.call("status", &StatusRequest::default()).unwrap();
        reply.sessions[0].phase()
    }

    fn wait_for(&self, phase: AirPhase) {
        let patience = clock::now().mono + Duration::from_secs(10);
        while self.phase() != phase {
            assert!(clock::now().mono < patience, "{:?}", self.phase());
            clock::sleep_until(clock::now().mono + Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

// test: security 7.2 (places of connections)
#[test]
fn silent_peers_do_not_keep_the_image_server_from_its_operator() {
    open_files::raise_limit();
    let directory = data();
    let server = Server::start(directory.path());
    let from = SocketAddr::from(([127, 0, 0, 2], 0));
    let silent: Vec<_> = (0..1_100)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&from.into()).unwrap();
            socket.connect(&server.address.into()).unwrap();
            socket
        })
        .collect();
    let reply: StatusReply = server.call("status", &StatusRequest::default()).unwrap();
    assert_eq!(reply.sessions, []);
    let (status, _) = server.post("/metrics", None, CONTENT_TYPE, b"");
    assert_eq!(status, 401);
    drop(silent);
}

// test: security 7.2 (a wrong token costs others nothing)
#[test]
fn wrong_tokens_do_not_keep_the_image_server_from_its_operator() {
    let directory = data();
    let server = Server::start(directory.path());
    let path = format!("{PATH}/status");
    for nth in 0..500 {
        let wrong = format!("{nth:016}");
        assert_eq!(server.post(&path, Some(&wrong), CONTENT_TYPE, &[]).0, 401);
    }
    let reply: StatusReply = server.call("status", &StatusRequest::default()).unwrap();
    assert_eq!(reply.sessions, []);
}

/// Returns the octets that this thread has read from files.
fn octets_read() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn preparing_reads_documents_and_heads_alone_while_others_wait() {
    let directory = data();
    let plan = directory.path().join(ID.to_string()).join("0.plan");
    let mut manager = open(directory.path());
    let before = octets_read();
    manager.prepare(clock::now(), &request(3400)).unwrap();
    let read = octets_read() - before;
    let plan = fs::metadata(plan).unwrap().len();
    assert!(read < plan, "{read} octets were read, and the plan has {plan}");
}

fn request(port: u16) -> PrepareRequest {
    let now = clock::now().utc.seconds();
    PrepareRequest {
        campaign_id: ID.0.to_vec(),
        group: "239.255.71.5".into(),
        port: port.into(),
        opens_utc: now + 1,
        closes_utc: now + 600,
        bits_per_second: 1_000_000,
        window_revision: 1,
    }
}

#[test]
fn a_bridge_prepares_opens_and_stops_and_the_restart_goes_on() {
    let directory = data();
    let listener = UdpSocket::bind("0.0.0.0:0").unwrap();
    let group = Ipv4Addr::new(239, 255, 71, 5);
    listener.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let prepare = request(listener.local_addr().unwrap().port());
    let server = Server::start(directory.path());
    let reply: PrepareReply = server.call("prepare", &prepare).unwrap();
    assert_eq!((reply.source.as_str(), reply.plan_symbols), ("127.0.0.1", 160));
    server.wait_for(AirPhase::Prepared);
    let again: PrepareReply = server.call("prepare", &prepare).unwrap();
    assert_eq!(again, PrepareReply { checking: false, checked_percent: 100, ..reply.clone() });
    let PrepareRequest { campaign_id, opens_utc, closes_utc, .. } = prepare;
    let (campaign, tsi) = (campaign_id.clone(), reply.tsi);
    let open =
        OpenRequest { campaign_id: campaign, tsi, opens_utc, closes_utc, window_revision: 1 };
    let status: StatusReply = server.call("open", &open).unwrap();
    assert_eq!(status.sessions.len(), 1);
    let mut buffer = [0; 2048];
    let length = listener.recv(&mut buffer).unwrap();
    let packet = Packet::parse(&buffer[..length]).unwrap();
    assert_eq!(packet.header.tsi, Tsi(reply.tsi.into()));
    assert_eq!(packet.extensions.fdt().map(|fdt| fdt.instance_id), Some(0));
    server.wait_for(AirPhase::OnAir);
    drop(server);

    let server = Server::start(directory.path());
    server.wait_for(AirPhase::OnAir);
    let metrics = format!(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    let (status, text) = server.raw(metrics.as_bytes());
    let text = String::from_utf8(text).unwrap();
    assert!(status == 200 && text.contains("carousel_on_air{campaign=\"0707"), "{text}");
    assert!(text.contains("carousel_connections_total{outcome=\"accepted\"}"), "{text}");
    let stop = StopRequest { campaign_id, tsi: reply.tsi, window_revision: 1 };
    let _: StatusReply = server.call("stop", &stop).unwrap();
    server.wait_for(AirPhase::Stopped);
    let saved =
        package_dir::read_saved(&directory.path().join(ID.to_string()), ID).unwrap().unwrap();
    assert_eq!(saved.tsi, Tsi(reply.tsi.into()));
    assert!(saved.resume_point.fdt_instance > 0);
}

#[test]
fn every_route_refuses_a_stranger() {
    let directory = data();
    let server = Server::start(directory.path());
    for route in ["prepare", "open", "stop", "status"] {
        let path = format!("{PATH}/{route}");
        for token in [None, Some(""), Some("0123456789abcdeg"), Some("0123456789abcdef0")] {
            let (status, _) = server.post(&path, token, CONTENT_TYPE, &[]);
            assert_eq!(status, 401, "{route} {token:?}");
        }
    }
    for path in ["/metrics", "/", "/healthz", "/control/v1/none"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(server.raw(head.as_bytes()).0, 401, "{path}");
    }
}

#[test]
fn what_a_caller_asks_wrongly_is_answered_by_name() {
    let directory = data();
    let server = Server::start(directory.path());
    let prepare = request(4000);
    let refused = |request: &PrepareRequest| -> (u16, String) {
        server.call::<PrepareReply>("prepare", request).unwrap_err()
    };
    let unknown = PrepareRequest { campaign_id: vec![8; 16], ..prepare.clone() };
    assert_eq!(refused(&unknown).0, 404);
    let (status, text) = refused(&PrepareRequest { group: "10.0.0.1".into(), ..prepare.clone() });
    assert_eq!((status, text.as_str()), (400, "group 10.0.0.1 is no multicast address"));
    let (status, text) = refused(&PrepareRequest { closes_utc: 1, ..prepare.clone() });
    assert!(status == 422 && text.starts_with("closes_utc"), "{text}");
    let late = PrepareRequest { closes_utc: prepare.closes_utc + 7200, ..prepare.clone() };
    assert_eq!(refused(&late).0, 422);
    let path = format!("{PATH}/status");
    assert_eq!(server.post(&path, Some(TOKEN), "text/plain", &[]).0, 415);
    assert_eq!(server.post(&path, Some(TOKEN), CONTENT_TYPE, &[0xff]).0, 400);
    assert_eq!(server.post(&path, Some(TOKEN), CONTENT_TYPE, &[0; 65_537]).0, 413);
    let reply: PrepareReply = server.call("prepare", &prepare).unwrap();
    let (campaign_id, tsi) = (prepare.campaign_id.clone(), reply.tsi ^ 1);
    let wrong = StopRequest { campaign_id, tsi, window_revision: 1 };
    assert_eq!(server.call::<StatusReply>("stop", &wrong).unwrap_err().0, 409);

    let path = directory.path().join(ID.to_string()).join("campaign.env");
    let mut envelope = fs::read(&path).unwrap();
    let last = envelope.len() - 30;
    envelope[last] ^= 1;
    assert!(Envelope::parse(&envelope).is_ok());
    fs::write(&path, envelope).unwrap();
    let (status, text) = refused(&prepare);
    assert!(status == 422 && text.contains("campaign.env"), "{text}");
}

#[test]
fn an_order_that_cannot_be_kept_is_not_acknowledged() {
    let directory = data();
    let server = Server::start(directory.path());
    let package = directory.path().join(ID.to_string());
    // A directory in the place of the temporary file: nothing can be saved.
    fs::create_dir(package.join("air.json.new")).unwrap();
    let error = server.call::<PrepareReply>("prepare", &request(4000)).unwrap_err();
    assert_eq!(error.0, 507, "{}", error.1);
    fs::remove_dir(package.join("air.json.new")).unwrap();
    assert!(server.call::<PrepareReply>("prepare", &request(4000)).is_ok());
}

#[test]
fn a_damaged_earlier_session_does_not_keep_the_server_from_starting() {
    let directory = data();
    let package = directory.path().join(ID.to_string());
    fs::create_dir(directory.path().join("lost+found")).unwrap();
    for number in 1..3 {
        fs::write(package.join("air.json"), b"{").unwrap();
        let manager = Mutex::new(open(directory.path()));
        let now = clock::now();
        let reply = manager.lock().unwrap().status(now, &StatusRequest::default()).unwrap();
        assert!(reply.sessions.is_empty());
        // The damaged file is kept, and the session begins afresh.
        let aside = fs::read(package.join(format!("air.json.damaged-{number}"))).unwrap();
        assert_eq!(aside, b"{");
        assert!(!package.join("air.json").exists());
    }
    let server = Server::start(directory.path());
    assert!(server.call::<PrepareReply>("prepare", &request(4000)).is_ok());
}

#[test]
fn a_plan_is_compared_once_and_again_after_a_change() {
    let directory = data();
    let package = directory.path().join(ID.to_string());
    let plan = fs::read(package.join("0.plan")).unwrap();
    let server = Server::start(directory.path());
    let reply: PrepareReply = server.call("prepare", &request(4000)).unwrap();
    assert!(reply.checking, "the first answer does not wait for the comparison");
    server.wait_for(AirPhase::Prepared);
    drop(server);
    // A restart relies on the comparison before it.
    let server = Server::start(directory.path());
    assert_eq!(server.phase(), AirPhase::Prepared);
    drop(server);

    let mut changed = plan.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    fs::write(package.join("0.plan"), changed).unwrap();
    let server = Server::start(directory.path());
    server.wait_for(AirPhase::Damaged);
    let (status, text) = server.call::<PrepareReply>("prepare", &request(4000)).unwrap_err();
    assert!(status == 422 && text.contains("0.plan"), "{status} {text}");
    fs::write(package.join("0.plan"), plan).unwrap();
    assert!(server.call::<PrepareReply>("prepare", &request(4000)).unwrap().checking);
    server.wait_for(AirPhase::Prepared);
}

#[test]
fn the_status_says_when_a_plan_changes_under_a_session_on_air() {
    let directory = data();
    let package = directory.path().join(ID.to_string());
    let server = Server::start(directory.path());
    let prepare = request(4000);
    let PrepareReply { tsi, .. } = server.call("prepare", &prepare).unwrap();
    server.wait_for(AirPhase::Prepared);
    let PrepareRequest { campaign_id, opens_utc, closes_utc, .. } = prepare;
    let campaign = campaign_id.clone();
    let open =
        OpenRequest { campaign_id: campaign, tsi, opens_utc, closes_utc, window_revision: 1 };
    // The same size, time and inode: as when the medium fails.
    let path = package.join("0.plan");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"bad", 9000).unwrap();
    file.set_modified(before).unwrap();
    drop(file);
    let _: StatusReply = server.call("open", &open).unwrap();
    server.wait_for(AirPhase::OnAir);
    let patience = clock::now().mono + Duration::from_secs(10);
    let session = loop {
        let reply: StatusReply = server.call("status", &StatusRequest::default()).unwrap();
        if reply.sessions[0].damaged_runs > 0 || clock::now().mono > patience {
            break reply.sessions[0].clone();
        }
        clock::sleep_until(clock::now().mono + Duration::from_millis(20));
    };
    assert_eq!((session.phase(), session.damaged_runs), (AirPhase::OnAir, 1));
    assert!(session.problem.contains("copy the package again"), "{}", session.problem);
    let stop = StopRequest { campaign_id, tsi, window_revision: 1 };
    let _: StatusReply = server.call("stop", &stop).unwrap();
    let next = PrepareRequest { window_revision: 2, ..request(4000) };
    let refused = || server.call::<PrepareReply>("prepare", &next).is_err();
    let patience = clock::now().mono + Duration::from_secs(10);
    while !refused() {
        assert!(clock::now().mono < patience, "a changed plan is prepared again");
        clock::sleep_until(clock::now().mono + Duration::from_millis(20));
    }
}

/// Steps a manager, 10 s later each time, until its session is in a phase.
fn step_until(manager: &mut SessionManager, now: &mut Now, phase: AirPhase) {
    let patience = clock::now().mono + Duration::from_secs(10);
    let found = |manager: &mut SessionManager, now: Now| {
        let reply = manager.status(now, &StatusRequest::default()).unwrap();
        reply.sessions.first().map(proto::control::AirStatus::phase)
    };
    while found(manager, *now) != Some(phase) {
        assert!(clock::now().mono < patience, "{:?}", found(manager, *now));
        clock::sleep_until(clock::now().mono + Duration::from_millis(5));
        now.mono = now.mono + Duration::from_secs(10);
        manager.step(*now);
    }
}

#[test]
fn a_fault_that_passes_while_a_plan_is_compared_refuses_nothing() {
    let directory = data();
    let in_the_way = directory.path().join(ID.to_string()).join("0.runs.new");
    fs::create_dir(&in_the_way).unwrap();
    let mut manager = open(directory.path());
    let mut now = clock::now();
    assert!(manager.prepare(now, &request(4000)).unwrap().checking);
    for _ in 0..20 {
        clock::sleep_until(clock::now().mono + Duration::from_millis(10));
        manager.step(now);
        let again = manager.prepare(now, &request(4000)).unwrap();
        assert!(again.checking, "it cannot be kept");
    }
    fs::remove_dir(in_the_way).unwrap();
    step_until(&mut manager, &mut now, AirPhase::Prepared);
}

#[test]
fn a_session_whose_package_cannot_be_read_at_the_start_is_restored_later() {
    let directory = data();
    let mut manager = open(directory.path());
    let mut now = clock::now();
    manager.prepare(now, &request(4000)).unwrap();
    manager.save_changes(now).unwrap();
    step_until(&mut manager, &mut now, AirPhase::Prepared);
    drop(manager);
    let path = directory.path().join(ID.to_string()).join("manifest.env");
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    let mut manager = open(directory.path());
    let mut now = clock::now();
    now.mono = now.mono + RETRY_AFTER;
    manager.step(now);
    assert_eq!(manager.status(now, &StatusRequest::default()).unwrap().sessions, []);
    fs::rename(aside, path).unwrap();
    step_until(&mut manager, &mut now, AirPhase::Prepared);
}

#[test]
fn a_session_that_is_stopped_before_it_is_restored_stays_off_the_air() {
    let directory = data();
    let mut manager = open(directory.path());
    let mut now = clock::now();
    let PrepareReply { tsi, .. } = manager.prepare(now, &request(4000)).unwrap();
    manager.save_changes(now).unwrap();
    step_until(&mut manager, &mut now, AirPhase::Prepared);
    drop(manager);
    let path = directory.path().join(ID.to_string()).join("manifest.env");
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    let mut manager = open(directory.path());
    let mut now = clock::now();
    let stop = StopRequest { campaign_id: ID.0.to_vec(), tsi, window_revision: 1 };
    let stopped = manager.stop(now, &stop);
    assert!(matches!(stopped, Err(ControlError::Refused(Refusal::NotFound(_)))), "{stopped:?}");
    fs::rename(aside, path).unwrap();
    now.mono = now.mono + RETRY_AFTER;
    manager.step(now);
    step_until(&mut manager, &mut now, AirPhase::Stopped);
}

#[test]
fn temporary_files_of_a_killed_server_are_removed_at_the_start() {
    let directory = data();
    let package = directory.path().join(ID.to_string());
    for name in ["air.json.new", "0.runs.new", "0.plan.new"] {
        fs::write(package.join(name), b"x").unwrap();
    }
    drop(open(directory.path()));
    let names = files::names(&package).unwrap();
    let left: Vec<_> = names.iter().filter(|name| name.ends_with(".new")).collect();
    assert_eq!(left, ["0.plan.new"], "a command may be writing the plan");
}
