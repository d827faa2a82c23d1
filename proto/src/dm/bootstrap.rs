//! Bootstrap of the first account: the messages of both profiles, and their proofs.
//!
//! | module | holds |
//! | --- | --- |
//! | [`push`] | a document of the CP profile with its proof |
//! | [`user_code`] | the user's code of USERPINMAC |
//! | `proof` | the methods of proofs, and the keys of those with a MAC |
//! | [`prov`] | provisioning documents in WBXML |
//! | [`w7`] | the account in such a document (CP profile) |
//! | [`dmacc`] | the account as a management object (DM profile) |
//! | [`card`] | the image of a smart card's file |
//!
//! A device without an account shares no secret with a server. The proof is an HMAC-SHA1 over the
//! document, with a key from the subscriber's number, a PIN, or both; or a code for one document,
//! which the user is given.

use std::fmt;

use super::{
    encoding::{Encoding, Limits},
    syncml::{Command, CommandId, Data, Header, Item, Location, Manage, Message, MessageId, Meta},
    tnds::MgmtTree,
};
use crate::{crypto::equal_in_constant_time, wire::WireError};

pub mod card;
pub mod dmacc;
mod proof;
pub mod prov;
pub mod push;
pub mod user_code;
pub mod w7;

use proof::mac;
pub use proof::{SecKey, SecMethod, SharedSecrets};
pub use push::{CONNECTIVITY, Push};

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

const HEADER_NAME: &str = "Content-Type";
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
            message_id: MessageId::new(1),
            target: Location::new(device),
            source: Location::new(&account.server_id),
            respond_to: None,
            credential: None,
            meta: None,
        };
        let add = Command::Add(Manage::new(CommandId::new(1), vec![item]));
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
            | Command::Rejected(_)
            | Command::Replace(_)
            | Command::Results(_)
            | Command::Sequence(_)
            | Command::Status(_) => None,
        });
        let in_inbox = |item: &&Item| {
            let target = item.target_uri().unwrap_or_default();
            let target = target.strip_prefix("./").unwrap_or(target);
            let below = INBOX.strip_prefix("./").and_then(|inbox| target.strip_prefix(inbox));
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
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

    /// Returns a message that came by a private way, without a proof.
    #[must_use]
    pub fn unproved(body: &[u8]) -> Self {
        Self { content_type: String::new(), body: body.to_vec() }
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
        let content_type = head
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case(HEADER_NAME))
            .map(|(_, value)| value.trim())
            .filter(|value| value.len() <= MAX_CONTENT_TYPE)
            .ok_or_else(|| wrong("another header"))?;
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case(Encoding::Wbxml.media_type()) {
            return Err(wrong("another media type"));
        }
        let body = tail.get(END_OF_HEADERS.len()..).unwrap_or_default().to_vec();
        Ok(Self { content_type: content_type.to_owned(), body })
    }

    /// Writes the form that it has in a file.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let head = format!("{HEADER_NAME}: {}", self.content_type);
        [head.as_bytes(), END_OF_HEADERS, &self.body].concat()
    }

    /// Returns the method of the proof, if this profile has it.
    #[must_use]
    pub fn method(&self) -> Option<SecMethod> {
        match push::parameter(&self.content_type, "SEC")?.to_ascii_uppercase().as_str() {
            "NETWORKID" => Some(SecMethod::Network),
            "USERPIN" => Some(SecMethod::Pin),
            "USERPIN_NETWORKID" => Some(SecMethod::NetworkAndPin),
            _ => None,
        }
    }

    /// Returns whether the holder of the secrets made it.
    ///
    /// # Errors
    ///
    /// The name of the missing secret, for a person.
    pub fn is_proved(&self, secrets: &SharedSecrets) -> Result<bool, &'static str> {
        let key = match self.method() {
            Some(SecMethod::Network) => secrets.network_key()?,
            Some(SecMethod::Pin) => secrets.pin_key()?,
            Some(SecMethod::NetworkAndPin) => secrets.both_keys()?,
            Some(SecMethod::UserCode) | None => return Ok(false),
        };
        Ok(self.is_proved_by(&key))
    }

    /// Returns whether the holder of the key made it, in constant time.
    #[must_use]
    pub fn is_proved_by(&self, key: &SecKey) -> bool {
        let named = push::parameter(&self.content_type, "SEC").unwrap_or_default();
        let found = push::parameter(&self.content_type, "MAC").unwrap_or_default();
        let (security, octets) = Self::key(key);
        let expected = mac(&octets, &self.body);
        named.eq_ignore_ascii_case(security)
            && equal_in_constant_time(found.to_ascii_uppercase().as_bytes(), expected.as_bytes())
    }

    /// Returns the name and the octets of a key of this profile.
    fn key(key: &SecKey) -> (&'static str, Vec<u8>) {
        match key {
            SecKey::Network(secret) => ("NETWORKID", secret.clone().into_bytes()),
            SecKey::Pin(pin) => ("USERPIN", pin.clone().into_bytes()),
            SecKey::NetworkAndPin(secret, pin) => {
                ("USERPIN_NETWORKID", format!("{pin}:{secret}").into_bytes())
            }
        }
    }

    fn content_type(body: &[u8], key: &SecKey) -> String {
        let (security, octets) = Self::key(key);
        let mac = mac(&octets, body);
        format!("{}; SEC={security}; MAC={mac}", Encoding::Wbxml.media_type())
    }
}

#[cfg(test)]
mod tests {
    use super::{proof::tests::keys, *};

    // test: oma-dm 9
    #[test]
    fn a_message_of_the_dm_profile_is_proved_by_its_own_key_alone() {
        let header = Header {
            session_id: "0".to_owned(),
            message_id: MessageId::new(1),
            target: Location::new("IMEI:493005100592800"),
            source: Location::new("fumocast"),
            respond_to: None,
            credential: None,
            meta: None,
        };
        let add =
            Command::Add(Manage::new(CommandId::new(1), vec![Item::octets("./Inbox", *b"tnds")]));
        let message = Message { header, commands: vec![add], is_final: true };
        let [network, pin, both] = keys();
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
        let [network, pin, both] = keys();
        let methods = [SecMethod::Network, SecMethod::Pin, SecMethod::NetworkAndPin];
        for (key, method) in [network, pin, both].iter().zip(methods) {
            let octets = DmBootstrap::for_account(&account, "LAB-0001", key).emit();
            let read = DmBootstrap::parse(&octets).unwrap();
            assert!(read.is_proved_by(key) && read.method() == Some(method));
            assert_eq!(read.account().as_ref(), Ok(&account));
            let end = octets.windows(4).position(|it| it == END_OF_HEADERS).unwrap();
            let (head, tail) = octets.split_at(end);
            let more = b"Content-Length: 9\r\n";
            for captured in [
                [more, head, tail].concat(),
                [head, b"\r\nX-Wap-Application-Id: 7", tail].concat(),
                [&head.to_ascii_lowercase(), tail].concat(),
            ] {
                let read = DmBootstrap::parse(&captured).unwrap();
                assert!(read.is_proved_by(key) && read.method() == Some(method));
                assert_eq!(read.account().as_ref(), Ok(&account));
            }
            for length in 0..octets.len() {
                if let Ok(cut) = DmBootstrap::parse(&octets[..length]) {
                    assert!(!cut.is_proved_by(key) && cut.account().is_err(), "{length}");
                }
            }
        }
        assert!(DmBootstrap::parse(b"Content-Type: text/plain\r\n\r\n").is_err());
    }
}
