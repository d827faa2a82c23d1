//! Child processes that never outlive the lab.
//!
//! Two nets: dropping a [`Process`] kills it, and each role asks the kernel to be killed when the
//! lab dies, however it dies (see [`die_with_parent`]).

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use anyhow::Context as _;

use crate::lab::exit::CommandFailed;

/// A role of the lab's own program with its arguments, ready to be started.
#[derive(Debug, Clone)]
pub struct Role {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Role {
    /// Returns `lab role NAME`.
    ///
    /// # Errors
    ///
    /// When the path of the lab's own program is unknown.
    pub fn new(name: &str) -> io::Result<Self> {
        let program = match PROGRAM.get() {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        };
        Ok(Self { program, arguments: vec!["role".into(), name.into()] })
    }

    /// Returns a program of a file.
    #[must_use]
    pub fn of_program(program: &Path) -> Self {
        Self { program: program.to_owned(), arguments: Vec::new() }
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// The program and its arguments, as a device's configuration names its hook.
    pub fn words(&self) -> Vec<String> {
        std::iter::once(self.program.as_os_str())
            .chain(self.arguments.iter().map(OsString::as_os_str))
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    /// The command as a person would type it for the program itself.
    pub fn shown(&self) -> String {
        let words: Vec<_> = self.words().into_iter().skip(2).collect();
        words.join(" ")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // A group of its own: Ctrl-C reaches the lab alone, which then ends the others in order.
        command.args(&self.arguments).stdin(Stdio::null()).process_group(0);
        test_log::verbose(&mut command);
        command
    }

    /// Starts the role in the background; its output is appended to `log`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(&self, log: &Path) -> anyhow::Result<Process> {
        let out = OpenOptions::new().create(true).append(true).open(log);
        let out = out.with_context(|| log.display().to_string())?;
        let child = self.command().stdout(out.try_clone()?).stderr(out).spawn();
        let child = child.with_context(|| format!("start {}", self.shown()))?;
        Ok(Process { child, log: log.to_owned(), name: self.shown() })
    }

    /// Runs the role to its end and returns its standard output.
    ///
    /// # Errors
    ///
    /// [`CommandFailed`] when it ends with another code than 0.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the process.
    pub async fn run(&self, scratch: &Path) -> anyhow::Result<String> {
        let (out, err) = (scratch.join("stdout"), scratch.join("stderr"));
        let child = self.command().stdout(File::create(&out)?).stderr(File::create(&err)?).spawn();
        let child = child.with_context(|| format!("start {}", self.shown()))?;
        let mut process = Process { child, log: err.clone(), name: self.shown() };
        let code = process.wait().await?;
        let said = fs::read_to_string(&out)?;
        if code == Some(0) {
            return Ok(said);
        }
        let said = fs::read_to_string(&err)?;
        Err(CommandFailed { command: self.shown(), code, said }.into())
    }
}

/// Names the lab's program file, for a test: its own program is another one.
pub fn use_program(program: &Path) {
    // Tests of one process all name the same file.
    PROGRAM.get_or_init(|| program.to_owned());
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the most memory that it ever held, in octets; `None` once it is gone.
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        peak_rss_of(&status)
    }

    /// Returns its anonymous memory, in octets; `None` once it is gone.
    pub fn anonymous_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        kilobytes_of(&status, "RssAnon:")
    }

    /// Fails with the end of its log when it has ended.
    ///
    /// # Errors
    ///
    /// [`CommandFailed`].
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Err(CommandFailed { command: self.name.clone(), code, said: self.last_words() }.into())
    }

    /// Waits for its end; `None` when a signal ended it.
    ///
    /// # Errors
    ///
    /// When the system does not know.
    ///
    /// # Cancel safety
    ///
    /// The process continues.
    pub async fn wait(&mut self) -> io::Result<Option<u8>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                debug_assert!(status.code().is_some() || status.signal().is_some());
                return Ok(status.code().and_then(|code| u8::try_from(code).ok()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.log) {
            drop(file.read_to_string(&mut text));
        }
        let lines: Vec<_> = text.lines().rev().take(LAST_LINES).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks the kernel to kill this process when its parent ends.
///
/// # Errors
///
/// When the kernel refuses, or the parent is gone already.
pub fn die_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // The parent may have ended before the line above; then init, or a reaper, is the parent, and
    // nobody would end this process.
    let orphan = rustix::process::getppid().is_none_or(rustix::process::Pid::is_init);
    if orphan { Err(io::Error::other("the lab has ended")) } else { Ok(()) }
}

/// Reads the most memory that a process ever held, in octets, from its status.
///
/// # Source
///
/// proc(5), `VmHWM`.
pub fn peak_rss_of(status: &str) -> Option<u64> {
    kilobytes_of(status, "VmHWM:")
}

/// Reads a number of a process's status that is in kilobytes; returns octets.
fn kilobytes_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    kilobytes.checked_mul(1024)
}

/// Lines of a log that are shown when its process has failed.
const LAST_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_read_from_the_status_of_a_process() {
        assert_eq!(
            peak_rss_of("Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 1 kB\n"),
            Some(1234 * 1024)
        );
        assert_eq!(peak_rss_of("Name:\tx\n"), None);
    }
}
