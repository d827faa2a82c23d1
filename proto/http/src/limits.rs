//! Places of connections, and the times for which a server waits for a peer.

use std::time::Duration;

/// Open files that are left for everything but connections.
const OTHER_FILES: u64 = 128;

/// Open files of one connection: its socket, and a file that it is sent.
const FILES_OF_CONNECTION: u64 = 2;

/// Limits of a server on its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once whose peer has not proved itself. From three quarters on, an address
    /// with more than its share loses its oldest idle one.
    pub unproved: usize,
    /// Connections at once.
    pub all: usize,
    /// Wait for a peer after which its connection is idle and may be closed for another.
    pub idle_after: Duration,
    /// Octets in [`Self::idle_after`] with which a connection is not idle.
    pub progress_octets: usize,
    /// Octets of bodies of unproved connections at once. Beyond them the largest that still arrives
    /// is given up.
    pub body_octets: usize,
    /// Time limit of a TLS handshake.
    pub handshake: Duration,
    /// Time limit of the header of a request.
    pub header: Duration,
    /// Time limit of the body of a request.
    pub body: Duration,
    /// Time for which a response may make no progress.
    pub response: Duration,
    /// Time between two requests.
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unproved: 1_024,
            all: 8_192,
            idle_after: Duration::from_secs(1),
            progress_octets: 1_024,
            body_octets: 32 << 20,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            body: Duration::from_secs(10),
            response: Duration::from_secs(20),
            keep_alive: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Returns the limits as far as a process with this many open files can hold them.
    #[must_use]
    pub fn within(self, open_files: u64) -> Self {
        let places = open_files.saturating_sub(OTHER_FILES) / FILES_OF_CONNECTION;
        let all = self.all.min(usize::try_from(places).unwrap_or(usize::MAX)).max(1);
        // A quarter remains for peers that prove themselves.
        let unproved =
            if all < self.all { self.unproved.min(all - all / 4) } else { self.unproved };
        Self { unproved, all, ..self }
    }

    /// Returns the number of connections without proof from which each address has a share.
    pub(crate) const fn crowded(&self) -> usize {
        self.unproved - self.unproved / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_as_large_as_open_files_permit() {
        let limits = Limits::default();
        assert_eq!(limits.within(u64::MAX), limits);
        assert_eq!(limits.within(OTHER_FILES + 2 * 8_192), limits);
        let low = limits.within(OTHER_FILES + 2 * 400);
        assert_eq!((low.all, low.unproved), (400, 300));
        let lowest = limits.within(1);
        assert_eq!((lowest.all, lowest.unproved), (1, 1));
    }
}
