//! `receiver fsck` on what a device left, through its command line.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails where it unwraps or looks beside"
)]

use proto::fixtures::broadcast::Broadcast;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    rc::Rc,
    time::Duration,
};

use fumocast_tests::{
    sim::disk::SimDisk,
    store::device::{DATA, Device},
};
use receiver::shell::disk::Disk;
use serde_json::{Value, json};

/// A device in the middle of its reception, on real files.
struct Left {
    _home: tempfile::TempDir,
    data: PathBuf,
}

impl Left {
    fn new() -> Self {
        let broadcast = Rc::new(Broadcast::new(60, 2));
        let pass = broadcast.pass();
        let mut device = Device::new(broadcast, SimDisk::new(1));
        device.start().unwrap();
        device.check_in();
        device.wait_for_window();
        for packet in pass.iter().take(50) {
            device.receive(packet);
        }
        device.wait(Duration::from_secs(2));
        assert!(device.listens());
        let home = tempfile::tempdir().unwrap();
        copy(&device.disk, Path::new(DATA), &home.path().join("data"));
        let data = home.path().join("data");
        Self { _home: home, data }
    }

    fn fsck(&self) -> (i32, Value) {
        let output = fsck(&["--json", self.data.to_str().unwrap()]);
        (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
    }

    fn object(&self) -> PathBuf {
        let mut objects = std::fs::read_dir(self.data.join("objects")).unwrap();
        objects.next().unwrap().unwrap().path()
    }
}

fn copy(disk: &SimDisk, from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in disk.list(from).unwrap() {
        let (from, to) = (from.join(&entry.name), to.join(&entry.name));
        if entry.is_directory {
            copy(disk, &from, &to);
        } else {
            std::fs::write(to, disk.content(&from).unwrap()).unwrap();
        }
    }
}

/// The lab carries all programs: it runs the receiver's very command line.
fn fsck(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    test_log::run(command.args(["role", "receiver", "fsck"]).args(arguments))
}

fn damage(path: &Path, octet: usize) {
    let mut content = std::fs::read(path).unwrap();
    content[octet] ^= 1;
    std::fs::write(path, content).unwrap();
}

#[test]
fn a_sound_directory_is_listed_block_by_block_and_left_as_it_is() {
    let left = Left::new();
    let before = std::fs::read(left.object().join("log.0")).unwrap();
    let (code, report) = left.fsck();
    assert_eq!((code, &report["problems"]), (0, &json!([])), "{report}");
    assert_eq!(report["phase"], "receiving");
    let states: Vec<_> =
        report["journal"].as_array().unwrap().iter().map(|copy| &copy["state"]).collect();
    assert!(states.contains(&&json!("latest")) && states.contains(&&json!("earlier")));
    let object = &report["objects"][0];
    assert_eq!((&object["is_known"], &object["image"]), (&json!(true), &json!("partial")));
    assert_eq!(object["logs"][0]["state"], "ready");
    assert!(object["tables_bytes"].as_u64().unwrap() > 4096, "{object}");
    let held: u64 =
        object["blocks"].as_array().unwrap().iter().map(|it| it["held"].as_u64().unwrap()).sum();
    assert!(held > 0 && object["held"] == json!(held), "{object}");
    assert_eq!(std::fs::read(left.object().join("log.0")).unwrap(), before);
    let text = fsck(&[left.data.to_str().unwrap()]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("phase receiving") && text.ends_with("sound\n"), "{text}");
}

#[test]
fn damage_is_named_and_distinguished_from_loss_by_the_exit_code() {
    let left = Left::new();
    let held = |report: &Value| report["objects"][0]["held"].as_u64().unwrap();
    let whole = held(&left.fsck().1);
    damage(&left.object().join("log.0"), 4096 + 40);
    let (code, report) = left.fsck();
    assert_eq!((code, held(&report)), (9, whole - 1));
    assert_eq!(report["objects"][0]["damaged"], 1);

    std::fs::write(left.data.join("notes.txt"), "mine").unwrap();
    std::fs::write(left.object().join("other"), "mine").unwrap();
    let foreign = left.fsck().1["foreign"].clone();
    let directory = left.object();
    let directory = directory.file_name().unwrap().to_str().unwrap();
    assert_eq!(foreign, json!(["notes.txt", format!("objects/{directory}/other")]));

    damage(&left.data.join("journal.a"), 30);
    let (code, report) = left.fsck();
    assert_eq!((code, &report["journal"][0]["state"]), (9, &json!("damaged")));
    damage(&left.data.join("journal.b"), 30);
    assert_eq!(left.fsck().0, 5, "what the device had decided is lost");

    damage(&left.object().join("log.0"), 100);
    assert_eq!(left.fsck().1["objects"][0]["logs"][0]["state"], "foreign");
}

#[test]
fn a_finished_image_is_compared() {
    let left = Left::new();
    let object = left.object();
    std::fs::rename(object.join("image.part"), object.join("image")).unwrap();
    let (code, report) = left.fsck();
    assert_eq!((code, &report["objects"][0]["image"]), (5, &json!("wrong")));
}

#[test]
fn a_directory_that_is_not_there_and_help_have_their_codes() {
    assert_eq!(fsck(&["/nonexistent/fumocast"]).status.code(), Some(6));
    assert_eq!(fsck(&[]).status.code(), Some(2));
    let help = fsck(&["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("Exit codes: 0 sound") && help.contains("Examples:"), "{help}");
}
