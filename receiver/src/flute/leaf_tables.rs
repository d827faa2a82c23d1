//! The leaf tables of the segments in flight: the leaf that each symbol must have.

use std::collections::BTreeMap;

use proto::{
    crypto::Hash16,
    fec::{codec::BlockDecoder as _, raptorq_crate::Decoder},
    ids::{Esi, Sbn},
    trust::plan::{PlanShape, leaves_of_table},
};

/// Segments whose tables are stored however large they are: 1 MiB each at most.
const MIN_SEGMENTS: usize = 4;

/// Octets of tables up to which those of more segments are stored.
const MAX_TABLE_BYTES: usize = 4 << 20;

/// Segments whose tables are stored when they are small: the one that is received, those whose
/// tables are interleaved with it, and as many again for each further image server that airs the
/// plan from another position.
const MAX_SEGMENTS: usize = 16;

/// The leaf tables of one object. Only authentic table symbols are inserted.
#[derive(Debug)]
pub struct LeafTables {
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
    Collecting { decoder: Box<Decoder>, held: Vec<bool>, held_symbols: u32 },
    Decoded(Vec<Hash16>),
}

/// The outcome of an authentic table symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableInsert {
    /// More symbols are needed.
    Collecting,
    /// The leaves of the segment are known.
    Decoded,
}

impl LeafTables {
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
            Some(Table::Decoded(_)) => false,
            Some(Table::Collecting { held, .. }) => !is_held(held, esi),
        }
    }

    /// Inserts an authentic table symbol that [`Self::wants`].
    ///
    /// Decodes the table inline once it can be: at most 863 small symbols.
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
                held_symbols: 0,
            };
            self.segments.insert(segment, Segment { last_use: clock, table });
        }
        let Some(entry) = self.segments.get_mut(&segment) else { return TableInsert::Collecting };
        entry.last_use = clock;
        let known = entry.table.insert(&self.shape, segment, esi, symbol);
        match known {
            Some(leaves) => {
                entry.table = Table::Decoded(leaves);
                TableInsert::Decoded
            }
            None => TableInsert::Collecting,
        }
    }

    /// Returns the leaf at a place of the plan, when the table of its segment is known.
    pub fn leaf(&mut self, segment: Sbn, index: u64) -> Option<Hash16> {
        let start = self.shape.segment(segment)?.start;
        let entry = self.segments.get_mut(&segment)?;
        let Table::Decoded(leaves) = &entry.table else { return None };
        self.clock += 1;
        entry.last_use = self.clock;
        leaves.get(usize::try_from(index.checked_sub(start)?).ok()?).copied()
    }

    fn make_room(&mut self) {
        while self.segments.len() >= kept_segments(&self.shape) {
            let oldest = self.segments.iter().min_by_key(|(_, segment)| segment.last_use);
            let Some((&oldest, _)) = oldest else { return };
            self.segments.remove(&oldest);
        }
    }
}

/// Returns the number of segments whose tables are stored.
#[must_use]
pub fn kept_segments(shape: &PlanShape) -> usize {
    (MAX_TABLE_BYTES / shape.table_bytes().max(1)).clamp(MIN_SEGMENTS, MAX_SEGMENTS)
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
        let Self::Collecting { decoder, held, held_symbols } = self else { return None };
        let slot = held.get_mut(usize::try_from(esi.0).ok()?).filter(|held| !**held)?;
        *slot = true;
        *held_symbols += 1;
        decoder.push(esi, symbol);
        // With Kseg symbols one decoding in a hundred fails; each further symbol triggers another.
        if *held_symbols < u32::from(shape.table_source_symbols()) {
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
