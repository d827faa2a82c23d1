//! Which symbol of which block goes next in plain mode.
//!
//! ```text
//! No-Code, each pass      source rows of all blocks of all files
//! RaptorQ, first pass     source rows of all blocks of all files, then repair rows, group by group
//!          later passes   as many repair rows, group by group; none is ever sent twice
//! ```
//!
//! A row has at most one symbol of each block, in the order of files and blocks. Files of unequal
//! length go at unequal speed, so that a pass begins and ends with all of them: a burst of losses
//! costs all alike. Source rows need no coder. Repair rows need one for every block of the row, and
//! memory bounds how many there can be: blocks form *groups* that fit, and the repair rows of one
//! group go before those of the next. With a single group the order is the same throughout.

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

/// Where a session goes on: always the beginning of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RowPlace {
    /// Passes that are complete.
    pub pass: u64,
    /// Rows of this pass that are complete.
    pub row: u64,
}

/// The sending order of one session.
#[derive(Debug, Clone)]
pub struct PlainSchedule {
    files: Vec<FileRows>,
    groups: Vec<Vec<BlockName>>,
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
    Repair { group: usize },
}

impl PlainSchedule {
    /// Makes the order for files with these parameters: `repair_percent` of the source symbols are
    /// added to the first pass as repair symbols, and coders of at most `group_octets` of blocks are
    /// wanted at once, or of a single block.
    #[must_use]
    pub fn new(files: &[Oti], repair_percent: u32, group_octets: u64) -> Self {
        let rows = files.iter().map(|oti| {
            let partition = oti.partition();
            let rateless = match oti {
                Oti::NoCode(_) => false,
                Oti::RaptorQ(_) => true,
            };
            let share = u64::from(partition.largest()) * u64::from(repair_percent);
            FileRows { partition, rateless, repair: if rateless { share.div_ceil(100) } else { 0 } }
        });
        let rows: Vec<_> = rows.collect();
        let groups = groups(files, &rows, group_octets);
        Self { files: rows, groups }
    }

    /// Returns how many rows a pass has.
    #[must_use]
    pub fn rows(&self, pass: u64) -> u64 {
        self.phases().map(|phase| self.phase_rows(pass, phase)).sum()
    }

    /// Returns the symbols of a row in sending order; none when the pass has no such row.
    #[must_use]
    pub fn row(&self, place: RowPlace) -> Vec<SymbolName> {
        let Some((phase, row)) = self.phase_at(place) else { return Vec::new() };
        let all = self.phase_rows(place.pass, phase);
        let mut symbols = Vec::new();
        for (number, file) in self.files.iter().enumerate() {
            let count = file.rows(place.pass, phase);
            // Of all rows this file has `count`, spread evenly.
            let own = (row * count).div_ceil(all);
            if own >= count || own * all / count != row {
                continue;
            }
            match phase {
                Phase::Source => file.source_row(number, own, &mut symbols),
                Phase::Repair { group } => {
                    let esi = file.repair_esi(place.pass, own);
                    let blocks = self.groups.get(group).into_iter().flatten();
                    let ours = blocks.filter(|block| block.file == number);
                    symbols.extend(ours.map(|block| SymbolName { block: *block, esi }));
                }
            }
        }
        symbols
    }

    /// Returns the place after a row.
    #[must_use]
    pub fn after(&self, place: RowPlace) -> RowPlace {
        if place.row + 1 < self.rows(place.pass) {
            RowPlace { row: place.row + 1, ..place }
        } else {
            RowPlace { pass: place.pass + 1, row: 0 }
        }
    }

