//! Software components of a real device, managed by a real bridge: read with the user's consent,
//! changed, and read back; the installer hook is a shell script that keeps a list.

use std::fs;

use serde_json::Value;

use crate::processes::{Scene, role};

/// A device with one component whose user consents.
fn scene() -> Scene {
    let mut scene = Scene::new();
    let list = scene.at("list");
    fs::write(&list, "{\"id\":\"player\",\"version\":\"2.1\",\"active\":true}\n").unwrap();
    let hook = scene.script(
        "hook",
        &format!(
            "case $1 in version) echo 1.0;; components) cat {list};; \
             component-activate) sed -i \"/\\\"$2\\\"/s/false/true/\" {list};; \
             component-deactivate) sed -i \"/\\\"$2\\\"/s/true/false/\" {list};; \
             component-remove) sed -i \"/\\\"$2\\\"/d\" {list};; *) exit 1;; esac"
        ),
    );
    let user = scene.yes_to_all();
    let local = format!(
        "installer_hook = [\"/bin/sh\", {hook:?}]\n{user}components = \"ask\"\npoll_interval_seconds = 1"
    );
    scene.set_up(&scene.enrolled, &local);
    scene.start();
    scene
}

/// Returns the inventory as the management server shows it; also refreshes it in the next session.
fn read(scene: &Scene) -> Value {
    scene.shown(&["component", "list", "LAB-0001"])
}

/// Returns the inventory as the device itself lists it.
fn listed(scene: &Scene) -> Option<Value> {
    let config = scene.at("device.toml");
    let mut ask = role(&["receiver", "components", "--json", "--config", &config]);
    serde_json::from_slice(&ask.output().unwrap().stdout).ok()
}

// test: oma-003 6.1.4.16, oma-dm 12.1 (a device and a server)
#[test]
fn the_operator_reads_and_changes_the_components_of_a_device_with_consent() {
    let scene = scene();
    let shown = scene.wait_for("the device runs", || listed(&scene));
    assert_eq!(shown[0]["id"], "player");
    let state = |shown: &Value, state: &str| shown["inventory"][0]["state"] == state;
    scene.wait_for("the server shows what is installed", || {
        Some(read(&scene)).filter(|shown| state(shown, "active"))
    });
    let asked = fs::read_to_string(scene.file("asked")).unwrap();
    assert_eq!(asked.matches("\"about\":\"inventory\"").count(), 1, "{asked}");

    scene.bridge(&["component", "deactivate", "LAB-0001", "player"]);
    let shown = scene.wait_for("it runs no more", || {
        Some(read(&scene)).filter(|shown| state(shown, "inactive"))
    });
    assert_eq!(shown["operations"][0]["result_code"], 1200, "{shown}");
    assert_eq!(listed(&scene).unwrap()[0]["active"], false);

    scene.bridge(&["component", "remove", "LAB-0001", "player"]);
    scene.wait_for("it is gone", || {
        Some(read(&scene)).filter(|shown| shown["inventory"].as_array().is_some_and(Vec::is_empty))
    });
    assert_eq!(listed(&scene), Some(Value::Array(Vec::new())));
    assert_eq!(fs::read_to_string(scene.file("list")).unwrap(), "");
}
