//! The lab as a person runs it.

use std::{
    path::Path,
    process::{Command, Output},
};

use dm_bridge::{fleet::store::FleetStore as _, shell::data_dir::DataDir};
use fumocast_tests::lab::report::{Device, Outcome, Report};

use crate::lab_program;

#[test]
fn an_image_survives_loss_and_a_kill_and_an_unarmed_device_takes_nothing() {
    let report = complete(&[
        "--size",
        "2MiB",
        "--devices",
        "2",
        "--unarmed",
        "1",
        "--loss",
        "10",
        "--rate",
        "8M",
        "--kills",
        "1",
        "--seed",
        "1",
    ]);
    let killed: Vec<_> = report.devices.iter().filter(|device| device.kills == 1).collect();
    assert_eq!(killed.len(), 1);
    let (stored, resumed) =
        (killed[0].symbols_stored_before_kill.unwrap(), killed[0].symbols_resumed.unwrap());
    assert!(stored > 0 && resumed * 100 >= stored * 95, "{resumed} of {stored}");
    for device in armed(&report) {
        // A killed device misses what is left of a segment, 1,024 symbols of so small an image.
        let (percent, missed) = if device.kills == 0 { (104, 0) } else { (115, 1024) };
        let most = device.symbols_needed * percent / 100 + missed;
        assert!(device.data_heard <= most, "{device:?}");
    }
    let unarmed = report.devices.iter().find(|device| !device.armed).unwrap();
    let most = report.devices.iter().map(|device| device.datagrams_heard).max().unwrap();
    assert!(unarmed.datagrams_heard * 100 >= most * 80, "{unarmed:?}");
    assert_eq!(unarmed.slots_held, 0);
}

/// WBXML, consent at enrolment, package 0, a suspension of each device, reports spread over
/// seconds.
#[test]
fn all_that_device_management_offers_comes_together_in_one_run() {
    let report = complete(&[
        "--full",
        "--size",
        "1MiB",
        "--devices",
        "3",
        "--unarmed",
        "1",
        "--loss",
        "10",
        "--rate",
        "4M",
        "--seed",
        "3",
    ]);
    assert_eq!((report.encoding.as_str(), report.report_spread_seconds), ("wbxml", 5));
    for device in armed(&report) {
        assert!(device.notified && device.suspended && device.consented, "{device:?}");
    }
}

#[test]
fn a_forged_flood_costs_nothing_but_its_packets() {
    let report = complete(&[
        "--size",
        "1MiB",
        "--devices",
        "2",
        "--unarmed",
        "1",
        "--loss",
        "5",
        "--rate",
        "4M",
        "--forge",
        "10",
        "--seed",
        "2",
    ]);
    for device in armed(&report) {
        assert!(device.forged_dropped > device.symbols_needed, "{device:?}");
    }
}

#[test]
fn devices_report_once_when_the_management_server_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let report = complete(&[
        "--size",
        "1MiB",
        "--devices",
        "2",
        "--unarmed",
        "0",
        "--rate",
        "4M",
        "--bridge-down",
        "--seed",
        "3",
        "--dir",
        dir.to_str().unwrap(),
    ]);
    let results = results_in_the_audit(&dir.join("bridge"));
    let once: Vec<_> = armed(&report).map(|device| device.id.clone()).collect();
    assert_eq!(results, once, "each device's result is counted once");
}

/// Returns whose results the management server has counted, in order.
fn results_in_the_audit(data: &Path) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let lines = runtime.block_on(async {
        let store = DataDir::open(data, None).unwrap().store().await.unwrap();
        store.audit_tail(u32::MAX).await.unwrap()
    });
    let counted = lines.into_iter().filter(|line| line.detail.ends_with("result 200"));
    let mut devices: Vec<_> = counted.map(|line| line.subject).collect();
    devices.sort_unstable();
    devices
}

#[test]
fn nothing_of_a_run_is_left_when_the_lab_is_terminated() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let mut lab = Command::new(lab_program());
    lab.args(["--size", "4MiB", "--devices", "2", "--rate", "1M", "--dir"]).arg(&dir);
    let mut lab = lab.stdout(std::process::Stdio::null()).spawn().unwrap();
    let socket = dir.join("LAB-0001/data/control.sock");
    wait_until(|| socket.exists());
    let group = processes_naming(&dir.display().to_string());
    assert!(group.len() >= 4, "servers and devices run: {group:?}");
    let id = rustix::process::Pid::from_child(&lab);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(lab.wait().unwrap().code(), Some(130));
    wait_until(|| processes_naming(&dir.display().to_string()).is_empty());
}

fn armed(report: &Report) -> impl Iterator<Item = &Device> {
    report.devices.iter().filter(|device| device.armed)
}

/// Runs the lab, which must end complete, each armed device with the image and the result 200.
fn complete(arguments: &[&str]) -> Report {
    let output = test_log::run(Command::new(lab_program()).args(arguments).arg("--json"));
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report.outcome, Outcome::Complete);
    for device in armed(&report) {
        assert_eq!(device.result_code, Some(200));
        assert_eq!(device.image_sha256.as_ref(), Some(&report.image_sha256));
    }
    report
}

fn report(output: &Output) -> Report {
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| {
        panic!("{error}: {said}\n{}", String::from_utf8_lossy(&output.stderr))
    })
}

/// Ids of processes whose command line names a text.
fn processes_naming(text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(text) {
            ids.push(id);
        }
    }
    ids
}

#[expect(clippy::disallowed_methods, reason = "other processes give no event to wait for")]
fn wait_until(mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("it did not happen within 30 s");
}
