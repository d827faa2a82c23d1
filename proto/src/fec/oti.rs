//! FEC Object Transmission Information: the parameters that a receiver needs to decode an object.

use thiserror::Error;

use super::{ENCODING_ID_NO_CODE, ENCODING_ID_RAPTORQ, partition::Partition};
use crate::ids::{Esi, Sbn};

/// The longest object that RaptorQ can carry, in octets.
///
/// # Source
///
/// RFC 6330 §3.3.2 with erratum 5548: 56,403 symbols of 65,535 octets in each of 255 blocks.
pub const RAPTORQ_MAX_TRANSFER_LENGTH: u64 = 942_574_504_275;

/// The largest source block of RaptorQ, in symbols.
///
/// # Source
///
/// RFC 6330 §5.1.2.
pub const RAPTORQ_MAX_BLOCK_SYMBOLS: u32 = 56_403;

/// The first number that is no RaptorQ ESI.
///
/// # Source
///
/// RFC 6330 §3.2.
pub const RAPTORQ_ESI_LIMIT: u32 = 1 << 24;

/// The rejection of FEC parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{field} is {found}, expected {expected}")]
pub struct OtiError {
    /// The parameter.
    pub field: &'static str,
    /// Its value.
    pub found: u64,
    /// The permitted values.
    pub expected: &'static str,
}

/// Rejects `found` unless `holds`.
fn require(
    holds: bool,
    field: &'static str,
    found: impl Into<u64>,
    expected: &'static str,
) -> Result<(), OtiError> {
    if holds { Ok(()) } else { Err(OtiError { field, found: found.into(), expected }) }
}

/// The parameters of a RaptorQ object as plain numbers, not checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RaptorQParameters {
    /// F: length of the object in octets.
    pub transfer_length: u64,
    /// T: length of a symbol in octets.
    pub symbol_size: u16,
    /// Z: number of source blocks.
    pub source_blocks: u8,
    /// N: number of sub-blocks in each source block.
    pub sub_blocks: u16,
    /// Al: symbol alignment in octets.
    pub alignment: u8,
}

/// Valid parameters of a RaptorQ object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RaptorQOti(RaptorQParameters);

impl RaptorQOti {
    /// Checks parameters.
    ///
    /// # Errors
    ///
    /// [`OtiError`] with the first parameter that is out of its range. An empty object is refused:
    /// it has no symbols to send.
    pub fn new(parameters: RaptorQParameters) -> Result<Self, OtiError> {
        let RaptorQParameters {
            transfer_length,
            symbol_size,
            source_blocks,
            sub_blocks,
            alignment,
        } = parameters;
        // spec: rfc6330 3.3.2
        require(symbol_size > 0, "symbol size T", symbol_size, "at least 1")?;
        require(alignment > 0, "alignment Al", alignment, "at least 1")?;
        require(source_blocks > 0, "source blocks Z", source_blocks, "at least 1")?;
        require(sub_blocks > 0, "sub-blocks N", sub_blocks, "at least 1")?;
        require(transfer_length > 0, "transfer length F", transfer_length, "at least 1")?;
        require(
            transfer_length <= RAPTORQ_MAX_TRANSFER_LENGTH,
            "transfer length F",
            transfer_length,
            "at most 942574504275",
        )?;
        // spec: rfc6330 4.2 (T is a multiple of Al)
        let units = symbol_size / u16::from(alignment);
        require(
            units * u16::from(alignment) == symbol_size,
            "symbol size T",
            symbol_size,
            "a multiple of the alignment Al",
        )?;
        require(sub_blocks <= units, "sub-blocks N", sub_blocks, "at most T / Al")?;
        let symbols = transfer_length.div_ceil(u64::from(symbol_size));
        let blocks = u64::from(source_blocks);
        require(blocks <= symbols, "source blocks Z", blocks, "at most one for each symbol")?;
        // spec: rfc6330 4.4.1.2
        let largest = symbols.div_ceil(blocks);
        require(
            largest <= u64::from(RAPTORQ_MAX_BLOCK_SYMBOLS),
            "symbols of a source block",
            largest,
            "at most 56403",
        )?;
        Ok(Self(parameters))
    }

