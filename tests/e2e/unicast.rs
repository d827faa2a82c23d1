//! A device that gets its package by unicast: over HTTP, inside the DM session, from local media;
//! real processes and sockets, and a user who is asked by a hook.

use std::fs;

use serde_json::Value;

use crate::processes::{MAKE, Scene, role, run};

/// Octets of the package.
pub(crate) fn image() -> Vec<u8> {
    (0..75_000_u32).flat_map(u32::to_be_bytes).collect()
}

/// A package with its bundle beside the bridge, and a device whose user consents; with more
/// arguments for the package, more settings and more verbs of the device's hook.
pub(crate) fn scene(package: &[&str], settings: &str, verbs: &str) -> Scene {
    let mut scene = Scene::new();
    let at = |name: &str| scene.at(name);
    fs::write(at("image"), image()).unwrap();
    run(role(&["carousel", "package", "--image", &at("image"), "--version", "2.0"])
        .args(["--sequence", "1", "--key", &at("keys/release.key")])
        .args(["--root", &at("keys/root.env"), "--out", &at("package")])
        .args(MAKE)
        .args(package));
    run(&mut role(&["carousel", "plan", &at("package")]));
    run(role(&["carousel", "campaign", "build", &at("package"), "--source", "127.0.0.1"])
        .args(["--latest-stop", "+2h", "--sequence", "1"])
        .args(["--key", &at("keys/campaign.key"), "--root", &at("keys/root.env")]));
    run(&mut role(&["carousel", "bundle", &at("package"), "--out", &at("bundle")]));
    fs::write(at("version"), "1.0\n").unwrap();
    let (version, installed) = (at("version"), at("installed"));
    let install = scene.script(
        "hook",
        &format!(
            "case $1 in install) cp \"$2\" {installed}; echo 2.0 > {version};; \
             version) cat {version};; {verbs} esac"
        ),
    );
    let user = scene.yes_to_all();
    let local = format!(
        "installer_hook = [\"/bin/sh\", {install:?}]\n{user}consent = \"install\"\n\
         poll_interval_seconds = 1\n{settings}"
    );
    scene.set_up(&scene.enrolled, &local);
    scene.start();
    scene
}

/// Creates a campaign with this delivery method and starts it; returns its id.
pub(crate) fn begin_campaign(scene: &Scene, delivery: &str, more: &[&str]) -> String {
    fs::write(scene.file("carousel.token"), "a-token-that-nobody-asks-for\n").unwrap();
    let at = |name: &str| scene.at(name);
    let (paper, manifest, root) =
        (at("package/campaign.env"), at("package/manifest.env"), at("keys/root.env"));
    let (header, token, bundle) =
        (format!("0={}", at("package/0.header")), at("carousel.token"), at("bundle"));
    let create = [
        ["campaign", "create"],
        ["--campaign", &paper],
        ["--manifest", &manifest],
        ["--plan-header", &header],
        ["--root", &root],
        ["--carousel", "http://127.0.0.1:9"],
        ["--carousel-token-file", &token],
        ["--group", "232.1.2.3"],
        ["--port", "3400"],
        ["--devices", "all"],
        ["--report-spread", "0"],
        ["--delivery", delivery],
        ["--package", &bundle],
        ["--ask-user", "Update to 2.0?"],
    ]
    .concat();
    let created = scene.shown(&[&create, more].concat());
    let id = created["id"].as_str().unwrap();
    scene.bridge(&["campaign", "start", id, "--opens", "now", "--closes", "+1h"]);
    id.to_owned()
}

/// The same, and waits until the device has done it.
pub(crate) fn campaign(scene: &Scene, delivery: &str, more: &[&str]) -> Value {
    let id = begin_campaign(scene, delivery, more);
    scene.wait_for("the device has confirmed", || {
        let status = scene.shown(&["campaign", "status", &id]);
        let device = status["device_list"][0].clone();
        (device["phase"] == "confirmed").then_some(device)
    })
}

/// Returns the questions that the user's hook received, one a line.
fn questions(scene: &Scene) -> Vec<Value> {
    let text = fs::read_to_string(scene.file("asked")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn abouts(asked: &[Value]) -> Vec<&str> {
    asked.iter().filter_map(|question| question["about"].as_str()).collect()
}

// test: oma-001 8.1.2.14, oma-001 8.1.2.18, oma-001 8.1.2.24
#[test]
fn a_device_gets_its_package_by_http_with_its_users_consent() {
    let scene = scene(&[], "", "");
    let device = campaign(&scene, "2", &[]);
    assert_eq!(
        (device["delivery"].as_str(), device["result_code"].as_u64()),
        (Some("download"), Some(200))
    );
    assert_eq!(fs::read(scene.file("installed")).unwrap(), image());
    scene.wait_for("the user is notified", || (questions(&scene).len() >= 3).then_some(()));
    let asked = questions(&scene);
    assert_eq!(abouts(&asked), ["session", "install", "result"]);
    assert_eq!(asked[0]["text"], "Update to 2.0?");
}

// test: oma-001 8.1.1.10, oma-001 8.1.1.14
#[test]
fn a_device_gets_its_package_inside_the_dm_session() {
    let scene = scene(&[], "", "");
    let device = campaign(&scene, "1", &[]);
    assert_eq!(
        (device["delivery"].as_str(), device["result_code"].as_u64()),
        (Some("direct"), Some(200))
    );
    assert_eq!(fs::read(scene.file("installed")).unwrap(), image());
}

// test: oma-003 5.5.1.5.1
#[test]
fn a_stick_at_a_kiosk_updates_a_device_and_a_forged_one_does_not() {
    let scene = scene(&[], "", "");
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
    assert_eq!(fs::read(scene.file("installed")).unwrap(), image());
    let again = import(&scene.at("bundle"));
    assert_eq!(again.status.code(), Some(8), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("251"), "{again:?}");
}
