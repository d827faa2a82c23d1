//! Bootstrap of device accounts: from a file, over the air, by a card.

use std::{
    fs,
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
};

use serde_json::Value;

use crate::{
    notify::gateway,
    processes::{Scene, role, run},
};

/// A device without an account; returns its URL for pushes over HTTP.
fn scene(local: &str) -> (Scene, String) {
    let scene = Scene::new();
    let posts = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (device, _) = scene.enrolled.split_once("[server]").unwrap();
    let local = local.replace("FOLDER", scene.file("").to_str().unwrap());
    let local = format!("installer_hook = [\"/bin/true\"]\nnotification_http = {posts:?}\n{local}");
    scene.set_up(device, &local);
    (scene, posts)
}

fn write_document(scene: &Scene, more: &[&str]) {
    scene.bridge(&[&["bootstrap", "LAB-0001"], more].concat());
}

fn bootstrap(scene: &Scene, more: &[&str]) -> Command {
    let mut bootstrap = role(&["receiver", "bootstrap", &scene.at("document")]);
    bootstrap.args(more).args(["--config", &scene.at("device.toml")]);
    bootstrap
}

/// Writes a PIN to a file of its name; returns its path.
fn pin_file(scene: &Scene, pin: &str) -> String {
    fs::write(scene.file(pin), format!("{pin}\n")).unwrap();
    scene.at(pin)
}

// test: oma-dm 9.3
#[test]
fn a_device_comes_with_the_account_of_a_document_and_a_wrong_pin_changes_nothing() {
    let (mut scene, _) = scene("");
    let document = scene.file("document");
    let (pin, wrong) = (pin_file(&scene, "4711"), pin_file(&scene, "4712"));
    for profile in ["cp", "dm"] {
        let out = document.to_str().unwrap();
        write_document(&scene, &["--profile", profile, "--pin-file", &pin, "--out", out]);
        let refused = bootstrap(&scene, &["--pin-file", &wrong]).output().unwrap();
        assert_eq!(refused.status.code(), Some(5), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("its proof does not match the PIN"), "{said}");
        let without = bootstrap(&scene, &[]).output().unwrap();
        assert_eq!(without.status.code(), Some(2), "{without:?}");
        assert_eq!(scene.file("device/account.toml").exists(), profile == "dm");

        let said = run(&mut bootstrap(&scene, &["--pin-file", &pin, "--json"])).stdout;
        let said: Value = serde_json::from_slice(&said).unwrap();
        assert_eq!((&said["profile"], &said["auth"]), (&profile.into(), &"md5".into()));
        let account = said["account"].as_str().unwrap();
        assert!(account.starts_with("fumocast at http://127.0.0.1:"), "{said}");
        assert_eq!(said["before"].is_null(), profile == "cp", "{said}");
    }
    scene.start();
    scene.wait_for("the device comes", || scene.last_seen());
    let busy = bootstrap(&scene, &["--pin-file", &pin]).output().unwrap();
    assert_eq!(busy.status.code(), Some(7), "{busy:?}");
}

// test: oma-dm 9.3
#[test]
fn a_device_without_an_account_takes_one_over_the_air_with_its_users_pin() {
    let (mut scene, posts) = scene(
        "user_interface = \"hook\"\nuser_hook = [\"/bin/sh\", \"-c\", \"cat > FOLDER/asked; \
         echo '{\\\"answer\\\":\\\"text\\\",\\\"text\\\":\\\"4711\\\"}'\", \"hook\"]",
    );
    scene.start();
    scene.wait_for("the device listens", || TcpStream::connect(&posts).ok());
    let to = format!("http://{posts}/");
    write_document(&scene, &["--pin-file", &pin_file(&scene, "4711"), "--to", &to]);
    scene.wait_for("the device comes", || scene.last_seen());
    let asked: Value = serde_json::from_slice(&fs::read(scene.file("asked")).unwrap()).unwrap();
    assert_eq!((&asked["about"], &asked["echo"]), (&"account".into(), &"hidden".into()));
}

// test: oma-dm 9 (USERPINMAC)
#[test]
fn a_device_takes_a_document_with_the_code_that_the_server_prints_and_no_other() {
    let (mut scene, _) = scene("");
    let out = scene.at("document");
    let printed = scene.bridge(&["bootstrap", "LAB-0001", "--pin-mac", "--out", &out]);
    let code = printed.split_once("code ").unwrap().1.split(' ').next().unwrap().to_owned();
    assert_eq!(code.len(), 10, "{printed}");
    let document = fs::read(&out).unwrap();
    assert!(document.starts_with(&[0x01, 0x06, 0x04, 0x03, 0xb6, 0x91, 0x83]), "no MAC");
    let last = code.bytes().last().unwrap();
    let wrong = format!("{}{}", &code[..9], char::from(b'0' + (last - b'0' + 1) % 10));
    let refused = bootstrap(&scene, &["--pin-file", &pin_file(&scene, &wrong)]).output().unwrap();
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    let half = pin_file(&scene, &code[..5]);
    assert_eq!(bootstrap(&scene, &["--pin-file", &half]).output().unwrap().status.code(), Some(2));
    assert!(!scene.file("device/account.toml").exists());
    run(&mut bootstrap(&scene, &["--pin-file", &pin_file(&scene, &code)]));
    scene.start();
    scene.wait_for("the device comes", || scene.last_seen());
}

// test: oma-003 6.1.4.3
#[test]
fn a_device_goes_to_the_server_of_its_card_by_itself() {
    let (mut scene, _) = scene("smart_card_image = \"FOLDER/card.bin\"");
    let card = scene.file("card.bin");
    let out = card.to_str().unwrap();
    write_document(&scene, &["--profile", "smart-card", "--card", "894901", "--out", out]);
    scene.start();
    scene.wait_for("the device comes", || scene.last_seen());
}

/// The radio network loses one part at first, and brings all of them in reverse and twice.
// test: oma-dm 9 (a document in several short messages)
#[test]
fn a_device_takes_its_account_from_several_short_messages() {
    let modem = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (mut scene, posts) =
        scene(&format!("notification_udp = \"{datagrams}\"\nimsi = \"310410123456789\""));
    scene.start();
    scene.wait_for("the device listens", || TcpStream::connect(&posts).ok());
    let (mut lost, mut parts) = (false, Vec::new());
    let gateway = gateway(move |part| {
        if parts.len() == 1 && !std::mem::replace(&mut lost, true) {
            return false;
        }
        let total = usize::from(part[10]);
        parts.push(part);
        if parts.len() == total {
            for part in parts.iter().rev().flat_map(|part| [part, part]) {
                modem.send_to(part, datagrams).unwrap();
            }
        }
        true
    });
    fs::write(scene.file("gateway.token"), "opensesame\n").unwrap();
    let secret = scene.at("gateway.token");
    let to = ["--imsi", "310410123456789", "--to", "sms:+4915112345678"];
    let over = ["--sms-gateway", &gateway, "--sms-gateway-secret-file", &secret];
    write_document(&scene, &[to, over].concat());
    scene.wait_for("the device comes", || scene.last_seen());
    let mut wrong = role(&["dm-bridge", "bootstrap", "LAB-0001", "--profile", "dm"]);
    wrong.args(to).args(over).args(["--data", &scene.at("bridge")]);
    assert_eq!(wrong.output().unwrap().status.code(), Some(2), "the DM profile has no push");
}
