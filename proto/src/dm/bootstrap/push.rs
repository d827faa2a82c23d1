//! A document of the CP profile with its proof, as a push carries it.
//!
//! ```text
//! 01 06        transaction, push
//! 2F           length of the headers
//! 1F 2D B6     content type of 45 octets, connectivity-wbxml
//! 91 8n        SEC
//! 92 … 00      MAC: 40 hex digits
//! …            the document
//! ```
//!
//! With SEC 3 (USERPINMAC) there is no MAC: `01 06 04 03 B6 91 83`. The parameters are read in any
//! order, and with others beside them.

use super::{
    proof::{SecKey, SecMethod, SharedSecrets, mac},
    user_code::{CodeKey, UserCode},
};
use crate::{
    crypto::equal_in_constant_time,
    dm::push::number,
    wire::{Reader, WireError},
};

/// The media type of a provisioning document.
pub const CONNECTIVITY: &str = "application/vnd.wap.connectivity-wbxml";

const PUSH: u8 = 0x06;
/// A short integer of WSP, and the name of a known parameter, have this bit.
const SHORT: u8 = 0x80;
/// Number of the media type.
const CONNECTIVITY_NUMBER: u8 = 0x36;
const SEC_PARAMETER: u8 = 0x11;
const MAC_PARAMETER: u8 = 0x12;
const MAC_DIGITS: usize = 40;
/// A length that follows in a number of its own.
const LENGTH_QUOTE: u8 = 0x1f;
/// The value of SEC without a MAC.
const USER_PIN_MAC: u8 = 3;

/// A document of the CP profile with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The number of the method of the proof.
    security: u8,
    /// Its hex digits; absent with USERPINMAC.
    mac: Option<String>,
    document: Vec<u8>,
}

impl Push {
    /// Returns the document, not authenticated before [`Self::is_proved`] returns true.
    #[must_use]
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// Proves a document.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the key's parts are no decimal digits.
    pub fn new(document: Vec<u8>, key: &SecKey) -> Result<Self, WireError> {
        let mac = Some(mac(&key.octets()?, &document));
        Ok(Self { security: key.number(), mac, document })
    }

    /// Returns a document whose proof is the user's code, and the code.
    // spec: oma-dm 9 (USERPINMAC)
    #[must_use]
    pub fn with_user_code(document: Vec<u8>, key: &CodeKey) -> (Self, UserCode) {
        let code = UserCode::new(key, &document);
        (Self { security: USER_PIN_MAC, mac: None, document }, code)
    }

    /// Reads a push over WSP.
    ///
    /// # Errors
    ///
    /// [`WireError`] names the field at fault.
    pub fn parse(octets: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(octets);
        reader.u8("transaction")?;
        if reader.u8("PDU type")? != PUSH {
            return Err(WireError::invalid("PDU type", "another", "a push (06)"));
        }
        let length = number(&mut reader)?;
        let mut headers = Reader::new(reader.take(length, "push headers")?);
        let length = match headers.u8("length of the content type")? {
            LENGTH_QUOTE => number(&mut headers)?,
            short => usize::from(short),
        };
        let mut content_type = Reader::new(headers.take(length, "content type")?);
        if !is_connectivity(&mut content_type)? {
            return Err(WireError::invalid("content type", "another", CONNECTIVITY));
        }
        let (mut security, mut mac) = (None, None);
        while !content_type.is_empty() {
            let is_again = match content_type.u8("parameter of the content type")? {
                name if name == SHORT | SEC_PARAMETER => {
                    security.replace(integer(&mut content_type)?).is_some()
                }
                name if name == SHORT | MAC_PARAMETER => {
                    mac.replace(text(&mut content_type, "MAC")?).is_some()
                }
                name => {
                    if name & SHORT == 0 {
                        text(&mut content_type, "name of a parameter")?;
                    }
                    skip_value(&mut content_type)?;
                    false
                }
            };
            if is_again {
                return Err(WireError::invalid("content type", "SEC or MAC twice", "each once"));
            }
        }
        let security = security
            .ok_or_else(|| WireError::invalid("content type", "no SEC", "SEC, 0 to 3, and MAC"))?;
        let mac = mac.and_then(|mac| std::str::from_utf8(mac).ok());
        Self::with_parts(security, mac, reader.take_remaining())
    }

    /// Makes a push of its parts; a MAC beside SEC 3 is dropped.
    fn with_parts(security: u8, mac: Option<&str>, document: &[u8]) -> Result<Self, WireError> {
        let is_hex = |mac: &&str| {
            mac.len() == MAC_DIGITS && mac.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        // spec: oma-dm 9 (USERPINMAC: a MAC in the push is ignored)
        let mac = match security {
            USER_PIN_MAC => None,
            _ => Some(mac.filter(is_hex).map(str::to_owned).ok_or_else(|| {
                WireError::invalid("MAC", "absent or of another form", "40 hex digits")
            })?),
        };
        Ok(Self { security, mac, document: document.to_vec() })
    }

    /// Writes the push over WSP.
    // spec: oma-dm 9 (push headers)
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let sec = [SHORT | CONNECTIVITY_NUMBER, SHORT | SEC_PARAMETER, SHORT | self.security];
        let mut out = vec![0x01, PUSH];
        match &self.mac {
            None => {
                out.extend([0x04, 0x03]);
                out.extend(sec);
            }
            Some(mac) => {
                out.extend([0x2f, LENGTH_QUOTE, 0x2d]);
                out.extend(sec);
                out.push(SHORT | MAC_PARAMETER);
                out.extend_from_slice(mac.as_bytes());
                out.push(0);
            }
        }
        out.extend_from_slice(&self.document);
        out
    }

