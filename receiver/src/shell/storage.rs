//! The storage threads: one that serves all commands in order, one that decodes blocks.
//!
//! Commands are served in order, so a core can emit "write, sync, journal". Reservations fill the
//! time between them. Results are [`Completion`]s. The octets of waiting symbols are bounded by the
//! cores ([`crate::store::Limits::unsynced_bytes`]), which drop symbols while the storage is
//! behind.

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

use proto::crypto::{Digest, Hash16};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    data_dir::DataDir,
    disk::SharedDisk,
    objects::{DecodeFiles, ObjectDirectory, Reserved},
};
use crate::{
    flute::decode::DecodeJob,
    store::{
        JournalWrite, LogOutput, ObjectLayout, StorageError,
        commands::{Completion, FileName, StorageCommand},
    },
};

/// Handle of the storage threads.
#[derive(Debug)]
pub struct Storage {
    commands: mpsc::Sender<StorageCommand>,
    worker: JoinHandle<DataDir>,
}

impl Storage {
    /// Starts the threads. Completions have the order of the commands, except those of
    /// [`StorageCommand::Decode`] and [`StorageCommand::VerifyImage`].
    ///
    /// # Errors
    ///
    /// When the system denies a thread.
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

    /// Sends a command.
    pub fn send(&self, command: StorageCommand) {
        // The thread ends only when this sender is gone.
        self.commands.send(command).expect("the storage thread runs");
    }

    /// Waits for all commands, and returns the directory. An unfinished block is dropped: its
    /// symbols stay in the logs.
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
    commands: &mpsc::Receiver<StorageCommand>,
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
            // The decode thread ends only when this sender is gone.
            jobs.send(job).expect("the decode thread runs");
        }
        while let Some(completion) = worker.poll_completion() {
            answer(completions, completion);
        }
    }
}

/// State of the storage thread.
///
/// After each [`Self::handle`] and [`Self::reserve`], the caller passes the jobs to a
/// [`DecodeWorker`] and the completions to the core. A thread does so in [`Storage`]; a simulation
/// does it by hand.
#[derive(Debug)]
pub struct Worker {
    directory: DataDir,
    objects: BTreeMap<Hash16, ObjectDirectory>,
    /// Objects with unreserved logs, in the order of opening.
    reserving: Vec<Hash16>,
    /// Error of a small file. No journal is written after it.
    missing: Option<StorageError>,
    jobs: VecDeque<Job>,
    completions: VecDeque<Completion>,
}

impl Worker {
    /// Creates a worker without open objects.
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

    /// Returns whether there is a reservation for [`Self::reserve`].
    #[must_use]
    pub const fn is_reserving(&self) -> bool {
        !self.reserving.is_empty()
    }

    /// Returns the next completion.
    pub fn poll_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    /// Returns the next job for a [`DecodeWorker`].
    pub fn poll_job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// Serves a command.
    pub fn handle(&mut self, command: StorageCommand) {
        match command {
            StorageCommand::Open(layout) => self.open(layout),
            StorageCommand::Log(key, output) => self.log(key, output),
            StorageCommand::Journal(write) => self.journal(&write),
            StorageCommand::WriteFile(name, octets) => {
                let outcome = self.directory.write_file(&name, &octets);
                self.missing = self.missing.take().or(outcome.clone().err());
                self.answer_file(name, outcome);
            }
            StorageCommand::WriteOptionalFile(name, octets) => {
                let outcome = self.directory.write_file(&name, &octets);
                self.answer(Completion::OptionalFileWritten(outcome));
            }
            StorageCommand::RemoveFile(name) => {
                let outcome = self.directory.remove_file(&name);
                self.answer_file(name, outcome);
            }
            StorageCommand::Decode(job) => self.jobs.push_back(Job::Decode(job)),
            StorageCommand::VerifyImage(layout) => self.jobs.push_back(Job::VerifyImage(layout)),
            StorageCommand::VerifyKept(layout, digest) => {
                self.jobs.push_back(Job::VerifyKept(layout, digest));
            }
            StorageCommand::WriteImage(layout, offset, octets) => {
                let key = layout.object_key();
                let files =
                    DecodeFiles::new(self.directory.disk(), &self.directory.objects(), layout);
                self.answer(Completion::ImageWritten(key, files.store(offset, &octets)));
            }
            StorageCommand::Reserve(key, files) => {
                if let Some(object) = self.objects.get_mut(&key) {
                    object.reserve_up_to(files);
                    self.reserving.retain(|reserving| *reserving != key);
                    self.reserving.push(key);
                }
            }
            StorageCommand::Discard(layout) => {
                let key = layout.object_key();
                self.objects.remove(&key);
                self.reserving.retain(|reserving| *reserving != key);
                let dropped = self.directory.drop_object(&layout);
                let files =
                    DecodeFiles::new(self.directory.disk(), &self.directory.objects(), layout);
                self.answer(Completion::Discarded(key, dropped.and(files.remove_part())));
            }
            StorageCommand::Drop(layout) => {
                let key = layout.object_key();
                self.objects.remove(&key);
                self.reserving.retain(|reserving| *reserving != key);
                self.answer(Completion::ObjectsRemoved(self.directory.drop_object(&layout)));
            }
            StorageCommand::RemoveOtherObjects(layouts) => {
                let keys: Vec<_> = layouts.iter().map(ObjectLayout::object_key).collect();
                self.objects.retain(|key, _| keys.contains(key));
                self.reserving.retain(|key| keys.contains(key));
                self.answer(Completion::ObjectsRemoved(
                    self.directory.drop_objects_except(&layouts),
                ));
            }
        }
    }

    /// Writes the journal, unless a file that it may refer to is missing.
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
            // The object was dropped before its last writes.
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

    /// Performs the next step of the oldest reservation.
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

/// Job for the decode thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Decode a source block.
    Decode(DecodeJob),
    /// Verify the image and give it its name.
    VerifyImage(ObjectLayout),
    /// Read a complete unsigned file of an earlier run.
    VerifyKept(ObjectLayout, Digest),
}

/// Executor of jobs, in the decode thread.
#[derive(Debug, Clone)]
pub struct DecodeWorker {
    disk: SharedDisk,
    objects: PathBuf,
}

impl DecodeWorker {
    /// Creates an executor for the directory of a [`Worker`].
    #[must_use]
    pub fn new(directory: &DataDir) -> Self {
        Self { disk: directory.disk(), objects: directory.objects() }
    }

    /// Runs a job.
    #[must_use]
    pub fn run(&self, job: Job) -> Completion {
        let files = |layout| DecodeFiles::new(Arc::clone(&self.disk), &self.objects, layout);
        match job {
            Job::Decode(job) => {
                let outcome = job.run(&mut files(job.layout.clone()));
                Completion::Decoded(job.layout.object_key(), job.sbn, outcome)
            }
            Job::VerifyImage(layout) => {
                let key = layout.object_key();
                Completion::ImageVerified(key, files(layout).finish())
            }
            Job::VerifyKept(layout, digest) => {
                let key = layout.object_key();
                Completion::ImageVerified(key, files(layout).verify_kept(digest))
            }
        }
    }
}

fn answer(completions: &UnboundedSender<Completion>, completion: Completion) {
    if completions.send(completion).is_err() {
        tracing::trace!("completion dropped: the agent is stopping");
    }
}

#[cfg(test)]
mod tests;
