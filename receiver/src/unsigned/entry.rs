//! An FDT entry as content to receive, and the limits on it.

use proto::{
    fec::oti::{NoCodeOti, Oti},
    flute::{content_encoding::ContentEncoding, fdt::FileEntry},
};

use super::limits::Limits;
use crate::store::{Encoded, ObjectLayout, UnsignedContent};

/// Returns the FEC parameters under which an empty file is stored.
pub(super) fn no_parameters() -> Oti {
    Oti::NoCode(NoCodeOti::new(1, 1, 1).expect("a symbol of an octet"))
}

/// Returns the content that an entry describes, under the name `name`.
pub(super) fn content(
    limits: &Limits,
    entry: &FileEntry,
    oti: &Oti,
    name: String,
) -> UnsignedContent {
    let is_empty = entry.transferred() == Some(0);
    let encoding = entry.content_encoding.as_deref().filter(|_| !is_empty);
    let undone = encoding.and_then(ContentEncoding::of);
    let grown = oti.transfer_length().saturating_mul(MAX_GROWTH);
    let encoded = undone.map(|encoding| Encoded {
        encoding,
        length: entry.content_length,
        limit: entry.content_length.unwrap_or(grown).min(limits.file_bytes),
    });
    // The digest of an encoded file may be that of either form. Where only one form is available,
    // the digest may be that of the other.
    let md5 = entry.content_md5.filter(|_| encoding.is_none() || encoded.is_some());
    UnsignedContent { name, md5, encoded, is_empty }
}

/// Decoded octets for each encoded one, at most, where the FDT does not state the length.
pub(super) const MAX_GROWTH: u64 = 100;

/// Returns the limit that a file exceeds, as a text.
pub(super) fn beyond(limits: &Limits, layout: &ObjectLayout, entry: &FileEntry) -> Option<String> {
    let oti = layout.oti();
    let largest = oti.partition().largest();
    let block = u64::from(largest) * u64::from(oti.symbol_size());
    let is_coded = match oti {
        Oti::NoCode(_) => false,
        Oti::RaptorQ(_) => true,
    };
    let octets = entry.content_length.unwrap_or(0).max(oti.transfer_length());
    if octets > limits.file_bytes {
        let (found, limit) = (octets, limits.file_bytes);
        Some(format!("the file has {found} octets, at most {limit} are accepted"))
    } else if is_coded && largest > limits.block_symbols {
        Some(format!(
            "its blocks have {largest} symbols, at most {} are decoded",
            limits.block_symbols
        ))
    } else if is_coded && block > limits.block_bytes {
        Some(format!("its blocks have {block} octets, at most {} are decoded", limits.block_bytes))
    } else if layout.index_bytes() > limits.index_bytes {
        let (symbols, blocks) = (layout.total_symbols(), layout.blocks());
        Some(format!("its {symbols} symbols in {blocks} blocks are too many to index"))
    } else {
        None
    }
}
