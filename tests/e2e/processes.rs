//! The product's programs as processes of a test.

use std::process::{Child, Command, Output, Stdio};

use crate::lab_program;

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Returns the command that runs a program: its name, then its arguments.
pub(crate) fn role(words: &[&str]) -> Command {
    let mut command = Command::new(lab_program());
    command.arg("role").args(words).stdin(Stdio::null());
    command
}

/// Runs a command that has to succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ends with {}: {said}", output.status);
    output
}
