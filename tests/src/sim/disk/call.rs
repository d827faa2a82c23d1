//! Calls of a disk, and their failures.

use std::{collections::BTreeMap, io, path::PathBuf};

/// Octets that survive a power cut together.
pub const SECTOR_BYTES: usize = 512;

/// A call of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Opening a file as it is.
    Open,
    /// Opening a file that may be made or emptied.
    Create,
    /// Making a directory.
    MakeDirectory,
    /// Syncing a directory.
    SyncDirectory,
    /// Listing a directory.
    List,
    /// Renaming.
    Rename,
    /// Removing a file or a directory.
    Remove,
    /// Locking.
    Lock,
    /// Reading, around the cache or through it.
    Read,
    /// Writing.
    Write,
    /// Asking for a length.
    Length,
    /// Reserving.
    Allocate,
    /// Syncing a file.
    Sync,
    /// Dropping what the cache holds.
    ForgetCached,
}

impl Call {
    /// Returns whether the call is an operation: one that changes what a power cut leaves.
    #[must_use]
    pub const fn is_operation(self) -> bool {
        match self {
            Self::Create
            | Self::MakeDirectory
            | Self::SyncDirectory
            | Self::Rename
            | Self::Remove
            | Self::Write
            | Self::Allocate
            | Self::Sync => true,
            Self::Open
            | Self::List
            | Self::Lock
            | Self::Read
            | Self::Length
            | Self::ForgetCached => false,
        }
    }
}

/// Failure of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A write is done in part; a sync loses what it should have synced.
    Io,
    /// ENOSPC. A write is done in part.
    NoSpace,
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Io => io::Error::from_raw_os_error(5),
            Self::NoSpace => io::ErrorKind::StorageFull.into(),
        }
    }
}

/// Calls in order, each with its path.
pub type History = Vec<(Call, PathBuf)>;

/// Faults by call and number.
pub(super) type Faults = BTreeMap<(Call, u64), Fault>;
