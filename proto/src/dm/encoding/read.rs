//! Octets to message, by way of a tree of elements that is built within its limits: every element is
//! taken by name, and what is left over is skipped.

use std::borrow::Cow;

use quick_xml::escape::escape;

use crate::{
    dm::{
        code::{AlertCode, Format, StatusCode},
        message::{Limits, MessageError},
        syncml::{
            Alert, Challenge, Command, CommandId, Credential, Data, Exec, Group, Header,
            Identifier, Item, Location, Manage, Message, MessageId, Meta, Rejected, Results,
            ShortText, Status, Verb,
        },
    },
    ids::Correlator,
};

const HEADER: &str = "SyncHdr";

const SESSION_ID_LENGTH: usize = 32;
const CORRELATOR_LENGTH: usize = 64;

/// Elements that DM does not use and old peers send all the same.
const IGNORED_IN_GROUPS: &[&str] = &["NoResp", "Lang", "Archive", "SftDel", "Cred"];

type Result<T> = std::result::Result<T, MessageError>;

/// Returns the message of a tree. A version that is not ours leaves the header, and says so in the
/// place of the commands.
pub(in crate::dm) fn message(root: Element<'_>, limits: &Limits) -> Result<Message> {
    let mut parts = Parts::new("SyncML", root);
    let (header, rejected) = header(parts.required(HEADER)?)?;
    if let Some(rejected) = rejected {
        return Ok(Message { header, commands: vec![rejected], is_final: true });
    }
    let mut body = Parts::new("SyncBody", parts.required("SyncBody")?);
    let is_final = body.flag("Final");
    let mut left = limits.commands;
    let commands = body.commands(&mut left, limits)?;
    Ok(Message { header, commands, is_final })
}

/// Returns the message of a tree that ends with its header.
pub(in crate::dm) fn header_alone(root: Element<'_>) -> Result<Message> {
    let mut parts = Parts::new("SyncML", root);
    let (header, rejected) = header(parts.required(HEADER)?)?;
    Ok(Message { header, commands: rejected.into_iter().collect(), is_final: true })
}

fn header(element: Element<'_>) -> Result<(Header, Option<Command>)> {
    let mut parts = Parts::new(HEADER, element);
    let rejected = parts.version(("VerDTD", "1.2"), StatusCode::DTD_VERSION)?;
    let protocol = parts.version(("VerProto", "DM/1.2"), StatusCode::PROTOCOL_VERSION)?;
    let header = Header {
        session_id: short_text("SessionID", SESSION_ID_LENGTH, parts.required("SessionID")?)?,
        message_id: identifier("MsgID", parts.required("MsgID")?, Identifier::parse)?.into(),
        target: location("Target", parts.required("Target")?)?,
        source: location("Source", parts.required("Source")?)?,
        respond_to: parts.optional("RespURI", word)?,
        credential: parts.optional("Cred", credential)?,
        meta: parts.optional("Meta", meta)?,
    };
    Ok((header, rejected.or(protocol)))
}

/// Reads a command. One that is unknown or malformed is rejected by itself.
// spec: oma-dm 3 (unknown commands)
// spec: oma-dm 8.2 (a malformed command)
fn command(element: Element<'_>, left: &mut usize, limits: &Limits) -> Result<Command> {
    *left = left.checked_sub(1).ok_or(MessageError::TooManyCommands { limit: limits.commands })?;
    let verb = match element.known_name() {
        "" | HEADER => Verb::Other(ShortText::cut(&element.name)),
        name => Verb::from_name(name),
    };
    let mut parts = Parts::new(verb.standard_name().unwrap_or("a command"), element);
    let id = match command_id(verb, &mut parts) {
        Ok(id) => id,
        Err(fault) => return Ok(rejected((CommandId::ABSENT, verb), fault)),
    };
    match content((id, verb), parts, left, limits) {
        Err(fault @ MessageError::TooManyCommands { .. }) => Err(fault),
        Err(fault) => Ok(rejected((id, verb), fault)),
        Ok(command) => Ok(command),
    }
}

