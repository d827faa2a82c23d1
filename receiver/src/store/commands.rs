//! The commands for the storage and their results: each operation has one name from the core to the
//! disk and back.

use proto::{
    crypto::{Digest, Hash16},
    ids::Sbn,
};

use crate::{
    flute::decode::{DecodeJob, DecodeOutcome},
    store::{JournalWrite, LogOutput, ObjectLayout, Recovered, StorageError, Ticket},
};

/// A command for the storage, which serves them in order. An object is identified by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageCommand {
    /// Recover the object's directory, then reserve its logs: one
    /// [`Completion::Recovered`], then [`Completion::Reserved`] with each file until all are ready.
    /// Of an unsigned file nothing is reserved before [`Self::Reserve`].
    Open(ObjectLayout),
    /// Reserve the first logs of an open unsigned file, this many: one [`Completion::Reserved`]
    /// with each.
    Reserve(Hash16, u32),
    /// Write to or sync the logs of an object.
    Log(Hash16, LogOutput),
    /// Write and sync a copy of the journal.
    Journal(JournalWrite),
    /// Write a small file atomically.
    WriteFile(FileName, Vec<u8>),
    /// Write an optional small file: one [`Completion::OptionalFileWritten`], and a failure does
    /// not affect later commands.
    WriteOptionalFile(FileName, Vec<u8>),
    /// Remove a small file.
    RemoveFile(FileName),
    /// Decode a source block.
    Decode(DecodeJob),
    /// Verify the image and give it its name.
    VerifyImage(ObjectLayout),
    /// Read a complete unsigned file, which has its name and this digest since an earlier run: one
    /// [`Completion::ImageVerified`].
    VerifyKept(ObjectLayout, Digest),
    /// Write and sync octets of an image at this offset: one [`Completion::ImageWritten`].
    WriteImage(ObjectLayout, u64, Vec<u8>),
    /// Remove an object's directory; a file with its final name stays.
    Drop(ObjectLayout),
    /// Remove an object's directory and its incomplete file: one [`Completion::Discarded`].
    Discard(ObjectLayout),
    /// Remove the directories of all other objects.
    RemoveOtherObjects(Vec<ObjectLayout>),
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// The object is open, with this content.
    Recovered(Hash16, Recovered),
    /// This number of its logs is reserved.
    Reserved(Hash16, u32),
    /// The object cannot be opened, or its space cannot be reserved.
    OpenFailed(Hash16, StorageError),
    /// The flush has returned.
    Flushed(Hash16, Ticket),
    /// The write or the flush failed.
    LogFailed(Hash16, Ticket, StorageError),
    /// The journal of this generation is synced.
    JournalWritten(u64),
    /// The journal of this generation is not synced; the copy before it is.
    JournalFailed(u64, StorageError),
    /// The small file is written, or removed.
    FileDone(FileName),
    /// The small file is not written, or not removed.
    FileFailed(FileName, StorageError),
    /// The optional small file is written, or not.
    OptionalFileWritten(Result<(), StorageError>),
    /// An attempt to decode a block ended.
    Decoded(Hash16, Sbn, DecodeOutcome),
    /// The image was verified, or not.
    ImageVerified(Hash16, VerifyOutcome),
    /// Octets of the image are synced, or not.
    ImageWritten(Hash16, Result<(), StorageError>),
    /// The object and its incomplete file are removed, or not.
    Discarded(Hash16, Result<(), StorageError>),
    /// The other objects are removed, or not.
    ObjectsRemoved(Result<(), StorageError>),
}

/// The outcome of the verification of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// The image is verified on the medium and has its final name.
    Ready {
        /// Its digest.
        sha256: Digest,
    },
    /// The image has another digest.
    WrongDigest {
        /// Its digest.
        found: Digest,
    },
    /// The content encoding of an unsigned file cannot be decoded, or its decoded content is wrong.
    WrongContent {
        /// The problem.
        why: String,
    },
    /// It could not be read, synced or renamed.
    Failed(StorageError),
}

/// The name of a small file: letters, digits, `.`, `-`; no path, not hidden.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(String);

impl FileName {
    /// Checks a name; `None` for a path, a hidden file or a temporary one.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
        let fits = (1..=100).contains(&name.len()) && name.chars().all(allowed);
        let plain = !name.starts_with('.') && !name.ends_with(TEMPORARY);
        (fits && plain).then(|| Self(name.to_owned()))
    }

    /// Returns the name of a file that this program has named by a digest or a number.
    ///
    /// # Panics
    ///
    /// When `name` is no such name.
    #[must_use]
    pub fn ours(name: &str) -> Self {
        Self::new(name).expect("files are named by our own digests and numbers")
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The end of the name of a file that is not written whole.
pub const TEMPORARY: &str = ".new";
