//! The XML form of a DM message: order-free when read, in DTD order when written.
//!
//! Reading goes in two steps, each with its limits: octets to a small tree of elements, tree to
//! [`Message`]. Nothing is allocated by an announced size; the message's own length bounds all.

use thiserror::Error;

use super::syncml::Message;

mod read;
mod tree;
mod write;

#[cfg(test)]
mod tests;

/// The namespace of the root element.
pub const SYNCML_NAMESPACE: &str = "SYNCML:SYNCML1.2";
/// The namespace of the elements inside Meta.
pub const METINF_NAMESPACE: &str = "syncml:metinf";

/// What one message may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the message.
    pub message_bytes: usize,
    /// Elements inside one another, the root included.
    pub depth: usize,
    /// Commands, those inside groups included.
    pub commands: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 64 * 1024, depth: 16, commands: 256 }
    }
}

/// Why octets are no DM message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum XmlError {
    /// The message is longer than the limit.
    #[error("the message has {found} octets, the limit is {limit}")]
    TooLarge {
        /// Its octets.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The octets are no UTF-8 text, or the XML declaration names another encoding.
    #[error("the message is not UTF-8")]
    NotUtf8,
    /// The text is no well-formed XML.
    #[error("the message is not well-formed XML at octet {offset}: {detail}")]
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
    /// Well-formed XML of another kind.
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

/// Reads a message.
///
/// # Errors
///
/// [`XmlError`] names the element at fault. Whatever the octets are, there is no panic, and the
/// work is linear in their number.
pub fn parse(octets: &[u8], limits: &Limits) -> Result<Message, XmlError> {
    let root = tree::parse(octets, limits)?;
    read::message(root, limits)
}

/// Writes a message, elements in DTD order.
///
/// Characters that XML cannot carry become U+FFFD.
#[must_use]
pub fn emit(message: &Message) -> Vec<u8> {
    write::message(message).into_bytes()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Returns whether XML 1.0 can carry the character.
const fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
