//! The DM server as a core: a message and stored state in, a reply and changed state out.
//!
//! | module | holds |
//! | --- | --- |
//! | [`context`] | the stored rows that concern one device |
//! | [`session`] | one authenticated DM session: package order, tasks, packing |
//! | [`auth`] | authentication of devices: credentials and nonces |
//! | [`proof`] | the proof of a message, or a refusal with a challenge |
//! | `server_auth` | authentication of this server to the device |
//! | `incoming` | values and reports of a device: their effect on its rows |
//! | [`limiter`] | wrong proofs, counted by address and claimed device, and by address |
//! | [`message`] | messages received and sent, and the outcome of each |
//! | [`outbox`] | commands to a device: planned, packed, sent, awaiting their Status |
//! | `capabilities` | capabilities of a device |
//! | `tasks` | the tasks of a session, each once |
//! | `arming_sequence` | the ordered commands that arm a device, and their groups |
//! | `inventory` | software components: inventory and operations |
//! | `object_search` | the FUMO object, looked for in the tree of a device |
//! | [`update_request`] | updates that a device or its user requests |
//!
//! A peer that is not authenticated has no session, and leaves nothing in the store: its challenge is
//! computed ([`challenge`](crate::fleet::challenge)), and a [`session::DmSession`] begins with the
//! credential that was accepted.

mod arming_sequence;
pub mod auth;
mod capabilities;
pub mod context;
mod incoming;
mod inventory;
pub mod limiter;
pub mod message;
mod object_search;
pub mod outbox;
pub mod proof;
mod server_auth;
pub mod session;
mod tasks;
mod update_request;

/// Limits of the DM server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a message, in both directions.
    pub message_bytes: usize,
    /// Exec attempts for one device and campaign before an operator has to intervene.
    pub attempts: u32,
    /// Octets of a large object of a device.
    pub object_bytes: u64,
    /// Messages of a device in one session.
    pub messages: u32,
    /// Octets of a text of a device that is stored.
    pub text_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            attempts: 5,
            object_bytes: 64 * 1024,
            // A package inside a session is sent in chunks, which may be small.
            messages: 1 << 17,
            text_bytes: 128,
        }
    }
}

#[cfg(test)]
mod tests;
