//! The core of one object's symbol store: the held symbols, their writes and syncs.
//!
//! A symbol is *received* once it was accepted, and *synced* once the flush that covers it has
//! returned; only synced symbols are progress. Records of a failed write or flush are written again
//! elsewhere: file systems mark pages clean whose sync failed, so a second sync of them would
//! succeed and mean nothing. Their slots are added to the bad list in the journal, because a
//! process that starts again may read them from the page cache as if they were durable.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use proto::{
    crypto::Hash16,
    ids::{Esi, Sbn},
    time::Mono,
};

use super::{
    layout::{ObjectLayout, SlotAddress},
    recovery::Recovered,
    slots::SlotMap,
};

/// The limits of groups, flushes and unsynced data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets that one write carries at most.
    pub group_bytes: usize,
    /// Octets after which a flush follows.
    pub flush_bytes: usize,
    /// Time after which an unsynced symbol is flushed.
    pub flush_after: Duration,
    /// Octets that may wait for the storage; beyond them symbols are dropped.
    pub unsynced_bytes: usize,
    /// Storage failures in a row after which the log stores nothing more.
    pub failures: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            group_bytes: 256 << 10,
            flush_bytes: 1 << 20,
            flush_after: Duration::from_secs(1),
            unsynced_bytes: 8 << 20,
            failures: 8,
        }
    }
}

/// Names a write or a flush in its answer; unique within one [`SymbolLog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// An effect that the shell executes, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Write `octets` into log `file`; answered by [`SymbolLog::handle_failed`] if it fails.
    Write {
        /// Names the write.
        ticket: Ticket,
        /// Number of the log file.
        file: u32,
        /// Offset in the file.
        offset: u64,
        /// Whole slots.
        octets: Arc<Vec<u8>>,
    },
    /// Sync every log written so far; answered by [`SymbolLog::handle_flushed`] or
    /// [`SymbolLog::handle_failed`].
    Flush(Ticket),
    /// Write `octets` into the file of table symbols. There is no completion: it is synced with the
    /// next flush.
    Tables {
        /// Offset in the file.
        offset: u64,
        /// A whole slot, or the header.
        octets: Vec<u8>,
    },
}

/// The outcome for a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertOutcome {
    /// Stored; synced later.
    Stored,
    /// Held already.
    Duplicate,
    /// The block holds all that it may before it is decoded.
    BlockFull,
    /// The block is decoded already.
    BlockDone,
    /// The storage is behind or still being reserved; the symbol is dropped.
    Busy,
    /// No slot is left, or the storage failed too often.
    NoRoom,
    /// The object has no such symbol.
    Invalid,
}

/// The symbols of one object.
#[derive(Debug)]
pub struct SymbolLog {
    layout: ObjectLayout,
    limits: Limits,
    blocks: Vec<Block>,
    slots: SlotMap,
    group: Group,
    in_flight: VecDeque<InFlight>,
    outputs: VecDeque<LogOutput>,
    next_ticket: u64,
    /// Octets received since the last flush was requested.
    unflushed: usize,
    /// Octets received and not known to be synced.
    unsynced: usize,
    oldest_unflushed: Option<Mono>,
    failures: u32,
    /// Slots that failed, and free ones that share a page with them.
    bad: BTreeSet<u32>,
    /// Set once there was no slot left to rewrite a failed record.
    exhausted: bool,
}

/// Slots that follow one another, counted through all log files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRun {
    /// The first of them.
    pub first: u32,
    /// Their number.
    pub count: u32,
}

#[derive(Debug, Default)]
struct Block {
    source_symbols: u32,
    held: Bitmap,
    received: u32,
    /// Synced symbols in the order in which they were synced.
    synced: Vec<(Esi, u32)>,
    done: bool,
}

/// Numbers of the symbols that are held: pages of 512 bits, and only those with one set. Senders of
/// unsigned files choose their ESIs as they like, and the highest must not cost more than the
/// lowest.
#[derive(Debug, Default)]
struct Bitmap(BTreeMap<u32, [u64; 8]>);

/// Slots that follow one another in one file and are written together.
#[derive(Debug, Default)]
struct Group {
    octets: Vec<u8>,
    records: Vec<Record>,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    sbn: Sbn,
    esi: Esi,
    slot: u32,
}

#[derive(Debug)]
enum InFlight {
    Write(Ticket, Vec<Record>, Arc<Vec<u8>>),
    Flush(Ticket),
}

