//! The sending order of the records of a plan, and their offsets in the plan file.
//!
//! ```text
//! segment s:  S data symbols, and spread over all of them as many table symbols as a table has:
//!             in turn of the segments s, s + 1 and s + 2 mod Y; of s + 1 alone from S = 4,096 on
//! file:       head | segment 0 | segment 1 | …          in sending order, nothing between records
//! data:       payload id (4) | symbol (T)
//! table:      EXT_AUTH with the path | payload id (4) | table symbol (Tt)
//! ```
//!
//! A record is what follows the LCT header of its packet, so that the sender copies and never
//! computes. Every offset follows from the plan's shape.
//!
//! A table travels over 4,096 packets or about as many, because loss comes in bursts: over a single
//! segment of 1,490 symbols, at the budget of 30 % in bursts of 128 packets, 10 % of the symbols
//! find no table, over three segments below 1 % (`cargo bench-tables`). Most of it goes before the
//! first symbol of its own segment, so that few symbols wait; the last third comes with them, so
//! that a device that tunes in late waits no longer for its first table than if it travelled over
//! one segment.

use proto::{
    flute::alc::PayloadId,
    ids::{Esi, Sbn},
    trust::plan::PlanShape,
};

/// Octets before the first record of a plan file.
pub const HEAD_BYTES: u64 = 4096;

/// Data symbols over which a table travels at least, unless [`MAX_HOST_SEGMENTS`] segments have
/// fewer.
const TABLE_SPAN_SYMBOLS: u32 = 4096;

/// Segments that hold symbols of one table at most.
const MAX_HOST_SEGMENTS: u32 = 3;

/// The sending order and the offsets of the records of one plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    shape: PlanShape,
    hosts: HostSegments,
    data_bytes: u64,
    table_bytes: u64,
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

/// The segments that carry the symbols of a table: `count` in a row, the last of which is `ahead`
/// segments before its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HostSegments {
    count: u32,
    ahead: u32,
}

impl HostSegments {
    fn of(shape: &PlanShape) -> Self {
        if shape.parameters().segment_symbols >= TABLE_SPAN_SYMBOLS {
            return Self { count: 1, ahead: 1 };
        }
        Self { count: MAX_HOST_SEGMENTS.min(shape.segments().into()), ahead: 0 }
    }
}

