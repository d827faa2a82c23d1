//! One file over one link that loses packets: `lab span`.
//!
//! ```text
//! namespace                        namespace
//!   carousel send ─► veth ════════► nft: N % dropped, the others counted ─► receiver listen
//! ```
//!
//! It measures the need of a listener: symbols received up to the last one that it stored, in units
//! of all source symbols; memory; and what a kill in the middle costs. Unsigned files alone are
//! sent, so nothing here has to do with campaigns or devices.

mod namespaces;

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use proto::crypto::Digest;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::Value;

pub use self::namespaces::Unavailable;
use self::namespaces::{HERE, Link, THERE};
use crate::lab::{
    folder::Folder,
    image,
    options::{BitRate, ByteSize, Percent},
    process::peak_rss_of,
};

/// Send a file between two network namespaces and measure its reception
#[derive(Debug, Clone, Parser)]
#[command(name = "lab span")]
pub struct Options {
    /// Size of the file
    #[arg(long, default_value = "8MiB")]
    pub size: ByteSize,
    /// Share of the packets that the receiving side drops
    #[arg(long, default_value = "20")]
    pub loss: Percent,
    /// Pace of the sender
    #[arg(long, default_value = "40M")]
    pub rate: BitRate,
    /// Largest source block in symbols
    #[arg(long, default_value_t = 8192)]
    pub max_block_symbols: u32,
    /// Memory of the sender for repair symbols, in MiB
    #[arg(long, default_value_t = 256)]
    pub memory: u32,
    /// Run once more: kill the listener by SIGKILL at half the file, start it again
    #[arg(long)]
    pub kill: bool,
    /// Seed of the file
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder for files and logs; not removed
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// Result of the measurement.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The file.
    pub bytes: u64,
    /// Share of the packets that was to be dropped, in percent.
    pub loss_percent: f64,
    /// Source symbols of the file.
    pub symbols_needed: u64,
    /// The run without a kill.
    pub whole: Run,
    /// The run with one.
    pub killed: Option<Run>,
    /// Cost of the kill, in percent of the packets of the run without.
    pub kill_costs_percent: Option<f64>,
}

/// One file received.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Set when the received file equals the sent one.
    pub digests_equal: bool,
    /// Data packets that reached the listener up to the last one that it needed.
    pub heard: u64,
    /// Share of the packets that the link dropped, in percent.
    pub dropped_percent: f64,
    /// Packets sent for those that were received, in units of all source symbols.
    pub sent_per_symbol_needed: f64,
    /// All packets sent until the listener ended, in the same unit: more by what went while it
    /// decoded the last blocks, read the file back, and was not there.
    pub sent_until_end: f64,
    /// The most memory that the listener held, in MiB.
    pub listener_peak_mib: f64,
    /// The most memory that the sender held, in MiB.
    pub sender_peak_mib: f64,
    /// Datagrams that a full socket buffer dropped.
    pub overruns: u64,
    /// From the first listener's start to the file.
    pub seconds: f64,
}

/// Runs the programs that `program role NAME` stands for.
///
/// # Errors
///
/// [`Unavailable`] when this machine has no namespaces to give; else what failed.
pub fn run(program: &Path, options: &Options) -> anyhow::Result<Report> {
    let link = Link::new(options.loss)?;
    let mut folder = Folder::new(options.dir.as_deref())?;
    let file = folder.path().join("file.bin");
    image::make(&file, options.size.0, options.seed)?;
    let digest = image::digest(&file)?;
    let bench = Bench { program, options, link: &link, folder: folder.path(), file, digest };
    let outcome = bench.measure();
    if outcome.is_err() {
        folder.keep();
        proto_cli::note!("files and logs: {}", folder.path().display());
    }
    outcome
}

struct Bench<'a> {
    program: &'a Path,
    options: &'a Options,
    link: &'a Link,
    folder: &'a Path,
    file: PathBuf,
    digest: Digest,
}

