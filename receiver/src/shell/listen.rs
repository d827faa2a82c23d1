//! Reception of unsigned files into a directory.
//!
//! ```text
//! OUT/
//!   NAME           a complete file
//!   NAME~KEY.part  an incomplete file, one for each version of it
//!   .listen/       0700, the data directory (see crate::shell::data_dir): symbols and records
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
    time::{Mono, Now, Utc},
};
use serde::Serialize;
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::UnboundedReceiver,
    task::JoinHandle,
};

use super::{
    capture::{Capture, CaptureError},
    clock::Clock,
    data_dir::{DataDir, OpenError, make_directory},
    held::Held,
    multicast::{Channel, Channels, JoinError},
    storage::Storage,
};
use crate::{
    store::{
        StorageError,
        commands::{Completion, FileName, StorageCommand, VerifyOutcome},
    },
    unsigned::{
        Filter, FinishProblem, Found, Limits, Output, Standing, Undigested, UnsignedFile,
        UnsignedReceiver, UnsignedStats,
        oddities::Oddity,
        record::{Leftovers, Record},
    },
};

/// Options of a reception.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Source of the datagrams.
    pub source: PacketSource,
    /// Selection of sessions.
    pub filter: Filter,
    /// The output directory.
    pub out: PathBuf,
    /// Condition that ends the reception.
    pub stop_when: StopWhen,
    /// Time after which it ends regardless.
    pub timeout: Option<Duration>,
    /// Limits on what an unauthenticated network may cost; that of the disk is the next field.
    pub limits: Limits,
    /// Octets on disk of the files of this run; `None` is three quarters of what is free.
    pub disk_bytes: Option<u64>,
    /// Treatment of files of an earlier run whose FDT gave no digest.
    pub undigested: Undigested,
    /// Output of progress.
    pub progress: ProgressOutput,
}

/// Source of datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PacketSource {
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
        /// The only group and port to accept; all when `None`.
        channel: Option<SocketAddr>,
    },
}

/// Condition that ends the reception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopWhen {
    /// Never.
    Endless,
    /// All that the sessions announce is complete.
    AllDescribed,
    /// This number of files is complete.
    Files(u64),
}

/// Output of progress on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressOutput {
    /// Lines for people.
    Lines,
    /// Nothing.
    Nothing,
}

/// Outcome of a reception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The stop condition is met.
    Complete,
    /// Every described file is complete or rejected, and at least one is rejected: its content does
    /// not match its description, or its description cannot be read.
    Refused,
    /// The time ran out; a further run resumes.
    Incomplete,
    /// SIGTERM.
    Stopped,
    /// SIGINT.
    Interrupted,
}

/// Result of a reception.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Outcome.
    pub outcome: Outcome,
    /// Always false.
    pub signed: bool,
    /// Complete files, those of earlier runs included.
    pub complete: u64,
    /// All described files.
    pub files: Vec<UnsignedFile>,
    /// Packets that still wait for an FDT or for FEC parameters.
    pub waiting: usize,
    /// Counters.
    pub stats: UnsignedStats,
    /// Reasons why something received was not used.
    pub oddities: Vec<Oddity>,
    /// Frames of the capture that hold no whole datagram, a line for each reason.
    pub skipped_frames: Vec<String>,
}

/// Error that prevents a reception.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The output directory is unusable.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// Its content cannot be read.
    #[error("cannot read the state of earlier runs")]
    Storage(#[from] StorageError),
    /// The capture cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The channel cannot be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The system denies a thread, a directory or a signal.
    #[error("cannot {attempted}")]
    System {
        /// The attempted operation.
        attempted: String,
        /// The cause.
        source: io::Error,
    },
}

/// Receives until the stop condition is met, the time runs out, or a signal arrives.
///
/// # Errors
///
/// [`ListenError`] when it cannot start.
pub fn run(options: &ListenOptions) -> Result<Report, ListenError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    runtime.block_on(listen(options))
}

/// The name of the data directory in the output directory.
const DATA: &str = ".listen";

/// Waiting packets of a capture above which the replay waits for the storage.
const REPLAY_WAITING: usize = 1024;

/// Time of a capture after which the storage finishes what came before.
const REPLAY_STEP: Duration = Duration::from_secs(1);

/// Time behind the end of a capture in which nothing comes: as much as decides on a file that was
/// described otherwise.
const REPLAY_SILENCE: Duration = Duration::from_secs(60);

/// Interval between progress lines.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