fn command_id(verb: Verb, parts: &mut Parts<'_>) -> Result<CommandId> {
    let read = |element| identifier("CmdID", element, Identifier::parse);
    match parts.optional("CmdID", read)?.map(CommandId::from) {
        Some(id) if id != CommandId::ABSENT => Ok(id),
        // What nobody answers needs none, and what is unknown need not be a command.
        _ if matches!(verb, Verb::Status | Verb::Results | Verb::Other(_)) => Ok(CommandId::ABSENT),
        Some(_) | None => Err(MessageError::Missing { parent: parts.parent, element: "CmdID" }),
    }
}

fn rejected((id, verb): (CommandId, Verb), fault: MessageError) -> Command {
    let code = match (&fault, verb) {
        (_, Verb::Other(_)) => verb.unknown_code(),
        (MessageError::Missing { .. }, _) => StatusCode::INCOMPLETE,
        _ => StatusCode::BAD_REQUEST,
    };
    Command::Rejected(Box::new(Rejected { id, verb, code, fault }))
}

fn content(
    (id, verb): (CommandId, Verb),
    mut parts: Parts<'_>,
    left: &mut usize,
    limits: &Limits,
) -> Result<Command> {
    Ok(match verb {
        Verb::Status => Command::Status(status(id, &mut parts)?),
        Verb::Results => Command::Results(results(id, &mut parts)?),
        Verb::Alert => Command::Alert(alert(id, &mut parts)?),
        Verb::Exec => Command::Exec(Box::new(exec(id, &mut parts)?)),
        Verb::Get => Command::Get(manage(id, &mut parts)?),
        Verb::Add => Command::Add(manage(id, &mut parts)?),
        Verb::Replace => Command::Replace(manage(id, &mut parts)?),
        Verb::Delete => Command::Delete(manage(id, &mut parts)?),
        Verb::Copy => Command::Copy(manage(id, &mut parts)?),
        Verb::Sequence => Command::Sequence(group(id, parts, left, limits)?),
        Verb::Atomic => Command::Atomic(group(id, parts, left, limits)?),
        Verb::Header | Verb::Other(_) => {
            let (parent, found) = ("SyncBody", verb.to_string());
            return Err(MessageError::Unexpected { parent, found });
        }
    })
}

fn group(id: CommandId, mut parts: Parts<'_>, left: &mut usize, limits: &Limits) -> Result<Group> {
    let meta = parts.optional("Meta", meta)?;
    parts.ignore(IGNORED_IN_GROUPS);
    Ok(Group { id, meta, commands: parts.commands(left, limits)? })
}

fn status(id: CommandId, parts: &mut Parts<'_>) -> Result<Status> {
    let name = parts.optional("Cmd", word)?.unwrap_or_default();
    let verb = Verb::from_name(&name);
    let command_ref = match (parts.take("CmdRef")?, verb) {
        (Some(element), _) => reference("CmdRef", element)?.into(),
        // Some clients leave it out for the header, where it can only be zero.
        (None, Verb::Header) => CommandId::HEADER,
        (None, _) => return Err(MessageError::Missing { parent: "Status", element: "CmdRef" }),
    };
    // No command of ours has this number, whatever its name.
    let verb = if command_ref == CommandId::HEADER { Verb::Header } else { verb };
    let message_ref = parts.optional("MsgRef", |element| reference("MsgRef", element))?;
    Ok(Status {
        id,
        message_ref: message_ref.map_or(MessageId::ABSENT, MessageId::from),
        command_ref,
        verb,
        target_refs: parts.all("TargetRef", word)?,
        source_refs: parts.all("SourceRef", word)?,
        challenge: parts.optional("Chal", challenge)?,
        code: StatusCode(number("Data", &parts.required("Data")?)?),
        items: parts.all("Item", |element| item(element, None))?,
    })
}

