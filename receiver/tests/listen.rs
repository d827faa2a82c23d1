//! `listen` and `dissect` as programs: real sockets, files, exit codes.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the output of a test is for the person who runs it"
)]
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]
#![expect(
    clippy::disallowed_methods,
    reason = "a program is waited for, each time with a deadline"
)]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use proto::{
    fixtures::golden,
    ids::Tsi,
    pcap::{Datagram, emit_datagram, emit_file_header},
    sdp::{Channel, Origin, SessionDescription},
};
use socket2::{Domain, Socket, Type};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[test]
fn a_killed_run_resumes_from_its_stored_symbols() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("in");
    let Some((sender, group)) = sender(1) else { return };
    let packets = golden::packets();
    let send = |numbers: &[usize]| {
        for packet in numbers.iter().filter_map(|number| packets.get(*number)) {
            sender.send_to(packet, group).unwrap();
        }
    };
    // The golden session has no digest.
    let options = ["--once", "--timeout", "20", "--json", "--resume-undigested"];
    let mut first = listen(&out, group, &options);
    let has_part = || {
        let names =
            fs::read_dir(&out).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names
            .filter_map(|name| name.into_string().ok())
            .any(|name| name.starts_with("golden.bin~") && name.ends_with(".part"))
    };
    let reached = until(|| {
        send(&[0, 1, 2]);
        has_part()
    });
    if !reached {
        first.kill().unwrap();
        first.wait().unwrap();
        eprintln!("SKIPPED: multicast does not reach the loopback interface here");
        return;
    }
    // Symbols are synced after a second at most.
    thread::sleep(Duration::from_millis(1500));
    first.kill().unwrap();
    first.wait().unwrap();

    // Only the second run receives the last of the three symbols that it needs.
    let second = listen(&out, group, &options);
    let done = out.join("golden.bin");
    assert!(until(|| {
        send(&[0, 5]);
        done.exists()
    }));
    let answer = second.wait_with_output().unwrap();
    assert_eq!(answer.status.code(), Some(0), "{answer:?}");
    assert_eq!(fs::read(done).unwrap(), golden::FILE);
    assert!(!has_part());
    let report: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    let of = |name: &str| report.pointer(name).cloned().unwrap_or_default();
    assert_eq!(of("/outcome"), "complete");
    assert_eq!(of("/signed"), false);
    assert_eq!(of("/files/0/state"), "complete");

    // A third run only needs the FDT.
    let third = listen(&out, group, &options);
    let mut third = Some(third);
    assert!(until(|| {
        send(&[0]);
        third.as_mut().is_some_and(|run| run.try_wait().unwrap().is_some())
    }));
    let answer = third.take().unwrap().wait_with_output().unwrap();
    assert_eq!(answer.status.code(), Some(0), "{answer:?}");
}

#[test]
fn a_run_without_datagrams_is_incomplete_and_lists_what_to_check() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_, group)) = sender(2) else { return };
    let run = listen(&folder.path().join("in"), group, &["--once", "--timeout", "1"]);
    let answer = run.wait_with_output().unwrap();
    assert_eq!(answer.status.code(), Some(75), "{answer:?}");
    let text = String::from_utf8(answer.stdout).unwrap();
    assert!(text.contains("no datagrams") && text.contains("unsigned"), "{text}");
}

#[test]
fn a_capture_is_received_by_its_description_and_dissected() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("golden.pcap");
    let group = SocketAddrV4::new(Ipv4Addr::new(239, 255, 72, 3), 40_103);
    fs::write(&capture, pcap(group)).unwrap();
    let description = folder.path().join("golden.sdp");
    fs::write(&description, sdp(group)).unwrap();
    let (capture, out) = (capture.to_str().unwrap(), folder.path().join("in"));
    let line = [
        "listen",
        "--from-pcap",
        capture,
        "--sdp",
        description.to_str().unwrap(),
        "--once",
        "--out",
    ];
    let answer = receiver().args(line).arg(&out).output().unwrap();
    assert_eq!(answer.status.code(), Some(0), "{answer:?}");
    assert_eq!(fs::read(out.join("golden.bin")).unwrap(), golden::FILE);

    let text = |answer: Output| String::from_utf8(answer.stdout).unwrap();
    let dissected = text(receiver().args(["dissect", capture]).output().unwrap());
    assert!(dissected.contains("TSI 7 TOI 1: file:///golden.bin, 43 octets"), "{dissected}");
    assert!(dissected.contains("6 packets: complete"), "{dissected}");
    let json = text(receiver().args(["dissect", capture, "--json"]).output().unwrap());
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(last.pointer("/objects/1/blocks/0/held"), Some(&6.into()));
}

