//! How a device gets its first account: the messages of both bootstrap profiles, and what proves
//! them.
//!
//! | module | holds |
//! | --- | --- |
//! | [`prov`] | provisioning documents in WBXML |
//! | [`w7`] | the account in such a document (CP profile) |
//!
//! A device that has no account knows no server. The proof is therefore made with what the network
//! and the user share with the sender: HMAC-SHA1 over the document with a key from the subscriber's
//! number, a PIN, or both.

use std::fmt;

use super::{encoding::Encoding, syncml::Message};
use crate::{
    crypto::{equal_in_constant_time, hmac_sha1},
    wire::{Reader, WireError},
};

pub mod prov;
pub mod w7;

/// What the proof is made with.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// The subscriber's number (IMSI), decimal.
    Network(String),
    /// A PIN that the user enters.
    Pin(String),
    /// Both.
    NetworkAndPin(String, String),
    /// A PIN of which the first half is the key.
    PinMac(String),
}

/// Shows which kind it is.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.method())
    }
}

impl Key {
    /// Returns what the CP profile calls it.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Network(_) => "NETWPIN",
            Self::Pin(_) => "USERPIN",
            Self::NetworkAndPin(..) => "USERNETWPIN",
            Self::PinMac(_) => "USERPINMAC",
        }
    }

    /// Returns the value of `SEC` in the CP profile.
    const fn number(&self) -> u8 {
        match self {
            Self::Network(_) => 0,
            Self::Pin(_) => 1,
            Self::NetworkAndPin(..) => 2,
            Self::PinMac(_) => 3,
        }
    }

    /// Returns the octets of the key of the CP profile.
    ///
    /// # Errors
    ///
    /// [`WireError`] when a number holds other characters than digits, or the PIN of USERPINMAC
    /// has an odd count of them or fewer than ten.
    // spec: oma-dm 9 (keys of the CP profile)
    fn octets(&self) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Network(imsi) => semi_octets(imsi),
            Self::Pin(pin) => Ok(digits(pin)?.as_bytes().to_vec()),
            Self::NetworkAndPin(imsi, pin) => {
                Ok([&semi_octets(imsi)?, digits(pin)?.as_bytes()].concat())
            }
            Self::PinMac(pin) => {
                let pin = digits(pin)?;
                if pin.len() < 10 || pin.len() % 2 == 1 {
                    let expected = "an even count of ten digits or more";
                    return Err(WireError::invalid("PIN", "another count", expected));
                }
                let (key, _) = pin.split_at(pin.len() / 2);
                Ok(key.as_bytes().to_vec())
            }
        }
    }
}

fn digits(text: &str) -> Result<&str, WireError> {
    if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) {
        Ok(text)
    } else {
        Err(WireError::invalid("PIN or subscriber number", "another text", "decimal digits"))
    }
}

/// A number as the card keeps it: the count's parity first, then the digits, two to an octet with
/// the first in the low half.
fn semi_octets(number: &str) -> Result<Vec<u8>, WireError> {
    let digits = digits(number)?.bytes().map(|octet| octet - b'0');
    let parity = if number.len() % 2 == 1 { 9 } else { 1 };
    let mut halves: Vec<u8> = std::iter::once(parity).chain(digits).collect();
    if halves.len() % 2 == 1 {
        halves.push(0xf);
    }
    let (pairs, _) = halves.as_chunks::<2>();
    Ok(pairs.iter().map(|[low, high]| high << 4 | low).collect())
}

fn mac(key: &[u8], document: &[u8]) -> String {
    hmac_sha1(key, document).iter().map(|octet| format!("{octet:02X}")).collect()
}

/// A document of the CP profile with its proof, as a push over WSP carries it.
///
/// ```text
/// 01 06        transaction, push
/// 2F           length of the headers
/// 1F 2D B6     content type of 45 octets, connectivity-wbxml
/// 91 8n        SEC
/// 92 … 00      MAC: 40 hex digits
/// …            the document
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Which key the proof was made with, as its number.
    security: u8,
    mac: String,
    /// The document. Nothing in it is believed before [`Push::is_proved_by`] says so.
    pub document: Vec<u8>,
}

const PUSH_HEAD: [u8; 7] = [0x01, 0x06, 0x2f, 0x1f, 0x2d, 0xb6, 0x91];
const SHORT: u8 = 0x80;
const MAC_PARAMETER: u8 = 0x92;
const MAC_DIGITS: usize = 40;

impl Push {
    /// Proves a document.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the key's parts are no decimal digits or too few.
    pub fn new(document: Vec<u8>, key: &Key) -> Result<Self, WireError> {
        Ok(Self { security: key.number(), mac: mac(&key.octets()?, &document), document })
    }

    /// Reads a push.
    ///
    /// # Errors
    ///
    /// [`WireError`] names the field at fault.
    pub fn parse(octets: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(octets);
        let [_, head @ ..] = reader.array::<7>("push headers")?;
        let [_, expected @ ..] = PUSH_HEAD;
        if head != expected {
            let found = "other headers";
            return Err(WireError::invalid("push headers", found, "connectivity-wbxml with SEC"));
        }
        let security = reader.u8("SEC")?;
        let name = reader.u8("name of the MAC")?;
        if security & SHORT == 0 || name != MAC_PARAMETER {
            return Err(WireError::invalid("push headers", "another order", "SEC, then MAC"));
        }
        let mac = std::str::from_utf8(reader.take(MAC_DIGITS, "MAC")?)
            .map_err(|_| WireError::invalid("MAC", "no text", "hex digits"))?
            .to_owned();
        if reader.u8("end of the MAC")? != 0 {
            return Err(WireError::invalid("MAC", "longer", "40 hex digits"));
        }
        Ok(Self { security: security & !SHORT, mac, document: reader.take_rest().to_vec() })
    }

