//! Errors of the delivery of a notification, and what its transports share.

use std::time::Duration;

use thiserror::Error;

/// Wait for the response of a peer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Data coding of a short message that holds eight-bit data.
pub(super) const EIGHT_BIT: u8 = 4;

/// A reason for which a notification was not sent.
#[derive(Debug, Error)]
pub(crate) enum NotifyError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] Box<ureq::Error>),
    #[cfg(feature = "smpp")]
    #[error("{0}")]
    Smpp(String),
    #[cfg(feature = "smpp")]
    #[error("no response within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("the message is too long: {0}")]
    Length(#[from] proto::wire::WireError),
}