    /// Returns the media type with the proof, as a push over HTTP carries it beside the document.
    #[must_use]
    pub fn content_type(&self) -> String {
        let mac = self.mac.as_ref().map(|mac| format!("; MAC={mac}")).unwrap_or_default();
        format!("{CONNECTIVITY}; SEC={}{mac}", self.security)
    }

    /// Parses a push over HTTP.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the media type is another, or lacks the proof.
    pub fn from_post(content_type: &str, document: &[u8]) -> Result<Self, WireError> {
        let wrong = |found| WireError::invalid("media type", found, "connectivity-wbxml, SEC, MAC");
        let media_type = content_type.split(';').next().unwrap_or_default();
        if !media_type.trim().eq_ignore_ascii_case(CONNECTIVITY) {
            return Err(wrong("another"));
        }
        let security = parameter(content_type, "SEC").and_then(|it| it.parse().ok());
        let security = security.filter(|it| *it < SHORT).ok_or_else(|| wrong("no SEC"))?;
        Self::with_parts(security, parameter(content_type, "MAC"), document)
    }

    /// Returns the method of the proof, if it is one of the four.
    #[must_use]
    pub const fn method(&self) -> Option<SecMethod> {
        match self.security {
            0 => Some(SecMethod::Network),
            1 => Some(SecMethod::Pin),
            2 => Some(SecMethod::NetworkAndPin),
            USER_PIN_MAC => Some(SecMethod::UserCode),
            _ => None,
        }
    }

    /// Returns whether the holder of the secrets made it.
    ///
    /// # Errors
    ///
    /// The name of the secret that the method needs and that is missing or has another form.
    pub fn is_proved(&self, secrets: &SharedSecrets) -> Result<bool, &'static str> {
        match self.method() {
            Some(SecMethod::UserCode) => Ok(secrets.code()?.proves(&self.document)),
            Some(SecMethod::Network) => Ok(self.is_proved_by(&secrets.network_key()?)),
            Some(SecMethod::Pin) => Ok(self.is_proved_by(&secrets.pin_key()?)),
            Some(SecMethod::NetworkAndPin) => Ok(self.is_proved_by(&secrets.both_keys()?)),
            None => Ok(false),
        }
    }

    /// Returns whether the holder of the key made it, in constant time.
    #[must_use]
    pub fn is_proved_by(&self, key: &SecKey) -> bool {
        let (Ok(octets), Some(found)) = (key.octets(), &self.mac) else { return false };
        let expected = mac(&octets, &self.document);
        self.security == key.number()
            && equal_in_constant_time(found.to_ascii_uppercase().as_bytes(), expected.as_bytes())
    }
}

/// Returns the value of a parameter of a media type.
pub(super) fn parameter<'t>(content_type: &'t str, name: &str) -> Option<&'t str> {
    let mut pairs = content_type.split(';').skip(1).filter_map(|it| it.trim().split_once('='));
    let named = pairs.find(|(found, _)| found.trim().eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim().trim_matches('"'))
}

/// Reads the media type as a number or as text.
fn is_connectivity(reader: &mut Reader<'_>) -> Result<bool, WireError> {
    let mut ahead = reader.clone();
    if ahead.u8("content type")? & SHORT == 0 {
        return Ok(text(reader, "content type")?.eq_ignore_ascii_case(CONNECTIVITY.as_bytes()));
    }
    Ok(reader.u8("content type")? == SHORT | CONNECTIVITY_NUMBER)
}

/// Reads a number below 128: a short integer, or a long one of one octet.
fn integer(reader: &mut Reader<'_>) -> Result<u8, WireError> {
    let short = match reader.u8("SEC")? {
        1 => reader.u8("SEC")? | SHORT,
        short => short,
    };
    if short & SHORT == 0 {
        return Err(WireError::invalid("SEC", "no short integer", "0 to 3"));
    }
    Ok(short & !SHORT)
}

/// Reads a text up to its zero.
fn text<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<&'a [u8], WireError> {
    let ahead = reader.clone().take_remaining();
    let length = ahead.iter().position(|octet| *octet == 0);
    let length = length.ok_or_else(|| WireError::invalid(field, "no end", "text and a zero"))?;
    let text = reader.take(length, field)?;
    reader.u8(field)?;
    // A quote precedes texts that begin like a number, and any other by habit of some encoders.
    Ok(text.strip_prefix(&[0x7f]).or_else(|| text.strip_prefix(b"\"")).unwrap_or(text))
}

