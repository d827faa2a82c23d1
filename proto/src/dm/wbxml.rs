//! The WBXML form of a DM message: tokens for the elements, texts in place.
//!
//! ```text
//! version  01, 02 or 03 (WBXML 1.1 to 1.3)
//! public id        A4 01: SyncML 1.2, or 00 and the place of its name in the string table
//! charset          6A: UTF-8
//! string table     length, octets
//! body             tags of the code pages SyncML, MetInf and DDF; STR_I, STR_T, OPAQUE
//! ```
//!
//! Written is the plainest of the forms in the field: WBXML 1.2, numeric public identifier, no
//! string table. Read are all of them; unknown tags, attributes, extensions and processing
//! instructions are skipped, and what follows the root element is not read. A string table lets few octets stand for many, so the
//! limit on the message holds for the texts that it stands for as well.

use std::borrow::Cow;

use self::global::{
    ATTRIBUTES, CONTENT, END, ENTITY, LITERAL, OPAQUE, PROCESSING_INSTRUCTION, STR_I, STR_T,
    SWITCH_PAGE,
};
use super::{
    code::Format,
    encoding::{
        read::{self as tree, Builder, Element, is_xml_char, shortened},
        write::{self as writer, Form, MetaOrder, Page, Sink},
    },
    message::{Limits, MessageError},
    syncml::Message,
};
use crate::wire::{Reader, WireError};

#[cfg(test)]
mod tests;

/// Reads a message.
///
/// # Errors
///
/// [`MessageError`] names what is at fault. Whatever the octets are, there is no panic, and the
/// work is linear in their number.
pub fn parse(octets: &[u8], limits: &Limits) -> Result<Message, MessageError> {
    tree::message(syncml(octets, limits)?, limits)
}

/// Reads the header of a message, and nothing after it.
pub(super) fn parse_header(octets: &[u8], limits: &Limits) -> Result<Message, MessageError> {
    tree::header_alone(build(octets, limits, &SYNCML_TYPE, Builder::of_header(*limits))?)
}

/// Writes a message, elements in DTD order.
///
/// Characters that XML cannot carry become U+FFFD, as in the XML form.
#[must_use]
pub fn emit(message: &Message) -> Vec<u8> {
    emit_ordered(message, MetaOrder::default())
}

pub(super) fn emit_ordered(message: &Message, order: MetaOrder) -> Vec<u8> {
    writer::message(message, Tokens::syncml(Vec::with_capacity(1024)), order)
}

/// Returns how many octets [`emit`] makes of a message, without writing them.
#[must_use]
pub fn length(message: &Message) -> usize {
    writer::message(message, Tokens::syncml(0), MetaOrder::default())
}

/// Names of a document type, as a number and as text.
pub(in crate::dm) struct DocumentType {
    /// The public identifiers as numbers.
    pub(in crate::dm) numbers: &'static [u32],
    /// The public identifier as text.
    pub(in crate::dm) name: &'static str,
    /// Prefix of the names of all its versions.
    pub(in crate::dm) family: &'static str,
    /// The root element.
    pub(in crate::dm) root: &'static str,
}

// Which version it is, `VerDTD` says.
const SYNCML_TYPE: DocumentType = DocumentType {
    numbers: &[SYNCML_ID, 0x0fd3, 0x0fd1],
    name: "-//SYNCML//DTD SyncML 1.2//EN",
    family: "-//SYNCML//DTD SyncML 1",
    root: "SyncML",
};

/// The public identifier of documents that name none.
const UNKNOWN: u32 = 1;

/// Reads one root element, which must be SyncML.
fn syncml<'a>(octets: &'a [u8], limits: &Limits) -> Result<Element<'a>, MessageError> {
    elements(octets, limits, &SYNCML_TYPE)
}

/// Reads one root element of a document type, and nothing after it.
pub(in crate::dm) fn elements<'a>(
    octets: &'a [u8],
    limits: &Limits,
    wanted: &DocumentType,
) -> Result<Element<'a>, MessageError> {
    build(octets, limits, wanted, Builder::new(*limits))
}