async fn listen(options: &ListenOptions) -> Result<Report, ListenError> {
    let terminate = signal(SignalKind::terminate()).map_err(system("listen for signals"))?;
    let interrupt = signal(SignalKind::interrupt()).map_err(system("listen for signals"))?;
    let mut source = match &options.source {
        PacketSource::Channel { channel, interface } => {
            let mut channels = Channels::new(*interface);
            channels.join(*channel)?;
            OpenSource::Channels(Box::new(channels))
        }
        PacketSource::Capture { file, channel } => {
            OpenSource::Capture(Capture::open(file)?, *channel)
        }
    };
    let opening = tokio::task::spawn_blocking({
        let options = options.clone();
        move || open(&options)
    });
    let mut held = Held::new(options.limits.waiting_bytes);
    let (directory, found, limits) = hold_during(opening, &mut source, &mut held).await?;
    let (storage, completions) =
        Storage::start(directory).map_err(system("start the storage thread"))?;
    let mut core = UnsignedReceiver::new(limits, options.filter, found);
    let (datagrams, dropped) = held.into_parts();
    for (now, source, datagram) in datagrams {
        core.handle_datagram(now, source, &datagram);
    }
    core.count_dropped(dropped);
    let now = Clock.now().mono;
    let mut shell = Shell {
        core,
        storage,
        options,
        complete: BTreeSet::new(),
        next_progress: now + PROGRESS_EVERY,
        ends: options.timeout.map(|timeout| now + timeout),
        skipped_frames: Vec::new(),
    };
    let outcome = match source {
        OpenSource::Channels(channels) => {
            shell.drive(*channels, completions, [terminate, interrupt]).await
        }
        OpenSource::Capture(capture, channel) => {
            shell.replay(capture, channel, completions).await?
        }
    };
    Ok(shell.stop(outcome))
}

/// An open [`PacketSource`].
enum OpenSource {
    Channels(Box<Channels>),
    Capture(Capture, Option<SocketAddr>),
}

/// Opens the output directory, with the state of earlier runs.
fn open(options: &ListenOptions) -> Result<(DataDir, Found, Limits), ListenError> {
    let shown = options.out.display();
    make_directory(&options.out).map_err(system(format!("make the directory {shown}")))?;
    let directory = DataDir::open(&options.out.join(DATA))?;
    let found = found(&directory, options)?;
    let disk_bytes = match options.disk_bytes {
        Some(octets) => octets,
        None => directory.free_bytes()? / 4 * 3,
    };
    Ok((directory, found, Limits { disk_bytes, ..options.limits }))
}

/// Holds what arrives while the output directory is being opened.
async fn hold_during<T>(
    mut opening: JoinHandle<Result<T, ListenError>>,
    source: &mut OpenSource,
    held: &mut Held,
) -> Result<T, ListenError> {
    loop {
        let OpenSource::Channels(channels) = source else {
            return opening.await.map_err(|error| system("open the store")(error.into()))?;
        };
        tokio::select! {
            opened = &mut opening => {
                return opened.map_err(|error| system("open the store")(error.into()))?;
            }
            batch = channels.receive() => match batch {
                Ok(batch) => {
                    let now = Clock.now();
                    for (source, datagram) in batch.datagrams() {
                        held.push(now, source.ip(), datagram);
                    }
                }
                Err(error) => tracing::warn!(%error, "failed to receive"),
            },
        }
    }
}

/// Reads the state of earlier runs, without damaged records; removes what no run goes on with.
fn found(directory: &DataDir, options: &ListenOptions) -> Result<Found, ListenError> {
    let records = directory.read_files()?;
    let records = records.values().filter_map(|octets| Record::parse(octets)).collect();
    let mut found = Found {
        records,
        files: directory.names_beside()?,
        stored: directory.object_names()?,
        undigested: options.undigested,
    };
    let left = found.take_leftovers();
    // Records last: a directory without one is removed by the next run, too.
    for name in &left.directories {
        directory.drop_named(name)?;
    }
    for name in &left.parts {
        directory.remove_beside(name)?;
    }
    for name in left.records.iter().filter_map(|name| FileName::new(name)) {
        directory.remove_file(&name)?;
    }
    announce(&left, options);
    Ok(found)
}

/// Shows what was removed of earlier runs.
fn announce(left: &Leftovers, options: &ListenOptions) {
    let Leftovers { undigested, former, .. } = *left;
    if former > 0 {
        tracing::info!(objects = former, "removed objects stored without their description");
    }
    if undigested > 0 {
        tracing::info!(objects = undigested, "removed incomplete files without a digest");
    }
    if options.progress == ProgressOutput::Nothing {
        return;
    }
    if former > 0 {
        proto_cli::note!(
            "removed {former} incomplete files of an earlier version: what they were is not stored"
        );
    }
    if undigested > 0 {
        proto_cli::note!(
            "removed {undigested} incomplete files whose FDT gave no digest; to go on with them, \
             use --resume-undigested"
        );
    }
}

