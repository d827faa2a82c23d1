//! The secret in the URLs at which one attempt gets its package.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proto::wire::WireError;

/// Octets of a secret.
const LEN: usize = 16;

/// The secret of an attempt: 128 random bits, in base64url. The only text form is its part of a URL.
// spec: security 7.3 (packages need a secret)
#[derive(Clone, PartialEq, Eq)]
pub struct PackageSecret(String);

impl PackageSecret {
    /// Returns the secret of these octets, which are random.
    #[must_use]
    pub fn new(octets: [u8; LEN]) -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(octets))
    }

    /// Returns its part of a URL, 22 characters.
    #[must_use]
    pub fn as_url_part(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageSecret {
    type Err = WireError;

    /// # Errors
    ///
    /// [`WireError`] for a text of another length or other characters; it does not repeat the text.
    fn from_str(text: &str) -> Result<Self, WireError> {
        let octets = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let octets = octets.and_then(|octets| octets.try_into().ok());
        let invalid = || WireError::invalid("package secret", "another text", "22 characters");
        octets.map(Self::new).ok_or_else(invalid)
    }
}

impl fmt::Debug for PackageSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PackageSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_a_url_and_shown_nowhere_else() {
        let secret = PackageSecret::new([0xfb; 16]);
        assert_eq!(secret.as_url_part(), "-_v7-_v7-_v7-_v7-_v7-w");
        assert_eq!(secret.as_url_part().parse::<PackageSecret>().unwrap(), secret);
        assert_eq!(format!("{secret:?}"), "PackageSecret");
        for text in
            ["", "-_v7-_v7-_v7-_v7-_v7-", "-_v7-_v7-_v7-_v7-_v7-w=", "../../../fleet.db00000"]
        {
            let refused = text.parse::<PackageSecret>().unwrap_err().to_string();
            assert!(text.is_empty() || !refused.contains(text), "{refused}");
        }
    }
}
