//! The accept loop over real sockets, with small limits.

use std::{
    convert::Infallible,
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt as _, Either, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Bytes, Frame},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    body::{BodyError, RequestBody},
    limits::Limits,
    server::Connections,
    table::{Phase, Stats},
    transport::{Established, Peer, PlacedStream, Plain, Proof, Proved, Transport},
};

/// Waits that no test comes to, but for those that it shortens.
const LIMITS: Limits = Limits {
    unproved: 16,
    all: 32,
    idle_after: Duration::from_millis(100),
    progress_octets: 1_000,
    body_octets: 1 << 20,
    handshake: Duration::from_secs(60),
    header: Duration::from_secs(60),
    body: Duration::from_secs(60),
    response: Duration::from_secs(60),
    keep_alive: Duration::from_secs(60),
};

/// A wait that a test comes to.
const SHORT: Duration = Duration::from_millis(200);

/// A running server, and a gate that its `/work` waits for.
struct Server {
    connections: Connections,
    address: SocketAddr,
    gate: Arc<Semaphore>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        Self::start_with(Connections::new(limits, &[]), Plain).await
    }

    async fn start_with(connections: Connections, transport: impl Transport) -> Self {
        test_log::capture();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let (served, opened) = (connections.clone(), Arc::clone(&gate));
        tokio::spawn(async move {
            let service = move |_: Peer<_>, request| answer(request, Arc::clone(&opened));
            served.serve(listener, transport, service, pending()).await;
        });
        Self { connections, address, gate }
    }

    fn stats(&self) -> Stats {
        self.connections.stats()
    }

    /// Connects from an address 127.0.0.`host`.
    async fn connect(&self, host: u8) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
        Client(socket.connect(self.address).await.unwrap())
    }

    /// Connections that say nothing, all of which the server has seen.
    async fn silent(&self, host: u8, count: usize) -> Vec<Client> {
        let before = self.stats();
        let seen = |stats: &Stats| stats.accepted + stats.refused;
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(self.connect(host).await);
        }
        let expected = seen(&before) + u64::try_from(count).unwrap();
        self.until(|stats| seen(stats) >= expected).await;
        clients
    }

    async fn until(&self, holds: impl Fn(&Stats) -> bool) {
        for _ in 0..1_000 {
            if holds(&self.stats()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not within 5 s: {:?}", self.stats());
    }
}

async fn answer(
    request: Request<RequestBody>,
    gate: Arc<Semaphore>,
) -> Response<Either<Full<Bytes>, Endless>> {
    let (parts, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if BodyError::is_timeout(&error) => {
            let mut response = Response::new(Either::Left(Full::default()));
            *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
            return response;
        }
        Err(_) => Bytes::new(),
    };
    let mut response = Response::new(Either::Left(Full::new(body)));
    match parts.uri.path() {
        "/work" => drop(gate.acquire().await.unwrap()),
        "/prove" => drop(response.extensions_mut().insert(Proved)),
        "/endless" => *response.body_mut() = Either::Right(Endless),
        _ => {}
    }
    response
}

/// A body without an end.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 4_096])))))
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    }

    /// Returns the status of the next response without a body; `None` when the connection ends.
    async fn status(&mut self) -> Option<u16> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match timeout(Duration::from_secs(10), self.0.read_u8()).await.expect("an answer") {
                Ok(octet) => head.push(octet),
                Err(_) => return None,
            }
        }
        String::from_utf8(head).unwrap().split(' ').nth(1)?.parse().ok()
    }

    async fn get(&mut self, path: &str) -> Option<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.ok()?;
        self.status().await
    }

    /// Returns whether the server has closed the connection, within 5 s.
    async fn is_closed(&mut self) -> bool {
        let read = timeout(Duration::from_secs(5), self.0.read(&mut [0])).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    }
}

// test: security 7.2 (places of connections)
#[tokio::test]
async fn silent_connections_of_one_address_leave_places_to_others() {
    let server = Server::start(LIMITS).await;
    let mut silent = server.silent(2, 40).await;
    for host in 3..40 {
        assert_eq!(server.connect(host).await.get("/").await, Some(200), "{host}");
    }
    tokio::time::sleep(LIMITS.idle_after).await;
    silent.extend(server.silent(2, 40).await);
    assert_eq!(server.connect(40).await.get("/").await, Some(200));
    assert!(server.stats().unproved <= LIMITS.unproved);
}

// test: security 7.2 (places of connections)
#[tokio::test]
async fn nine_hundred_requests_of_one_address_are_answered_while_others_are_silent() {
    crate::open_files::raise_limit();
    let limits = Limits { unproved: 1_024, all: 2_048, ..LIMITS };
    let server = Server::start(limits).await;
    let mut fleet = Vec::new();
    for _ in 0..900 {
        let mut device = server.connect(2).await;
        device.ask("/work").await;
        fleet.push(device);
    }
    server.until(|stats| stats.accepted == 900).await;
    tokio::time::sleep(2 * LIMITS.idle_after).await;
    for host in 3..203 {
        drop(server.silent(host, 1).await);
    }
    let silent = server.silent(203, 200).await;
    server.gate.add_permits(900);
    for device in &mut fleet {
        assert_eq!(device.status().await, Some(200));
    }
    drop(silent);
}

// test: security 7.2 (places of connections)
#[tokio::test]
async fn a_proved_connection_outlives_a_flood_from_its_own_address() {
    let server = Server::start(LIMITS).await;
    let (mut proved, mut stranger) = (server.connect(2).await, server.connect(2).await);
    assert_eq!(proved.get("/prove").await, Some(200));
    assert_eq!(stranger.get("/").await, Some(200));
    assert_eq!(server.stats().unproved, 1);
    tokio::time::sleep(LIMITS.idle_after).await;
    let flood = [server.silent(2, 40).await, server.silent(3, 40).await];
    assert_eq!(proved.get("/").await, Some(200));
    assert!(stranger.is_closed().await);
    drop(flood);
}

