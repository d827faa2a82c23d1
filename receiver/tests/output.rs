//! Output of the program to pipes whose reader is gone.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::{
    fs, io,
    path::Path,
    process::{Command, Output, Stdio},
};

use proto::pcap::emit_file_header;

/// Commands with their exit codes; an empty capture completes no file.
const COMMANDS: [(&str, i32); 7] = [
    ("listen --from-pcap empty.pcap --out in", 75),
    ("listen --from-pcap empty.pcap --out in --json", 75),
    ("dissect empty.pcap", 0),
    ("fsck in/.listen", 0),
    ("fsck --json in/.listen", 0),
    ("fsck missing", 6),
    ("--help", 0),
];

#[test]
fn a_reader_that_is_gone_changes_neither_the_work_nor_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.pcap"), emit_file_header()).unwrap();
    for (line, code) in COMMANDS {
        let output = run(folder.path(), line, closed_pipe(), Stdio::piped());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(!said.contains("panicked") && !said.contains("pipe"), "{line}: {said}");
    }
}

#[test]
fn messages_that_nobody_reads_change_no_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.pcap"), emit_file_header()).unwrap();
    for (line, code) in COMMANDS {
        let output = run(folder.path(), line, Stdio::null(), closed_pipe());
        assert_eq!(output.status.code(), Some(code), "{line}");
    }
}

/// Returns the writing end of a pipe without a reader.
fn closed_pipe() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn run(folder: &Path, line: &str, stdout: Stdio, stderr: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_receiver"));
    command.args(line.split_whitespace()).current_dir(folder);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    command.spawn().unwrap().wait_with_output().unwrap()
}