fn results(id: CommandId, parts: &mut Parts<'_>) -> Result<Results> {
    let message_ref = parts.optional("MsgRef", |element| reference("MsgRef", element))?;
    let command_ref = reference("CmdRef", parts.required("CmdRef")?)?.into();
    let meta = parts.optional("Meta", meta)?;
    let items = parts.items(meta.as_ref())?;
    Ok(Results { id, message_ref: message_ref.map(MessageId::from), command_ref, meta, items })
}

fn alert(id: CommandId, parts: &mut Parts<'_>) -> Result<Alert> {
    Ok(Alert {
        id,
        code: AlertCode(number("Data", &parts.required("Data")?)?),
        correlator: correlator(parts)?,
        items: parts.all("Item", |element| item(element, None))?,
    })
}

fn exec(id: CommandId, parts: &mut Parts<'_>) -> Result<Exec> {
    let meta = parts.optional("Meta", meta)?;
    let item = item(parts.required("Item")?, meta.as_ref())?;
    Ok(Exec { id, correlator: correlator(parts)?, meta, item })
}

fn manage(id: CommandId, parts: &mut Parts<'_>) -> Result<Manage> {
    let meta = parts.optional("Meta", meta)?;
    let items = parts.items(meta.as_ref())?;
    Ok(Manage { id, meta, items })
}

/// An empty correlator is none.
fn correlator(parts: &mut Parts<'_>) -> Result<Option<Correlator>> {
    let text = parts
        .optional("Correlator", |element| short_text("Correlator", CORRELATOR_LENGTH, element))?;
    Ok(text.filter(|text| !text.is_empty()).map(Correlator))
}

/// Reads an item; `common` is the Meta that applies to all items of its command.
fn item(element: Element<'_>, common: Option<&Meta>) -> Result<Item> {
    let mut parts = Parts::new("Item", element);
    let meta = parts.optional("Meta", meta)?;
    let format = |meta: &Meta| meta.format.clone();
    let format = meta.as_ref().and_then(format).or_else(|| common.and_then(format));
    let item = Item {
        target: parts.optional("Target", |element| location("Target", element))?,
        source: parts.optional("Source", |element| location("Source", element))?,
        data: parts.optional("Data", |element| data(element, format.as_ref()))?,
        meta,
        more_data: parts.flag("MoreData"),
    };
    Ok(item)
}

fn location(parent: &'static str, element: Element<'_>) -> Result<Location> {
    let mut parts = Parts::new(parent, element);
    let uri = word(parts.required("LocURI")?)?;
    // An empty name is none.
    let name = parts.optional("LocName", word)?.filter(|name| !name.is_empty());
    Ok(Location { uri, name })
}

fn credential(element: Element<'_>) -> Result<Credential> {
    let mut parts = Parts::new("Cred", element);
    let meta = parts.optional("Meta", meta)?.unwrap_or_default();
    let data = word(parts.required("Data")?)?;
    Ok(Credential { meta, data })
}

fn challenge(element: Element<'_>) -> Result<Challenge> {
    let mut parts = Parts::new("Chal", element);
    let meta = meta(parts.required("Meta")?)?;
    Ok(Challenge { meta })
}

fn meta(element: Element<'_>) -> Result<Meta> {
    let mut parts = Parts::new("Meta", element);
    if let Some(wrapped) = parts.take("MetInf")? {
        parts = Parts::new("MetInf", wrapped);
    }
    let size = |name| move |element: Element| number(name, &element);
    let meta = Meta {
        format: parts.optional("Format", word)?.map(|word| Format::from_word(&word)),
        kind: parts.optional("Type", word)?,
        mark: parts.optional("Mark", word)?,
        size: parts.optional("Size", size("Size"))?,
        next_nonce: parts.optional("NextNonce", word)?,
        // What a peer announces of its limits in no number, it does not announce.
        max_message_size: parts.optional("MaxMsgSize", size("MaxMsgSize")).unwrap_or_default(),
        max_object_size: parts.optional("MaxObjSize", size("MaxObjSize")).unwrap_or_default(),
    };
    Ok(meta)
}

