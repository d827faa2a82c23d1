//! Output of the program to pipes whose reader is gone, and to a full disk.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::{
    fs::OpenOptions,
    io,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Commands in an order in which each finds its files.
const COMMANDS: [&str; 10] = [
    "trust init --dir keys",
    "trust inspect keys/root.env",
    "key new --out spare.key",
    "key show spare.key",
    "key show spare.key --pem",
    "package --image image --version 1 --sequence 1 --root keys/root.env --key keys/release.key \
     --vendor 1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a --class 2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b --out p",
    "plan p",
    "campaign build p --source 127.0.0.1 --sequence 1 --root keys/root.env \
     --key keys/campaign.key --latest-stop +2h",
    "campaign inspect p/campaign.env --json",
    "--help",
];

#[test]
fn a_reader_that_is_gone_changes_neither_the_work_nor_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("image"), vec![7; 200_000]).unwrap();
    for line in COMMANDS {
        let output = run(folder.path(), line, closed_pipe(), Stdio::piped());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}: {said}");
        assert!(!said.contains("panicked") && !said.contains("pipe"), "{line}: {said}");
    }
    assert!(folder.path().join("p/campaign.env").exists());
}

#[test]
fn messages_that_nobody_reads_change_no_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("image"), vec![7; 200_000]).unwrap();
    for line in COMMANDS {
        let output = run(folder.path(), line, Stdio::null(), closed_pipe());
        assert_eq!(output.status.code(), Some(0), "{line}");
    }
    let missing = run(folder.path(), "campaign inspect missing", Stdio::null(), closed_pipe());
    assert_eq!(missing.status.code(), Some(6));
}

#[test]
fn a_result_that_a_full_disk_loses_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = run(folder.path(), "key new --out spare.key", full.into(), Stdio::piped());
    assert_eq!(output.status.code(), Some(75));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("carousel: standard output: No space left"), "{said}");
}

/// Returns the writing end of a pipe without a reader.
fn closed_pipe() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn run(folder: &Path, line: &str, stdout: Stdio, stderr: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_carousel"));
    command.args(line.split_whitespace()).current_dir(folder);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    command.spawn().unwrap().wait_with_output().unwrap()
}
