//! The sending order of the symbols of an unsigned session.
//!
//! ```text
//! No-Code, each pass      source rows of all blocks of all files
//! RaptorQ, first pass     source rows of all blocks of all files, then repair rows
//!          later passes   as many repair rows; none is ever sent twice
//! ```
//!
//! In the order of rows, a row has at most one symbol of each block, in the order of files and blocks. Files of unequal
//! length go at unequal speed, so that a pass begins and ends with all of them: a burst of losses
//! costs all blocks alike, and a receiver completes all of them at about the same time. The order
//! does not depend on memory: what makes repair symbols works ahead of it, block by block, each
//! time for many rows.
//!
//! In the order of blocks, a row has all symbols of one block in a pass, source symbols first; files
//! and blocks follow one another. It is for receivers that write blocks in order and hold few of
//! them.

use proto::{
    fec::{
        oti::{Oti, RAPTORQ_ESI_LIMIT},
        partition::Partition,
    },
    ids::{Esi, Sbn},
};
use serde::{Deserialize, Serialize};

/// A source block of one of the session's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockName {
    /// Number of the file, from 0.
    pub file: usize,
    /// Its source block.
    pub sbn: Sbn,
}

/// A symbol to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SymbolName {
    /// Its block.
    pub block: BlockName,
    /// Its id in the block.
    pub esi: Esi,
}

/// The row at which a session resumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RowPosition {
    /// Passes that are complete.
    pub pass: u64,
    /// Rows of this pass that are complete.
    pub row: u64,
}

/// The order of symbols within a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOrder {
    /// One symbol of each block, then the next of each.
    Rows,
    /// All symbols of a block, then those of the next.
    Blocks,
}

/// The sending order of one session.
#[derive(Debug, Clone)]
pub struct UnsignedSchedule {
    files: Vec<FileRows>,
    order: SendOrder,
}

#[derive(Debug, Clone, Copy)]
struct FileRows {
    partition: Partition,
    rateless: bool,
    /// Repair rows of the first pass.
    repair: u64,
}

/// A run of rows of one kind within a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Source,
    Repair,
}

impl UnsignedSchedule {
    /// Makes the order for files with these parameters: `repair_percent` of the source symbols are
    /// added to the first pass as repair symbols.
    #[must_use]
    pub fn new(files: &[Oti], repair_percent: u32, order: SendOrder) -> Self {
        let files = files.iter().map(|oti| {
            let partition = oti.partition();
            let rateless = match oti {
                Oti::NoCode(_) => false,
                Oti::RaptorQ(_) => true,
            };
            let share = u64::from(partition.largest()) * u64::from(repair_percent);
            FileRows { partition, rateless, repair: if rateless { share.div_ceil(100) } else { 0 } }
        });
        Self { files: files.collect(), order }
    }

    /// Returns how many rows a pass has.
    #[must_use]
    pub fn rows(&self, pass: u64) -> u64 {
        match self.order {
            SendOrder::Rows => PHASES.map(|phase| self.phase_rows(pass, phase)).iter().sum(),
            SendOrder::Blocks => {
                self.files.iter().map(|file| u64::from(file.partition.blocks())).sum()
            }
        }
    }

    /// Returns the symbols of a row in sending order; none when the pass has no such row.
    #[must_use]
    // spec: rfc5445 3.4.2 (symbol after symbol, pass by pass)
    pub fn row(&self, position: RowPosition) -> Vec<SymbolName> {
        match self.order {
            SendOrder::Rows => self.row_of_all_blocks(position),
            SendOrder::Blocks => self.row_of_a_block(position),
        }
    }

    fn row_of_a_block(&self, RowPosition { pass, row }: RowPosition) -> Vec<SymbolName> {
        let mut earlier = 0;
        for (number, file) in self.files.iter().enumerate() {
            let blocks = u64::from(file.partition.blocks());
            if let Some(sbn) = row.checked_sub(earlier).filter(|sbn| *sbn < blocks) {
                let sbn = Sbn(u32::try_from(sbn).unwrap_or(u32::MAX));
                let block = BlockName { file: number, sbn };
                let source = if file.rows(pass, Phase::Source) > 0 {
                    file.partition.symbols_of(sbn).unwrap_or_default()
                } else {
                    0
                };
                let repair =
                    (0..file.rows(pass, Phase::Repair)).map(|own| file.repair_esi(pass, own));
                let symbols = (0..source).map(Esi).chain(repair);
                return symbols.map(|esi| SymbolName { block, esi }).collect();
            }
            earlier += blocks;
        }
        Vec::new()
    }