/// The content of `Data`. Clients write texts as OPAQUE too, so that octets are what is called
/// binary, and what cannot be text. Some write XML as elements, where others quote it.
// spec: oma-dm 8 (opaque)
fn data(element: Element<'_>, format: Option<&Format>) -> Result<Data> {
    if format == Some(&Format::Xml) && !element.children.is_empty() {
        return inner_xml(&element.children).map(Data::Text);
    }
    if let Some(child) = element.children.first() {
        let (parent, found) = ("Data", shortened(&child.name));
        return Err(MessageError::Unexpected { parent, found });
    }
    let octets = match element.content {
        Content::Text(text) => return Ok(Data::Text(text.into_owned())),
        Content::Octets(octets) => octets.into_owned(),
    };
    if format == Some(&Format::Bin) {
        return Ok(Data::Octets(octets));
    }
    Ok(match String::from_utf8(octets) {
        Ok(text) if text.chars().all(is_xml_char) => Data::Text(text),
        Ok(text) => Data::Octets(text.into_bytes()),
        Err(error) => Data::Octets(error.into_bytes()),
    })
}

/// Returns the elements that stood inside `Data` as the text that stands for them.
pub(in crate::dm) fn inner_xml(elements: &[Element<'_>]) -> Result<String> {
    let mut text = String::new();
    elements.iter().try_for_each(|element| quote(element, &mut text))?;
    Ok(text)
}

fn quote(element: &Element<'_>, out: &mut String) -> Result<()> {
    let name = &element.name;
    out.push_str(&format!("<{name}>{}", escape(element.content.as_text()?.trim())));
    element.children.iter().try_for_each(|child| quote(child, out))?;
    out.push_str(&format!("</{name}>"));
    Ok(())
}

/// The text of a leaf without the white space around it.
fn word(element: Element<'_>) -> Result<String> {
    Ok(element.content.as_text()?.trim().to_owned())
}

fn short_text(name: &'static str, limit: usize, element: Element<'_>) -> Result<String> {
    let text = word(element)?;
    if text.chars().nth(limit).is_none() {
        return Ok(text);
    }
    let expected = "a shorter text";
    Err(MessageError::Invalid { element: name, found: shortened(&text), expected })
}

/// Reads an identifier as it was written.
fn identifier(
    name: &'static str,
    element: Element<'_>,
    read: impl FnOnce(&str) -> Option<Identifier>,
) -> Result<Identifier> {
    let text = word(element)?;
    let expected = "at most 32 octets";
    let invalid = || MessageError::Invalid { element: name, found: shortened(&text), expected };
    read(&text).ok_or_else(invalid)
}

/// Reads a reference to an identifier of ours.
fn reference(name: &'static str, element: Element<'_>) -> Result<Identifier> {
    identifier(name, element, Identifier::parse_reference)
}

fn number<N: std::str::FromStr>(name: &'static str, element: &Element<'_>) -> Result<N> {
    let text = element.content.as_text()?.trim();
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| MessageError::Invalid {
        element: name,
        found: shortened(text),
        expected: "a decimal number in range",
    })
}

/// The content of an element, removed by name; the remainder is skipped, as text between elements is.
// spec: oma-dm 8.2 (unknown elements)
struct Parts<'a> {
    parent: &'static str,
    children: Vec<Element<'a>>,
}

impl<'a> Parts<'a> {
    fn new(parent: &'static str, element: Element<'a>) -> Self {
        Self { parent, children: element.children }
    }

