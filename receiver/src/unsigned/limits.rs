//! Limits of the receiver.

/// Limits on what an unauthenticated network may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time.
    pub sessions: usize,
    /// Files in reception at a time.
    pub objects: usize,
    /// Octets of waiting packets.
    pub waiting_bytes: usize,
    /// Octets of a file.
    pub file_bytes: u64,
    /// Symbols of a RaptorQ block; bounds the memory of the decoder.
    pub block_symbols: u32,
    /// Octets of a block of any scheme.
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
            sessions: 32,
            objects: 64,
            waiting_bytes: 8 << 20,
            file_bytes: 16 << 30,
            block_symbols: 8192,
            block_bytes: 32 << 20,
            unsynced_bytes: 32 << 20,
            index_bytes: 16 << 20,
        }
    }
}
