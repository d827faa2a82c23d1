//! Accepted table symbols on disk: after a short power cut the tables of the segments in flight are
//! restored, and symbols are accepted from the first packet on.
//!
//! ```text
//! tables
//!   0      "FCT1"(4) | length(2) | plan header, padded with zeros to 4,096
//!   4,096  a ring of slots: "TAB1"(4) | segment(4) | ESI(4) | number(8) | check(16) | symbol Tt,
//!          padded with zeros to a multiple of 64
//! check = H16(plan root ‖ segment ‖ ESI ‖ number ‖ symbol)
//! ```
//!
//! Symbols rather than decoded tables, so that an incomplete table is not lost
//! either, and at the same cost: Kseg of them make a table. They were verified when received.
//! The check detects damage and another plan; it proves nothing against somebody who writes to
//! this disk, who could change the symbols of the image as well. The plan header needs no check: it
//! is compared with the plan root, as one from the air.
//!
//! The file is written in place and synced with the next flush of symbols. Nothing relies on it: a
//! slot that is torn, or never got synced, costs waiting for the table, and no more symbols
//! are stored after a failed write or sync. It is not reserved, and never longer than
//! [`TABLES_BYTES`].

use proto::{
    crypto::{Digest, Hash16, h16},
    ids::{Esi, Sbn},
    trust::plan::{MAX_HEADER_BYTES, PlanShape},
    wire::{Reader, WireError, Writer},
};

/// Octets of the file at most.
pub const TABLES_BYTES: usize = 5 << 20;

const HEADER_MAGIC: [u8; 4] = *b"FCT1";
const SLOT_MAGIC: [u8; 4] = *b"TAB1";
const HEADER_BYTES: u64 = 4096;
const SLOT_HEAD_BYTES: usize = 36;

/// Symbols that are written in one run, in units of those of the whole plan. Replayed table packets
/// evict tables again and again; the limit protects the flash from wear.
const PASSES: u64 = 4;

/// The ring of stored table symbols.
#[derive(Debug, Clone)]
pub struct TableLog {
    plan_root: Digest,
    shape: PlanShape,
    slots: u64,
    slot_bytes: usize,
    /// Counts the symbols over all runs; the ring holds the latest.
    next: u64,
    /// Symbols that may be written yet.
    left: u64,
}

/// A stored table symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTableSymbol {
    /// The segment whose leaves it carries.
    pub segment: Sbn,
    /// Symbol.
    pub esi: Esi,
    /// Its octets.
    pub symbol: Vec<u8>,
}

impl TableLog {
    /// Starts without symbols; there is room for the tables of `segments` segments.
    #[must_use]
    pub fn new(plan_root: Digest, shape: PlanShape, segments: usize) -> Self {
        let symbol = usize::from(shape.parameters().table_symbol_bytes);
        let slot_bytes = (SLOT_HEAD_BYTES + symbol).next_multiple_of(64);
        // A table needs Kseg symbols, seldom one or two more.
        let slots = segments * (usize::from(shape.table_source_symbols()) + 2);
        let header = usize::try_from(HEADER_BYTES).unwrap_or_default();
        let slots = slots.clamp(1, (TABLES_BYTES - header) / slot_bytes);
        let left = PASSES * u64::from(shape.table_symbols());
        Self { plan_root, shape, slots: slots as u64, slot_bytes, next: 0, left }
    }

    /// Returns the header of the file.
    ///
    /// # Panics
    ///
    /// Never: a plan header is at most 1,088 octets long.
    #[must_use]
    pub fn header(plan_header: &[u8]) -> Vec<u8> {
        let length = u16::try_from(plan_header.len()).expect("a plan header is shorter than 2^16");
        let mut octets = Vec::new();
        Writer::new(&mut octets).bytes(&HEADER_MAGIC).u16(length).bytes(plan_header);
        octets.resize(4096, 0);
        octets
    }

    /// Returns the plan header in the file; nothing is verified yet.
    #[must_use]
    pub fn header_in(file: &[u8]) -> Option<&[u8]> {
        let mut input = Reader::new(file);
        let magic: [u8; 4] = input.array("magic of the tables").ok()?;
        let length = usize::from(input.u16("length of the plan header").ok()?);
        let fits = magic == HEADER_MAGIC && length <= MAX_HEADER_BYTES;
        input.take(length, "plan header").ok().filter(|_| fits)
    }

    /// Returns the symbols of this plan in the file, in the order in which they were stored, and
    /// appends behind them.
    pub fn recover(&mut self, file: &[u8]) -> Vec<StoredTableSymbol> {
        let start = usize::try_from(HEADER_BYTES).unwrap_or_default();
        let slots = file.get(start..).unwrap_or_default().chunks_exact(self.slot_bytes);
        let mut kept: Vec<_> = slots.filter_map(|slot| self.parse(slot).ok().flatten()).collect();
        kept.sort_unstable_by_key(|(number, _)| *number);
        if let Some((last, _)) = kept.last() {
            self.next = last.saturating_add(1);
        }
        kept.into_iter().map(|(_, symbol)| symbol).collect()
    }

    /// Returns the offset and the octets of a stored symbol; `None` when enough was written in this
    /// run.
    pub fn store(&mut self, segment: Sbn, esi: Esi, symbol: &[u8]) -> Option<(u64, Vec<u8>)> {
        self.left = self.left.checked_sub(1)?;
        let place = self.next % self.slots;
        let offset = HEADER_BYTES + place * self.slot_bytes as u64;
        let check = self.check(segment, esi, self.next, symbol);
        let mut octets = Vec::with_capacity(self.slot_bytes);
        Writer::new(&mut octets)
            .bytes(&SLOT_MAGIC)
            .u32(segment.0)
            .u32(esi.0)
            .u64(self.next)
            .bytes(&check.0)
            .bytes(symbol);
        octets.resize(self.slot_bytes, 0);
        self.next = self.next.wrapping_add(1);
        Some((offset, octets))
    }

