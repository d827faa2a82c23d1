//! What a plain session looks like on the wire: the profiles, and where FEC parameters stand.

use proto::{
    fec::oti::{NoCodeOti, Oti, RAPTORQ_MAX_BLOCK_SYMBOLS},
    fec::{ENCODING_ID_NO_CODE, ENCODING_ID_RAPTORQ},
    flute::{
        content_md5::ContentMd5,
        fdt::{FileEntry, NAMESPACE_MBMS, mbms::FileExtensions},
        lct::Widths,
    },
    ids::{Toi, Tsi},
};

use crate::{
    failure::{Exit, Failure},
    fdt::FdtStyle,
    package::choose,
};

/// Octets of UDP payload that pass an Ethernet without fragments.
pub const MAX_PAYLOAD_OCTETS: usize = 1472;

/// Media type of plain files: nothing is known of what they are.
const MEDIA_TYPE: &str = "application/octet-stream";

/// A published use of FLUTE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// RFC 6726: FLUTE version 2, TSI and TOI of 32 bits.
    Rfc6726,
    /// 3GPP TS 26.346: FLUTE version 1, TSI and TOI of 16 bits, FEC parameters on the FDT alone.
    Mbms,
}

/// Where receivers find the FEC parameters of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FtiPlace {
    /// EXT_FTI in each packet of the file.
    Packet,
    /// Attributes in the FDT.
    Fdt,
    /// Both.
    Both,
}

/// FEC scheme of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RaptorQ, FEC Encoding ID 6.
    RaptorQ,
    /// Compact No-Code, FEC Encoding ID 0.
    NoCode,
}

impl Scheme {
    /// Returns its FEC Encoding ID.
    #[must_use]
    pub const fn encoding_id(self) -> u8 {
        match self {
            Self::RaptorQ => ENCODING_ID_RAPTORQ,
            Self::NoCode => ENCODING_ID_NO_CODE,
        }
    }
}

/// How a session says that it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// By a packet without data.
    DataLess,
    /// By the flag A on the last FDT packets.
    FlagOnFdt,
}

/// What a plain session looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Of FDT instances; the files have the same widths.
    pub fdt: FdtStyle,
    /// Where FEC parameters stand.
    pub fti: FtiPlace,
    /// How it ends.
    pub closing: Closing,
    /// Whether an entry may have the attribute Transfer-Length.
    pub writes_transfer_length: bool,
}

impl Profile {
    /// Returns the profile's style.
    #[must_use]
    pub fn style(self, fti: FtiPlace) -> Style {
        match self {
            // spec: rfc6726 11.1 (each version on its LCT)
            Self::Rfc6726 => Style {
                fdt: FdtStyle::default(),
                fti,
                closing: Closing::DataLess,
                writes_transfer_length: true,
            },
            // spec: ts26346-mbms 7.2 (version 1, 16 bits, FTI on the FDT, no Complete)
            Self::Mbms => Style {
                fdt: FdtStyle {
                    version: 1,
                    namespace: NAMESPACE_MBMS,
                    widths: Widths::NARROW,
                    // spec: ts26346-mbms L.4
                    complete: false,
                    ..FdtStyle::default()
                },
                fti,
                closing: Closing::FlagOnFdt,
                writes_transfer_length: false,
            },
        }
    }

    /// Returns where FEC parameters stand unless the user says otherwise.
    #[must_use]
    pub const fn usual_fti(self) -> FtiPlace {
        match self {
            Self::Rfc6726 => FtiPlace::Both,
            // spec: ts26346-mbms 7.2.8
            Self::Mbms => FtiPlace::Fdt,
        }
    }

    /// Returns the scheme unless the user says otherwise.
    #[must_use]
    pub const fn usual_scheme(self) -> Scheme {
        match self {
            Self::Rfc6726 => Scheme::RaptorQ,
            Self::Mbms => Scheme::NoCode,
        }
    }

    /// Returns the largest TSI of the profile's width.
    #[must_use]
    pub const fn max_tsi(self) -> Tsi {
        match self {
            Self::Rfc6726 => Tsi(0xffff_ffff),
            Self::Mbms => Tsi(0xffff),
        }
    }
}

impl Style {
    /// Returns the FDT's entry of a file.
    #[must_use]
    pub fn entry(&self, toi: Toi, location: &str, oti: Oti, md5: [u8; 16]) -> FileEntry {
        let entry = FileEntry::plain(toi, location, MEDIA_TYPE, oti);
        let oti = match self.fti {
            FtiPlace::Packet => None,
            FtiPlace::Fdt | FtiPlace::Both => entry.oti,
        };
        // spec: ts26346-mbms 7.2.9
        FileEntry { content_md5: Some(md5), oti, ..entry }
    }

    /// Returns the FDT's entry of a file without octets: it is all that is sent of it.
    #[must_use]
    pub fn empty_entry(&self, toi: Toi, location: &str) -> FileEntry {
        FileEntry {
            toi,
            content_location: location.to_owned(),
            content_length: Some(0),
            transfer_length: Some(0).filter(|_| self.writes_transfer_length),
            content_type: Some(MEDIA_TYPE.to_owned()),
            content_encoding: None,
            content_md5: Some(ContentMd5::new().finish()),
            encoding_id: None,
            oti: None,
            mbms: FileExtensions::default(),
        }
    }

    /// Returns the octets of a packet of a file in front of its symbol.
    #[must_use]
    pub fn header_octets(&self) -> usize {
        let ids = if self.fdt.widths.half_word { 4 } else { 8 };
        let fti = match self.fti {
            FtiPlace::Fdt => 0,
            FtiPlace::Packet | FtiPlace::Both => 16,
        };
        // spec: rfc5052 6.3
        // First word, CCI, TSI and TOI, EXT_FTI, FEC payload id.
        4 + 4 + ids + fti + 4
    }
}

