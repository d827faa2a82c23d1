//! Content encodings of files: their names, and decoding in bounded memory.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use thiserror::Error;

/// A content encoding that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentEncoding {
    /// gzip, RFC 1952.
    Gzip,
    /// zlib, RFC 1950, which HTTP calls deflate; or bare deflate data, RFC 1951, as some send
    /// under that name.
    Deflate,
}

/// An error of decoding a content encoding.
#[derive(Debug, Error)]
pub enum ContentDecodeError {
    /// The octets are not of this encoding, damaged, or end too early.
    #[error("the content encoding cannot be undone: {0}")]
    Damaged(io::Error),
    /// The decoded content exceeds its limit.
    #[error("more than {limit} octets come out of the content encoding")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// Reading or writing failed.
    #[error("read or write a content-encoded file")]
    Io(#[source] io::Error),
}

impl ContentEncoding {
    /// Returns the encoding of a name in an FDT; `None` when it is not known.
    ///
    /// # Source
    ///
    /// RFC 6726 §3.4.2, with the names of HTTP, and `zlib` as EXT_CENC has it.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let is = |known: &str| name.trim().eq_ignore_ascii_case(known);
        // spec: rfc6726 3.4.2 (values of HTTP)
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("deflate") || is("zlib") {
            Some(Self::Deflate)
        } else {
            None
        }
    }

    /// Decodes `input`, passes the decoded octets to `sink`, and returns their number: at most
    /// `limit`.
    ///
    /// # Errors
    ///
    /// [`ContentDecodeError`]; the octets passed to `sink` until then are invalid.
    pub fn decode(
        self,
        input: impl Read,
        limit: u64,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64, ContentDecodeError> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
        match self {
            Self::Gzip => drain(MultiGzDecoder::new(input), limit, sink),
            Self::Deflate => {
                let front = input.fill_buf().map_err(ContentDecodeError::Io)?;
                let front = front.first_chunk::<2>().copied().unwrap_or_default();
                if is_zlib(front) {
                    drain(ZlibDecoder::new(input), limit, sink)
                } else {
                    drain(DeflateDecoder::new(input), limit, sink)
                }
            }
        }
    }
}

/// Returns whether a name in an FDT says that no encoding is applied: that of HTTP, that of
/// EXT_CENC, or none.
///
/// # Source
///
/// RFC 9110 §8.4.1 (`identity`), RFC 6726 §3.4.3 (0 is null).
#[must_use]
pub fn is_identity(name: &str) -> bool {
    let name = name.trim();
    ["", "identity", "null"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Returns whether these are the first octets of zlib data: method 8, and a multiple of 31.
const fn is_zlib(front: [u8; 2]) -> bool {
    front[0] & 0x0f == 8 && u16::from_be_bytes(front).is_multiple_of(31)
}

fn drain(
    mut decoder: impl Read,
    limit: u64,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<u64, ContentDecodeError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut octets = 0_u64;
    loop {
        let count = decoder.read(&mut buffer).map_err(of_input)?;
        if count == 0 {
            return Ok(octets);
        }
        octets = octets.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if octets > limit {
            return Err(ContentDecodeError::TooLong { limit });
        }
        sink(buffer.get(..count).unwrap_or_default()).map_err(ContentDecodeError::Io)?;
    }
}

fn of_input(error: io::Error) -> ContentDecodeError {
    let of_data =
        [io::ErrorKind::InvalidInput, io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    if of_data.contains(&error.kind()) {
        ContentDecodeError::Damaged(error)
    } else {
        ContentDecodeError::Io(error)
    }
}

const BUFFER_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use flate2::{
        Compression,
        read::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use proptest::prelude::*;

    use super::*;

    fn encoded(octets: &[u8]) -> [(&'static str, Vec<u8>); 4] {
        let read = |mut encoder: Box<dyn Read + '_>| {
            let mut out = Vec::new();
            encoder.read_to_end(&mut out).unwrap();
            out
        };
        let level = Compression::default();
        let zlib = read(Box::new(ZlibEncoder::new(octets, level)));
        [
            ("gzip", read(Box::new(GzEncoder::new(octets, level)))),
            ("zlib", zlib.clone()),
            ("deflate", zlib),
            ("Deflate", read(Box::new(DeflateEncoder::new(octets, level)))),
        ]
    }

    fn decode(name: &str, octets: &[u8], limit: u64) -> Result<Vec<u8>, ContentDecodeError> {
        let mut out = Vec::new();
        let count = ContentEncoding::of(name).unwrap().decode(octets, limit, &mut |piece| {
            out.extend_from_slice(piece);
            Ok(())
        })?;
        assert_eq!(count, u64::try_from(out.len()).unwrap());
        Ok(out)
    }

    // test: rfc6726 3.4.2
    #[test]
    fn the_encodings_of_http_are_undone_and_others_are_not_known() {
        let file: Vec<u8> = (0..200_000_u32).map(|at| (at / 7).to_le_bytes()[0]).collect();
        for (name, octets) in encoded(&file) {
            assert_eq!(decode(name, &octets, 200_000).unwrap(), file, "{name}");
            let cut = decode(name, &octets[..octets.len() / 2], 200_000);
            assert!(matches!(cut, Err(ContentDecodeError::Damaged(_))), "{name}: {cut:?}");
        }
        for name in ["", "br", "identity", "compress", "gzip, gzip"] {
            assert_eq!(ContentEncoding::of(name), None, "{name}");
        }
    }

    #[test]
    fn the_names_of_no_encoding_are_known() {
        for (name, is_none) in
            [("", true), ("identity", true), (" Identity", true), ("NULL", true), ("br", false)]
        {
            assert_eq!(is_identity(name), is_none, "{name}");
        }
    }

    #[test]
    fn what_comes_out_is_bounded() {
        for (name, octets) in encoded(&vec![0; 4 << 20]) {
            let mut handed_out = 0;
            let outcome = ContentEncoding::of(name).unwrap().decode(
                octets.as_slice(),
                100_000,
                &mut |piece| {
                    handed_out += piece.len();
                    Ok(())
                },
            );
            assert!(
                matches!(outcome, Err(ContentDecodeError::TooLong { limit: 100_000 })),
                "{name}"
            );
            assert!(handed_out <= 100_000, "{name}");
        }
    }

    #[test]
    fn a_full_disk_is_no_damage() {
        let (name, octets) = encoded(b"some octets").into_iter().next().unwrap();
        let full = ContentEncoding::of(name)
            .unwrap()
            .decode(octets.as_slice(), 100, &mut |_| Err(io::ErrorKind::StorageFull.into()));
        assert!(matches!(full, Err(ContentDecodeError::Io(_))), "{full:?}");
    }

    proptest! {
        #[test]
        fn no_octets_harm(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            for name in ["gzip", "deflate"] {
                drop(decode(name, &octets, 1000));
            }
        }
    }
}
