//! The model of one DM message, independent of its form on the wire.
//!
//! The writer determines the order inside an element; the model holds the content only.

use std::borrow::Cow;

pub use super::{
    auth::{Challenge, Credential},
    identifier::{CommandId, Identifier, MessageId, ShortText},
    meta::Meta,
};
use super::{
    code::{AlertCode, Format, StatusCode},
    message::MessageError,
};
use crate::{base64_text, ids::Correlator, wire::WireError};

/// One DM message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The header.
    pub header: Header,
    /// The commands in their order.
    pub commands: Vec<Command>,
    /// Set when this message ends its package.
    pub is_final: bool,
}

impl Message {
    /// Returns the Status commands, in their order.
    pub fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.commands.iter().filter_map(|command| match command {
            Command::Status(status) => Some(status),
            Command::Results(_)
            | Command::Alert(_)
            | Command::Exec(_)
            | Command::Get(_)
            | Command::Add(_)
            | Command::Replace(_)
            | Command::Delete(_)
            | Command::Copy(_)
            | Command::Sequence(_)
            | Command::Atomic(_)
            | Command::Rejected(_) => None,
        })
    }
}

impl Message {
    /// Returns the message as a reply to `last`: a Status without MsgRef is about that message.
    #[must_use]
    pub fn in_reply_to(&self, last: MessageId) -> Cow<'_, Self> {
        if self.statuses().all(|status| status.message_ref != MessageId::ABSENT) {
            return Cow::Borrowed(self);
        }
        let mut message = self.clone();
        for command in &mut message.commands {
            if let Command::Status(status) = command
                && status.message_ref == MessageId::ABSENT
            {
                status.message_ref = last;
            }
        }
        Cow::Owned(message)
    }

    /// Returns the rejection of the header, of a message in another version.
    #[must_use]
    pub fn rejected_header(&self) -> Option<&Rejected> {
        match self.commands.first() {
            Some(Command::Rejected(rejected)) if rejected.verb == Verb::Header => Some(rejected),
            Some(_) | None => None,
        }
    }
}

/// The header of a message (`SyncHdr`); its versions are 1.2 and DM/1.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The same text in each message of a DM session, at most 32 characters.
    pub session_id: String,
    /// Number of the message, counted by each side.
    pub message_id: MessageId,
    /// The recipient.
    pub target: Location,
    /// The sender; the name carries the user name of auth-md5.
    pub source: Location,
    /// Address for the response instead of the address used so far.
    pub respond_to: Option<String>,
    /// Credentials of the sender.
    pub credential: Option<Credential>,
    /// `MaxMsgSize` and `MaxObjSize`.
    pub meta: Option<Meta>,
}

/// A `Target` or `Source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The address.
    pub uri: String,
    /// A name beside it.
    pub name: Option<String>,
}

impl Location {
    /// Returns a location without a name.
    pub fn new(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), name: None }
    }

    /// Returns a location with a name.
    pub fn named(uri: impl Into<String>, name: impl Into<String>) -> Self {
        Self { uri: uri.into(), name: Some(name.into()) }
    }
}

/// The content of a `Data` in an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A text; of the format `b64` it stands for octets.
    Text(String),
    /// Octets of the format `bin`. XML carries them as base64 and calls the format `b64`.
    Octets(Vec<u8>),
}

impl Data {
    /// Returns the text, unless it is octets.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Octets(_) => None,
        }
    }

    /// Returns how much is there, in octets.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Octets(octets) => octets.len(),
        }
    }

    /// Returns whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<String> for Data {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// An `Item`: one node, or one part of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// The node that is acted on.
    pub target: Option<Location>,
    /// The source node of the data.
    pub source: Option<Location>,
    /// Description of the data.
    pub meta: Option<Meta>,
    /// The data; an empty text is data too.
    pub data: Option<Data>,
    /// Set when the data continues in the next message.
    pub more_data: bool,
}

impl Item {
    /// Returns an item that names a node, as in a Get.
    pub fn target(uri: impl Into<String>) -> Self {
        Self { target: Some(Location::new(uri)), ..Self::default() }
    }

