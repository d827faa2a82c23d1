//! `syncml:auth-MAC`: proof of a password over a whole message, beside it in a transport header.
//!
//! ```text
//! x-syncml-hmac: algorithm=MD5, username="Robert Jordan", mac=B64(MD5(secret ":" nonce ":" B64(MD5(body))))
//! ```
//!
//! The body is what is sent, XML text or WBXML octets. In spite of its name it is not RFC 2104.

use std::fmt;

use crate::wire::WireError;

/// Name of the transport header.
pub const MAC_HEADER: &str = "x-syncml-hmac";

/// Octets that the header may have.
const MAX_HEADER_LENGTH: usize = 512;

/// The content of the transport header.
#[derive(Clone, PartialEq, Eq)]
pub struct Mac {
    /// The user name, that of `Source/LocName`.
    pub user: String,
    /// The proof, in base64.
    pub mac: String,
}

/// Shows neither user nor proof.
impl fmt::Debug for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Mac")
    }
}

impl Mac {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it is too long, lacks a part or names another algorithm than MD5.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        if text.len() > MAX_HEADER_LENGTH {
            return Err(WireError::invalid(MAC_HEADER, "longer", "at most 512 octets"));
        }
        let (mut user, mut mac) = (None, None);
        let mut remaining = text;
        while !remaining.trim_matches([' ', '\t', ',']).is_empty() {
            let (name, value, after) = parameter(remaining)?;
            remaining = after;
            match name.to_ascii_lowercase().as_str() {
                "username" => user = Some(value),
                "mac" => mac = Some(value),
                "algorithm" if !value.eq_ignore_ascii_case("MD5") => {
                    return Err(WireError::invalid("algorithm", value, "MD5"));
                }
                // A parameter of a later version.
                _ => {}
            }
        }
        match (user, mac) {
            (Some(user), Some(mac)) => Ok(Self { user, mac }),
            _ => Err(WireError::invalid(MAC_HEADER, "incomplete", "username and mac")),
        }
    }

    /// Writes the header.
    #[must_use]
    pub fn emit(&self) -> String {
        let user: String = self.user.chars().filter(|c| !c.is_control() && *c != '"').collect();
        format!("algorithm=MD5, username=\"{user}\", mac={}", self.mac)
    }
}

/// Reads `name=value` or `name="value"`; returns what follows.
fn parameter(text: &str) -> Result<(&str, String, &str), WireError> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let wrong = || WireError::invalid(MAC_HEADER, text, "name=value");
    let (name, remaining) = text.split_once('=').ok_or_else(wrong)?;
    if let Some(quoted) = remaining.strip_prefix('"') {
        let (value, remaining) = quoted.split_once('"').ok_or_else(wrong)?;
        return Ok((name.trim(), value.to_owned(), remaining));
    }
    let (value, remaining) = remaining.split_once(',').unwrap_or((remaining, ""));
    Ok((name.trim(), value.trim().to_owned(), remaining))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::auth::Secret;

    // test: oma-dm 5.1
    #[test]
    fn the_mac_of_the_formula_comes_out() {
        let secret = Secret::new("Bruce2", "OhBehave");
        assert_eq!(secret.mac(b"Nonce", b"<SyncML/>"), "urdCeS3JUmjFgi8SX3webw==");
        let mac = Mac { user: "Bruce2".to_owned(), mac: secret.mac(b"Nonce", b"<SyncML/>") };
        assert!(secret.proves_message(&mac, b"Nonce", b"<SyncML/>"));
        assert!(!secret.proves_message(&mac, b"nonce", b"<SyncML/>"));
        assert!(!secret.proves_message(&mac, b"Nonce", b"<SyncML />"));
        assert!(!Secret::new("Bruce2", "x").proves_message(&mac, b"Nonce", b"<SyncML/>"));
    }

    // test: oma-dm 5.1
    #[test]
    fn the_header_is_read_in_any_order_and_with_a_comma_in_a_name() {
        let mac = Mac { user: "Robert, Jordan".to_owned(), mac: "NTI2OTJh==".to_owned() };
        for text in [
            "algorithm=MD5, username=\"Robert, Jordan\", mac=NTI2OTJh==",
            "mac=NTI2OTJh==,username=\"Robert, Jordan\"",
            " username=\"Robert, Jordan\" , x=y, Mac=\"NTI2OTJh==\"",
        ] {
            assert_eq!(Mac::parse(text), Ok(mac.clone()), "{text}");
        }
        assert_eq!(Mac::parse(&mac.emit()), Ok(mac));
    }

    #[test]
    fn a_header_that_lacks_a_part_is_refused() {
        for text in [
            "",
            "mac=a",
            "username=\"a\"",
            "username=\"a, mac=b",
            "algorithm=SHA1, username=\"a\", mac=b",
            "nonsense",
            &format!("username=\"{}\", mac=b", "a".repeat(500)),
        ] {
            assert!(Mac::parse(text).is_err(), "{text}");
        }
    }
}
