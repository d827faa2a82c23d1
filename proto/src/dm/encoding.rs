//! The two forms of a DM message on the wire, XML and WBXML.
//!
//! Reading has two steps, each with its limits: [`xml`] and [`wbxml`] parse octets to a small tree
//! of elements; the second step, tree to [`Message`], is the same for both. One writer writes the
//! elements in the order of the DTD.

use super::{syncml::Message, wbxml, xml};

pub(super) mod read;
pub(super) mod write;

pub use super::message::{Limits, MessageError};
pub use write::MetaOrder;

#[cfg(test)]
mod tests;

crate::words! {
    /// The form of a message on the wire.
    #[derive(Default)]
    pub enum Encoding: "encoding" {
        /// Text.
        #[default]
        Xml = "xml",
        /// Tokens.
        Wbxml = "wbxml",
    }
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

    /// Returns the form of a message, for a transport without a media type: WBXML begins with the
    /// number of its version.
    #[must_use]
    pub fn recognise(octets: &[u8]) -> Self {
        match octets.first() {
            Some(1..=3) => Self::Wbxml,
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

    /// Reads the header of a message, and nothing after it; the message has no commands. It is for
    /// the challenge of a peer whose proof over the message is wrong.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    // spec: security 7.2 (parse only if the MAC is right)
    pub fn parse_header(self, octets: &[u8], limits: &Limits) -> Result<Message, MessageError> {
        match self {
            Self::Xml => xml::parse_header(octets, limits),
            Self::Wbxml => wbxml::parse_header(octets, limits),
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
