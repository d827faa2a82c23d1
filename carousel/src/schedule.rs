//! Which record is sent next, and where it lies in the plan file.
//!
//! ```text
//! segment s:  S data symbols, and spread over all of them the table symbols of segment s + 1 mod Y
//! file:       head | segment 0 | segment 1 | …          in sending order, nothing between records
//! data:       payload id (4) | symbol (T)
//! table:      EXT_AUTH with the path | payload id (4) | table symbol (Tt)
//! ```
//!
//! A record is what follows the LCT header of its packet, so that the sender copies and never
//! computes. Every offset follows from the plan's shape.
//!
//! Tables travel over the whole segment before theirs because loss comes in bursts: at the budget of
//! 30 % and bursts of 32 packets, 11 % of the symbols find no table when the tables travel in the last
//! quarter of it, 4 % in its last half, and 1 to 2 % this way (`cargo tables`). A device that tunes in
//! late waits up to half a segment more for its first table, below 1 % of a pass.

use proto::{
    flute::alc::PayloadId,
    ids::{Esi, Sbn},
    trust::plan::PlanShape,
};

/// Octets before the first record of a plan file.
pub const HEAD_OCTETS: u64 = 4096;

/// Where the records of one plan lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    shape: PlanShape,
    data_octets: u64,
    table_octets: u64,
}

/// One record of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// A data symbol.
    Data {
        /// Source block.
        sbn: Sbn,
        /// Symbol.
        esi: Esi,
    },
    /// A table symbol.
    Table {
        /// The segment whose leaves it carries.
        segment: Sbn,
        /// Symbol.
        esi: Esi,
    },
}

/// A place within a pass: the next record in sending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The segment that is being sent.
    pub segment: Sbn,
    /// Data symbols of the segment that were sent.
    pub data: u32,
    /// Table symbols of the next segment that were sent.
    pub tables: u32,
}

impl Cursor {
    /// Returns the beginning of a segment.
    #[must_use]
    pub const fn start_of(segment: Sbn) -> Self {
        Self { segment, data: 0, tables: 0 }
    }
}

impl Schedule {
    /// Lays out the records of a plan.
    #[must_use]
    pub fn new(shape: PlanShape) -> Self {
        let id = PayloadId::LEN as u64;
        let parameters = shape.parameters();
        Self {
            shape,
            data_octets: id + u64::from(shape.oti().parameters().symbol_size),
            table_octets: Self::auth_octets_of(&shape)
                + id
                + u64::from(parameters.table_symbol_bytes),
        }
    }

    /// Returns the plan's shape.
    #[must_use]
    pub const fn shape(&self) -> &PlanShape {
        &self.shape
    }

    /// Returns the octets of a data record.
    #[must_use]
    pub const fn data_octets(&self) -> u64 {
        self.data_octets
    }

    /// Returns the octets of a table record.
    #[must_use]
    pub const fn table_octets(&self) -> u64 {
        self.table_octets
    }

    /// Returns the octets of the EXT_AUTH that a table record starts with.
    #[must_use]
    pub fn auth_octets(&self) -> u64 {
        Self::auth_octets_of(&self.shape)
    }

    fn auth_octets_of(shape: &PlanShape) -> u64 {
        8 + 16 * u64::from(shape.proof_depth())
    }

    /// Returns the octets of a whole plan file.
    #[must_use]
    pub fn file_octets(&self) -> u64 {
        HEAD_OCTETS
            + self.shape.leaves() * self.data_octets
            + u64::from(self.shape.table_symbols()) * self.table_octets
    }

    /// Returns the number of data symbols of a segment; zero when there is no such segment.
    #[must_use]
    pub fn segment_symbols(&self, segment: Sbn) -> u32 {
        let range = self.shape.segment(segment).unwrap_or(0..0);
        u32::try_from(range.end - range.start).expect("a segment has at most 65,536 symbols")
    }

    /// Returns the segment whose table symbols travel in `segment`.
    #[must_use]
    pub fn announced_in(&self, segment: Sbn) -> Sbn {
        Sbn((segment.0 + 1) % u32::from(self.shape.segments()))
    }

