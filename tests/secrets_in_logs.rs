//! Search of all logs and printed output of the tests of all packages for every secret that they
//! have used. It runs last, and removes what it has searched.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the output of a test is for the person who runs it"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, helpers included")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use fumocast_tests::secrets::{self, Search, Secret};

/// Environment variable that is set when all tests have run before; then [`SOURCES`] must have
/// logs.
const WHOLE_SUITE: &str = "FUMOCAST_WHOLE_SUITE";
/// Parts of the names of logs that the whole suite leaves.
const SOURCES: [&str; 9] = [
    // Programs of the lab.
    "carousel.log",
    "dm-bridge.log",
    "LAB-0001.log",
    // Processes of tests, by package.
    "carousel-",
    "dm_bridge-",
    "receiver-",
    "dm-",
    "sim-",
    // What programs have printed.
    "printed.log",
];
/// Least number of secrets of the whole suite.
const WHOLE_SECRETS: usize = 100;
/// Least size of its logs.
const WHOLE_LOG_BYTES: u64 = 1_000_000;

#[test]
fn no_secret_is_in_any_log_of_the_test_suite() {
    let Some(dir) = test_log::dir() else {
        println!(
            "skipped: no logs are collected without {}, which cargo sets",
            test_log::DIR_VARIABLE
        );
        return;
    };
    let secrets = read_secrets(&dir.join(test_log::SECRETS));
    let logs = files(&dir.join(test_log::LOGS));
    assert!(!secrets.is_empty() && !logs.is_empty(), "no logs were collected: run all tests");
    let search = Search::new(&secrets).unwrap();
    // A search that finds nothing must be able to.
    for (form, name) in search.forms() {
        let leak = [b"injected ", &form[..], b" leak"].concat();
        assert!(search.find(&leak).is_some(), "a form of {name} is not found");
    }
    let (mut log_bytes, mut found) = (0, Vec::new());
    for path in &logs {
        let log = fs::read(path).unwrap();
        log_bytes += log.len() as u64;
        found.extend(search.find(&log).map(|leak| format!("{}: {leak}", path.display())));
    }
    println!(
        "{} secrets in {} forms, {} logs of {log_bytes} octets: {} leaks",
        secrets.len(),
        search.forms().len(),
        logs.len(),
        found.len(),
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
    if std::env::var_os(WHOLE_SUITE).is_some() {
        for part in SOURCES {
            let has_logs = logs.iter().any(|path| path.to_string_lossy().contains(part));
            assert!(has_logs, "no log of {part} was collected");
        }
        assert!(secrets.len() >= WHOLE_SECRETS && log_bytes >= WHOLE_LOG_BYTES);
    }
    fs::remove_dir_all(dir).unwrap();
}

fn read_secrets(folder: &Path) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for path in files(folder) {
        let name = path.file_name().unwrap().to_string_lossy();
        secrets.extend(secrets::read(&name, &fs::read(&path).unwrap()).unwrap());
    }
    secrets.sort();
    secrets.dedup_by(|one, other| one.octets == other.octets);
    secrets
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