    /// Returns the blocks whose coders are wanted at a place and soon after it: those of the group
    /// that is being sent, then those of the next.
    #[must_use]
    pub fn coders(&self, place: RowPlace) -> Vec<BlockName> {
        let current = match self.phase_at(place) {
            Some((Phase::Repair { group }, _)) => Some(group),
            Some((Phase::Source, _)) | None => None,
        };
        let next = current.map_or(0, |group| group + 1).checked_rem(self.groups.len());
        let mut wanted: Vec<_> = current.into_iter().chain(next).collect();
        wanted.dedup();
        wanted.iter().filter_map(|group| self.groups.get(*group)).flatten().copied().collect()
    }

    fn phases(&self) -> impl Iterator<Item = Phase> + use<> {
        let repair = (0..self.groups.len()).map(|group| Phase::Repair { group });
        std::iter::once(Phase::Source).chain(repair)
    }

    /// Returns the phase of a place and the row within it.
    fn phase_at(&self, place: RowPlace) -> Option<(Phase, u64)> {
        let mut row = place.row;
        self.phases().find_map(|phase| {
            let rows = self.phase_rows(place.pass, phase);
            if row < rows {
                return Some((phase, row));
            }
            row -= rows;
            None
        })
    }

    fn phase_rows(&self, pass: u64, phase: Phase) -> u64 {
        let has_part = |file: usize| match phase {
            Phase::Source => true,
            Phase::Repair { group } => {
                self.groups.get(group).into_iter().flatten().any(|block| block.file == file)
            }
        };
        let files = self.files.iter().enumerate().filter(|(number, _)| has_part(*number));
        files.map(|(_, file)| file.rows(pass, phase)).max().unwrap_or(0)
    }
}

impl FileRows {
    fn rows(&self, pass: u64, phase: Phase) -> u64 {
        let source = u64::from(self.partition.largest());
        match (phase, self.rateless, pass) {
            (Phase::Source, false, _) | (Phase::Source, true, 0) => source,
            (Phase::Source, true, _) | (Phase::Repair { .. }, false, _) => 0,
            (Phase::Repair { .. }, true, 0) => self.repair,
            (Phase::Repair { .. }, true, _) => source + self.repair,
        }
    }

    fn source_row(&self, file: usize, row: u64, symbols: &mut Vec<SymbolName>) {
        let esi = Esi(u32::try_from(row).unwrap_or(u32::MAX));
        let has_it = |sbn: &Sbn| self.partition.symbols_of(*sbn).is_some_and(|k| esi.0 < k);
        let blocks = (0..self.partition.blocks()).map(Sbn).filter(has_it);
        symbols.extend(blocks.map(|sbn| SymbolName { block: BlockName { file, sbn }, esi }));
    }