    /// Returns the plain numbers.
    #[must_use]
    pub const fn parameters(&self) -> RaptorQParameters {
        self.0
    }

    /// Returns the encoded OTI as EXT_FTI and the plan carry it.
    ///
    /// # Source
    ///
    /// RFC 6330 §3.3.2 and §3.3.3.
    #[must_use]
    pub fn octets(&self) -> [u8; 12] {
        let [_, _, _, f4, f3, f2, f1, f0] = self.0.transfer_length.to_be_bytes();
        let [t1, t0] = self.0.symbol_size.to_be_bytes();
        let [z, n1, n0, al] = self.scheme_specific();
        [f4, f3, f2, f1, f0, 0, t1, t0, z, n1, n0, al]
    }

    /// Reads and checks an encoded OTI; the reserved octet is ignored.
    ///
    /// # Errors
    ///
    /// Like [`Self::new`].
    pub fn from_bytes(octets: [u8; 12]) -> Result<Self, OtiError> {
        let [f4, f3, f2, f1, f0, _, t1, t0, z, n1, n0, al] = octets;
        Self::new(RaptorQParameters {
            transfer_length: u64::from_be_bytes([0, 0, 0, f4, f3, f2, f1, f0]),
            symbol_size: u16::from_be_bytes([t1, t0]),
            source_blocks: z,
            sub_blocks: u16::from_be_bytes([n1, n0]),
            alignment: al,
        })
    }

    /// Returns the four scheme-specific octets that the FDT carries in base64: Z, N, Al.
    ///
    /// # Source
    ///
    /// RFC 6330 §3.3.3.
    #[must_use]
    pub fn scheme_specific(&self) -> [u8; 4] {
        let [n1, n0] = self.0.sub_blocks.to_be_bytes();
        [self.0.source_blocks, n1, n0, self.0.alignment]
    }

    /// Returns Kt, the number of source symbols of the object.
    ///
    /// # Panics
    ///
    /// Never: at most 255 blocks of 56,403 symbols.
    #[must_use]
    pub fn total_symbols(&self) -> u32 {
        let symbols = self.0.transfer_length.div_ceil(u64::from(self.0.symbol_size));
        u32::try_from(symbols).expect("at most 255 blocks of 56,403 symbols")
    }

    /// Returns the block structure.
    ///
    /// # Panics
    ///
    /// Never: Z is positive and blocks have at most 56,403 symbols.
    #[must_use]
    pub fn partition(&self) -> Partition {
        Partition::new(self.total_symbols().into(), self.0.source_blocks.into())
            .expect("Z is positive and blocks have at most 56,403 symbols")
    }
}

/// Valid parameters of a Compact No-Code object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NoCodeOti {
    transfer_length: u64,
    symbol_size: u16,
    max_block_symbols: u32,
}

impl NoCodeOti {
    /// Checks L, E and B: the object's length and a symbol's length in octets, and the most
    /// symbols of a source block.
    ///
    /// # Errors
    ///
    /// [`OtiError`] with the first parameter that is out of its range. An empty object is rejected.
    pub fn new(
        transfer_length: u64,
        symbol_size: u16,
        max_block_symbols: u32,
    ) -> Result<Self, OtiError> {
        let length_fits = (1..1 << 48).contains(&transfer_length);
        require(length_fits, "transfer length L", transfer_length, "1 to 2^48 - 1")?;
        require(symbol_size > 0, "symbol length E", symbol_size, "at least 1")?;
        require(max_block_symbols > 0, "block length B", max_block_symbols, "at least 1")?;
        let symbols = transfer_length.div_ceil(u64::from(symbol_size));
        let blocks = symbols.div_ceil(u64::from(max_block_symbols));
        // spec: rfc5445 3.2.1 (SBN and ESI have 16 bits each)
        require(blocks <= 1 << 16, "source blocks", blocks, "at most 65536")?;
        let largest = symbols.div_ceil(blocks);
        require(largest <= 1 << 16, "symbols of a source block", largest, "at most 65536")?;
        Ok(Self { transfer_length, symbol_size, max_block_symbols })
    }

    /// Returns L, the length of the object in octets.
    #[must_use]
    pub const fn transfer_length(&self) -> u64 {
        self.transfer_length
    }

