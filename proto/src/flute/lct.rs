//! The LCT header with its extensions.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 | 4 5 | 6 7 | 8 | 9 0 | 1 | 2 3 | 4 | 5 | 6 ... 3 | 4 ... 1
//!     V    |  C  | PSI | S |  O  | H | Res | A | B | HDR_LEN |   CP
//! CCI: 32 (C + 1) bits | TSI: 32 S + 16 H bits | TOI: 32 O + 16 H bits | extensions
//! ```
//!
//! Extensions have two shapes: `HET < 128` is `HET(8) HEL(8) content`, HEL in words; `HET >= 128` is
//! one word, `HET(8) content(24)`. Unknown ones are skipped by their length, never guessed. Their
//! contents are parsed on demand.

use super::ext::{AUTH, CENC, FDT, FTI, FdtHeader, TIME, Time, parse_fti};
use crate::{
    fec::{other_schemes::UnsupportedOti, oti::Oti},
    ids::{Toi, Tsi},
    wire::{Reader, WireError, Writer},
};

/// The LCT version, which is also the ALC version.
const VERSION: u8 = 1;

/// Extensions in one header: as many as there are words behind the smallest fixed part. Any number
/// may be padding; they are walked where they lie, and nothing is kept of them.
///
/// # Source
///
/// RFC 5651 §5.1 (255 words at most), §5.2.1 (EXT_NOP).
pub const MAX_EXTENSIONS: usize = 255 - 3;

/// The widths of TSI and TOI in a header; values are compared, not widths.
///
/// # Source
///
/// RFC 5651 §5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Widths {
    /// S: full words of the TSI, 0 or 1.
    pub tsi_words: u8,
    /// O: full words of the TOI, 0 to 3.
    pub toi_words: u8,
    /// H: 16 bits more for both.
    pub half_word: bool,
}

impl Widths {
    /// TSI and TOI of 16 bits, as MBMS receivers require.
    pub const NARROW: Self = Self { tsi_words: 0, toi_words: 0, half_word: true };
    /// TSI and TOI of 32 bits.
    pub const WIDE: Self = Self { tsi_words: 1, toi_words: 1, half_word: false };
    /// A TSI of 32 bits and no TOI: the packet without data that closes a session.
    pub const CLOSE: Self = Self { tsi_words: 1, toi_words: 0, half_word: false };

    fn tsi_bytes(self) -> usize {
        usize::from(self.tsi_words & 1) * 4 + usize::from(self.half_word) * 2
    }

    fn toi_bytes(self) -> usize {
        usize::from(self.toi_words & 3) * 4 + usize::from(self.half_word) * 2
    }
}

/// The fixed part of an LCT header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// PSI: two bits that the FEC scheme may use; zero for all schemes of ours.
    pub psi: u8,
    /// C: words of the congestion control information less one, 0 to 3.
    pub congestion_words: u8,
    /// CCI; zero without a congestion control building block.
    pub congestion: u128,
    /// Widths of TSI and TOI.
    pub widths: Widths,
    /// TSI.
    pub tsi: Tsi,
    /// TOI; absent only in packets without data.
    pub toi: Option<Toi>,
    /// A: the session ends.
    pub close_session: bool,
    /// B: the object ends.
    pub close_object: bool,
    /// CP: in FLUTE the FEC Encoding ID of the object.
    pub codepoint: u8,
}

impl Header {
    /// Returns a header of 32-bit TSI and TOI without flags, as this product sends it.
    #[must_use]
    pub const fn wide(tsi: Tsi, toi: Toi, codepoint: u8) -> Self {
        Self {
            psi: 0,
            congestion_words: 0,
            congestion: 0,
            widths: Widths::WIDE,
            tsi,
            toi: Some(toi),
            close_session: false,
            close_object: false,
            codepoint,
        }
    }

    /// Returns the header of the packet without data that closes a session.
    ///
    /// # Source
    ///
    /// RFC 5651 §5.1, RFC 6726 §3.1.
    #[must_use]
    pub const fn close(tsi: Tsi) -> Self {
        Self {
            psi: 0,
            congestion_words: 0,
            congestion: 0,
            widths: Widths::CLOSE,
            tsi,
            toi: None,
            close_session: true,
            close_object: false,
            codepoint: 0,
        }
    }