fn build<'a>(
    octets: &'a [u8],
    limits: &Limits,
    wanted: &DocumentType,
    builder: Builder<'a>,
) -> Result<Element<'a>, MessageError> {
    if octets.len() > limits.message_bytes {
        return Err(MessageError::TooLarge { found: octets.len(), limit: limits.message_bytes });
    }
    let mut reader = Reader::new(octets);
    let parsed = head(&mut reader, wanted).and_then(|strings| {
        let mut body = Body { strings, page: 0, builder, wanted };
        while !body.builder.is_complete() {
            body.step(&mut reader)?;
        }
        Ok(body.builder)
    });
    let malformed = |detail: &str| MessageError::Malformed {
        offset: u64::try_from(octets.len() - reader.len()).unwrap_or(u64::MAX),
        detail: shortened(detail),
    };
    match parsed {
        Ok(builder) => builder.finish().ok_or_else(|| malformed("the end is missing")),
        Err(Fault::Message(error)) => Err(error),
        Err(Fault::Octets(error)) => Err(malformed(&error.to_string())),
    }
}

/// A fault that stops a reader; the offset of the second kind is known further up.
pub(in crate::dm) enum Fault {
    Message(MessageError),
    Octets(WireError),
}

impl From<MessageError> for Fault {
    fn from(error: MessageError) -> Self {
        Self::Message(error)
    }
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Self::Octets(error)
    }
}

/// Reads what stands before the body; returns the texts that it defines.
// spec: oma-dm 8 (three headers)
pub(in crate::dm) fn head<'a>(
    reader: &mut Reader<'a>,
    wanted: &DocumentType,
) -> Result<Strings<'a>, Fault> {
    let version = reader.u8("WBXML version")?;
    if !(1..=3).contains(&version) {
        let expected = "1 to 3, which is WBXML 1.1 to 1.3";
        return Err(WireError::invalid("WBXML version", version, expected).into());
    }
    let public_id = number(reader, "public identifier")?;
    let named_at = if public_id == 0 { Some(number(reader, "place of the name")?) } else { None };
    let charset = number(reader, "charset")?;
    if WIDE_CHARSETS.contains(&charset) {
        return Err(MessageError::NotUtf8.into());
    }
    let length = number(reader, "string table length")?;
    let table = reader.take(usize::try_from(length).unwrap_or(usize::MAX), "string table")?;
    let strings = Strings { table, charset };
    match named_at {
        Some(place) => {
            let name = strings.at(place)?;
            let head = name.get(..wanted.family.len()).unwrap_or_default();
            if !head.eq_ignore_ascii_case(wanted.family) {
                let found = format!("its public identifier is {}", shortened(&name));
                return Err(MessageError::NotSyncMl(found).into());
            }
        }
        None if public_id == UNKNOWN || wanted.numbers.contains(&public_id) => {}
        None => {
            let found = format!("its public identifier is {public_id:#06x}");
            return Err(MessageError::NotSyncMl(found).into());
        }
    }
    Ok(strings)
}

/// Reads a number of seven bits in each octet, the last of which has its first bit clear.
pub(in crate::dm) fn number(
    reader: &mut Reader<'_>,
    field: &'static str,
) -> Result<u32, WireError> {
    let mut value: u32 = 0;
    loop {
        let octet = reader.u8(field)?;
        if value.leading_zeros() < 7 {
            return Err(WireError::invalid(field, "longer", "a number of 32 bits"));
        }
        value = value << 7 | u32::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            return Ok(value);
        }
    }
}

/// The texts of a document: its string table, and the charset of all of them.
#[derive(Debug, Clone, Copy)]
pub(in crate::dm) struct Strings<'a> {
    table: &'a [u8],
    charset: u32,
}

impl<'a> Strings<'a> {
    /// Reads a text that a zero ends.
    pub(in crate::dm) fn inline(&self, reader: &mut Reader<'a>) -> Result<Cow<'a, str>, Fault> {
        Ok(self.decoded(inline_octets(reader)?)?)
    }

    /// Returns whether no text can be at any place.
    pub(in crate::dm) const fn has_no_table(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns the text at a place of the string table. Some clients leave out the zero after the
    /// last one.
    pub(in crate::dm) fn at(&self, place: u32) -> Result<Cow<'a, str>, Fault> {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let from = self.table.get(place..).filter(|remaining| !remaining.is_empty());
        let from = from.ok_or_else(|| {
            WireError::invalid("place in the string table", place, "a place inside the table")
        })?;
        Ok(self.decoded(from.split(|octet| *octet == 0).next().unwrap_or_default())?)
    }

    /// Texts in UTF-8 are taken as such whatever the charset, as those of XML are.
    // spec: oma-dm 8.2 (encodings)
    fn decoded(&self, text: &'a [u8]) -> Result<Cow<'a, str>, MessageError> {
        match std::str::from_utf8(text) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) if self.charset == LATIN_1 => {
                Ok(Cow::Owned(text.iter().copied().map(char::from).collect()))
            }
            Err(_) => Err(MessageError::NotUtf8),
        }
    }
}

