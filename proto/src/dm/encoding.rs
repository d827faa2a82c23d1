//! The two forms of a DM message on the wire, XML and WBXML, and what they share.
//!
//! Reading goes in two steps, each with its limits: octets to a small tree of elements, which is
//! the business of [`xml`] and [`wbxml`], and tree to [`Message`], which is the same for both.
//! Writing goes through one writer that knows the order of the DTD.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::{syncml::Message, wbxml, xml};
use crate::wire::WireError;

pub(super) mod element;
pub(super) mod read;
pub(super) mod write;

pub use write::MetaOrder;

#[cfg(test)]
mod tests;

/// The namespace of the root element.
pub const SYNCML_NAMESPACE: &str = "SYNCML:SYNCML1.2";
/// The namespace of the elements inside Meta.
pub const METINF_NAMESPACE: &str = "syncml:metinf";

/// The form of a message on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Encoding {
    /// Text.
    #[default]
    Xml,
    /// Tokens.
    Wbxml,
}

impl Encoding {
    /// Returns the media type of a message in this form.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Xml => "application/vnd.syncml.dm+xml",
            Self::Wbxml => "application/vnd.syncml.dm+wbxml",
        }
    }

    /// Returns the form that a media type names. Clients in the field write
    /// `application/vnd.syncml+xml` as well, so that the suffix alone counts.
    #[must_use]
    pub fn from_media_type(value: &str) -> Option<Self> {
        // spec: oma-dm 6 (media types by their suffix)
        let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media_type.strip_prefix("application/")?.rsplit_once('+')?.1 {
            "xml" => Some(Self::Xml),
            "wbxml" => Some(Self::Wbxml),
            _ => None,
        }
    }

    /// Returns the form that octets are in, for a transport that does not say it: WBXML begins with
    /// the number of its version.
    #[must_use]
    pub fn recognise(octets: &[u8]) -> Self {
        match octets.first() {
            Some(0..=3) => Self::Wbxml,
            Some(_) | None => Self::Xml,
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`MessageError`] names what is at fault. Whatever the octets are, there is no panic, and
    /// the work is linear in their number.
    pub fn parse(self, octets: &[u8], limits: &Limits) -> Result<Message, MessageError> {
        match self {
            Self::Xml => xml::parse(octets, limits),
            Self::Wbxml => wbxml::parse(octets, limits),
        }
    }

    /// Writes a message, elements in DTD order.
    ///
    /// Characters that XML cannot carry become U+FFFD.
    #[must_use]
    pub fn emit(self, message: &Message) -> Vec<u8> {
        match self {
            Self::Xml => xml::emit(message),
            Self::Wbxml => wbxml::emit(message),
        }
    }

    /// Writes a message for a client that expects an order in its Metas; the count of octets is the
    /// same.
    #[must_use]
    pub fn emit_ordered(self, message: &Message, order: MetaOrder) -> Vec<u8> {
        match self {
            Self::Xml => xml::emit_ordered(message, order),
            Self::Wbxml => wbxml::emit_ordered(message, order),
        }
    }

    /// Returns how many octets [`Self::emit`] makes of a message, without writing them.
    #[must_use]
    pub fn length(self, message: &Message) -> usize {
        match self {
            Self::Xml => xml::length(message),
            Self::Wbxml => wbxml::length(message),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Xml => "xml",
            Self::Wbxml => "wbxml",
        })
    }
}

impl FromStr for Encoding {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        match text {
            "xml" => Ok(Self::Xml),
            "wbxml" => Ok(Self::Wbxml),
            _ => Err(WireError::invalid("encoding", text, "`xml` or `wbxml`")),
        }
    }
}

/// What one message may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the message, and of all texts that it stands for.
    pub message_bytes: usize,
    /// Elements inside one another, the root included.
    pub depth: usize,
    /// Elements in all.
    pub elements: usize,
    /// Commands, those inside groups included.
    pub commands: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 64 * 1024, depth: 16, elements: 16_384, commands: 256 }
    }
}

/// Why octets are no DM message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The message, or the text that it stands for, is longer than the limit.
    #[error("the message has {found} octets, the limit is {limit}")]
    TooLarge {
        /// Its octets.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The octets are no UTF-8 text, or the message names another encoding.
    #[error("the message is not UTF-8")]
    NotUtf8,
    /// Octets stand where a text is wanted, and hold a character that XML cannot carry.
    #[error("a text holds a character that XML cannot carry")]
    NotXmlText,
    /// The octets are no well-formed XML or WBXML.
    #[error("the message is not well-formed at octet {offset}: {detail}")]
    Malformed {
        /// Where the reader gave up.
        offset: u64,
        /// What it found.
        detail: String,
    },
    /// A document type declaration, which could define entities.
    #[error("the message has a document type declaration")]
    DocumentType,
    /// An entity beyond the five that XML predefines.
    #[error("the message uses the entity &{0};")]
    Entity(String),
    /// Elements lie deeper inside one another than the limit.
    #[error("elements are nested deeper than {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// More elements than the limit.
    #[error("more than {limit} elements")]
    TooManyElements {
        /// The limit.
        limit: usize,
    },
    /// The root element, its namespace or the document's public identifier is another one.
    #[error("the message is not SyncML: {0}")]
    NotSyncMl(String),
    /// A SyncML or DM version that is not ours.
    #[error("{element} is {found}, expected {expected}")]
    Version {
        /// `VerDTD` or `VerProto`.
        element: &'static str,
        /// What it says.
        found: String,
        /// What we speak.
        expected: &'static str,
    },
    /// An element that must be there is not.
    #[error("{parent} lacks {element}")]
    Missing {
        /// The element that lacks it.
        parent: &'static str,
        /// What it lacks.
        element: &'static str,
    },
    /// An element that may be there once is there twice.
    #[error("{parent} has more than one {element}")]
    Repeated {
        /// The element around it.
        parent: &'static str,
        /// What is repeated.
        element: &'static str,
    },
    /// An element or text where none belongs.
    #[error("{parent} cannot hold {found}")]
    Unexpected {
        /// The element around it.
        parent: &'static str,
        /// What was found, shortened.
        found: String,
    },
    /// An element whose text is not what it should be.
    #[error("{element} is {found}, expected {expected}")]
    Invalid {
        /// The element.
        element: &'static str,
        /// Its text, shortened.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// More commands than the limit.
    #[error("more than {limit} commands")]
    TooManyCommands {
        /// The limit.
        limit: usize,
    },
}

pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Returns whether XML 1.0 can carry the character.
pub(super) const fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