    fn row_of_all_blocks(&self, position: RowPosition) -> Vec<SymbolName> {
        let Some((phase, row)) = self.phase_at(position) else { return Vec::new() };
        let all = self.phase_rows(position.pass, phase);
        let mut symbols = Vec::new();
        for (number, file) in self.files.iter().enumerate() {
            let count = file.rows(position.pass, phase);
            // Of all rows this file has `count`, spread evenly.
            let own = file.own_row(row, count, all);
            if own >= count || own * all / count != row {
                continue;
            }
            match phase {
                Phase::Source => file.source_row(number, own, &mut symbols),
                Phase::Repair => {
                    let esi = file.repair_esi(position.pass, own);
                    symbols.extend(file.blocks(number).map(|block| SymbolName { block, esi }));
                }
            }
        }
        symbols
    }

    /// Returns the position after a row.
    #[must_use]
    pub fn after(&self, position: RowPosition) -> RowPosition {
        if position.row + 1 < self.rows(position.pass) {
            RowPosition { row: position.row + 1, ..position }
        } else {
            RowPosition { pass: position.pass + 1, row: 0 }
        }
    }

    /// Returns the first repair symbol of each block at a position or after it; the others
    /// of the block follow in the order of their ids.
    #[must_use]
    pub fn repair_from(&self, position: RowPosition) -> Vec<SymbolName> {
        if self.order == SendOrder::Blocks {
            return self.repair_of_blocks_from(position);
        }
        let mut symbols = Vec::new();
        for (number, file) in self.files.iter().enumerate().filter(|(_, file)| file.rateless) {
            let own = match self.phase_at(position) {
                Some((Phase::Repair, row)) => {
                    let count = file.rows(position.pass, Phase::Repair);
                    file.own_row(row, count, self.phase_rows(position.pass, Phase::Repair))
                }
                Some((Phase::Source, _)) | None => 0,
            };
            let esi = file.repair_esi(position.pass, own);
            symbols.extend(file.blocks(number).map(|block| SymbolName { block, esi }));
        }
        symbols
    }

    fn repair_of_blocks_from(&self, RowPosition { pass, row }: RowPosition) -> Vec<SymbolName> {
        let numbered = self.files.iter().enumerate();
        let blocks =
            numbered.flat_map(|(number, file)| file.blocks(number).map(move |block| (file, block)));
        (0..)
            .zip(blocks)
            .filter(|(_, (file, _))| file.rateless)
            .map(|(at, (file, block))| {
                // Blocks before this row come again in the next pass.
                let next = if at < row { pass + 1 } else { pass };
                SymbolName { block, esi: file.repair_esi(next, 0) }
            })
            .collect()
    }

    /// Returns the phase of a position and the row within it.
    fn phase_at(&self, position: RowPosition) -> Option<(Phase, u64)> {
        let mut row = position.row;
        PHASES.into_iter().find_map(|phase| {
            let rows = self.phase_rows(position.pass, phase);
            if row < rows {
                return Some((phase, row));
            }
            row -= rows;
            None
        })
    }

    fn phase_rows(&self, pass: u64, phase: Phase) -> u64 {
        self.files.iter().map(|file| file.rows(pass, phase)).max().unwrap_or(0)
    }
}

impl FileRows {
    fn rows(&self, pass: u64, phase: Phase) -> u64 {
        let source = u64::from(self.partition.largest());
        match (phase, self.rateless, pass) {
            (Phase::Source, false, _) | (Phase::Source, true, 0) => source,
            (Phase::Source, true, _) | (Phase::Repair, false, _) => 0,
            (Phase::Repair, true, 0) => self.repair,
            (Phase::Repair, true, _) => source + self.repair,
        }
    }

    /// Returns the first of the file's `count` rows that does not go before row `row` of `all`.
    const fn own_row(&self, row: u64, count: u64, all: u64) -> u64 {
        (row * count).div_ceil(all)
    }

    fn blocks(&self, file: usize) -> impl Iterator<Item = BlockName> + use<> {
        (0..self.partition.blocks()).map(move |sbn| BlockName { file, sbn: Sbn(sbn) })
    }

    fn source_row(&self, file: usize, row: u64, symbols: &mut Vec<SymbolName>) {
        let esi = Esi(u32::try_from(row).unwrap_or(u32::MAX));
        let has_it = |sbn: &Sbn| self.partition.symbols_of(*sbn).is_some_and(|k| esi.0 < k);
        let blocks = self.blocks(file).filter(|block| has_it(&block.sbn));
        symbols.extend(blocks.map(|block| SymbolName { block, esi }));
    }

