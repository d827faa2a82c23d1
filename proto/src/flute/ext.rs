//! The contents of LCT header extensions; the header has their octets.

use crate::{
    fec::{
        ENCODING_ID_NO_CODE, ENCODING_ID_RAPTORQ,
        oti::{NoCodeOti, Oti, OtiError, RaptorQOti},
    },
    wire::{Reader, WireError, Writer},
};

/// HET of EXT_NOP: padding.
pub const NOP: u8 = 0;
/// HET of EXT_AUTH: packet authentication.
pub const AUTH: u8 = 1;
/// HET of EXT_TIME: times.
pub const TIME: u8 = 2;
/// HET of EXT_FTI: FEC Object Transmission Information.
pub const FTI: u8 = 64;
/// HET of EXT_FDT: FDT instance header.
pub const FDT: u8 = 192;
/// HET of EXT_CENC: content encoding of an FDT instance.
pub const CENC: u8 = 193;

/// The FLUTE version that this product sends.
pub const FLUTE_VERSION: u8 = 2;

/// EXT_FDT.
///
/// # Source
///
/// RFC 6726 §3.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FdtHeader {
    /// FLUTE version, 4 bits: 2, or 1 for FLUTE of RFC 3926.
    pub version: u8,
    /// FDT Instance ID, 20 bits.
    pub instance_id: u32,
}

impl FdtHeader {
    /// Parses the content of EXT_FDT; `None` when it is too short.
    #[must_use]
    pub fn parse(content: &[u8]) -> Option<Self> {
        let [high, middle, low] = *content.first_chunk::<3>()?;
        let instance_id = u32::from_be_bytes([0, high & 0x0f, middle, low]);
        Some(Self { version: high >> 4, instance_id })
    }
}

/// EXT_TIME; a hint for other receivers, ignored by an armed device.
///
/// # Units
///
/// Seconds; `fraction` in 1/2^32 s.
///
/// # Source
///
/// RFC 5651 §5.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Time {
    /// SCT-High: the sender's clock.
    pub sender_clock: Option<u32>,
    /// SCT-Low: its fraction.
    pub fraction: Option<u32>,
    /// ERT: the remaining time for which the object is sent.
    pub residual: Option<u32>,
    /// SLC: the last change of the session.
    pub last_change: Option<u32>,
}

impl Time {
    /// Parses the content of EXT_TIME.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when a time that its flags announce is not there.
    pub fn parse(content: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(content);
        let flags = input.u16("EXT_TIME use")?;
        let mut word = |flag: u16| (flags & flag != 0).then(|| input.u32("EXT_TIME")).transpose();
        // spec: rfc5651 5.2.2
        Ok(Self {
            sender_clock: word(0x8000)?,
            fraction: word(0x4000)?,
            residual: word(0x2000)?,
            last_change: word(0x1000)?,
        })
    }
}

/// Parses the content of EXT_FTI in the layout that `codepoint` names; `None` when its scheme is
/// not one of ours.
///
/// # Errors
///
/// [`WireError`] when it is too short or its parameters are not valid.
pub fn parse_fti(codepoint: u8, content: &[u8]) -> Result<Option<Oti>, WireError> {
    let mut input = Reader::new(content);
    match codepoint {
        // spec: rfc5445 3.2.2.2
        ENCODING_ID_NO_CODE => {
            let [high, low] = input.array("EXT_FTI transfer length")?.map(u64::from);
            let length = high << 40 | low << 32 | u64::from(input.u32("EXT_FTI L")?);
            let _reserved = input.u16("EXT_FTI reserved")?;
            let symbol_size = input.u16("EXT_FTI E")?;
            let block = input.u32("EXT_FTI B")?;
            let oti = NoCodeOti::new(length, symbol_size, block)?;
            Ok(Some(Oti::NoCode(oti)))
        }
        // spec: rfc6330 3.3.2
        ENCODING_ID_RAPTORQ => {
            let oti = RaptorQOti::from_bytes(input.array("EXT_FTI")?)?;
            Ok(Some(Oti::RaptorQ(oti)))
        }
        _ => Ok(None),
    }
}

impl From<OtiError> for WireError {
    fn from(error: OtiError) -> Self {
        Self::Unexpected { field: error.field, found: error.found, expected: error.expected }
    }
}

/// Appends extensions to a buffer, for [`Extensions::new`](super::lct::Extensions::new).
#[derive(Debug)]
pub struct ExtensionWriter<'a> {
    out: Writer<'a>,
}