// test: security 7.2 (places of connections)
#[tokio::test]
async fn connections_of_a_trusted_proxy_have_no_share() {
    for (trusted, survive) in [("127.0.0.2/32", true), ("192.0.2.1/32", false)] {
        let connections = Connections::new(LIMITS, &[trusted.parse().unwrap()]);
        let server = Server::start_with(connections, Plain).await;
        let mut proxy = server.silent(2, 12).await;
        tokio::time::sleep(LIMITS.idle_after).await;
        for host in 3..40 {
            assert_eq!(server.connect(host).await.get("/").await, Some(200));
        }
        assert_eq!(proxy[0].get("/").await.is_some(), survive, "{trusted}");
    }
}

// test: security 7.2 (waits for a peer)
#[tokio::test]
async fn a_header_that_drips_ends_in_time() {
    let server = Server::start(Limits { header: SHORT, ..LIMITS }).await;
    let mut client = server.connect(2).await;
    for octet in "GET / HTTP/1.1\r\n".chars().cycle() {
        if client.0.write_all(octet.to_string().as_bytes()).await.is_err() {
            break;
        }
        tokio::time::sleep(SHORT / 10).await;
    }
    assert!(client.is_closed().await);
    assert_eq!(server.stats().timed_out.get(&Phase::Header), Some(&1));
    let mut client = server.connect(2).await;
    assert_eq!(client.get("/").await, Some(200), "a whole one is answered");
    client.send("G").await;
    assert!(client.is_closed().await, "so does the second header of a connection");
}

// test: security 7.2 (waits for a peer)
#[tokio::test]
async fn a_connection_without_another_request_ends_in_time() {
    let server = Server::start(Limits { keep_alive: SHORT, ..LIMITS }).await;
    let mut client = server.connect(2).await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await, Some(200));
    }
    assert!(client.is_closed().await);
    assert_eq!(server.stats().timed_out.get(&Phase::KeepAlive), Some(&1));
}

// test: security 7.2 (waits for a peer)
#[tokio::test]
async fn a_body_that_does_not_come_is_answered_in_time() {
    let server = Server::start(Limits { body: SHORT, ..LIMITS }).await;
    let mut client = server.connect(2).await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nx").await;
    assert_eq!(client.status().await, Some(408));
    assert!(client.is_closed().await);
    assert_eq!(server.stats().timed_out.get(&Phase::Body), Some(&1));
}

// test: security 7.2 (waits for a peer)
#[tokio::test]
async fn a_response_that_is_not_read_ends_in_time() {
    let server = Server::start(Limits { response: SHORT, ..LIMITS }).await;
    let mut client = server.connect(2).await;
    client.ask("/endless").await;
    server.until(|stats| stats.timed_out.contains_key(&Phase::Response)).await;
    server.until(|stats| stats.open == 0).await;
}

/// A handshake of one octet.
#[derive(Clone)]
struct OneOctet;

impl Transport for OneOctet {
    type Stream = PlacedStream;
    type Info = ();

    const FIRST_PHASE: Phase = Phase::Handshake;

    async fn handshake(
        &self,
        mut stream: PlacedStream,
    ) -> io::Result<Established<PlacedStream, ()>> {
        let proof = if stream.read_u8().await? == b'P' { Proof::Shown } else { Proof::Missing };
        Ok(Established { stream, info: (), proof })
    }
}

// test: security 7.2 (waits for a peer)
#[tokio::test]
async fn handshakes_that_do_not_end_hold_up_no_other_and_end_in_time() {
    let limits = Limits { handshake: 5 * SHORT, ..LIMITS };
    let server = Server::start_with(Connections::new(limits, &[]), OneOctet).await;
    let half_open = server.silent(2, 30).await;
    let mut client = server.connect(3).await;
    client.send("-").await;
    assert_eq!(client.get("/").await, Some(200));
    let mut proved = server.connect(3).await;
    proved.send("P").await;
    assert_eq!(proved.get("/").await, Some(200));
    server.until(|stats| stats.timed_out.contains_key(&Phase::Handshake)).await;
    server.until(|stats| (stats.open, stats.unproved) == (2, 1)).await;
    drop(half_open);
}

#[tokio::test]
async fn a_server_that_stops_ends_its_requests_and_waits_for_no_silent_peer() {
    let connections = Connections::new(LIMITS, &[]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let (stop, stopped) = tokio::sync::oneshot::channel::<Infallible>();
    let (served, opened) = (connections.clone(), Arc::clone(&gate));
    let running = tokio::spawn(async move {
        let service = move |_: Peer<()>, request| answer(request, Arc::clone(&opened));
        let stop = async move { drop(stopped.await) };
        served.serve(listener, Plain, service, stop).await;
    });
    let server = Server { connections, address, gate };
    let (mut silent, mut busy, mut kept) =
        (server.connect(2).await, server.connect(2).await, server.connect(2).await);
    assert_eq!(kept.get("/").await, Some(200));
    busy.ask("/work").await;
    server.until(|stats| stats.accepted == 3).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stop);
    assert!(silent.is_closed().await && kept.is_closed().await);
    assert!(!running.is_finished());
    server.gate.add_permits(1);
    assert_eq!(busy.status().await, Some(200));
    timeout(Duration::from_secs(5), running).await.unwrap().unwrap();
}
