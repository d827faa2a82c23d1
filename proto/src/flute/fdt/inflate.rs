//! Content encoding of FDT instances, as EXT_CENC names it.

use std::{borrow::Cow, io::Read as _};

use flate2::bufread::GzDecoder;

use super::MAX_BYTES;
use crate::{
    flute::content_encoding::{ContentDecodeError, ContentEncoding},
    wire::WireError,
};

/// Decodes a content encoding to at most [`MAX_BYTES`] octets, with the tolerances that files have:
/// several members of gzip, zlib or bare deflate data under either name. What is a document already
/// is taken as it is.
///
/// # Source
///
/// RFC 6726 §3.4.3: 0 none, 1 zlib, 2 deflate, 3 gzip.
pub(super) fn inflate(encoding: u8, octets: &[u8]) -> Result<Cow<'_, [u8]>, WireError> {
    // spec: rfc6726 3.4.3
    let known = match encoding {
        0 => return Ok(Cow::Borrowed(octets)),
        1 | 2 => ContentEncoding::Deflate,
        3 => ContentEncoding::Gzip,
        other => {
            let expected = "0 none, 1 zlib, 2 deflate, 3 gzip";
            return Err(WireError::Unexpected { field: "EXT_CENC", found: other.into(), expected });
        }
    };
    let limit = u64::try_from(MAX_BYTES).expect("1 MiB");
    let mut out = Vec::new();
    let decoded = known.decode(octets, limit, &mut |piece| {
        out.extend_from_slice(piece);
        Ok(())
    });
    match decoded {
        Ok(_) => Ok(Cow::Owned(out)),
        Err(ContentDecodeError::TooLong { .. }) => {
            let (field, found) = ("content-encoded FDT instance", limit + 1);
            Err(WireError::TooLarge { field, found, limit })
        }
        Err(ContentDecodeError::Damaged(_)) if is_document(octets) => Ok(Cow::Borrowed(octets)),
        Err(error @ (ContentDecodeError::Damaged(_) | ContentDecodeError::Io(_))) => {
            first_member(encoding, octets, limit).map(Cow::Owned).ok_or_else(|| {
                WireError::invalid("content-encoded FDT instance", error, "its data")
            })
        }
    }
}

/// Returns the first member of gzip data, behind which something else stands.
fn first_member(encoding: u8, octets: &[u8], limit: u64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let is_whole = GzDecoder::new(octets).take(limit).read_to_end(&mut out).is_ok();
    (encoding == 3 && is_whole && !out.is_empty()).then_some(out)
}

/// Returns whether octets begin as XML does, in UTF-8 or UTF-16.
fn is_document(octets: &[u8]) -> bool {
    let is_in_front = |octet: &u8| {
        matches!(octet, 0 | 0xef | 0xbb | 0xbf | 0xfe | 0xff) || octet.is_ascii_whitespace()
    };
    octets.iter().find(|octet| !is_in_front(octet)) == Some(&b'<')
}

#[cfg(test)]
mod tests {
    use flate2::{
        Compression,
        read::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use proptest::prelude::*;
    use std::io::Read as _;

    use super::*;

    fn encoded(encoding: u8, octets: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let level = Compression::default();
        match encoding {
            1 => ZlibEncoder::new(octets, level).read_to_end(&mut out),
            2 => DeflateEncoder::new(octets, level).read_to_end(&mut out),
            _ => GzEncoder::new(octets, level).read_to_end(&mut out),
        }
        .unwrap();
        out
    }

    // test: rfc6726 3.4.3
    #[test]
    fn all_registered_content_encodings_are_undone_and_others_named() {
        let document = b"<FDT-Instance/>".repeat(40);
        for encoding in [1, 2, 3] {
            let small = encoded(encoding, &document);
            assert!(small.len() < document.len());
            assert_eq!(inflate(encoding, &small).unwrap(), document);
            assert!(inflate(encoding, &small[..small.len() / 2]).is_err());
        }
        assert_eq!(inflate(0, b"x").unwrap().as_ref(), b"x");
        assert!(inflate(4, b"x").unwrap_err().to_string().contains("EXT_CENC is 4"));
    }

    #[test]
    fn a_table_has_the_tolerances_of_a_file() {
        let document = b"<FDT-Instance/>".repeat(40);
        let (front, back) = document.split_at(100);
        let members = [encoded(3, front), encoded(3, back)].concat();
        assert_eq!(inflate(3, &members).unwrap(), document);
        let padded = [encoded(3, &document), vec![0; 20]].concat();
        assert_eq!(inflate(3, &padded).unwrap(), document);
        assert_eq!(inflate(2, &encoded(1, &document)).unwrap(), document);
        assert_eq!(inflate(1, &encoded(2, &document)).unwrap(), document);
        for encoding in [1, 2, 3] {
            assert_eq!(inflate(encoding, &document).unwrap(), document, "{encoding}");
            let with_mark = [b"\xef\xbb\xbf\n".as_slice(), &document].concat();
            assert_eq!(inflate(encoding, &with_mark).unwrap(), with_mark, "{encoding}");
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        for (length, fits) in [(MAX_BYTES, true), (MAX_BYTES + 1, false), (10 << 20, false)] {
            let bomb = encoded(3, &vec![b' '; length]);
            assert_eq!(inflate(3, &bomb).is_ok(), fits, "{length}");
        }
    }

    proptest! {
        #[test]
        fn whatever_arrives_the_answer_is_a_value(
            encoding in 0_u8..5, octets in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            if let Ok(document) = inflate(encoding, &octets) {
                prop_assert!(document.len() <= MAX_BYTES);
            }
        }
    }
}
