//! The WBXML form of a DM message: tokens for the elements, texts in place.
//!
//! ```text
//! version  01, 02 or 03 (WBXML 1.1 to 1.3)
//! public id        A4 01: SyncML 1.2, or 00 and the place of its name in the string table
//! charset          6A: UTF-8
//! string table     length, octets
//! body             tags of the code pages SyncML, MetInf and DDF; STR_I, STR_T, OPAQUE
//! ```
//!
//! Written is the plainest of the forms in the field: WBXML 1.2, numeric public identifier, no
//! string table. Read are all of them. A string table lets few octets stand for many, so the
//! limit on the message holds for the texts that it stands for as well.

use super::{
    encoding::{
        read as tree,
        write::{self as writer, MetaOrder},
    },
    message::{Limits, MessageError},
    syncml::Message,
};

pub(in crate::dm) mod read;
pub(in crate::dm) mod tokens;
pub(in crate::dm) mod write;

#[cfg(test)]
mod tests;

/// Reads a message.
///
/// # Errors
///
/// [`MessageError`] names what is at fault. Whatever the octets are, there is no panic, and the
/// work is linear in their number.
pub fn parse(octets: &[u8], limits: &Limits) -> Result<Message, MessageError> {
    tree::message(read::syncml(octets, limits)?, limits)
}

/// Writes a message, elements in DTD order.
///
/// Characters that XML cannot carry become U+FFFD, as in the XML form.
#[must_use]
pub fn emit(message: &Message) -> Vec<u8> {
    emit_ordered(message, MetaOrder::default())
}

pub(super) fn emit_ordered(message: &Message, order: MetaOrder) -> Vec<u8> {
    writer::message(message, write::Tokens::syncml(Vec::with_capacity(1024)), order)
}

/// Returns how many octets [`emit`] makes of a message, without writing them.
#[must_use]
pub fn length(message: &Message) -> usize {
    writer::message(message, write::Tokens::syncml(0), MetaOrder::default())
}

/// Tokens that are the same on every code page.
pub(in crate::dm) mod global {
    pub(in crate::dm) const SWITCH_PAGE: u8 = 0x00;
    pub(in crate::dm) const END: u8 = 0x01;
    pub(in crate::dm) const ENTITY: u8 = 0x02;
    pub(in crate::dm) const STR_I: u8 = 0x03;
    pub(in crate::dm) const LITERAL: u8 = 0x04;
    pub(in crate::dm) const STR_T: u8 = 0x83;
    pub(in crate::dm) const OPAQUE: u8 = 0xc3;

    /// Set in a tag with content.
    pub(in crate::dm) const CONTENT: u8 = 0x40;
    /// Set in a tag with attributes.
    pub(in crate::dm) const ATTRIBUTES: u8 = 0x80;
}

/// The number of UTF-8 among the character sets.
const UTF_8: u32 = 106;
/// The number of US-ASCII, which is UTF-8 too.
const US_ASCII: u32 = 3;
/// A charset that the transport names, which is UTF-8 for all DM messages.
const UNKNOWN_CHARSET: u32 = 0;
