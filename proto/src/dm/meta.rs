//! The `Meta` of items, credentials and challenges.

use std::fmt;

use super::code::Format;

/// A `Meta` with the MetInf elements that DM uses.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Format of the data.
    pub format: Option<Format>,
    /// Type of the data: a media type, an authentication type or an alert type.
    pub kind: Option<String>,
    /// Importance of an alert.
    pub mark: Option<String>,
    /// Size of a large object's data as it stands in the messages.
    pub size: Option<u64>,
    /// The next nonce in base64.
    pub next_nonce: Option<String>,
    /// Octets that the sender accepts in one message.
    pub max_message_size: Option<u64>,
    /// Octets that the sender accepts in one object.
    pub max_object_size: Option<u64>,
}

impl Meta {
    /// Returns a meta with a format alone.
    #[must_use]
    pub fn format(format: Format) -> Self {
        Self { format: Some(format), ..Self::default() }
    }
}

/// Leaves out the nonce.
impl fmt::Debug for Meta {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Meta")
            .field("format", &self.format)
            .field("kind", &self.kind)
            .field("mark", &self.mark)
            .field("size", &self.size)
            .field("max_message_size", &self.max_message_size)
            .field("max_object_size", &self.max_object_size)
            .finish_non_exhaustive()
    }
}
