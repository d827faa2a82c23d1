//! The errors of the storage.

use std::io;

use thiserror::Error;

/// A storage failure as a value: the attempted operation, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StorageError {
    /// The file system, or the quota on it, is full.
    #[error("{attempted}: no space left")]
    NoSpace {
        /// The attempted operation and its file.
        attempted: String,
    },
    /// Anything else that the system refused.
    #[error("{attempted}: {reason}")]
    Io {
        /// The attempted operation and its file.
        attempted: String,
        /// The system's error text.
        reason: String,
    },
}

impl StorageError {
    /// Returns a converter for `map_err` that adds the attempted operation.
    pub fn while_doing(attempted: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempted = attempted.into();
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        move |error| {
            if full.contains(&error.kind()) {
                Self::NoSpace { attempted }
            } else {
                Self::Io { attempted, reason: error.to_string() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_distinguished_from_a_broken_one() {
        let full = StorageError::while_doing("reserve log.0")(io::ErrorKind::StorageFull.into());
        assert_eq!(full.to_string(), "reserve log.0: no space left");
        let broken = StorageError::while_doing("sync log.0")(io::Error::other("I/O error"));
        assert_eq!(broken.to_string(), "sync log.0: I/O error");
    }
}
