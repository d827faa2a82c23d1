//! Programs of this package with a pipe whose reader is gone.

use std::{
    io,
    process::{Command, Stdio},
};

#[test]
fn a_reader_that_is_gone_changes_no_exit_code() {
    let programs = [
        (env!("CARGO_BIN_EXE_sim"), "--seed 1"),
        (env!("CARGO_BIN_EXE_lab"), "--help"),
        (env!("CARGO_BIN_EXE_lab"), "role receiver fsck missing"),
        (env!("CARGO_BIN_EXE_mutants-check"), "--list"),
    ];
    for (program, line) in programs {
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).stdin(Stdio::null());
        let expected = command.output().unwrap();
        let output = command.stdout(closed_pipe()).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), expected.status.code(), "{program} {line}: {said}");
        assert!(!said.contains("panicked"), "{program} {line}: {said}");
    }
}

/// Returns the writing end of a pipe without a reader.
fn closed_pipe() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}
