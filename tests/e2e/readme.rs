//! The commands of the README, executed as they stand there.

use std::{path::Path, process::Command};

use tidy::{readme, workspace_dir};

use crate::lab_program;

/// Run by whoever reads this line in a test's output.
const THE_TESTS: &str = "cargo test --workspace";

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    let text = std::fs::read_to_string(workspace_dir().join("README.md")).unwrap();
    let commands = readme::commands(&text);
    assert!(commands.len() >= 2, "{commands:?}");
    let folder = tempfile::tempdir().unwrap();
    for command in commands.iter().filter(|command| *command != THE_TESTS) {
        run(command, folder.path());
    }
}

/// Runs a command line in a shell in which the programs' names are known.
fn run(command: &str, folder: &Path) {
    let lab = lab_program();
    let program = |name: &str| format!("{name}() {{ '{lab}' role {name} \"$@\"; }}\n");
    let mut script = String::from("set -eu\n");
    for name in ["carousel", "dm-bridge", "receiver"] {
        script.push_str(&program(name));
    }
    // Built already, and by another profile's flags; its arguments are those of the README.
    let shown = command.replace("cargo run --bin lab --", &format!("'{lab}'"));
    let shown = shown.replace("cargo run --bin lab", &format!("'{lab}'"));
    script.push_str(&shown);
    let mut shell = Command::new("bash");
    let output = test_log::run(shell.arg("-c").arg(&script).current_dir(folder));
    test_log::collect_folder(folder);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{command}` ends with {}: {said}", output.status);
}