/// Reads the octets of a text that a zero ends.
fn inline_octets<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let mut ahead = reader.clone();
    let remaining = ahead.take_remaining();
    let length = remaining.iter().position(|octet| *octet == 0);
    let length = length.ok_or(WireError::Truncated {
        field: "the end of a text",
        needed: remaining.len().saturating_add(1),
        left: remaining.len(),
    })?;
    let text = reader.take(length, "text")?;
    reader.u8("the end of a text")?;
    Ok(text)
}

/// Returns whether a token means the same on every page, tags by name excepted.
pub(in crate::dm) const fn is_global(token: u8) -> bool {
    token & !(CONTENT | ATTRIBUTES) < LITERAL
}

/// Skips what belongs to a global token other than a switch of pages, an end and a processing
/// instruction.
pub(in crate::dm) fn skip_value(reader: &mut Reader<'_>, token: u8) -> Result<(), Fault> {
    match token {
        ENTITY | STR_T | 0x80..=0x82 => drop(number(reader, "number of a token")?),
        STR_I | 0x40..=0x42 => drop(inline_octets(reader)?),
        OPAQUE => {
            let length = number(reader, "opaque length")?;
            reader.take(usize::try_from(length).unwrap_or(usize::MAX), "opaque data")?;
        }
        _ => {}
    }
    Ok(())
}

/// Skips attributes to their end: those of an element, or of a processing instruction.
// spec: oma-dm 8.2 (attributes and processing instructions)
pub(in crate::dm) fn skip_attributes(reader: &mut Reader<'_>) -> Result<(), Fault> {
    loop {
        match reader.u8("attribute")? {
            END => return Ok(()),
            SWITCH_PAGE => drop(reader.u8("code page")?),
            LITERAL => drop(number(reader, "place in the string table")?),
            token if is_global(token) => skip_value(reader, token)?,
            _ => {}
        }
    }
}

struct Body<'a, 'w> {
    strings: Strings<'a>,
    /// The current code page.
    page: u8,
    builder: Builder<'a>,
    wanted: &'w DocumentType,
}

impl<'a> Body<'a, '_> {
    /// Takes one token and what belongs to it.
    fn step(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        let token = reader.u8("token")?;
        match token {
            SWITCH_PAGE => {
                self.page = reader.u8("code page")?;
                Ok(())
            }
            END if self.builder.is_outside() => {
                Err(WireError::invalid("token", "END", "the root element").into())
            }
            END => {
                self.builder.close();
                Ok(())
            }
            ENTITY => {
                let code = number(reader, "entity")?;
                let c = char::from_u32(code)
                    .ok_or_else(|| WireError::invalid("entity", code, "a character"))?;
                self.text(c.to_string().into())
            }
            STR_I => self.text(self.strings.inline(reader)?),
            STR_T => {
                let place = number(reader, "place in the string table")?;
                self.text(self.strings.at(place)?)
            }
            OPAQUE => {
                let length = number(reader, "opaque length")?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let octets = reader.take(length, "opaque data")?;
                self.inside()?;
                Ok(self.builder.octets(octets)?)
            }
            PROCESSING_INSTRUCTION => skip_attributes(reader),
            // Extensions, which no document type here defines.
            token if is_global(token) => skip_value(reader, token),
            tag => self.tag(tag, reader),
        }
    }

    fn tag(&mut self, tag: u8, reader: &mut Reader<'a>) -> Result<(), Fault> {
        let token = tag & !(CONTENT | ATTRIBUTES);
        let name = if token == LITERAL {
            let place = number(reader, "place in the string table")?;
            Some(self.strings.at(place)?)
        } else {
            page_of(self.page).and_then(|page| tag_name(page, token)).map(Cow::Borrowed)
        };
        if tag & ATTRIBUTES != 0 {
            skip_attributes(reader)?;
        }
        let unknown = || format!("tag {token:#04x} of page {}", self.page);
        if self.builder.is_outside() && name.as_deref() != Some(self.wanted.root) {
            let name = name.unwrap_or_else(|| unknown().into());
            let found = format!("the root element is {}", shortened(&name));
            return Err(MessageError::NotSyncMl(found).into());
        }
        match name {
            Some(name) => self.builder.open(name)?,
            None => self.builder.open_foreign(unknown().into())?,
        }
        if tag & CONTENT == 0 {
            self.builder.close();
        }
        Ok(())
    }

    fn text(&mut self, text: Cow<'a, str>) -> Result<(), Fault> {
        self.inside()?;
        if !text.chars().all(is_xml_char) {
            let found = "a character that XML cannot carry";
            return Err(WireError::invalid("text", found, "characters of XML").into());
        }
        Ok(self.builder.text(text)?)
    }

    fn inside(&self) -> Result<(), WireError> {
        if self.builder.is_outside() {
            return Err(WireError::invalid("token", "content", "the root element"));
        }
        Ok(())
    }
}

