//! Hashes of the plan: object key, leaves, nodes and root.

use crate::{
    crypto::{Digest, Hash16, h16, sha256},
    fec::oti::RaptorQOti,
    ids::{Esi, Sbn},
};

/// Returns the key that ties leaves, tables and stored symbols to one object and its parameters.
///
/// It depends on the image and not on the campaign, so that what was received serves again when
/// the same image is broadcast again.
#[must_use]
pub fn object_key(stored_sha256: &Digest, oti: &RaptorQOti) -> Hash16 {
    h16(&[b"fcobj1", &stored_sha256.0, &oti.octets()])
}

/// Returns the leaf of a symbol of T octets; the last source symbol is padded with zeros to T.
#[must_use]
pub fn leaf(object_key: &Hash16, sbn: Sbn, esi: Esi, symbol: &[u8]) -> Hash16 {
    h16(&[&[0x00], &object_key.0, &payload_id(sbn, esi), symbol])
}

/// Returns the node of a table symbol.
#[must_use]
pub fn table_node(object_key: &Hash16, segment: Sbn, esi: Esi, table_symbol: &[u8]) -> Hash16 {
    h16(&[&[0x02], &object_key.0, &payload_id(segment, esi), table_symbol])
}

/// Returns the hash that the campaign pins.
#[must_use]
pub fn plan_root(header: &[u8]) -> Digest {
    sha256(&[b"fcplan1", header])
}

/// SBN in one octet, ESI in three: the payload id of RFC 6330 §3.2.
fn payload_id(Sbn(sbn): Sbn, Esi(esi): Esi) -> [u8; 4] {
    (sbn << 24 | esi).to_be_bytes()
}
