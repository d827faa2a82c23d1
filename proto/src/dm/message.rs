//! The limits, the error and the namespaces that both forms of a DM message share.

use thiserror::Error;

/// The namespace of the root element.
pub const SYNCML_NAMESPACE: &str = "SYNCML:SYNCML1.2";
/// The namespace of the elements inside Meta.
pub const METINF_NAMESPACE: &str = "syncml:metinf";

/// The limits of one message.
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

/// A fault for which octets are no DM message.
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
    /// The octets are text in no encoding that is read.
    #[error("the message is not UTF-8")]
    NotUtf8,
    /// Octets stand where a text is wanted, and hold a character that XML cannot carry.
    #[error("a text holds a character that XML cannot carry")]
    NotXmlText,
    /// The octets are no well-formed XML or WBXML.
    #[error("the message is not well-formed at octet {offset}: {detail}")]
    Malformed {
        /// Offset of the fault.
        offset: u64,
        /// The fault.
        detail: String,
    },
    /// A document type with declarations of its own, which could define entities.
    #[error("the document type of the message has declarations of its own")]
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
        /// Its text.
        found: String,
        /// The supported version.
        expected: &'static str,
    },
    /// An element that must be there is not.
    #[error("{parent} lacks {element}")]
    Missing {
        /// The element that lacks it.
        parent: &'static str,
        /// The missing element.
        element: &'static str,
    },
    /// An element that may be there once is there twice.
    #[error("{parent} has more than one {element}")]
    Repeated {
        /// The element around it.
        parent: &'static str,
        /// The repeated element.
        element: &'static str,
    },
    /// An element or text where none belongs.
    #[error("{parent} cannot hold {found}")]
    Unexpected {
        /// The element around it.
        parent: &'static str,
        /// The element or text that was found, shortened.
        found: String,
    },
    /// An element whose text is not what it should be.
    #[error("{element} is {found}, expected {expected}")]
    Invalid {
        /// The element.
        element: &'static str,
        /// Its text, shortened.
        found: String,
        /// The expected text.
        expected: &'static str,
    },
    /// More commands than the limit.
    #[error("more than {limit} commands")]
    TooManyCommands {
        /// The limit.
        limit: usize,
    },
}
