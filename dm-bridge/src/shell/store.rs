//! The store of the fleet on disk.

pub mod key_file;
pub mod sqlite;