    fn parse(&self, slot: &[u8]) -> Result<Option<(u64, StoredTableSymbol)>, WireError> {
        let mut input = Reader::new(slot);
        let magic: [u8; 4] = input.array("magic of a table symbol")?;
        let (segment, esi) = (Sbn(input.u32("segment")?), Esi(input.u32("ESI")?));
        let number = input.u64("number")?;
        let check = Hash16(input.array("check")?);
        let octets = usize::from(self.shape.parameters().table_symbol_bytes);
        let symbol = input.take(octets, "table symbol")?;
        let is_ours = magic == SLOT_MAGIC
            && self.shape.table_index(segment, esi).is_some()
            && self.check(segment, esi, number, symbol) == check;
        Ok(is_ours.then(|| (number, StoredTableSymbol { segment, esi, symbol: symbol.to_vec() })))
    }

    fn check(&self, segment: Sbn, esi: Esi, number: u64, symbol: &[u8]) -> Hash16 {
        let numbers = [segment.0.to_be_bytes(), esi.0.to_be_bytes()].concat();
        h16(&[&self.plan_root.0, &numbers, &number.to_be_bytes(), symbol])
    }
}

#[cfg(test)]
mod tests {
    use proto::{
        crypto::sha256,
        fec::oti::{RaptorQOti, RaptorQParameters},
        trust::plan::PlanParameters,
    };

    use super::*;

    /// Kseg = 2, so that there is room for four symbols of each segment.
    fn log(plan: &[u8], segments: usize) -> TableLog {
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: 64 * 100,
            symbol_size: 64,
            source_blocks: 1,
            sub_blocks: 1,
            alignment: 8,
        });
        let parameters = PlanParameters {
            repair_per_block: 100,
            segment_symbols: 8,
            table_repair: 3,
            table_symbol_bytes: 64,
        };
        let shape = PlanShape::new(oti.unwrap(), parameters).unwrap();
        TableLog::new(sha256(&[plan]), shape, segments)
    }

    fn symbol(number: u32) -> StoredTableSymbol {
        let symbol = vec![u8::try_from(number).unwrap(); 64];
        StoredTableSymbol { segment: Sbn(number / 5), esi: Esi(number % 5), symbol }
    }

    fn store(
        log: &mut TableLog,
        file: &mut Vec<u8>,
        StoredTableSymbol { segment, esi, symbol }: &StoredTableSymbol,
    ) {
        let (offset, octets) = log.store(*segment, *esi, symbol).unwrap();
        let offset = usize::try_from(offset).unwrap();
        if file.len() < offset + octets.len() {
            file.resize(offset + octets.len(), 0);
        }
        file[offset..offset + octets.len()].copy_from_slice(&octets);
    }

    #[test]
    fn symbols_are_found_as_they_were_stored_and_the_oldest_make_room() {
        let mut file = TableLog::header(b"a plan header");
        let mut first = log(b"plan", 1);
        (0..6).for_each(|number| store(&mut first, &mut file, &symbol(number)));
        assert_eq!(TableLog::header_in(&file), Some(&b"a plan header"[..]));
        assert_eq!(file.len(), 4096 + 4 * 128);
        let mut second = log(b"plan", 1);
        assert_eq!(second.recover(&file), (2..6).map(symbol).collect::<Vec<_>>());
        // It continues where the first has ended.
        store(&mut second, &mut file, &symbol(6));
        let third = log(b"plan", 1).recover(&file);
        assert_eq!(third, (3..7).map(symbol).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_damaged_or_of_another_plan_is_not_found() {
        let mut file = TableLog::header(b"h");
        let mut kept = log(b"plan", 1);
        store(&mut kept, &mut file, &symbol(0));
        store(&mut kept, &mut file, &symbol(1));
        assert_eq!(log(b"another plan", 1).recover(&file), []);
        for at in 4096..4096 + 36 + 64 {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_eq!(log(b"plan", 1).recover(&changed), [symbol(1)], "octet {at}");
        }
        for end in 0..file.len() {
            let whole = end.saturating_sub(4096) / 128;
            assert_eq!(log(b"plan", 1).recover(&file[..end]).len(), whole, "cut at {end}");
        }
        assert_eq!(TableLog::header_in(&file[..6]), None);
        assert_eq!(TableLog::header_in(&[0; 4096]), None);
    }

    #[test]
    fn the_flash_does_not_wear_out_by_symbols_that_come_again_and_again() {
        let mut log = log(b"plan", 1);
        // 25 segments of five table symbols, four times.
        let written = (0..1000).filter(|_| log.store(Sbn(0), Esi(0), &[0; 64]).is_some()).count();
        assert_eq!(written, 500);
    }

    #[test]
    fn the_file_of_the_largest_plan_stays_within_its_limit() {
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: 1408 * 8192 * 255,
            symbol_size: 1408,
            source_blocks: 255,
            sub_blocks: 1,
            alignment: 8,
        });
        let shape = PlanShape::for_loss(oti.unwrap(), 8192, 30).unwrap();
        let mut log = TableLog::new(sha256(&[b"plan"]), shape, 4);
        let slots = usize::try_from(log.slots).unwrap();
        assert!(slots >= 4 * usize::from(shape.table_source_symbols()));
        let symbol = vec![1; usize::from(shape.parameters().table_symbol_bytes)];
        for _ in 0..2 * slots {
            let (offset, octets) = log.store(Sbn(0), Esi(0), &symbol).unwrap();
            assert!(usize::try_from(offset).unwrap() + octets.len() <= TABLES_BYTES);
        }
    }
}
