//! Forward error correction: parameters as checked types, block partitioning, codecs.
//!
//! | module | holds |
//! | --- | --- |
//! | [`oti`] | the FEC Object Transmission Information of No-Code and RaptorQ |
//! | [`other_schemes`] | that of schemes which are named and rejected |
//! | [`partition`] | the partition of an object into source blocks |
//! | [`codec`] | the interface of every codec for one source block |
//! | [`nocode`] | the codec of FEC Encoding ID 0: symbols as they are |
//! | [`raptorq_crate`] | the codec of FEC Encoding ID 6, by the crate `raptorq` |
//!
//! A value of [`oti`] that exists is valid and safe to hand to a codec. Memory policy is the
//! caller's: it compares K, T and Z with its limits before it makes a codec.

use crate::wire::WireError;

pub mod codec;
pub mod nocode;
pub mod other_schemes;
pub mod oti;
pub mod partition;
pub mod raptorq_crate;

/// FEC Encoding ID of Compact No-Code.
///
/// # Source
///
/// RFC 5445 §3.
pub const ENCODING_ID_NO_CODE: u8 = 0;

/// FEC Encoding ID of RaptorQ.
///
/// # Source
///
/// RFC 6330 §3.1.
pub const ENCODING_ID_RAPTORQ: u8 = 6;

/// Returns whether packets of a FEC Encoding ID can be decoded here.
#[must_use]
pub const fn is_supported(encoding_id: u8) -> bool {
    matches!(encoding_id, ENCODING_ID_NO_CODE | ENCODING_ID_RAPTORQ)
}

/// Returns the error that names a scheme which is not one of ours.
#[must_use]
pub fn unsupported(encoding_id: u8) -> WireError {
    let expected = match encoding_id {
        1 => "0 or 6 (1 is Raptor)",
        2 => "0 or 6 (2 is Reed-Solomon over GF(2^m))",
        5 => "0 or 6 (5 is Reed-Solomon over GF(2^8))",
        128 => "0 or 6 (128 is a code that the FEC Instance ID names)",
        129 => "0 or 6 (129 is a systematic code that the FEC Instance ID names)",
        _ => "0 or 6",
    };
    WireError::Unexpected { field: "FEC Encoding ID", found: encoding_id.into(), expected }
}
