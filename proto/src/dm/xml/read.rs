//! Octets to a tree of elements; what XML allows beyond SyncML's needs is refused here.

use std::borrow::Cow;

use quick_xml::{
    Reader,
    events::{BytesDecl, BytesStart, Event},
};

use crate::dm::{
    encoding::read::{Builder, Element, is_xml_char, shortened},
    message::{Limits, MessageError, SYNCML_NAMESPACE},
};

/// Reads exactly one root element, which must be SyncML 1.2.
pub(super) fn syncml<'a>(octets: &'a [u8], limits: &Limits) -> Result<Element<'a>, MessageError> {
    elements(octets, limits, &check_syncml)
}

/// Reads the root element up to the end of the header.
pub(super) fn syncml_header<'a>(
    octets: &'a [u8],
    limits: &Limits,
) -> Result<Element<'a>, MessageError> {
    build(octets, limits, &check_syncml, Builder::of_header(*limits))
}

/// A check of the root element, by its name and its namespace.
type RootCheck<'a> = &'a dyn Fn(&str, Option<&str>) -> Result<(), MessageError>;

/// Reads exactly one root element.
pub(in crate::dm) fn elements<'a>(
    octets: &'a [u8],
    limits: &Limits,
    check_root: RootCheck<'_>,
) -> Result<Element<'a>, MessageError> {
    build(octets, limits, check_root, Builder::new(*limits))
}

fn build<'a>(
    octets: &'a [u8],
    limits: &Limits,
    check_root: RootCheck<'_>,
    builder: Builder<'a>,
) -> Result<Element<'a>, MessageError> {
    if octets.len() > limits.message_bytes {
        return Err(MessageError::TooLarge { found: octets.len(), limit: limits.message_bytes });
    }
    let text = std::str::from_utf8(octets).map_err(|_| MessageError::NotUtf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::from_str(text);
    let mut events = EventReader { source: text, builder, check_root };
    while !events.builder.is_cut_short() {
        let event = reader.read_event().map_err(|error| malformed(&reader, error))?;
        if matches!(event, Event::Eof) {
            break;
        }
        events.take(event, &reader)?;
    }
    events.builder.finish().ok_or_else(|| malformed(&reader, "the end is missing"))
}

fn malformed(reader: &Reader<&[u8]>, detail: impl ToString) -> MessageError {
    let detail = shortened(&detail.to_string());
    MessageError::Malformed { offset: reader.buffer_position(), detail }
}

struct EventReader<'a, 'c> {
    source: &'a str,
    builder: Builder<'a>,
    check_root: RootCheck<'c>,
}

impl<'a> EventReader<'a, '_> {
    fn take(&mut self, event: Event<'a>, reader: &Reader<&[u8]>) -> Result<(), MessageError> {
        match event {
            Event::Start(start) => self.start(&start, ">", reader),
            Event::Empty(start) => {
                self.start(&start, "/>", reader)?;
                self.builder.close();
                Ok(())
            }
            // The reader has matched the names, so an element is open here.
            Event::End(_) => {
                self.builder.close();
                Ok(())
            }
            Event::Text(text) => {
                self.text(text.decode().map_err(|_| MessageError::NotUtf8)?, reader)
            }
            Event::CData(text) => {
                self.text(text.decode().map_err(|_| MessageError::NotUtf8)?, reader)
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|_| MessageError::NotUtf8)?;
                let character = match reference.resolve_char_ref() {
                    Ok(Some(character)) => Some(character),
                    Ok(None) => predefined(&name),
                    Err(error) => return Err(malformed(reader, error)),
                };
                let character = character.ok_or_else(|| MessageError::Entity(shortened(&name)))?;
                self.text(character.to_string().into(), reader)
            }
            Event::Decl(declaration) => declared_utf8(&declaration),
            Event::DocType(_) => Err(MessageError::DocumentType),
            Event::Comment(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn start(
        &mut self,
        start: &BytesStart<'_>,
        end: &str,
        reader: &Reader<&[u8]>,
    ) -> Result<(), MessageError> {
        let name = self.local_name(start, end, reader)?;
        if self.builder.is_outside() {
            if self.builder.is_complete() {
                return Err(malformed(reader, "a second root element"));
            }
            (self.check_root)(&name, namespace(start).as_deref())?;
        }
        self.builder.open(name)
    }

    /// Returns the name as it stands in the source, before the place that the reader has come to.
    fn local_name(
        &self,
        start: &BytesStart<'_>,
        end: &str,
        reader: &Reader<&[u8]>,
    ) -> Result<Cow<'a, str>, MessageError> {
        let local = start.local_name().into_inner();
        let name = std::str::from_utf8(local).map_err(|_| MessageError::NotUtf8)?;
        let prefix = start.name().into_inner().len() - local.len();
        let read = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let here = self.source.get(..read).and_then(|text| text.strip_suffix(end));
        let place = here.and_then(|text| (text.len() + prefix).checked_sub(start.len()));
        let found = place.and_then(|place| self.source.get(place..)?.get(..local.len()));
        // What the reader's place is, is for the reader to say: a name is never guessed.
        let found = found.filter(|found| *found == name).map(Cow::Borrowed);
        Ok(found.unwrap_or_else(|| Cow::Owned(name.to_owned())))
    }

    fn text(&mut self, text: Cow<'a, str>, reader: &Reader<&[u8]>) -> Result<(), MessageError> {
        if !text.chars().all(is_xml_char) {
            return Err(malformed(reader, "a character that XML cannot carry"));
        }
        if self.builder.is_outside() && !text.trim().is_empty() {
            return Err(malformed(reader, "text outside the root element"));
        }
        self.builder.text(text)
    }
}

fn predefined(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => None,
    }
}

fn declared_utf8(declaration: &BytesDecl<'_>) -> Result<(), MessageError> {
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(name)) if name.eq_ignore_ascii_case(b"utf-8") => Ok(()),
        Some(Ok(_) | Err(_)) => Err(MessageError::NotUtf8),
    }
}

/// Returns the namespace that a root element declares for itself, whatever prefix it uses.
fn namespace(start: &BytesStart<'_>) -> Option<String> {
    let declares = match start.name().prefix() {
        Some(prefix) => [b"xmlns:", prefix.into_inner()].concat(),
        None => b"xmlns".to_vec(),
    };
    start
        .attributes()
        .filter_map(Result::ok)
        .find(|attribute| attribute.key.into_inner() == declares)
        .map(|attribute| String::from_utf8_lossy(&attribute.value).into_owned())
}

fn check_syncml(name: &str, namespace: Option<&str>) -> Result<(), MessageError> {
    if name != "SyncML" {
        return Err(MessageError::NotSyncMl(format!("the root element is {}", shortened(name))));
    }
    match namespace {
        Some(found) if found.eq_ignore_ascii_case(SYNCML_NAMESPACE) => Ok(()),
        Some(found) => {
            Err(MessageError::NotSyncMl(format!("its namespace is {}", shortened(found))))
        }
        None => Err(MessageError::NotSyncMl("the root element has no namespace".to_owned())),
    }
}
