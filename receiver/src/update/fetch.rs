//! Requests for ranges of a resource, and their outcome.

use std::time::Duration;

/// A range to fetch: octets `from..to` of the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// `http:`, `https:`, or `file:` and a path.
    pub url: String,
    /// The first octet.
    pub from: u64,
    /// The one behind the last.
    pub to: u64,
}

/// A fetched range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Its media type; empty when unknown.
    pub media_type: String,
    /// Octets of the whole, when that is known.
    pub total: Option<u64>,
    /// The octets, from `from` on; fewer when the whole is shorter, or the range is cut.
    pub octets: Vec<u8>,
    /// Set when the connection ended before the range was whole.
    pub is_cut: bool,
    /// Set when the time ended before the range was whole: the remainder can be fetched at once.
    pub has_more: bool,
}

/// The reason why a fetch failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchError {
    /// The device does not follow this URL.
    Refused,
    /// The URL leads to a service of the device itself, or on its link.
    OwnService,
    /// The server answered with another status than the content.
    Status {
        /// The HTTP status.
        code: u16,
        /// Time to wait that the server requests.
        retry_after: Option<Duration>,
    },
    /// The server sent another range than the requested one.
    OtherRange,
    /// No connection, no response in time, or no trust.
    Network,
    /// The server sends what is before the range; it can be fetched on at once.
    NotYet,
}