/// A position within a pass: the next record in sending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The segment that is being sent.
    pub segment: Sbn,
    /// Data symbols of the segment that were sent.
    pub data: u32,
    /// Table symbols that were sent with them.
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
            hosts: HostSegments::of(&shape),
            data_bytes: id + u64::from(shape.oti().parameters().symbol_size),
            table_bytes: Self::auth_bytes_of(&shape)
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
    pub const fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Returns the octets of a table record.
    #[must_use]
    pub const fn table_bytes(&self) -> u64 {
        self.table_bytes
    }

    /// Returns the octets of the EXT_AUTH that a table record starts with.
    #[must_use]
    pub fn auth_bytes(&self) -> u64 {
        Self::auth_bytes_of(&self.shape)
    }

    fn auth_bytes_of(shape: &PlanShape) -> u64 {
        8 + 16 * u64::from(shape.proof_depth())
    }

    /// Returns the octets of a whole plan file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        HEAD_BYTES
            + self.shape.leaves() * self.data_bytes
            + u64::from(self.shape.table_symbols()) * self.table_bytes
    }

    /// Returns the number of data symbols of a segment; zero when there is no such segment.
    #[must_use]
    pub fn segment_symbols(&self, segment: Sbn) -> u32 {
        let range = self.shape.segment(segment).unwrap_or(0..0);
        u32::try_from(range.end - range.start).expect("a segment has at most 65,536 symbols")
    }

    /// Returns the segment that is sent after `segment`.
    #[must_use]
    pub fn following(&self, segment: Sbn) -> Sbn {
        self.later(segment, 1)
    }

    fn later(&self, Sbn(segment): Sbn, distance: u32) -> Sbn {
        Sbn((segment + distance) % u32::from(self.shape.segments()))
    }

    fn earlier(&self, Sbn(segment): Sbn, distance: u32) -> Sbn {
        let segments = u32::from(self.shape.segments());
        Sbn((segment + segments - distance % segments) % segments)
    }

    /// Returns the number of symbols of a table in its host number `turn`; the last one is 0.
    fn share_of(&self, turn: u32) -> u32 {
        (self.shape.table_symbols_per_segment() + self.hosts.count - 1 - turn) / self.hosts.count
    }

    /// Returns the number of symbols of a table in the hosts before number `turn`.
    fn interleaved_before(&self, turn: u32) -> u32 {
        (turn + 1..self.hosts.count).map(|earlier| self.share_of(earlier)).sum()
    }

    /// Returns the table symbol that `segment` carries at `position` of its table symbols.
    fn interleaved_at(&self, segment: Sbn, position: u32) -> Record {
        let turn = position % self.hosts.count;
        let esi = self.interleaved_before(turn) + position / self.hosts.count;
        let segment = self.later(segment, self.hosts.ahead + turn);
        Record::Table { segment, esi: Esi(esi) }
    }

    /// Returns the segment that carries a table symbol, and its position there.
    fn host_segment(&self, segment: Sbn, esi: Esi) -> Option<(Sbn, u32)> {
        (0..self.hosts.count).find_map(|turn| {
            let nth = esi.0.checked_sub(self.interleaved_before(turn))?;
            let host = self.earlier(segment, self.hosts.ahead + turn);
            Some((host, nth * self.hosts.count + turn))
        })
    }

    /// Returns what a session that begins with `segment` must send ahead of it: the whole table of
    /// it, and of those after it what was to travel with the segments that are left out.
    pub fn session_preamble(&self, segment: Sbn) -> impl Iterator<Item = (Sbn, Esi)> + use<> {
        let first = (segment, self.shape.table_symbols_per_segment());
        let HostSegments { count, ahead } = self.hosts;
        let partial = (0..count)
            .filter(|turn| ahead + turn > 0)
            .map(|turn| (self.later(segment, ahead + turn), self.interleaved_before(turn)));
        let all: Vec<_> = std::iter::once(first).chain(partial).collect();
        all.into_iter()
            .flat_map(|(segment, symbols)| (0..symbols).map(move |esi| (segment, Esi(esi))))
    }

    /// Returns the number of table symbols before data symbol `data` of a segment.
    fn tables_before(&self, segment: Sbn, data: u32) -> u32 {
        let symbols = self.segment_symbols(segment).max(1);
        let tables = u64::from(self.shape.table_symbols_per_segment());
        let gone = tables * u64::from(data.min(symbols)) / u64::from(symbols);
        u32::try_from(gone).expect("at most 8,192 table symbols")
    }

    /// Returns the number of data symbols of its segment before table symbol `table`.
    fn data_before(&self, segment: Sbn, table: u32) -> u32 {
        let symbols = u64::from(self.segment_symbols(segment));
        let tables = u64::from(self.shape.table_symbols_per_segment());
        let gone = (u64::from(table + 1) * symbols).div_ceil(tables);
        u32::try_from(gone).expect("a segment has at most 65,536 symbols")
    }

    fn segment_offset(&self, segment: Sbn) -> u64 {
        let data = u64::from(segment.0) * u64::from(self.shape.parameters().segment_symbols);
        let tables = u64::from(segment.0) * u64::from(self.shape.table_symbols_per_segment());
        HEAD_BYTES + data * self.data_bytes + tables * self.table_bytes
    }

    /// Returns the offset of a record in the plan file; `None` when the plan does not hold it.
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
                let (host, position) = self.host_segment(segment, esi)?;
                Some(self.within(host, self.data_before(host, position), position))
            }
        }
    }

    fn within(&self, segment: Sbn, data: u32, tables: u32) -> u64 {
        self.segment_offset(segment)
            + u64::from(data) * self.data_bytes
            + u64::from(tables) * self.table_bytes
    }

    /// Returns the record at a cursor and moves the cursor on; `None` at the end of the segment.
    pub fn next(&self, cursor: &mut Cursor) -> Option<Record> {
        if cursor.tables < self.tables_before(cursor.segment, cursor.data) {
            let record = self.interleaved_at(cursor.segment, cursor.tables);
            cursor.tables += 1;
            return Some(record);
        }
        if cursor.data >= self.segment_symbols(cursor.segment) {
            return None;
        }
        let (sbn, esi) = self.shape.symbol_at(self.symbol_index(*cursor))?;
        cursor.data += 1;
        Some(Record::Data { sbn, esi })
    }

    /// Returns the index of the next data symbol at a cursor.
    #[must_use]
    pub fn symbol_index(&self, cursor: Cursor) -> u64 {
        u64::from(cursor.segment.0) * u64::from(self.shape.parameters().segment_symbols)
            + u64::from(cursor.data)
    }

    /// Returns the UDP payload octets of one pass, without FDT and repeated headers.
    #[must_use]
    pub fn pass_bytes(&self) -> u64 {
        let packets = self.shape.leaves() + u64::from(self.shape.table_symbols());
        self.file_bytes() - HEAD_BYTES + packets * LCT_BYTES
    }
}

