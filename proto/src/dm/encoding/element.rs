//! The tree between octets and message, built within its limits.

use std::borrow::Cow;

use super::{Limits, MessageError, is_xml_char};

/// An element: its local name, its own content, the elements inside it.
#[derive(Debug, Default)]
pub(in crate::dm) struct Element {
    pub(in crate::dm) name: Cow<'static, str>,
    pub(in crate::dm) content: Content,
    pub(in crate::dm) children: Vec<Self>,
}

/// What an element holds besides other elements.
#[derive(Debug)]
pub(in crate::dm) enum Content {
    /// Text, as all content of an XML message.
    Text(String),
    /// Octets of a WBXML message that need not be text.
    Octets(Vec<u8>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Content {
    /// Returns the content as text.
    pub(in crate::dm) fn into_text(self) -> Result<String, MessageError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Octets(octets) => {
                let text = String::from_utf8(octets).map_err(|_| MessageError::NotUtf8)?;
                if text.chars().all(is_xml_char) { Ok(text) } else { Err(MessageError::NotXmlText) }
            }
        }
    }

    /// Returns the content as text, as long as the message lives.
    pub(in crate::dm) fn as_text(&self) -> Result<&str, MessageError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Octets(octets) => {
                let text = std::str::from_utf8(octets).map_err(|_| MessageError::NotUtf8)?;
                if text.chars().all(is_xml_char) { Ok(text) } else { Err(MessageError::NotXmlText) }
            }
        }
    }

    fn push_octets(&mut self, more: &[u8]) {
        match self {
            Self::Text(text) if text.is_empty() => *self = Self::Octets(more.to_vec()),
            Self::Text(text) => {
                let mut octets = std::mem::take(text).into_bytes();
                octets.extend_from_slice(more);
                *self = Self::Octets(octets);
            }
            Self::Octets(octets) => octets.extend_from_slice(more),
        }
    }

    fn push_text(&mut self, more: &str) {
        match self {
            Self::Text(text) => text.push_str(more),
            Self::Octets(octets) => octets.extend_from_slice(more.as_bytes()),
        }
    }
}

/// Builds one tree.
pub(in crate::dm) struct Builder {
    limits: Limits,
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
    content_bytes: usize,
}

impl Builder {
    pub(in crate::dm) const fn new(limits: Limits) -> Self {
        Self { limits, open: Vec::new(), root: None, elements: 0, content_bytes: 0 }
    }

    /// Returns whether no element is open.
    pub(in crate::dm) const fn is_outside(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns whether the root element has been closed.
    pub(in crate::dm) const fn is_complete(&self) -> bool {
        self.root.is_some()
    }

    pub(in crate::dm) fn open(&mut self, name: Cow<'static, str>) -> Result<(), MessageError> {
        if self.open.len() >= self.limits.depth {
            return Err(MessageError::TooDeep { limit: self.limits.depth });
        }
        if self.elements >= self.limits.elements {
            return Err(MessageError::TooManyElements { limit: self.limits.elements });
        }
        self.elements += 1;
        self.open.push(Element { name, ..Element::default() });
        Ok(())
    }

    /// Closes the innermost open element; there must be one.
    pub(in crate::dm) fn close(&mut self) {
        let Some(closed) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(closed),
            None => self.root = Some(closed),
        }
    }

    pub(in crate::dm) fn text(&mut self, text: &str) -> Result<(), MessageError> {
        self.count(text.len())?;
        if let Some(element) = self.open.last_mut() {
            element.content.push_text(text);
        }
        Ok(())
    }

    pub(in crate::dm) fn octets(&mut self, octets: &[u8]) -> Result<(), MessageError> {
        self.count(octets.len())?;
        if let Some(element) = self.open.last_mut() {
            element.content.push_octets(octets);
        }
        Ok(())
    }

    /// A string table lets a short message stand for a long one; the limit holds for both.
    fn count(&mut self, more: usize) -> Result<(), MessageError> {
        self.content_bytes = self.content_bytes.saturating_add(more);
        let (found, limit) = (self.content_bytes, self.limits.message_bytes);
        if found > limit { Err(MessageError::TooLarge { found, limit }) } else { Ok(()) }
    }

    /// Returns the tree when its root is closed.
    pub(in crate::dm) fn finish(self) -> Option<Element> {
        self.root.filter(|_| self.open.is_empty())
    }
}
