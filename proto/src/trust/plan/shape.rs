//! The shape of a plan: the position of each symbol, computed from the object's parameters.

use std::ops::Range;

use crate::{
    fec::{
        oti::{RaptorQOti, RaptorQParameters},
        partition::Partition,
    },
    ids::{Esi, Sbn},
    wire::WireError,
};

/// Tt by default, octets: a table packet with its path stays below 1,452 octets.
pub const TABLE_SYMBOL_BYTES: u16 = 1216;

/// The parameters that the maker of a plan chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanParameters {
    /// R, repair symbols of each source block.
    pub repair_per_block: u32,
    /// S, symbols of a segment, 1..=65,536.
    pub segment_symbols: u32,
    /// Rt, repair symbols of each segment's table.
    pub table_repair: u16,
    /// Tt, octets of a table symbol, 64..=1,216, a multiple of 8.
    pub table_symbol_bytes: u16,
}

/// The position of each symbol of one object in its plan. A value that exists is consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanShape {
    oti: RaptorQOti,
    partition: Partition,
    parameters: PlanParameters,
    /// Source blocks.
    blocks: u64,
    /// Octets of a data symbol.
    symbol_bytes: usize,
    leaves: u64,
    segments: u8,
    table_source: u16,
    table_oti: RaptorQOti,
}

