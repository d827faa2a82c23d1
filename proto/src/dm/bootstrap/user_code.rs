//! The user's code of USERPINMAC: a key and the MAC of one document, both as decimal digits.
//!
//! ```text
//! code = K ‖ m                                   what the person is given, by other means
//! m(i) = HMAC-SHA1(K, document)(i) mod 10        as many digits as K has
//! ```
//!
//! Nothing of it travels with the document: who captures the push learns neither half.

use std::fmt;

use zeroize::Zeroize as _;

use crate::{
    crypto::{equal_in_constant_time, hmac_sha1},
    wire::WireError,
};

/// Digits of a key that is made here.
const KEY_DIGITS: usize = 5;
/// Digits of a key of others.
const MIN_KEY_DIGITS: usize = 4;
const MAX_KEY_DIGITS: usize = 10;

/// The key of a code: random decimal digits. It is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeKey(String);

impl CodeKey {
    /// Returns the key of five digits that random octets select.
    #[must_use]
    pub fn from_random(octets: [u8; 8]) -> Self {
        let number = u64::from_be_bytes(octets) % 100_000;
        Self(format!("{number:0KEY_DIGITS$}"))
    }
}

/// Shows nothing of the key.
impl fmt::Debug for CodeKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CodeKey")
    }
}

impl Drop for CodeKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The user's code for one document. It is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct UserCode(String);

/// Shows nothing of the code.
impl fmt::Debug for UserCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("UserCode")
    }
}

impl Drop for UserCode {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl UserCode {
    /// Makes the code for a document.
    // spec: oma-dm 9 (USERPINMAC)
    #[must_use]
    pub fn new(key: &CodeKey, document: &[u8]) -> Self {
        Self(format!("{}{}", key.0, mac_digits(&key.0, document)))
    }

    /// Reads the code that a person enters.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it has other characters than digits, or not an even count of 8 to 20.
    // spec: oma-dm 9 (USERPINMAC)
    pub fn parse(text: &str) -> Result<Self, WireError> {
        let code = digits(text)?;
        let is_whole =
            code.len() % 2 == 0 && (MIN_KEY_DIGITS..=MAX_KEY_DIGITS).contains(&(code.len() / 2));
        if !is_whole {
            let found = format!("{} digits", code.len());
            return Err(WireError::invalid("user's code", found, "an even count of 8 to 20"));
        }
        Ok(Self(code.to_owned()))
    }

    /// Returns whether the code is that of the document; its second half is compared in constant
    /// time.
    // spec: oma-dm 9 (USERPINMAC)
    #[must_use]
    pub fn proves(&self, document: &[u8]) -> bool {
        let (key, mac) = self.0.split_at(self.0.len() / 2);
        equal_in_constant_time(mac.as_bytes(), mac_digits(key, document).as_bytes())
    }

    /// Returns the digits, for the person alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Checks that a text has decimal digits alone, at least one.
pub(super) fn digits(text: &str) -> Result<&str, WireError> {
    if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) {
        Ok(text)
    } else {
        Err(WireError::invalid("PIN or subscriber number", "another text", "decimal digits"))
    }
}

fn mac_digits(key: &str, document: &[u8]) -> String {
    decimal(&hmac_sha1(key.as_bytes(), document), key.len())
}

fn decimal(mac: &[u8], count: usize) -> String {
    mac.iter().take(count).map(|octet| char::from(b'0' + octet % 10)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // test: oma-dm 9 (USERPINMAC)
    #[test]
    fn the_digits_of_the_vector_come_out() {
        assert_eq!(decimal(&[0x8c, 0x58, 0x1a, 0xf5, 0x01, 0xff], 5), "08651");
    }

    // test: oma-dm 9 (USERPINMAC)
    #[test]
    fn a_code_proves_its_own_document_with_both_of_its_halves() {
        let code = UserCode::new(&CodeKey::from_random([0xa5; 8]), b"document");
        assert_eq!(code.reveal().len(), 10);
        assert!(code.proves(b"document") && !code.proves(b"documents"));
        for at in 0..10 {
            let mut wrong = code.reveal().to_owned().into_bytes();
            wrong[at] = b'0' + (wrong[at] - b'0' + 1) % 10;
            let wrong = UserCode::parse(std::str::from_utf8(&wrong).unwrap()).unwrap();
            assert!(!wrong.proves(b"document"), "digit {at}");
        }
        assert_eq!(CodeKey::from_random([0; 8]).0, "00000", "five digits, whatever the number");
    }

    // test: oma-dm 9 (USERPINMAC)
    #[test]
    fn a_key_of_others_has_four_to_ten_digits() {
        for (count, is_read) in
            [(0, false), (6, false), (8, true), (9, false), (11, false), (20, true), (22, false)]
        {
            assert_eq!(UserCode::parse(&"7".repeat(count)).is_ok(), is_read, "{count}");
        }
        assert!(UserCode::parse("12345o8651").is_err());
        for key in ["1234", "1234567890"] {
            let code = format!("{key}{}", mac_digits(key, b"document"));
            assert!(UserCode::parse(&code).unwrap().proves(b"document"), "{key}");
        }
    }

    #[test]
    fn the_debug_forms_hide_the_code() {
        let key = CodeKey::from_random([7; 8]);
        let shown = format!("{key:?} {:?}", UserCode::new(&key, b"document"));
        assert!(!shown.contains(|c: char| c.is_ascii_digit()), "{shown}");
    }
}
