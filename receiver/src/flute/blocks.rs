//! The blocks of one object on their way from symbols to the image: which to decode, and when.
//!
//! ```text
//! enough synced symbols -> being decoded -> synced in the image -> known to the journal: done
//! ```

use std::collections::BTreeMap;

use proto::ids::Sbn;

use crate::{
    flute::decode::{DecodeJob, DecodeOutcome},
    store::SymbolLog,
};

/// Symbols beyond K with which one decoding in 10^6 fails: with so many of every block reception
/// ends while the blocks are decoded.
const DECODE_OVERHEAD_SYMBOLS: u32 = 2;

/// The blocks of one object with the log of their symbols.
#[derive(Debug)]
pub struct Blocks {
    log: SymbolLog,
    /// The block that is being decoded: one at a time.
    decoding: Option<Sbn>,
    /// Synced symbols of a block at its last failed attempt: one more triggers the next.
    failed_with: BTreeMap<Sbn, u32>,
}

impl Blocks {
    /// Resumes with the symbols of `log`.
    #[must_use]
    pub const fn new(log: SymbolLog) -> Self {
        Self { log, decoding: None, failed_with: BTreeMap::new() }
    }

    /// Returns the next block to decode, if none is being decoded.
    pub fn next_decode(&mut self) -> Option<DecodeJob> {
        if self.decoding.is_some() {
            return None;
        }
        let sbn = self.all().find(|sbn| self.is_solvable(*sbn))?;
        self.decoding = Some(sbn);
        let slots = self.log.slots_of(sbn);
        Some(DecodeJob { layout: self.log.layout().clone(), sbn, slots })
    }

    /// Handles the outcome of an attempt. A done block is recorded by [`Self::handle_block_done`],
    /// once the journal contains it.
    pub fn handle_decoded(&mut self, sbn: Sbn, outcome: &DecodeOutcome) {
        match outcome {
            DecodeOutcome::Done => {}
            DecodeOutcome::NeedsMore | DecodeOutcome::Failed(_) => {
                self.decoding = None;
                self.failed_with.insert(sbn, self.log.synced(sbn));
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
        self.failed_with.remove(&sbn);
        self.log.block_done(sbn);
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
            let failed_at = self.failed_with.get(&sbn).copied().unwrap_or_default();
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

    fn all(&self) -> impl Iterator<Item = Sbn> + use<> {
        (0..self.log.blocks()).map(Sbn)
    }

    /// Returns how many synced symbols the next attempt needs.
    fn wanted(&self, sbn: Sbn) -> u32 {
        let after_failure = self.failed_with.get(&sbn).map_or(0, |symbols| symbols + 1);
        self.log.source_symbols(sbn).max(after_failure)
    }

    fn waits_for_sync(&self, sbn: Sbn) -> bool {
        let wanted = self.wanted(sbn);
        !self.log.is_done(sbn) && self.log.synced(sbn) < wanted && self.log.received(sbn) >= wanted
    }

    fn is_solvable(&self, sbn: Sbn) -> bool {
        !self.log.is_done(sbn) && self.log.synced(sbn) >= self.wanted(sbn)
    }
}