/// Skips the value of another parameter.
fn skip_value(reader: &mut Reader<'_>) -> Result<(), WireError> {
    const VALUE: &str = "value of a parameter";
    let mut ahead = reader.clone();
    match ahead.u8(VALUE)? {
        LENGTH_QUOTE => {
            *reader = ahead;
            let length = number(reader)?;
            reader.take(length, VALUE).map(drop)
        }
        length if length < LENGTH_QUOTE => {
            *reader = ahead;
            reader.take(usize::from(length), VALUE).map(drop)
        }
        first if first & SHORT == 0 => text(reader, VALUE).map(drop),
        _ => reader.u8(VALUE).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::proof::tests::keys, *};

    // test: oma-dm 9
    #[test]
    fn a_push_is_proved_by_its_own_key_alone() {
        for (number, key) in (0_u8..).zip(keys()) {
            let push = Push::new(b"document".to_vec(), &key).unwrap();
            let octets = push.emit();
            let head = [0x01, 0x06, 0x2f, 0x1f, 0x2d, 0xb6, 0x91, 0x80 | number, 0x92];
            assert!(octets.starts_with(&head));
            assert_eq!(octets.len(), 9 + 40 + 1 + 8);
            assert_eq!(Push::parse(&octets).as_ref(), Ok(&push));
            let posted = Push::from_post(&push.content_type(), &push.document);
            assert_eq!(posted.as_ref(), Ok(&push));
            for other in keys() {
                assert_eq!(push.is_proved_by(&other), other == key, "{key:?} {other:?}");
            }
            let mut changed = push.clone();
            changed.document.push(b'x');
            assert!(!changed.is_proved_by(&key));
            for length in 0..octets.len() - 8 {
                assert!(Push::parse(&octets[..length]).is_err(), "{length}");
            }
        }
    }

    // test: oma-dm 9 (USERPINMAC)
    #[test]
    fn a_push_with_a_user_code_carries_nothing_of_it() {
        let key = CodeKey::from_random([9; 8]);
        let (push, code) = Push::with_user_code(b"document".to_vec(), &key);
        let octets = push.emit();
        assert_eq!(octets, [&[0x01, 0x06, 0x04, 0x03, 0xb6, 0x91, 0x83][..], b"document"].concat());
        assert_eq!(push.content_type(), format!("{CONNECTIVITY}; SEC=3"));
        let proved = |push: &Push, code: &str| {
            push.is_proved(&SharedSecrets { network: None, pin: Some(code.to_owned()) })
        };
        let with_mac = format!("{CONNECTIVITY}; SEC=3; MAC={}", mac(b"12345", b"document"));
        for read in [
            Push::parse(&octets).unwrap(),
            Push::from_post(&push.content_type(), b"document").unwrap(),
            Push::from_post(&with_mac, b"document").unwrap(),
        ] {
            assert_eq!(read, push, "a MAC in it is ignored");
            assert_eq!(proved(&read, code.reveal()), Ok(true));
            assert_eq!(proved(&read, &code.reveal()[..8]), Ok(false), "another key");
            assert!(proved(&read, &code.reveal()[..5]).is_err(), "half a code");
            assert!(!read.is_proved_by(&SecKey::Pin(code.reveal().to_owned())));
        }
        assert!(push.is_proved(&SharedSecrets::default()).is_err());
    }

    // test: oma-dm 9 (push headers)
    #[test]
    fn parameters_are_read_in_any_order_and_with_others() {
        let key = SecKey::Pin("1234".to_owned());
        let push = Push::new(b"document".to_vec(), &key).unwrap();
        let mac = push.mac.clone().unwrap().to_lowercase();
        let text = [CONNECTIVITY.as_bytes(), &[0]].concat();
        let mac_first = [&[0xb6, 0x92][..], mac.as_bytes(), &[0, 0x91, 0x81]].concat();
        let charset = [&[0xb6, 0x81, 0xea, 0x91, 0x01, 0x01, 0x92], mac.as_bytes(), &[0]].concat();
        let long = [
            &text[..],
            &[0x91, 0x81, 0x81, 0x02, 0x03, 0xe8, b'x', 0, b'y', 0, 0x92],
            mac.as_bytes(),
            &[0],
        ];
        for value in [mac_first, charset, long.concat()] {
            let length = u8::try_from(value.len()).unwrap();
            // With another header after the content type.
            let octets =
                [&[0x07, 0x06, length + 4, 0x1f, length], &value[..], &[0xaf, 0x85], b"document"];
            let read = Push::parse(&octets.concat()).unwrap();
            assert!(read.is_proved_by(&key), "{value:02x?}");
        }
        let twice = [0x01, 0x06, 0x06, 0x05, 0xb6, 0x91, 0x83, 0x91, 0x81];
        assert!(Push::parse(&twice).unwrap_err().to_string().contains("twice"));
        assert!(Push::parse(&[0x01, 0x06, 0x02, 0x01, 0xb6]).is_err(), "no SEC");
        assert!(Push::parse(&[0x01, 0x06, 0x04, 0x03, 0xb6, 0x91, 0x81]).is_err(), "no MAC");
    }
}
