//! The interface of every codec for one source block.

use std::ops::Range;

use crate::ids::Esi;

/// Makes the symbols of one source block.
pub trait BlockEncoder {
    /// Returns K, the number of source symbols of the block.
    fn source_symbols(&self) -> u32;

    /// Makes the symbols of a range of ESIs in order and hands each to `sink`.
    ///
    /// A symbol that the code does not have (No-Code has no repair symbols, RaptorQ none from
    /// 2^24 on) ends the sequence. Every symbol has the full symbol length; the padding of the last
    /// one is zeros.
    fn for_each_symbol(&self, range: Range<u32>, sink: &mut dyn FnMut(Esi, &[u8]));
}

/// Collects symbols of one source block until the block can be computed.
pub trait BlockDecoder {
    /// Takes a symbol; one that it holds already, or that has a wrong length or number, is ignored.
    fn push(&mut self, esi: Esi, symbol: &[u8]);

    /// Returns the whole block (K times T octets, the padding of a short last symbol included),
    /// or `None` when at least one more symbol is needed.
    ///
    /// An attempt may cost as much as a success: ask again only after another [`Self::push`]. The
    /// block is handed out once.
    fn decode(&mut self) -> Option<Vec<u8>>;
}
