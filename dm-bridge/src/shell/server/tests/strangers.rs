//! Peers that never prove themselves: what they hold, and what others get meanwhile.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request},
};
use proto::{
    dm::{
        auth::Secret,
        syncml::{Command, Credential, Message},
    },
    fixtures::device::ScriptedDevice,
};

use proto_http::limits::Limits;
use tokio::net::TcpSocket;
use tower::ServiceExt as _;

use super::*;
use crate::shell::tls::Transport;

/// Begins a message whose body does not come; returns when the server waits for it.
fn stall(bridge: &Bridge) -> TcpStream {
    let mut stream = TcpStream::connect(bridge.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let kind = Encoding::Xml.media_type();
    let head = format!(
        "POST /dm HTTP/1.1\r\nHost: b\r\nContent-Type: {kind}\r\nContent-Length: 100\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut waiting = [0; 12];
    stream.read_exact(&mut waiting).unwrap();
    assert_eq!(waiting, *b"HTTP/1.1 100");
    stream
}

// test: security 7.2 (stalled bodies)
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_come_hold_no_permit() {
    let bridge = Bridge::start_with(Admission { messages: 2, ..Admission::default() }).await;
    let mut device = bridge.enrol("LAB-0001").await;
    let stalled: Vec<_> = (0..6).map(|_| stall(&bridge)).collect();
    device.run();
    drop(stalled);
}

/// Begins requests of operators, with and without their token, whose bodies do not come.
fn stall_operators(bridge: &Bridge, paths: &[&str], count: usize) -> Vec<TcpStream> {
    let begin = |number: usize| {
        let (method, path) = paths[number % paths.len()].split_once(' ').unwrap();
        let token = if number % 4 < 3 { &bridge.token } else { "wrong" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
        );
        let mut stream = TcpStream::connect(bridge.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // The server waits for the body, or refuses the token.
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        stream
    };
    (0..count).map(begin).collect()
}

// test: security 7.2 (stalled bodies)
#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_operators_that_do_not_come_hold_up_no_operator_and_no_device() {
    let bridge = Bridge::start_with(Admission { messages: 2, ..Admission::default() }).await;
    let mut device = bridge.enrol("LAB-0001").await;
    let paths: Vec<_> = routes()
        .iter()
        .filter(|route| route.method != "GET" && !route.path.ends_with("/stop"))
        .map(|route| format!("{} {}", route.method, route.path.replace("{id}", "LAB-0001")))
        .collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    assert!(paths.len() > 5, "{paths:?}");
    let stalled = stall_operators(&bridge, &paths, 400);
    let mut operator = TcpStream::connect(bridge.address).unwrap();
    operator.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let token = format!("Authorization: Bearer {}\r\n", bridge.token);
    for request in ["GET /api/v1/devices", "GET /metrics", "PUT /api/v1/devices/x/suspension"] {
        let head = format!("{request} HTTP/1.1\r\n{token}");
        let (answer, _) = ask(&mut operator, &head, b"{}").expect(request);
        assert!(!answer.starts_with("http/1.1 5"), "{request}: {answer}");
    }
    device.run();
    drop(stalled);
}

// test: security 7.2 (stalled bodies)
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_waited_for_so_long() {
    let connections = Limits { body: Duration::from_millis(50), ..Limits::default() };
    let bridge = Bridge::start_with(Admission { connections, ..Admission::default() }).await;
    let mut stream = stall(&bridge);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("408 Request Timeout"), "{answer}");
    let metrics = String::from_utf8(bridge.get("/metrics").body).unwrap();
    for line in [
        "dm_messages_total{outcome=\"body_timeout\"} 1",
        "connections_total{outcome=\"body-timeout\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

// test: security 7.2 (places of connections)
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_silent_connections_of_one_address_stop_no_device() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    let mut silent = Vec::new();
    for _ in 0..1_100 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(bridge.address).await.unwrap());
    }
    for _ in 0..3 {
        device.run();
    }
    assert_eq!(bridge.get("/healthz").status, 200);
    drop(silent);
}

