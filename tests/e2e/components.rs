//! A software component on a real device: brought by a campaign, deactivated and removed by the
//! management server, and after each of them read back from the installer.

use std::fs;

use serde_json::Value;

use crate::{
    processes::Scene,
    unicast::{self, campaign, image},
};

const PLAYER: &str = "org.example.player";

/// Keeps its list in a file; the hook runs in the folder of its caller, so that the image,
/// the list and all else lie beside the script.
const VERBS: &str = r#"component-install) cp "$2" "${0%/*}/component"
    echo '{"id":"org.example.player","version":"2.0","active":true}' > "${0%/*}/list";;
    component-activate) sed -i s/false/true/ "${0%/*}/list";;
    component-deactivate) sed -i s/true/false/ "${0%/*}/list";;
    component-remove) rm "${0%/*}/list";;
    components) if [ -f "${0%/*}/list" ]; then cat "${0%/*}/list"; fi;;"#;

fn scene() -> Scene {
    unicast::scene(&["--component", PLAYER], "components = \"granted\"", VERBS)
}

fn components(scene: &Scene) -> Value {
    scene.shown(&["component", "list", "LAB-0001"])
}

/// Orders an operation and waits until the device has done it and shows these states of it.
fn order(scene: &Scene, operation: &str, states: &[&str]) {
    scene.bridge(&["component", operation, "LAB-0001", PLAYER]);
    let name = format!("component-{operation}");
    scene.wait_for(&name, || {
        let shown = components(scene);
        let operations = shown["operations"].as_array().unwrap();
        let last = operations.iter().rfind(|work| work["operation"] == name.as_str())?;
        assert_ne!(last["state"], "failed", "{shown}");
        // A session before the last one may have read the inventory while it changed.
        (last["state"] == "done" && deployed(&shown) == states).then_some(())
    });
}

/// The states of what is installed; what is only delivered stays until the server deletes it.
fn deployed(shown: &Value) -> Vec<String> {
    let entries = shown["inventory"].as_array().unwrap().iter();
    let states = entries.map(|it| it["state"].as_str().unwrap_or_default().to_owned());
    states.filter(|state| state != "delivered").collect()
}

// test: oma-002 7 (components by the same arming)
#[test]
fn a_component_is_brought_deactivated_and_removed_on_a_real_device() {
    let scene = scene();
    let device = campaign(&scene, "2", &["--component", PLAYER]);
    assert_eq!(
        (device["delivery"].as_str(), device["result_code"].as_u64()),
        (Some("download"), Some(1200))
    );
    assert_eq!(fs::read(scene.file("component")).unwrap(), image());
    assert!(!scene.file("installed").exists(), "it is no firmware");
    let shown = components(&scene);
    assert_eq!(deployed(&shown), ["active"]);
    let mut inventory = shown["inventory"].as_array().unwrap().iter();
    let player = inventory.rfind(|it| it["id"] == PLAYER).unwrap();
    assert_eq!(player["version"], "2.0");

    order(&scene, "deactivate", &["inactive"]);
    order(&scene, "remove", &[]);
}

// test: oma-002 scomo.install (a package inside the DM session)
#[test]
fn a_component_is_brought_inside_the_dm_session() {
    let scene = scene();
    let device = campaign(&scene, "1", &["--component", PLAYER]);
    assert_eq!(
        (device["delivery"].as_str(), device["result_code"].as_u64()),
        (Some("direct"), Some(1200))
    );
    assert_eq!(fs::read(scene.file("component")).unwrap(), image());
    assert_eq!(deployed(&components(&scene)), ["active"]);
}