/// WBXML 1.2.
const VERSION: u8 = 2;
/// SyncML 1.2.
const SYNCML_ID: u32 = 0x1201;

/// A document in the making.
pub(in crate::dm) struct Tokens<S> {
    out: S,
    page: Page,
    /// The element that was opened last, until it is known whether it has content: deployed parsers
    /// fail at content of no octets.
    opened: Option<(Page, &'static str)>,
}

impl<S: Sink> Tokens<S> {
    /// Begins a SyncML document.
    fn syncml(mut out: S) -> Self {
        out.put(&[VERSION]);
        push_number(&mut out, SYNCML_ID);
        push_number(&mut out, UTF_8);
        push_number(&mut out, 0);
        Self { out, page: Page::SyncMl, opened: None }
    }

    /// Begins a document whose type has a name and no number.
    pub(in crate::dm) fn named(mut out: S, public_id: &str) -> Self {
        out.put(&[VERSION, 0, 0]);
        push_number(&mut out, UTF_8);
        let name = public_id.as_bytes();
        push_number(&mut out, u32::try_from(name.len() + 1).unwrap_or(u32::MAX));
        out.put(name);
        out.put(&[0]);
        Self { out, page: Page::SyncMl, opened: None }
    }

    /// Writes the tag of the element that was opened last: it has content.
    fn begin_content(&mut self) {
        if let Some((page, name)) = self.opened.take() {
            self.tag(page, name, CONTENT);
        }
    }

    fn tag(&mut self, page: Page, name: &'static str, content: u8) {
        if page != self.page {
            self.out.put(&[SWITCH_PAGE, page_number(page)]);
            self.page = page;
        }
        let token = tag_token(page, name).expect("the writer names tags of its pages");
        self.out.put(&[token | content]);
    }
}

/// Appends a number, seven bits in each octet.
pub(in crate::dm) fn push_number(out: &mut impl Sink, number: u32) {
    let groups = number.checked_ilog2().unwrap_or_default() / 7;
    for group in (0..=groups).rev() {
        let more = if group == 0 { 0 } else { 0x80 };
        let [.., bits] = (number >> (7 * group)).to_be_bytes();
        out.put(&[bits & 0x7f | more]);
    }
}

/// Appends a text in place. It cannot hold what XML cannot carry, zero among it.
pub(in crate::dm) fn push_inline(out: &mut impl Sink, text: &str) {
    out.put(&[STR_I]);
    if text.chars().all(is_xml_char) {
        out.put(text.as_bytes());
    } else {
        let kept = |c| if is_xml_char(c) { c } else { char::REPLACEMENT_CHARACTER };
        out.put(text.chars().map(kept).collect::<String>().as_bytes());
    }
    out.put(&[0]);
}

impl<S: Sink> Form for Tokens<S> {
    type Document = S;

    // spec: oma-dm 2 (binary values in both forms)
    const OCTETS_FORMAT: Format = Format::Bin;

    fn open(&mut self, page: Page, name: &'static str) {
        self.begin_content();
        self.opened = Some((page, name));
    }

    fn close(&mut self, _name: &'static str) {
        match self.opened.take() {
            Some((page, name)) => self.tag(page, name, 0),
            None => self.out.put(&[END]),
        }
    }

    fn empty(&mut self, page: Page, name: &'static str) {
        self.begin_content();
        self.tag(page, name, 0);
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.begin_content();
            push_inline(&mut self.out, text);
        }
    }

    fn octets(&mut self, octets: &[u8]) {
        self.begin_content();
        self.out.put(&[OPAQUE]);
        push_number(&mut self.out, u32::try_from(octets.len()).unwrap_or(u32::MAX));
        self.out.put(octets);
    }

    fn finish(self) -> S {
        self.out
    }
}

