//! Requests for ranges of a resource, and their outcome.

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its media type; empty when unknown.
    pub media_type: String,
    /// Octets of the whole, when that is known.
    pub total: Option<u64>,
    /// The octets, from `from` on; fewer when the whole is shorter.
    pub octets: Vec<u8>,
}

/// The reason why a fetch failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchError {
    /// The device does not follow this URL.
    Refused,
    /// The server's status code.
    Status(u16),
    /// No connection, no response in time, or no trust.
    Network,
}
