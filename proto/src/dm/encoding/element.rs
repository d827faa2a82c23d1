//! The tree between octets and message, built within its limits.

use std::borrow::Cow;

use crate::dm::message::{Limits, MessageError, is_xml_char};

/// An element: its local name, its own content, the elements inside it. What can be borrowed from
/// the message is.
#[derive(Debug, Default)]
pub(in crate::dm) struct Element<'a> {
    pub(in crate::dm) name: Cow<'a, str>,
    pub(in crate::dm) content: Content<'a>,
    pub(in crate::dm) children: Vec<Self>,
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
    pub(in crate::dm) fn as_text(&self) -> Result<&str, MessageError> {
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
    open: Vec<Element<'a>>,
    root: Option<Element<'a>>,
    elements: usize,
    content_bytes: usize,
}

impl<'a> Builder<'a> {
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

    pub(in crate::dm) fn open(&mut self, name: Cow<'a, str>) -> Result<(), MessageError> {
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

    pub(in crate::dm) fn text(&mut self, text: Cow<'a, str>) -> Result<(), MessageError> {
        self.count(text.len())?;
        if let Some(element) = self.open.last_mut() {
            element.content.push_text(text);
        }
        Ok(())
    }

    pub(in crate::dm) fn octets(&mut self, octets: &'a [u8]) -> Result<(), MessageError> {
        self.count(octets.len())?;
        if let Some(element) = self.open.last_mut() {
            element.content.push_bytes(octets);
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
    pub(in crate::dm) fn finish(self) -> Option<Element<'a>> {
        self.root.filter(|_| self.open.is_empty())
    }
}
