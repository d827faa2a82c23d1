//! Execution of the installer hook, with a time limit and bounded output.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use proto::wire::WireError;
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;

use crate::components::{Deployed, read_deployed};

/// Exit of the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookExit {
    /// Exit code 0.
    Done,
    /// Exit code 10: the installation needs a reboot.
    RebootNeeded,
    /// Any other exit code, or a signal (`None`).
    Failed(Option<i32>),
    /// Killed at the time limit, with its children.
    TimedOut,
}

/// Error of running the hook, or of its output.
#[derive(Debug, Error)]
pub enum HookError {
    /// There is no hook.
    #[error("no installer hook is configured")]
    Absent,
    /// It cannot be started.
    #[error("cannot run the installer hook {command}")]
    NotRun {
        /// The command.
        command: String,
        /// The cause.
        source: io::Error,
    },
    /// `version` failed.
    #[error("the installer hook gave no version: {0:?}")]
    NoVersion(HookExit),
    /// `components` failed.
    #[error("the installer hook listed no components: {0:?}")]
    NoList(HookExit),
    /// `components` printed a malformed list.
    #[error("the installer hook's list is none: {0}")]
    BadList(#[from] WireError),
}

/// The installer hook: the command and its leading arguments, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    command: Vec<String>,
}

impl Hook {
    /// Creates a hook from a command and its leading arguments.
    #[must_use]
    pub const fn new(command: Vec<String>) -> Self {
        Self { command }
    }

    /// Runs `install FILE`, or the same for a component, with `request` (JSON) on its standard
    /// input. Blocks until it has ended.
    ///
    /// # Errors
    ///
    /// [`HookError`] when it cannot be started.
    // spec: oma-000 8.2.4
    pub fn install(&self, verb: &str, file: &Path, request: &[u8]) -> Result<HookExit, HookError> {
        let arguments = [OsStr::new(verb), file.as_os_str()];
        self.run(&arguments, request, INSTALL_TIME).map(|(exit, _)| exit)
    }

    /// Runs a verb on a component, with `request` (JSON) on its standard input. Blocks until it has
    /// ended.
    ///
    /// # Errors
    ///
    /// [`HookError`] when it cannot be started.
    pub fn change(&self, verb: &str, id: &str, request: &[u8]) -> Result<HookExit, HookError> {
        let arguments = [OsStr::new(verb), OsStr::new(id)];
        self.run(&arguments, request, INSTALL_TIME).map(|(exit, _)| exit)
    }

    /// Runs `components`; returns its list.
    ///
    /// # Errors
    ///
    /// [`HookError`] when it cannot be started, fails, or prints a malformed list.
    pub fn components(&self) -> Result<Vec<Deployed>, HookError> {
        let (exit, output) = self.run(&[OsStr::new("components")], b"{}\n", VERSION_TIME)?;
        let is_whole = u64::try_from(output.len()).is_ok_and(|octets| octets < OUTPUT_BYTES);
        if exit != HookExit::Done || !is_whole {
            return Err(HookError::NoList(exit));
        }
        Ok(read_deployed(&String::from_utf8_lossy(&output))?)
    }

    /// Runs `version`; returns the first line that it prints, at most `longest` octets of it.
    ///
    /// # Errors
    ///
    /// [`HookError`] when it cannot be started, fails, or prints no text.
    pub fn version(&self, longest: usize) -> Result<String, HookError> {
        let (exit, output) = self.run(&[OsStr::new("version")], b"{}\n", VERSION_TIME)?;
        let text = String::from_utf8_lossy(&output);
        let line = text.lines().next().unwrap_or_default().trim();
        let end = line.floor_char_boundary(longest.min(line.len()));
        match (exit, line.get(..end).unwrap_or_default()) {
            (HookExit::Done, version) if !version.is_empty() => Ok(version.to_owned()),
            (exit, _) => Err(HookError::NoVersion(exit)),
        }
    }

    /// Runs the command with further arguments; returns its exit and its output.
    pub(super) fn run(
        &self,
        arguments: &[&OsStr],
        input: &[u8],
        limit: Duration,
    ) -> Result<(HookExit, Vec<u8>), HookError> {
        let (program, leading) = self.command.split_first().ok_or(HookError::Absent)?;
        let mut child = Command::new(program)
            .args(leading)
            .args(arguments)
            .env_clear()
            .envs(inherited(std::env::vars_os()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|source| HookError::NotRun { command: program.clone(), source })?;
        // The request fits into the pipe, so this does not block on a hook that does not read. A
        // hook may close its input.
        if let Some(mut stdin) = child.stdin.take()
            && let Err(error) = stdin.write_all(input)
        {
            tracing::debug!(%error, "hook input closed");
        }
        let output = collect(child.stdout.take());
        let exit = wait(child, limit);
        // A child of the hook may keep its output open.
        let text = output.recv_timeout(OUTPUT_TIME).unwrap_or_default();
        Ok((exit, text))
    }
}

/// Returns the variables of the environment that a hook inherits: where programs, the user and the
/// desktop are, and the language. Every field of the configuration may be a variable, and services
/// are given further secrets in this way, so that no other is inherited.
fn inherited(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    all.filter(|(name, _)| {
        name.to_str().is_some_and(|name| INHERITED.contains(&name) || name.starts_with("LC_"))
    })
}

/// Reads the output of the hook, up to a limit.
fn collect(stdout: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (done, output) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stdout) = stdout {
            let read = stdout.by_ref().take(OUTPUT_BYTES).read_to_end(&mut text);
            let drained = read.and_then(|_| io::copy(&mut stdout, &mut io::sink()));
            tracing::trace!(?drained, "hook output closed");
        }
        done.send(text).ok()
    });
    output
}

