//! The storage threads: one that does everything in order, one that solves blocks beside it.
//!
//! Commands are served in the order in which they were sent, so what the core emits as "write, sync,
//! journal" happens as that. Reservations fill the time between them. Answers come back as
//! [`Completion`]s. How many octets of symbols wait is bounded by the cores
//! ([`crate::symbols::Limits::unsynced_octets`]), which drop symbols while the storage is behind.

use std::{
    collections::BTreeMap,
    io,
    sync::mpsc::{self, TryRecvError},
    thread::{self, JoinHandle},
};

use proto::{crypto::Hash16, ids::Sbn};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    directory::{DataDirectory, FileName},
    objects::{DecodeFiles, FinishOutcome, ObjectDirectory, Reserved},
};
use crate::{
    decode::{DecodeJob, DecodeOutcome},
    symbols::{JournalWrite, LogOutput, ObjectLayout, Recovered, StorageError, Ticket},
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
    /// Remove a small file.
    RemoveFile(FileName),
    /// Solve a source block.
    Decode(DecodeJob),
    /// Read the image back, compare, give it its name.
    Finish(ObjectLayout),
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
    /// An attempt to solve a block is over.
    Decoded(Hash16, Sbn, DecodeOutcome),
    /// The image was read back.
    Finished(Hash16, FinishOutcome),
    /// The objects that were not to be kept are gone, or not.
    Kept(Result<(), StorageError>),
}

/// The way to the storage threads.
#[derive(Debug)]
pub struct Storage {
    commands: mpsc::Sender<Command>,
    worker: JoinHandle<DataDirectory>,
}

impl Storage {
    /// Starts the threads. Completions come in the order of the commands, except those of
    /// [`Command::Decode`] and [`Command::Finish`].
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(directory: DataDirectory) -> io::Result<(Self, UnboundedReceiver<Completion>)> {
        let (commands, receiver) = mpsc::channel();
        let (jobs, waiting) = mpsc::channel();
        let (completions, answers) = unbounded_channel();
        let solver = Solver { objects: directory.objects(), completions: completions.clone() };
        thread::Builder::new().name("decode".into()).spawn(move || solver.run(&waiting))?;
        let worker = Worker {
            directory,
            objects: BTreeMap::new(),
            reserving: Vec::new(),
            missing: None,
            jobs,
            completions,
        };
        let worker =
            thread::Builder::new().name("storage".into()).spawn(move || worker.run(&receiver))?;
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
    pub fn stop(self) -> DataDirectory {
        drop(self.commands);
        self.worker.join().expect("the storage thread does not panic")
    }
}

struct Worker {
    directory: DataDirectory,
    objects: BTreeMap<Hash16, ObjectDirectory>,
    /// Objects whose logs are not all reserved, in the order in which they were opened.
    reserving: Vec<Hash16>,
    /// Why a small file was not written. The journal stands still from then on.
    missing: Option<StorageError>,
    jobs: mpsc::Sender<Job>,
    completions: UnboundedSender<Completion>,
}

impl Worker {
    fn run(mut self, commands: &mpsc::Receiver<Command>) -> DataDirectory {
        loop {
            let command = if self.reserving.is_empty() {
                commands.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                commands.try_recv()
            };
            match command {
                Ok(command) => self.handle(command),
                Err(TryRecvError::Empty) => self.reserve(),
                Err(TryRecvError::Disconnected) => return self.directory,
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Open(layout) => self.open(layout),
            Command::Log(key, output) => self.log(key, output),
            Command::Journal(write) => self.journal(&write),
            Command::WriteFile(name, octets) => {
                let outcome = self.directory.write_file(&name, &octets);
                self.missing = self.missing.take().or(outcome.clone().err());
                self.answer_file(name, outcome);
            }
            Command::RemoveFile(name) => {
                let outcome = self.directory.remove_file(&name);
                self.answer_file(name, outcome);
            }
            Command::Decode(job) => self.hand_on(Job::Decode(job)),
            Command::Finish(layout) => self.hand_on(Job::Finish(layout)),
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
    fn journal(&self, write: &JournalWrite) {
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
        let opened = ObjectDirectory::open(&self.directory.objects(), layout);
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
            LogOutput::Flush(ticket) => Some(match object.flush() {
                Ok(()) => Completion::Flushed(key, ticket),
                Err(error) => Completion::LogFailed(key, ticket, error),
            }),
        };
        answer.into_iter().for_each(|answer| self.answer(answer));
    }

    /// Does the next step of the oldest reservation.
    fn reserve(&mut self) {
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

    fn hand_on(&self, job: Job) {
        // The solver ends only when this sender is gone.
        self.jobs.send(job).expect("the decode thread runs");
    }

    fn answer_file(&self, name: FileName, outcome: Result<(), StorageError>) {
        self.answer(match outcome {
            Ok(()) => Completion::FileDone(name),
            Err(error) => Completion::FileFailed(name, error),
        });
    }

    fn answer(&self, completion: Completion) {
        answer(&self.completions, completion);
    }
}

enum Job {
    Decode(DecodeJob),
    Finish(ObjectLayout),
}

struct Solver {
    objects: std::path::PathBuf,
    completions: UnboundedSender<Completion>,
}

impl Solver {
    fn run(&self, jobs: &mpsc::Receiver<Job>) {
        for job in jobs {
            let completion = match job {
                Job::Decode(job) => {
                    let mut files = DecodeFiles::new(&self.objects, job.layout.clone());
                    Completion::Decoded(job.layout.object_key(), job.sbn, job.run(&mut files))
                }
                Job::Finish(layout) => {
                    let key = layout.object_key();
                    Completion::Finished(key, DecodeFiles::new(&self.objects, layout).finish())
                }
            };
            answer(&self.completions, completion);
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
