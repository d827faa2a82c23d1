//! Devices that are given their account: from a file, over the air, by a card.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::processes::{Running, role, run};

const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge that has enrolled a device, and the device's folder, without an account in it.
struct Scene {
    folder: tempfile::TempDir,
    posts: String,
    _bridge: Running,
}

impl Scene {
    fn new(local: &str) -> Self {
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
        let enrolled = String::from_utf8(run(&mut enrol).stdout).unwrap();
        let (device, _) = enrolled.split_once("[server]").unwrap();
        let posts = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let settings = format!(
            "{device}\n[local]\ndata = {:?}\nroot = {:?}\ninterface = \"127.0.0.1\"\n\
             hook = [\"/bin/true\"]\nnotify_http = {posts:?}\n{}\n",
            path.join("device"),
            path.join("keys/root.env"),
            local.replace("FOLDER", path.to_str().unwrap()),
        );
        fs::write(path.join("device.toml"), settings).unwrap();
        Self { folder, posts, _bridge: bridge }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_document(&self, more: &[&str]) {
        let mut write = role(&["dm-bridge", "bootstrap", "LAB-0001"]);
        run(write.args(more).arg("--data").arg(self.file("bridge")));
    }

    fn bootstrap(&self, more: &[&str]) -> Command {
        let mut bootstrap = role(&["receiver", "bootstrap"]);
        bootstrap.arg(self.file("document")).args(more);
        bootstrap.arg("--config").arg(self.file("device.toml"));
        bootstrap
    }

    fn start(&self) -> Running {
        let mut device = role(&["receiver", "run", "--config"]);
        device.arg(self.file("device.toml")).stdout(Stdio::null()).stderr(Stdio::null());
        Running(device.spawn().unwrap())
    }

    fn has_come(&self) -> bool {
        let mut show = role(&["dm-bridge", "device", "show", "LAB-0001", "--json", "--data"]);
        show.arg(self.file("bridge"));
        let shown: Value = serde_json::from_slice(&run(&mut show).stdout).unwrap();
        shown.get("last_seen_utc").and_then(Value::as_u64).is_some()
    }
}

#[expect(clippy::disallowed_methods, reason = "other processes give no event to wait for")]
fn wait(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(100));
    }
}

// test: oma-dm 9.3
#[test]
fn a_device_comes_with_the_account_of_a_document_and_a_wrong_pin_changes_nothing() {
    let scene = Scene::new("");
    let document = scene.file("document");
    for profile in ["cp", "dm"] {
        let out = document.to_str().unwrap();
        scene.write_document(&["--profile", profile, "--pin", "4711", "--out", out]);
        let refused = scene.bootstrap(&["--pin", "4712"]).output().unwrap();
        assert_eq!(refused.status.code(), Some(5), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("the proof does not fit the PIN"), "{said}");
        let without = scene.bootstrap(&[]).output().unwrap();
        assert_eq!(without.status.code(), Some(2), "{without:?}");
        assert_eq!(scene.file("device/account.toml").exists(), profile == "dm");

        let said = run(&mut scene.bootstrap(&["--pin", "4711", "--json"])).stdout;
        let said: Value = serde_json::from_slice(&said).unwrap();
        assert_eq!((&said["profile"], &said["auth"]), (&profile.into(), &"md5".into()));
        let account = said["account"].as_str().unwrap();
        assert!(account.starts_with("fumocast at http://127.0.0.1:"), "{said}");
        assert_eq!(said["before"].is_null(), profile == "cp", "{said}");
    }
    let _device = scene.start();
    wait("the device never came", || scene.has_come());
    let busy = scene.bootstrap(&["--pin", "4711"]).output().unwrap();
    assert_eq!(busy.status.code(), Some(7), "{busy:?}");
}

// test: oma-dm 9.3
#[test]
fn a_device_without_an_account_takes_one_over_the_air_with_its_users_pin() {
    let scene = Scene::new(
        "user = \"hook\"\nuser_hook = [\"/bin/sh\", \"-c\", \"cat > FOLDER/asked; \
         echo '{\\\"answer\\\":\\\"text\\\",\\\"text\\\":\\\"4711\\\"}'\", \"hook\"]",
    );
    let _device = scene.start();
    wait("the device never listened", || TcpStream::connect(&scene.posts).is_ok());
    let to = format!("http://{}/", scene.posts);
    scene.write_document(&["--pin", "4711", "--to", &to]);
    wait("the device never came", || scene.has_come());
    let asked: Value = serde_json::from_slice(&fs::read(scene.file("asked")).unwrap()).unwrap();
    assert_eq!((&asked["about"], &asked["echo"]), (&"account".into(), &"hidden".into()));
}

// test: oma-003 6.1.4.3
#[test]
fn a_device_goes_to_the_server_of_its_card_by_itself() {
    let scene = Scene::new("card = \"FOLDER/card.bin\"");
    let card = scene.file("card.bin");
    let out = card.to_str().unwrap();
    scene.write_document(&["--profile", "smart-card", "--card", "894901", "--out", out]);
    let _device = scene.start();
    wait("the device never came", || scene.has_come());
}