    /// Returns an item that sets a node to a text.
    pub fn text(uri: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            meta: Some(Meta::format(Format::Chr)),
            data: Some(Data::Text(text.into())),
            ..Self::target(uri)
        }
    }

    /// Returns an item that sets a node to octets.
    pub fn octets(uri: impl Into<String>, octets: impl Into<Vec<u8>>) -> Self {
        Self {
            meta: Some(Meta::format(Format::Bin)),
            data: Some(Data::Octets(octets.into())),
            ..Self::target(uri)
        }
    }

    /// Returns an item that reports a node's value, as in Results and in the Replace of DevInfo.
    pub fn value(uri: impl Into<String>, format: Format, data: impl Into<Data>) -> Self {
        Self {
            source: Some(Location::new(uri)),
            meta: Some(Meta::format(format)),
            data: Some(data.into()),
            ..Self::default()
        }
    }

    /// Returns the address of the target, if there is one.
    #[must_use]
    pub fn target_uri(&self) -> Option<&str> {
        self.target.as_ref().map(|target| target.uri.as_str())
    }

    /// Returns the address of the source, if there is one.
    #[must_use]
    pub fn source_uri(&self) -> Option<&str> {
        self.source.as_ref().map(|source| source.uri.as_str())
    }

    /// Returns the data, if it is there and text.
    #[must_use]
    pub fn data_text(&self) -> Option<&str> {
        self.data.as_ref().and_then(Data::as_text)
    }

    /// Returns the text that the data stands for, decoded where its format is base64; `None` when
    /// there is no data, or it is no text. Undecodable base64 is returned as it stands.
    #[must_use]
    pub fn decoded_text(&self) -> Option<Cow<'_, str>> {
        let is_base64 =
            self.meta.as_ref().and_then(|meta| meta.format.as_ref()) == Some(&Format::B64);
        let decoded = is_base64.then(|| self.to_bytes().ok()).flatten();
        let decoded = decoded.and_then(|octets| String::from_utf8(octets).ok());
        decoded.map(Cow::Owned).or_else(|| self.data_text().map(Cow::Borrowed))
    }

    /// Returns the item as the meta of its command describes it: format, type and size of the command
    /// hold for an item that has none.
    #[must_use]
    pub fn described_by<'i>(&'i self, common: Option<&Meta>) -> Cow<'i, Self> {
        let Some(common) = common else { return Cow::Borrowed(self) };
        let mut meta = self.meta.clone().unwrap_or_default();
        meta.format = meta.format.or_else(|| common.format.clone());
        meta.kind = meta.kind.or_else(|| common.kind.clone());
        meta.size = meta.size.or(common.size);
        Cow::Owned(Self { meta: Some(meta), ..self.clone() })
    }

    /// Returns the octets that the data stands for: base64 is decoded when it is the format.
    ///
    /// # Errors
    ///
    /// [`WireError::Invalid`] when the data should be base64 and is not.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let text = match &self.data {
            Some(Data::Octets(octets)) => return Ok(octets.clone()),
            Some(Data::Text(text)) => text.as_str(),
            None => "",
        };
        match self.meta.as_ref().and_then(|meta| meta.format.as_ref()) {
            Some(Format::B64 | Format::Bin) => base64_text::decode(text)
                .map_err(|_| WireError::invalid("data", text, "base64 text")),
            _ => Ok(text.as_bytes().to_vec()),
        }
    }
}

/// The name of a command that a Status can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// The header of a message.
    Header,
    /// Creates a node.
    Add,
    /// Notifies the other side of an event.
    Alert,
    /// All or nothing.
    Atomic,
    /// Copies a leaf.
    Copy,
    /// Removes a node.
    Delete,
    /// Starts an operation.
    Exec,
    /// Reads a node.
    Get,
    /// Overwrites a node.
    Replace,
    /// Carries the values that a Get asked for.
    Results,
    /// One after the other.
    Sequence,
    /// Answers a command.
    Status,
    /// Any other name.
    Other(ShortText),
}

impl Verb {
    /// Every verb of the standard.
    pub const ALL: [Self; 12] = [
        Self::Header,
        Self::Add,
        Self::Alert,
        Self::Atomic,
        Self::Copy,
        Self::Delete,
        Self::Exec,
        Self::Get,
        Self::Replace,
        Self::Results,
        Self::Sequence,
        Self::Status,
    ];

    /// Commands of SyncML that DM does not use.
    const UNUSED: [&str; 6] = ["Map", "MapItem", "Move", "Put", "Search", "Sync"];

    /// Returns the verb that an element name stands for; of another one as much as is kept.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let known = Self::ALL.into_iter().find(|verb| verb.standard_name() == Some(name));
        known.unwrap_or_else(|| Self::Other(ShortText::cut(name)))
    }

    /// Returns the element name, if the standard has it.
    #[must_use]
    pub const fn standard_name(self) -> Option<&'static str> {
        Some(match self {
            Self::Header => "SyncHdr",
            Self::Add => "Add",
            Self::Alert => "Alert",
            Self::Atomic => "Atomic",
            Self::Copy => "Copy",
            Self::Delete => "Delete",
            Self::Exec => "Exec",
            Self::Get => "Get",
            Self::Replace => "Replace",
            Self::Results => "Results",
            Self::Sequence => "Sequence",
            Self::Status => "Status",
            Self::Other(_) => return None,
        })
    }

    /// Returns the element name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if let Self::Other(name) = self {
            return name.as_str();
        }
        self.standard_name().unwrap_or_default()
    }

    /// Returns the status of a command with this name that is none of ours.
    // spec: oma-dm 3 (unknown commands)
    pub(in crate::dm) fn unknown_code(self) -> StatusCode {
        if Self::UNUSED.contains(&self.as_str()) {
            StatusCode::NOT_SUPPORTED
        } else {
            StatusCode::NOT_IMPLEMENTED
        }
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Answers a command of the other side.
    Status(Status),
    /// Carries the values that a Get asked for.
    Results(Results),
    /// Notifies the other side of an event.
    Alert(Alert),
    /// Starts an operation.
    Exec(Box<Exec>),
    /// Reads nodes.
    Get(Manage),
    /// Creates nodes.
    Add(Manage),
    /// Overwrites nodes.
    Replace(Manage),
    /// Removes nodes.
    Delete(Manage),
    /// Copies leaves.
    Copy(Manage),
    /// Commands one after the other.
    Sequence(Group),
    /// Commands all or nothing.
    Atomic(Group),
    /// A command that cannot be read.
    Rejected(Box<Rejected>),
}

