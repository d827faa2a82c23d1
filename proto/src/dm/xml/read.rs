//! Octets to a tree of elements; what XML allows beyond SyncML's needs is refused here.

use std::borrow::Cow;

use quick_xml::{
    NsReader,
    events::{BytesStart, Event},
    name::ResolveResult,
};

use crate::{
    dm::{
        encoding::read::{Builder, Element, is_xml_char, shortened},
        message::{Limits, MessageError},
    },
    markup,
};

/// Returns the text of a document.
// spec: oma-dm 8.2 (encodings)
pub(in crate::dm) fn text<'a>(
    octets: &'a [u8],
    limits: &Limits,
) -> Result<Cow<'a, str>, MessageError> {
    let fits = |found, limit| match found <= limit {
        true => Ok(()),
        false => Err(MessageError::TooLarge { found, limit }),
    };
    fits(octets.len(), limits.message_bytes)?;
    let text = markup::decode("message", octets).map_err(|_| MessageError::NotUtf8)?;
    // In UTF-16 a document is shorter than its text.
    fits(text.len(), limits.message_bytes)?;
    Ok(text)
}

/// Reads one root element, which must be SyncML.
pub(super) fn syncml<'a>(text: &'a str, limits: &Limits) -> Result<Element<'a>, MessageError> {
    elements(text, limits, &check_syncml)
}

/// Reads the root element up to the end of the header.
pub(super) fn syncml_header<'a>(
    text: &'a str,
    limits: &Limits,
) -> Result<Element<'a>, MessageError> {
    build(text, &check_syncml, Builder::of_header(*limits))
}

/// A check of the root element, by its name and its namespace.
type RootCheck<'a> = &'a dyn Fn(&str, Option<&str>) -> Result<(), MessageError>;

/// Reads one root element, and nothing after it.
pub(in crate::dm) fn elements<'a>(
    text: &'a str,
    limits: &Limits,
    check_root: RootCheck<'_>,
) -> Result<Element<'a>, MessageError> {
    build(text, check_root, Builder::new(*limits))
}

fn build<'a>(
    text: &'a str,
    check_root: RootCheck<'_>,
    builder: Builder<'a>,
) -> Result<Element<'a>, MessageError> {
    let mut reader = NsReader::from_str(text);
    let mut events = EventReader { source: text, builder, check_root, namespace: Vec::new() };
    while !events.builder.is_complete() {
        let event = reader.read_event().map_err(|error| malformed(&reader, error))?;
        if matches!(event, Event::Eof) {
            break;
        }
        events.take(event, &reader)?;
    }
    events.builder.finish().ok_or_else(|| malformed(&reader, "the end is missing"))
}

fn malformed(reader: &NsReader<&[u8]>, detail: impl ToString) -> MessageError {
    let detail = shortened(&detail.to_string());
    MessageError::Malformed { offset: reader.buffer_position(), detail }
}

struct EventReader<'a, 'c> {
    source: &'a str,
    builder: Builder<'a>,
    check_root: RootCheck<'c>,
    /// The namespace of the root element.
    namespace: Vec<u8>,
}

impl<'a> EventReader<'a, '_> {
    fn take(&mut self, event: Event<'a>, reader: &NsReader<&[u8]>) -> Result<(), MessageError> {
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
                let character = markup::character("reference", &reference)
                    .map_err(|error| malformed(reader, error))?;
                let name = || String::from_utf8_lossy(&reference).into_owned();
                let character =
                    character.ok_or_else(|| MessageError::Entity(shortened(&name())))?;
                self.text(character.to_string().into(), reader)
            }
            Event::DocType(document_type) if self.builder.is_outside() => {
                markup::check_document_type("message", &document_type)
                    .map_err(|_| MessageError::DocumentType)
            }
            Event::DocType(_) => Err(MessageError::DocumentType),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn start(
        &mut self,
        start: &BytesStart<'_>,
        end: &str,
        reader: &NsReader<&[u8]>,
    ) -> Result<(), MessageError> {
        let name = self.local_name(start, end, reader)?;
        let namespace = match reader.resolver().resolve_element(start.name()).0 {
            ResolveResult::Bound(namespace) => namespace.into_inner(),
            // Peers leave out declarations.
            ResolveResult::Unbound | ResolveResult::Unknown(_) => b"",
        };
        if self.builder.is_outside() {
            let declared = (!namespace.is_empty()).then(|| String::from_utf8_lossy(namespace));
            (self.check_root)(&name, declared.as_deref())?;
            self.namespace = namespace.to_vec();
        }
        if self.is_own(namespace) {
            self.builder.open(name)
        } else {
            self.builder.open_foreign(name)
        }
    }

    /// Returns whether a namespace is one of the document, and not that of a vendor.
    // spec: oma-dm 8.2 (elements of vendors)
    fn is_own(&self, namespace: &[u8]) -> bool {
        const FAMILY: &[u8] = b"syncml:";
        let head = namespace.get(..FAMILY.len()).unwrap_or_default();
        namespace.is_empty() || namespace == self.namespace || head.eq_ignore_ascii_case(FAMILY)
    }

    /// Returns the name as it stands in the source, before the place that the reader has come to.
    fn local_name(
        &self,
        start: &BytesStart<'_>,
        end: &str,
        reader: &NsReader<&[u8]>,
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

    fn text(&mut self, text: Cow<'a, str>, reader: &NsReader<&[u8]>) -> Result<(), MessageError> {
        if !text.chars().all(is_xml_char) {
            return Err(malformed(reader, "a character that XML cannot carry"));
        }
        if self.builder.is_outside() && !text.trim().is_empty() {
            return Err(malformed(reader, "text outside the root element"));
        }
        self.builder.text(text)
    }
}

// Which version it is, `VerDTD` says.
fn check_syncml(name: &str, namespace: Option<&str>) -> Result<(), MessageError> {
    if name != "SyncML" {
        return Err(MessageError::NotSyncMl(format!("the root element is {}", shortened(name))));
    }
    match namespace {
        Some(found) if !found.to_ascii_uppercase().starts_with("SYNCML:SYNCML") => {
            Err(MessageError::NotSyncMl(format!("its namespace is {}", shortened(found))))
        }
        Some(_) | None => Ok(()),
    }
}
