//! A device that gets its package by unicast: over HTTP, inside the DM session, from local media;
//! real processes and sockets, and a user who is asked by a hook.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::processes::{Running, role, run};

const PATIENCE: Duration = Duration::from_secs(90);

/// A package with its bundle, a bridge, and one device whose user is asked by a hook.
pub(crate) struct Scene {
    folder: tempfile::TempDir,
    pub(crate) image: Vec<u8>,
    _bridge: Running,
    _device: Running,
}

impl Scene {
    fn new() -> Self {
        Self::of(&[], "", "")
    }

    /// The same with more arguments for the package, more settings and more verbs of the hook.
    pub(crate) fn of(package: &[&str], settings: &str, verbs: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let at = |name: &str| path.join(name).display().to_string();
        let image: Vec<u8> = (0..75_000_u32).flat_map(u32::to_be_bytes).collect();
        fs::write(path.join("image"), &image).unwrap();
        let (vendor, class) = ("1a".repeat(16), "2b".repeat(16));
        run(&mut role(&["carousel", "trust", "init", "--dir", &at("keys")]));
        run(role(&["carousel", "package", "--image", &at("image"), "--version", "2.0"])
            .args(["--sequence", "1", "--vendor", &vendor, "--class", &class])
            .args(["--key", &at("keys/release.key"), "--root", &at("keys/root.env")])
            .args(["--out", &at("package")])
            .args(package));
        run(&mut role(&["carousel", "plan", &at("package")]));
        run(role(&["carousel", "campaign", "build", &at("package"), "--source", "127.0.0.1"])
            .args(["--latest-stop", "+2h", "--sequence", "1"])
            .args(["--key", &at("keys/campaign.key"), "--root", &at("keys/root.env")]));
        run(&mut role(&["carousel", "bundle", &at("package"), "--out", &at("bundle")]));
        run(&mut role(&["dm-bridge", "init", "--data", &at("bridge")]));
        let mut bridge = role(&["dm-bridge", "serve", "--listen", "127.0.0.1:0", "--data"]);
        let bridge = bridge.arg(at("bridge")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut bridge = Running(bridge.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(bridge.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("dm-bridge listens on ").unwrap().to_owned();
        let enrolled = run(role(&["dm-bridge", "device", "enrol", "LAB-0001"])
            .args(["--url", &format!("{address}/dm"), "--vendor", &vendor, "--class", &class])
            .args(["--data", &at("bridge")]));
        let enrolled = String::from_utf8(enrolled.stdout).unwrap();
        let device = device(path, &enrolled, (settings, verbs));
        Self { folder, image, _bridge: bridge, _device: device }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Creates a campaign that goes this way and starts it; waits until the device has done it.
    fn campaign(&self, way: &str) -> Value {
        self.campaign_with(way, &[])
    }

    /// The same with more arguments.
    pub(crate) fn campaign_with(&self, way: &str, more: &[&str]) -> Value {
        fs::write(self.file("carousel.token"), "a-token-that-nobody-asks-for\n").unwrap();
        let created = run(role(&["dm-bridge", "campaign", "create", "--json"])
            .args(["--data", &self.at("bridge"), "--campaign", &self.at("package/campaign.env")])
            .args(["--manifest", &self.at("package/manifest.env")])
            .args(["--plan-header", &format!("0={}", self.at("package/0.header"))])
            .args(["--root", &self.at("keys/root.env"), "--carousel", "http://127.0.0.1:9"])
            .args(["--carousel-token-file", &self.at("carousel.token")])
            .args(["--group", "232.1.2.3", "--port", "3400", "--devices", "all"])
            .args(["--report-spread", "0", "--way", way, "--package", &self.at("bundle")])
            .args(["--ask-user", "Update to 2.0?"])
            .args(more));
        let created: Value = serde_json::from_slice(&created.stdout).unwrap();
        let id = created["id"].as_str().unwrap().to_owned();
        run(role(&["dm-bridge", "campaign", "start", &id, "--data", &self.at("bridge")])
            .args(["--opens", "now", "--closes", "+1h"]));
        self.wait_for("the device has confirmed", || {
            let status = self.status(&id);
            let device = status["device_list"][0].clone();
            (device["phase"] == "confirmed").then_some(device)
        })
    }

    fn status(&self, id: &str) -> Value {
        let status = run(role(&["dm-bridge", "campaign", "status", id, "--json"])
            .args(["--data", &self.at("bridge")]));
        serde_json::from_slice(&status.stdout).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "other processes give no event to wait for")]
    pub(crate) fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            let log = fs::read_to_string(self.file("device.log")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "not before the end: {what}\n{log}");
            thread::sleep(Duration::from_millis(300));
        }
    }

    /// What the user's hook was told, one question a line.
    fn asked(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file("asked")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn script(path: &Path, text: &str) -> String {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    path.display().to_string()
}

fn device(path: &Path, enrolled: &str, (more, verbs): (&str, &str)) -> Running {
    let at = |name: &str| path.join(name).display().to_string();
    fs::write(path.join("version"), "1.0\n").unwrap();
    let (version, installed) = (at("version"), at("installed"));
    let install = script(
        &path.join("hook"),
        &format!(
            "case $1 in install) cp \"$2\" {installed}; echo 2.0 > {version};; \
             version) cat {version};; {verbs} esac"
        ),
    );
    let asked = at("asked");
    let user = script(
        &path.join("user"),
        &format!("cat >> {asked}; echo >> {asked}; echo '{{\"answer\":\"yes\"}}'"),
    );
    let text = format!(
        "{enrolled}\n[local]\ndata = {:?}\nroot = {:?}\ninterface = \"127.0.0.1\"\n\
         hook = [\"/bin/sh\", {install:?}]\nuser = \"hook\"\nuser_hook = [\"/bin/sh\", {user:?}]\n\
         consent = \"install\"\ncheck_in_seconds = 1\n{more}\n",
        at("device"),
        at("keys/root.env"),
    );
    fs::write(path.join("device.toml"), text).unwrap();
    let log = fs::File::create(path.join("device.log")).unwrap();
    let mut device = role(&["receiver", "run", "--config", &at("device.toml")]);
    let device = device.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    Running(device)
}

fn abouts(asked: &[Value]) -> Vec<&str> {
    asked.iter().filter_map(|question| question["about"].as_str()).collect()
}

// test: oma-001 8.1.2.14, oma-001 8.1.2.18, oma-001 8.1.2.24
#[test]
fn a_device_gets_its_package_by_http_with_its_users_consent() {
    let scene = Scene::new();
    let device = scene.campaign("2");
    assert_eq!(
        (device["way"].as_str(), device["result_code"].as_u64()),
        (Some("download"), Some(200))
    );
    assert_eq!(fs::read(scene.file("installed")).unwrap(), scene.image);
    scene.wait_for("the user is told", || (scene.asked().len() >= 3).then_some(()));
    let asked = scene.asked();
    assert_eq!(abouts(&asked), ["session", "install", "result"]);
    assert_eq!(asked[0]["text"], "Update to 2.0?");
}

// test: oma-001 8.1.1.10, oma-001 8.1.1.14
#[test]
fn a_device_gets_its_package_inside_the_dm_session() {
    let scene = Scene::new();
    let device = scene.campaign("1");
    assert_eq!(
        (device["way"].as_str(), device["result_code"].as_u64()),
        (Some("direct"), Some(200))
    );
    assert_eq!(fs::read(scene.file("installed")).unwrap(), scene.image);
}

// test: oma-003 5.5.1.5.1
#[test]
fn a_stick_at_a_kiosk_updates_a_device_and_a_forged_one_does_not() {
    let scene = Scene::new();
    let status = || {
        let mut ask = role(&["receiver", "status", "--json", "--config", &scene.at("device.toml")]);
        let output = ask.output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).ok()
    };
    scene.wait_for("the device runs", status);
    let import = |file: &str| {
        let mut import = role(&["receiver", "import", "--config", &scene.at("device.toml"), file]);
        import.arg("--yes").output().unwrap()
    };
    let mut forged = fs::read(scene.file("bundle")).unwrap();
    forged[700] ^= 1;
    fs::write(scene.file("forged"), forged).unwrap();
    let refused = import(&scene.at("forged"));
    assert!(!refused.status.success(), "{refused:?}");
    let taken = import(&scene.at("bundle"));
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    scene.wait_for("it is installed", || {
        status().filter(|status| status["firmware_version"] == "2.0")
    });
    assert_eq!(fs::read(scene.file("installed")).unwrap(), scene.image);
    let again = import(&scene.at("bundle"));
    assert_eq!(again.status.code(), Some(8), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("251"), "{again:?}");
}
