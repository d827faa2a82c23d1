//! The blocks of one object on their way from symbols to the image: which to decode, and when.
//!
//! ```text
//! enough synced symbols -> being decoded -> synced in the image -> known to the journal: done
//! ```
//!
//! An attempt may fail: K symbols do not always determine a block, and the storage may refuse it.
//! Symbols that arrive during the attempt were not part of it, so the next one counts from those
//! that were. A block that holds all symbols that it may gets no more: it is attempted again after
//! as many of its symbols were received as it has.

use std::collections::BTreeMap;

use proto::ids::Sbn;

use crate::{
    flute::decode::{DecodeJob, DecodeOutcome},
    store::SymbolLog,
};

/// Symbols beyond K with which one decoding in 10^6 fails: with so many of every block reception
/// ends while the blocks are decoded.
const DECODE_OVERHEAD_SYMBOLS: u32 = 2;

/// Symbols of a block that are received before it is attempted again without another one, at least:
/// small blocks would be attempted with every packet.
const MIN_UNNEEDED_SYMBOLS: u32 = 64;

/// The blocks of one object with the log of their symbols.
#[derive(Debug)]
pub struct Blocks {
    log: SymbolLog,
    /// The attempt in progress: one at a time.
    decoding: Option<Attempt>,
    /// Blocks whose last attempt failed.
    failed: BTreeMap<Sbn, FailedAttempt>,
}

/// An attempt to decode a block.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    sbn: Sbn,
    /// Symbols that the decoder is given.
    symbols: u32,
}

/// A failed attempt, and the symbols of the block that were received since.
#[derive(Debug, Clone, Copy)]
struct FailedAttempt {
    /// Symbols that the decoder was given: one more triggers the next attempt.
    symbols: u32,
    /// Symbols that arrived since and were not needed.
    unneeded: u32,
}

impl Blocks {
    /// Resumes with the symbols of `log`.
    #[must_use]
    pub const fn new(log: SymbolLog) -> Self {
        Self { log, decoding: None, failed: BTreeMap::new() }
    }

    /// Returns the next block to decode, if none is being decoded.
    pub fn next_decode(&mut self) -> Option<DecodeJob> {
        if self.decoding.is_some() {
            return None;
        }
        let sbn = self.all().find(|sbn| self.is_solvable(*sbn))?;
        let slots = self.log.slots_of(sbn);
        let symbols = u32::try_from(slots.len()).expect("a block has fewer than 2^24 symbols");
        self.decoding = Some(Attempt { sbn, symbols });
        Some(DecodeJob { layout: self.log.layout().clone(), sbn, slots })
    }

    /// Handles the outcome of an attempt. A done block is recorded by [`Self::handle_block_done`],
    /// once the journal contains it.
    pub fn handle_decoded(&mut self, sbn: Sbn, outcome: &DecodeOutcome) {
        match outcome {
            DecodeOutcome::Done => {}
            DecodeOutcome::NeedsMore | DecodeOutcome::Failed(_) => {
                let attempt = self.decoding.take().filter(|attempt| attempt.sbn == sbn);
                let symbols = attempt.map_or_else(|| self.log.synced(sbn), |it| it.symbols);
                self.failed.insert(sbn, FailedAttempt { symbols, unneeded: 0 });
            }
            DecodeOutcome::LostSlots(lost) => {
                self.decoding = None;
                lost.iter().for_each(|slot| self.log.slot_lost(sbn, *slot));
            }
        }
    }

    /// Marks a block as done: it is decoded, synced, and recorded in the journal.
    pub fn handle_block_done(&mut self, sbn: Sbn) {
        self.decoding = None;
        self.failed.remove(&sbn);
        self.log.block_done(sbn);
    }

    /// Counts a symbol of a block that was received and is not stored: it is held, or the block
    /// holds all that it may.
    pub fn handle_unneeded(&mut self, sbn: Sbn) {
        if let Some(failed) = self.failed.get_mut(&sbn) {
            failed.unneeded = failed.unneeded.saturating_add(1);
        }
    }

    /// Returns whether a block is due whose last attempt failed, and no attempt is in progress.
    #[must_use]
    pub fn is_due_again(&self) -> bool {
        self.decoding.is_none() && self.failed.keys().any(|sbn| self.is_solvable(*sbn))
    }

    /// Flushes the symbols of blocks that have enough of them, instead of waiting for the timer.
    pub fn flush_complete_blocks(&mut self) {
        if self.all().any(|sbn| self.waits_for_sync(sbn)) {
            self.log.flush();
        }
    }

    /// Flushes for one block, after one of its symbols was received.
    pub fn flush_if_complete(&mut self, sbn: Sbn) {
        if self.waits_for_sync(sbn) {
            self.log.flush();
        }
    }

    /// Returns whether enough symbols of every block are received.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        self.all().all(|sbn| {
            let symbols = self.log.source_symbols(sbn);
            let failed_at = self.failed.get(&sbn).map_or(0, |failed| failed.symbols);
            let enough = (symbols + DECODE_OVERHEAD_SYMBOLS).max(failed_at + 1);
            self.log.is_done(sbn) || self.log.received(sbn) >= enough
        })
    }

    /// Returns whether a block is being decoded, or waits for its journal record.
    #[must_use]
    pub const fn is_decoding(&self) -> bool {
        self.decoding.is_some()
    }

    /// Returns whether every block is decoded.
    #[must_use]
    pub fn is_assembled(&self) -> bool {
        self.log.is_complete()
    }

    /// Returns the symbol log.
    #[must_use]
    pub const fn log(&self) -> &SymbolLog {
        &self.log
    }

    /// Returns the symbol log, for completions of the storage.
    pub const fn log_mut(&mut self) -> &mut SymbolLog {
        &mut self.log
    }

    /// Describes the attempts and the symbols of each block that is not done, for a person.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("decoding {:?}, failed {:?}", self.decoding, self.failed);
        for sbn in self.all().filter(|sbn| !self.log.is_done(*sbn)) {
            let (symbols, received) = (self.log.source_symbols(sbn), self.log.received(sbn));
            let synced = self.log.synced(sbn);
            write!(text, "; block {}: {received} received, {synced} synced of {symbols}", sbn.0)
                .expect("a string takes all");
        }
        write!(text, "; {} free slots", self.log.free_slots()).expect("a string takes all");
        text
    }

    fn all(&self) -> impl Iterator<Item = Sbn> + use<> {
        (0..self.log.blocks()).map(Sbn)
    }

    /// Returns how many synced symbols the next attempt needs.
    fn wanted(&self, sbn: Sbn) -> u32 {
        let after_failure = self.failed.get(&sbn).map_or(0, |failed| failed.symbols + 1);
        self.log.source_symbols(sbn).max(after_failure)
    }

    fn waits_for_sync(&self, sbn: Sbn) -> bool {
        let wanted = self.wanted(sbn);
        !self.log.is_done(sbn) && self.log.synced(sbn) < wanted && self.log.received(sbn) >= wanted
    }

    fn is_solvable(&self, sbn: Sbn) -> bool {
        let (symbols, synced) = (self.log.source_symbols(sbn), self.log.synced(sbn));
        let is_retried = self
            .failed
            .get(&sbn)
            .is_some_and(|it| it.unneeded >= symbols.max(MIN_UNNEEDED_SYMBOLS));
        !self.log.is_done(sbn) && (synced >= self.wanted(sbn) || (is_retried && synced >= symbols))
    }
}