impl<'a> ExtensionWriter<'a> {
    /// Appends to the end of `out`.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out: Writer::new(out) }
    }

    /// Appends EXT_FDT.
    pub fn fdt(&mut self, header: FdtHeader) -> &mut Self {
        let [_, high, middle, low] = header.instance_id.to_be_bytes();
        self.out.bytes(&[FDT, header.version << 4 | high & 0x0f, middle, low]);
        self
    }

    /// Appends EXT_CENC.
    pub fn content_encoding(&mut self, encoding: u8) -> &mut Self {
        // spec: rfc6726 3.4.3 (its reserved field is zero)
        self.out.bytes(&[CENC, encoding, 0, 0]);
        self
    }

    /// Appends EXT_FTI in the layout of the parameters' scheme.
    pub fn fti(&mut self, oti: &Oti) -> &mut Self {
        self.out.u8(FTI).u8(4);
        match oti {
            Oti::NoCode(oti) => self
                .out
                .uint(oti.transfer_length().into(), 6)
                .u16(0)
                .u16(oti.symbol_size())
                .u32(oti.max_block_symbols()),
            // spec: rfc6330 4.2
            Oti::RaptorQ(oti) => self.out.bytes(&oti.octets()).u16(0),
        };
        self
    }

    /// Appends an extension with a length (`kind` below 128), padded with zeros to a word.
    ///
    /// # Errors
    ///
    /// [`WireError::TooLarge`] when it has more than 255 words; nothing is appended then.
    pub fn variable(&mut self, kind: u8, content: &[u8]) -> Result<&mut Self, WireError> {
        debug_assert!(kind < 128, "kinds from 128 on have no length");
        let length = content.len() + 2;
        let words = length.div_ceil(4);
        let count = u8::try_from(words).map_err(|_| WireError::TooLarge {
            field: "header extension",
            found: u64::try_from(length).unwrap_or(u64::MAX),
            limit: 1020,
        })?;
        self.out.u8(kind).u8(count).bytes(content).zeros(words * 4 - length);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fec::oti::RaptorQParameters, flute::lct::Extensions};

    // test: rfc6726 3.4.1
    #[test]
    fn an_fdt_header_is_one_word() {
        let mut out = Vec::new();
        let header = FdtHeader { version: 2, instance_id: 0xabcde };
        ExtensionWriter::new(&mut out).fdt(header).content_encoding(3);
        assert_eq!(out, [0xc0, 0x2a, 0xbc, 0xde, 0xc1, 3, 0, 0]);
        let extensions = Extensions::new(&out).unwrap();
        assert_eq!(extensions.fdt(), Some(header));
        assert_eq!(extensions.content_encoding(), Some(3));
        assert_eq!(extensions.auth(), None);
    }

    // test: rfc5445 3.2.2.2
    #[test]
    fn no_code_parameters_survive_a_round_trip() {
        let oti = Oti::NoCode(NoCodeOti::new((1 << 32) + 398, 65_535, 65_536).unwrap());
        let mut out = Vec::new();
        ExtensionWriter::new(&mut out).fti(&oti);
        assert_eq!(out.len(), 16);
        assert_eq!(Extensions::new(&out).unwrap().fti(0), Ok(Some(oti)));
        assert_eq!(Extensions::new(&out).unwrap().fti(129), Ok(None));
    }

    // test: rfc6330 3.3.2
    #[test]
    fn hostile_raptorq_parameters_are_an_error_and_no_value() {
        let valid = RaptorQOti::new(RaptorQParameters {
            transfer_length: 20_000,
            symbol_size: 1400,
            source_blocks: 1,
            sub_blocks: 1,
            alignment: 4,
        });
        let mut out = Vec::new();
        ExtensionWriter::new(&mut out).fti(&Oti::RaptorQ(valid.unwrap()));
        assert_eq!(out[2..14], [0, 0, 0, 0x4e, 0x20, 0, 5, 0x78, 1, 0, 1, 4]);
        out[10] = 0;
        assert!(Extensions::new(&out).unwrap().fti(6).is_err());
        let short = [FTI, 2, 0, 0, 0, 0, 0, 0];
        assert!(Extensions::new(&short).unwrap().fti(6).is_err());
        assert!(Extensions::new(&short).unwrap().fti(0).is_err());
    }

    // test: rfc5651 5.2.2
    #[test]
    fn times_follow_in_the_order_of_their_flags() {
        let octets = [2, 3, 0xc0, 0, 0xee, 0xab, 0xd9, 0x86, 0xb1, 0x24, 0x4a, 0x62];
        let time = Extensions::new(&octets).unwrap().time().unwrap().unwrap();
        assert_eq!((time.sender_clock, time.fraction), (Some(0xeeab_d986), Some(0xb124_4a62)));
        assert_eq!((time.residual, time.last_change), (None, None));
        let cut = [2, 2, 0xf0, 0, 0, 0, 0, 1];
        assert!(Extensions::new(&cut).unwrap().time().is_err());
    }

    // test: rfc6726 3.4.3, rfc5445 3.2.2.2, rfc5651 5.2.2
    #[test]
    fn reserved_fields_of_extensions_are_zero_and_ignored() {
        let oti = Oti::NoCode(NoCodeOti::new(398, 400, 1).unwrap());
        let mut out = Vec::new();
        ExtensionWriter::new(&mut out).content_encoding(3).fti(&oti);
        assert_eq!((&out[2..4], &out[12..14]), (&[0, 0][..], &[0, 0][..]));
        out[2..4].fill(0xff);
        out[12..14].fill(0xff);
        let extensions = Extensions::new(&out).unwrap();
        assert_eq!(extensions.content_encoding(), Some(3));
        assert_eq!(extensions.fti(0), Ok(Some(oti)));
        let time = [TIME, 2, 0x2f, 0xff, 0, 0, 0, 9];
        let time = Extensions::new(&time).unwrap().time().unwrap();
        assert_eq!(time, Some(Time { residual: Some(9), ..Time::default() }));
    }

    // test: rfc5651 5.2.1
    #[test]
    fn content_is_padded_to_a_word_and_limited() {
        let mut out = Vec::new();
        ExtensionWriter::new(&mut out).variable(AUTH, &[1, 2, 3]).unwrap();
        assert_eq!(out, [AUTH, 2, 1, 2, 3, 0, 0, 0]);
        out.clear();
        assert!(ExtensionWriter::new(&mut out).variable(AUTH, &[0; 1018]).is_ok());
        assert!(ExtensionWriter::new(&mut out).variable(AUTH, &[0; 1019]).is_err());
        assert_eq!(out.len(), 1020);
    }
}
