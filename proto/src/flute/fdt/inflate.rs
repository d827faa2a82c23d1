//! Content encoding of FDT instances, as EXT_CENC names it.

use std::{borrow::Cow, io::Read};

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::MAX_BYTES;
use crate::wire::WireError;

/// Decodes a content encoding to at most [`MAX_BYTES`] octets.
///
/// # Source
///
/// RFC 6726 §3.4.3: 0 none, 1 zlib, 2 deflate, 3 gzip.
pub(super) fn inflate(encoding: u8, octets: &[u8]) -> Result<Cow<'_, [u8]>, WireError> {
    // spec: rfc6726 3.4.3
    match encoding {
        0 => Ok(Cow::Borrowed(octets)),
        1 => drain(ZlibDecoder::new(octets)),
        2 => drain(DeflateDecoder::new(octets)),
        3 => drain(GzDecoder::new(octets)),
        other => {
            let expected = "0 none, 1 zlib, 2 deflate, 3 gzip";
            Err(WireError::Unexpected { field: "EXT_CENC", found: other.into(), expected })
        }
    }
}

fn drain(decoder: impl Read) -> Result<Cow<'static, [u8]>, WireError> {
    let limit = u64::try_from(MAX_BYTES).expect("1 MiB");
    let mut out = Vec::new();
    decoder
        .take(limit + 1)
        .read_to_end(&mut out)
        .map_err(|error| WireError::invalid("content-encoded FDT instance", error, "its data"))?;
    let found = u64::try_from(out.len()).unwrap_or(u64::MAX);
    if found > limit {
        return Err(WireError::TooLarge { field: "content-encoded FDT instance", found, limit });
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use flate2::{
        Compression,
        read::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use proptest::prelude::*;

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
