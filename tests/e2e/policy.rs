//! The operator sets the policy of a real device: its answer is shown, and an image that it holds
//! on command is installed when the operator commands it.

use std::fs;

use serde_json::Value;

use crate::{
    processes::Scene,
    unicast::{begin_campaign, image, scene},
};

/// Sets nodes and waits until the device has answered each; returns the answers.
fn set(scene: &Scene, settings: &[&str]) -> Value {
    scene.bridge(&[&["device", "policy", "LAB-0001"], settings].concat());
    scene.wait_for("the device has answered", || {
        let policy = scene.shown(&["device", "show", "LAB-0001"])["policy"].clone();
        let mut orders = policy.as_object()?.values();
        orders.all(|order| order["pending"] == false).then_some(policy)
    })
}

// test: oma-002 6 (policy of installation)
#[test]
fn the_operator_sets_the_policy_of_a_device_and_releases_a_held_image() {
    let scene = scene(&[], "", "");
    let policy = set(&scene, &["install=on-command", "battery=much", "consent=none"]);
    let answer = |node: &str| policy[node]["status"].as_u64();
    assert_eq!(answer("install"), Some(200), "{policy}");
    assert_eq!(answer("battery"), Some(400), "the device judges the value: {policy}");
    assert_eq!(answer("consent"), Some(403), "its own settings want more asked: {policy}");
    let shown = scene.bridge(&["device", "show", "LAB-0001"]);
    assert!(shown.contains("policy battery=much: status 400 "), "{shown}");

    let id = begin_campaign(&scene, "2", &[]);
    scene.wait_for("the image is held", || {
        let status = scene.shown(&["campaign", "status", &id]);
        (status["device_list"][0]["result_code"] == 250).then_some(())
    });
    assert!(!scene.file("installed").exists());
    let policy = set(&scene, &["install=at-once"]);
    assert_eq!(policy["install"]["status"], 200, "{policy}");
    scene.wait_for("it is installed", || {
        fs::read(scene.file("installed")).ok().filter(|octets| *octets == image())
    });
}
