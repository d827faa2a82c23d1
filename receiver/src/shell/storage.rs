//! The storage threads: one that does everything in order, one that solves blocks beside it.
//!
//! Commands are served in the order in which they were sent, so what the core emits as "write, sync,
//! journal" happens as that. Reservations fill the time between them. Answers come back as
//! [`Completion`]s. How many octets of symbols wait is bounded by the cores
//! ([`crate::store::Limits::unsynced_bytes`]), which drop symbols while the storage is behind.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, TryRecvError},
    },
    thread::{self, JoinHandle},
};

use proto::{crypto::Hash16, ids::Sbn};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    data_dir::{DataDir, FileName},
    disk::SharedDisk,
    objects::{DecodeFiles, FinishOutcome, ObjectDirectory, Reserved},
};
use crate::{
    flute::decode::{DecodeJob, DecodeOutcome},
    store::{JournalWrite, LogOutput, ObjectLayout, Recovered, StorageError, Ticket},
};

/// What the storage is asked to do. Objects are named by their key.
#[derive(Debug)]
pub enum Command {
    /// Recover what the object's directory holds, then reserve what is missing: one
    /// [`Completion::Recovered`], then [`Completion::Reserved`] with each file until all are ready.
    Open(ObjectLayout),
    /// Write to or sync the logs of an object.
    Log(Hash16, LogOutput),
    /// Write and sync a copy of the journal.
    Journal(JournalWrite),
    /// Write a small file whole or not at all.
    WriteFile(FileName, Vec<u8>),
    /// The same with one that can be done without: one [`Completion::FileKept`], and nothing that
    /// follows is held up when it fails.
    KeepFile(FileName, Vec<u8>),
    /// Remove a small file.
    RemoveFile(FileName),
    /// Solve a source block.
    Decode(DecodeJob),
    /// Read the image back, compare, give it its name.
    Finish(ObjectLayout),
    /// Write and sync octets of an image at this place: one [`Completion::Stored`].
    Store(ObjectLayout, u64, Vec<u8>),
    /// Forget an object and remove its directory; a file that has its own name stays.
    Drop(ObjectLayout),
    /// Forget all objects but these, and remove their directories.
    KeepOnly(Vec<ObjectLayout>),
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// The object is open; this is what it holds.
    Recovered(Hash16, Recovered),
    /// The first so many of its logs are reserved.
    Reserved(Hash16, u32),
    /// It cannot be opened, or its room cannot be reserved.
    OpenFailed(Hash16, StorageError),
    /// The flush has returned.
    Flushed(Hash16, Ticket),
    /// The write or the flush failed.
    LogFailed(Hash16, Ticket, StorageError),
    /// The journal of this generation is synced.
    JournalWritten(u64),
    /// It is not; the copy before it is.
    JournalFailed(u64, StorageError),
    /// The small file is written, or removed.
    FileDone(FileName),
    /// It is not.
    FileFailed(FileName, StorageError),
    /// A small file that can be done without is written, or not.
    FileKept(Result<(), StorageError>),
    /// An attempt to solve a block is over.
    Decoded(Hash16, Sbn, DecodeOutcome),
    /// The image was read back.
    Finished(Hash16, FinishOutcome),
    /// Octets of the image are synced, or not.
    Stored(Hash16, Result<(), StorageError>),
    /// The objects that were not to be kept are gone, or not.
    Kept(Result<(), StorageError>),
}

/// The way to the storage threads.
#[derive(Debug)]
pub struct Storage {
    commands: mpsc::Sender<Command>,
    worker: JoinHandle<DataDir>,
}

impl Storage {
    /// Starts the threads. Completions come in the order of the commands, except those of
    /// [`Command::Decode`] and [`Command::VerifyImage`].
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(directory: DataDir) -> io::Result<(Self, UnboundedReceiver<Completion>)> {
        let (commands, receiver) = mpsc::channel();
        let (jobs, waiting) = mpsc::channel();
        let (completions, answers) = unbounded_channel();
        let (decoder, solved) = (DecodeWorker::new(&directory), completions.clone());
        let decode = move || waiting.iter().for_each(|job| answer(&solved, decoder.run(job)));
        thread::Builder::new().name("decode".into()).spawn(decode)?;
        let worker = Worker::new(directory);
        let serve = move || serve(worker, &receiver, &jobs, &completions);
        let worker = thread::Builder::new().name("storage".into()).spawn(serve)?;
        Ok((Self { commands, worker }, answers))
    }

