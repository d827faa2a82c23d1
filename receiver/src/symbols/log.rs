//! The core of one object's symbol store: which symbols are held, what to write, when to sync.
//!
//! A symbol is *received* once it was taken in, and *synced* once the flush that covers it has
//! returned; only synced symbols are progress. What a failed write or flush covered is forgotten,
//! and its slots are left alone.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
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

/// How much is collected before it is written and synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets that one write carries at most.
    pub group_octets: usize,
    /// Octets after which a flush follows.
    pub flush_octets: usize,
    /// Time after which an unsynced symbol is flushed.
    pub flush_after: Duration,
    /// Octets that may wait for the storage; beyond them symbols are dropped.
    pub unsynced_octets: usize,
    /// Storage failures in a row after which the log takes nothing more.
    pub failures: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            group_octets: 256 << 10,
            flush_octets: 1 << 20,
            flush_after: Duration::from_secs(1),
            unsynced_octets: 8 << 20,
            failures: 8,
        }
    }
}

/// Names a write or a flush in its answer; unique within one [`SymbolLog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the shell must do next, in this order.
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
        octets: Vec<u8>,
    },
    /// Sync every log written so far; answered by [`SymbolLog::handle_flushed`] or
    /// [`SymbolLog::handle_failed`].
    Flush(Ticket),
}

/// What became of a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insert {
    /// Taken in; synced later.
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
    /// Octets taken in since the last flush was asked for.
    unflushed: usize,
    /// Octets taken in and not known to be synced.
    unsynced: usize,
    oldest_unflushed: Option<Mono>,
    failures: u32,
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
/// plain files choose their ESIs as they like, and the highest must not cost more than the lowest.
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
    Write(Ticket, Vec<Record>),
    Flush(Ticket),
}

