//! A device that is asked to come, each way a notification can go.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::processes::{Running, role, run};

const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge and one device that has been there once and would not come again for an hour.
struct Scene {
    folder: tempfile::TempDir,
    datagrams: String,
    posts: String,
    _bridge: Running,
    _device: Running,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        run(role(&["dm-bridge", "init", "--data"]).arg(path.join("bridge")));
        run(role(&["carousel", "trust", "init", "--dir"]).arg(path.join("keys")));
        let mut bridge = role(&["dm-bridge", "serve", "--listen", "127.0.0.1:0", "--data"]);
        let bridge = bridge.arg(path.join("bridge")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut bridge = Running(bridge.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(bridge.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("dm-bridge listens on ").unwrap();

        let mut enrol = role(&["dm-bridge", "device", "enrol", "LAB-0001"]);
        enrol.args(["--url", &format!("{address}/dm"), "--vendor", &"1a".repeat(16)]);
        enrol.args(["--class", &"2b".repeat(16), "--data"]).arg(path.join("bridge"));
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let posts = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut settings = String::from_utf8(run(&mut enrol).stdout).unwrap();
        settings += &format!(
            "\n[local]\ndata = {:?}\nroot = {:?}\ninterface = \"127.0.0.1\"\nhook = [\"/bin/true\"]\n\
             notify = {datagrams:?}\nnotify_http = {posts:?}\n",
            path.join("device"),
            path.join("keys/root.env"),
        );
        fs::write(path.join("device.toml"), settings).unwrap();
        let mut device = role(&["receiver", "run", "--config"]);
        device.arg(path.join("device.toml")).stdout(Stdio::null()).stderr(Stdio::null());
        let device = Running(device.spawn().unwrap());
        let scene = Self { folder, datagrams, posts, _bridge: bridge, _device: device };
        scene.wait_for_the_device();
        scene
    }

    #[expect(clippy::disallowed_methods, reason = "other processes give no event to wait for")]
    fn wait_for_the_device(&self) {
        let started = Instant::now();
        let (mut seen, mut before) = (None, None);
        // Its first session is over when nothing more of it comes.
        while seen.is_none() || seen != before {
            assert!(started.elapsed() < PATIENCE, "the device never came");
            thread::sleep(Duration::from_millis(1100));
            before = std::mem::replace(&mut seen, self.last_seen());
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn last_seen(&self) -> Option<u64> {
        let mut show = role(&["dm-bridge", "device", "show", "LAB-0001", "--json", "--data"]);
        show.arg(self.file("bridge"));
        let shown: Value = serde_json::from_slice(&run(&mut show).stdout).unwrap();
        shown.get("last_seen_utc").and_then(Value::as_u64)
    }

    fn notify(&self, to: &str, more: &[&str]) -> Output {
        let mut notify = role(&["dm-bridge", "device", "notify", "LAB-0001", "--to", to]);
        notify.args(more).arg("--data").arg(self.file("bridge"));
        run(&mut notify)
    }
}

/// A gateway for short messages whose radio network is the device's modem: each message is handed
/// to the receiver. Returns its URL.
fn gateway(device: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/send", listener.local_addr().unwrap());
    let device = device.to_owned();
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
            let status = if token == "Bearer opensesame" { "200 OK" } else { "401 Unauthorized" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            if token == "Bearer opensesame" {
                over_the_modem(&device, &serde_json::from_slice(&body).unwrap());
            }
        }
    });
    url
}

fn over_the_modem(device: &Path, sent: &Value) {
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
    let mut notified = role(&["receiver", "notified", "-", "--config"]);
    let notified = notified.arg(device).stdin(Stdio::piped()).spawn();
    let mut notified = notified.unwrap();
    notified.stdin.take().unwrap().write_all(&short_message).unwrap();
    assert!(notified.wait().unwrap().success());
}

// test: oma-dm 7.2
#[test]
fn each_way_of_a_notification_brings_the_device() {
    let scene = Scene::new();
    let gateway = gateway(&scene.file("device.toml"));
    let secret = scene.file("gateway.token");
    fs::write(&secret, "opensesame\n").unwrap();
    let by_gateway =
        ["--sms-gateway", &gateway, "--sms-gateway-secret-file", secret.to_str().unwrap()];
    let push = format!("http://{}/", scene.posts);
    for (to, more) in
        [(&*scene.datagrams, &[][..]), (&push, &[]), ("sms:+4915112345678", &by_gateway)]
    {
        let said = String::from_utf8(scene.notify(to, more).stdout).unwrap();
        assert!(said.starts_with("LAB-0001 came after "), "{to}: {said}");
    }
    let mut junk = role(&["receiver", "notified", "--config"]);
    junk.arg(scene.file("device.toml")).arg(scene.file("no-such-file"));
    assert_eq!(junk.output().unwrap().status.code(), Some(2));
}
