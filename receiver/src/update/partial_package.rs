//! A package that is received inside a DM session, in chunks: DM 1.2 starts again when the session
//! is interrupted, and with the nodes `Ext/Package` a server resumes instead.
//!
//! ```text
//! files/0.piece   SHA-256 of the package up to the end of this chunk, then its octets
//! files/1.piece   …
//! ```
//!
//! Each file is written whole, and synced before the status of its chunk is sent. The partial
//! package is the longest run of files from 0 on whose hashes match: a power cut, or a chunk of
//! another package, ends it. A chunk that does not fit is not stored, nor are those after it; the
//! session continues.

use std::collections::{BTreeMap, VecDeque};

use proto::{
    crypto::{Digest, Hasher},
    dm::fumo::PackagePrefix,
};

use crate::{dm::ChunkPosition, store::StorageError};

/// The most files of one package: enough for the largest in messages of a few KiB.
const MAX_FILES: usize = 4096;

/// The received front of a package.
#[derive(Debug, Default)]
pub(crate) struct PartialPackageStore {
    /// All octets that were passed to the storage.
    octets: Vec<u8>,
    hasher: Hasher,
    files: usize,
    /// The synced part.
    held: Option<PackagePrefix>,
    /// The parts that are synced once the storage has answered, oldest first.
    waiting: VecDeque<PackagePrefix>,
    /// Pending completions of a package that was discarded.
    stale: usize,
    /// The offset of the remainder that is being received.
    remainder_offset: Option<usize>,
    /// Set when a chunk was not stored, so that none fits behind it.
    has_gap: bool,
}

/// The files that a chunk changes.
#[derive(Debug)]
pub(crate) struct StoredChunk {
    /// Files of the package before, to be removed.
    pub(crate) removed: Vec<String>,
    /// Name and content of the chunk's file; `None` when it is not stored.
    pub(crate) written: Option<(String, Vec<u8>)>,
}

impl PartialPackageStore {
    /// Restores the package from its files.
    pub(crate) fn recovered(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let mut parcel = Self::default();
        for number in 0..MAX_FILES {
            let file = files.get(&file_name(number)).map(|file| file.split_first_chunk());
            let Some(Some((hash, octets))) = file else { break };
            let mut hasher = parcel.hasher.clone();
            hasher.update(octets);
            if hasher.clone().finish() != Digest(*hash) {
                break;
            }
            parcel.hasher = hasher;
            parcel.octets.extend_from_slice(octets);
            parcel.files = number + 1;
        }
        if parcel.files > 0 {
            parcel.held = Some(parcel.all());
        }
        parcel
    }

    /// Returns the names of the files in use.
    pub(crate) fn files(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.files).map(file_name)
    }

    /// Returns the synced part.
    pub(crate) const fn held(&self) -> Option<PackagePrefix> {
        self.held
    }

    /// Drops the offset of the remainder of an earlier session.
    pub(crate) const fn begin_session(&mut self) {
        self.remainder_offset = None;
    }

    // spec: oma-dm 11.2
    /// Stores a chunk, unless there is a gap before it or the package is longer than `limit`.
    pub(crate) fn store_chunk(
        &mut self,
        position: ChunkPosition,
        octets: &[u8],
        limit: u64,
    ) -> StoredChunk {
        let removed = match position {
            ChunkPosition::First => self.discard(),
            ChunkPosition::Remainder => {
                let held = self.stored_bytes().len();
                self.remainder_offset = Some(held);
                self.has_gap = held == 0 || !self.waiting.is_empty();
                Vec::new()
            }
            ChunkPosition::Next => Vec::new(),
        };
        let length = u64::try_from(self.octets.len() + octets.len()).unwrap_or(u64::MAX);
        self.has_gap |= length > limit || self.files >= MAX_FILES;
        let is_stored = !octets.is_empty() && !self.has_gap;
        StoredChunk { removed, written: is_stored.then(|| self.push(octets)) }
    }

    /// Drops a chunk: none fits behind it.
    pub(crate) const fn drop_chunk(&mut self) {
        self.has_gap = true;
    }

    /// Returns the synced part with the remainder behind it; `None` when nothing is stored.
    pub(crate) fn with_remainder(&self, remainder: &[u8]) -> Option<Vec<u8>> {
        let held = self.stored_bytes();
        let from = self.remainder_offset.unwrap_or(held.len());
        let front = held.get(..from).filter(|front| !front.is_empty())?;
        Some([front, remainder].concat())
    }

    /// Discards the package; returns the files to remove after their replacement is committed.
    pub(crate) fn discard(&mut self) -> Vec<String> {
        let before = std::mem::take(self);
        self.stale = before.stale + before.waiting.len();
        before.files().collect()
    }

    fn all(&self) -> PackagePrefix {
        let octets = u64::try_from(self.octets.len()).unwrap_or(u64::MAX);
        PackagePrefix { octets, sha256: self.hasher.clone().finish() }
    }

    /// Appends a chunk; returns its file.
    fn push(&mut self, octets: &[u8]) -> (String, Vec<u8>) {
        self.octets.extend_from_slice(octets);
        self.hasher.update(octets);
        let all = self.all();
        self.waiting.push_back(all);
        let name = file_name(self.files);
        self.files += 1;
        (name, [all.sha256.0.as_slice(), octets].concat())
    }

    /// Handles the outcome of writing a chunk.
    pub(crate) fn handle_written(&mut self, outcome: &Result<(), StorageError>) {
        if let Some(stale) = self.stale.checked_sub(1) {
            self.stale = stale;
            return;
        }
        let Some(kept) = self.waiting.pop_front() else { return };
        match outcome {
            Ok(()) => self.held = Some(kept),
            Err(error) => {
                tracing::info!(%error, "chunk of a package not stored");
                self.go_back();
            }
        }
    }

    /// Rolls back to the synced part: later writes are ignored.
    fn go_back(&mut self) {
        self.has_gap = true;
        self.files -= 1 + self.waiting.len();
        self.stale += self.waiting.len();
        self.waiting.clear();
        let held = self.stored_bytes().len();
        self.octets.truncate(held);
        self.hasher = Hasher::new();
        self.hasher.update(&self.octets);
    }

    fn stored_bytes(&self) -> &[u8] {
        let octets = self.held.map_or(0, |held| held.octets);
        usize::try_from(octets).ok().and_then(|end| self.octets.get(..end)).unwrap_or_default()
    }
}

fn file_name(number: usize) -> String {
    format!("{number}.piece")
}
