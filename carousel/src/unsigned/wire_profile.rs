//! The form of an unsigned session on the wire: profiles, and the location of FEC parameters.

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

use super::schedule::SendOrder;
use crate::{
    error::{CliError, ExitCode},
    flute::fdt::FdtProfile,
    plan::parameters,
};

/// Octets of UDP payload that pass an Ethernet without fragments.
pub const MAX_PAYLOAD_BYTES: usize = 1472;

/// Media type of unsigned files: nothing is known of their content.
const MEDIA_TYPE: &str = "application/octet-stream";

/// A published use of FLUTE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// RFC 6726: FLUTE version 2, TSI and TOI of 32 bits.
    Rfc6726,
    /// 3GPP TS 26.346: FLUTE version 1, TSI and TOI of 16 bits, FEC parameters on the FDT alone.
    Mbms,
}

/// The location of the FEC parameters of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FtiLocation {
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

/// The signal that ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// A packet without data.
    DataLess,
    /// The flag A on the last FDT packets.
    FlagOnFdt,
}

/// The form of an unsigned session on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireProfile {
    /// Profile of FDT instances; the files have the same widths.
    pub fdt: FdtProfile,
    /// Location of FEC parameters.
    pub fti: FtiLocation,
    /// The signal of its end.
    pub closing: Closing,
    /// Set when an entry may have the attribute Transfer-Length.
    pub writes_transfer_length: bool,
}

impl Profile {
    /// Returns the form on the wire.
    #[must_use]
    pub fn wire_profile(self, fti: FtiLocation) -> WireProfile {
        match self {
            // spec: rfc6726 11.1 (each version on its LCT)
            Self::Rfc6726 => WireProfile {
                fdt: FdtProfile::default(),
                fti,
                closing: Closing::DataLess,
                writes_transfer_length: true,
            },
            // spec: ts26346-mbms 7.2 (version 1, 16 bits, FTI on the FDT, no Complete)
            Self::Mbms => WireProfile {
                fdt: FdtProfile {
                    version: 1,
                    namespace: NAMESPACE_MBMS,
                    widths: Widths::NARROW,
                    // spec: ts26346-mbms L.4
                    complete: false,
                    ..FdtProfile::default()
                },
                fti,
                closing: Closing::FlagOnFdt,
                writes_transfer_length: false,
            },
        }
    }

    /// Returns the default location of FEC parameters.
    #[must_use]
    pub const fn default_fti(self) -> FtiLocation {
        match self {
            Self::Rfc6726 => FtiLocation::Both,
            // spec: ts26346-mbms 7.2.8
            Self::Mbms => FtiLocation::Fdt,
        }
    }

    /// Returns the default sending order.
    #[must_use]
    pub const fn default_order(self) -> SendOrder {
        match self {
            Self::Rfc6726 => SendOrder::Rows,
            // Its receivers write blocks in order.
            Self::Mbms => SendOrder::Blocks,
        }
    }

    /// Returns the default scheme.
    #[must_use]
    pub const fn default_scheme(self) -> Scheme {
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

impl WireProfile {
    /// Returns the FDT's entry of a file.
    #[must_use]
    pub fn entry(&self, toi: Toi, location: &str, oti: Oti, md5: [u8; 16]) -> FileEntry {
        let entry = FileEntry::plain(toi, location, MEDIA_TYPE, oti);
        let oti = match self.fti {
            FtiLocation::Packet => None,
            FtiLocation::Fdt | FtiLocation::Both => entry.oti,
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
            unnamed: None,
            mbms: FileExtensions::default(),
        }
    }

    /// Returns the text by which state files distinguish wire profiles. It is part of a format: it
    /// does not follow the names in this program.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let FdtProfile { version, namespace, widths, symbol_bytes, complete } = self.fdt;
        let Widths { tsi_words, toi_words, half_word } = widths;
        let Self { fti, closing, writes_transfer_length, .. } = self;
        format!(
            "Style {{ fdt: FdtStyle {{ version: {version}, namespace: {namespace:?}, widths: Widths \
             {{ tsi_words: {tsi_words}, toi_words: {toi_words}, half_word: {half_word} }}, \
             symbol_octets: {symbol_bytes}, complete: {complete} }}, fti: {fti:?}, \
             closing: {closing:?}, writes_transfer_length: {writes_transfer_length} }}"
        )
    }

    /// Returns the octets of a packet of a file in front of its symbol.
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        let ids = if self.fdt.widths.half_word { 4 } else { 8 };
        let fti = match self.fti {
            FtiLocation::Fdt => 0,
            FtiLocation::Packet | FtiLocation::Both => 16,
        };
        // spec: rfc5052 6.3
        // First word, CCI, TSI and TOI, EXT_FTI, FEC payload id.
        4 + 4 + ids + fti + 4
    }
}