    /// Writes the push.
    // spec: oma-dm 9 (push headers)
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut out = PUSH_HEAD.to_vec();
        out.extend([SHORT | self.security, MAC_PARAMETER]);
        out.extend_from_slice(self.mac.as_bytes());
        out.push(0);
        out.extend_from_slice(&self.document);
        out
    }

    /// Tells whether the holder of the key made it, in constant time.
    #[must_use]
    pub fn is_proved_by(&self, key: &Key) -> bool {
        let Ok(octets) = key.octets() else { return false };
        let expected = mac(&octets, &self.document);
        let found = self.mac.to_ascii_uppercase();
        self.security == key.number()
            && equal_in_constant_time(found.as_bytes(), expected.as_bytes())
    }
}

/// A message of the DM profile with its proof: Adds under `./Inbox`, in WBXML. No answer is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DmBootstrap {
    /// The media type with its parameters SEC and MAC.
    pub content_type: String,
    /// The message.
    pub body: Vec<u8>,
}

impl DmBootstrap {
    /// Proves a message. The secret of the network is a text here, and joined to a PIN by a colon.
    // spec: oma-dm 9 (DM profile)
    #[must_use]
    pub fn new(message: &Message, key: &Key) -> Self {
        let body = Encoding::Wbxml.emit(message);
        let content_type = Self::content_type(&body, key);
        Self { content_type, body }
    }

    /// Tells whether the holder of the key made it.
    #[must_use]
    pub fn is_proved_by(&self, key: &Key) -> bool {
        let spaceless = |text: &str| text.replace(' ', "").to_ascii_lowercase();
        let expected = spaceless(&Self::content_type(&self.body, key));
        equal_in_constant_time(spaceless(&self.content_type).as_bytes(), expected.as_bytes())
    }

    fn content_type(body: &[u8], key: &Key) -> String {
        let (security, octets) = match key {
            Key::Network(secret) => ("NETWORKID", secret.clone()),
            Key::Pin(pin) | Key::PinMac(pin) => ("USERPIN", pin.clone()),
            Key::NetworkAndPin(secret, pin) => ("USERPIN_NETWORKID", format!("{pin}:{secret}")),
        };
        let mac = mac(octets.as_bytes(), body);
        format!("{}; SEC={security}; MAC={mac}", Encoding::Wbxml.media_type())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::syncml::{Command, CommandId, Header, Item, Location, Manage, MessageId};

    const IMSI: &str = "310410123456789";

    fn keys() -> [Key; 4] {
        [
            Key::Network(IMSI.to_owned()),
            Key::Pin("1234".to_owned()),
            Key::NetworkAndPin(IMSI.to_owned(), "1234".to_owned()),
            Key::PinMac("1234567890".to_owned()),
        ]
    }

    // test: oma-dm 9
    #[test]
    fn keys_are_made_of_numbers_as_the_card_keeps_them() {
        let imsi = [0x39, 0x01, 0x14, 0x10, 0x32, 0x54, 0x76, 0x98];
        let [network, pin, both, mac] = keys().map(|key| key.octets().unwrap());
        assert_eq!(network, imsi);
        assert_eq!(pin, b"1234");
        assert_eq!(both, [&imsi[..], b"1234"].concat());
        assert_eq!(mac, b"12345");
        assert_eq!(semi_octets("12").unwrap(), [0x11, 0xf2]);
        for wrong in [Key::Pin("12a4".to_owned()), Key::Pin(String::new())] {
            assert!(wrong.octets().is_err());
        }
        for wrong in ["12345678", "12345678901"] {
            assert!(Key::PinMac(wrong.to_owned()).octets().is_err(), "{wrong}");
        }
    }

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

    // test: oma-dm 9
    #[test]
    fn a_message_of_the_dm_profile_is_proved_by_its_own_key_alone() {
        let header = Header {
            session_id: "0".to_owned(),
            message_id: MessageId(1),
            target: Location::new("IMEI:493005100592800"),
            source: Location::new("fumocast"),
            respond_to: None,
            credential: None,
            meta: None,
        };
        let add = Command::Add(Manage::new(CommandId(1), vec![Item::octets("./Inbox", *b"tnds")]));
        let message = Message { header, commands: vec![add], is_final: true };
        let [network, pin, both, _] = keys();
        for key in [&network, &pin, &both] {
            let bootstrap = DmBootstrap::new(&message, key);
            for other in [&network, &pin, &both] {
                assert_eq!(bootstrap.is_proved_by(other), key == other);
            }
            let mut changed = bootstrap.clone();
            changed.body.push(0);
            assert!(!changed.is_proved_by(key));
        }
        let bootstrap = DmBootstrap::new(&message, &pin);
        let start = "application/vnd.syncml.dm+wbxml; SEC=USERPIN; MAC=";
        assert!(bootstrap.content_type.starts_with(start), "{}", bootstrap.content_type);
        assert_eq!(format!("{network:?}"), "NETWPIN");
    }
}
