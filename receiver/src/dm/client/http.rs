//! HTTP requests and responses that carry DM messages.

use std::{fmt, time::Duration};

use proto::dm::encoding::Encoding;

/// A DM message to post.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Its URL.
    pub url: String,
    /// Encoding of the body and of the expected response.
    pub encoding: Encoding,
    /// The encoded message.
    pub body: Vec<u8>,
    /// The value of the header [`MAC_HEADER`](proto::dm::auth::MAC_HEADER), if any.
    pub mac: Option<String>,
}

/// Leaves out the address, which may name the session, and the body, which holds credentials.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "HttpRequest({} octets)", self.body.len())
    }
}

/// The response to a DM message.
#[derive(Clone, Copy)]
pub struct HttpResponse<'a> {
    /// The body of the HTTP 200.
    pub body: &'a [u8],
    /// The value of its header [`MAC_HEADER`](proto::dm::auth::MAC_HEADER), if it has one.
    pub mac: Option<&'a str>,
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for HttpResponse<'a> {
    fn from(body: &'a T) -> Self {
        Self { body: body.as_ref(), mac: None }
    }
}

/// Error between request and response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportError {
    /// No connection, no response in time, or an untrusted server.
    Network,
    /// An HTTP status other than 200.
    Http {
        /// The status.
        status: u16,
        /// The header `Retry-After`, parsed by
        /// [`parse_retry_after`](crate::dm::backoff::parse_retry_after).
        retry_after: Option<Duration>,
    },
}
