//! The product's programs as processes of a test.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::lab_program;

const PATIENCE: Duration = Duration::from_secs(90);

/// Vendor and class of the device of a [`Scene`].
pub(crate) const MAKE: [&str; 4] =
    ["--vendor", "1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a", "--class", "2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b"];

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Returns the command that runs a program: its name, then its arguments.
pub(crate) fn role(words: &[&str]) -> Command {
    let mut command = Command::new(lab_program());
    command.arg("role").args(words).stdin(Stdio::null());
    command
}

/// Runs a command that has to succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ends with {}: {said}", output.status);
    output
}

/// A bridge that runs and has enrolled the device LAB-0001, and the folder of both with the keys.
pub(crate) struct Scene {
    /// Output of the enrolment: the settings of the device.
    pub(crate) enrolled: String,
    device: Option<Running>,
    _bridge: Running,
    folder: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        run(&mut role(&["carousel", "trust", "init", "--dir", &at("keys")]));
        run(&mut role(&["dm-bridge", "init", "--data", &at("bridge")]));
        let mut bridge = role(&["dm-bridge", "serve", "--listen", "127.0.0.1:0", "--data"]);
        let bridge = bridge.arg(at("bridge")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut bridge = Running(bridge.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(bridge.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("dm-bridge listens on ").unwrap();
        let enrolled = run(role(&["dm-bridge", "device", "enrol", "LAB-0001"])
            .args(["--url", &format!("{address}/dm"), "--data", &at("bridge")])
            .args(MAKE));
        let enrolled = String::from_utf8(enrolled.stdout).unwrap();
        Self { enrolled, device: None, _bridge: bridge, folder }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Writes a shell script; returns where it lies.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        fs::write(self.file(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        self.at(name)
    }

    /// Settings of a user who consents to everything; the questions are stored in `asked`.
    pub(crate) fn yes_to_all(&self) -> String {
        let asked = self.at("asked");
        let text = format!("cat >> {asked}; echo >> {asked}; echo '{{\"answer\":\"yes\"}}'");
        let hook = self.script("user", &text);
        format!("user_interface = \"hook\"\nuser_hook = [\"/bin/sh\", {hook:?}]\n")
    }

    /// Writes the settings of the device: what it was enrolled with, and local ones.
    pub(crate) fn set_up(&self, enrolled: &str, local: &str) {
        let text = format!(
            "{enrolled}\n[receiver]\ndata = {:?}\ntrust_root = {:?}\ninterface = \"127.0.0.1\"\n{local}\n",
            self.at("device"),
            self.at("keys/root.env"),
        );
        fs::write(self.file("device.toml"), text).unwrap();
    }

    /// Starts the device.
    pub(crate) fn start(&mut self) {
        let log = fs::File::create(self.file("device.log")).unwrap();
        let mut device = role(&["receiver", "run", "--config", &self.at("device.toml")]);
        let device = device.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.device = Some(Running(device));
    }

    /// Returns the JSON that a command of the bridge prints.
    pub(crate) fn bridge(&self, words: &[&str]) -> String {
        let output = run(role(&["dm-bridge"]).args(words).args(["--data", &self.at("bridge")]));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same as JSON.
    pub(crate) fn shown(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.bridge(&[words, &["--json"]].concat())).unwrap()
    }

    /// Returns the time of the device's last message to the bridge.
    pub(crate) fn last_seen(&self) -> Option<u64> {
        self.shown(&["device", "show", "LAB-0001"]).get("last_seen_utc").and_then(Value::as_u64)
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
}