    /// Hands a command over.
    pub fn send(&self, command: Command) {
        // The thread ends only when this sender is gone.
        self.commands.send(command).expect("the storage thread runs");
    }

    /// Waits until every command was served, and returns the directory. A block that is being solved
    /// is given up: its symbols stay in the logs.
    ///
    /// # Panics
    ///
    /// When the storage thread has panicked.
    #[must_use]
    pub fn stop(self) -> DataDir {
        drop(self.commands);
        self.worker.join().expect("the storage thread does not panic")
    }
}

/// The storage thread: serves commands, and reserves between them.
fn serve(
    mut worker: Worker,
    commands: &mpsc::Receiver<Command>,
    jobs: &mpsc::Sender<Job>,
    completions: &UnboundedSender<Completion>,
) -> DataDir {
    loop {
        let command = if worker.is_reserving() {
            commands.try_recv()
        } else {
            commands.recv().map_err(|_| TryRecvError::Disconnected)
        };
        match command {
            Ok(command) => worker.handle(command),
            Err(TryRecvError::Empty) => worker.reserve(),
            Err(TryRecvError::Disconnected) => return worker.directory,
        }
        while let Some(job) = worker.poll_job() {
            // The solver ends only when this sender is gone.
            jobs.send(job).expect("the decode thread runs");
        }
        while let Some(completion) = worker.poll_completion() {
            answer(completions, completion);
        }
    }
}

/// What the storage thread does, command by command.
///
/// After each [`Self::handle`] and [`Self::reserve`], the caller takes the jobs to a [`DecodeWorker`] and
/// the completions to the core. A thread does so in [`Storage`]; a simulation does it by hand.
#[derive(Debug)]
pub struct Worker {
    directory: DataDir,
    objects: BTreeMap<Hash16, ObjectDirectory>,
    /// Objects whose logs are not all reserved, in the order in which they were opened.
    reserving: Vec<Hash16>,
    /// Why a small file was not written. The journal stands still from then on.
    missing: Option<StorageError>,
    jobs: VecDeque<Job>,
    completions: VecDeque<Completion>,
}

impl Worker {
    /// Starts with no object open.
    #[must_use]
    pub const fn new(directory: DataDir) -> Self {
        Self {
            directory,
            objects: BTreeMap::new(),
            reserving: Vec::new(),
            missing: None,
            jobs: VecDeque::new(),
            completions: VecDeque::new(),
        }
    }

    /// Returns whether [`Self::reserve`] has something to do.
    #[must_use]
    pub const fn is_reserving(&self) -> bool {
        !self.reserving.is_empty()
    }

    /// Returns the next answer.
    pub fn poll_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    /// Returns the next job for a [`DecodeWorker`].
    pub fn poll_job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// Serves a command.
    pub fn handle(&mut self, command: Command) {
        match command {
            Command::Open(layout) => self.open(layout),
            Command::Log(key, output) => self.log(key, output),
            Command::Journal(write) => self.journal(&write),
            Command::WriteFile(name, octets) => {
                let outcome = self.directory.write_file(&name, &octets);
                self.missing = self.missing.take().or(outcome.clone().err());
                self.answer_file(name, outcome);
            }
            Command::KeepFile(name, octets) => {
                let outcome = self.directory.write_file(&name, &octets);
                self.answer(Completion::FileKept(outcome));
            }
            Command::RemoveFile(name) => {
                let outcome = self.directory.remove_file(&name);
                self.answer_file(name, outcome);
            }
            Command::Decode(job) => self.jobs.push_back(Job::Decode(job)),
            Command::Finish(layout) => self.jobs.push_back(Job::Finish(layout)),
            Command::Store(layout, offset, octets) => {
                let key = layout.object_key();
                let files =
                    DecodeFiles::new(self.directory.disk(), &self.directory.objects(), layout);
                self.answer(Completion::Stored(key, files.store(offset, &octets)));
            }
            Command::Drop(layout) => {
                let key = layout.object_key();
                self.objects.remove(&key);
                self.reserving.retain(|reserving| *reserving != key);
                self.answer(Completion::Kept(self.directory.drop_object(&layout)));
            }
            Command::KeepOnly(layouts) => {
                let keys: Vec<_> = layouts.iter().map(ObjectLayout::object_key).collect();
                self.objects.retain(|key, _| keys.contains(key));
                self.reserving.retain(|key| keys.contains(key));
                self.answer(Completion::Kept(self.directory.drop_objects_except(&layouts)));
            }
        }
    }