#[test]
fn each_error_has_its_message_and_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("in");
    let out = out.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["listen", "--out", out], 2, "--group"),
        (
            &["listen", "--group", "239.1.1.1", "--interface", "127.0.0.1", "--out", out],
            2,
            "--port",
        ),
        (
            &[
                "listen",
                "--group",
                "10.1.1.1",
                "--port",
                "9",
                "--interface",
                "127.0.0.1",
                "--out",
                out,
            ],
            4,
            "no multicast group",
        ),
        (
            &[
                "listen",
                "--group",
                "239.1.1.1",
                "--port",
                "9",
                "--interface",
                "203.0.113.9",
                "--out",
                out,
            ],
            4,
            "203.0.113.9",
        ),
        (&["listen", "--from-pcap", "/none.pcap", "--out", out], 6, "cannot read the capture"),
        (&["dissect", "/dev/null"], 3, "cannot read the capture"),
    ];
    for (line, code, word) in cases {
        let answer = test_log::run(receiver().args(line));
        assert_eq!(answer.status.code(), Some(code), "{line:?}: {answer:?}");
        assert!(String::from_utf8_lossy(&answer.stderr).contains(word), "{line:?}: {answer:?}");
    }
}

fn receiver() -> Command {
    Command::new(env!("CARGO_BIN_EXE_receiver"))
}

fn listen(out: &Path, group: SocketAddrV4, options: &[&str]) -> Child {
    let (address, port) = (group.ip().to_string(), group.port().to_string());
    receiver()
        .args(["listen", "--group", &address, "--port", &port, "--interface", "127.0.0.1", "--out"])
        .arg(out)
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Repeats an attempt every 50 ms until it succeeds, for ten seconds.
fn until(mut attempt: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if attempt() {
            return true;
        }
        thread::sleep(Duration::from_millis(50));
    }
    false
}

/// A socket that sends to a group of its own on the loopback interface.
fn sender(number: u8) -> Option<(UdpSocket, SocketAddrV4)> {
    let port = UdpSocket::bind((LOOPBACK, 0)).unwrap().local_addr().unwrap().port();
    let group = SocketAddrV4::new(Ipv4Addr::new(239, 255, 72, number), port);
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.bind(&SocketAddrV4::new(LOOPBACK, 0).into()).unwrap();
    if let Err(error) = socket.set_multicast_if_v4(&LOOPBACK) {
        eprintln!("SKIPPED: multicast is not available here: {error}");
        return None;
    }
    Some((socket.into(), group))
}

fn pcap(destination: SocketAddrV4) -> Vec<u8> {
    let (source, destination) = (([192, 0, 2, 1], 5_000).into(), destination.into());
    let mut octets = emit_file_header();
    for payload in golden::packets() {
        let datagram = Datagram { source, destination, payload: &payload };
        emit_datagram(1_800_000_000_000_000_000, 1, &datagram, &mut octets).unwrap();
    }
    octets
}

fn sdp(group: SocketAddrV4) -> String {
    let source = IpAddr::from([192, 0, 2, 1]);
    SessionDescription {
        origin: Origin { user: "lab".to_owned(), id: 1, version: 1, host: source.into() },
        name: "golden".to_owned(),
        opens: None,
        closes: None,
        source: Some(source),
        tsi: Tsi(7),
        declarations: Vec::new(),
        channels: vec![Channel {
            group: (*group.ip()).into(),
            port: group.port(),
            ttl: Some(1),
            kilobits_per_second: None,
            fec: None,
        }],
        odd: Vec::new(),
    }
    .emit()
    .unwrap()
}
