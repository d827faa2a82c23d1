//! One instance whose symbols are being collected.

use std::collections::{BTreeMap, btree_map::Entry};

use super::super::MAX_BYTES;
use crate::{
    crypto::{Hash16, h16},
    fec::{codec::BlockDecoder as _, nocode, oti::Oti, raptorq_crate},
    flute::alc::{Payload, PayloadId},
    ids::{Esi, Sbn},
    wire::WireError,
};

/// Most source symbols of an instance.
const MAX_SYMBOLS: u64 = 16_384;

/// Symbols that are kept before the FEC parameters are known, or beyond the K of all blocks.
const SPARE_SYMBOLS: u64 = 64;

/// Memory of an assembly besides its symbols, and of each symbol besides its octets.
const OVERHEAD: usize = 512;
const SYMBOL_OVERHEAD: usize = 128;

/// Symbols of one instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Assembly {
    /// Number of its last packet.
    last: u64,
    /// Memory that its store counts for it.
    counted: usize,
    content_encoding: u8,
    oti: Option<Oti>,
    waiting: Vec<(PayloadId, Vec<u8>)>,
    taken: u64,
    octets: usize,
    /// Hashes of the symbols in `blocks`.
    symbols: BTreeMap<PayloadId, Hash16>,
    blocks: BTreeMap<Sbn, Block>,
}

#[derive(Debug, Clone)]
enum Block {
    NoCode(nocode::Decoder),
    RaptorQ(Box<raptorq_crate::Decoder>),
    Decoded(Vec<u8>),
}

impl Assembly {
    /// Counts about how many octets of memory it takes, and returns them.
    pub(super) fn count_memory(&mut self) -> usize {
        let symbols = self.waiting.len() + self.symbols.len();
        // A decoder of RaptorQ reserves memory by the announced number of symbols.
        let reserved = match &self.oti {
            Some(Oti::RaptorQ(oti)) => oti.partition().total_symbols().saturating_mul(32),
            Some(Oti::NoCode(_)) | None => 0,
        };
        let reserved = usize::try_from(reserved).unwrap_or(usize::MAX);
        self.counted =
            (OVERHEAD + self.octets + SYMBOL_OVERHEAD * symbols).saturating_add(reserved);
        self.counted
    }

    /// Returns the octets that were counted last.
    pub(super) const fn counted(&self) -> usize {
        self.counted
    }

    /// Returns the number of its last packet.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Returns whether its FEC parameters are known.
    pub(super) const fn has_parameters(&self) -> bool {
        self.oti.is_some()
    }

    /// Adds the symbols of packet number `number`; returns its content encoding and its octets once
    /// it is whole.
    pub(super) fn push(
        &mut self,
        number: u64,
        oti: Option<Oti>,
        content_encoding: Option<u8>,
        payload: Payload<'_>,
    ) -> Result<Option<(u8, Vec<u8>)>, WireError> {
        self.last = number;
        self.content_encoding = content_encoding.unwrap_or(self.content_encoding);
        self.octets += payload.symbols.len();
        if let Some(oti) = oti {
            self.learn(oti)?;
        }
        let Some(oti) = self.oti else {
            self.count(SPARE_SYMBOLS)?;
            limit("symbol of the FDT instance", payload.symbols.len(), MAX_PACKET_BYTES)?;
            self.waiting.push((payload.id, payload.symbols.to_vec()));
            return Ok(None);
        };
        for (id, symbols) in std::mem::take(&mut self.waiting) {
            self.take(&oti, Payload { id, symbols: &symbols })?;
        }
        self.take(&oti, payload)?;
        Ok(self.octets(&oti).map(|octets| (self.content_encoding, octets)))
    }

    /// Sets the FEC parameters; different ones restart the instance.
    fn learn(&mut self, oti: Oti) -> Result<(), WireError> {
        // spec: rfc6726 5 (receivers understand EXT_FTI on FDT packets)
        if self.oti.is_none_or(|known| known != oti) {
            let length = usize::try_from(oti.transfer_length()).unwrap_or(usize::MAX);
            limit("FDT instance", length, MAX_BYTES)?;
            let symbols = oti.partition().total_symbols();
            if symbols > MAX_SYMBOLS {
                let field = "number of symbols of the FDT instance";
                return Err(WireError::TooLarge { field, found: symbols, limit: MAX_SYMBOLS });
            }
            self.clear();
            self.taken = 0;
            self.oti = Some(oti);
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.symbols.clear();
        self.blocks.clear();
    }

    /// Takes the symbols of a packet. Another symbol under an id that is held belongs to a document
    /// that was rewritten: it begins anew, and no document is put together from both.
    fn take(&mut self, oti: &Oti, payload: Payload<'_>) -> Result<(), WireError> {
        for (id, symbol) in payload.each(oti.symbol_size()) {
            self.count(2 * oti.partition().total_symbols() + SPARE_SYMBOLS)?;
            let digest = h16(&[symbol]);
            if self.symbols.get(&id).is_some_and(|held| *held != digest) {
                self.clear();
            }
            self.symbols.insert(id, digest);
            let PayloadId { sbn, esi } = id;
            let block = match self.blocks.entry(sbn) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Block::new(oti, sbn)?),
            };
            block.push(esi, symbol);
        }
        Ok(())
    }

    /// Counts a symbol: a sender whose symbols never make a document does not fill the memory.
    const fn count(&mut self, limit: u64) -> Result<(), WireError> {
        self.taken += 1;
        if self.taken > limit {
            let field = "number of packets of the FDT instance";
            return Err(WireError::TooLarge { field, found: self.taken, limit });
        }
        Ok(())
    }

    /// Returns the transferred object once all blocks are decoded.
    fn octets(&self, oti: &Oti) -> Option<Vec<u8>> {
        let mut octets = Vec::new();
        for sbn in (0..oti.partition().blocks()).map(Sbn) {
            match self.blocks.get(&sbn)? {
                Block::Decoded(block) => octets.extend_from_slice(block),
                Block::NoCode(_) | Block::RaptorQ(_) => return None,
            }
        }
        octets.truncate(usize::try_from(oti.transfer_length()).ok()?);
        Some(octets)
    }
}

impl Block {
    fn new(oti: &Oti, sbn: Sbn) -> Result<Self, WireError> {
        let block = match oti {
            Oti::NoCode(oti) => nocode::Decoder::new(oti, sbn).map(Self::NoCode),
            Oti::RaptorQ(oti) => {
                raptorq_crate::Decoder::new(oti, sbn).map(Box::new).map(Self::RaptorQ)
            }
        };
        let found = sbn.0.into();
        let expected = "a block of the FDT instance";
        block.ok_or(WireError::Unexpected { field: "SBN", found, expected })
    }

    fn push(&mut self, esi: Esi, symbol: &[u8]) {
        let decoded = match self {
            Self::NoCode(decoder) => {
                decoder.push(esi, symbol);
                decoder.decode()
            }
            Self::RaptorQ(decoder) => {
                decoder.push(esi, symbol);
                decoder.decode()
            }
            Self::Decoded(_) => None,
        };
        if let Some(block) = decoded {
            *self = Self::Decoded(block);
        }
    }
}

/// Longest payload that is kept before the FEC parameters are known.
const MAX_PACKET_BYTES: usize = 9000;

fn limit(field: &'static str, found: usize, limit: usize) -> Result<(), WireError> {
    if found <= limit {
        return Ok(());
    }
    let wide = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
    Err(WireError::TooLarge { field, found: wide(found), limit: wide(limit) })
}
