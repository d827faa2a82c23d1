//! The one ordered queue of effects, with the journal write as its gate.

use std::collections::VecDeque;

use super::{DeferredEffect, Output, PersistentState};
use crate::{
    journal_state::TuneInRecord,
    symbols::{Journaler, StorageError},
};

/// Effects in the order in which they may happen.
#[derive(Debug)]
pub(super) struct EffectQueue {
    queue: VecDeque<QueuedEffect>,
    journaler: Journaler,
    /// The generation whose write is awaited: nothing behind it happens until it is synced.
    writing: Option<u64>,
    /// Whether the books differ from what the last queued write will say.
    dirty: bool,
    stopped: bool,
}

#[derive(Debug)]
enum QueuedEffect {
    Output(Output),
    DeferredEffect(DeferredEffect),
    /// Write the journal, as the books are when this is reached.
    Commit,
}

/// What the queue has next.
pub(super) enum NextEffect {
    Output(Output),
    DeferredEffect(DeferredEffect),
    Nothing,
}

impl EffectQueue {
    pub(super) const fn new(journaler: Journaler) -> Self {
        Self { queue: VecDeque::new(), journaler, writing: None, dirty: false, stopped: false }
    }

    /// Notes that the books have changed.
    pub(super) const fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// Queues work that nobody outside the device can see.
    pub(super) fn push(&mut self, output: Output) {
        self.queue.push_back(QueuedEffect::Output(output));
    }

    /// Queues a file that the books name, or are about to. Each commit writes the books as they are
    /// when it is reached, so the file goes in front of all that are yet to come.
    pub(super) fn write_before_commit(&mut self, name: String, octets: Vec<u8>) {
        let commit = self.queue.iter().position(|queued| matches!(queued, QueuedEffect::Commit));
        let at = commit.unwrap_or(self.queue.len());
        self.queue.insert(at, QueuedEffect::Output(Output::WriteFile(name, octets)));
    }

    /// Queues an effect that others can see, behind the journal write that it follows from.
    pub(super) fn push_after_commit(&mut self, output: Output) {
        self.commit_if_dirty();
        self.queue.push_back(QueuedEffect::Output(output));
    }

    /// Queues an effect on ourselves, behind the journal write that it follows from.
    pub(super) fn run_after_commit(&mut self, internal: DeferredEffect) {
        self.commit_if_dirty();
        self.queue.push_back(QueuedEffect::DeferredEffect(internal));
    }

    /// Queues a journal write if the books have changed.
    pub(super) fn commit_if_dirty(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.queue.push_back(QueuedEffect::Commit);
        }
    }

    /// Returns what may happen next. A commit that is reached writes the books as they are: they
    /// can only be further than when it was queued, and what they say is true already.
    pub(super) fn poll(
        &mut self,
        books: &PersistentState,
        tune_ins: &[TuneInRecord],
    ) -> NextEffect {
        if self.writing.is_some() {
            return NextEffect::Nothing;
        }
        match self.queue.pop_front() {
            Some(QueuedEffect::Output(output)) => NextEffect::Output(output),
            Some(QueuedEffect::DeferredEffect(internal)) => NextEffect::DeferredEffect(internal),
            Some(QueuedEffect::Commit) => self.commit(books, tune_ins),
            None => NextEffect::Nothing,
        }
    }

    fn commit(&mut self, books: &PersistentState, tune_ins: &[TuneInRecord]) -> NextEffect {
        match self.journaler.write(&books.to_journal(tune_ins)) {
            Ok(write) => {
                self.writing = Some(write.generation);
                NextEffect::Output(Output::Journal(write))
            }
            Err(error) => {
                let attempted = "write the journal".to_owned();
                self.fail(StorageError::Io { attempted, reason: error.to_string() });
                self.queue.pop_front().map_or(NextEffect::Nothing, |queued| match queued {
                    QueuedEffect::Output(output) => NextEffect::Output(output),
                    QueuedEffect::DeferredEffect(_) | QueuedEffect::Commit => NextEffect::Nothing,
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
            self.queue.push_back(QueuedEffect::Output(Output::Stop(error)));
        }
    }
}
