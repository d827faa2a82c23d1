//! Bootstrap of the first account: the messages of both profiles, and their proofs.
//!
//! | module | holds |
//! | --- | --- |
//! | [`prov`] | provisioning documents in WBXML |
//! | [`w7`] | the account in such a document (CP profile) |
//! | [`dmacc`] | the account as a management object (DM profile) |
//! | [`card`] | the image of a smart card's file |
//!
//! A device without an account shares no secret with a server. The proof is an HMAC-SHA1 over the
//! document, with a key from the subscriber's number, a PIN, or both.

use std::fmt;

use super::{
    encoding::{Encoding, Limits},
    syncml::{Command, CommandId, Data, Header, Item, Location, Manage, Message, MessageId, Meta},
    tnds::MgmtTree,
};
use crate::{
    crypto::{equal_in_constant_time, hmac_sha1},
    wire::{Reader, WireError},
};

pub mod card;
pub mod dmacc;
pub mod prov;
pub mod w7;

/// The method of a proof: the parameter SEC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecMethod {
    /// With the subscriber's number: NETWPIN.
    Network,
    /// With a PIN: USERPIN.
    Pin,
    /// With both: USERNETWPIN.
    NetworkAndPin,
    /// With the first half of a PIN: USERPINMAC.
    PinMac,
}

impl SecMethod {
    /// Returns whether the user's PIN is part of it.
    #[must_use]
    pub const fn wants_pin(self) -> bool {
        match self {
            Self::Network => false,
            Self::Pin | Self::NetworkAndPin | Self::PinMac => true,
        }
    }
}

/// The secrets that the device shares with the sender.
#[derive(Clone, Default)]
pub struct SharedSecrets {
    /// The subscriber's number (IMSI).
    pub network: Option<String>,
    /// The PIN that the user was given.
    pub pin: Option<String>,
}

/// Shows which secrets are set.
impl fmt::Debug for SharedSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (network, pin) = (self.network.is_some(), self.pin.is_some());
        write!(formatter, "SharedSecrets {{ network: {network}, pin: {pin} }}")
    }
}

impl SharedSecrets {
    /// Returns the key of a method.
    ///
    /// # Errors
    ///
    /// The name of the missing secret, for a person.
    pub fn key(&self, method: SecMethod) -> Result<SecKey, &'static str> {
        let network = || self.network.clone().ok_or("the subscriber's number");
        let pin = || self.pin.clone().ok_or("the PIN");
        Ok(match method {
            SecMethod::Network => SecKey::Network(network()?),
            SecMethod::Pin => SecKey::Pin(pin()?),
            SecMethod::NetworkAndPin => SecKey::NetworkAndPin(network()?, pin()?),
            SecMethod::PinMac => SecKey::PinMac(pin()?),
        })
    }
}

/// The key of a proof.
#[derive(Clone, PartialEq, Eq)]
pub enum SecKey {
    /// The subscriber's number (IMSI), decimal.
    Network(String),
    /// A PIN that the user enters.
    Pin(String),
    /// Both.
    NetworkAndPin(String, String),
    /// A PIN of which the first half is the key.
    PinMac(String),
}

/// Shows its kind alone.
impl fmt::Debug for SecKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.method())
    }
}

impl SecKey {
    /// Returns its name in the CP profile.
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

/// A number as the card stores it: the count's parity first, then the digits, two to an octet with
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
    /// The number of the method of the proof.
    security: u8,
    mac: String,
    document: Vec<u8>,
}

/// The media type of a provisioning document.
pub const CONNECTIVITY: &str = "application/vnd.wap.connectivity-wbxml";

const PUSH_HEAD: [u8; 7] = [0x01, 0x06, 0x2f, 0x1f, 0x2d, 0xb6, 0x91];
const SHORT: u8 = 0x80;
const MAC_PARAMETER: u8 = 0x92;
const MAC_DIGITS: usize = 40;