    /// Takes the one child of this name, if there is one.
    fn take(&mut self, name: &'static str) -> Result<Option<Element<'a>>> {
        let mut found = self.children.extract_if(.., |child| child.known_name() == name);
        let first = found.next();
        match found.next() {
            None => Ok(first),
            Some(_) => Err(MessageError::Repeated { parent: self.parent, element: name }),
        }
    }

    fn required(&mut self, name: &'static str) -> Result<Element<'a>> {
        let parent = self.parent;
        self.take(name)?.ok_or(MessageError::Missing { parent, element: name })
    }

    fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Element<'a>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.take(name)?.map(read).transpose()
    }

    fn all<T>(
        &mut self,
        name: &'static str,
        read: impl FnMut(Element<'a>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.children.extract_if(.., |child| child.known_name() == name).map(read).collect()
    }

    fn items(&mut self, common: Option<&Meta>) -> Result<Vec<Item>> {
        let items = self.all("Item", |element| item(element, common))?;
        if items.is_empty() {
            return Err(MessageError::Missing { parent: self.parent, element: "Item" });
        }
        Ok(items)
    }

    /// Removes an element without content; returns whether it was there.
    fn flag(&mut self, name: &'static str) -> bool {
        self.children.extract_if(.., |child| child.known_name() == name).count() > 0
    }

    /// Removes a version; returns the rejection of the header if it is another one.
    fn version(
        &mut self,
        (name, expected): (&'static str, &'static str),
        code: StatusCode,
    ) -> Result<Option<Command>> {
        let found = self.optional(name, word)?.unwrap_or_default();
        if found == expected {
            return Ok(None);
        }
        let fault = MessageError::Version { element: name, found: shortened(&found), expected };
        let (id, verb) = (CommandId::HEADER, Verb::Header);
        Ok(Some(Command::Rejected(Box::new(Rejected { id, verb, code, fault }))))
    }

    fn ignore(&mut self, names: &[&str]) {
        self.children.retain(|child| !names.contains(&child.known_name()));
    }

    /// Reads all that is left as commands, in their order.
    fn commands(self, left: &mut usize, limits: &Limits) -> Result<Vec<Command>> {
        self.children.into_iter().map(|child| command(child, left, limits)).collect()
    }
}

/// An element: its local name, its own content, the elements inside it. What can be borrowed from
/// the message is.
#[derive(Debug, Default)]
pub(in crate::dm) struct Element<'a> {
    pub(in crate::dm) name: Cow<'a, str>,
    /// Set for an element of a vendor, whatever its name.
    is_foreign: bool,
    pub(in crate::dm) content: Content<'a>,
    pub(in crate::dm) children: Vec<Self>,
}

impl Element<'_> {
    /// Returns the name that the standard gives the element; empty for that of a vendor.
    pub(in crate::dm) fn known_name(&self) -> &str {
        if self.is_foreign { "" } else { &self.name }
    }
}

/// The content of an element besides other elements.
#[derive(Debug)]
pub(in crate::dm) enum Content<'a> {
    /// Text, as all content of an XML message.
    Text(Cow<'a, str>),
    /// Octets of a WBXML message that need not be text.
    Octets(Cow<'a, [u8]>),
}

impl Default for Content<'_> {
    fn default() -> Self {
        Self::Text(Cow::Borrowed(""))
    }
}

impl<'a> Content<'a> {
    /// Returns the content as text.
    pub(in crate::dm) fn as_text(&self) -> Result<&str> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Octets(octets) => {
                let text = std::str::from_utf8(octets).map_err(|_| MessageError::NotUtf8)?;
                if text.chars().all(is_xml_char) { Ok(text) } else { Err(MessageError::NotXmlText) }
            }
        }
    }

    fn push_bytes(&mut self, more: &'a [u8]) {
        match self {
            Self::Text(text) if text.is_empty() => *self = Self::Octets(more.into()),
            Self::Text(text) => {
                let mut octets = std::mem::take(text).into_owned().into_bytes();
                octets.extend_from_slice(more);
                *self = Self::Octets(octets.into());
            }
            Self::Octets(octets) => octets.to_mut().extend_from_slice(more),
        }
    }

    fn push_text(&mut self, more: Cow<'a, str>) {
        match self {
            Self::Text(text) => *text += more,
            Self::Octets(octets) => octets.to_mut().extend_from_slice(more.as_bytes()),
        }
    }
}