fn wait(mut child: Child, limit: Duration) -> HookExit {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait()).ok());
    match ended.recv_timeout(limit) {
        Ok(Ok(status)) => match status.code() {
            Some(0) => HookExit::Done,
            Some(10) => HookExit::RebootNeeded,
            code => HookExit::Failed(code),
        },
        Ok(Err(_)) => HookExit::Failed(None),
        Err(_) => {
            let killed = group.map(|group| kill_process_group(group, Signal::KILL));
            tracing::warn!(?killed, "hook killed at its time limit");
            HookExit::TimedOut
        }
    }
}

/// Variables of the environment that a hook inherits, besides `LC_*`.
const INHERITED: [&str; 14] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
];

const INSTALL_TIME: Duration = Duration::from_secs(1800);
const VERSION_TIME: Duration = Duration::from_secs(30);
const OUTPUT_TIME: Duration = Duration::from_secs(1);
const OUTPUT_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_mean_done_reboot_and_failed() {
        for (code, exit) in [
            (0, HookExit::Done),
            (10, HookExit::RebootNeeded),
            (1, HookExit::Failed(Some(1))),
            (255, HookExit::Failed(Some(255))),
        ] {
            let hook = shell(&format!("exit {code}"));
            assert_eq!(hook.install("install", Path::new("/image"), b"{}").unwrap(), exit);
        }
        let killed = shell("kill -9 $$").install("install", Path::new("/image"), b"{}").unwrap();
        assert_eq!(killed, HookExit::Failed(None));
    }

    // test: oma-000 8.2.4
    #[test]
    fn the_hook_gets_the_verb_the_file_and_the_request() {
        let home = tempfile::tempdir().unwrap();
        let seen = home.path().join("seen");
        let hook = shell(&format!("{{ echo \"$@\"; cat; }} > {}", seen.display()));
        let exit =
            hook.install("install", Path::new("/data/an image"), b"{\"contract\":1}").unwrap();
        assert_eq!(exit, HookExit::Done);
        let text = std::fs::read_to_string(seen).unwrap();
        assert_eq!(text, "install /data/an image\n{\"contract\":1}");
    }

    #[test]
    fn a_hook_inherits_no_variable_that_is_not_listed() {
        let all = ["PATH", "LC_TIME", "FUMOCAST_SERVER_PASSWORD", "AWS_SECRET", "path", "RUST_LOG"];
        let all = all.map(|name| (OsString::from(name), OsString::from("x")));
        let kept: Vec<_> = inherited(all.into_iter()).map(|(name, _)| name).collect();
        assert_eq!(kept, ["PATH", "LC_TIME"]);
        // Cargo sets many for its tests.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let hook = shell("test -n \"$PATH\" && env | grep -v -e ^PWD= -e ^SHLVL= -e ^_=");
        let (_, output) = hook.run(&[], b"", VERSION_TIME).unwrap();
        for line in String::from_utf8(output).unwrap().lines() {
            let name = line.split('=').next().unwrap();
            assert!(INHERITED.contains(&name) || name.starts_with("LC_"), "{line}");
        }
    }

    #[test]
    fn the_version_is_the_first_line_and_bounded() {
        assert_eq!(shell("echo ' 2.0 '; echo more").version(64).unwrap(), "2.0");
        assert_eq!(shell("echo 1.2.3äää").version(6).unwrap(), "1.2.3");
        let flood = shell("head -c 10000000 /dev/zero | tr '\\0' x");
        assert_eq!(flood.version(64).unwrap(), "x".repeat(64));
    }

    #[test]
    fn a_hook_without_a_version_is_an_error() {
        for script in ["exit 1", "echo", "true", "echo 2; exit 10"] {
            assert!(matches!(shell(script).version(64), Err(HookError::NoVersion(_))), "{script}");
        }
        assert!(matches!(Hook::new(vec![]).version(64), Err(HookError::Absent)));
        let absent = Hook::new(vec!["/nonexistent/hook".into()]).version(64).unwrap_err();
        assert_eq!(absent.to_string(), "cannot run the installer hook /nonexistent/hook");
    }

    // test: oma-dm 12.1 (hook verbs)
    #[test]
    fn the_hook_is_asked_to_change_a_component_and_lists_them() {
        let home = tempfile::tempdir().unwrap();
        let seen = home.path().join("seen");
        let hook = shell(&format!("echo \"$@\" >{0}; cat >>{0}", seen.display()));
        let exit = hook.change("component-remove", "player", b"{\"contract\":1}").unwrap();
        assert_eq!(exit, HookExit::Done);
        let text = std::fs::read_to_string(&seen).unwrap();
        assert_eq!(text, "component-remove player\n{\"contract\":1}");
        let line = r#"{"id":"player","version":"2","active":true}"#;
        let list = shell(&format!("test $1 = components && echo '{line}'"));
        assert_eq!(list.components().unwrap()[0].id.as_str(), "player");
        assert_eq!(shell("true").components().unwrap(), []);
        for wrong in ["exit 1", "echo x", "head -c 100000 /dev/zero | tr '\\0' '\\n'"] {
            assert!(shell(wrong).components().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hook_that_runs_too_long_is_killed_with_its_children() {
        let hook = shell("sleep 600 & sleep 600");
        let (exit, output) =
            hook.run(&[OsStr::new("install")], b"{}", Duration::from_millis(100)).unwrap();
        assert_eq!((exit, output), (HookExit::TimedOut, vec![]));
    }

    fn shell(script: &str) -> Hook {
        Hook::new(vec!["/bin/sh".into(), "-c".into(), script.into(), "hook".into()])
    }
}
