//! Packets on air: FLUTE (RFC 6726) over ALC (RFC 5775) over LCT (RFC 5651).
//!
//! ```text
//! IP | UDP | LCT header, header extensions included | FEC payload id | encoding symbols
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`lct`] | the header in all its widths |
//! | [`ext`] | header extensions, walked lazily |
//! | [`alc`] | one packet: header, extensions, payload id, symbols |
//! | [`fdt`] | the file delivery table |
//! | [`content_encoding`] | encodings of files, and how they are undone |
//! | [`content_md5`] | the digest that its entries may carry |
//!
//! Parsing a packet allocates nothing and believes nothing: what a field means for a device that
//! is armed is decided by the signed campaign, not here.

pub mod alc;
pub mod content_encoding;
pub mod content_md5;
pub mod ext;
pub mod fdt;
pub mod lct;
