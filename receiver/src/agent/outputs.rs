//! The one ordered queue of effects, with the journal write as its gate.

use std::collections::VecDeque;

use super::{Books, Internal, Output};
use crate::{
    journal_state::TuneInRecord,
    symbols::{Journaler, StorageError},
};

/// Effects in the order in which they may happen.
#[derive(Debug)]
pub(super) struct Outputs {
    queue: VecDeque<Queued>,
    journaler: Journaler,
    /// The generation whose write is awaited: nothing behind it happens until it is synced.
    writing: Option<u64>,
    /// Whether the books differ from what the last queued write will say.
    changed: bool,
    stopped: bool,
}

#[derive(Debug)]
enum Queued {
    Output(Output),
    Internal(Internal),
    /// Write the journal, as the books are when this is reached.
    Commit,
}

/// What the queue has next.
pub(super) enum Polled {
    Output(Output),
    Internal(Internal),
    Nothing,
}

impl Outputs {
    pub(super) const fn new(journaler: Journaler) -> Self {
        Self { queue: VecDeque::new(), journaler, writing: None, changed: false, stopped: false }
    }

    /// Notes that the books have changed.
    pub(super) const fn mark_changed(&mut self) {
        self.changed = true;
    }

    /// Queues work that nobody outside the device can see.
    pub(super) fn work(&mut self, output: Output) {
        self.queue.push_back(Queued::Output(output));
    }

    /// Queues a file that the books name, or are about to. Each commit writes the books as they are
    /// when it is reached, so the file goes in front of all that are yet to come.
    pub(super) fn lay_down(&mut self, name: String, octets: Vec<u8>) {
        let commit = self.queue.iter().position(|queued| matches!(queued, Queued::Commit));
        let at = commit.unwrap_or(self.queue.len());
        self.queue.insert(at, Queued::Output(Output::WriteFile(name, octets)));
    }

    /// Queues an effect that others can see, behind the journal write that it follows from.
    pub(super) fn show(&mut self, output: Output) {
        self.settle();
        self.queue.push_back(Queued::Output(output));
    }

    /// Queues an effect on ourselves, behind the journal write that it follows from.
    pub(super) fn then(&mut self, internal: Internal) {
        self.settle();
        self.queue.push_back(Queued::Internal(internal));
    }

    /// Queues a journal write if the books have changed.
    pub(super) fn settle(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.queue.push_back(Queued::Commit);
        }
    }

    /// Returns what may happen next. A commit that is reached writes the books as they are: they
    /// can only be further than when it was queued, and what they say is true already.
    pub(super) fn poll(&mut self, books: &Books, tune_ins: &[TuneInRecord]) -> Polled {
        if self.writing.is_some() {
            return Polled::Nothing;
        }
        match self.queue.pop_front() {
            Some(Queued::Output(output)) => Polled::Output(output),
            Some(Queued::Internal(internal)) => Polled::Internal(internal),
            Some(Queued::Commit) => self.commit(books, tune_ins),
            None => Polled::Nothing,
        }
    }

    fn commit(&mut self, books: &Books, tune_ins: &[TuneInRecord]) -> Polled {
        match self.journaler.write(&books.to_journal(tune_ins)) {
            Ok(write) => {
                self.writing = Some(write.generation);
                Polled::Output(Output::Journal(write))
            }
            Err(error) => {
                let attempted = "write the journal".to_owned();
                self.fail(StorageError::Io { attempted, reason: error.to_string() });
                self.queue.pop_front().map_or(Polled::Nothing, |queued| match queued {
                    Queued::Output(output) => Polled::Output(output),
                    Queued::Internal(_) | Queued::Commit => Polled::Nothing,
                })
            }
        }
    }

    pub(super) fn handle_journal_written(&mut self, generation: u64) {
        if self.writing == Some(generation) {
            self.journaler.handle_written(generation);
            self.writing = None;
        }
    }

    /// Nothing that is queued may happen any more; the process is to end.
    pub(super) fn fail(&mut self, error: StorageError) {
        if !self.stopped {
            self.stopped = true;
            self.queue.clear();
            self.writing = None;
            self.queue.push_back(Queued::Output(Output::Stop(error)));
        }
    }
}
