//! Receives plain files into a directory.
//!
//! ```text
//! OUT/
//!   NAME           a file that is whole
//!   NAME.part      one that is not
//!   .listen/       0700, the data directory (see crate::shell::directory): symbols and records
//! ```

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use proto::{
    crypto::Hash16,
    time::{Mono, Now},
};
use serde::Serialize;
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::UnboundedReceiver,
};

use super::{
    capture::{Capture, CaptureError},
    clock::Clock,
    directory::{DataDirectory, FileName, OpenError, make_directory},
    multicast::{Channel, Channels, JoinError},
    objects::FinishOutcome,
    storage::{Command, Completion, Storage},
};
use crate::{
    plain::{
        Filter, FinishProblem, Found, Limits, Output, PlainFile, PlainReceiver, PlainStats,
        record::Record,
    },
    symbols::StorageError,
};

/// What to receive, and until when.
#[derive(Debug, Clone)]
pub struct Order {
    /// Where datagrams come from.
    pub from: From,
    /// Which sessions are meant.
    pub filter: Filter,
    /// The output directory.
    pub out: PathBuf,
    /// When it is enough.
    pub goal: Goal,
    /// How long to wait for that.
    pub timeout: Option<Duration>,
    /// What is taken from a network that nobody vouches for.
    pub limits: Limits,
    /// Whether progress is shown.
    pub show: Show,
}

/// Where datagrams come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// A channel.
    Channel {
        /// Group, port and source.
        channel: Channel,
        /// Address of the interface that joins it.
        interface: Ipv4Addr,
    },
    /// A packet capture.
    Capture {
        /// The file.
        file: PathBuf,
        /// Group and port that are meant; all when there is none.
        channel: Option<SocketAddr>,
    },
}

/// When it is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Never.
    Endless,
    /// When all files are whole that were described.
    AllDescribed,
    /// When so many files are whole.
    Files(u64),
}

/// Whether progress is shown on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Lines for people.
    Lines,
    /// Nothing.
    Nothing,
}

/// How listening ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The goal is reached.
    Complete,
    /// Every file that was described is whole or given up, and one at least was given up: what was
    /// received of it is not what its description says.
    Refused,
    /// The time was up before; a further run goes on.
    Incomplete,
    /// SIGTERM.
    Stopped,
    /// SIGINT.
    Interrupted,
}

/// What was received.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Always false: nobody vouches for plain files.
    pub signed: bool,
    /// Files that became whole, or were so already.
    pub complete: u64,
    /// All files that were described.
    pub files: Vec<PlainFile>,
    /// Packets that still wait for what they need.
    pub waiting: usize,
    /// Counters.
    pub stats: PlainStats,
}

/// Why nothing can be received.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The output directory does not do.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// What it holds cannot be read.
    #[error("cannot read what earlier runs left")]
    Storage(#[from] StorageError),
    /// The capture cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The channel cannot be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The system refuses a thread, a directory or a signal.
    #[error("cannot {attempted}")]
    System {
        /// What was attempted.
        attempted: String,
        /// Why.
        source: io::Error,
    },
}

/// Receives until the goal is reached, the time is up, or a signal comes.
///
/// # Errors
///
/// [`ListenError`] when it cannot begin.
pub fn run(order: &Order) -> Result<Report, ListenError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    runtime.block_on(listen(order))
}

/// The name of the data directory in the output directory.
const DATA: &str = ".listen";

/// Packets of a capture that may wait before the storage is waited for.
const REPLAY_WAITING: usize = 1024;

/// How often progress is printed.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

async fn listen(order: &Order) -> Result<Report, ListenError> {
    let terminate = signal(SignalKind::terminate()).map_err(system("listen for signals"))?;
    let interrupt = signal(SignalKind::interrupt()).map_err(system("listen for signals"))?;
    let source = match &order.from {
        From::Channel { channel, interface } => {
            let mut channels = Channels::new(*interface);
            channels.join(*channel)?;
            Heard::Channels(Box::new(channels))
        }
        From::Capture { file, channel } => Heard::Capture(Capture::open(file)?, *channel),
    };
    let shown = order.out.display();
    make_directory(&order.out).map_err(system(format!("make the directory {shown}")))?;
    let directory = DataDirectory::open(&order.out.join(DATA))?;
    let found = found(&directory)?;
    let (storage, completions) =
        Storage::start(directory).map_err(system("start the storage thread"))?;
    let core = PlainReceiver::new(order.limits, order.filter, found);
    let now = Clock.now().mono;
    let mut shell = Shell {
        core,
        storage,
        order,
        complete: BTreeSet::new(),
        next_progress: now + PROGRESS_EVERY,
        ends: order.timeout.map(|timeout| now + timeout),
    };
    let outcome = match source {
        Heard::Channels(channels) => {
            shell.drive(*channels, completions, [terminate, interrupt]).await
        }
        Heard::Capture(capture, channel) => shell.replay(capture, channel, completions).await?,
    };
    Ok(shell.stop(outcome))
}