impl Bench<'_> {
    fn measure(&self) -> anyhow::Result<Report> {
        let (whole, symbols_needed) = self.receive("whole", None)?;
        let killed = match self.options.kill {
            true => Some(self.receive("killed", Some(symbols_needed / 2))?.0),
            false => None,
        };
        let kill_costs_percent = killed
            .as_ref()
            .map(|killed| rounded((ratio(killed.heard, whole.heard) - 1.0) * 100.0, 100.0));
        Ok(Report {
            bytes: self.options.size.0,
            loss_percent: self.options.loss.0,
            symbols_needed,
            whole,
            killed,
            kill_costs_percent,
        })
    }

    /// Receives the file; the listener is killed when about `kill_at` packets have reached it.
    fn receive(&self, name: &str, kill_at: Option<u64>) -> anyhow::Result<(Run, u64)> {
        let started = moment();
        let out = self.folder.join(format!("{name}-out"));
        let (dropped, passed) = self.link.counters()?;
        let mut listener = self.listen(name, &out)?;
        let mut sender = self.send(name)?;
        let mut listener_peak = 0;
        let mut before_kill = 0;
        if let Some(kill_at) = kill_at {
            while before_kill < kill_at {
                listener_peak = listener_peak.max(listener.peak()?);
                listener.check_running("the listener")?;
                pause();
                before_kill = self.link.counters()?.1 - passed;
            }
            listener.kill();
            before_kill = self.link.counters()?.1 - passed;
            listener = self.listen(name, &out)?;
        }
        let mut sender_peak = 0;
        while listener.is_running()? {
            // The last look before the end sees the most: the number never falls.
            listener_peak = listener_peak.max(listener.peak().unwrap_or(0));
            sender_peak = sender_peak.max(sender.peak().unwrap_or(0));
            sender.check_running("the sender")?;
            if started.elapsed() > self.patience() {
                bail!("the listener is not through: {}", listener.last_words());
            }
            pause();
        }
        let seconds = started.elapsed().as_secs_f64();
        let report = listener.report()?;
        let (all_dropped, all_passed) = self.link.counters()?;
        let overruns = self.link.overruns()?;
        sender.interrupt()?;
        let file = report.pointer("/files/0").context("the listener names no file")?;
        let number = |field: &str| file.get(field).and_then(Value::as_u64).context("a number");
        let symbols_needed = number("symbols_needed")?;
        let received = before_kill + number("symbols_received")?;
        let (dropped, passed) = (all_dropped - dropped, all_passed - passed);
        let kept = ratio(passed, passed + dropped);
        let run = Run {
            digests_equal: image::digest(&out.join("file.bin"))? == self.digest,
            heard: received,
            dropped_percent: rounded((1.0 - kept) * 100.0, 100.0),
            sent_per_symbol_needed: rounded(ratio(received, symbols_needed) / kept, 1e4),
            sent_until_end: rounded(ratio(passed + dropped, symbols_needed), 1e4),
            listener_peak_mib: rounded(mib(listener_peak), 10.0),
            sender_peak_mib: rounded(mib(sender_peak), 10.0),
            overruns,
            seconds: rounded(seconds, 10.0),
        };
        ensure!(run.digests_equal, "{name}: what was received is not what was sent");
        fs::remove_dir_all(&out)?;
        Ok((run, symbols_needed))
    }

    fn listen(&self, name: &str, out: &Path) -> anyhow::Result<Program> {
        let mut command = self.link.command(THERE, self.program);
        command.args(["role", "receiver", "listen", "--group", GROUP, "--port", PORT]);
        command.arg("--interface").arg(THERE.address().to_string());
        command.arg("--source").arg(HERE.address().to_string());
        command.arg("--max-block-symbols").arg(self.options.max_block_symbols.to_string());
        command.args(["--once", "--json", "--out"]).arg(out);
        let listener = Program::start(command, &self.folder.join(format!("{name}-listen")))?;
        // It joins the group before it makes its directory.
        let patience = moment() + SET_UP;
        while !out.join(".listen").exists() {
            ensure!(moment() < patience, "no listener: {}", listener.last_words());
            pause();
        }
        Ok(listener)
    }

    fn send(&self, name: &str) -> anyhow::Result<Program> {
        let mut command = self.link.command(HERE, self.program);
        command.args(["role", "carousel", "send"]).arg(&self.file);
        command.args(["--group", GROUP, "--port", PORT, "--json"]);
        command.arg("--interface").arg(HERE.address().to_string());
        command.arg("--rate").arg(self.options.rate.0.to_string());
        command.arg("--max-block-symbols").arg(self.options.max_block_symbols.to_string());
        command.arg("--memory").arg(self.options.memory.to_string());
        Program::start(command, &self.folder.join(format!("{name}-send")))
    }

    /// Returns how long the file may take: four times its length, the losses, and a start.
    fn patience(&self) -> Duration {
        let seconds = 8.0 * ratio(self.options.size.0, self.options.rate.0);
        Duration::from_secs_f64(4.0 * seconds / (1.0 - self.options.loss.0 / 100.0)) + SET_UP
    }
}

/// A program in one of the namespaces; ended when dropped.
struct Program {
    child: Child,
    said: PathBuf,
}

impl Program {
    fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let said = log.with_extension("out");
        let errors = File::create(log.with_extension("err"))?;
        command.stdin(Stdio::null()).stdout(File::create(&said)?).stderr(errors);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Self { child, said })
    }

    fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    fn check_running(&mut self, name: &str) -> anyhow::Result<()> {
        let running = self.is_running()?;
        ensure!(running, "{name} has ended: {}", self.last_words());
        Ok(())
    }

    fn peak(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        peak_rss_of(&status).context("the process is gone")
    }

    /// Ends it as a power cut would.
    fn kill(&mut self) {
        // An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    fn interrupt(&mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        self.child.wait()?;
        Ok(())
    }

    fn report(&mut self) -> anyhow::Result<Value> {
        let status = self.child.wait()?;
        ensure!(status.success(), "the listener ends with {status}: {}", self.last_words());
        Ok(serde_json::from_str(&fs::read_to_string(&self.said)?)?)
    }

    fn last_words(&self) -> String {
        let mut text = String::new();
        for log in [self.said.clone(), self.said.with_extension("err")] {
            if let Ok(mut file) = File::open(log) {
                drop(file.read_to_string(&mut text));
            }
        }
        text
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(clippy::disallowed_methods, reason = "processes are watched from outside")]
fn moment() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "other processes do not signal their progress")]
fn pause() {
    std::thread::sleep(POLL);
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / (whole as f64).max(1.0)
}

fn mib(octets: u64) -> f64 {
    ratio(octets, 1 << 20)
}

fn rounded(number: f64, scale: f64) -> f64 {
    (number * scale).round() / scale
}

const GROUP: &str = "239.255.77.1";
const PORT: &str = "40177";
const POLL: Duration = Duration::from_millis(20);
const SET_UP: Duration = Duration::from_secs(30);
