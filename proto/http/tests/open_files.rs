//! A server that has no file descriptor left. The limit is that of the process, so this test has one
//! of its own.

use std::{future::pending, net::Ipv4Addr, time::Duration};

use http_body_util::Empty;
use hyper::{Response, body::Bytes};
use proto_http::{limits::Limits, server::Connections, transport::Plain};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
};

fn limit_open_files(current: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum }).expect("it is lower");
}

// test: security 7.2 (places of connections)
#[tokio::test]
async fn a_server_without_a_free_descriptor_waits_and_goes_on() {
    let before = getrlimit(Resource::Nofile).current.unwrap();
    let limits = Limits { idle_after: Duration::from_secs(60), ..Limits::default() };
    let connections = Connections::new(limits, &[]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = connections.clone();
    tokio::spawn(async move {
        let service = |_, _| async { Response::new(Empty::<Bytes>::new()) };
        served.serve(listener, Plain, service, pending()).await;
    });
    let client = TcpSocket::new_v4().unwrap();
    // The lowest free number is the first that is refused.
    let probe = std::fs::File::open("/dev/null").unwrap();
    let free = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&probe)).unwrap();
    drop(probe);
    limit_open_files(free);
    let mut client = client.connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(450)).await;
    let failures = connections.stats().accept_errors;
    assert!((2..=6).contains(&failures), "it neither ends nor spins: {failures}");
    limit_open_files(before);
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"HTTP/1.1 200");
}