impl Command {
    /// Returns the name of the command.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match self {
            Self::Status(_) => Verb::Status,
            Self::Results(_) => Verb::Results,
            Self::Alert(_) => Verb::Alert,
            Self::Exec(_) => Verb::Exec,
            Self::Get(_) => Verb::Get,
            Self::Add(_) => Verb::Add,
            Self::Replace(_) => Verb::Replace,
            Self::Delete(_) => Verb::Delete,
            Self::Copy(_) => Verb::Copy,
            Self::Sequence(_) => Verb::Sequence,
            Self::Atomic(_) => Verb::Atomic,
            Self::Rejected(rejected) => rejected.verb,
        }
    }

    /// Returns the number of the command.
    #[must_use]
    pub const fn id(&self) -> CommandId {
        match self {
            Self::Status(status) => status.id,
            Self::Results(results) => results.id,
            Self::Alert(alert) => alert.id,
            Self::Exec(exec) => exec.id,
            Self::Get(manage)
            | Self::Add(manage)
            | Self::Replace(manage)
            | Self::Delete(manage)
            | Self::Copy(manage) => manage.id,
            Self::Sequence(group) | Self::Atomic(group) => group.id,
            Self::Rejected(rejected) => rejected.id,
        }
    }

    /// Returns whether the other side must send a Status for this command.
    #[must_use]
    pub fn wants_status(&self) -> bool {
        match self {
            Self::Status(_) | Self::Results(_) => false,
            // Results are answered where they fail.
            Self::Rejected(it) => {
                it.id != CommandId::ABSENT && !matches!(it.verb, Verb::Status | Verb::Header)
            }
            Self::Alert(_)
            | Self::Exec(_)
            | Self::Get(_)
            | Self::Add(_)
            | Self::Replace(_)
            | Self::Delete(_)
            | Self::Copy(_)
            | Self::Sequence(_)
            | Self::Atomic(_) => true,
        }
    }
}

/// A `Status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Number of this command.
    pub id: CommandId,
    /// The message that is answered.
    pub message_ref: MessageId,
    /// The command that is answered; [`CommandId::HEADER`] for the header.
    pub command_ref: CommandId,
    /// The name of the command that is answered.
    pub verb: Verb,
    /// Targets of the command that is answered.
    pub target_refs: Vec<String>,
    /// Sources of the command that is answered.
    pub source_refs: Vec<String>,
    /// A demand for credentials, or the nonce for the next ones.
    pub challenge: Option<Challenge>,
    /// The answer.
    pub code: StatusCode,
    /// Items of the answer, as a user's input.
    pub items: Vec<Item>,
}

impl Status {
    /// Returns a status without references, challenge and items.
    #[must_use]
    pub const fn new(
        id: CommandId,
        message_ref: MessageId,
        command_ref: CommandId,
        verb: Verb,
        code: StatusCode,
    ) -> Self {
        Self {
            id,
            message_ref,
            command_ref,
            verb,
            target_refs: Vec::new(),
            source_refs: Vec::new(),
            challenge: None,
            code,
            items: Vec::new(),
        }
    }

    /// Returns the status for a message's header; that of another protocol names ours.
    // spec: oma-dm 3 (513 lists the supported protocols)
    #[must_use]
    pub fn for_header(id: CommandId, header: &Header, code: StatusCode) -> Self {
        let supported = (code == StatusCode::PROTOCOL_VERSION)
            .then(|| Item { data: Some("DM/1.2".into()), ..Item::default() });
        Self {
            items: supported.into_iter().collect(),
            target_refs: vec![header.target.uri.clone()],
            source_refs: vec![header.source.uri.clone()],
            ..Self::new(id, header.message_id, CommandId::HEADER, Verb::Header, code)
        }
    }
}