    /// Reads a header with its extensions from the front of a datagram.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the header is cut off, is of another version, is shorter than its own
    /// fields, has no TSI, or its extensions do not fill it exactly.
    pub fn parse<'a>(input: &mut Reader<'a>) -> Result<(Self, Extensions<'a>), WireError> {
        let [first, flags, length, codepoint] = input.array("LCT header")?;
        // spec: rfc5651 5.1, rfc6726 3.1
        if first >> 4 != VERSION {
            let found = u64::from(first >> 4);
            return Err(WireError::Unexpected { field: "LCT version", found, expected: "1" });
        }
        let remaining = usize::from(length) * 4;
        let remaining = remaining.checked_sub(4).ok_or(WireError::Unexpected {
            field: "LCT header length",
            found: length.into(),
            expected: "at least 1 word",
        })?;
        let mut fields = Reader::new(input.take(remaining, "LCT header")?);
        let congestion_words = (first >> 2) & 3;
        let widths = Widths {
            tsi_words: flags >> 7,
            toi_words: (flags >> 5) & 3,
            half_word: flags & 0x10 != 0,
        };
        // spec: rfc5775 2.1, rfc5651 4.1, rfc5775 4.1 (a TSI is always there)
        if widths.tsi_bytes() == 0 {
            return Err(WireError::Unexpected {
                field: "TSI width",
                found: 0,
                expected: "at least 16 bits",
            });
        }
        let congestion = fields.uint((usize::from(congestion_words) + 1) * 4, "LCT CCI")?;
        let tsi = fields.uint(widths.tsi_bytes(), "LCT TSI")?;
        let tsi = Tsi(u64::try_from(tsi).expect("a TSI has at most 48 bits"));
        let toi = match widths.toi_bytes() {
            0 => None,
            octets => Some(Toi(fields.uint(octets, "LCT TOI")?)),
        };
        let old_words = usize::from(flags & OLD_SCT != 0) + usize::from(flags & OLD_ERT != 0);
        let extensions = behind_times(fields.take_remaining(), old_words)?;
        let header = Self {
            psi: first & 3,
            congestion_words,
            congestion,
            widths,
            tsi,
            toi,
            close_session: flags & 2 != 0,
            close_object: flags & 1 != 0,
            codepoint,
        };
        Ok((header, extensions))
    }

    /// Appends the header with its extensions.
    ///
    /// # Errors
    ///
    /// [`WireError::TooLarge`] when a value does not fit its width or the whole is longer than
    /// 255 words; nothing is appended then.
    pub fn emit(&self, extensions: Extensions<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        let congestion_bytes = (usize::from(self.congestion_words & 3) + 1) * 4;
        let (tsi_bytes, toi_bytes) = (self.widths.tsi_bytes(), self.widths.toi_bytes());
        let toi = self.toi.unwrap_or(Toi::FDT).0;
        fits(self.congestion, congestion_bytes, "LCT CCI")?;
        fits(self.tsi.0.into(), tsi_bytes, "LCT TSI")?;
        fits(toi, toi_bytes, "LCT TOI")?;
        let length = 4 + congestion_bytes + tsi_bytes + toi_bytes + extensions.octets().len();
        let words = u8::try_from(length / 4).map_err(|_| WireError::TooLarge {
            field: "LCT header",
            found: u64::try_from(length).unwrap_or(u64::MAX),
            limit: 1020,
        })?;
        let Widths { tsi_words, toi_words, half_word } = self.widths;
        // spec: rfc6726 11.1 (T and R of version 1 stay zero)
        let flags = (tsi_words & 1) << 7
            | (toi_words & 3) << 5
            | u8::from(half_word) << 4
            | u8::from(self.close_session) << 1
            | u8::from(self.close_object);
        Writer::new(out)
            .u8(VERSION << 4 | (self.congestion_words & 3) << 2 | self.psi & 3)
            .u8(flags)
            .u8(words)
            .u8(self.codepoint)
            .uint(self.congestion, congestion_bytes)
            .uint(self.tsi.0.into(), tsi_bytes)
            .uint(toi, toi_bytes)
            .bytes(extensions.octets());
        Ok(())
    }
}

/// Flags of senders of RFC 3451: a word with the sender's time, one with what is left to send. They
/// are reserved bits since.
const OLD_SCT: u8 = 8;
const OLD_ERT: u8 = 4;