    /// Returns the segment in which the table symbols of `segment` travel.
    #[must_use]
    pub fn announcer_of(&self, segment: Sbn) -> Sbn {
        let segments = u32::from(self.shape.segments());
        Sbn((segment.0 + segments - 1) % segments)
    }

    /// Returns how many table symbols go before data symbol `data` of a segment.
    fn tables_before(&self, segment: Sbn, data: u32) -> u32 {
        let symbols = self.segment_symbols(segment).max(1);
        let tables = u64::from(self.shape.table_symbols_per_segment());
        let gone = tables * u64::from(data.min(symbols)) / u64::from(symbols);
        u32::try_from(gone).expect("at most 8,192 table symbols")
    }

    /// Returns how many data symbols of its segment go before table symbol `table`.
    fn data_before(&self, segment: Sbn, table: u32) -> u32 {
        let symbols = u64::from(self.segment_symbols(segment));
        let tables = u64::from(self.shape.table_symbols_per_segment());
        let gone = (u64::from(table + 1) * symbols).div_ceil(tables);
        u32::try_from(gone).expect("a segment has at most 65,536 symbols")
    }

    fn segment_offset(&self, segment: Sbn) -> u64 {
        let data = u64::from(segment.0) * u64::from(self.shape.parameters().segment_symbols);
        let tables = u64::from(segment.0) * u64::from(self.shape.table_symbols_per_segment());
        HEAD_OCTETS + data * self.data_octets + tables * self.table_octets
    }

    /// Returns where a record lies in the plan file; `None` when the plan does not hold it.
    #[must_use]
    pub fn offset(&self, record: Record) -> Option<u64> {
        match record {
            Record::Data { sbn, esi } => {
                let index = self.shape.index_of(sbn, esi)?;
                let segment = self.shape.segment_of(index)?;
                let data = u32::try_from(index - self.shape.segment(segment)?.start).ok()?;
                let tables = self.tables_before(segment, data);
                Some(self.within(segment, data, tables))
            }
            Record::Table { segment, esi } => {
                self.shape.table_index(segment, esi)?;
                let announcer = self.announcer_of(segment);
                let data = self.data_before(announcer, esi.0);
                Some(self.within(announcer, data, esi.0))
            }
        }
    }

    fn within(&self, segment: Sbn, data: u32, tables: u32) -> u64 {
        self.segment_offset(segment)
            + u64::from(data) * self.data_octets
            + u64::from(tables) * self.table_octets
    }

    /// Returns the record at a cursor and moves the cursor on; `None` at the end of the segment.
    pub fn next(&self, cursor: &mut Cursor) -> Option<Record> {
        if cursor.tables < self.tables_before(cursor.segment, cursor.data) {
            let segment = self.announced_in(cursor.segment);
            let esi = Esi(cursor.tables);
            cursor.tables += 1;
            return Some(Record::Table { segment, esi });
        }
        if cursor.data >= self.segment_symbols(cursor.segment) {
            return None;
        }
        let (sbn, esi) = self.shape.symbol_at(self.place(*cursor))?;
        cursor.data += 1;
        Some(Record::Data { sbn, esi })
    }

    /// Returns the index of the next data symbol at a cursor.
    #[must_use]
    pub fn place(&self, cursor: Cursor) -> u64 {
        u64::from(cursor.segment.0) * u64::from(self.shape.parameters().segment_symbols)
            + u64::from(cursor.data)
    }

    /// Returns the UDP payload octets of one pass, without FDT and repeated headers.
    #[must_use]
    pub fn pass_octets(&self) -> u64 {
        let packets = self.shape.leaves() + u64::from(self.shape.table_symbols());
        self.file_octets() - HEAD_OCTETS + packets * LCT_OCTETS
    }
}