impl SymbolLog {
    /// Starts an empty log. It takes symbols in once [`Self::handle_reserved`] was called.
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
        }
    }

    /// Goes on from what survived; `done` are the blocks that the journal knows to be decoded.
    ///
    /// To decode a finished object again, recover it with fewer blocks done.
    #[must_use]
    pub fn recovered(
        layout: ObjectLayout,
        limits: Limits,
        recovered: &Recovered,
        done: &BTreeSet<Sbn>,
    ) -> Self {
        let mut log = Self::new(layout, limits);
        done.iter().for_each(|sbn| log.block_done(*sbn));
        for found in &recovered.slots {
            let Some(slot) = log.layout.number(found.slot) else { continue };
            let Some(block) = log.blocks.get_mut(index(found.sbn)) else { continue };
            if !block.done && block.held.set(found.esi) {
                block.received += 1;
                block.synced.push((found.esi, slot));
                log.slots.mark(slot);
            }
        }
        log.handle_reserved(recovered.files_ready);
        log
    }

    /// Returns the layout of the object.
    #[must_use]
    pub const fn layout(&self) -> &ObjectLayout {
        &self.layout
    }

    /// Learns that the first `files` log files are reserved.
    pub fn handle_reserved(&mut self, files: u32) {
        self.slots.set_usable(files.saturating_mul(self.layout.slots_per_file()));
    }

    /// Lets only the first `slots` slots be used.
    #[cfg(test)]
    pub(super) fn use_only(&mut self, slots: u32) {
        self.slots.set_usable(slots);
    }

    /// Takes in a symbol whose tag was checked.
    pub fn insert(&mut self, now: Mono, sbn: Sbn, esi: Esi, tag: Hash16, symbol: &[u8]) -> Insert {
        if let Some(refused) = self.refusal(sbn, esi, symbol) {
            return refused;
        }
        let Some(slot) = self.slots.take() else {
            return if self.slots.is_waiting() { Insert::Busy } else { Insert::NoRoom };
        };
        if !self.group.continues_at(slot, &self.layout) {
            self.close_group();
        }
        if self.group.octets.is_empty() {
            self.group.octets.reserve_exact(self.limits.group_octets);
        }
        self.layout.emit_slot(&mut self.group.octets, sbn, esi, tag, symbol);
        self.group.records.push(Record { sbn, esi, slot });
        if let Some(block) = self.blocks.get_mut(index(sbn)) {
            block.held.set(esi);
            block.received += 1;
        }
        self.oldest_unflushed.get_or_insert(now);
        self.unflushed += self.layout.slot_size();
        self.unsynced += self.layout.slot_size();
        if self.group.octets.len() + self.layout.slot_size() > self.limits.group_octets {
            self.close_group();
        }
        if self.unflushed >= self.limits.flush_octets {
            self.flush();
        }
        Insert::Stored
    }

    /// Flushes what has waited long enough. Late and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Mono) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.flush();
        }
    }

    /// Writes and syncs all that was taken in: at suspend, at the end of a window, before exit.
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

    /// Learns that the flush `ticket` has returned: what it covers survives.
    pub fn handle_flushed(&mut self, ticket: Ticket) {
        if !self.in_flight.iter().any(|entry| entry.is_flush(ticket)) {
            return;
        }
        self.failures = 0;
        while let Some(entry) = self.in_flight.pop_front() {
            match entry {
                InFlight::Write(_, records) => {
                    records.into_iter().for_each(|record| self.settle(record));
                }
                InFlight::Flush(this) if this == ticket => return,
                InFlight::Flush(_) => {}
            }
        }
    }

    /// Learns that a write or a flush failed: what it covers is forgotten, its slots are avoided.
    ///
    /// Nothing is tried again on the same pages: a file system may have marked them clean.
    pub fn handle_failed(&mut self, ticket: Ticket) {
        let Some(position) = self.in_flight.iter().position(|entry| entry.is(ticket)) else {
            return;
        };
        self.failures += 1;
        let lost = match self.in_flight.get(position) {
            Some(InFlight::Flush(_)) => self.in_flight.drain(..=position).collect(),
            Some(InFlight::Write(..)) | None => Vec::from_iter(self.in_flight.remove(position)),
        };
        for entry in lost {
            if let InFlight::Write(_, records) = entry {
                records.into_iter().for_each(|record| self.forget(record));
            }
        }
    }

    /// Learns that a record turned out damaged when it was read: its symbol is missing again.
    pub fn slot_lost(&mut self, sbn: Sbn, address: SlotAddress) {
        let Some(slot) = self.layout.number(address) else { return };
        let Some(block) = self.blocks.get_mut(index(sbn)) else { return };
        if let Some(position) = block.synced.iter().position(|(_, held)| *held == slot) {
            let (esi, _) = block.synced.swap_remove(position);
            block.held.clear(esi);
            block.received -= 1;
            self.slots.release(slot);
        }
    }

    /// Learns that a block is synced in the image and that the journal says so: its slots are free.
    pub fn block_done(&mut self, sbn: Sbn) {
        let Some(block) = self.blocks.get_mut(index(sbn)) else { return };
        block.done = true;
        block.held = Bitmap::default();
        for (_, slot) in std::mem::take(&mut block.synced) {
            self.slots.release(slot);
        }
    }

    /// Returns what to do next, `None` when there is nothing.
    pub fn poll_output(&mut self) -> Option<LogOutput> {
        self.outputs.pop_front()
    }

    /// Returns when [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.oldest_unflushed.map(|oldest| oldest + self.limits.flush_after)
    }

    /// Returns whether the symbol is held, or its block is decoded and needs none.
    #[must_use]
    pub fn holds(&self, sbn: Sbn, esi: Esi) -> bool {
        self.blocks.get(index(sbn)).is_some_and(|block| block.done || block.held.get(esi))
    }

    /// Returns how many symbols of a block are held, synced or not; K when it is decoded.
    #[must_use]
    pub fn received(&self, sbn: Sbn) -> u32 {
        self.blocks
            .get(index(sbn))
            .map_or(0, |block| if block.done { block.source_symbols } else { block.received })
    }

    /// Returns how many symbols of a block are synced; K when it is decoded.
    #[must_use]
    pub fn synced(&self, sbn: Sbn) -> u32 {
        self.blocks.get(index(sbn)).map_or(0, Block::synced)
    }

    /// Returns how many symbols of the object are synced, K for each decoded block.
    #[must_use]
    pub fn synced_total(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.synced())).sum()
    }

    /// Returns how many slots hold synced symbols of blocks that are not decoded.
    #[must_use]
    pub fn slots_held(&self) -> u64 {
        self.blocks.iter().map(|block| block.synced.len() as u64).sum()
    }

    /// Returns where the synced symbols of a block lie, in the order of the files.
    #[must_use]
    pub fn slots_of(&self, sbn: Sbn) -> Vec<SlotAddress> {
        let synced = self.blocks.get(index(sbn)).map(|block| block.synced.as_slice());
        let mut slots: Vec<_> =
            synced.unwrap_or_default().iter().map(|(_, slot)| self.layout.address(*slot)).collect();
        slots.sort_unstable();
        slots
    }

    /// Returns whether a block is decoded.
    #[must_use]
    pub fn is_done(&self, sbn: Sbn) -> bool {
        self.blocks.get(index(sbn)).is_some_and(|block| block.done)
    }

    /// Returns whether all blocks are decoded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.blocks.iter().all(|block| block.done)
    }

    /// Returns whether everything taken in is synced or forgotten.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.unsynced == 0
    }

    fn refusal(&self, sbn: Sbn, esi: Esi, symbol: &[u8]) -> Option<Insert> {
        let Some(block) = self.blocks.get(index(sbn)) else { return Some(Insert::Invalid) };
        if symbol.len() != self.layout.symbol_size() || !self.layout.in_range(sbn, esi) {
            Some(Insert::Invalid)
        } else if block.done {
            Some(Insert::BlockDone)
        } else if block.held.get(esi) {
            Some(Insert::Duplicate)
        } else if block.received >= block.source_symbols + ObjectLayout::SPARE_PER_BLOCK {
            Some(Insert::BlockFull)
        } else if self.failures >= self.limits.failures {
            Some(Insert::NoRoom)
        } else if self.unsynced + self.layout.slot_size() > self.limits.unsynced_octets {
            Some(Insert::Busy)
        } else {
            None
        }
    }

    fn close_group(&mut self) {
        let Group { mut octets, records } = std::mem::take(&mut self.group);
        octets.shrink_to_fit();
        if let Some(first) = records.first() {
            let address = self.layout.address(first.slot);
            let (file, offset) = (address.file, self.layout.offset(address));
            let ticket = self.ticket();
            self.in_flight.push_back(InFlight::Write(ticket, records));
            self.outputs.push_back(LogOutput::Write { ticket, file, offset, octets });
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// A record is synced.
    fn settle(&mut self, record: Record) {
        self.unsynced -= self.layout.slot_size();
        let Some(block) = self.blocks.get_mut(index(record.sbn)) else { return };
        if block.done {
            self.slots.release(record.slot);
        } else {
            block.synced.push((record.esi, record.slot));
        }
    }

    /// A record is lost. Its slot stays marked, and so do free ones that share a page with it.
    fn forget(&mut self, record: Record) {
        self.unsynced -= self.layout.slot_size();
        if let Some(block) = self.blocks.get_mut(index(record.sbn)).filter(|block| !block.done) {
            block.held.clear(record.esi);
            block.received -= 1;
        }
        let page = |slot| self.layout.offset(self.layout.address(slot)) / PAGE_OCTETS;
        let end = self.layout.offset(self.layout.address(record.slot))
            + self.layout.slot_size() as u64
            - 1;
        let file = self.layout.address(record.slot).file;
        let neighbours: Vec<_> = (record.slot + 1..self.layout.slots())
            .take_while(|slot| self.layout.address(*slot).file == file)
            .take_while(|slot| page(*slot) == end / PAGE_OCTETS)
            .collect();
        neighbours.into_iter().for_each(|slot| self.slots.mark(slot));
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

    /// Page, word in it, bit in that.
    fn place(esi: Esi) -> (u32, usize, u64) {
        (esi.0 / 512, index(Esi(esi.0 / 64 % 8)), 1 << (esi.0 % 64))
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
            Self::Write(ticket, _) | Self::Flush(ticket) => *ticket == wanted,
        }
    }

    fn is_flush(&self, wanted: Ticket) -> bool {
        match self {
            Self::Flush(ticket) => *ticket == wanted,
            Self::Write(..) => false,
        }
    }
}

/// An id as a place in a vector: any u32 is a usize on the machines that this runs on.
trait Place {
    fn place(self) -> u32;
}

impl Place for Sbn {
    fn place(self) -> u32 {
        self.0
    }
}

impl Place for Esi {
    fn place(self) -> u32 {
        self.0
    }
}

fn index(id: impl Place) -> usize {
    usize::try_from(id.place()).unwrap_or(usize::MAX)
}

const PAGE_OCTETS: u64 = 4096;

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
