//! `Content-MD5` of a file delivery table: finds damage, proves nothing.

use std::fmt;

use md5::{Digest as _, Md5};

/// Hashes an object piece by piece.
///
/// # Source
///
/// RFC 6726 §3.4.2: no security is to be had from it.
#[derive(Clone, Default)]
pub struct ContentMd5(Md5);

impl ContentMd5 {
    /// Starts without an octet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next octets.
    pub fn update(&mut self, octets: &[u8]) -> &mut Self {
        self.0.update(octets);
        self
    }

    /// Returns the digest of all octets.
    #[must_use]
    pub fn finish(self) -> [u8; 16] {
        self.0.finalize().into()
    }
}

impl fmt::Debug for ContentMd5 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ContentMd5(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hash_like_the_whole() {
        // The digest of "abc" in RFC 1321, appendix A.5.
        let expected = 0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72_u128.to_be_bytes();
        let mut hasher = ContentMd5::new();
        hasher.update(b"a").update(b"bc");
        assert_eq!(hasher.finish(), expected);
    }
}
