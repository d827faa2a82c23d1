//! Limits of the receiver.

use std::{net::IpAddr, time::Duration};

use proto::{flute::fdt::store::Expiry, ids::Tsi};

/// Selection of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// The only sender to accept.
    pub source: Option<IpAddr>,
    /// The only session to accept.
    pub tsi: Option<Tsi>,
    /// The treatment of expired descriptions.
    pub expiry: Expiry,
}

/// Limits on what an unauthenticated network may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time; at most half of them may be without a stored symbol once all are used.
    pub sessions: usize,
    /// Files in reception at a time.
    pub objects: usize,
    /// Files that become complete in a run; each has a name in memory.
    pub complete_files: u64,
    /// Octets on disk of all files of a run, complete or not.
    pub disk_bytes: u64,
    /// Octets of the tables and entries of all sessions.
    pub table_bytes: usize,
    /// Octets of the entries of a session.
    pub entry_bytes: usize,
    /// Time without a stored symbol after which a session makes room for any other.
    pub idle_after: Duration,
    /// Time after which a file that the storage failed is received again.
    pub retry_after: Duration,
    /// Octets of waiting packets.
    pub waiting_bytes: usize,
    /// Octets of a file.
    pub file_bytes: u64,
    /// Symbols of a RaptorQ block; bounds the memory of the decoder.
    pub block_symbols: u32,
    /// Octets of a RaptorQ block. In No-Code nothing is solved: its blocks may have any size.
    pub block_bytes: u64,
    /// Octets of all symbols that are not synced.
    pub unsynced_bytes: usize,
    /// Octets of the indexes of all files, which are allocated before the first symbol arrives:
    /// they follow from sizes that anyone can announce.
    pub index_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 256,
            objects: 64,
            complete_files: 65_536,
            disk_bytes: 64 << 30,
            table_bytes: 16 << 20,
            entry_bytes: 8 << 20,
            idle_after: Duration::from_secs(30),
            retry_after: Duration::from_secs(10),
            // Five seconds at 100 Mbit/s: a store is opened, and the FDT awaited.
            waiting_bytes: 64 << 20,
            file_bytes: 16 << 30,
            block_symbols: 8192,
            block_bytes: 32 << 20,
            unsynced_bytes: 32 << 20,
            index_bytes: 16 << 20,
        }
    }
}
