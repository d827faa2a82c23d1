//! FEC schemes that others use: named in reports, never decoded.

use std::fmt;

use crate::wire::{Reader, WireError};

/// Returns the name of an assigned FEC Encoding ID.
///
/// # Source
///
/// The registry of RFC 5052: RFC 5445, 5053, 5510, 6330.
#[must_use]
pub const fn scheme_name(encoding_id: u8) -> Option<&'static str> {
    match encoding_id {
        0 => Some("Compact No-Code"),
        1 => Some("Raptor"),
        2 => Some("Reed-Solomon over GF(2^m)"),
        5 => Some("Reed-Solomon over GF(2^8)"),
        6 => Some("RaptorQ"),
        128 => Some("Small Block, Large Block and Expandable"),
        129 => Some("Small Block Systematic"),
        _ => None,
    }
}

/// FEC parameters of a scheme that is not one of ours, as EXT_FTI carries them. Not checked: no
/// codec will ever see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnsupportedOti {
    /// FEC Encoding ID.
    pub encoding_id: u8,
    /// Length of the object in octets.
    pub transfer_length: u64,
    /// Length of a symbol in octets.
    pub symbol_size: u16,
    /// The Scheme-Specific part.
    pub scheme_specific: SchemeSpecific,
}

/// The Scheme-Specific part of FEC parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemeSpecific {
    /// Raptor.
    Raptor {
        /// Z: number of source blocks.
        source_blocks: u16,
        /// N: number of sub-blocks.
        sub_blocks: u8,
        /// Al: symbol alignment in octets.
        alignment: u8,
    },
    /// Reed-Solomon and the systematic small block codes.
    Block {
        /// B: most source symbols of a block.
        max_block_symbols: u16,
        /// max_n: most symbols of a block, repair symbols included.
        max_encoding_symbols: u16,
        /// FEC Instance ID, in schemes that leave the code open.
        instance_id: Option<u16>,
    },
    /// Schemes whose code the FEC Instance ID names and whose blocks have no other limit than B.
    Open {
        /// B: most source symbols of a block.
        max_block_symbols: u32,
        /// FEC Instance ID.
        instance_id: u16,
    },
}

impl UnsupportedOti {
    /// Reads the content of EXT_FTI; `Ok(None)` when the scheme is unknown or one of ours.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when it is shorter than its scheme requires.
    ///
    /// # Source
    ///
    /// RFC 5053 §3.2, RFC 5510 §4.2.4 and §5.2.4, RFC 5445 §4.2.2 and §5.2.2.
    pub fn parse(encoding_id: u8, content: &[u8]) -> Result<Option<Self>, WireError> {
        let mut input = Reader::new(content);
        if !matches!(encoding_id, 1 | 2 | 5 | 128 | 129) {
            return Ok(None);
        }
        let length = input.uint(6, "EXT_FTI transfer length")?;
        let transfer_length = u64::try_from(length).expect("48 bits");
        let first = if encoding_id == 5 { 0 } else { input.u16("EXT_FTI")? };
        let symbol_size = input.u16("EXT_FTI symbol length")?;
        let scheme_specific = match encoding_id {
            // spec: rfc5053 3.2
            1 => SchemeSpecific::Raptor {
                source_blocks: input.u16("EXT_FTI Z")?,
                sub_blocks: input.u8("EXT_FTI N")?,
                alignment: input.u8("EXT_FTI Al")?,
            },
            // spec: rfc5510 5.2
            5 => SchemeSpecific::Block {
                max_block_symbols: input.u8("EXT_FTI B")?.into(),
                max_encoding_symbols: input.u8("EXT_FTI max_n")?.into(),
                instance_id: None,
            },
            128 => SchemeSpecific::Open {
                max_block_symbols: input.u32("EXT_FTI B")?,
                instance_id: first,
            },
            // spec: rfc5445 5.2, rfc5052 6.2.4
            _ => SchemeSpecific::Block {
                max_block_symbols: input.u16("EXT_FTI B")?,
                max_encoding_symbols: input.u16("EXT_FTI max_n")?,
                instance_id: (encoding_id == 129).then_some(first),
            },
        };
        Ok(Some(Self { encoding_id, transfer_length, symbol_size, scheme_specific }))
    }
}

impl fmt::Display for UnsupportedOti {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { encoding_id, transfer_length, symbol_size, scheme_specific } = self;
        let name = scheme_name(*encoding_id).unwrap_or("unknown scheme");
        write!(formatter, "{name} ({encoding_id}): L {transfer_length}, E {symbol_size}")?;
        match scheme_specific {
            SchemeSpecific::Raptor { source_blocks, sub_blocks, alignment } => {
                write!(formatter, ", Z {source_blocks}, N {sub_blocks}, Al {alignment}")
            }
            SchemeSpecific::Block { max_block_symbols, max_encoding_symbols, instance_id } => {
                write!(formatter, ", B {max_block_symbols}, max_n {max_encoding_symbols}")?;
                instance_id.map_or(Ok(()), |id| write!(formatter, ", instance {id}"))
            }
            SchemeSpecific::Open { max_block_symbols, instance_id } => {
                write!(formatter, ", B {max_block_symbols}, instance {instance_id}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(encoding_id: u8, content: &[u8]) -> String {
        UnsupportedOti::parse(encoding_id, content).unwrap().unwrap().to_string()
    }

    // test: rfc5053 3.2
    #[test]
    fn raptor_parameters_are_named() {
        let content = [0, 0, 0, 0, 0x4e, 0x20, 0, 0, 5, 0x78, 0, 1, 1, 4];
        assert_eq!(shown(1, &content), "Raptor (1): L 20000, E 1400, Z 1, N 1, Al 4");
    }

    // test: rfc5510 5.2
    #[test]
    fn reed_solomon_parameters_are_named() {
        let content = [0, 0, 0, 0, 0x4e, 0x20, 5, 0x78, 0x40, 0x44];
        let expected = "Reed-Solomon over GF(2^8) (5): L 20000, E 1400, B 64, max_n 68";
        assert_eq!(shown(5, &content), expected);
        let content = [0, 0, 0, 0, 0x4e, 0x20, 8, 1, 5, 0x78, 0, 64, 0, 68];
        assert!(shown(2, &content).ends_with("E 1400, B 64, max_n 68"));
    }

    // test: rfc5445 5.2, rfc5052 6.2.4
    #[test]
    fn parameters_of_an_open_code_are_named_with_its_instance() {
        let content = [0, 0, 0, 0, 0x4e, 0x20, 0, 7, 5, 0x78, 0, 64, 0, 68];
        let expected = "Small Block Systematic (129): L 20000, E 1400, B 64, max_n 68, instance 7";
        assert_eq!(shown(129, &content), expected);
        assert!(shown(128, &content).ends_with("E 1400, B 4194372, instance 7"));
    }

    #[test]
    fn schemes_of_ours_and_unknown_ones_are_not_read_here() {
        for id in [0, 6, 3, 255] {
            assert_eq!(UnsupportedOti::parse(id, &[0; 14]), Ok(None));
        }
    }

    proptest! {
        #[test]
        fn whatever_arrives_the_answer_is_a_value(id: u8, content: [u8; 14], length in 0_usize..=14) {
            let read = UnsupportedOti::parse(id, &content[..length]);
            prop_assert!(length < 14 || read.is_ok());
        }
    }
}
