//! What must stay secret does, whatever is logged: a search of all that the tests of all packages
//! have logged and printed for all secrets that they have used. It runs last, and it takes away
//! what it has searched.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, helpers included")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use fumocast_tests::secrets::{self, Search, Secret};

/// Set when all tests have run before: then these must have been heard.
const WHOLE_SUITE: &str = "FUMOCAST_WHOLE_SUITE";
const WHOLE: [&str; 9] = [
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
/// Least number of secrets and octets of logs of the whole suite.
const WHOLE_SECRETS: usize = 100;
const WHOLE_OCTETS: u64 = 1_000_000;

#[test]
fn no_secret_is_in_any_log_of_the_test_suite() {
    let Some(place) = witness::place() else {
        println!("skipped: nobody listens without {}, which cargo sets", witness::PLACE);
        return;
    };
    let secrets = read_secrets(&place.join(witness::SECRETS));
    let logs = files(&place.join(witness::LOGS));
    assert!(!secrets.is_empty() && !logs.is_empty(), "nothing was heard: run all tests");
    let search = Search::new(&secrets).unwrap();
    // A search that finds nothing must be able to.
    for (form, name) in search.forms() {
        let leak = [b"planted ", &form[..], b" leak"].concat();
        assert!(search.find(&leak).is_some(), "a form of {name} is not found");
    }
    let (mut octets, mut found) = (0, Vec::new());
    for path in &logs {
        let log = fs::read(path).unwrap();
        octets += log.len() as u64;
        found.extend(search.find(&log).map(|leak| format!("{}: {leak}", path.display())));
    }
    println!(
        "{} secrets in {} forms, {} logs of {octets} octets: {} leaks",
        secrets.len(),
        search.forms().len(),
        logs.len(),
        found.len(),
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
    if std::env::var_os(WHOLE_SUITE).is_some() {
        for part in WHOLE {
            let heard = logs.iter().any(|path| path.to_string_lossy().contains(part));
            assert!(heard, "nothing was heard of {part}");
        }
        assert!(secrets.len() >= WHOLE_SECRETS && octets >= WHOLE_OCTETS);
    }
    fs::remove_dir_all(place).unwrap();
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