    /// Returns the id of repair row `row` of a pass; ids repeat once all 2^24 were sent.
    fn repair_esi(&self, pass: u64, row: u64) -> Esi {
        let source = u64::from(self.partition.largest());
        let earlier = match pass.checked_sub(1) {
            None => 0,
            Some(later) => self.repair.saturating_add(later.saturating_mul(source + self.repair)),
        };
        let kinds = u64::from(RAPTORQ_ESI_LIMIT) - source;
        let esi = source + earlier.saturating_add(row) % kinds;
        Esi(u32::try_from(esi).unwrap_or(RAPTORQ_ESI_LIMIT - 1))
    }
}

const PHASES: [Phase; 2] = [Phase::Source, Phase::Repair];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proto::fec::oti::{NoCodeOti, RaptorQOti, RaptorQParameters};

    use super::*;

    fn raptorq(symbols: u64, blocks: u8) -> Oti {
        let parameters = RaptorQParameters {
            transfer_length: symbols * 8,
            symbol_size: 8,
            source_blocks: blocks,
            sub_blocks: 1,
            alignment: 8,
        };
        Oti::RaptorQ(RaptorQOti::new(parameters).unwrap())
    }

    fn pass(schedule: &UnsignedSchedule, pass: u64) -> Vec<SymbolName> {
        (0..schedule.rows(pass)).flat_map(|row| schedule.row(RowPosition { pass, row })).collect()
    }

    fn ids(symbols: &[SymbolName]) -> Vec<(usize, u32, u32)> {
        symbols.iter().map(|name| (name.block.file, name.block.sbn.0, name.esi.0)).collect()
    }

    #[test]
    fn a_pass_goes_row_by_row_over_all_blocks() {
        let schedule = UnsignedSchedule::new(&[raptorq(5, 2)], 50, SendOrder::Rows);
        let first = [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (0, 3), (1, 3), (0, 4), (1, 4)]
            .map(|(b, e)| (0, b, e));
        assert_eq!(ids(&pass(&schedule, 0)), first);
        let second = pass(&schedule, 1);
        assert_eq!(second.len(), 10);
        assert_eq!(ids(&second)[..2], [(0, 0, 5), (0, 1, 5)]);
    }

    #[test]
    fn no_repair_symbol_is_sent_twice() {
        let files = [raptorq(40, 3), raptorq(7, 1), raptorq(90, 4)];
        let schedule = UnsignedSchedule::new(&files, 30, SendOrder::Rows);
        let mut seen = BTreeSet::new();
        for number in 0..5 {
            let all = ids(&pass(&schedule, number));
            assert!(all.iter().all(|id| seen.insert(*id)), "pass {number}");
            for (file, blocks, row_count) in [(0, 3, 19), (1, 1, 10), (2, 4, 30)] {
                let own = all.iter().filter(|id| id.0 == file).count();
                assert!(own.abs_diff(blocks * row_count) <= blocks, "{file}: {own}");
            }
        }
    }

    #[test]
    fn short_and_long_files_end_together() {
        let schedule =
            UnsignedSchedule::new(&[raptorq(10, 1), raptorq(100, 1)], 0, SendOrder::Rows);
        let all = ids(&pass(&schedule, 0));
        let positions: Vec<_> =
            all.iter().enumerate().filter(|(_, id)| id.0 == 0).map(|(at, _)| at).collect();
        assert_eq!(positions.len(), 10);
        assert!(positions.windows(2).all(|pair| pair[1] - pair[0] == 11), "{positions:?}");
    }

    #[test]
    fn the_next_repair_symbols_are_known_at_every_place() {
        let files = [raptorq(40, 3), raptorq(7, 1), raptorq(90, 4)];
        let schedule = UnsignedSchedule::new(&files, 30, SendOrder::Rows);
        for start in [(0, 0), (0, 22), (0, 23), (0, 29), (1, 0), (1, 1), (1, 17), (9, 5)] {
            let start = RowPosition { pass: start.0, row: start.1 };
            let mut expected: BTreeMap<_, _> =
                schedule.repair_from(start).iter().map(|name| (name.block, name.esi.0)).collect();
            assert_eq!(expected.len(), 8);
            let mut position = start;
            for _ in 0..100 {
                for name in schedule.row(position) {
                    let next = expected.get_mut(&name.block).unwrap();
                    let largest = [14, 7, 23][name.block.file];
                    if name.esi.0 >= largest {
                        assert_eq!(name.esi.0, *next, "{start:?} {position:?} {name:?}");
                        *next += 1;
                    }
                }
                position = schedule.after(position);
            }
        }
    }

    /// Returns the symbols sent until the last block has its K, in units of all K.
    fn cost(schedule: &UnsignedSchedule, k: u32, blocks: u32, lost: impl Fn(u64) -> bool) -> f64 {
        let mut missing = BTreeMap::from_iter((0..blocks).map(|sbn| (sbn, k)));
        let mut sent = 0;
        let mut position = RowPosition::default();
        loop {
            for name in schedule.row(position) {
                sent += 1;
                if lost(sent) {
                    continue;
                }
                let left = missing.entry(name.block.sbn.0).or_default();
                *left = left.saturating_sub(1);
                if missing.values().all(|left| *left == 0) {
                    return f64::from(u32::try_from(sent).unwrap()) / f64::from(k * blocks);
                }
            }
            position = schedule.after(position);
        }
    }

    #[test]
    fn losses_cost_little_more_than_what_is_lost() {
        let schedule = UnsignedSchedule::new(&[raptorq(800 * 47, 47)], 0, SendOrder::Rows);
        let seed = 0x5eed_1234_u64;
        let random = |at: u64| {
            let mixed = (at ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40
        };
        let fifth = cost(&schedule, 800, 47, |at| random(at) % 5 == 0);
        assert!(fifth > 1.25 && fifth < 1.35, "{fifth}, seed {seed:#x}");
        let none = cost(&schedule, 800, 47, |_| false);
        assert!((none - 1.0).abs() < 1e-9, "{none}");
        // One burst of a tenth of the pass.
        let burst = cost(&schedule, 800, 47, |at| (10_000..13_760).contains(&at));
        assert!(burst < 1.11, "{burst}");
    }

    // test: rfc5445 3.4.2
    #[test]
    fn without_code_each_pass_is_the_same() {
        let oti = Oti::NoCode(NoCodeOti::new(50, 8, 4).unwrap());
        let schedule = UnsignedSchedule::new(&[oti], 50, SendOrder::Rows);
        let first = ids(&pass(&schedule, 0));
        assert_eq!(
            first,
            [(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (0, 0, 2), (0, 1, 2), (0, 0, 3)]
        );
        assert_eq!(ids(&pass(&schedule, 9)), first);
        assert_eq!(schedule.repair_from(RowPosition::default()), []);
    }

    #[test]
    fn places_follow_each_other_from_pass_to_pass() {
        let schedule = UnsignedSchedule::new(&[raptorq(3, 1)], 0, SendOrder::Rows);
        let mut position = RowPosition::default();
        for expected in [(0, 1), (0, 2), (1, 0), (1, 1)] {
            position = schedule.after(position);
            assert_eq!((position.pass, position.row), expected);
        }
        assert_eq!(schedule.row(RowPosition { pass: 0, row: 3 }), []);
        let far = schedule.row(RowPosition { pass: 1 << 40, row: 0 });
        assert!(far[0].esi.0 >= 3 && far[0].esi.0 < RAPTORQ_ESI_LIMIT);
    }

    fn pass_of(schedule: &UnsignedSchedule, pass: u64) -> Vec<SymbolName> {
        let rows = 0..schedule.rows(pass);
        rows.flat_map(|row| schedule.row(RowPosition { pass, row })).collect()
    }

    #[test]
    fn in_the_order_of_blocks_a_pass_has_the_same_symbols_block_after_block() {
        let no_code = Oti::NoCode(NoCodeOti::new(10_000, 100, 32).unwrap());
        let files = [raptorq(50, 3), no_code, raptorq(7, 1)];
        let rows = UnsignedSchedule::new(&files, 30, SendOrder::Rows);
        let blocks = UnsignedSchedule::new(&files, 30, SendOrder::Blocks);
        for pass in 0..3 {
            let sent = pass_of(&blocks, pass);
            let key = |name: &SymbolName| (name.block, name.esi.0);
            let mut expected = pass_of(&rows, pass);
            expected.sort_by_key(key);
            assert_eq!(sent, expected, "pass {pass}");
        }
        assert_eq!(blocks.row(RowPosition { pass: 0, row: blocks.rows(0) }), []);
    }

    #[test]
    fn in_the_order_of_blocks_repair_symbols_are_announced_as_they_come() {
        let schedule =
            UnsignedSchedule::new(&[raptorq(50, 3), raptorq(7, 1)], 30, SendOrder::Blocks);
        for (pass, row) in [(0, 0), (0, 2), (1, 0), (1, 3), (2, 1)] {
            let mut next: BTreeMap<_, _> = schedule
                .repair_from(RowPosition { pass, row })
                .into_iter()
                .map(|name| (name.block, name.esi.0))
                .collect();
            let mut position = RowPosition { pass, row };
            for _ in 0..9 {
                for name in schedule.row(position) {
                    let file = &schedule.files[name.block.file];
                    if name.esi.0 >= file.partition.largest() {
                        let next = next.get_mut(&name.block).unwrap();
                        assert_eq!(name.esi.0, *next, "{position:?} {name:?}");
                        *next += 1;
                    }
                }
                position = schedule.after(position);
            }
        }
    }
}