    /// Returns E, the length of a symbol in octets.
    #[must_use]
    pub const fn symbol_size(&self) -> u16 {
        self.symbol_size
    }

    /// Returns B, the most symbols of a source block.
    #[must_use]
    pub const fn max_block_symbols(&self) -> u32 {
        self.max_block_symbols
    }

    /// Returns the block structure.
    ///
    /// # Panics
    ///
    /// Never: a value that exists has 1 to 65,536 blocks of at most 65,536 symbols.
    #[must_use]
    pub fn partition(&self) -> Partition {
        // spec: rfc5052 9.1, rfc5445 3.3
        let symbols = self.transfer_length.div_ceil(u64::from(self.symbol_size));
        u32::try_from(symbols.div_ceil(u64::from(self.max_block_symbols)))
            .ok()
            .and_then(|blocks| Partition::new(symbols, blocks))
            .expect("1 to 65,536 blocks of at most 65,536 symbols")
    }
}

/// Valid FEC parameters of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Oti {
    /// FEC Encoding ID 0.
    NoCode(NoCodeOti),
    /// FEC Encoding ID 6.
    RaptorQ(RaptorQOti),
}

impl From<RaptorQOti> for Oti {
    fn from(oti: RaptorQOti) -> Self {
        Self::RaptorQ(oti)
    }
}

impl From<NoCodeOti> for Oti {
    fn from(oti: NoCodeOti) -> Self {
        Self::NoCode(oti)
    }
}

impl Oti {
    /// Returns the FEC Encoding ID, which is also the codepoint of the object's packets.
    #[must_use]
    pub const fn encoding_id(&self) -> u8 {
        match self {
            Self::NoCode(_) => ENCODING_ID_NO_CODE,
            // spec: rfc6330 3.3.1
            Self::RaptorQ(_) => ENCODING_ID_RAPTORQ,
        }
    }

    /// Returns the length of the object in octets.
    #[must_use]
    pub const fn transfer_length(&self) -> u64 {
        match self {
            Self::NoCode(oti) => oti.transfer_length,
            Self::RaptorQ(oti) => oti.0.transfer_length,
        }
    }

    /// Returns the length of a symbol in octets.
    #[must_use]
    pub const fn symbol_size(&self) -> u16 {
        match self {
            Self::NoCode(oti) => oti.symbol_size,
            Self::RaptorQ(oti) => oti.0.symbol_size,
        }
    }

    /// Returns the octets of a symbol as it is sent: the last source symbol of a No-Code object is
    /// sent without padding, every other one is whole.
    ///
    /// # Source
    ///
    /// RFC 5445 §3.2.2.2, RFC 6330 §4.4.2.
    // spec: rfc5445 3.2.2.2
    #[must_use]
    pub fn sent_bytes(&self, sbn: Sbn, esi: Esi) -> u16 {
        let Self::NoCode(oti) = self else { return self.symbol_size() };
        let first = oti.partition().first_symbol(sbn).unwrap_or_default();
        let before = (first + u64::from(esi.0)) * u64::from(oti.symbol_size);
        let left = oti.transfer_length.saturating_sub(before);
        u16::try_from(left).map_or(oti.symbol_size, |left| left.min(oti.symbol_size))
    }

