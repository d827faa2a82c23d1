//! The commands of the READMEs and of other pages, executed as they stand there: the shell blocks of
//! each, in order, as one script in a folder of its own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use tidy::{readme, workspace_dir};

use crate::lab_program;

/// Limit of the script of one page, in seconds.
const LIMIT: &str = "170";

/// Programs of this package that `cargo NAME` and `cargo run --bin NAME` start.
const PROGRAMS: [(&str, &str); 11] = [
    ("lab", env!("CARGO_BIN_EXE_lab")),
    ("sim", env!("CARGO_BIN_EXE_sim")),
    ("kill", env!("CARGO_BIN_EXE_kill")),
    ("flood", env!("CARGO_BIN_EXE_flood")),
    ("sessions", env!("CARGO_BIN_EXE_sessions")),
    ("siege", env!("CARGO_BIN_EXE_siege")),
    ("verifier", env!("CARGO_BIN_EXE_verifier")),
    ("bench-reports", env!("CARGO_BIN_EXE_bench-reports")),
    ("bench-tables", env!("CARGO_BIN_EXE_bench-tables")),
    ("bench-flash-writes", env!("CARGO_BIN_EXE_bench-flash-writes")),
    ("mutants-check", env!("CARGO_BIN_EXE_mutants-check")),
];

/// Commands of cargo that this suite itself is: its programs are built, its tests run.
const THIS_SUITE: &str = "build | test | nextest | tidy | conformance";

#[test]
fn every_command_of_the_front_page_does_what_it_says() {
    check("README.md");
}

#[test]
fn every_command_of_the_tests_readme_does_what_it_says() {
    check("tests/README.md");
}

#[test]
fn every_command_of_the_carousel_readme_does_what_it_says() {
    check("carousel/README.md");
}

#[test]
fn every_command_of_the_receiver_readme_does_what_it_says() {
    check("receiver/README.md");
}

#[test]
fn every_command_of_the_dm_bridge_readme_does_what_it_says() {
    check("dm-bridge/README.md");
}

#[test]
fn every_command_of_the_proto_readme_does_what_it_says() {
    check("proto/README.md");
}

#[test]
fn every_command_of_the_page_of_the_installer_hook_does_what_it_says() {
    check("receiver/docs/installer-hook.md");
}

#[test]
fn every_command_of_the_operations_page_does_what_it_says() {
    check("dm-bridge/docs/operations.md");
}

#[test]
fn a_command_that_fails_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = run("x=1\ntrue\ntest $x = 2\ntrue\n", folder.path()).unwrap_err();
    assert!(error.contains("failed: test $x = 2"), "{error}");
    let error = run("cargo bench-nothing\n", folder.path()).unwrap_err();
    assert!(error.contains("no command of this test: cargo bench-nothing"), "{error}");
    assert_eq!(
        run("cargo run --bin sim -- --seed 1 > out; grep -q seed out\n", folder.path()),
        Ok(())
    );
}

fn check(name: &str) {
    let path = workspace_dir().join(name);
    if !path.exists() {
        return;
    }
    let script = readme::script(&fs::read_to_string(path).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let outcome = run(&script, folder.path());
    test_log::collect_folder(folder.path());
    if let Err(error) = outcome {
        panic!("{name}: {error}");
    }
}

/// Runs a script in a shell in which the programs' names are known; returns its messages when it
/// fails.
fn run(script: &str, folder: &Path) -> Result<(), String> {
    let programs = tempfile::tempdir().unwrap();
    for name in ["carousel", "dm-bridge", "receiver"] {
        let text = format!("exec '{}' role {name} \"$@\"\n", lab_program());
        write_program(&programs.path().join(name), &text);
    }
    write_program(&programs.path().join("cargo"), &cargo());
    let path = std::env::var("PATH").unwrap();
    // Programs in the background end with the script.
    let head = "set -Eeuo pipefail\n\
        trap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n\
        trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n";
    let mut shell = Command::new("timeout");
    shell.args(["--kill-after=10", LIMIT, "bash", "-c", &format!("{head}{script}")]);
    shell.env("PATH", format!("{}:{path}", programs.path().display())).current_dir(folder);
    let output = test_log::run(&mut shell);
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Returns a stand-in for cargo: the programs are built already, and by another profile's flags.
fn cargo() -> String {
    let mut text = String::from(
        "if [ \"$1\" = run ]; then\n\
         shift\n\
         [ \"$1\" = --release ] && shift\n\
         [ \"$1\" = --bin ] && shift\n\
         name=$1; shift\n\
         [ \"${1-}\" = -- ] && shift\n\
         set -- \"$name\" \"$@\"\n\
         fi\n\
         case \"$1\" in\n",
    );
    text.push_str(&format!("{THIS_SUITE}) ;;\n"));
    for (name, program) in PROGRAMS {
        text.push_str(&format!("{name}) shift; exec '{program}' \"$@\" ;;\n"));
    }
    text.push_str("*) echo \"no command of this test: cargo $*\" >&2; exit 2 ;;\nesac\n");
    text
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
