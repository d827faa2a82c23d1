//! Packets on air: FLUTE (RFC 6726) over ALC (RFC 5775) over LCT (RFC 5651).
//!
//! ```text
//! IP | UDP | LCT header, header extensions included | FEC payload id | encoding symbols
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`lct`] | the header in all its widths, with its extensions |
//! | [`ext`] | the contents of header extensions, parsed on demand |
//! | [`alc`] | one packet: header, extensions, payload id, symbols |
//! | [`fdt`] | the file delivery table |
//! | [`content_encoding`] | encodings of files, and their decoding |
//! | [`content_md5`] | the digest that its entries may carry |
//!
//! Parsing a packet allocates nothing and authenticates nothing: for an armed device the signed
//! campaign decides which fields are valid.

pub mod alc;
pub mod content_encoding;
pub mod content_md5;
pub mod ext;
pub mod fdt;
pub mod lct;