impl Push {
    /// Returns the document, not authenticated before [`Self::is_proved_by`] returns true.
    #[must_use]
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// Proves a document.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the key's parts are no decimal digits or too few.
    pub fn new(document: Vec<u8>, key: &SecKey) -> Result<Self, WireError> {
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
        Ok(Self { security: security & !SHORT, mac, document: reader.take_remaining().to_vec() })
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

    /// Returns the media type with the proof, as a push over HTTP carries it beside the document.
    #[must_use]
    pub fn content_type(&self) -> String {
        format!("{CONNECTIVITY}; SEC={}; MAC={}", self.security, self.mac)
    }

    /// Parses a push over HTTP.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the media type is another, or lacks the proof.
    pub fn from_post(content_type: &str, document: &[u8]) -> Result<Self, WireError> {
        let wrong = |found| WireError::invalid("media type", found, "connectivity-wbxml, SEC, MAC");
        let (media_type, parameters) = content_type.split_once(';').unwrap_or_default();
        if !media_type.trim().eq_ignore_ascii_case(CONNECTIVITY) {
            return Err(wrong("another"));
        }
        let parameter = |name: &str| {
            let mut pairs = parameters.split(';').filter_map(|it| it.trim().split_once('='));
            let named = pairs.find(|(found, _)| found.eq_ignore_ascii_case(name));
            named.map(|(_, value)| value.trim_matches('"'))
        };
        let security = parameter("SEC").and_then(|it| it.parse().ok()).filter(|it| *it < SHORT);
        let mac = parameter("MAC").filter(|mac| mac.len() == MAC_DIGITS);
        let (Some(security), Some(mac)) = (security, mac) else { return Err(wrong("no proof")) };
        Ok(Self { security, mac: mac.to_owned(), document: document.to_vec() })
    }

    /// Returns the method of the proof, if it is one of the four.
    #[must_use]
    pub const fn method(&self) -> Option<SecMethod> {
        match self.security {
            0 => Some(SecMethod::Network),
            1 => Some(SecMethod::Pin),
            2 => Some(SecMethod::NetworkAndPin),
            3 => Some(SecMethod::PinMac),
            _ => None,
        }
    }

    /// Returns whether the holder of the key made it, in constant time.
    #[must_use]
    pub fn is_proved_by(&self, key: &SecKey) -> bool {
        let Ok(octets) = key.octets() else { return false };
        let expected = mac(&octets, &self.document);
        let found = self.mac.to_ascii_uppercase();
        self.security == key.number()
            && equal_in_constant_time(found.as_bytes(), expected.as_bytes())
    }
}

/// A message of the DM profile with its proof: Adds under `./Inbox`, in WBXML. No answer is sent.
///
/// In a file it stands as in a push over HTTP:
///
/// ```text
/// Content-Type: application/vnd.syncml.dm+wbxml; SEC=USERPIN; MAC=<40 hex digits>
/// <empty line>
/// <message>
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DmBootstrap {
    /// The media type with its parameters SEC and MAC.
    pub content_type: String,
    /// The message, not authenticated before [`DmBootstrap::is_proved_by`] returns true.
    pub body: Vec<u8>,
}

const HEADER_NAME: &str = "Content-Type: ";
const END_OF_HEADERS: &[u8] = b"\r\n\r\n";
/// Octets that the header may have.
const MAX_CONTENT_TYPE: usize = 256;
const INBOX: &str = "./Inbox";

impl DmBootstrap {
    /// Proves a message. The secret of the network is a text here, and joined to a PIN by a colon.
    // spec: oma-dm 9 (DM profile)
    #[must_use]
    pub fn new(message: &Message, key: &SecKey) -> Self {
        let body = Encoding::Wbxml.emit(message);
        let content_type = Self::content_type(&body, key);
        Self { content_type, body }
    }