/// Reads the extensions behind so many words of an old sender. A sender that sets the bits
/// as reserved ones has no such words.
fn behind_times(octets: &[u8], words: usize) -> Result<Extensions<'_>, WireError> {
    // spec: rfc5651 5.1 (reserved bits are ignored)
    let behind = octets.get(words * 4..).map(Extensions::new);
    behind.and_then(Result::ok).map_or_else(|| Extensions::new(octets), Ok)
}

/// Checks that `value` fits into `octets` octets.
fn fits(value: u128, octets: usize, field: &'static str) -> Result<(), WireError> {
    let limit = 1_u128.checked_shl(u32::try_from(octets * 8).unwrap_or(u32::MAX));
    if limit.is_none_or(|limit| value < limit) {
        return Ok(());
    }
    let shown = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
    let limit = limit.map_or(u64::MAX, |limit| shown(limit - 1));
    Err(WireError::TooLarge { field, found: shown(value), limit })
}

/// One extension as it lies in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// HET.
    pub kind: u8,
    /// The octets after HET (and HEL, where there is one): 3 when `kind` is 128 or more, else
    /// 2 octets and whole words.
    pub content: &'a [u8],
}

/// The extensions of one header: octets that are known to be well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions<'a> {
    octets: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// No extension.
    pub const NONE: Self = Self { octets: &[] };

    /// Checks that `octets` are extensions end to end.
    ///
    /// # Errors
    ///
    /// [`WireError`] when one has the length 0, leaves the header, or there are more than
    /// [`MAX_EXTENSIONS`].
    pub fn new(octets: &'a [u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(octets);
        let mut count = 0;
        while !input.is_empty() {
            count += 1;
            if count > MAX_EXTENSIONS {
                return Err(WireError::TooLarge {
                    field: "number of header extensions",
                    found: MAX_EXTENSIONS as u64 + 1,
                    limit: MAX_EXTENSIONS as u64,
                });
            }
            next(&mut input)?;
        }
        Ok(Self { octets })
    }

    /// Returns the extensions as they lie in the header.
    #[must_use]
    pub const fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// Walks the extensions in their order.
    pub fn iter(&self) -> impl Iterator<Item = Extension<'a>> + use<'a> {
        let mut input = Reader::new(self.octets);
        std::iter::from_fn(move || next(&mut input).ok())
    }

    /// Returns the content of the first extension of a kind.
    #[must_use]
    pub fn find(&self, kind: u8) -> Option<&'a [u8]> {
        self.iter().find(|extension| extension.kind == kind).map(|extension| extension.content)
    }

    /// Returns EXT_AUTH as it is; its format is agreed out of band.
    #[must_use]
    pub fn auth(&self) -> Option<&'a [u8]> {
        self.find(AUTH)
    }

    /// Returns EXT_FDT.
    #[must_use]
    pub fn fdt(&self) -> Option<FdtHeader> {
        self.find(FDT).and_then(FdtHeader::parse)
    }

    /// Returns the content encoding of EXT_CENC: 0 none, 1 zlib, 2 deflate, 3 gzip.
    #[must_use]
    pub fn content_encoding(&self) -> Option<u8> {
        self.find(CENC)?.first().copied()
    }

    /// Returns the FEC parameters of EXT_FTI, in the layout that `codepoint` names.
    ///
    /// `Ok(None)` when there is no EXT_FTI or its scheme is not one of ours.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it is too short or its parameters are not valid.
    pub fn fti(&self, codepoint: u8) -> Result<Option<Oti>, WireError> {
        self.find(FTI).map_or(Ok(None), |content| parse_fti(codepoint, content))
    }

    /// Returns the FEC parameters of EXT_FTI when their scheme is known and not one of ours, for
    /// reports.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when it is shorter than its scheme requires.
    pub fn foreign_fti(&self, codepoint: u8) -> Result<Option<UnsupportedOti>, WireError> {
        self.find(FTI).map_or(Ok(None), |content| UnsupportedOti::parse(codepoint, content))
    }

    /// Returns the times of EXT_TIME.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when a time that its flags announce is not there.
    pub fn time(&self) -> Result<Option<Time>, WireError> {
        self.find(TIME).map(Time::parse).transpose()
    }
}

