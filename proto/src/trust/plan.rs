//! The hash plan: all symbols of an object in sending order, hashed before the window.
//!
//! ```text
//! symbols in plan order:  row by row over all source blocks, index i = e·Z + b
//!   leaf(i) = H16(0x00 ‖ object key ‖ SBN ‖ ESI ‖ symbol)
//! segment s:  S leaves in a row = one source block of the table object, RaptorQ-coded
//!   node(m) = H16(0x02 ‖ object key ‖ SBN ‖ ESI ‖ table symbol)
//! tree over all nodes -> cap (one level of it) -> plan header -> plan root, in the campaign
//! ```
//!
//! This is format 1, and it is frozen: the vectors in the tests of this module hold its octets, and
//! a change is another number in the plan header. The order of sending, the length of segments and
//! the number of repair symbols are the maker's choice; receivers accept any.
//!
//! Integers are big-endian. `H16` is the first 16 octets of SHA-256.

pub(super) mod hashes;
mod header;
mod shape;
mod tree;

pub use hashes::{leaf, object_key, plan_root, table_node};
pub use header::{MAX_HEADER_BYTES, PlanHeader};
pub use shape::{PlanParameters, PlanShape, TABLE_SYMBOL_BYTES};
pub use tree::{NodeTree, TableProof};

use crate::{
    crypto::Hash16,
    fec::{codec::BlockEncoder as _, raptorq_crate::Encoder},
    ids::Sbn,
};

/// Returns the Kseg + Rt table symbols of `segment`, whose leaves are given in plan order.
///
/// `None` when the number of leaves is not that of the segment.
#[must_use]
pub fn table_symbols(shape: &PlanShape, segment: Sbn, leaves: &[Hash16]) -> Option<Vec<Vec<u8>>> {
    let range = shape.segment(segment)?;
    if u64::try_from(leaves.len()).ok()? != range.end - range.start {
        return None;
    }
    let mut source: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.0).collect();
    source.resize(shape.table_bytes(), 0);
    let encoder = Encoder::new(shape.table_oti(), segment, &source)?;
    let mut symbols = Vec::new();
    encoder.for_each_symbol(0..shape.table_symbols_per_segment(), &mut |_, symbol| {
        symbols.push(symbol.to_vec());
    });
    Some(symbols)
}

/// Splits a decoded table into the leaves of its segment.
pub fn leaves_of_table(table: &[u8]) -> impl Iterator<Item = Hash16> {
    table.as_chunks::<{ Hash16::LEN }>().0.iter().map(|leaf| Hash16(*leaf))
}

#[cfg(test)]
mod tests;
