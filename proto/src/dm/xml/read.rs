//! Octets to a tree of elements; what XML allows beyond SyncML's needs is refused here.

use quick_xml::{
    Reader,
    events::{BytesDecl, BytesStart, Event},
};

use crate::dm::encoding::{
    Limits, MessageError, SYNCML_NAMESPACE,
    element::{Builder, Element},
    is_xml_char, shortened,
};

/// Reads exactly one root element, which must be SyncML 1.2.
pub(super) fn syncml(octets: &[u8], limits: &Limits) -> Result<Element, MessageError> {
    elements(octets, limits, &check_syncml)
}

/// Judges the root element by its name and the namespace that it is in.
type RootCheck<'a> = &'a dyn Fn(&str, Option<&str>) -> Result<(), MessageError>;

/// Reads exactly one root element.
pub(in crate::dm) fn elements(
    octets: &[u8],
    limits: &Limits,
    check_root: RootCheck<'_>,
) -> Result<Element, MessageError> {
    if octets.len() > limits.message_bytes {
        return Err(MessageError::TooLarge { found: octets.len(), limit: limits.message_bytes });
    }
    let text = std::str::from_utf8(octets).map_err(|_| MessageError::NotUtf8)?;
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut taker = Taker { builder: Builder::new(*limits), check_root };
    loop {
        let event = reader.read_event().map_err(|error| malformed(&reader, error))?;
        if matches!(event, Event::Eof) {
            break;
        }
        taker.take(event, &reader)?;
    }
    taker.builder.finish().ok_or_else(|| malformed(&reader, "the end is missing"))
}

fn malformed(reader: &Reader<&[u8]>, detail: impl ToString) -> MessageError {
    let detail = shortened(&detail.to_string());
    MessageError::Malformed { offset: reader.buffer_position(), detail }
}

struct Taker<'a> {
    builder: Builder,
    check_root: RootCheck<'a>,
}

impl Taker<'_> {
    fn take(&mut self, event: Event<'_>, reader: &Reader<&[u8]>) -> Result<(), MessageError> {
        match event {
            Event::Start(start) => self.start(&start, reader),
            Event::Empty(start) => {
                self.start(&start, reader)?;
                self.builder.close();
                Ok(())
            }
            // The reader has matched the names, so an element is open here.
            Event::End(_) => {
                self.builder.close();
                Ok(())
            }
            Event::Text(text) => {
                let text = text.decode().map_err(|_| MessageError::NotUtf8)?;
                self.text(&text, reader)
            }
            Event::CData(text) => {
                let text = text.decode().map_err(|_| MessageError::NotUtf8)?;
                self.text(&text, reader)
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|_| MessageError::NotUtf8)?;
                let character = match reference.resolve_char_ref() {
                    Ok(Some(character)) => Some(character),
                    Ok(None) => predefined(&name),
                    Err(error) => return Err(malformed(reader, error)),
                };
                let character = character.ok_or_else(|| MessageError::Entity(shortened(&name)))?;
                self.text(character.encode_utf8(&mut [0; 4]), reader)
            }
            Event::Decl(declaration) => declared_utf8(&declaration),
            Event::DocType(_) => Err(MessageError::DocumentType),
            Event::Comment(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn start(
        &mut self,
        start: &BytesStart<'_>,
        reader: &Reader<&[u8]>,
    ) -> Result<(), MessageError> {
        let name = std::str::from_utf8(start.local_name().into_inner())
            .map_err(|_| MessageError::NotUtf8)?
            .to_owned();
        if self.builder.is_outside() {
            if self.builder.is_complete() {
                return Err(malformed(reader, "a second root element"));
            }
            (self.check_root)(&name, namespace(start).as_deref())?;
        }
        self.builder.open(name.into())
    }

    fn text(&mut self, text: &str, reader: &Reader<&[u8]>) -> Result<(), MessageError> {
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
