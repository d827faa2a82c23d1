//! One ALC packet.

use super::lct::{Extensions, Header};
use crate::{
    fec::{self, ENCODING_ID_NO_CODE, ENCODING_ID_RAPTORQ},
    ids::{Esi, Sbn},
    wire::{Reader, WireError, Writer},
};

/// FEC payload id: the first symbol of the packet.
///
/// # Source
///
/// RFC 5445 §3.2.1 (No-Code: SBN 16 bits, ESI 16 bits), RFC 6330 §3.2 (RaptorQ: SBN 8 bits, ESI
/// 24 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadId {
    /// Source block number.
    pub sbn: Sbn,
    /// Encoding symbol id.
    pub esi: Esi,
}

impl PayloadId {
    /// Octets on the wire, in both schemes.
    pub const LEN: usize = 4;

    /// Reads a payload id in the layout of a FEC Encoding ID.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it is cut off or the scheme is not one of ours.
    pub fn parse(encoding_id: u8, input: &mut Reader<'_>) -> Result<Self, WireError> {
        match encoding_id {
            ENCODING_ID_NO_CODE => {
                let sbn = Sbn(input.u16("SBN")?.into());
                Ok(Self { sbn, esi: Esi(input.u16("ESI")?.into()) })
            }
            // spec: rfc6330 3.2
            ENCODING_ID_RAPTORQ => {
                let [sbn, high, middle, low] = input.array("FEC payload id")?;
                let esi = Esi(u32::from_be_bytes([0, high, middle, low]));
                Ok(Self { sbn: Sbn(sbn.into()), esi })
            }
            unknown => Err(fec::unsupported(unknown)),
        }
    }

    /// Appends the payload id in the layout of a FEC Encoding ID.
    ///
    /// # Errors
    ///
    /// [`WireError`] when a number does not fit or the scheme is not one of ours.
    pub fn emit(&self, encoding_id: u8, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (sbn_bits, esi_bits) = match encoding_id {
            ENCODING_ID_NO_CODE => (16, 16),
            ENCODING_ID_RAPTORQ => (8, 24),
            unknown => return Err(fec::unsupported(unknown)),
        };
        for (field, value, bits) in [("SBN", self.sbn.0, sbn_bits), ("ESI", self.esi.0, esi_bits)] {
            let limit = (1_u64 << bits) - 1;
            let found = u64::from(value);
            if found > limit {
                return Err(WireError::TooLarge { field, found, limit });
            }
        }
        Writer::new(out).u32(self.sbn.0 << esi_bits | self.esi.0);
        Ok(())
    }
}

/// The part of a packet after the LCT header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<'a> {
    /// The first symbol.
    pub id: PayloadId,
    /// One symbol, or several with consecutive ESIs.
    pub symbols: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Walks the symbols, each of `symbol_size` octets; the last may be shorter, which codecs
    /// refuse wherever it is not the end of the object.
    ///
    /// # Source
    ///
    /// RFC 6330 §4.4.2, RFC 5445 §3.2.1.
    pub fn each(&self, symbol_size: u16) -> impl Iterator<Item = (PayloadId, &'a [u8])> + use<'a> {
        // spec: rfc6330 4.4.2, rfc6330 4.3 (a packet may hold several symbols)
        let PayloadId { sbn, esi } = self.id;
        let ids = (esi.0..).map(move |esi| PayloadId { sbn, esi: Esi(esi) });
        ids.zip(self.symbols.chunks(usize::from(symbol_size).max(1)))
    }
}

/// A packet up to its LCT header: what can be read of any FEC scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The LCT header.
    pub header: Header,
    /// Its extensions.
    pub extensions: Extensions<'a>,
    /// FEC payload id and symbols; empty in a packet without data.
    pub tail: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a datagram. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the header is malformed or there is data without a TOI.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(datagram);
        // spec: rfc5651 6.2
        let (header, extensions) = Header::parse(&mut input)?;
        let tail = input.take_remaining();
        // spec: rfc6726 3.1
        if header.toi.is_none() && !tail.is_empty() {
            return Err(WireError::Unexpected {
                field: "TOI width",
                found: 0,
                expected: "a TOI in every packet with data",
            });
        }
        Ok(Self { header, extensions, tail })
    }

    /// Reads what follows the header.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the FEC payload id is cut off, or the scheme is not one of ours: it is
    /// named then.
    pub fn payload(&self) -> Result<Option<Payload<'a>>, WireError> {
        // spec: rfc5775 4.1 (nothing after the header: a packet without data)
        if self.tail.is_empty() {
            return Ok(None);
        }
        let mut input = Reader::new(self.tail);
        // spec: rfc6726 3.3, rfc5775 2.3, rfc5052 6 (what is of an unknown scheme is not decoded)
        let id = PayloadId::parse(self.header.codepoint, &mut input)?;
        Ok(Some(Payload { id, symbols: input.take_remaining() }))
    }
}

/// One ALC packet, borrowed from the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The LCT header.
    pub header: Header,
    /// Its extensions.
    pub extensions: Extensions<'a>,
    /// `None` in a packet without data.
    pub payload: Option<Payload<'a>>,
}

impl<'a> Packet<'a> {
    /// Reads a datagram. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the header is malformed, there is data without a TOI, or the data belong
    /// to a FEC scheme that is not one of ours.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let frame = Frame::parse(datagram)?;
        let Frame { header, extensions, .. } = frame;
        Ok(Self { header, extensions, payload: frame.payload()? })
    }

    /// Appends the packet.
    ///
    /// # Errors
    ///
    /// [`WireError`] when a value does not fit its field; `out` may then end in a part of it.
    pub fn emit(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        // spec: rfc5651 5 (the header comes first)
        self.header.emit(self.extensions, out)?;
        if let Some(Payload { id, symbols }) = self.payload {
            id.emit(self.header.codepoint, out)?;
            out.extend_from_slice(symbols);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