/// Where datagrams come from, opened.
enum Heard {
    Channels(Box<Channels>),
    Capture(Capture, Option<SocketAddr>),
}

/// Reads what earlier runs left; records that are damaged are as good as none.
fn found(directory: &DataDirectory) -> Result<Found, ListenError> {
    let records = directory.read_files()?;
    let records = records.values().filter_map(|octets| Record::parse(octets)).collect();
    Ok(Found { records, files: directory.names_beside()? })
}

struct Shell<'a> {
    core: PlainReceiver,
    storage: Storage,
    order: &'a Order,
    /// Files that are whole, by sender, session and object.
    complete: BTreeSet<(IpAddr, u64, String)>,
    next_progress: Mono,
    ends: Option<Mono>,
}

impl Shell<'_> {
    async fn drive(
        &mut self,
        mut channels: Channels,
        mut completions: UnboundedReceiver<Completion>,
        [mut terminate, mut interrupt]: [Signal; 2],
    ) -> Outcome {
        loop {
            self.drain();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            let deadline = [self.core.deadline(), self.ends, Some(self.next_progress)];
            let deadline = deadline.into_iter().flatten().min();
            tokio::select! {
                batch = channels.receive() => match batch {
                    Ok(batch) => {
                        let now = Clock.now();
                        for (source, datagram) in batch.datagrams() {
                            self.core.handle_datagram(now, source.ip(), datagram);
                        }
                    }
                    Err(error) => tracing::warn!(%error, "failed to receive"),
                },
                Some(completion) = completions.recv() => {
                    self.handle_completion(Clock.now(), completion);
                }
                () = Clock.sleep_until(deadline) => {}
                _ = terminate.recv() => return Outcome::Stopped,
                _ = interrupt.recv() => return Outcome::Interrupted,
            }
            let now = Clock.now();
            self.core.handle_timeout(now);
            self.show_progress(now.mono);
            if self.ends.is_some_and(|ends| ends <= now.mono) {
                return self.last_outcome();
            }
        }
    }

    /// Takes a capture in as fast as the storage takes it, with the times of its own.
    async fn replay(
        &mut self,
        mut capture: Capture,
        channel: Option<SocketAddr>,
        mut completions: UnboundedReceiver<Completion>,
    ) -> Result<Outcome, ListenError> {
        while let Some(datagram) = capture.next_datagram()? {
            if channel.is_some_and(|channel| channel != SocketAddr::V4(datagram.destination)) {
                continue;
            }
            let now = Now { mono: Clock.now().mono, utc: datagram.at };
            let source = IpAddr::V4(*datagram.source.ip());
            self.core.handle_datagram(now, source, datagram.payload);
            self.drain();
            // What waits for the disk must not be pushed out by what comes.
            while self.core.waiting() > REPLAY_WAITING && self.core.is_busy() {
                self.answer(&mut completions, now).await;
            }
            while let Ok(completion) = completions.try_recv() {
                self.handle_completion(now, completion);
                self.drain();
            }
        }
        let now = Clock.now();
        self.core.handle_shutdown();
        self.drain();
        while self.core.is_busy() {
            self.answer(&mut completions, now).await;
            self.core.handle_shutdown();
            self.drain();
        }
        Ok(self.last_outcome())
    }

    async fn answer(&mut self, completions: &mut UnboundedReceiver<Completion>, now: Now) {
        if let Some(completion) = completions.recv().await {
            self.handle_completion(now, completion);
        }
        self.drain();
    }

    /// Returns how it ends if it ends here because it is enough.
    fn outcome(&self) -> Option<Outcome> {
        match self.order.goal {
            Goal::Endless => None,
            Goal::AllDescribed => self.settled(),
            Goal::Files(count) => {
                let complete = u64::try_from(self.complete.len()).unwrap_or(u64::MAX);
                (complete >= count).then_some(Outcome::Complete)
            }
        }
    }

    /// Returns how it ends if nothing can come any more.
    fn last_outcome(&self) -> Outcome {
        let settled = match (self.outcome(), self.order.goal, &self.order.from) {
            (Some(outcome), _, _) => Some(outcome),
            // A capture that was taken in whole has reached what can be reached.
            (None, Goal::Endless, From::Capture { .. }) => self.settled(),
            (None, _, _) => self.settled().filter(|outcome| *outcome == Outcome::Refused),
        };
        settled.unwrap_or(Outcome::Incomplete)
    }

    fn settled(&self) -> Option<Outcome> {
        if self.core.is_all_complete() {
            Some(Outcome::Complete)
        } else {
            self.core.is_all_settled().then_some(Outcome::Refused)
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            let name = |name: &str| {
                FileName::new(name).expect("records are named by hex digits of object keys")
            };
            self.storage.send(match output {
                Output::Open(layout) => Command::Open(layout),
                Output::Log(key, output) => Command::Log(key, output),
                Output::Keep(of, octets) => Command::WriteFile(name(&of), octets),
                Output::Forget(of) => Command::RemoveFile(name(&of)),
                Output::Decode(job) => Command::Decode(job),
                Output::Finish(layout) => Command::Finish(layout),
                Output::Drop(layout) => Command::Drop(layout),
                Output::Complete(file) => {
                    self.tell(&file);
                    self.complete.insert((file.source, file.tsi, file.toi));
                    continue;
                }
            });
        }
    }

    fn handle_completion(&mut self, now: Now, completion: Completion) {
        let core = &mut self.core;
        match completion {
            Completion::Recovered(key, recovered) => core.handle_recovered(now, key, &recovered),
            Completion::Reserved(key, files) => core.handle_reserved(now, key, files),
            Completion::OpenFailed(key, error) => {
                tracing::error!(%error, "failed to make room for a file");
                core.handle_open_failed(key, &error);
            }
            Completion::Flushed(key, ticket) => core.handle_flushed(now, key, ticket),
            Completion::LogFailed(key, ticket, error) => {
                tracing::error!(%error, "failed to store symbols");
                core.handle_log_failed(now, key, ticket);
            }
            Completion::FileDone(name) => core.handle_recorded(now, name.as_str()),
            Completion::FileFailed(name, error) => {
                tracing::error!(%error, "failed to keep a record");
                core.handle_record_failed(name.as_str(), &error);
            }
            Completion::Decoded(key, sbn, outcome) => core.handle_decoded(key, sbn, &outcome),
            Completion::Finished(key, outcome) => finished(core, key, outcome),
            Completion::Kept(Err(error)) => tracing::warn!(%error, "failed to clear up"),
            Completion::Kept(Ok(()))
            | Completion::Stored(..)
            | Completion::JournalWritten(_)
            | Completion::JournalFailed(..)
            | Completion::FileKept(_) => {}
        }
    }

    fn tell(&self, file: &PlainFile) {
        if self.order.show == Show::Lines {
            let PlainFile { name, length, source, tsi, .. } = file;
            let digest = file.sha256.as_deref().map_or(String::new(), |sha| format!(", {sha}"));
            eprintln!("complete: {name}, {length} octets, from {source} TSI {tsi}{digest}");
        }
    }

    fn show_progress(&mut self, now: Mono) {
        if self.order.show == Show::Nothing || now < self.next_progress {
            return;
        }
        self.next_progress = now + PROGRESS_EVERY;
        for file in self.core.files().filter(|file| file.state != "complete") {
            let PlainFile { name, state, symbols_held, symbols_needed, .. } = &file;
            let problem = file.problem.as_deref().map_or(String::new(), |why| format!(", {why}"));
            eprintln!("{state}: {name}, {symbols_held} of {symbols_needed} symbols{problem}");
        }
    }

    /// Syncs what was received; waits for everything that was asked of the storage.
    fn stop(mut self, outcome: Outcome) -> Report {
        self.core.handle_shutdown();
        self.drain();
        let report = Report {
            outcome,
            signed: false,
            complete: u64::try_from(self.complete.len()).unwrap_or(u64::MAX),
            files: self.core.files().collect(),
            waiting: self.core.waiting(),
            stats: self.core.stats(),
        };
        drop(self.storage.stop());
        report
    }
}

fn finished(core: &mut PlainReceiver, key: Hash16, outcome: FinishOutcome) {
    core.handle_finished(
        key,
        match outcome {
            FinishOutcome::Ready { sha256 } => Ok(sha256),
            FinishOutcome::WrongDigest { found } => {
                tracing::debug!(%found, "a file is not what its FDT says");
                Err(FinishProblem::WrongDigest)
            }
            FinishOutcome::WrongContent { why } => {
                tracing::debug!(why, "a file is not what its FDT says");
                Err(FinishProblem::WrongContent(why))
            }
            FinishOutcome::Failed(error) => Err(FinishProblem::Storage(error)),
        },
    );
}

fn system(attempted: impl Into<String>) -> impl FnOnce(io::Error) -> ListenError {
    let attempted = attempted.into();
    move |source| ListenError::System { attempted, source }
}