    /// Returns the block structure.
    #[must_use]
    pub fn partition(&self) -> Partition {
        match self {
            Self::NoCode(oti) => oti.partition(),
            Self::RaptorQ(oti) => oti.partition(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parameters(f: u64, t: u16, z: u8, n: u16, al: u8) -> RaptorQParameters {
        RaptorQParameters {
            transfer_length: f,
            symbol_size: t,
            source_blocks: z,
            sub_blocks: n,
            alignment: al,
        }
    }

    // test: rfc6330 3.3.2
    #[test]
    fn the_encoded_form_is_that_of_the_vectors() {
        let oti = RaptorQOti::new(parameters(100, 8, 2, 2, 4)).unwrap();
        assert_eq!(oti.octets(), [0, 0, 0, 0, 100, 0, 0, 8, 2, 0, 2, 4]);
        assert_eq!(RaptorQOti::from_bytes(oti.octets()), Ok(oti));
        assert_eq!(oti.total_symbols(), 13);
        let golden = RaptorQOti::new(parameters(43, 16, 1, 1, 4)).unwrap();
        assert_eq!(golden.scheme_specific(), [1, 0, 1, 4]);
        assert_eq!(golden.partition().largest(), 3);
    }

    // test: rfc6330 4.4.1.2, rfc6330 4.2
    #[test]
    fn hostile_parameters_are_refused_by_name() {
        let max = RAPTORQ_MAX_TRANSFER_LENGTH;
        for (f, t, z, n, al, field) in [
            (1000, 0, 1, 1, 1, "symbol size T"),
            (1000, 100, 0, 1, 1, "source blocks Z"),
            (1000, 100, 1, 1, 0, "alignment Al"),
            (1000, 100, 1, 0, 1, "sub-blocks N"),
            (0, 100, 1, 1, 1, "transfer length F"),
            (max + 1, 65_535, 255, 1, 1, "transfer length F"),
            ((1 << 40) - 1, 65_535, 255, 1, 1, "transfer length F"),
            (max, 1000, 1, 1, 1, "symbols of a source block"),
            (60_000_000, 1, 1, 1, 1, "symbols of a source block"),
            (56_404, 1, 1, 1, 1, "symbols of a source block"),
            (1000, 100, 1, 1, 8, "symbol size T"),
            (1000, 4, 1, 1, 8, "symbol size T"),
            (1000, 100, 1, 26, 4, "sub-blocks N"),
            (1000, 100, 11, 1, 1, "source blocks Z"),
            (1, 100, 2, 1, 1, "source blocks Z"),
        ] {
            let refused = RaptorQOti::new(parameters(f, t, z, n, al)).unwrap_err();
            assert_eq!(refused.field, field, "F={f} T={t} Z={z} N={n} Al={al}");
        }
    }

    #[test]
    fn parameters_at_their_limits_are_accepted() {
        for (f, t, z, n, al) in [
            (1, 1, 1, 1, 1),
            (56_403, 1, 1, 1, 1),
            (RAPTORQ_MAX_TRANSFER_LENGTH, 65_535, 255, 1, 1),
            (1000, 100, 10, 25, 4),
            (255, 255, 1, 1, 255),
        ] {
            let oti = RaptorQOti::new(parameters(f, t, z, n, al)).unwrap();
            assert!(oti.partition().largest() <= RAPTORQ_MAX_BLOCK_SYMBOLS);
        }
    }

    // test: rfc5445 3.2.1
    #[test]
    fn no_code_blocks_fit_their_payload_id() {
        assert!(NoCodeOti::new(0, 1, 1).is_err());
        assert!(NoCodeOti::new(1, 0, 1).is_err());
        assert!(NoCodeOti::new(1, 1, 0).is_err());
        assert!(NoCodeOti::new(65_536, 1, 1).is_ok());
        assert!(NoCodeOti::new(65_537, 1, 1).is_err());
        assert!(NoCodeOti::new(65_536, 1, u32::MAX).is_ok());
        assert!(NoCodeOti::new(65_537, 1, u32::MAX).is_err());
        assert!(NoCodeOti::new(1 << 48, 65_535, 65_536).is_err());
    }

    // test: rfc5052 9.1, rfc5445 3.3
    #[test]
    fn no_code_partitions_by_the_largest_block() {
        // L = 20,000, E = 1,400: 15 symbols; at most 4 a block are 4 blocks: 4, 4, 4, 3.
        let partition = NoCodeOti::new(20_000, 1_400, 4).unwrap().partition();
        assert_eq!((partition.blocks(), partition.larger_blocks(), partition.largest()), (4, 3, 4));
    }

    proptest! {
        #[test]
        fn whatever_the_octets_the_answer_is_a_value(octets: [u8; 12]) {
            if let Ok(oti) = RaptorQOti::from_bytes(octets) {
                let again = RaptorQOti::from_bytes(oti.octets());
                prop_assert_eq!(again, Ok(oti));
                prop_assert_eq!(oti.partition().total_symbols(), u64::from(oti.total_symbols()));
            }
        }
    }
}