impl PlanShape {
    /// Checks the parameters of a plan against each other and the limits.
    ///
    /// # Errors
    ///
    /// [`WireError::Invalid`] that names the parameter that leaves its range.
    pub fn new(oti: RaptorQOti, parameters: PlanParameters) -> Result<Self, WireError> {
        let partition = oti.partition();
        let blocks = u64::from(oti.parameters().source_blocks);
        let leaves =
            u64::from(oti.total_symbols()) + blocks * u64::from(parameters.repair_per_block);
        let segment = u64::from(parameters.segment_symbols);
        if !(1..=MAX_SEGMENT_SYMBOLS).contains(&segment) {
            return Err(WireError::invalid("S", segment, "1 to 65536"));
        }
        let segments = u8::try_from(leaves.div_ceil(segment))
            .map_err(|_| WireError::invalid("Y", leaves.div_ceil(segment), "at most 255"))?;
        let size = parameters.table_symbol_bytes;
        if !(64..=TABLE_SYMBOL_BYTES).contains(&size) {
            return Err(WireError::invalid("Tt", size, "64 to 1216"));
        }
        let table_source = u16::try_from((16 * segment).div_ceil(u64::from(size)))
            .ok()
            .filter(|source| {
                source.checked_add(parameters.table_repair).is_some_and(|n| n <= MAX_TABLE_SYMBOLS)
            })
            .ok_or_else(|| {
                WireError::invalid("Rt", parameters.table_repair, "Kseg + Rt up to 8192")
            })?;
        let table_oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: u64::from(segments) * u64::from(table_source) * u64::from(size),
            symbol_size: size,
            source_blocks: segments,
            sub_blocks: 1,
            alignment: 8,
        })
        .map_err(|_| WireError::invalid("Tt", size, "a multiple of 8"))?;
        let symbol_bytes = usize::from(oti.parameters().symbol_size);
        let shape = Self {
            oti,
            partition,
            parameters,
            blocks,
            symbol_bytes,
            leaves,
            segments,
            table_source,
            table_oti,
        };
        if shape.proof_depth() > MAX_PROOF_DEPTH {
            return Err(WireError::invalid("d - c", shape.proof_depth(), "at most 11"));
        }
        Ok(shape)
    }

    /// Chooses segments and table repair for a loss budget: within it a segment's table arrives
    /// with a probability of 99.5 % or more when each packet is lost by itself, and when packets
    /// are lost in long bursts as far as 3 % of all packets allow.
    ///
    /// # Units
    ///
    /// `loss_percent`: 0..=90.
    ///
    /// # Errors
    ///
    /// [`WireError::Invalid`] that names the parameter that leaves its range.
    pub fn for_loss(
        oti: RaptorQOti,
        repair_per_block: u32,
        loss_percent: u8,
    ) -> Result<Self, WireError> {
        if loss_percent > 90 {
            return Err(WireError::invalid("loss budget", loss_percent, "0 to 90 percent"));
        }
        let leaves = u64::from(oti.total_symbols())
            + u64::from(oti.parameters().source_blocks) * u64::from(repair_per_block);
        let segment = (leaves / 64).clamp(1024, MAX_SEGMENT_SYMBOLS).min(leaves.max(1));
        let source = (16 * segment).div_ceil(u64::from(TABLE_SYMBOL_BYTES));
        let needed = u32::try_from(source + 2).unwrap_or(u32::MAX);
        let loss = f64::from(loss_percent) / 100.0;
        let segments = leaves.div_ceil(segment).max(1);
        let affordable = u32::try_from(3 * leaves / (97 * segments)).unwrap_or(u32::MAX);
        let bursty = symbols_for_bursts(needed, loss, segment).min(affordable);
        let repair = u64::from(symbols_to_send(needed, loss).max(bursty)) - source;
        Self::new(
            oti,
            PlanParameters {
                repair_per_block,
                segment_symbols: u32::try_from(segment).unwrap_or(u32::MAX),
                table_repair: u16::try_from(repair).unwrap_or(u16::MAX),
                table_symbol_bytes: TABLE_SYMBOL_BYTES,
            },
        )
    }

    /// Returns the object's FEC parameters.
    #[must_use]
    pub const fn oti(&self) -> &RaptorQOti {
        &self.oti
    }

    /// Returns the partition of the object into source blocks.
    #[must_use]
    pub const fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Returns the parameters that the maker of the plan chose.
    #[must_use]
    pub const fn parameters(&self) -> PlanParameters {
        self.parameters
    }

    /// Returns the octets of a data symbol.
    #[must_use]
    pub const fn symbol_bytes(&self) -> usize {
        self.symbol_bytes
    }

    /// Returns L, the number of data symbols of a pass.
    #[must_use]
    pub const fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Returns Y, the number of segments, 1..=255.
    #[must_use]
    pub const fn segments(&self) -> u8 {
        self.segments
    }

    /// Returns Kseg, the number of source symbols of a segment's table.
    #[must_use]
    pub const fn table_source_symbols(&self) -> u16 {
        self.table_source
    }

    /// Returns Kseg + Rt, the number of table symbols of each segment.
    #[must_use]
    pub fn table_symbols_per_segment(&self) -> u32 {
        u32::from(self.table_source) + u32::from(self.parameters.table_repair)
    }

    /// Returns M, the number of table symbols of all segments.
    #[must_use]
    pub fn table_symbols(&self) -> u32 {
        u32::from(self.segments) * self.table_symbols_per_segment()
    }

    /// Returns the octets of one decoded table, padding included.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        usize::from(self.table_source) * usize::from(self.parameters.table_symbol_bytes)
    }

    /// Returns the FEC parameters of the table object.
    #[must_use]
    pub const fn table_oti(&self) -> &RaptorQOti {
        &self.table_oti
    }

    /// Returns d, the depth of the tree over all table symbols.
    #[must_use]
    pub fn tree_depth(&self) -> u8 {
        let depth = self.table_symbols().next_power_of_two().trailing_zeros();
        u8::try_from(depth).unwrap_or(u8::MAX)
    }

    /// Returns c: the cap has 2^c nodes.
    #[must_use]
    pub fn cap_depth(&self) -> u8 {
        self.tree_depth().min(6)
    }

    /// Returns d − c, the number of siblings that a table packet carries.
    #[must_use]
    pub fn proof_depth(&self) -> u8 {
        self.tree_depth() - self.cap_depth()
    }

    /// Returns the place of a symbol in the plan; `None` when the plan does not hold it.
    #[must_use]
    pub fn index_of(&self, sbn: Sbn, esi: Esi) -> Option<u64> {
        // The larger blocks are the first ones, so their last symbols are the last row.
        let index = u64::from(esi.0) * self.blocks + u64::from(sbn.0);
        (u64::from(sbn.0) < self.blocks && index < self.leaves).then_some(index)
    }

    /// Returns the symbol at a place of the plan; `None` beyond its end.
    #[must_use]
    pub fn symbol_at(&self, index: u64) -> Option<(Sbn, Esi)> {
        if index >= self.leaves {
            return None;
        }
        let sbn = u32::try_from(index % self.blocks).ok()?;
        let esi = u32::try_from(index / self.blocks).ok()?;
        Some((Sbn(sbn), Esi(esi)))
    }

    /// Returns the segment that a place of the plan belongs to.
    #[must_use]
    pub fn segment_of(&self, index: u64) -> Option<Sbn> {
        if index >= self.leaves {
            return None;
        }
        u32::try_from(index / u64::from(self.parameters.segment_symbols)).ok().map(Sbn)
    }

    /// Returns the places of a segment; `None` when there is no such segment.
    #[must_use]
    pub fn segment(&self, segment: Sbn) -> Option<Range<u64>> {
        if segment.0 >= u32::from(self.segments) {
            return None;
        }
        let size = u64::from(self.parameters.segment_symbols);
        let start = u64::from(segment.0) * size;
        Some(start..(start + size).min(self.leaves))
    }

    /// Returns m, the index of a table symbol; `None` when the plan does not hold it.
    #[must_use]
    pub fn table_index(&self, segment: Sbn, esi: Esi) -> Option<u32> {
        let per_segment = self.table_symbols_per_segment();
        let held = segment.0 < u32::from(self.segments) && esi.0 < per_segment;
        held.then_some(segment.0 * per_segment + esi.0)
    }
}

