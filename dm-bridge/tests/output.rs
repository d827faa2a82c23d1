//! Output of the program to pipes whose reader is gone.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]
#![expect(
    clippy::disallowed_methods,
    reason = "a program is waited for, each time with a deadline"
)]

use std::{
    io,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const COMMANDS: [(&str, i32); 5] = [
    ("init --data b", 0),
    ("profile list", 0),
    ("device list --data b --json", 0),
    ("device show LAB-1 --data b", 6),
    ("--help", 0),
];

/// Runs a command; returns what it printed.
fn printed(folder: &Path, line: &str) -> String {
    let output = bridge(folder, line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_list_is_printed_as_a_whole_or_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    printed(folder.path(), "init --data b");
    assert_eq!(printed(folder.path(), "device list --data b --json"), "[]\n");
    for number in 1..=3 {
        let enrol = format!(
            "device enrol LAB-{number} --data b --url http://127.0.0.1:9/dm --vendor {} --class {}",
            "01".repeat(16),
            "02".repeat(16),
        );
        printed(folder.path(), &enrol);
    }
    let ids = |text: &str| {
        let parts = text.split("\"id\":\"").skip(1);
        parts.map(|part| part.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = printed(folder.path(), "device list --data b --json");
    assert!(all.starts_with("[{") && all.ends_with("}]\n"), "{all}");
    assert_eq!(ids(&all), ["LAB-1", "LAB-2", "LAB-3"]);
    let after = printed(folder.path(), "device list --data b --json --after LAB-2");
    assert_eq!(ids(&after), ["LAB-3"]);
    let page = printed(folder.path(), "device list --data b --json --limit 2");
    assert!(page.ends_with(",\"damaged\":[],\"next\":\"LAB-2\"}\n"), "{page}");
    assert_eq!(ids(&page), ["LAB-1", "LAB-2"]);
    let lines = printed(folder.path(), "device list --data b --limit 2");
    assert_eq!(lines.lines().count(), 3);
    assert!(lines.ends_with("more: --after LAB-2\n"), "{lines}");
    let audit = printed(folder.path(), "audit list --data b");
    assert_eq!(audit.lines().count(), 3);
    assert!(audit.contains("device.enrol LAB-2"), "{audit}");
}

#[test]
fn a_reader_that_is_gone_changes_neither_the_work_nor_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for (line, code) in COMMANDS {
        let command = &mut bridge(folder.path(), line);
        let child = command.stdout(closed_pipe()).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(!said.contains("panicked") && !said.contains("pipe"), "{line}: {said}");
    }
}

#[test]
fn a_server_whose_output_nobody_reads_serves_until_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    assert!(bridge(folder.path(), "init --data b").output().unwrap().status.success());
    // The address is needed before the server runs, since nobody reads its first line.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let command = &mut bridge(folder.path(), &format!("serve --data b --listen {free}"));
    command.env("FUMOCAST_LOG", "trace").stdout(closed_pipe()).stderr(closed_pipe());
    let mut server = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(free).is_err() {
        assert!(server.try_wait().unwrap().is_none(), "the server has ended");
        assert!(Instant::now() < deadline, "the server does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

/// Returns the writing end of a pipe without a reader.
fn closed_pipe() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn bridge(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dm-bridge"));
    command.args(line.split_whitespace()).current_dir(folder).stdin(Stdio::null());
    command
}