    /// Proves the message that gives a device an account.
    #[must_use]
    pub fn for_account(account: &w7::Account, device: &str, key: &SecKey) -> Self {
        let document = dmacc::to_tree(account).emit(Encoding::Wbxml);
        let item = Item::octets(INBOX, document);
        let kind = Some(MgmtTree::media_type(Encoding::Wbxml).to_owned());
        let meta = Some(Meta { kind, ..item.meta.unwrap_or_default() });
        let item = Item { meta, ..item };
        let header = Header {
            session_id: "1".to_owned(),
            message_id: MessageId(1),
            target: Location::new(device),
            source: Location::new(&account.server_id),
            respond_to: None,
            credential: None,
            meta: None,
        };
        let add = Command::Add(Manage::new(CommandId(1), vec![item]));
        Self::new(&Message { header, commands: vec![add], is_final: true }, key)
    }

    /// Returns the account that the message adds.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it is no message in WBXML that adds one under `./Inbox`.
    pub fn account(&self) -> Result<w7::Account, WireError> {
        let unreadable = |error: &dyn fmt::Display| {
            WireError::invalid("bootstrap message", error, "Adds of an account under ./Inbox")
        };
        let limits = Limits::default();
        let message =
            Encoding::Wbxml.parse(&self.body, &limits).map_err(|error| unreadable(&error))?;
        let added = message.commands.iter().filter_map(|command| match command {
            Command::Add(add) => Some(&add.items),
            Command::Alert(_)
            | Command::Atomic(_)
            | Command::Copy(_)
            | Command::Delete(_)
            | Command::Exec(_)
            | Command::Get(_)
            | Command::Replace(_)
            | Command::Results(_)
            | Command::Sequence(_)
            | Command::Status(_) => None,
        });
        let in_inbox = |item: &&Item| {
            let target = item.target_uri().unwrap_or_default();
            target == INBOX || target.strip_prefix(INBOX).is_some_and(|it| it.starts_with('/'))
        };
        let mut refusal = unreadable(&"none");
        for item in added.flatten().filter(in_inbox) {
            let (encoding, octets) = match &item.data {
                Some(Data::Octets(octets)) => (Encoding::Wbxml, octets.as_slice()),
                Some(Data::Text(text)) => (Encoding::Xml, text.as_bytes()),
                None => continue,
            };
            let tree = MgmtTree::parse(octets, encoding, &limits);
            let tree = tree.map_err(|error| unreadable(&error))?;
            match dmacc::from_tree(&tree) {
                Ok(account) => return Ok(account),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Parses its form in a file.
    ///
    /// # Errors
    ///
    /// [`WireError`] when there is no header of such a message.
    pub fn parse(octets: &[u8]) -> Result<Self, WireError> {
        let wrong =
            |found: &'static str| WireError::invalid("header", found, "Content-Type, SEC and MAC");
        let end = octets.windows(END_OF_HEADERS.len()).position(|it| it == END_OF_HEADERS);
        let (head, tail) = end.and_then(|end| octets.split_at_checked(end)).unwrap_or_default();
        let head = std::str::from_utf8(head).map_err(|_| wrong("no text"))?;
        let is_name = |name: &&str| name.eq_ignore_ascii_case(HEADER_NAME);
        let content_type = head
            .split_at_checked(HEADER_NAME.len())
            .filter(|(name, _)| is_name(name))
            .map(|(_, value)| value.trim())
            .filter(|value| value.len() <= MAX_CONTENT_TYPE)
            .ok_or_else(|| wrong("another header"))?;
        if !content_type.starts_with(Encoding::Wbxml.media_type()) {
            return Err(wrong("another media type"));
        }
        let body = tail.get(END_OF_HEADERS.len()..).unwrap_or_default().to_vec();
        Ok(Self { content_type: content_type.to_owned(), body })
    }

    /// Writes the form that it has in a file.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let head = [HEADER_NAME.as_bytes(), self.content_type.as_bytes()].concat();
        [head.as_slice(), END_OF_HEADERS, &self.body].concat()
    }

    /// Returns the method of the proof, if this profile has it.
    #[must_use]
    pub fn method(&self) -> Option<SecMethod> {
        let text = self.content_type.to_ascii_uppercase();
        let mut parameters = text.split(';').map(str::trim);
        match parameters.find_map(|it| it.strip_prefix("SEC="))? {
            "NETWORKID" => Some(SecMethod::Network),
            "USERPIN" => Some(SecMethod::Pin),
            "USERPIN_NETWORKID" => Some(SecMethod::NetworkAndPin),
            _ => None,
        }
    }

    /// Returns whether the holder of the key made it.
    #[must_use]
    pub fn is_proved_by(&self, key: &SecKey) -> bool {
        let spaceless = |text: &str| text.replace(' ', "").to_ascii_lowercase();
        let expected = spaceless(&Self::content_type(&self.body, key));
        equal_in_constant_time(spaceless(&self.content_type).as_bytes(), expected.as_bytes())
    }

    fn content_type(body: &[u8], key: &SecKey) -> String {
        let (security, octets) = match key {
            SecKey::Network(secret) => ("NETWORKID", secret.clone()),
            SecKey::Pin(pin) | SecKey::PinMac(pin) => ("USERPIN", pin.clone()),
            SecKey::NetworkAndPin(secret, pin) => ("USERPIN_NETWORKID", format!("{pin}:{secret}")),
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

    fn keys() -> [SecKey; 4] {
        [
            SecKey::Network(IMSI.to_owned()),
            SecKey::Pin("1234".to_owned()),
            SecKey::NetworkAndPin(IMSI.to_owned(), "1234".to_owned()),
            SecKey::PinMac("1234567890".to_owned()),
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
        for wrong in [SecKey::Pin("12a4".to_owned()), SecKey::Pin(String::new())] {
            assert!(wrong.octets().is_err());
        }
        for wrong in ["12345678", "12345678901"] {
            assert!(SecKey::PinMac(wrong.to_owned()).octets().is_err(), "{wrong}");
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

    // test: oma-dm 9
    #[test]
    fn an_account_of_the_dm_profile_survives_its_file() {
        let account = w7::Account {
            server_id: "fumocast".to_owned(),
            addresses: vec![w7::Address {
                address: "https://dm.example/dm".to_owned(),
                kind: Some("URI".to_owned()),
                ports: Vec::new(),
            }],
            ..w7::Account::default()
        };
        let [network, pin, both, _] = keys();
        let methods = [SecMethod::Network, SecMethod::Pin, SecMethod::NetworkAndPin];
        for (key, method) in [network, pin, both].iter().zip(methods) {
            let octets = DmBootstrap::for_account(&account, "LAB-0001", key).emit();
            let read = DmBootstrap::parse(&octets).unwrap();
            assert!(read.is_proved_by(key) && read.method() == Some(method));
            assert_eq!(read.account().as_ref(), Ok(&account));
            for length in 0..octets.len() {
                if let Ok(cut) = DmBootstrap::parse(&octets[..length]) {
                    assert!(!cut.is_proved_by(key) && cut.account().is_err(), "{length}");
                }
            }
        }
        assert!(DmBootstrap::parse(b"Content-Type: text/plain\r\n\r\n").is_err());
    }

    #[test]
    fn a_key_is_made_of_what_the_method_takes() {
        let secrets =
            SharedSecrets { network: Some(IMSI.to_owned()), pin: Some("1234".to_owned()) };
        let [network, pin, both, _] = keys();
        assert!(secrets.key(SecMethod::Network) == Ok(network));
        assert!(secrets.key(SecMethod::Pin) == Ok(pin));
        assert!(secrets.key(SecMethod::NetworkAndPin) == Ok(both));
        let nothing = SharedSecrets::default();
        assert_eq!(nothing.key(SecMethod::NetworkAndPin), Err("the subscriber's number"));
        assert_eq!(nothing.key(SecMethod::PinMac), Err("the PIN"));
        assert!(SecMethod::PinMac.wants_pin() && !SecMethod::Network.wants_pin());
        assert!(!format!("{secrets:?}").contains("1234"));
    }
}