/// The options of the FEC parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FecOptions {
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
/// [`CliError`] that names the option that cannot be met.
pub fn oti_for(
    length: u64,
    options: FecOptions,
    wire_profile: &WireProfile,
) -> Result<Oti, CliError> {
    let FecOptions { scheme, symbol_size, max_block_symbols } = options;
    let room = MAX_PAYLOAD_BYTES - wire_profile.header_bytes();
    if symbol_size == 0 || usize::from(symbol_size) > room {
        let text = format!("--symbol-size is {symbol_size}, expected 1 to {room}");
        return Err(ExitCode::Usage.with_message(text));
    }
    match scheme {
        Scheme::RaptorQ => {
            parameters::raptorq_oti(length, symbol_size, max_block_symbols).map(Oti::RaptorQ)
        }
        Scheme::NoCode => {
            let range = 1..=RAPTORQ_MAX_BLOCK_SYMBOLS;
            if !range.contains(&max_block_symbols) {
                let found = max_block_symbols;
                let text = format!("--max-block-symbols is {found}, expected 1 to {}", range.end());
                return Err(ExitCode::Usage.with_message(text));
            }
            let oti = NoCodeOti::new(length, symbol_size, max_block_symbols);
            let refused =
                |error| ExitCode::Policy.with_message(format!("a file cannot be sent: {error}"));
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
        let wire_profile = Profile::Mbms.wire_profile(Profile::Mbms.default_fti());
        assert_eq!((wire_profile.fdt.version, wire_profile.fdt.widths), (1, Widths::NARROW));
        assert_eq!((wire_profile.fti, wire_profile.fdt.complete), (FtiLocation::Fdt, false));
        assert_eq!(wire_profile.header_bytes(), 16);
    }

    #[test]
    fn the_fingerprint_is_that_of_earlier_state_files() {
        let fingerprint = Profile::Rfc6726.wire_profile(FtiLocation::Both).fingerprint();
        assert_eq!(
            fingerprint,
            "Style { fdt: FdtStyle { version: 2, namespace: \"urn:ietf:params:xml:ns:fdt\", widths: \
             Widths { tsi_words: 1, toi_words: 1, half_word: false }, symbol_octets: 1408, complete: \
             true }, fti: Both, closing: DataLess, writes_transfer_length: true }"
        );
        let fingerprint = Profile::Mbms.wire_profile(FtiLocation::Fdt).fingerprint();
        assert!(fingerprint.contains("half_word: true }, symbol_octets: 1408, complete: false }"));
        assert!(
            fingerprint.ends_with("fti: Fdt, closing: FlagOnFdt, writes_transfer_length: false }")
        );
    }

    // test: rfc5052 6.3
    #[test]
    fn a_packet_with_everything_fits_an_ethernet() {
        let wire_profile = Profile::Rfc6726.wire_profile(FtiLocation::Both);
        let options = |symbol_size| FecOptions {
            scheme: Scheme::RaptorQ,
            symbol_size,
            max_block_symbols: 8192,
        };
        assert!(oti_for(10_000, options(1436), &wire_profile).is_ok());
        let error = oti_for(10_000, options(1437), &wire_profile).unwrap_err();
        assert!(error.to_string().contains("expected 1 to 1436"), "{error}");
        assert_eq!(
            oti_for(10_000, options(0), &wire_profile).unwrap_err().exit_code(),
            ExitCode::Usage
        );
    }

    // test: ts26346-mbms 7.2
    #[test]
    fn a_file_is_one_block_when_it_fits() {
        let wire_profile = Profile::Mbms.wire_profile(FtiLocation::Fdt);
        let options =
            FecOptions { scheme: Scheme::NoCode, symbol_size: 1000, max_block_symbols: 100 };
        let blocks = |length| match oti_for(length, options, &wire_profile).unwrap() {
            Oti::NoCode(oti) => oti.partition().blocks(),
            Oti::RaptorQ(_) => unreachable!(),
        };
        assert_eq!((blocks(1), blocks(100_000), blocks(100_001)), (1, 1, 2));
        let none = FecOptions { max_block_symbols: 0, ..options };
        assert_eq!(oti_for(9, none, &wire_profile).unwrap_err().exit_code(), ExitCode::Usage);
    }

    #[test]
    fn an_empty_file_is_its_entry() {
        for (profile, transfer_length) in [(Profile::Rfc6726, Some(0)), (Profile::Mbms, None)] {
            let entry = profile.wire_profile(FtiLocation::Fdt).empty_entry(Toi(3), "a");
            assert_eq!((entry.content_length, entry.transfer_length), (Some(0), transfer_length));
            assert_eq!(entry.transferred(), Some(0));
        }
    }

    // test: rfc6726 5
    #[test]
    fn an_entry_has_fec_parameters_unless_packets_alone_carry_them() {
        let options =
            FecOptions { scheme: Scheme::RaptorQ, symbol_size: 64, max_block_symbols: 100 };
        for (fti, expected) in
            [(FtiLocation::Packet, false), (FtiLocation::Fdt, true), (FtiLocation::Both, true)]
        {
            let wire_profile = Profile::Rfc6726.wire_profile(fti);
            let oti = oti_for(1000, options, &wire_profile).unwrap();
            let entry = wire_profile.entry(Toi(1), "a", oti, [7; 16]);
            assert_eq!(entry.oti.is_some(), expected);
            assert_eq!(entry.encoding_id, Some(6));
        }
    }

    // test: ts26346-mbms 7.2.9
    #[test]
    fn an_mbms_entry_holds_all_that_its_receivers_need() {
        let options =
            FecOptions { scheme: Scheme::NoCode, symbol_size: 64, max_block_symbols: 100 };
        let wire_profile = Profile::Mbms.wire_profile(Profile::Mbms.default_fti());
        let oti = oti_for(1000, options, &wire_profile).unwrap();
        let entry = wire_profile.entry(Toi(1), "a", oti, [7; 16]);
        assert_eq!((entry.toi, &*entry.content_location), (Toi(1), "a"));
        assert_eq!((entry.content_length, entry.content_md5), (Some(1000), Some([7; 16])));
        assert_eq!(entry.content_type.as_deref(), Some("application/octet-stream"));
        assert_eq!((entry.encoding_id, entry.oti), (Some(0), Some(oti)));
        assert_eq!((entry.content_encoding, entry.transfer_length), (None, None));
    }
}
