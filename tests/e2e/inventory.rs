//! Software components of a real device at the desk of a real bridge: read with the user's leave,
//! changed, and read back; the installer hook is a shell script that keeps a list.

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

/// A bridge, and a device with one component whose user says yes.
struct Scene {
    folder: tempfile::TempDir,
    _bridge: Running,
    _device: Running,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let at = |name: &str| path.join(name).display().to_string();
        run(&mut role(&["carousel", "trust", "init", "--dir", &at("keys")]));
        run(&mut role(&["dm-bridge", "init", "--data", &at("bridge")]));
        let mut bridge = role(&["dm-bridge", "serve", "--listen", "127.0.0.1:0", "--data"]);
        let bridge = bridge.arg(at("bridge")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut bridge = Running(bridge.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(bridge.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("dm-bridge listens on ").unwrap().to_owned();
        let (vendor, class) = ("1a".repeat(16), "2b".repeat(16));
        let enrolled = run(role(&["dm-bridge", "device", "enrol", "LAB-0001"])
            .args(["--url", &format!("{address}/dm"), "--vendor", &vendor, "--class", &class])
            .args(["--data", &at("bridge")]));
        let settings = String::from_utf8(enrolled.stdout).unwrap();
        let device = device(path, &settings);
        Self { folder, _bridge: bridge, _device: device }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// What the desk shows; it also has the device's next session read anew.
    fn desk(&self) -> Value {
        let shown = run(role(&["dm-bridge", "components", "LAB-0001", "--json"])
            .args(["--data", &self.at("bridge")]));
        serde_json::from_slice(&shown.stdout).unwrap()
    }

    fn order(&self, operation: &str) {
        run(role(&["dm-bridge", "component", operation, "LAB-0001", "player"])
            .args(["--data", &self.at("bridge")]));
    }

    /// What the device itself says.
    fn listed(&self) -> Option<Value> {
        let config = self.at("device.toml");
        let mut ask = role(&["receiver", "components", "--json", "--config", &config]);
        serde_json::from_slice(&ask.output().unwrap().stdout).ok()
    }

    #[expect(clippy::disallowed_methods, reason = "other processes give no event to wait for")]
    fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
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
}

fn script(path: &Path, text: &str) -> String {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    path.display().to_string()
}

fn device(path: &Path, settings: &str) -> Running {
    let at = |name: &str| path.join(name).display().to_string();
    let (list, asked) = (at("list"), at("asked"));
    fs::write(&list, "{\"id\":\"player\",\"version\":\"2.1\",\"active\":true}\n").unwrap();
    let hook = script(
        &path.join("hook"),
        &format!(
            "case $1 in version) echo 1.0;; components) cat {list};; \
             component-activate) sed -i \"/\\\"$2\\\"/s/false/true/\" {list};; \
             component-deactivate) sed -i \"/\\\"$2\\\"/s/true/false/\" {list};; \
             component-remove) sed -i \"/\\\"$2\\\"/d\" {list};; *) exit 1;; esac"
        ),
    );
    let user = script(
        &path.join("user"),
        &format!("cat >> {asked}; echo >> {asked}; echo '{{\"answer\":\"yes\"}}'"),
    );
    let text = format!(
        "{settings}\n[local]\ndata = {:?}\nroot = {:?}\ninterface = \"127.0.0.1\"\n\
         hook = [\"/bin/sh\", {hook:?}]\nuser = \"hook\"\nuser_hook = [\"/bin/sh\", {user:?}]\n\
         components = \"ask\"\ncheck_in_seconds = 1\n",
        at("device"),
        at("keys/root.env"),
    );
    fs::write(path.join("device.toml"), text).unwrap();
    let log = fs::File::create(path.join("device.log")).unwrap();
    let mut device = role(&["receiver", "run", "--config", &at("device.toml")]);
    let device = device.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    Running(device)
}

// test: oma-003 6.1.4.16, oma-dm 12.1 (a device and a desk)
#[test]
fn the_desk_reads_the_components_of_a_device_with_leave_and_changes_them() {
    let scene = Scene::new();
    let listed = scene.wait_for("the device runs", || scene.listed());
    assert_eq!(listed[0]["id"], "player");
    let state = |desk: &Value, state: &str| desk["held"][0]["state"] == state;
    scene.wait_for("the desk sees what is installed", || {
        Some(scene.desk()).filter(|desk| state(desk, "active"))
    });
    let asked = fs::read_to_string(scene.file("asked")).unwrap();
    assert_eq!(asked.matches("\"about\":\"inventory\"").count(), 1, "{asked}");

    scene.order("deactivate");
    let desk = scene
        .wait_for("it runs no more", || Some(scene.desk()).filter(|desk| state(desk, "inactive")));
    assert_eq!(desk["operations"][0]["result_code"], 1200, "{desk}");
    assert_eq!(scene.listed().unwrap()[0]["active"], false);

    scene.order("remove");
    scene.wait_for("it is gone", || {
        Some(scene.desk()).filter(|desk| desk["held"].as_array().is_some_and(Vec::is_empty))
    });
    assert_eq!(scene.listed(), Some(Value::Array(Vec::new())));
    assert_eq!(fs::read_to_string(scene.file("list")).unwrap(), "");
}