/// Returns the smallest n with P(Binomial(n, 1 − loss) ≥ `needed`) ≥ 0.995.
pub(super) fn symbols_to_send(needed: u32, loss: f64) -> u32 {
    (needed..u32::from(MAX_TABLE_SYMBOLS))
        .find(|sent| arrives_with(*sent, needed, loss) >= 0.995)
        .unwrap_or(u32::from(MAX_TABLE_SYMBOLS))
}

/// Returns the smallest n of which `needed` arrive with 99.5 % when loss occurs in bursts of 128
/// packets in the mean, by the normal approximation.
///
/// A table travels over 4,096 packets or more. What is lost of N packets in bursts of B varies by
/// q·(1 − q)·2·B·(1 − q) / N around q.
fn symbols_for_bursts(needed: u32, loss: f64, segment: u64) -> u32 {
    const BURST_PACKETS: f64 = 128.0;
    let packets = f64::from(u32::try_from(segment).unwrap_or(u32::MAX)).max(4096.0);
    let each = loss * (1.0 - loss);
    let of_bursts = each * 2.0 * BURST_PACKETS * (1.0 - loss) / packets;
    let arrive = |sent: u32| {
        let sent = f64::from(sent);
        sent * (1.0 - loss) - 2.576 * (sent * sent * of_bursts + sent * each).sqrt()
    };
    (needed..u32::from(MAX_TABLE_SYMBOLS))
        .find(|sent| arrive(*sent) >= f64::from(needed))
        .unwrap_or(u32::from(MAX_TABLE_SYMBOLS))
}

/// Returns P(Binomial(sent, 1 − loss) ≥ needed), by the sum of the tail that misses.
pub(super) fn arrives_with(sent: u32, needed: u32, loss: f64) -> f64 {
    if loss == 0.0 {
        return 1.0;
    }
    let arrive = 1.0 - loss;
    // ln P(X = k) from ln P(X = k − 1), because the powers themselves underflow.
    let mut log_term = f64::from(sent) * loss.ln();
    let mut below = log_term.exp();
    for k in 1..needed {
        log_term += ((f64::from(sent - k + 1) / f64::from(k)) * (arrive / loss)).ln();
        below += log_term.exp();
    }
    1.0 - below
}

const MAX_SEGMENT_SYMBOLS: u64 = 65_536;
const MAX_TABLE_SYMBOLS: u16 = 8192;
const MAX_PROOF_DEPTH: u8 = 11;
