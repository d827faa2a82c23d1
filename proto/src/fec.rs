//! Forward error correction: parameters as checked types, block partitioning, codecs.
//!
//! | module | holds |
//! | --- | --- |
//! | [`oti`] | the FEC Object Transmission Information of No-Code and RaptorQ |
//! | [`partition`] | how an object falls into source blocks |
//! | [`codec`] | what every codec can do with one source block |
//! | [`nocode`] | the codec of FEC Encoding ID 0: symbols as they are |
//! | [`raptorq_crate`] | the codec of FEC Encoding ID 6, by the crate `raptorq` |
//!
//! A value of [`oti`] that exists is valid and safe to hand to a codec. Memory policy is the
//! caller's: it compares K, T and Z with its limits before it makes a codec.

pub mod codec;
pub mod nocode;
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
