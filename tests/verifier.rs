//! Attacks on the device's verifier, in the manner of tuf-conformance: one folder each in
//! `tests/verifier`, with a table of what is offered and what must be answered.
//!
//! The device is a black box: the program `verifier`, one process for each step. Documents and
//! packets are made here, by code that shares nothing with the product's envelopes; see
//! `tests/verifier/make.rs` for what a step can change about them.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::case::{Case, Offer, Step};

#[path = "verifier/case.rs"]
mod case;
#[path = "verifier/make.rs"]
mod make;
#[path = "verifier/packets.rs"]
mod packets;

/// Attacks at least: fewer means that a folder was not found.
const ATTACKS: usize = 60;

// test: oma-002 5 (malicious and unauthorised software)
#[test]
fn each_attack_is_answered_as_its_table_says() {
    let folders = folders();
    assert!(folders.len() >= ATTACKS, "only {} attacks", folders.len());
    // Most of a step is waiting for the disk.
    let share = folders.len().div_ceil(8);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let workers = folders.chunks(share).map(|folders| {
            scope.spawn(|| folders.iter().flat_map(|folder| played(folder)).collect::<Vec<_>>())
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(
        failed.is_empty(),
        "{} steps of {} attacks:\n{}",
        failed.len(),
        folders.len(),
        failed.join("\n")
    );
}

#[test]
fn a_step_without_a_data_folder_is_an_error_and_no_answer() {
    let home = tempfile::tempdir().unwrap();
    let (code, answer) = run(&["state".into(), "--data".into(), home.path().join("no")]);
    assert_eq!((code, answer), (3, Value::Null));
}

fn folders() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier");
    let entries = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Plays a case on a new device; returns what was answered wrongly.
fn played(folder: &Path) -> Vec<String> {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let text = fs::read_to_string(folder.join("case.toml")).unwrap();
    let case: Case = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(!case.about.is_empty() && !case.rule.is_empty() && !case.step.is_empty(), "{name}");
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("device");
    let root = home.path().join("factory.env");
    fs::write(&root, make::root(&case.factory)).unwrap();
    let kind = case.device.unwrap_or_default();
    let mut wrong = Vec::new();
    let init = ["init", "--vendor", &kind.vendor, "--class", &kind.class].map(PathBuf::from);
    let init = [init.as_slice(), &["--root".into(), root, "--data".into(), data.clone()]].concat();
    let (code, answer) = run(&init);
    if let Some(expected) = &case.init {
        wrong.extend(differences(&format!("{name}, init"), expected, code, &answer));
        return wrong;
    }
    assert_eq!(code, 0, "{name}: init");
    for (number, step) in (1..).zip(&case.step) {
        let (code, answer) = run(&command(step, home.path(), &data));
        let place = format!("{name}, step {number}");
        wrong.extend(differences(&place, &step.expect, code, &answer));
    }
    wrong
}

/// The command line of a step; what it offers is written to files first.
fn command(step: &Step, home: &Path, data: &Path) -> Vec<PathBuf> {
    let verb = match step.offer {
        Offer::Root => "offer-root",
        Offer::Campaign => "offer-campaign",
        Offer::Packets => "offer-packets",
        Offer::State => "state",
    };
    let now = step.now.unwrap_or(match step.offer {
        Offer::Packets => make::NOW + 180,
        Offer::Root | Offer::Campaign | Offer::State => make::NOW,
    });
    let mut line: Vec<PathBuf> = vec![verb.into(), "--data".into(), data.into()];
    line.extend(["--now".into(), now.to_string().into()]);
    let file = |name: &str, octets: Vec<u8>| {
        let path = home.join(name);
        fs::write(&path, octets).unwrap();
        path
    };
    match step.offer {
        Offer::State => {}
        Offer::Root => line.push(file("root.env", make::root(&step.root))),
        Offer::Packets => line.push(file("air.pcap", packets::capture(&step.packets))),
        Offer::Campaign => {
            let documents = make::documents(step);
            line.extend(["--url".into(), documents.url.into()]);
            line.extend(["--opens".into(), documents.opens.to_string().into()]);
            line.extend(["--closes".into(), documents.closes.to_string().into()]);
            for (option, name, octets) in [
                ("--campaign", "campaign.env", documents.campaign),
                ("--manifest", "manifest.env", documents.manifest),
                ("--plan", "plan", documents.plan),
            ] {
                if let Some(octets) = octets {
                    line.extend([option.into(), file(name, octets)]);
                }
            }
        }
    }
    line
}

/// Runs the program; returns its exit code and the JSON that it printed.
fn run(arguments: &[PathBuf]) -> (i32, Value) {
    let output = test_log::run(Command::new(env!("CARGO_BIN_EXE_verifier")).args(arguments));
    let code = output.status.code().unwrap_or(-1);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(code, 0 | 3 | 5 | 8), "{arguments:?}: {code}: {said}");
    let line = String::from_utf8(output.stdout).unwrap();
    (code, serde_json::from_str(&line).unwrap_or(Value::Null))
}

/// Returns the part of an expected table that an answer lacks; `exit` is the exit code.
fn differences(place: &str, expected: &toml::Table, code: i32, answer: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, expected) in expected {
        let expected = serde_json::to_value(expected).unwrap();
        let found = match name.as_str() {
            "exit" => Value::from(code),
            name if answer.get(name).is_some() => answer[name].clone(),
            name => answer["state"][name].clone(),
        };
        if found != expected {
            wrong.push(format!("{place}: {name} is {found}, expected {expected}: {answer}"));
        }
    }
    wrong
}