/// A `Results`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    /// Number of this command.
    pub id: CommandId,
    /// The message of the Get; absent means the first of the package.
    pub message_ref: Option<MessageId>,
    /// The Get.
    pub command_ref: CommandId,
    /// Description that applies to all items.
    pub meta: Option<Meta>,
    /// The values.
    pub items: Vec<Item>,
}

/// An `Alert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Number of this command.
    pub id: CommandId,
    /// Type of the alert.
    pub code: AlertCode,
    /// Correlator of a final alert, from its Exec.
    pub correlator: Option<Correlator>,
    /// Its items.
    pub items: Vec<Item>,
}

/// An `Exec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Number of this command.
    pub id: CommandId,
    /// Correlator of the final alert.
    pub correlator: Option<Correlator>,
    /// Description that applies to the item.
    pub meta: Option<Meta>,
    /// The node to start, and its argument.
    pub item: Item,
}

/// A Get, Add, Replace, Delete or Copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manage {
    /// Number of this command.
    pub id: CommandId,
    /// Description that applies to all items without one of their own.
    pub meta: Option<Meta>,
    /// The nodes.
    pub items: Vec<Item>,
}

impl Manage {
    /// Returns a command on `items`.
    #[must_use]
    pub const fn new(id: CommandId, items: Vec<Item>) -> Self {
        Self { id, meta: None, items }
    }
}

/// A Sequence or Atomic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Number of this command.
    pub id: CommandId,
    /// Description that applies to all commands.
    pub meta: Option<Meta>,
    /// The commands in their order.
    pub commands: Vec<Command>,
}

/// A command that is unknown or malformed: the others of its message are carried out without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Number of this command; [`CommandId::ABSENT`] where it has none that could be repeated.
    pub id: CommandId,
    /// The name of its element.
    pub verb: Verb,
    /// The code of its Status.
    pub code: StatusCode,
    /// The fault.
    pub fault: MessageError,
}

impl Rejected {
    /// Returns whether this stands for a command; an unknown element without a number does not.
    #[must_use]
    pub fn is_command(&self) -> bool {
        self.id != CommandId::ABSENT || !matches!(self.verb, Verb::Other(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_what_they_were_made_of() {
        let item = Item::octets("./x", [0, 255, 10]);
        assert_eq!(item.data_text(), None);
        assert_eq!(item.to_bytes(), Ok(vec![0, 255, 10]));
    }

    #[test]
    fn a_text_in_base64_is_decoded_and_the_meta_of_a_command_holds_for_its_items() {
        let value = |format, text: &str| Item::value("./x", format, text);
        let encoded = value(Format::B64, "Mi4w");
        assert_eq!(encoded.decoded_text().as_deref(), Some("2.0"));
        assert_eq!(value(Format::Chr, "Mi4w").decoded_text().as_deref(), Some("Mi4w"));
        assert_eq!(value(Format::B64, "2.0").decoded_text().as_deref(), Some("2.0"));
        assert_eq!(Item::target("./x").decoded_text(), None);
        let common = Meta { size: Some(4), ..Meta::format(Format::B64) };
        let bare = Item { meta: None, ..encoded };
        let described = bare.described_by(Some(&common));
        assert_eq!(described.decoded_text().as_deref(), Some("2.0"));
        assert_eq!(described.meta.as_ref().and_then(|meta| meta.size), Some(4));
        let own = value(Format::Chr, "Mi4w");
        assert_eq!(own.described_by(Some(&common)).decoded_text().as_deref(), Some("Mi4w"));
        assert_eq!(*own.described_by(None), own);
    }

    #[test]
    fn base64_that_a_peer_wrapped_is_read_and_junk_is_refused() {
        for format in [Format::B64, Format::Bin] {
            let item = |text: &str| Item::value("./x", format.clone(), text);
            assert_eq!(item("AP\n 8K\n").to_bytes(), Ok(vec![0, 255, 10]));
            assert!(item("%").to_bytes().is_err());
        }
    }

    #[test]
    fn every_verb_reads_back_from_its_name() {
        for verb in Verb::ALL {
            assert_eq!(Verb::from_name(verb.as_str()), verb);
        }
        let other = Verb::from_name("Map");
        assert_eq!((other.as_str(), other.unknown_code()), ("Map", StatusCode::NOT_SUPPORTED));
        assert_eq!(Verb::from_name("Odd").unknown_code(), StatusCode::NOT_IMPLEMENTED);
    }

    #[test]
    fn a_nonce_and_a_proof_stay_out_of_the_debug_form() {
        let meta = Meta { next_nonce: Some("c2VjcmV0".to_owned()), ..Meta::default() };
        let credential = Credential { meta: meta.clone(), data: "proof".to_owned() };
        let shown = format!("{meta:?} {credential:?}");
        assert!(!shown.contains("c2VjcmV0") && !shown.contains("proof"), "{shown}");
    }
}