/// Octets of the LCT header with TSI and TOI of 32 bits, without extensions.
pub const LCT_OCTETS: u64 = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::{
        fec::oti::{RaptorQOti, RaptorQParameters},
        trust::plan::PlanParameters,
    };

    use super::*;

    fn schedule(length: u64, blocks: u8, repair: u32, segment: u32, table_repair: u16) -> Schedule {
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: length,
            symbol_size: 64,
            source_blocks: blocks,
            sub_blocks: 1,
            alignment: 8,
        });
        let parameters = PlanParameters {
            repair_per_block: repair,
            segment_symbols: segment,
            table_repair,
            table_symbol_bytes: 64,
        };
        Schedule::new(PlanShape::new(oti.unwrap(), parameters).unwrap())
    }

    fn pass(schedule: &Schedule) -> Vec<Record> {
        (0..u32::from(schedule.shape().segments()))
            .flat_map(|segment| {
                let mut cursor = Cursor::start_of(Sbn(segment));
                std::iter::from_fn(move || schedule.next(&mut cursor))
            })
            .collect()
    }

    /// Every record lies where the one before it ends.
    fn assert_dense(schedule: &Schedule) {
        let mut offset = HEAD_OCTETS;
        for record in pass(schedule) {
            assert_eq!(schedule.offset(record), Some(offset), "{record:?}");
            offset += match record {
                Record::Data { .. } => schedule.data_octets(),
                Record::Table { .. } => schedule.table_octets(),
            };
        }
        assert_eq!(offset, schedule.file_octets());
    }

    #[test]
    fn tables_travel_evenly_over_the_segment_before_theirs() {
        let schedule = schedule(64 * 100, 2, 50, 40, 6);
        // Kseg = 10, n = 16; L = 200, Y = 5.
        let records = pass(&schedule);
        let first: Vec<_> = records.iter().take(56).collect();
        let is_table = |record: &Record| matches!(record, Record::Table { .. });
        for quarter in first.chunks(14) {
            assert_eq!(quarter.iter().filter(|record| is_table(record)).count(), 4);
        }
        assert!(is_table(first[55]));
        let last = records.last();
        assert_eq!(last, Some(&Record::Table { segment: Sbn(0), esi: Esi(15) }));
    }

    #[test]
    fn every_symbol_of_a_pass_is_sent_once() {
        let schedule = schedule(64 * 13, 3, 5, 4, 1);
        let records = pass(&schedule);
        let shape = schedule.shape();
        let data = records.iter().filter_map(|record| match record {
            Record::Data { sbn, esi } => shape.index_of(*sbn, *esi),
            Record::Table { .. } => None,
        });
        assert!(data.eq(0..shape.leaves()));
        let tables = records.iter().filter_map(|record| match record {
            Record::Table { segment, esi } => shape.table_index(*segment, *esi),
            Record::Data { .. } => None,
        });
        assert_eq!(tables.collect::<std::collections::BTreeSet<_>>().len(), 14);
        assert_dense(&schedule);
    }

    #[test]
    fn a_plan_of_one_segment_announces_itself() {
        let schedule = schedule(64, 1, 0, 1, 2);
        assert_dense(&schedule);
        let records = pass(&schedule);
        assert_eq!(records[0], Record::Data { sbn: Sbn(0), esi: Esi(0) });
        assert_eq!(records.len(), 4);
        assert_eq!(schedule.announcer_of(Sbn(0)), Sbn(0));
    }

    #[test]
    fn what_the_plan_does_not_hold_has_no_offset() {
        let schedule = schedule(64 * 13, 3, 5, 4, 1);
        assert_eq!(schedule.offset(Record::Data { sbn: Sbn(1), esi: Esi(9) }), None);
        assert_eq!(schedule.offset(Record::Data { sbn: Sbn(3), esi: Esi(0) }), None);
        assert_eq!(schedule.offset(Record::Table { segment: Sbn(7), esi: Esi(0) }), None);
        assert_eq!(schedule.offset(Record::Table { segment: Sbn(0), esi: Esi(2) }), None);
    }

    proptest! {
        #[test]
        fn records_lie_without_gap_in_sending_order(
            symbols in 1_u64..300, blocks in 1_u8..8, repair in 0_u32..40,
            segment in 4_u32..100, table_repair in 0_u16..9,
        ) {
            let blocks = blocks.min(u8::try_from(symbols).unwrap_or(u8::MAX));
            let schedule = schedule(64 * symbols, blocks, repair, segment, table_repair);
            assert_dense(&schedule);
        }
    }
}
