//! The ordered queue of effects, with the journal write as its gate.

use std::collections::VecDeque;

use super::{DeferredEffect, Output};
use crate::store::{Journaler, StorageError, journal_state::JournalState};

/// Effects in the order in which they may happen.
#[derive(Debug)]
pub(super) struct EffectQueue {
    queue: VecDeque<QueuedEffect>,
    journaler: Journaler,
    /// The generation whose write is awaited: the queue stops until it is synced.
    writing: Option<u64>,
    /// Set when the state differs from the last queued write.
    dirty: bool,
    stopped: bool,
}

#[derive(Debug)]
enum QueuedEffect {
    Output(Output),
    DeferredEffect(DeferredEffect),
    /// Write the journal with the state at the time when this is reached.
    Commit,
}

/// The next entry of the queue.
pub(super) enum NextEffect {
    Output(Output),
    DeferredEffect(DeferredEffect),
    Nothing,
}

impl EffectQueue {
    pub(super) const fn new(journaler: Journaler) -> Self {
        Self { queue: VecDeque::new(), journaler, writing: None, dirty: false, stopped: false }
    }

    /// Marks the state as changed.
    pub(super) const fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// Queues an effect that is invisible outside the device.
    pub(super) fn push(&mut self, output: Output) {
        self.queue.push_back(QueuedEffect::Output(output));
    }

    /// Queues a file that the state names, or will name. Each commit writes the state at the time
    /// when it is reached, so the file is queued before the first one.
    pub(super) fn write_before_commit(&mut self, name: String, octets: Vec<u8>) {
        let commit = self.queue.iter().position(|queued| matches!(queued, QueuedEffect::Commit));
        let at = commit.unwrap_or(self.queue.len());
        self.queue.insert(at, QueuedEffect::Output(Output::WriteFile(name, octets)));
    }

    /// Queues a visible effect behind the journal write that it follows from.
    pub(super) fn push_after_commit(&mut self, output: Output) {
        self.commit_if_dirty();
        self.queue.push_back(QueuedEffect::Output(output));
    }

    /// Queues an internal effect behind the journal write that it follows from.
    pub(super) fn run_after_commit(&mut self, internal: DeferredEffect) {
        self.commit_if_dirty();
        self.queue.push_back(QueuedEffect::DeferredEffect(internal));
    }

    /// Queues a journal write if the state has changed.
    pub(super) fn commit_if_dirty(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.queue.push_back(QueuedEffect::Commit);
        }
    }

    /// Returns the next entry. A commit that is reached writes the current state, which `state`
    /// returns: it can only be newer than when the commit was queued.
    pub(super) fn poll(&mut self, state: impl FnOnce() -> JournalState) -> NextEffect {
        if self.writing.is_some() {
            return NextEffect::Nothing;
        }
        match self.queue.pop_front() {
            Some(QueuedEffect::Output(output)) => NextEffect::Output(output),
            Some(QueuedEffect::DeferredEffect(internal)) => NextEffect::DeferredEffect(internal),
            Some(QueuedEffect::Commit) => self.commit(&state()),
            None => NextEffect::Nothing,
        }
    }

    fn commit(&mut self, state: &JournalState) -> NextEffect {
        match self.journaler.write(state) {
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

    /// Drops the queue and requests the end of the process.
    pub(super) fn fail(&mut self, error: StorageError) {
        if !self.stopped {
            self.stopped = true;
            self.queue.clear();
            self.writing = None;
            self.queue.push_back(QueuedEffect::Output(Output::Stop(error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_state_is_read_when_a_commit_is_reached_and_not_before() {
        let (journaler, _) = Journaler::recover::<JournalState>([b"", b""]).unwrap();
        let mut effects = EffectQueue::new(journaler);
        let reads = Cell::new(0);
        let poll = |effects: &mut EffectQueue| {
            let next = effects.poll(|| {
                reads.set(reads.get() + 1);
                JournalState::default()
            });
            (next, reads.get())
        };
        assert!(matches!(poll(&mut effects), (NextEffect::Nothing, 0)));
        effects.push(Output::ReadVersion);
        effects.mark_dirty();
        effects.push_after_commit(Output::RemoveOtherObjects(None));
        assert!(matches!(poll(&mut effects), (NextEffect::Output(Output::ReadVersion), 0)));
        let (written, 1) = poll(&mut effects) else { panic!("the commit reads the state once") };
        let NextEffect::Output(Output::Journal(write)) = written else { panic!("no journal") };
        assert!(matches!(poll(&mut effects), (NextEffect::Nothing, 1)), "it is not synced");
        effects.handle_journal_written(write.generation);
        assert!(matches!(
            poll(&mut effects),
            (NextEffect::Output(Output::RemoveOtherObjects(None)), 1)
        ));
    }
}
