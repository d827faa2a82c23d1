//! Initiator and outcome of a DM session.

use std::time::Duration;

use proto::{
    dm::{code::StatusCode, encoding::MessageError},
    time::Now,
};
use thiserror::Error;

use crate::dm::backoff::wait_in_reply_address;

/// Initiator of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The device or its user.
    Client,
    /// The server, by a notification.
    Server,
}

/// Outcome of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOutcome {
    /// Both sides completed their packages.
    Complete,
    /// The server is busy.
    RetryLater {
        /// The time to wait that the server requested, if any.
        wait: Option<Duration>,
    },
    /// Aborted by this side, with [`DmClient::abort`](super::DmClient::abort).
    Aborted,
    /// The session failed; retry after a back-off.
    Failed(SessionError),
}

impl From<SessionError> for SessionOutcome {
    fn from(error: SessionError) -> Self {
        Self::Failed(error)
    }
}

/// Error that ended a session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The server was not reached, or did not respond.
    #[error("no response from the server")]
    Unreachable,
    /// The server responded with an HTTP error.
    #[error("HTTP status {0} from the server")]
    Http(u16),
    /// The response is not a DM message.
    #[error("unreadable response: {0}")]
    Unreadable(#[from] MessageError),
    /// The response violates the protocol.
    #[error("protocol violation: {0}")]
    Protocol(&'static str),
    /// The server rejects the credentials.
    #[error("credentials rejected by the server")]
    CredentialsRefused,
    /// The server requires an authentication type that this device does not offer it.
    #[error("unsupported authentication type required by the server")]
    UnsupportedAuthentication,
    /// The server is not authenticated.
    #[error("server not authenticated")]
    ServerNotProved,
    /// The server rejected the message.
    #[error("message rejected by the server with status {0}")]
    Refused(StatusCode),
    /// The server aborted the session.
    #[error("session aborted by the server")]
    AbortedByServer,
    /// The session exceeded the limit of messages.
    #[error("too many messages in the session")]
    TooLong,
    /// There is no open session.
    #[error("no open session")]
    NoSession,
}

/// Returns the outcome of a 417 or 503 for the header.
pub(super) fn retry_later(now: Now, reply_address: Option<&str>) -> SessionOutcome {
    let wait = reply_address.and_then(|address| wait_in_reply_address(address, now.utc));
    SessionOutcome::RetryLater { wait }
}
