//! Base64 of other programs: credentials, nonces, octets in XML.

use base64::{DecodeError, Engine as _, prelude::BASE64_STANDARD};

/// Returns the octets of a base64 text, in which white space does not count: encoders for mail break
/// lines.
///
/// # Errors
///
/// [`DecodeError`] when the text is no base64 beside its white space.
pub fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    let packed: String = text.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(packed)
}

/// Returns octets as base64 text.
#[must_use]
pub fn encode(octets: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_does_not_count() {
        assert_eq!(decode(" AP\r\n8\tK "), Ok(vec![0, 255, 10]));
        assert_eq!(decode(&encode([0, 255, 10])), Ok(vec![0, 255, 10]));
        assert_eq!(decode(""), Ok(vec![]));
        assert!(decode("A?8K").is_err() && decode("AP8").is_err());
    }
}