impl SymbolLog {
    /// Starts an empty log. It accepts symbols once [`Self::handle_reserved`] was called.
    #[must_use]
    pub fn new(layout: ObjectLayout, limits: Limits) -> Self {
        let blocks = (0..layout.blocks())
            .map(|sbn| Block {
                source_symbols: layout.block_symbols(Sbn(sbn)).unwrap_or_default(),
                ..Block::default()
            })
            .collect();
        Self {
            slots: SlotMap::new(layout.slots()),
            layout,
            limits,
            blocks,
            group: Group::default(),
            in_flight: VecDeque::new(),
            outputs: VecDeque::new(),
            next_ticket: 0,
            unflushed: 0,
            unsynced: 0,
            oldest_unflushed: None,
            failures: 0,
            bad: BTreeSet::new(),
            exhausted: false,
        }
    }

    /// Restores a log from the recovered slots; `done` are the decoded blocks in the journal, `bad`
    /// the slots to ignore.
    ///
    /// To decode a finished object again, recover it with fewer blocks done.
    #[must_use]
    pub fn recovered(
        layout: ObjectLayout,
        limits: Limits,
        recovered: &Recovered,
        done: &BTreeSet<Sbn>,
        bad: &[SlotRun],
    ) -> Self {
        let mut log = Self::new(layout, limits);
        let slots = log.layout.slots();
        let runs = bad.iter().map(|run| run.first..run.first.saturating_add(run.count).min(slots));
        log.bad = runs.flatten().collect();
        log.bad.iter().for_each(|slot| log.slots.mark(*slot));
        done.iter().for_each(|sbn| log.block_done(*sbn));
        for found in &recovered.slots {
            let number = log.layout.number(found.slot).filter(|slot| !log.bad.contains(slot));
            let Some(slot) = number else { continue };
            let Some(block) = log.blocks.get_mut(index(found.sbn.0)) else { continue };
            if !block.done && block.held.set(found.esi) {
                block.received += 1;
                block.synced.push((found.esi, slot));
                log.slots.mark(slot);
            }
        }
        log.handle_reserved(recovered.files_ready);
        log
    }

    /// Returns how many slots of the reserved logs are free.
    #[must_use]
    pub const fn free_slots(&self) -> u32 {
        self.slots.free()
    }

    /// Returns the layout of the object.
    #[must_use]
    pub const fn layout(&self) -> &ObjectLayout {
        &self.layout
    }

    /// Records that the first `files` log files are reserved.
    pub fn handle_reserved(&mut self, files: u32) {
        self.slots.set_usable(self.layout.slots_before(files));
    }

    /// Lets only the first `slots` slots be used.
    #[cfg(test)]
    pub(super) fn use_only(&mut self, slots: u32) {
        self.slots.set_usable(slots);
    }

    /// Stores a symbol whose tag was checked.
    pub fn insert(
        &mut self,
        now: Mono,
        sbn: Sbn,
        esi: Esi,
        tag: Hash16,
        symbol: &[u8],
    ) -> InsertOutcome {
        if let Some(refused) = self.refusal(sbn, esi, symbol) {
            return refused;
        }
        let Some(slot) = self.slots.take() else {
            return if self.slots.is_waiting() {
                InsertOutcome::Busy
            } else {
                InsertOutcome::NoRoom
            };
        };
        if let Some(block) = self.blocks.get_mut(index(sbn.0)) {
            block.held.set(esi);
            block.received += 1;
        }
        self.collect(now, Record { sbn, esi, slot }, |layout, out| {
            layout.emit_slot(out, sbn, esi, tag, symbol);
        });
        if self.unflushed >= self.limits.flush_bytes {
            self.flush();
        }
        InsertOutcome::Stored
    }

