//! A session that is announced, joined by its description, and received.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::{Child, Output, Stdio},
    time::Duration,
};

use proto::sap::{self, Message, SapPacket};
use serde_json::Value;

use crate::processes::{role, run};

const SESSION: [&str; 8] =
    ["--group", "239.255.71.40", "--port", "40140", "--interface", "127.0.0.1", "--tsi", "77"];

// test: rfc2974 4
#[test]
fn announce_prints_what_listen_takes_and_withdraws_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(announcements) = announcements() else { return };
    let mut announce = role(&["carousel", "announce"]);
    announce.args(SESSION).args(["--sap", "--seconds", "1"]);
    let description = run(&mut announce).stdout;
    let mut buffer = [0; 2048];
    for expected in [Message::Announce, Message::Delete] {
        let received = loop {
            let (length, _) = announcements.recv_from(&mut buffer).unwrap();
            let packet = SapPacket::parse(&buffer[..length]).unwrap();
            // Others may announce, too.
            if packet.payload == description {
                break packet;
            }
        };
        assert_eq!((received.message, received.hash), (expected, sap::hash(&description)));
    }
    let sdp = folder.path().join("lab.sdp");
    fs::write(&sdp, &description).unwrap();
    receive(folder.path(), &sdp);
}

/// Joins the group of announcements, or prints the reason for a skip.
fn announcements() -> Option<UdpSocket> {
    let joined = UdpSocket::bind(("0.0.0.0", sap::PORT)).and_then(|socket| {
        let group = sap::group(Ipv4Addr::new(239, 255, 71, 40));
        socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(socket)
    });
    joined
        .inspect_err(|error| eprintln!("SKIPPED: no announcements are received here: {error}"))
        .ok()
}

/// Sends a file and an empty one to a listener that has only the description.
fn receive(folder: &Path, sdp: &Path) {
    let out = folder.join("in");
    let mut listen = role(&["receiver", "listen", "--interface", "127.0.0.1", "--once", "--json"]);
    listen.args(["--timeout", "60", "--sdp"]).arg(sdp).arg("--out").arg(&out);
    let listener = listen.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let listener = Ended(Some(listener));
    wait_until(|| out.join(".listen").exists());
    let files = [("fw.bin", vec![7; 50_000]), ("empty.txt", Vec::new())];
    let mut send = role(&["carousel", "send", "--passes", "2", "--json"]);
    for (name, octets) in &files {
        fs::write(folder.join(name), octets).unwrap();
        send.arg(folder.join(name));
    }
    run(&mut {
        send.args(SESSION);
        send
    });
    let ended = listener.wait();
    assert_eq!(ended.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&report["outcome"], &report["complete"]), (&"complete".into(), &2.into()));
    for (name, octets) in &files {
        assert_eq!(fs::read(out.join(name)).unwrap(), *octets, "{name}");
    }
}

fn wait_until(holds: impl Fn() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for _ in 0..3000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not come to that");
    });
}

/// A program that does not outlive its test.
struct Ended(Option<Child>);

impl Ended {
    fn wait(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
