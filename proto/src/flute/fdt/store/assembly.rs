//! One instance whose symbols are being collected.

use std::collections::{BTreeMap, btree_map::Entry};

use super::super::{MAX_BYTES, inflate::inflate};
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

/// Symbols of one instance.
#[derive(Debug, Clone)]
pub(super) struct Assembly {
    /// Orders assemblies by their beginning.
    number: u64,
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
    pub(super) const fn new(number: u64) -> Self {
        Self {
            number,
            content_encoding: 0,
            oti: None,
            waiting: Vec::new(),
            taken: 0,
            octets: 0,
            symbols: BTreeMap::new(),
            blocks: BTreeMap::new(),
        }
    }

    /// Returns the octets of the symbols that it was given.
    pub(super) const fn octets_taken(&self) -> usize {
        self.octets
    }

    /// Returns its number in the order of their begin.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Adds the symbols of a packet; returns the document once it is complete.
    pub(super) fn push(
        &mut self,
        oti: Option<Oti>,
        content_encoding: Option<u8>,
        payload: Payload<'_>,
    ) -> Result<Option<Vec<u8>>, WireError> {
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
        let Some(octets) = self.octets(&oti) else { return Ok(None) };
        inflate(self.content_encoding, &octets).map(|document| Some(document.into_owned()))
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