    /// Flushes symbols that have waited long enough. Late and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Mono) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.flush();
        }
    }

    /// Writes and syncs all received symbols: at suspend, at the end of a window, before exit.
    pub fn flush(&mut self) {
        self.close_group();
        if self.unflushed > 0 {
            let ticket = self.ticket();
            self.in_flight.push_back(InFlight::Flush(ticket));
            self.outputs.push_back(LogOutput::Flush(ticket));
            self.unflushed = 0;
            self.oldest_unflushed = None;
        }
    }

    /// Writes into the file of table symbols, before the next flush.
    pub fn store_tables(&mut self, offset: u64, octets: Vec<u8>) {
        self.outputs.push_back(LogOutput::Tables { offset, octets });
    }

    /// Handles the end of the flush `ticket`: the records before it survive.
    pub fn handle_flushed(&mut self, ticket: Ticket) {
        if !self.in_flight.iter().any(|entry| entry.is_flush(ticket)) {
            return;
        }
        while let Some(entry) = self.in_flight.pop_front() {
            match entry {
                InFlight::Write(_, records, _) => {
                    self.failures = 0;
                    records.into_iter().for_each(|record| self.mark_synced(record));
                }
                InFlight::Flush(this) if this == ticket => return,
                InFlight::Flush(_) => {}
            }
        }
    }

    /// Handles a failed write or flush: its records are written again elsewhere, or dropped where
    /// there is no room; its slots are marked as bad.
    ///
    /// Nothing is tried again on the same pages: a file system may have marked them clean.
    pub fn handle_failed(&mut self, now: Mono, ticket: Ticket) {
        let Some(position) = self.in_flight.iter().position(|entry| entry.is(ticket)) else {
            return;
        };
        self.failures += 1;
        let lost: Vec<_> = match self.in_flight.get(position) {
            Some(InFlight::Flush(_)) => self.in_flight.drain(..=position).collect(),
            Some(InFlight::Write(..)) | None => Vec::from_iter(self.in_flight.remove(position)),
        };
        let lost: Vec<_> = lost.into_iter().filter_map(InFlight::into_write).collect();
        // All of them before any is written again: no page serves twice.
        lost.iter().flat_map(|(records, _)| records).for_each(|record| self.mark_bad(record.slot));
        let gives_up = self.has_failed();
        for (records, octets) in lost {
            for (record, octets) in records.iter().zip(octets.chunks(self.layout.slot_size())) {
                self.unsynced -= self.layout.slot_size();
                self.rewrite(now, *record, Some(octets).filter(|_| !gives_up));
            }
        }
    }

    /// Handles a record that was read as damaged: its symbol is missing again.
    pub fn slot_lost(&mut self, sbn: Sbn, address: SlotAddress) {
        let Some(slot) = self.layout.number(address) else { return };
        let Some(block) = self.blocks.get_mut(index(sbn.0)) else { return };
        if let Some(position) = block.synced.iter().position(|(_, held)| *held == slot) {
            let (esi, _) = block.synced.swap_remove(position);
            block.held.clear(esi);
            block.received -= 1;
            self.slots.release(slot);
        }
    }

    /// Marks a block as synced in the image and recorded in the journal: its slots are free.
    pub fn block_done(&mut self, sbn: Sbn) {
        let Some(block) = self.blocks.get_mut(index(sbn.0)) else { return };
        block.done = true;
        block.held = Bitmap::default();
        for (_, slot) in std::mem::take(&mut block.synced) {
            self.slots.release(slot);
        }
    }

    /// Returns the next effect, `None` when there is none.
    pub fn poll_output(&mut self) -> Option<LogOutput> {
        self.outputs.pop_front()
    }

    /// Returns the time of the next [`Self::handle_timeout`].
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.oldest_unflushed.map(|oldest| oldest + self.limits.flush_after)
    }

    /// Returns whether the symbol is held, or its block is decoded and needs none.
    #[must_use]
    pub fn holds(&self, sbn: Sbn, esi: Esi) -> bool {
        self.blocks.get(index(sbn.0)).is_some_and(|block| block.done || block.held.get(esi))
    }

    /// Returns how many symbols of a block are held, synced or not; K when it is decoded.
    #[must_use]
    pub fn received(&self, sbn: Sbn) -> u32 {
        self.blocks
            .get(index(sbn.0))
            .map_or(0, |block| if block.done { block.source_symbols } else { block.received })
    }

    /// Returns how many symbols of a block are synced; K when it is decoded.
    #[must_use]
    pub fn synced(&self, sbn: Sbn) -> u32 {
        self.blocks.get(index(sbn.0)).map_or(0, Block::synced)
    }

    /// Returns how many symbols of the object are synced, at most K of each block: more of one
    /// block are no progress for another.
    #[must_use]
    pub fn synced_total(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.synced().min(block.source_symbols))).sum()
    }

    /// Returns how many slots hold synced symbols of blocks that are not decoded.
    #[must_use]
    pub fn slots_held(&self) -> u64 {
        self.blocks.iter().map(|block| block.synced.len() as u64).sum()
    }

    /// Returns the addresses of the synced symbols of a block, in the order of the files.
    #[must_use]
    pub fn slots_of(&self, sbn: Sbn) -> Vec<SlotAddress> {
        let synced = self.blocks.get(index(sbn.0)).map(|block| block.synced.as_slice());
        let mut slots: Vec<_> =
            synced.unwrap_or_default().iter().map(|(_, slot)| self.layout.address(*slot)).collect();
        slots.sort_unstable();
        slots
    }

    /// Returns the number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        u32::try_from(self.blocks.len()).expect("the layout counts blocks as u32")
    }

    /// Returns the number of source symbols of a block.
    #[must_use]
    pub fn source_symbols(&self, sbn: Sbn) -> u32 {
        self.blocks.get(index(sbn.0)).map_or(0, |block| block.source_symbols)
    }

    /// Returns whether a block is decoded.
    #[must_use]
    pub fn is_done(&self, sbn: Sbn) -> bool {
        self.blocks.get(index(sbn.0)).is_some_and(|block| block.done)
    }

    /// Returns whether all blocks are decoded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.blocks.iter().all(|block| block.done)
    }

    /// Returns whether all received symbols are synced or dropped.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.unsynced == 0
    }

    /// Returns whether the storage failed so often that nothing more is stored; synced symbols
    /// stay.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.exhausted
            || self.failures >= self.limits.failures
            || self.runs().count() > MAX_BAD_RUNS
    }

    /// Returns the slots that failed, for the journal: at most [`MAX_BAD_RUNS`] runs, the first
    /// ones when there are more.
    #[must_use]
    pub fn bad_runs(&self) -> Vec<SlotRun> {
        self.runs().take(MAX_BAD_RUNS).collect()
    }

    fn runs(&self) -> impl Iterator<Item = SlotRun> {
        let mut slots = self.bad.iter().copied().peekable();
        std::iter::from_fn(move || {
            let mut run = SlotRun { first: slots.next()?, count: 1 };
            while slots.next_if_eq(&(run.first + run.count)).is_some() {
                run.count += 1;
            }
            Some(run)
        })
    }

    fn refusal(&self, sbn: Sbn, esi: Esi, symbol: &[u8]) -> Option<InsertOutcome> {
        let Some(block) = self.blocks.get(index(sbn.0)) else {
            return Some(InsertOutcome::Invalid);
        };
        let is_sized = symbol.len() == self.layout.symbol_size();
        if !is_sized || !self.layout.has_esi(block.source_symbols, esi) {
            Some(InsertOutcome::Invalid)
        } else if block.done {
            Some(InsertOutcome::BlockDone)
        } else if block.held.get(esi) {
            Some(InsertOutcome::Duplicate)
        } else if block.received >= block.source_symbols + ObjectLayout::SPARE_PER_BLOCK {
            Some(InsertOutcome::BlockFull)
        } else if self.failures + u32::from(self.exhausted) > 0 && self.has_failed() {
            Some(InsertOutcome::NoRoom)
        } else if self.unsynced + self.layout.slot_size() > self.limits.unsynced_bytes {
            Some(InsertOutcome::Busy)
        } else {
            None
        }
    }

    /// Adds a record to those that are written together.
    fn collect(
        &mut self,
        now: Mono,
        record: Record,
        emit: impl FnOnce(&ObjectLayout, &mut Vec<u8>),
    ) {
        if !self.group.continues_at(record.slot, &self.layout) {
            self.close_group();
        }
        if self.group.octets.is_empty() {
            self.group.octets.reserve_exact(self.limits.group_bytes);
        }
        emit(&self.layout, &mut self.group.octets);
        self.group.records.push(record);
        self.oldest_unflushed.get_or_insert(now);
        self.unflushed += self.layout.slot_size();
        self.unsynced += self.layout.slot_size();
        if self.group.octets.len() + self.layout.slot_size() > self.limits.group_bytes {
            self.close_group();
        }
    }

    fn close_group(&mut self) {
        let Some(first) = self.group.records.first() else { return };
        let address = self.layout.address(first.slot);
        let (file, offset) = (address.file, self.layout.offset(address));
        let Group { mut octets, records } = std::mem::take(&mut self.group);
        octets.shrink_to_fit();
        let octets = Arc::new(octets);
        let ticket = self.ticket();
        self.in_flight.push_back(InFlight::Write(ticket, records, Arc::clone(&octets)));
        self.outputs.push_back(LogOutput::Write { ticket, file, offset, octets });
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// Marks a record as synced.
    fn mark_synced(&mut self, record: Record) {
        self.unsynced -= self.layout.slot_size();
        let Some(block) = self.blocks.get_mut(index(record.sbn.0)) else { return };
        if block.done {
            self.slots.release(record.slot);
        } else {
            block.synced.push((record.esi, record.slot));
        }
    }

    /// Writes a lost record to another slot while there is one.
    fn rewrite(&mut self, now: Mono, record: Record, octets: Option<&[u8]>) {
        let Some(block) = self.blocks.get_mut(index(record.sbn.0)).filter(|block| !block.done)
        else {
            return;
        };
        match octets.and_then(|octets| Some((self.slots.take()?, octets))) {
            Some((slot, octets)) => self.collect(now, Record { slot, ..record }, |_, out| {
                out.extend_from_slice(octets);
            }),
            None => {
                self.exhausted |= octets.is_some();
                block.held.clear(record.esi);
                block.received -= 1;
            }
        }
    }

    /// Marks a slot as bad, and free ones that share a page with it.
    fn mark_bad(&mut self, slot: u32) {
        self.bad.insert(slot);
        let layout = &self.layout;
        let pages = |slot: u32| {
            let start = layout.offset(layout.address(slot));
            start / PAGE_BYTES..=(start + layout.slot_size() as u64 - 1) / PAGE_BYTES
        };
        let (file, own) = (layout.address(slot).file, pages(slot));
        let shares = |other: &u32| {
            let pages = pages(*other);
            layout.address(*other).file == file
                && pages.start() <= own.end()
                && own.start() <= pages.end()
        };
        let after = (slot + 1..layout.slots()).take_while(shares);
        let before = (0..slot).rev().take_while(shares);
        let neighbours: Vec<_> = after.chain(before).collect();
        for neighbour in neighbours {
            if !self.slots.is_used(neighbour) {
                self.slots.mark(neighbour);
                self.bad.insert(neighbour);
            }
        }
    }
}