/// Octets of the LCT header with TSI and TOI of 32 bits, without extensions.
pub const LCT_BYTES: u64 = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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

    /// Every record begins at the end of the one before it.
    fn assert_dense(schedule: &Schedule) {
        let mut offset = HEAD_BYTES;
        for record in pass(schedule) {
            assert_eq!(schedule.offset(record), Some(offset), "{record:?}");
            offset += match record {
                Record::Data { .. } => schedule.data_bytes(),
                Record::Table { .. } => schedule.table_bytes(),
            };
        }
        assert_eq!(offset, schedule.file_bytes());
    }

    fn is_table(record: &Record) -> bool {
        matches!(record, Record::Table { .. })
    }

    #[test]
    fn tables_travel_evenly_over_three_segments_up_to_their_own() {
        let schedule = schedule(64 * 100, 2, 50, 40, 6);
        // Kseg = 10, n = 16; L = 200, Y = 5.
        let records = pass(&schedule);
        for segment in records.chunks(56) {
            for quarter in segment.chunks(14) {
                assert_eq!(quarter.iter().filter(|record| is_table(record)).count(), 4);
            }
            assert!(is_table(&segment[55]));
        }
        let hosts = |of: u32| -> Vec<(usize, u32)> {
            let host = |(at, record): (usize, &Record)| match record {
                Record::Table { segment, esi } if segment.0 == of => Some((at / 56, esi.0)),
                Record::Table { .. } | Record::Data { .. } => None,
            };
            records.iter().enumerate().filter_map(host).collect()
        };
        let expected: Vec<_> =
            (0..16).map(|esi| (1 + usize::from(esi > 4) + usize::from(esi > 9), esi)).collect();
        assert_eq!(hosts(3), expected);
        // That of the first segment begins in the two last ones of the pass before.
        let (own, before): (Vec<_>, Vec<_>) = hosts(0).into_iter().partition(|(at, _)| *at == 0);
        assert!(own.iter().map(|(_, esi)| *esi).eq(10..16));
        assert!(before.iter().map(|(_, esi)| *esi).eq(0..10));
    }

    #[test]
    fn the_tables_of_long_segments_travel_over_the_one_before_theirs() {
        let schedule = schedule(64 * 10_000, 2, 0, 4096, 0);
        let segment = Sbn(1);
        let mut cursor = Cursor::start_of(segment);
        let records = std::iter::from_fn(|| schedule.next(&mut cursor));
        let tables = records.filter(is_table).zip(0..);
        for (record, esi) in tables {
            assert_eq!(record, Record::Table { segment: Sbn(2), esi: Esi(esi) });
        }
    }

    #[test]
    fn a_session_that_begins_somewhere_sends_ahead_what_it_leaves_out() {
        for (segment_symbols, length) in [(40, 100), (40, 3), (60, 60), (4096, 10_000)] {
            let schedule = schedule(64 * length, 2, 50, segment_symbols, 6);
            let segments = u32::from(schedule.shape().segments());
            for from in (0..segments).map(Sbn) {
                let mut sent: BTreeSet<_> = schedule.session_preamble(from).collect();
                for segment in (from.0..from.0 + segments).map(|segment| Sbn(segment % segments)) {
                    let mut cursor = Cursor::start_of(segment);
                    while let Some(record) = schedule.next(&mut cursor) {
                        let Record::Table { segment, esi } = record else { continue };
                        sent.insert((segment, esi));
                    }
                    let table = sent.range((segment, Esi(0))..=(segment, Esi(u32::MAX)));
                    let whole = usize::try_from(schedule.shape().table_symbols_per_segment());
                    assert_eq!(Ok(table.count()), whole, "{segment:?} after {from:?}");
                }
            }
        }
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
        assert_eq!(tables.collect::<BTreeSet<_>>().len(), 14);
        assert_dense(&schedule);
    }

    #[test]
    fn a_plan_of_one_segment_announces_itself() {
        let schedule = schedule(64, 1, 0, 1, 2);
        assert_dense(&schedule);
        let records = pass(&schedule);
        assert_eq!(records[0], Record::Data { sbn: Sbn(0), esi: Esi(0) });
        assert_eq!(records.len(), 4);
        assert_eq!(schedule.following(Sbn(0)), Sbn(0));
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