/// Takes one extension.
fn next<'a>(input: &mut Reader<'a>) -> Result<Extension<'a>, WireError> {
    let kind = input.u8("header extension")?;
    // spec: rfc5651 5.2.1
    if kind >= 128 {
        return Ok(Extension { kind, content: input.take(3, "header extension")? });
    }
    let words = input.u8("header extension length")?;
    let octets = (usize::from(words) * 4).checked_sub(2).ok_or(WireError::Unexpected {
        field: "header extension length",
        found: 0,
        expected: "at least 1 word",
    })?;
    Ok(Extension { kind, content: input.take(octets, "header extension")? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flute::ext::NOP;

    fn emitted(header: &Header) -> Vec<u8> {
        let mut out = Vec::new();
        header.emit(Extensions::NONE, &mut out).unwrap();
        out
    }

    fn parse(octets: &[u8]) -> Result<Header, WireError> {
        Header::parse(&mut Reader::new(octets)).map(|(header, _)| header)
    }

    // test: rfc5651 5.1
    #[test]
    fn flag_octets_are_those_of_the_table_of_widths() {
        for (s, o, h, octet, words) in [
            (0, 0, true, 0x10, 3),
            (1, 1, false, 0xa0, 4),
            (0, 1, true, 0x30, 4),
            (1, 0, true, 0x90, 4),
            (1, 1, true, 0xb0, 5),
            (1, 0, false, 0x80, 3),
            (1, 2, false, 0xc0, 5),
        ] {
            let widths = Widths { tsi_words: s, toi_words: o, half_word: h };
            let toi = (widths.toi_bytes() > 0).then_some(Toi(1));
            let header = Header { widths, toi, ..Header::wide(Tsi(7), Toi(1), 6) };
            let octets = emitted(&header);
            assert_eq!(octets[..4], [0x10, octet, words, 6]);
            assert_eq!(octets.len(), usize::from(words) * 4);
            assert_eq!(parse(&octets), Ok(header));
        }
    }

    // test: rfc5651 5.1
    #[test]
    fn the_times_of_an_old_sender_are_skipped_and_reserved_bits_ignored() {
        let header = Header::wide(Tsi(7), Toi(1), 6);
        let fti = [64, 4, 0, 0, 0, 0, 0, 0, 0, 16, 1, 0, 1, 4, 0, 0];
        let mut plain = Vec::new();
        header.emit(Extensions::new(&fti).unwrap(), &mut plain).unwrap();
        for (flags, words) in [(0x08, 1), (0x04, 1), (0x0c, 2)] {
            let mut old = plain.clone();
            old[1] |= flags;
            // Octets that would be an extension of their own: one of a word, one of many.
            old.splice(16..16, [200, 1, 2, 3, 64, 9, 0, 0][..words * 4].iter().copied());
            old[2] += u8::try_from(words).unwrap();
            let (parsed, extensions) = Header::parse(&mut Reader::new(&old)).unwrap();
            assert_eq!((parsed, extensions.octets()), (header, &fti[..]), "{flags:#x}");
            let mut reserved = plain.clone();
            reserved[1] |= flags;
            let (parsed, extensions) = Header::parse(&mut Reader::new(&reserved)).unwrap();
            assert_eq!((parsed, extensions.octets()), (header, &fti[..]), "{flags:#x}");
        }
    }

    // test: rfc5651 5.1, rfc6726 3.1, rfc5651 6.2, rfc5775 2.1, rfc5775 4.1
    #[test]
    fn a_header_of_another_version_is_refused() {
        let mut octets = emitted(&Header::wide(Tsi(7), Toi(1), 6));
        for version in [0, 2, 15] {
            octets[0] = version << 4;
            assert!(parse(&octets).is_err(), "{version}");
        }
    }

    // test: rfc5775 2.1, rfc5651 4.1, rfc5651 5.1, rfc5775 4.1
    #[test]
    fn a_header_without_tsi_is_refused() {
        assert!(parse(&[0x10, 0x20, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1]).is_err());
    }

    // test: rfc5651 5.1
    #[test]
    fn a_header_shorter_than_its_fields_or_longer_than_the_datagram_is_refused() {
        let octets = emitted(&Header::wide(Tsi(7), Toi(1), 6));
        for length in 0..4 {
            let mut short = octets.clone();
            short[2] = length;
            assert!(parse(&short).is_err(), "{length}");
        }
        let mut long = octets.clone();
        long[2] = 5;
        assert!(parse(&long).is_err());
        for length in 0..octets.len() {
            assert!(parse(&octets[..length]).is_err(), "{length}");
        }
    }

    // test: rfc5651 5.1, rfc5775 2.1, rfc6726 11.1
    #[test]
    fn reserved_bits_are_zero_and_ignored() {
        let header = Header::wide(Tsi(7), Toi(1), 6);
        let mut octets = emitted(&header);
        assert_eq!((octets[0] & 3, octets[1] & 0x0c), (0, 0));
        octets[1] |= 0x0c;
        assert_eq!(parse(&octets), Ok(header));
        octets[0] |= 3;
        assert_eq!(parse(&octets), Ok(Header { psi: 3, ..header }));
    }

    // test: rfc5651 5.1
    #[test]
    fn a_value_that_does_not_fit_its_width_is_not_sent() {
        let narrow = Header { widths: Widths::NARROW, ..Header::wide(Tsi(0), Toi(0), 0) };
        for (tsi, toi, fits) in
            [(65_535, 65_535, true), (65_536, 0, false), (0, 65_536, false), (0, u128::MAX, false)]
        {
            let header = Header { tsi: Tsi(tsi), toi: Some(Toi(toi)), ..narrow };
            let mut out = Vec::new();
            assert_eq!(header.emit(Extensions::NONE, &mut out).is_ok(), fits, "{tsi} {toi}");
            assert_eq!(out.is_empty(), !fits);
        }
        assert!(Header::close(Tsi(1 << 32)).emit(Extensions::NONE, &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn every_header_that_is_read_is_written_alike(octets in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut octets = octets;
            if let Some(first) = octets.first_mut() {
                *first = 0x10 | *first & 0x0f;
            }
            let mut input = Reader::new(&octets);
            if let Ok((header, extensions)) = Header::parse(&mut input) {
                let mut again = Vec::new();
                header.emit(extensions, &mut again).unwrap();
                let read = Header::parse(&mut Reader::new(&again));
                prop_assert_eq!(read, Ok((header, extensions)));
                // Words that the reserved bits announced are not kept, nor are the bits.
                if octets[1] & 0x0c == 0 {
                    prop_assert_eq!(&again[..], &octets[..again.len()]);
                }
            }
        }
    }

    // test: rfc5651 5.2.1
    #[test]
    fn unknown_extensions_are_skipped_by_their_length() {
        let octets = [77, 2, 0, 0, 0, 0, 0, 0, 250, 1, 2, 3, NOP, 1, 9, 9, AUTH, 1, 5, 6];
        let extensions = Extensions::new(&octets).unwrap();
        assert_eq!(extensions.auth(), Some([5, 6].as_slice()));
        let kinds: Vec<u8> = extensions.iter().map(|extension| extension.kind).collect();
        assert_eq!(kinds, [77, 250, NOP, AUTH]);
    }

    // test: rfc5651 5.2.1
    #[test]
    fn an_extension_without_length_or_beyond_the_header_is_refused() {
        assert!(Extensions::new(&[1, 0, 0, 0]).is_err());
        assert!(Extensions::new(&[1, 2, 0, 0]).is_err());
        assert!(Extensions::new(&[200, 2, 0]).is_err());
        for hel in 64..=255 {
            let mut octets = vec![0; 252];
            octets[..2].copy_from_slice(&[1, hel]);
            assert!(Extensions::new(&octets).is_err(), "{hel}");
        }
    }

    #[test]
    fn a_header_may_be_filled_with_padding() {
        let fti = [64, 4, 0, 0, 0, 0, 0, 0, 0, 16, 1, 0, 1, 4, 0, 0];
        let header = Header { widths: Widths::NARROW, ..Header::wide(Tsi(7), Toi(1), 0) };
        for nops in [9, 40, MAX_EXTENSIONS - 4] {
            let octets = [[NOP, 1, 0, 0].repeat(nops), fti.to_vec()].concat();
            let mut out = Vec::new();
            header.emit(Extensions::new(&octets).unwrap(), &mut out).unwrap();
            let (read, extensions) = Header::parse(&mut Reader::new(&out)).unwrap();
            assert_eq!((read, extensions.iter().count()), (header, nops + 1));
            assert_eq!(extensions.find(FTI), Some(&fti[2..]));
        }
    }

    #[test]
    fn the_number_of_extensions_is_limited() {
        let nops = [NOP, 1, 0, 0].repeat(MAX_EXTENSIONS + 1);
        assert!(Extensions::new(&nops[..MAX_EXTENSIONS * 4]).is_ok());
        assert!(Extensions::new(&nops).is_err());
    }
}