impl Block {
    fn synced(&self) -> u32 {
        if self.done {
            self.source_symbols
        } else {
            u32::try_from(self.synced.len()).expect("a block has fewer than 2^24 symbols")
        }
    }
}

impl Bitmap {
    fn get(&self, esi: Esi) -> bool {
        let (page, word, bit) = Self::place(esi);
        self.0.get(&page).and_then(|page| page.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// Sets a bit; returns whether it was clear.
    fn set(&mut self, esi: Esi) -> bool {
        let (page, word, bit) = Self::place(esi);
        let Some(word) = self.0.entry(page).or_default().get_mut(word) else { return false };
        let was_clear = *word & bit == 0;
        *word |= bit;
        was_clear
    }

    fn clear(&mut self, esi: Esi) {
        let (number, word, bit) = Self::place(esi);
        let Some(page) = self.0.get_mut(&number) else { return };
        page.get_mut(word).into_iter().for_each(|word| *word &= !bit);
        if page.iter().all(|word| *word == 0) {
            self.0.remove(&number);
        }
    }

    /// Returns the page, the word in it, and the bit in that.
    fn place(esi: Esi) -> (u32, usize, u64) {
        (esi.0 / 512, index(esi.0 / 64 % 8), 1 << (esi.0 % 64))
    }
}

impl Group {
    /// Returns whether `slot` follows the last one in the same file, or the group is empty.
    fn continues_at(&self, slot: u32, layout: &ObjectLayout) -> bool {
        self.records.last().is_none_or(|last| {
            last.slot + 1 == slot && layout.address(last.slot).file == layout.address(slot).file
        })
    }
}

impl InFlight {
    fn is(&self, wanted: Ticket) -> bool {
        match self {
            Self::Write(ticket, ..) | Self::Flush(ticket) => *ticket == wanted,
        }
    }

    fn into_write(self) -> Option<(Vec<Record>, Arc<Vec<u8>>)> {
        match self {
            Self::Write(_, records, octets) => Some((records, octets)),
            Self::Flush(_) => None,
        }
    }

    fn is_flush(&self, wanted: Ticket) -> bool {
        match self {
            Self::Flush(ticket) => *ticket == wanted,
            Self::Write(..) => false,
        }
    }
}

/// Runs of bad slots in the journal at most; with more the log stores nothing any longer.
pub const MAX_BAD_RUNS: usize = 64;

/// Returns the index of an id in a vector: any u32 is a usize on the supported machines.
fn index(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_symbol_number_costs_no_more_than_the_lowest() {
        let mut held = Bitmap::default();
        let highest = Esi((1 << 24) - 1);
        for esi in [Esi(0), Esi(511), highest] {
            assert!(!held.get(esi) && held.set(esi));
            assert!(held.get(esi) && !held.set(esi));
        }
        assert_eq!(held.0.len(), 2);
        held.clear(highest);
        assert!(!held.get(highest) && held.get(Esi(511)) && held.0.len() == 1);
        assert!(size_of::<Block>() <= 64, "what a block costs is in ObjectLayout::index_octets");
    }
}