struct Shell<'a> {
    core: UnsignedReceiver,
    storage: Storage,
    options: &'a ListenOptions,
    /// Complete files by sender, session, object and digest.
    complete: BTreeSet<(IpAddr, u64, String, Option<String>)>,
    next_progress: Mono,
    ends: Option<Mono>,
    skipped_frames: Vec<String>,
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
            if let Some(outcome) = self.outcome(Clock.now()) {
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
                return self.last_outcome(now);
            }
        }
    }

    /// Replays a capture, with its own times, as fast as the storage stores it.
    async fn replay(
        &mut self,
        mut capture: Capture,
        channel: Option<SocketAddr>,
        mut completions: UnboundedReceiver<Completion>,
    ) -> Result<Outcome, ListenError> {
        let begins = Clock.now().mono;
        let (mut first, mut settled_at) = (None, begins);
        let mut now = Now { mono: begins, utc: Utc(0) };
        while let Some(datagram) = capture.next_datagram()? {
            if channel.is_some_and(|channel| channel != datagram.destination) {
                continue;
            }
            // Pauses of the capture are pauses of the session; a clock that goes back is none.
            let passed = datagram.at.since(*first.get_or_insert(datagram.at));
            let mono = now.mono.max(begins + passed);
            if mono.since(settled_at) >= REPLAY_STEP {
                self.pass_time(&mut completions, now, mono).await;
                settled_at = mono;
            }
            now = Now { mono, utc: datagram.at };
            let source = datagram.source.ip();
            self.core.handle_datagram(now, source, datagram.payload);
            self.drain();
            // Later packets must not evict those that wait for the disk.
            while self.core.waiting() > REPLAY_WAITING && self.core.is_busy() {
                self.answer(&mut completions, now).await;
            }
            while let Ok(completion) = completions.try_recv() {
                self.handle_completion(now, completion);
                self.drain();
            }
        }
        self.skipped_frames = capture.skipped();
        self.pass_time(&mut completions, now, now.mono + REPLAY_SILENCE).await;
        Ok(self.last_outcome(now))
    }

    /// Lets the time of a capture pass from `now` until `until`: what came before is finished
    /// before, and each deadline is met at its own time.
    async fn pass_time(
        &mut self,
        completions: &mut UnboundedReceiver<Completion>,
        now: Now,
        until: Mono,
    ) {
        let mut at = now;
        self.settle(completions, at).await;
        while let Some(deadline) =
            self.core.deadline().filter(|deadline| *deadline > at.mono && *deadline <= until)
        {
            at = Now { mono: deadline, utc: now.utc + deadline.since(now.mono) };
            self.settle(completions, at).await;
        }
    }

    /// Waits until all that was received is stored, decoded and verified, at the time `now`.
    async fn settle(&mut self, completions: &mut UnboundedReceiver<Completion>, now: Now) {
        loop {
            self.core.handle_timeout(now);
            self.core.handle_shutdown();
            self.drain();
            if !self.core.is_busy() {
                return;
            }
            self.answer(completions, now).await;
        }
    }

    async fn answer(&mut self, completions: &mut UnboundedReceiver<Completion>, now: Now) {
        if let Some(completion) = completions.recv().await {
            self.handle_completion(now, completion);
        }
        self.drain();
    }

    /// Returns the outcome if the stop condition is met.
    fn outcome(&self, now: Now) -> Option<Outcome> {
        match self.options.stop_when {
            StopWhen::Endless => None,
            StopWhen::AllDescribed => self.settled(now),
            StopWhen::Files(count) => {
                let complete = u64::try_from(self.complete.len()).unwrap_or(u64::MAX);
                (complete >= count).then_some(Outcome::Complete)
            }
        }
    }

    /// Returns the outcome if no more packets can arrive.
    fn last_outcome(&self, now: Now) -> Outcome {
        let outcome = self.outcome(now);
        let settled = match (outcome, self.options.stop_when, &self.options.source) {
            (Some(outcome), _, _) => Some(outcome),
            // A replayed capture cannot complete more files.
            (None, StopWhen::Endless, PacketSource::Capture { .. }) => self.settled(now),
            (None, _, _) => self.settled(now).filter(|outcome| *outcome == Outcome::Refused),
        };
        settled.unwrap_or(Outcome::Incomplete)
    }

    /// Returns the outcome if nothing is announced that is not complete or rejected.
    fn settled(&self, now: Now) -> Option<Outcome> {
        match self.core.standing(now) {
            Standing::Open => None,
            Standing::Complete => Some(Outcome::Complete),
            Standing::Refused => Some(Outcome::Refused),
            Standing::Incomplete => Some(Outcome::Incomplete),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            let name = |name: &str| {
                FileName::new(name).expect("records are named by hex digits of object keys")
            };
            self.storage.send(match output {
                Output::Open(layout) => StorageCommand::Open(layout),
                Output::Reserve(key, files) => StorageCommand::Reserve(key, files),
                Output::DiscardObject(layout) => StorageCommand::Discard(layout),
                Output::Log(key, output) => StorageCommand::Log(key, output),
                Output::WriteRecord(of, octets) => StorageCommand::WriteFile(name(&of), octets),
                Output::RemoveRecord(of) => StorageCommand::RemoveFile(name(&of)),
                Output::Decode(job) => StorageCommand::Decode(job),
                Output::VerifyFile(layout) => StorageCommand::VerifyImage(layout),
                Output::VerifyKept(layout, digest) => StorageCommand::VerifyKept(layout, digest),
                Output::RemoveObject(layout) => StorageCommand::Drop(layout),
                Output::Complete(file) => {
                    // A session that was evicted meanwhile describes its complete files again.
                    let of = (file.source, file.tsi, file.toi.clone(), file.sha256.clone());
                    if self.complete.insert(of) {
                        self.print_complete(&file);
                    }
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
                tracing::warn!(%error, "failed to reserve space for a file");
                core.handle_open_failed(now, key, &error);
            }
            Completion::Flushed(key, ticket) => core.handle_flushed(now, key, ticket),
            Completion::LogFailed(key, ticket, error) => {
                tracing::error!(%error, "failed to store symbols");
                core.handle_log_failed(now, key, ticket);
            }
            Completion::FileDone(name) => core.handle_recorded(now, name.as_str()),
            Completion::FileFailed(name, error) => {
                tracing::error!(%error, "failed to write a record");
                core.handle_record_failed(now, name.as_str(), &error);
            }
            Completion::Decoded(key, sbn, outcome) => core.handle_decoded(now, key, sbn, &outcome),
            Completion::ImageVerified(key, outcome) => finished(core, now, key, outcome),
            Completion::Discarded(key, outcome) => {
                if let Err(error) = outcome {
                    tracing::warn!(%error, "failed to remove a file");
                }
                core.handle_discarded(now, key);
            }
            Completion::ObjectsRemoved(Err(error)) => {
                tracing::warn!(%error, "failed to remove files")
            }
            Completion::ObjectsRemoved(Ok(()))
            | Completion::ImageWritten(..)
            | Completion::JournalWritten(_)
            | Completion::JournalFailed(..)
            | Completion::OptionalFileWritten(_) => {}
        }
    }

    fn print_complete(&self, file: &UnsignedFile) {
        if self.options.progress == ProgressOutput::Lines {
            let UnsignedFile { name, length, source, tsi, .. } = file;
            let digest = file.sha256.as_deref().map_or(String::new(), |sha| format!(", {sha}"));
            proto_cli::note!("complete: {name}, {length} octets, from {source} TSI {tsi}{digest}");
        }
    }

    fn show_progress(&mut self, now: Mono) {
        if self.options.progress == ProgressOutput::Nothing || now < self.next_progress {
            return;
        }
        self.next_progress = now + PROGRESS_EVERY;
        for file in self.core.files().filter(|file| file.state != "complete") {
            let UnsignedFile { name, state, symbols_held, symbols_needed, .. } = &file;
            let problem = file.problem.as_deref().map_or(String::new(), |why| format!(", {why}"));
            proto_cli::note!(
                "{state}: {name}, {symbols_held} of {symbols_needed} symbols{problem}"
            );
        }
    }

    /// Syncs the received symbols and waits for the storage.
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
            oddities: self.core.oddities().all(),
            skipped_frames: self.skipped_frames.clone(),
        };
        drop(self.storage.stop());
        report
    }
}

fn finished(core: &mut UnsignedReceiver, now: Now, key: Hash16, outcome: VerifyOutcome) {
    core.handle_finished(
        now,
        key,
        match outcome {
            VerifyOutcome::Ready { sha256 } => Ok(sha256),
            VerifyOutcome::WrongDigest { found } => {
                tracing::debug!(%found, "file does not match its FDT entry");
                Err(FinishProblem::WrongDigest)
            }
            VerifyOutcome::WrongContent { why } => {
                tracing::debug!(why, "file does not match its FDT entry");
                Err(FinishProblem::WrongContent(why))
            }
            VerifyOutcome::Failed(error) => Err(FinishProblem::Storage(error)),
        },
    );
}

fn system(attempted: impl Into<String>) -> impl FnOnce(io::Error) -> ListenError {
    let attempted = attempted.into();
    move |source| ListenError::System { attempted, source }
}