/// Sends a request on a connection that goes on; returns the head and the body of the response.
fn ask(stream: &mut TcpStream, head: &str, body: &[u8]) -> Option<(String, Vec<u8>)> {
    let length = body.len();
    let head = format!("{head}Host: b\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).ok()?;
        head.push(octet[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

// test: security 7.2 (places of connections)
#[tokio::test(flavor = "multi_thread")]
async fn a_device_and_an_operator_keep_their_connections_and_strangers_do_not() {
    let idle_after = Duration::from_millis(100);
    let connections = Limits { unproved: 16, all: 64, idle_after, ..Limits::default() };
    let bridge = Bridge::start_with(Admission { connections, ..Admission::default() }).await;
    let mut device = bridge.enrol("LAB-0001").await;
    let connect = || TcpStream::connect(bridge.address).unwrap();
    let (mut of_device, mut of_operator, mut of_guesser) = (connect(), connect(), connect());
    let kind = Encoding::Xml.media_type();
    let message = format!("POST /dm HTTP/1.1\r\nContent-Type: {kind}\r\n");
    device.next_session();
    let proof = device.credential();
    let first = device.first(Some(proof));
    assert!(ask(&mut of_device, &message, &first).unwrap().0.starts_with("http/1.1 200"));
    let wrong = Secret::new("LAB-0001", "guess").credential(b"nonce");
    let wrong = Encoding::Xml.emit(&self::first(&bridge, "LAB-0001", Some(wrong)));
    assert!(ask(&mut of_guesser, &message, &wrong).unwrap().0.starts_with("http/1.1 200"));
    let metrics = format!("GET /metrics HTTP/1.1\r\nAuthorization: Bearer {}\r\n", bridge.token);
    for proved in [1, 2] {
        let text = String::from_utf8(ask(&mut of_operator, &metrics, b"").unwrap().1).unwrap();
        let line = format!("fumocast_bridge_connections{{peer=\"proved\"}} {proved}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
    tokio::time::sleep(idle_after).await;
    let flood: Vec<_> = (0..20).map(|_| connect()).collect();
    let health = "GET /healthz HTTP/1.1\r\n";
    assert!(ask(&mut of_device, health, b"").is_some());
    assert!(ask(&mut of_operator, health, b"").is_some());
    assert!(ask(&mut of_guesser, health, b"").is_none());
    drop(flood);
}

// test: security 7.2 (work before proof)
#[tokio::test(flavor = "multi_thread")]
async fn a_long_installation_notification_is_not_read() {
    let bridge = Bridge::start().await;
    let body = Some(("text/plain", &[b'9'; 1_025][..]));
    let answer = send(&bridge.url("/download/x/y/notify"), "POST", None, body);
    assert_eq!(answer.status, 413);
}

/// Returns package 1 of a device.
fn first(bridge: &Bridge, name: &str, credential: Option<Credential>) -> Message {
    let mut script = ScriptedDevice::new(name, "guess");
    script.client.url = bridge.url("/dm");
    script.first(credential)
}

fn post(bridge: &Bridge, message: &Message) -> Answer {
    device::post(&bridge.url("/dm"), Encoding::Xml.media_type(), &Encoding::Xml.emit(message))
}

// test: security 7.2 (unknown devices)
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_device_id_is_challenged_as_an_enrolled_one() {
    let bridge = Bridge::start().await;
    bridge.enrol("LAB-0001").await;
    let wrong = || Some(Secret::new("x", "guess").credential(b"nonce"));
    for (credential, code) in [(None, 407), (wrong(), 401)] {
        let shape = |name: &str| {
            let answer = post(&bridge, &first(&bridge, name, credential.clone()));
            assert_eq!(answer.header_code(), code, "{name}");
            let nonce = answer.nonce();
            assert_eq!((nonce.len(), answer.nonce()), (16, nonce.clone()));
            let mut message = answer.message();
            for command in &mut message.commands {
                if let Command::Status(status) = command
                    && let Some(challenge) = &mut status.challenge
                {
                    challenge.meta.next_nonce = None;
                }
            }
            let text = String::from_utf8(Encoding::Xml.emit(&message)).unwrap();
            (text.replace(name, "ID"), nonce)
        };
        let (known, unknown) = (shape("LAB-0001"), shape("LAB-0002"));
        assert_eq!(known.0, unknown.0);
        assert_ne!(known.1, unknown.1);
    }
    let metrics = String::from_utf8(bridge.get("/metrics").body).unwrap();
    let unknown = "fumocast_bridge_dm_messages_total{outcome=\"unknown-device\"} 2";
    assert!(metrics.contains(unknown), "{metrics}");
}

// test: security 7.2 (work before proof)
#[tokio::test(flavor = "multi_thread")]
async fn peers_without_proof_leave_nothing_in_the_store_and_the_owner_passes() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    let store = bridge.store().await;
    // The nonce of a challenge, which strangers cannot void.
    let asked = post(&bridge, &first(&bridge, "LAB-0001", None));
    let before = (store.devices().await.unwrap(), store.audit_tail(100).await.unwrap());
    for _ in 0..20 {
        assert_eq!(post(&bridge, &first(&bridge, "LAB-0001", None)).header_code(), 407);
    }
    let wrong = Secret::new("LAB-0001", "guess").credential(&asked.nonce());
    assert_eq!(post(&bridge, &first(&bridge, "LAB-0001", Some(wrong))).header_code(), 401);
    let after = (store.devices().await.unwrap(), store.audit_tail(100).await.unwrap());
    assert_eq!(before, after);
    let right = device.script.client.secret.credential(&asked.nonce());
    device.next_session();
    let message = device.first(Some(right));
    assert_eq!(device.post(&message).header_code(), 212);
}

// test: security 7.2 (challenges without stored state)
#[tokio::test(flavor = "multi_thread")]
async fn a_second_bridge_on_the_same_store_accepts_the_challenge_of_the_first() {
    let bridge = Bridge::start().await;
    let mut device = bridge.enrol("LAB-0001").await;
    let second =
        run(bridge.folder.path(), "127.0.0.1:0".parse().unwrap(), Admission::default()).await;
    let asked = post(&bridge, &first(&bridge, "LAB-0001", None));
    let right = device.script.client.secret.credential(&asked.nonce());
    device.next_session();
    let message = device.first(Some(right));
    let other = format!("http://{}/dm", second.address);
    let answer = device::post(&other, Encoding::Xml.media_type(), &message);
    assert_eq!(answer.header_code(), 212);
    // The same proof at the first one: challenged again.
    let answer = device.post(&message);
    assert_eq!(answer.header_code(), 401);
    let metrics = String::from_utf8(bridge.get("/metrics").body).unwrap();
    assert!(metrics.contains("outcome=\"auth_stale\"} 1"), "{metrics}");
    second.stop().await;
}

/// Returns the router of a bridge, with the state behind it.
async fn router_of(bridge: &Bridge, trusted_proxies: Vec<IpNet>) -> (Router, Arc<Shared>) {
    let data = DataDir::open(bridge.folder.path(), None).unwrap();
    let store = data.store().await.unwrap();
    let settings = settings(bridge.folder.path(), bridge.address, Admission::default());
    let shared = shared(&store, Settings { trusted_proxies, ..settings }).unwrap();
    (http::router(&shared), shared)
}

/// Sends a message from an address, with a header of a proxy if there is one; returns status, the
/// `Retry-After` and the code of the header.
async fn send_from(
    router: &Router,
    address: [u8; 4],
    forwarded: Option<&str>,
    message: &Message,
) -> (u16, Option<u64>, u16) {
    let peer = Peer { address: (address, 4_711).into(), transport: Transport::Plain };
    let mut request = Request::post("/dm")
        .header("content-type", Encoding::Xml.media_type())
        .extension(ConnectInfo(peer));
    if let Some(forwarded) = forwarded {
        request = request.header("forwarded", forwarded);
    }
    let body = Body::from(Encoding::Xml.emit(message));
    let response = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let retry = response.headers().get("retry-after");
    let retry = retry.map(|value| value.to_str().unwrap().parse().unwrap());
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let code = match status {
        200 => device::status_of_header(&Encoding::Xml.parse(&body, &Default::default()).unwrap()),
        _ => 0,
    };
    (status, retry, code)
}

// test: security 7.2 (wrong proofs are counted by address and claimed device, and by address)
#[tokio::test(flavor = "multi_thread")]
async fn the_owner_passes_while_strangers_send_wrong_proofs_and_ask_for_challenges() {
    let bridge = Bridge::start().await;
    let device = bridge.enrol("LAB-0001").await;
    let (router, _) = router_of(&bridge, Vec::new()).await;
    let wrong = Secret::new("LAB-0001", "guess").credential(b"nonce");
    let wrong = first(&bridge, "LAB-0001", Some(wrong));
    let nothing = first(&bridge, "LAB-0001", None);
    let before = bridge.store().await.audit_tail(100).await.unwrap();
    let (mut challenged, mut refused, mut rejected) = (0, 0, 0);
    for number in 0..10_000_u32 {
        let address = [198, 51, 100, u8::try_from(number % 250).unwrap()];
        let message = if number % 500 < 250 { &wrong } else { &nothing };
        match send_from(&router, address, None, message).await {
            (200, None, 407) => challenged += 1,
            (200, None, 401) => refused += 1,
            (503, Some(1..=660), _) => rejected += 1,
            other => panic!("{other:?}"),
        }
    }
    // Five of each address are evaluated.
    assert_eq!((challenged, refused, rejected), (5_000, 5 * 250, 5_000 - 5 * 250));
    assert_eq!(bridge.store().await.audit_tail(100).await.unwrap(), before);
    let owner = first(&bridge, "LAB-0001", Some(device.credential()));
    assert_eq!(send_from(&router, [192, 0, 2, 1], None, &owner).await, (200, None, 212));
}

// test: security 7.2 (familiar addresses)
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_proved_itself_passes_the_address_that_others_shut() {
    let bridge = Bridge::start().await;
    let mut familiar = bridge.enrol("LAB-0001").await;
    let other = bridge.enrol("LAB-0002").await;
    let home = [192, 0, 2, 1];
    let (router, _) = router_of(&bridge, Vec::new()).await;
    let message = first(&bridge, "LAB-0001", Some(familiar.credential()));
    assert_eq!(send_from(&router, home, None, &message).await.2, 212);
    let asked = first(&bridge, "LAB-0001", None);
    // Another process on the same store knows the address.
    let (router, shared) = router_of(&bridge, Vec::new()).await;
    let wrong = Secret::new("x", "guess").credential(b"nonce");
    for number in 0..30 {
        let guess = first(&bridge, &format!("GUESS-{number}"), Some(wrong.clone()));
        assert_eq!(send_from(&router, home, None, &guess).await.2, 401);
    }
    let right = first(&bridge, "LAB-0002", Some(other.credential()));
    assert_eq!(send_from(&router, home, None, &right).await.0, 503, "it was never here");
    assert_eq!(send_from(&router, [192, 0, 2, 2], None, &right).await.2, 212);
    assert_eq!(send_from(&router, home, None, &asked).await.2, 407, "no proof to evaluate");
    let now = shared.clock.now().utc;
    let keys = crate::app::message_handler::challenge_keys(&*shared.store, now).await.unwrap();
    familiar.nonce = keys.nonce("LAB-0001", 0).0.to_vec();
    let message = first(&bridge, "LAB-0001", Some(familiar.credential()));
    assert_eq!(send_from(&router, home, None, &message).await.2, 212);
}

// test: security 7.2 (the owner beside a stranger)
#[tokio::test(flavor = "multi_thread")]
async fn the_owner_is_not_slowed_by_a_stranger_who_guesses_from_his_address() {
    let bridge = Bridge::start().await;
    let mut owner = bridge.enrol("LAB-0001").await;
    let (router, shared) = router_of(&bridge, Vec::new()).await;
    let (home, id) = ([192, 0, 2, 1], "LAB-0001".parse().unwrap());
    let enrolled = first(&bridge, "LAB-0001", Some(owner.credential()));
    let wrong = Secret::new("LAB-0001", "guess").credential(b"nonce");
    let wrong = first(&bridge, "LAB-0001", Some(wrong));
    for _ in 0..6 {
        send_from(&router, home, None, &wrong).await;
    }
    // The nonce of the enrolment is not known to be secret.
    assert_eq!(send_from(&router, home, None, &enrolled).await.0, 503);
    assert_eq!(send_from(&router, [192, 0, 2, 2], None, &enrolled).await.2, 212);
    for round in 0..20 {
        for _ in 0..3 {
            let (status, _, code) = send_from(&router, home, None, &wrong).await;
            assert_eq!((status, code), (503, 0), "{round}: no guess is evaluated");
        }
        let now = shared.clock.now().utc;
        let device = shared.store.device_with_secrets(&id).await.unwrap().unwrap();
        let keys = crate::app::message_handler::challenge_keys(&*shared.store, now).await.unwrap();
        let challenge = keys.nonce("LAB-0001", device.auth.challenge_count);
        let guess = owner.script.client.secret.credential(&challenge.0);
        let guess = first(&bridge, "LAB-0001", Some(guess));
        assert_eq!(send_from(&router, home, None, &guess).await.0, 503, "anybody has the nonce");
        owner.nonce = device.auth.next_nonce.unwrap().0.to_vec();
        let right = first(&bridge, "LAB-0001", Some(owner.credential()));
        assert_eq!(send_from(&router, home, None, &right).await.2, 212, "{round}");
        // A success clears the count of his pair: the stranger fills it again, and has the one proof
        // in ten seconds of an address from which the owner has proved himself.
        for _ in 0..6 {
            send_from(&router, home, None, &wrong).await;
        }
    }
}

// test: security 7.2 (the address behind a proxy)
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_failures_count_for_the_client_that_it_names() {
    let bridge = Bridge::start().await;
    let device = bridge.enrol("LAB-0001").await;
    let wrong = Secret::new("LAB-0001", "guess").credential(b"nonce");
    let wrong = first(&bridge, "LAB-0001", Some(wrong));
    let right = first(&bridge, "LAB-0001", Some(device.credential()));
    let (guesser, owner) = (Some("for=198.51.100.1"), Some("for=198.51.100.1, for=192.0.2.1"));
    let proxy = [10, 0, 0, 1];
    for (trusted, expected) in [(vec![], 0), (vec!["10.0.0.0/8".parse().unwrap()], 212)] {
        let (router, _) = router_of(&bridge, trusted).await;
        for _ in 0..5 {
            assert_eq!(send_from(&router, proxy, guesser, &wrong).await.2, 401);
        }
        assert_eq!(send_from(&router, proxy, guesser, &wrong).await.0, 503);
        assert_eq!(send_from(&router, proxy, owner, &right).await.2, expected);
    }
}

// test: security 7.2 (work before proof)
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_challenges_is_there_before_a_peer_needs_it() {
    let bridge = Bridge::start().await;
    let url = format!("sqlite://{}", bridge.folder.path().join("fleet.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let count = async || -> i64 {
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM challenge_key");
        count.fetch_one(&pool).await.unwrap()
    };
    assert!(count().await > 0);
}
