//! Octets to a tree of elements; what XML allows beyond SyncML's needs is refused here.

use quick_xml::{
    Reader,
    events::{BytesDecl, BytesStart, Event},
};

use super::{Limits, SYNCML_NAMESPACE, XmlError, is_xml_char, shortened};

/// An element: its local name, its own text, the elements inside it.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) children: Vec<Self>,
}

/// Reads exactly one root element, which must be SyncML 1.2.
pub(super) fn parse(octets: &[u8], limits: &Limits) -> Result<Element, XmlError> {
    if octets.len() > limits.message_bytes {
        return Err(XmlError::TooLarge { found: octets.len(), limit: limits.message_bytes });
    }
    let text = std::str::from_utf8(octets).map_err(|_| XmlError::NotUtf8)?;
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut builder = Builder { open: Vec::new(), root: None, depth_limit: limits.depth };
    loop {
        let event = reader.read_event().map_err(|error| malformed(&reader, error))?;
        if matches!(event, Event::Eof) {
            break;
        }
        builder.take(event, &reader)?;
    }
    match builder.root {
        Some(root) if builder.open.is_empty() => Ok(root),
        Some(_) | None => Err(malformed(&reader, "the end is missing")),
    }
}

fn malformed(reader: &Reader<&[u8]>, detail: impl ToString) -> XmlError {
    let detail = shortened(&detail.to_string());
    XmlError::Malformed { offset: reader.buffer_position(), detail }
}

struct Builder {
    open: Vec<Element>,
    root: Option<Element>,
    depth_limit: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, reader: &Reader<&[u8]>) -> Result<(), XmlError> {
        match event {
            Event::Start(start) => self.start(&start, reader),
            Event::Empty(start) => {
                self.start(&start, reader)?;
                self.end();
                Ok(())
            }
            Event::End(_) => {
                self.end();
                Ok(())
            }
            Event::Text(text) => {
                let text = text.decode().map_err(|_| XmlError::NotUtf8)?;
                self.text(&text, reader)
            }
            Event::CData(text) => {
                let text = text.decode().map_err(|_| XmlError::NotUtf8)?;
                self.text(&text, reader)
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|_| XmlError::NotUtf8)?;
                let character = match reference.resolve_char_ref() {
                    Ok(Some(character)) => Some(character),
                    Ok(None) => predefined(&name),
                    Err(error) => return Err(malformed(reader, error)),
                };
                let character = character.ok_or_else(|| XmlError::Entity(shortened(&name)))?;
                self.text(character.encode_utf8(&mut [0; 4]), reader)
            }
            Event::Decl(declaration) => declared_utf8(&declaration),
            Event::DocType(_) => Err(XmlError::DocumentType),
            Event::Comment(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>, reader: &Reader<&[u8]>) -> Result<(), XmlError> {
        if self.open.len() >= self.depth_limit {
            return Err(XmlError::TooDeep { limit: self.depth_limit });
        }
        let name = std::str::from_utf8(start.local_name().into_inner())
            .map_err(|_| XmlError::NotUtf8)?
            .to_owned();
        if self.open.is_empty() {
            if self.root.is_some() {
                return Err(malformed(reader, "a second root element"));
            }
            check_root(start, &name)?;
        }
        self.open.push(Element { name, ..Element::default() });
        Ok(())
    }

    fn end(&mut self) {
        // The reader has matched the names, so an element is open here.
        let Some(closed) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(closed),
            None => self.root = Some(closed),
        }
    }

    fn text(&mut self, text: &str, reader: &Reader<&[u8]>) -> Result<(), XmlError> {
        if !text.chars().all(is_xml_char) {
            return Err(malformed(reader, "a character that XML cannot carry"));
        }
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(malformed(reader, "text outside the root element")),
        }
        Ok(())
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

fn declared_utf8(declaration: &BytesDecl<'_>) -> Result<(), XmlError> {
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(name)) if name.eq_ignore_ascii_case(b"utf-8") => Ok(()),
        Some(Ok(_) | Err(_)) => Err(XmlError::NotUtf8),
    }
}

/// Checks that the root element is `SyncML` in its namespace, whatever prefix it uses.
fn check_root(start: &BytesStart<'_>, name: &str) -> Result<(), XmlError> {
    if name != "SyncML" {
        return Err(XmlError::NotSyncMl(format!("the root element is {}", shortened(name))));
    }
    let declares = match start.name().prefix() {
        Some(prefix) => [b"xmlns:", prefix.into_inner()].concat(),
        None => b"xmlns".to_vec(),
    };
    let namespace = start
        .attributes()
        .filter_map(Result::ok)
        .find(|attribute| attribute.key.into_inner() == declares)
        .map(|attribute| String::from_utf8_lossy(&attribute.value).into_owned());
    match namespace {
        Some(found) if found.eq_ignore_ascii_case(SYNCML_NAMESPACE) => Ok(()),
        Some(found) => Err(XmlError::NotSyncMl(format!("its namespace is {}", shortened(&found)))),
        None => Err(XmlError::NotSyncMl("the root element has no namespace".to_owned())),
    }
}
