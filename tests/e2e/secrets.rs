//! Secrets stay out of logs: the lab at log level `trace`, and a search of all
//! logs and output for every secret that was used. The test `secrets_in_logs` does the same for
//! all tests together.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fumocast_tests::secrets::{self, Search};

use crate::lab_program;

#[test]
fn no_secret_of_a_run_is_in_any_log() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let output = Command::new(lab_program())
        .envs([("RUST_LOG", "trace"), ("FUMOCAST_LOG", "trace"), ("RUST_BACKTRACE", "1")])
        .args(["--size", "512KiB", "--rate", "4M", "--devices", "2", "--unarmed", "1"])
        .args(["--loss", "5", "--kills", "1", "--forge", "1", "--seed", "5", "--json"])
        .args(["--bridge-down", "--dir"])
        .arg(&run)
        .output()
        .unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    let mut all = Vec::new();
    files(&run, &mut all);
    let secret_files = all.iter().filter(|(path, _)| {
        path.extension()
            .is_some_and(|end| ["key", "keys", "token", "toml"].iter().any(|it| end == *it))
    });
    let secrets = secret_files
        .flat_map(|(path, octets)| secrets::read(&path.display().to_string(), octets).unwrap());
    let secrets: Vec<_> = secrets.collect();
    assert!(secrets.len() >= 3 * 2 + 2 + 3 * 4, "only {} secrets were found", secrets.len());
    let mut logs = vec![(PathBuf::from("output of the lab"), said)];
    logs.extend(all.into_iter().filter(|(path, _)| path.starts_with(run.join("logs"))));
    let octets: usize = logs.iter().map(|(_, log)| log.len()).sum();
    assert!(octets > 20_000, "the logs hold only {octets} octets");
    let search = Search::new(&secrets).unwrap();
    for (path, log) in &logs {
        assert_eq!(search.find(log), None, "in {}", path.display());
    }
}

fn files(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() {
            // Not the sockets of devices.
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
}