    /// Writes the journal, unless a file is missing that it may rely on.
    fn journal(&mut self, write: &JournalWrite) {
        let outcome = match &self.missing {
            None => self.directory.write_journal(write),
            Some(error) => Err(error.clone()),
        };
        self.answer(match outcome {
            Ok(()) => Completion::JournalWritten(write.generation),
            Err(error) => Completion::JournalFailed(write.generation, error),
        });
    }

    fn open(&mut self, layout: ObjectLayout) {
        let key = layout.object_key();
        let opened = self.directory.reserve_journal().and_then(|()| {
            ObjectDirectory::open(&self.directory.disk(), &self.directory.objects(), layout)
        });
        match opened.and_then(|mut object| Ok((object.recover()?, object))) {
            Ok((recovered, object)) => {
                self.objects.insert(key, object);
                self.reserving.retain(|reserving| *reserving != key);
                self.reserving.push(key);
                self.answer(Completion::Recovered(key, recovered));
            }
            Err(error) => self.answer(Completion::OpenFailed(key, error)),
        }
    }

    fn log(&mut self, key: Hash16, output: LogOutput) {
        let Some(object) = self.objects.get_mut(&key) else {
            // The object was dropped while its last writes were on their way.
            return;
        };
        let answer = match output {
            LogOutput::Write { ticket, file, offset, octets } => {
                let outcome = object.write(file, offset, &octets);
                outcome.err().map(|error| Completion::LogFailed(key, ticket, error))
            }
            LogOutput::Tables { offset, octets } => {
                object.write_tables(offset, &octets);
                None
            }
            LogOutput::Flush(ticket) => Some(match object.flush() {
                Ok(()) => Completion::Flushed(key, ticket),
                Err(error) => Completion::LogFailed(key, ticket, error),
            }),
        };
        answer.into_iter().for_each(|answer| self.answer(answer));
    }

    /// Does the next step of the oldest reservation.
    pub fn reserve(&mut self) {
        let Some(key) = self.reserving.first().copied() else { return };
        let step = self.objects.get_mut(&key).map(ObjectDirectory::reserve_step);
        match step {
            Some(Ok(Reserved::Partly)) => {}
            Some(Ok(Reserved::Files(files))) => self.answer(Completion::Reserved(key, files)),
            Some(Ok(Reserved::All)) | None => self.reserving.retain(|reserving| *reserving != key),
            Some(Err(error)) => {
                self.reserving.retain(|reserving| *reserving != key);
                self.answer(Completion::OpenFailed(key, error));
            }
        }
    }

    fn answer_file(&mut self, name: FileName, outcome: Result<(), StorageError>) {
        self.answer(match outcome {
            Ok(()) => Completion::FileDone(name),
            Err(error) => Completion::FileFailed(name, error),
        });
    }

    fn answer(&mut self, completion: Completion) {
        self.completions.push_back(completion);
    }
}

/// Work beside the storage thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Solve a source block.
    Decode(DecodeJob),
    /// Read the image back, compare, give it its name.
    Finish(ObjectLayout),
}

/// What the decode thread does, job by job.
#[derive(Debug, Clone)]
pub struct DecodeWorker {
    disk: SharedDisk,
    objects: PathBuf,
}

impl DecodeWorker {
    /// Works in the same directory as the [`Worker`] that hands out the jobs.
    #[must_use]
    pub fn new(directory: &DataDir) -> Self {
        Self { disk: directory.disk(), objects: directory.objects() }
    }

    /// Does a job.
    #[must_use]
    pub fn run(&self, job: Job) -> Completion {
        let files = |layout| DecodeFiles::new(Arc::clone(&self.disk), &self.objects, layout);
        match job {
            Job::Decode(job) => {
                let outcome = job.run(&mut files(job.layout.clone()));
                Completion::Decoded(job.layout.object_key(), job.sbn, outcome)
            }
            Job::Finish(layout) => {
                let key = layout.object_key();
                Completion::Finished(key, files(layout).finish())
            }
        }
    }
}

fn answer(completions: &UnboundedSender<Completion>, completion: Completion) {
    if completions.send(completion).is_err() {
        tracing::trace!("nobody waits for this completion: the receiver is stopping");
    }
}

#[cfg(test)]
mod tests;
