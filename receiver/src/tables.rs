//! Symbol tables of the segments in flight: which leaf each symbol must have.

use std::collections::BTreeMap;

use proto::{
    crypto::Hash16,
    fec::{codec::BlockDecoder as _, raptorq_crate::Decoder},
    ids::{Esi, Sbn},
    trust::plan::{PlanShape, leaves_of_table},
};

/// Segments whose tables are kept: one that is heard, the next, and two that overlap with them
/// when several image servers air the plan from different places.
const MAX_SEGMENTS: usize = 4;

/// Symbols beyond Kseg that make a failed solve a matter of one in 10^6.
const SPARE_SYMBOLS: u32 = 2;

/// The tables of one object. Takes authentic table symbols only.
#[derive(Debug)]
pub struct Tables {
    shape: PlanShape,
    segments: BTreeMap<Sbn, Segment>,
    /// Counts the uses, so that the segment used least recently can go.
    clock: u64,
}

#[derive(Debug)]
struct Segment {
    last_use: u64,
    table: Table,
}

#[derive(Debug)]
enum Table {
    Collecting { decoder: Box<Decoder>, held: Vec<bool>, source_held: u32, total_held: u32 },
    Known(Vec<Hash16>),
}

/// What an authentic table symbol led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableInsert {
    /// More symbols are wanted.
    Collecting,
    /// The leaves of the segment are known.
    Known,
}

impl Tables {
    /// Starts without any table.
    #[must_use]
    pub const fn new(shape: PlanShape) -> Self {
        Self { shape, segments: BTreeMap::new(), clock: 0 }
    }

    /// Returns whether a table symbol is worth the hashes that prove it.
    #[must_use]
    pub fn wants(&self, segment: Sbn, esi: Esi) -> bool {
        match self.segments.get(&segment).map(|segment| &segment.table) {
            None => true,
            Some(Table::Known(_)) => false,
            Some(Table::Collecting { held, .. }) => !is_held(held, esi),
        }
    }

    /// Takes an authentic table symbol that [`Self::wants`] asked for.
    ///
    /// Solves the table inline once it can be: at most 863 small symbols.
    pub fn insert(&mut self, segment: Sbn, esi: Esi, symbol: &[u8]) -> TableInsert {
        self.clock += 1;
        let clock = self.clock;
        if !self.segments.contains_key(&segment) {
            self.make_room();
            let Some(decoder) = Decoder::new(self.shape.table_oti(), segment) else {
                return TableInsert::Collecting;
            };
            let symbols = self.shape.table_symbols_per_segment();
            let table = Table::Collecting {
                decoder: Box::new(decoder),
                held: vec![false; usize::try_from(symbols).unwrap_or_default()],
                source_held: 0,
                total_held: 0,
            };
            self.segments.insert(segment, Segment { last_use: clock, table });
        }
        let Some(entry) = self.segments.get_mut(&segment) else { return TableInsert::Collecting };
        entry.last_use = clock;
        let known = entry.table.insert(&self.shape, segment, esi, symbol);
        match known {
            Some(leaves) => {
                entry.table = Table::Known(leaves);
                TableInsert::Known
            }
            None => TableInsert::Collecting,
        }
    }

    /// Returns the leaf at a place of the plan, when the table of its segment is known.
    pub fn leaf(&mut self, segment: Sbn, index: u64) -> Option<Hash16> {
        let start = self.shape.segment(segment)?.start;
        let entry = self.segments.get_mut(&segment)?;
        let Table::Known(leaves) = &entry.table else { return None };
        self.clock += 1;
        entry.last_use = self.clock;
        leaves.get(usize::try_from(index.checked_sub(start)?).ok()?).copied()
    }

    fn make_room(&mut self) {
        while self.segments.len() >= MAX_SEGMENTS {
            let oldest = self.segments.iter().min_by_key(|(_, segment)| segment.last_use);
            let Some((&oldest, _)) = oldest else { return };
            self.segments.remove(&oldest);
        }
    }
}

impl Table {
    /// Returns the leaves once they are known.
    fn insert(
        &mut self,
        shape: &PlanShape,
        segment: Sbn,
        esi: Esi,
        symbol: &[u8],
    ) -> Option<Vec<Hash16>> {
        let Self::Collecting { decoder, held, source_held, total_held } = self else { return None };
        let slot = held.get_mut(usize::try_from(esi.0).ok()?).filter(|held| !**held)?;
        *slot = true;
        let source = u32::from(shape.table_source_symbols());
        *total_held += 1;
        *source_held += u32::from(esi.0 < source);
        decoder.push(esi, symbol);
        if *source_held < source && *total_held < source + SPARE_SYMBOLS {
            return None;
        }
        let range = shape.segment(segment)?;
        let leaves = usize::try_from(range.end - range.start).ok()?;
        let table = decoder.decode()?;
        Some(leaves_of_table(&table).take(leaves).collect())
    }
}

fn is_held(held: &[bool], esi: Esi) -> bool {
    usize::try_from(esi.0).ok().and_then(|at| held.get(at)).copied().unwrap_or(true)
}
