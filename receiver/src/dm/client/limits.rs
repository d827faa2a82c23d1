//! Limits of a DM session.

use proto::dm::encoding;

/// Limits of one DM session.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages that the client sends.
    pub messages: u32,
    /// Challenges that the client responds to.
    pub challenges: u8,
    /// Times that a message is sent again after a network failure.
    pub resends: u8,
    /// Final alerts in one message.
    pub alerts: usize,
    /// Octets of an inbound large object: an envelope in base64, and room.
    pub object_bytes: u64,
    /// Characters of a RespURI.
    pub reply_address: usize,
    /// Limits of one response.
    pub response: encoding::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: 64,
            challenges: 2,
            resends: 1,
            alerts: 16,
            object_bytes: 16 * 1024,
            reply_address: 1024,
            response: encoding::Limits::default(),
        }
    }
}