/// Builds one tree.
pub(in crate::dm) struct Builder<'a> {
    limits: Limits,
    /// The child of the root after which nothing is read.
    last: Option<&'static str>,
    open: Vec<Element<'a>>,
    root: Option<Element<'a>>,
    elements: usize,
    content_bytes: usize,
}

impl<'a> Builder<'a> {
    pub(in crate::dm) const fn new(limits: Limits) -> Self {
        Self { limits, last: None, open: Vec::new(), root: None, elements: 0, content_bytes: 0 }
    }

    /// Returns a builder that is complete when the header of a message is.
    pub(in crate::dm) const fn of_header(limits: Limits) -> Self {
        let mut builder = Self::new(limits);
        builder.last = Some(HEADER);
        builder
    }

    /// Returns whether no element is open.
    pub(in crate::dm) const fn is_outside(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns whether the root element has been closed; the octets after it are not read.
    pub(in crate::dm) const fn is_complete(&self) -> bool {
        self.root.is_some()
    }

    pub(in crate::dm) fn open(&mut self, name: Cow<'a, str>) -> Result<()> {
        self.open_element(Element { name, ..Element::default() })
    }

    /// Opens an element of a vendor.
    pub(in crate::dm) fn open_foreign(&mut self, name: Cow<'a, str>) -> Result<()> {
        self.open_element(Element { name, is_foreign: true, ..Element::default() })
    }

    fn open_element(&mut self, element: Element<'a>) -> Result<()> {
        if self.open.len() >= self.limits.depth {
            return Err(MessageError::TooDeep { limit: self.limits.depth });
        }
        if self.elements >= self.limits.elements {
            return Err(MessageError::TooManyElements { limit: self.limits.elements });
        }
        self.elements += 1;
        self.open.push(element);
        Ok(())
    }

    /// Closes the innermost open element; there must be one.
    pub(in crate::dm) fn close(&mut self) {
        let Some(closed) = self.open.pop() else { return };
        let is_last =
            self.open.len() == 1 && self.last.is_some_and(|last| closed.known_name() == last);
        match self.open.last_mut() {
            Some(parent) => parent.children.push(closed),
            None => self.root = Some(closed),
        }
        if is_last {
            self.root = self.open.pop();
        }
    }

    pub(in crate::dm) fn text(&mut self, text: Cow<'a, str>) -> Result<()> {
        self.count(text.len())?;
        if let Some(element) = self.open.last_mut() {
            element.content.push_text(text);
        }
        Ok(())
    }

    pub(in crate::dm) fn octets(&mut self, octets: &'a [u8]) -> Result<()> {
        self.count(octets.len())?;
        if let Some(element) = self.open.last_mut() {
            element.content.push_bytes(octets);
        }
        Ok(())
    }

    /// A string table lets a short message stand for a long one; the limit holds for both.
    fn count(&mut self, more: usize) -> Result<()> {
        self.content_bytes = self.content_bytes.saturating_add(more);
        let (found, limit) = (self.content_bytes, self.limits.message_bytes);
        if found > limit { Err(MessageError::TooLarge { found, limit }) } else { Ok(()) }
    }

    /// Returns the tree when its root is closed.
    pub(in crate::dm) fn finish(self) -> Option<Element<'a>> {
        self.root.filter(|_| self.open.is_empty())
    }
}

pub(in crate::dm) fn shortened(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Returns whether XML 1.0 can carry the character.
pub(in crate::dm) const fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