/// Tokens that are the same on every code page.
pub(in crate::dm) mod global {
    pub(in crate::dm) const SWITCH_PAGE: u8 = 0x00;
    pub(in crate::dm) const END: u8 = 0x01;
    pub(in crate::dm) const ENTITY: u8 = 0x02;
    pub(in crate::dm) const STR_I: u8 = 0x03;
    pub(in crate::dm) const LITERAL: u8 = 0x04;
    pub(in crate::dm) const PROCESSING_INSTRUCTION: u8 = 0x43;
    pub(in crate::dm) const STR_T: u8 = 0x83;
    pub(in crate::dm) const OPAQUE: u8 = 0xc3;

    /// Set in a tag with content.
    pub(in crate::dm) const CONTENT: u8 = 0x40;
    /// Set in a tag with attributes.
    pub(in crate::dm) const ATTRIBUTES: u8 = 0x80;
}

/// The number of UTF-8 among the character sets.
const UTF_8: u32 = 106;
/// The number of ISO 8859-1.
const LATIN_1: u32 = 4;
/// Charsets whose texts a zero octet does not end: UCS-2, UCS-4, UTF-16 and UTF-32.
const WIDE_CHARSETS: [u32; 8] = [1000, 1001, 1013, 1014, 1015, 1017, 1018, 1019];

/// Returns the code page of a number.
const fn page_of(number: u8) -> Option<Page> {
    match number {
        0 => Some(Page::SyncMl),
        1 => Some(Page::MetInf),
        2 => Some(Page::Ddf),
        _ => None,
    }
}

/// Returns the number of a code page.
const fn page_number(page: Page) -> u8 {
    match page {
        Page::SyncMl => 0,
        Page::MetInf => 1,
        Page::Ddf => 2,
    }
}

/// The names of the tags from [`FIRST_TAG`] on.
const fn names(page: Page) -> &'static [&'static str] {
    match page {
        Page::SyncMl => &SYNCML,
        Page::MetInf => &METINF,
        Page::Ddf => &DDF,
    }
}

/// Returns the name of a tag, its content bit not set.
fn tag_name(page: Page, token: u8) -> Option<&'static str> {
    let place = token.checked_sub(FIRST_TAG)?;
    names(page).get(usize::from(place)).copied().filter(|name| !name.is_empty())
}

/// Returns the tag of a name.
fn tag_token(page: Page, name: &str) -> Option<u8> {
    let place = names(page).iter().position(|known| *known == name)?;
    u8::try_from(place).ok()?.checked_add(FIRST_TAG)
}

/// Tokens below this one are the same on every page.
const FIRST_TAG: u8 = 5;

// spec: oma-dm 8 (code pages)
#[rustfmt::skip]
const SYNCML: [&str; 56] = [
    "Add", "Alert", "Archive", "Atomic", "Chal", "Cmd", "CmdID", "CmdRef",
    "Copy", "Cred", "Data", "Delete", "Exec", "Final", "Get", "Item",
    "Lang", "LocName", "LocURI", "Map", "MapItem", "Meta", "MsgID", "MsgRef",
    "NoResp", "NoResults", "Put", "Replace", "RespURI", "Results", "Search", "Sequence",
    "SessionID", "SftDel", "Source", "SourceRef", "Status", "Sync", "SyncBody", "SyncHdr",
    "SyncML", "Target", "TargetRef", "", "VerDTD", "VerProto", "NumberOfChanges", "MoreData",
    "Field", "Filter", "Record", "FilterType", "SourceParent", "TargetParent", "Move", "Correlator",
];

#[rustfmt::skip]
const METINF: [&str; 18] = [
    "Anchor", "EMI", "Format", "FreeID", "FreeMem", "Last", "Mark", "MaxMsgSize", "Mem",
    "MetInf", "Next", "NextNonce", "SharedMem", "Size", "Type", "Version", "MaxObjSize",
    "FieldLevel",
];

#[rustfmt::skip]
const DDF: [&str; 56] = [
    "AccessType", "ACL", "Add", "b64", "bin", "bool", "chr", "CaseSense", "CIS", "Copy", "CS",
    "date", "DDFName", "DefaultValue", "Delete", "Description", "DFFormat", "DFProperties",
    "DFTitle", "DFType", "Dynamic", "Exec", "float", "Format", "Get", "int", "Man", "MgmtTree",
    "MIME", "Mod", "Name", "Node", "node", "NodeName", "null", "Occurrence", "One", "OneOrMore",
    "OneOrN", "Path", "Permanent", "Replace", "RTProperties", "Scope", "Size", "time", "Title",
    "TStamp", "Type", "Value", "VerDTD", "VerNo", "xml", "ZeroOrMore", "ZeroOrN", "ZeroOrOne",
];