/// What the user asked of the FEC parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FecWishes {
    /// The scheme.
    pub scheme: Scheme,
    /// Octets of a symbol.
    pub symbol_size: u16,
    /// Largest source block, in symbols.
    pub max_block_symbols: u32,
}

/// Chooses the FEC parameters of a file of `length` octets: one block when it fits.
///
/// # Errors
///
/// [`Failure`] that names the wish that cannot be met.
pub fn oti_for(length: u64, wishes: FecWishes, style: &Style) -> Result<Oti, Failure> {
    let FecWishes { scheme, symbol_size, max_block_symbols } = wishes;
    let room = MAX_PAYLOAD_OCTETS - style.header_octets();
    if symbol_size == 0 || usize::from(symbol_size) > room {
        let text = format!("--symbol-size is {symbol_size}, expected 1 to {room}");
        return Err(Exit::Usage.because(text));
    }
    match scheme {
        Scheme::RaptorQ => {
            choose::raptorq_oti(length, symbol_size, max_block_symbols).map(Oti::RaptorQ)
        }
        Scheme::NoCode => {
            let range = 1..=RAPTORQ_MAX_BLOCK_SYMBOLS;
            if !range.contains(&max_block_symbols) {
                let found = max_block_symbols;
                let text = format!("--max-block-symbols is {found}, expected 1 to {}", range.end());
                return Err(Exit::Usage.because(text));
            }
            let oti = NoCodeOti::new(length, symbol_size, max_block_symbols);
            let refused = |error| Exit::Policy.because(format!("a file cannot be sent: {error}"));
            oti.map(Oti::NoCode).map_err(refused)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // test: ts26346-mbms 7.2, ts26346-mbms 7.2.8
    #[test]
    fn the_mbms_profile_is_version_1_with_16_bits_and_no_fti_on_files() {
        let style = Profile::Mbms.style(Profile::Mbms.usual_fti());
        assert_eq!((style.fdt.version, style.fdt.widths), (1, Widths::NARROW));
        assert_eq!((style.fti, style.fdt.complete), (FtiPlace::Fdt, false));
        assert_eq!(style.header_octets(), 16);
    }

    // test: rfc5052 6.3
    #[test]
    fn a_packet_with_everything_fits_an_ethernet() {
        let style = Profile::Rfc6726.style(FtiPlace::Both);
        let wishes = |symbol_size| FecWishes {
            scheme: Scheme::RaptorQ,
            symbol_size,
            max_block_symbols: 8192,
        };
        assert!(oti_for(10_000, wishes(1436), &style).is_ok());
        let failure = oti_for(10_000, wishes(1437), &style).unwrap_err();
        assert!(failure.to_string().contains("expected 1 to 1436"), "{failure}");
        assert_eq!(oti_for(10_000, wishes(0), &style).unwrap_err().exit(), Exit::Usage);
    }

    // test: ts26346-mbms 7.2
    #[test]
    fn a_file_is_one_block_when_it_fits() {
        let style = Profile::Mbms.style(FtiPlace::Fdt);
        let wishes =
            FecWishes { scheme: Scheme::NoCode, symbol_size: 1000, max_block_symbols: 100 };
        let blocks = |length| match oti_for(length, wishes, &style).unwrap() {
            Oti::NoCode(oti) => oti.partition().blocks(),
            Oti::RaptorQ(_) => unreachable!(),
        };
        assert_eq!((blocks(1), blocks(100_000), blocks(100_001)), (1, 1, 2));
        let none = FecWishes { max_block_symbols: 0, ..wishes };
        assert_eq!(oti_for(9, none, &style).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn an_empty_file_is_its_entry() {
        for (profile, transfer_length) in [(Profile::Rfc6726, Some(0)), (Profile::Mbms, None)] {
            let entry = profile.style(FtiPlace::Fdt).empty_entry(Toi(3), "a");
            assert_eq!((entry.content_length, entry.transfer_length), (Some(0), transfer_length));
            assert_eq!(entry.transferred(), Some(0));
        }
    }

    // test: rfc6726 5
    #[test]
    fn an_entry_has_fec_parameters_unless_packets_alone_carry_them() {
        let wishes = FecWishes { scheme: Scheme::RaptorQ, symbol_size: 64, max_block_symbols: 100 };
        for (fti, expected) in
            [(FtiPlace::Packet, false), (FtiPlace::Fdt, true), (FtiPlace::Both, true)]
        {
            let style = Profile::Rfc6726.style(fti);
            let oti = oti_for(1000, wishes, &style).unwrap();
            let entry = style.entry(Toi(1), "a", oti, [7; 16]);
            assert_eq!(entry.oti.is_some(), expected);
            assert_eq!(entry.encoding_id, Some(6));
        }
    }

    // test: ts26346-mbms 7.2.9
    #[test]
    fn an_mbms_entry_says_all_that_its_receivers_need() {
        let wishes = FecWishes { scheme: Scheme::NoCode, symbol_size: 64, max_block_symbols: 100 };
        let style = Profile::Mbms.style(Profile::Mbms.usual_fti());
        let oti = oti_for(1000, wishes, &style).unwrap();
        let entry = style.entry(Toi(1), "a", oti, [7; 16]);
        assert_eq!((entry.toi, &*entry.content_location), (Toi(1), "a"));
        assert_eq!((entry.content_length, entry.content_md5), (Some(1000), Some([7; 16])));
        assert_eq!(entry.content_type.as_deref(), Some("application/octet-stream"));
        assert_eq!((entry.encoding_id, entry.oti), (Some(0), Some(oti)));
        assert_eq!((entry.content_encoding, entry.transfer_length), (None, None));
    }
}