    /// Returns the id of repair row `row` of a pass; ids come again once all 2^24 were sent.
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

/// Puts blocks that need coders into groups of at most `octets`.
fn groups(files: &[Oti], rows: &[FileRows], octets: u64) -> Vec<Vec<BlockName>> {
    let mut groups: Vec<Vec<BlockName>> = Vec::new();
    let mut filled = 0;
    for (file, (oti, rows)) in files.iter().zip(rows).enumerate() {
        if !rows.rateless {
            continue;
        }
        for sbn in (0..rows.partition.blocks()).map(Sbn) {
            let symbols = rows.partition.symbols_of(sbn).unwrap_or(0);
            let size = u64::from(symbols) * u64::from(oti.symbol_size());
            filled += size;
            if groups.is_empty() || filled > octets {
                groups.push(Vec::new());
                filled = size;
            }
            groups.last_mut().into_iter().for_each(|group| group.push(BlockName { file, sbn }));
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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

    fn pass(schedule: &PlainSchedule, pass: u64) -> Vec<SymbolName> {
        (0..schedule.rows(pass)).flat_map(|row| schedule.row(RowPlace { pass, row })).collect()
    }

    fn ids(symbols: &[SymbolName]) -> Vec<(usize, u32, u32)> {
        symbols.iter().map(|name| (name.block.file, name.block.sbn.0, name.esi.0)).collect()
    }

    #[test]
    fn a_pass_goes_row_by_row_over_all_blocks() {
        let schedule = PlainSchedule::new(&[raptorq(5, 2)], 50, u64::MAX);
        let first = [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (0, 3), (1, 3), (0, 4), (1, 4)]
            .map(|(b, e)| (0, b, e));
        assert_eq!(ids(&pass(&schedule, 0)), first);
        let second = pass(&schedule, 1);
        assert_eq!(second.len(), 10);
        assert_eq!(ids(&second)[..2], [(0, 0, 5), (0, 1, 5)]);
    }

    #[test]
    fn no_repair_symbol_is_sent_twice() {
        for group_octets in [u64::MAX, 100, 1] {
            let files = [raptorq(40, 3), raptorq(7, 1), raptorq(90, 4)];
            let schedule = PlainSchedule::new(&files, 30, group_octets);
            let mut seen = BTreeSet::new();
            for number in 0..5 {
                let sent = pass(&schedule, number);
                let all = ids(&sent);
                assert!(all.iter().all(|id| seen.insert(*id)), "pass {number}");
                for (file, blocks, row_count) in [(0, 3, 19), (1, 1, 10), (2, 4, 30)] {
                    let own = all.iter().filter(|id| id.0 == file).count();
                    assert!(own.abs_diff(blocks * row_count) <= blocks, "{file}: {own}");
                }
            }
        }
    }

    #[test]
    fn short_and_long_files_end_together() {
        let schedule = PlainSchedule::new(&[raptorq(10, 1), raptorq(100, 1)], 0, u64::MAX);
        let all = ids(&pass(&schedule, 0));
        let places: Vec<_> =
            all.iter().enumerate().filter(|(_, id)| id.0 == 0).map(|(at, _)| at).collect();
        assert_eq!(places.len(), 10);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] == 11), "{places:?}");
    }

    #[test]
    fn repair_goes_group_by_group_when_memory_is_short() {
        let schedule = PlainSchedule::new(&[raptorq(30, 3)], 0, 160);
        let blocks: Vec<_> = pass(&schedule, 1).iter().map(|name| name.block.sbn.0).collect();
        assert_eq!(blocks[..20], [0, 1].repeat(10));
        assert_eq!(blocks[20..], [2; 10]);
        let coders = |row| -> Vec<_> {
            schedule.coders(RowPlace { pass: 1, row }).iter().map(|block| block.sbn.0).collect()
        };
        assert_eq!(coders(0), [0, 1, 2]);
        assert_eq!(coders(10), [2, 0, 1]);
        let source = schedule.coders(RowPlace { pass: 0, row: 0 });
        assert_eq!(source.len(), 2, "the first group is made ready meanwhile");
    }

    #[test]
    fn without_code_each_pass_is_the_same() {
        let oti = Oti::NoCode(NoCodeOti::new(50, 8, 4).unwrap());
        let schedule = PlainSchedule::new(&[oti], 50, u64::MAX);
        let first = ids(&pass(&schedule, 0));
        assert_eq!(
            first,
            [(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (0, 0, 2), (0, 1, 2), (0, 0, 3)]
        );
        assert_eq!(ids(&pass(&schedule, 9)), first);
        assert_eq!(schedule.coders(RowPlace::default()), []);
    }

    #[test]
    fn places_follow_each_other_from_pass_to_pass() {
        let schedule = PlainSchedule::new(&[raptorq(3, 1)], 0, u64::MAX);
        let mut place = RowPlace::default();
        for expected in [(0, 1), (0, 2), (1, 0), (1, 1)] {
            place = schedule.after(place);
            assert_eq!((place.pass, place.row), expected);
        }
        assert_eq!(schedule.row(RowPlace { pass: 0, row: 3 }), []);
        let far = schedule.row(RowPlace { pass: 1 << 40, row: 0 });
        assert!(far[0].esi.0 >= 3 && far[0].esi.0 < RAPTORQ_ESI_LIMIT);
    }
}
