//! Notifications to a device over each transport.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    path::Path,
    process::Stdio,
    thread,
};

use serde_json::Value;

use crate::processes::{Scene, role};

/// A device that has connected once and polls an hour later; returns its addresses for datagrams
/// and posts.
fn scene() -> (Scene, String, String) {
    let mut scene = Scene::new();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let posts = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let local = format!(
        "installer_hook = [\"/bin/true\"]\nnotification_udp = {datagrams:?}\n\
         notification_http = {posts:?}"
    );
    scene.set_up(&scene.enrolled, &local);
    scene.start();
    // Its first session is over after a second without a message.
    let (mut seen, mut same) = (None, 0);
    scene.wait_for("the device comes and goes", || {
        let before = std::mem::replace(&mut seen, scene.last_seen());
        same = if seen == before { same + 1 } else { 0 };
        seen.filter(|_| same > 4)
    });
    (scene, datagrams, posts)
}

/// A gateway for short messages, which shows each to its radio network and answers 503 when that
/// does not take it. Returns its URL.
pub(crate) fn gateway(mut network: impl FnMut(Vec<u8>) -> bool + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/send", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut length, mut token, mut line) = (0, String::new(), String::new());
            while stream.read_line(&mut line).unwrap() > 2 {
                let (name, value) = line.trim().split_once(": ").unwrap_or_default();
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.parse().unwrap(),
                    "authorization" => token = value.to_owned(),
                    _ => {}
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let status = match token.as_str() {
                "Bearer opensesame" if network(short_message(&body)) => "200 OK",
                "Bearer opensesame" => "503 Service Unavailable",
                _ => "401 Unauthorized",
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

/// The short message that a gateway is handed, with its header.
fn short_message(body: &[u8]) -> Vec<u8> {
    let sent: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(sent["to"], "+4915112345678");
    assert_eq!(sent["data_coding"], 4);
    let hex = |name: &str| -> Vec<u8> {
        let text = sent[name].as_str().unwrap();
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    };
    let short_message = [hex("user_data_header"), hex("user_data")].concat();
    assert!(short_message.len() <= 140);
    short_message
}

/// The device's modem passes received messages to the receiver.
fn over_the_modem(device: &Path, short_message: &[u8]) -> bool {
    let mut notified = role(&["receiver", "deliver-notification", "-", "--config"]);
    let notified = notified.arg(device).stdin(Stdio::piped()).spawn();
    let mut notified = notified.unwrap();
    notified.stdin.take().unwrap().write_all(short_message).unwrap();
    notified.wait().unwrap().success()
}

// test: oma-dm 7.2
#[test]
fn each_way_of_a_notification_brings_the_device() {
    let (scene, datagrams, posts) = scene();
    let device = scene.file("device.toml");
    let gateway = gateway(move |short_message| over_the_modem(&device, &short_message));
    let secret = scene.file("gateway.token");
    fs::write(&secret, "opensesame\n").unwrap();
    let by_gateway =
        ["--sms-gateway", &gateway, "--sms-gateway-secret-file", secret.to_str().unwrap()];
    let push = format!("http://{}/", posts);
    for (to, more) in [(&*datagrams, &[][..]), (&push, &[]), ("sms:+4915112345678", &by_gateway)] {
        let said = scene.bridge(&[&["device", "notify", "LAB-0001", "--to", to], more].concat());
        assert!(said.starts_with("LAB-0001 connected after "), "{to}: {said}");
    }
    let mut junk = role(&["receiver", "deliver-notification", "--config"]);
    junk.arg(scene.file("device.toml")).arg(scene.file("no-such-file"));
    assert_eq!(junk.output().unwrap().status.code(), Some(2));
}
