//! The XML form of a DM message: order-free when read, in DTD order when written.
//!
//! Nothing is allocated by an announced size; the message's own length bounds all.

pub use super::message::Limits;
use super::{
    encoding::{
        read as tree,
        write::{self as writer, MetaOrder},
    },
    message::MessageError,
    syncml::Message,
};

pub(in crate::dm) mod read;
pub(in crate::dm) mod write;

#[cfg(test)]
mod tests;

/// Reads a message.
///
/// # Errors
///
/// [`MessageError`] names the element at fault. Whatever the octets are, there is no panic, and
/// the work is linear in their number.
pub fn parse(octets: &[u8], limits: &Limits) -> Result<Message, MessageError> {
    tree::message(read::syncml(&read::text(octets, limits)?, limits)?, limits)
}

/// Reads the header of a message, and nothing after it.
pub(super) fn parse_header(octets: &[u8], limits: &Limits) -> Result<Message, MessageError> {
    tree::header_alone(read::syncml_header(&read::text(octets, limits)?, limits)?)
}

/// Writes a message, elements in DTD order.
///
/// Characters that XML cannot carry become U+FFFD.
#[must_use]
pub fn emit(message: &Message) -> Vec<u8> {
    emit_ordered(message, MetaOrder::default())
}

pub(super) fn emit_ordered(message: &Message, order: MetaOrder) -> Vec<u8> {
    writer::message(message, write::Text::new(Vec::with_capacity(1024)), order)
}

/// Returns how many octets [`emit`] makes of a message, without writing them.
#[must_use]
pub fn length(message: &Message) -> usize {
    writer::message(message, write::Text::new(0), MetaOrder::default())
}
