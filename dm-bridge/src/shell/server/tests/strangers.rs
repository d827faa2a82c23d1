//! Peers that never prove themselves: what they hold, and what others get meanwhile.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use super::*;

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

// test: security 7.2 (stalled bodies)
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_waited_for_so_long() {
    let body_timeout = Duration::from_millis(50);
    let bridge = Bridge::start_with(Admission { body_timeout, ..Admission::default() }).await;
    let mut stream = stall(&bridge);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("408 Request Timeout"), "{answer}");
}
