//! RaptorQ (FEC Encoding ID 6) by the crate `raptorq`, fenced: nothing else imports it.
//!
//! The crate panics on zero sizes, block numbers out of range and short symbols, and computes a
//! wrong block from long ones. Here it sees checked parameters and symbols of the right length
//! alone. A forged symbol of the right length still ruins a block silently: authenticate first.

use std::{collections::HashSet, iter, ops::Range};

use raptorq::{
    EncodingPacket, ObjectTransmissionInformation, PayloadId, SourceBlockDecoder,
    SourceBlockEncoder,
};

use super::{
    codec::{BlockDecoder, BlockEncoder},
    nocode::padded_block,
    oti::{RAPTORQ_ESI_LIMIT, RaptorQOti, RaptorQParameters},
};
use crate::ids::{Esi, Sbn};

/// Repair symbols that are made at once; bounds what an encoder allocates besides the block.
const REPAIR_BATCH: u32 = 64;

/// Makes the source and repair symbols of one source block.
///
/// Holds about two times the block; while source symbols are handed out, three times.
#[derive(Debug, Clone)]
pub struct Encoder {
    source_symbols: u32,
    encoder: SourceBlockEncoder,
}

impl Encoder {
    /// Takes the octets of block `sbn`; those of the last block may end inside its last symbol.
    ///
    /// Returns `None` when the object has no such block or `block` does not have its length.
    #[must_use]
    pub fn new(oti: &RaptorQOti, sbn: Sbn, block: &[u8]) -> Option<Self> {
        let source_symbols = oti.partition().symbols_of(sbn)?;
        let symbol_size = usize::from(oti.parameters().symbol_size);
        // spec: rfc6330 4.4.1.2 (padding and sub-blocks)
        let padded = padded_block(block, symbol_size, source_symbols)?;
        let number = u8::try_from(sbn.0).ok()?;
        let encoder = SourceBlockEncoder::new(number, &transmission_information(oti), &padded);
        Some(Self { source_symbols, encoder })
    }
}

impl BlockEncoder for Encoder {
    fn source_symbols(&self) -> u32 {
        self.source_symbols
    }

    fn for_each_symbol(&self, range: Range<u32>, sink: &mut dyn FnMut(Esi, &[u8])) {
        let mut hand_out = |packets: Vec<EncodingPacket>| {
            for packet in packets {
                sink(Esi(packet.payload_id().encoding_symbol_id()), packet.data());
            }
        };
        if range.start < self.source_symbols {
            let mut source = self.encoder.source_packets();
            source.retain(|packet| range.contains(&packet.payload_id().encoding_symbol_id()));
            hand_out(source);
        }
        // spec: rfc6330 5.3.2 (ESIs from K on are repair symbols)
        let end = range.end.min(RAPTORQ_ESI_LIMIT);
        let mut next = range.start.max(self.source_symbols);
        while next < end {
            let count = REPAIR_BATCH.min(end - next);
            hand_out(self.encoder.repair_packets(next - self.source_symbols, count));
            next += count;
        }
    }
}

/// Collects symbols of one source block and decodes it.
///
/// Symbols are passed on to the crate at once, except those from the K-th on: the crate attempts
/// to decode whenever it receives one of them, so they wait for [`BlockDecoder::decode`].
#[derive(Debug, Clone)]
pub struct Decoder {
    sbn: u8,
    source_symbols: u32,
    symbol_size: usize,
    /// Length in which the last symbol of the object may arrive; equal to `symbol_size` elsewhere.
    last_symbol_length: usize,
    decoder: SourceBlockDecoder,
    held: HashSet<Esi>,
    waiting: Vec<EncodingPacket>,
    decoded: bool,
}

impl Decoder {
    /// Starts without a symbol. Reserves about 32 octets for each of the K symbols.
    ///
    /// Returns `None` when the object has no such block.
    #[must_use]
    pub fn new(oti: &RaptorQOti, sbn: Sbn) -> Option<Self> {
        let partition = oti.partition();
        let source_symbols = partition.symbols_of(sbn)?;
        let number = u8::try_from(sbn.0).ok()?;
        let RaptorQParameters { transfer_length, symbol_size, sub_blocks, .. } = oti.parameters();
        let block_length = u64::from(source_symbols) * u64::from(symbol_size);
        let padding = partition.total_symbols() * u64::from(symbol_size) - transfer_length;
        // With sub-blocks the padding is not at the end of one symbol, so none can come cut.
        let may_be_cut = sbn.0 + 1 == partition.blocks() && sub_blocks == 1;
        let symbol_size = usize::from(symbol_size);
        let last_symbol_length = match usize::try_from(padding) {
            Ok(padding) if may_be_cut => symbol_size - padding,
            Ok(_) | Err(_) => symbol_size,
        };
        let information = transmission_information(oti);
        Some(Self {
            sbn: number,
            source_symbols,
            symbol_size,
            last_symbol_length,
            decoder: SourceBlockDecoder::new(number, &information, block_length),
            held: HashSet::new(),
            waiting: Vec::new(),
            decoded: false,
        })
    }

    /// Returns how many different symbols are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

impl BlockDecoder for Decoder {
    fn push(&mut self, esi: Esi, symbol: &[u8]) {
        // spec: rfc6330 4.4.2
        let short = esi.0 == self.source_symbols - 1 && symbol.len() == self.last_symbol_length;
        let fits = symbol.len() == self.symbol_size || short;
        if self.decoded || esi.0 >= RAPTORQ_ESI_LIMIT || !fits || !self.held.insert(esi) {
            return;
        }
        let mut octets = Vec::with_capacity(self.symbol_size);
        octets.extend_from_slice(symbol);
        octets.resize(self.symbol_size, 0);
        let packet = EncodingPacket::new(PayloadId::new(self.sbn, esi.0), octets);
        if self.held.len() < usize::try_from(self.source_symbols).unwrap_or(usize::MAX) {
            let early = self.decoder.decode(iter::once(packet));
            debug_assert!(early.is_none(), "fewer than K symbols do not make a block");
        } else {
            self.waiting.push(packet);
        }
    }

    fn decode(&mut self) -> Option<Vec<u8>> {
        // Without a waiting symbol nothing has changed since the last attempt.
        if self.decoded || self.waiting.is_empty() {
            return None;
        }
        // spec: rfc6330 5.8 (one block in a hundred needs a symbol beyond K, of 10^4 a second)
        let block = self.decoder.decode(self.waiting.drain(..));
        self.decoded = block.is_some();
        block
    }
}

fn transmission_information(oti: &RaptorQOti) -> ObjectTransmissionInformation {
    let RaptorQParameters { transfer_length, symbol_size, source_blocks, sub_blocks, alignment } =
        oti.parameters();
    ObjectTransmissionInformation::new(
        transfer_length,
        symbol_size,
        source_blocks,
        sub_blocks,
        alignment,
    )
}

#[cfg(test)]
mod tests;
