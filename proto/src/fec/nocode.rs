//! Compact No-Code (FEC Encoding ID 0): the symbols are the pieces of the object.

use std::{collections::BTreeMap, ops::Range};

use super::{
    codec::{BlockDecoder, BlockEncoder},
    oti::NoCodeOti,
};
use crate::ids::{Esi, Sbn};

/// Cuts one source block into symbols.
#[derive(Debug, Clone)]
pub struct Encoder {
    symbol_size: usize,
    padded: Vec<u8>,
    source_symbols: u32,
}

impl Encoder {
    /// Takes the octets of block `sbn`; those of the last block may end inside its last symbol.
    ///
    /// Returns `None` when the object has no such block or `block` does not have its length.
    #[must_use]
    pub fn new(oti: &NoCodeOti, sbn: Sbn, block: &[u8]) -> Option<Self> {
        let source_symbols = oti.partition().symbols_of(sbn)?;
        let symbol_size = usize::from(oti.symbol_size());
        let padded = padded_block(block, symbol_size, source_symbols)?;
        Some(Self { symbol_size, padded, source_symbols })
    }
}

impl BlockEncoder for Encoder {
    fn source_symbols(&self) -> u32 {
        self.source_symbols
    }

    fn for_each_symbol(&self, range: Range<u32>, sink: &mut dyn FnMut(Esi, &[u8])) {
        let symbols = (0..self.source_symbols).zip(self.padded.chunks_exact(self.symbol_size));
        symbols
            .filter(|(esi, _)| range.contains(esi))
            .for_each(|(esi, symbol)| sink(Esi(esi), symbol));
    }
}

/// Puts one source block together.
#[derive(Debug, Clone)]
pub struct Decoder {
    symbol_size: usize,
    source_symbols: u32,
    /// Octets of the last symbol that are data; receivers take it cut to them, too.
    last_symbol_length: usize,
    symbols: BTreeMap<Esi, Vec<u8>>,
    decoded: bool,
}

impl Decoder {
    /// Starts without a symbol; memory grows with the symbols that are pushed.
    ///
    /// Returns `None` when the object has no such block.
    #[must_use]
    pub fn new(oti: &NoCodeOti, sbn: Sbn) -> Option<Self> {
        let partition = oti.partition();
        let source_symbols = partition.symbols_of(sbn)?;
        let symbol_size = usize::from(oti.symbol_size());
        let padding =
            partition.total_symbols() * u64::from(oti.symbol_size()) - oti.transfer_length();
        let is_last = sbn.0 + 1 == partition.blocks();
        let last_symbol_length = match usize::try_from(padding) {
            Ok(padding) if is_last => symbol_size - padding,
            Ok(_) | Err(_) => symbol_size,
        };
        let symbols = BTreeMap::new();
        Some(Self { symbol_size, source_symbols, last_symbol_length, symbols, decoded: false })
    }
}

impl BlockDecoder for Decoder {
    fn push(&mut self, esi: Esi, symbol: &[u8]) {
        // spec: rfc5445 3.2.2.2
        let short = esi.0 == self.source_symbols - 1 && symbol.len() == self.last_symbol_length;
        if esi.0 >= self.source_symbols || !(symbol.len() == self.symbol_size || short) {
            return;
        }
        // spec: rfc5445 3.4.2
        self.symbols.entry(esi).or_insert_with(|| {
            let mut padded = symbol.to_vec();
            padded.resize(self.symbol_size, 0);
            padded
        });
    }

    fn decode(&mut self) -> Option<Vec<u8>> {
        let complete = u32::try_from(self.symbols.len()) == Ok(self.source_symbols);
        if self.decoded || !complete {
            return None;
        }
        self.decoded = true;
        Some(std::mem::take(&mut self.symbols).into_values().flatten().collect())
    }
}

/// Returns `block` filled up with zeros to `symbols` symbols, or `None` when it is too long, or
/// so short that a whole symbol would be padding.
pub(super) fn padded_block(block: &[u8], symbol_size: usize, symbols: u32) -> Option<Vec<u8>> {
    let wanted = usize::try_from(symbols).ok()?.checked_mul(symbol_size)?;
    let padding = wanted.checked_sub(block.len())?;
    if padding >= symbol_size {
        return None;
    }
    let mut padded = Vec::with_capacity(wanted);
    padded.extend_from_slice(block);
    padded.resize(wanted, 0);
    Some(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols_of(encoder: &Encoder) -> Vec<(Esi, Vec<u8>)> {
        let mut symbols = Vec::new();
        encoder.for_each_symbol(0..u32::MAX, &mut |esi, symbol| symbols.push((esi, symbol.into())));
        symbols
    }

    // test: rfc5445 3.4.2
    #[test]
    fn a_block_is_put_together_in_any_order() {
        let oti = NoCodeOti::new(10, 4, 8).unwrap();
        let encoder = Encoder::new(&oti, Sbn(0), b"0123456789").unwrap();
        let mut decoder = Decoder::new(&oti, Sbn(0)).unwrap();
        for (esi, symbol) in symbols_of(&encoder).into_iter().rev() {
            assert_eq!(decoder.decode(), None);
            decoder.push(esi, &symbol);
            decoder.push(esi, &symbol);
        }
        assert_eq!(decoder.decode().as_deref(), Some(b"0123456789\0\0".as_slice()));
        assert_eq!(decoder.decode(), None);
    }

    // test: rfc5445 3.2.2.2
    #[test]
    fn the_last_symbol_may_come_cut_and_no_other() {
        let oti = NoCodeOti::new(10, 4, 8).unwrap();
        let mut decoder = Decoder::new(&oti, Sbn(0)).unwrap();
        decoder.push(Esi(2), b"8");
        decoder.push(Esi(2), b"89a");
        decoder.push(Esi(0), b"01");
        decoder.push(Esi(3), b"abcd");
        assert!(decoder.symbols.is_empty());
        decoder.push(Esi(2), b"89");
        decoder.push(Esi(1), b"4567");
        decoder.push(Esi(0), b"0123");
        assert_eq!(decoder.decode().as_deref(), Some(b"0123456789\0\0".as_slice()));
    }

    #[test]
    fn a_block_of_the_wrong_length_is_refused() {
        let oti = NoCodeOti::new(10, 4, 8).unwrap();
        assert!(Encoder::new(&oti, Sbn(0), &[0; 8]).is_none());
        assert!(Encoder::new(&oti, Sbn(0), &[0; 9]).is_some());
        assert!(Encoder::new(&oti, Sbn(0), &[0; 12]).is_some());
        assert!(Encoder::new(&oti, Sbn(0), &[0; 13]).is_none());
        assert!(Encoder::new(&oti, Sbn(1), &[0; 10]).is_none());
        assert!(Decoder::new(&oti, Sbn(1)).is_none());
    }
}
