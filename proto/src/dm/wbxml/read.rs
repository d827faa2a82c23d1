//! Octets to a tree of elements.

use std::borrow::Cow;

use super::{
    UNKNOWN_CHARSET, US_ASCII, UTF_8,
    global::{ATTRIBUTES, CONTENT, END, ENTITY, LITERAL, OPAQUE, STR_I, STR_T, SWITCH_PAGE},
    tokens::Page,
};
use crate::{
    dm::{
        encoding::element::{Builder, Element},
        message::{Limits, MessageError, is_xml_char, shortened},
    },
    wire::{Reader, WireError},
};

/// Names of a document type, as a number and as text.
pub(in crate::dm) struct DocumentType {
    /// The public identifier as a number, where there is one.
    pub(in crate::dm) number: Option<u32>,
    /// The public identifier as text.
    pub(in crate::dm) name: &'static str,
    /// The root element.
    pub(in crate::dm) root: &'static str,
}

const SYNCML: DocumentType =
    DocumentType { number: Some(0x1201), name: "-//SYNCML//DTD SyncML 1.2//EN", root: "SyncML" };

/// The public identifier of documents that name none.
const UNKNOWN: u32 = 1;

/// Reads exactly one root element, which must be SyncML 1.2.
pub(super) fn syncml<'a>(octets: &'a [u8], limits: &Limits) -> Result<Element<'a>, MessageError> {
    elements(octets, limits, &SYNCML)
}

/// Reads exactly one root element of a document type.
pub(in crate::dm) fn elements<'a>(
    octets: &'a [u8],
    limits: &Limits,
    wanted: &DocumentType,
) -> Result<Element<'a>, MessageError> {
    if octets.len() > limits.message_bytes {
        return Err(MessageError::TooLarge { found: octets.len(), limit: limits.message_bytes });
    }
    let mut reader = Reader::new(octets);
    let parsed = head(&mut reader, wanted).and_then(|strings| {
        let mut body = Body { strings, page: Page::SyncMl, builder: Builder::new(*limits), wanted };
        while !body.builder.is_complete() {
            body.step(&mut reader)?;
        }
        reader.finish("the root element")?;
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

/// Reads what stands before the body; returns the string table.
// spec: oma-dm 8 (three headers)
pub(in crate::dm) fn head<'a>(
    reader: &mut Reader<'a>,
    wanted: &DocumentType,
) -> Result<&'a [u8], Fault> {
    let version = reader.u8("WBXML version")?;
    if !(1..=3).contains(&version) {
        let expected = "1 to 3, which is WBXML 1.1 to 1.3";
        return Err(WireError::invalid("WBXML version", version, expected).into());
    }
    let public_id = number(reader, "public identifier")?;
    let named_at = if public_id == 0 { Some(number(reader, "place of the name")?) } else { None };
    let charset = number(reader, "charset")?;
    if ![UTF_8, US_ASCII, UNKNOWN_CHARSET].contains(&charset) {
        return Err(MessageError::NotUtf8.into());
    }
    let length = number(reader, "string table length")?;
    let strings = reader.take(usize::try_from(length).unwrap_or(usize::MAX), "string table")?;
    match named_at {
        Some(place) => {
            let name = table_string(strings, place)?;
            if !name.eq_ignore_ascii_case(wanted.name) {
                let found = format!("its public identifier is {}", shortened(name));
                return Err(MessageError::NotSyncMl(found).into());
            }
        }
        None if public_id == UNKNOWN || Some(public_id) == wanted.number => {}
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

/// Reads a text that a zero ends.
pub(in crate::dm) fn inline_string<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Fault> {
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
    Ok(std::str::from_utf8(text).map_err(|_| MessageError::NotUtf8)?)
}

/// Returns the text at a place of the string table. Some clients leave out the zero after the
/// last one.
pub(in crate::dm) fn table_string(strings: &[u8], place: u32) -> Result<&str, Fault> {
    let place = usize::try_from(place).unwrap_or(usize::MAX);
    let from = strings.get(place..).filter(|remaining| !remaining.is_empty()).ok_or_else(|| {
        WireError::invalid("place in the string table", place, "a place inside the table")
    })?;
    let text = from.split(|octet| *octet == 0).next().unwrap_or_default();
    Ok(std::str::from_utf8(text).map_err(|_| MessageError::NotUtf8)?)
}

struct Body<'a, 'w> {
    strings: &'a [u8],
    page: Page,
    builder: Builder<'a>,
    wanted: &'w DocumentType,
}

impl<'a> Body<'a, '_> {
    /// Takes one token and what belongs to it.
    fn step(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        let token = reader.u8("token")?;
        match token {
            SWITCH_PAGE => {
                let number = reader.u8("code page")?;
                self.page = Page::from_number(number)
                    .ok_or_else(|| WireError::invalid("code page", number, "0 to 2"))?;
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
            STR_I => self.text(inline_string(reader)?.into()),
            STR_T => {
                let place = number(reader, "place in the string table")?;
                self.text(table_string(self.strings, place)?.into())
            }
            OPAQUE => {
                let length = number(reader, "opaque length")?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let octets = reader.take(length, "opaque data")?;
                self.inside()?;
                Ok(self.builder.octets(octets)?)
            }
            tag => self.tag(tag, reader),
        }
    }

    fn tag(&mut self, tag: u8, reader: &mut Reader<'a>) -> Result<(), Fault> {
        let token = tag & !(CONTENT | ATTRIBUTES);
        if tag & ATTRIBUTES != 0 || token < LITERAL {
            return Err(WireError::invalid("token", format!("{tag:#04x}"), "a tag").into());
        }
        let name = if token == LITERAL {
            let place = number(reader, "place in the string table")?;
            table_string(self.strings, place)?
        } else {
            let unknown = || WireError::invalid("tag", format!("{token:#04x}"), "one of its page");
            self.page.name(token).ok_or_else(unknown)?
        };
        if self.builder.is_outside() && name != self.wanted.root {
            let found = format!("the root element is {}", shortened(name));
            return Err(MessageError::NotSyncMl(found).into());
        }
        self.builder.open(name.into())?;
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
