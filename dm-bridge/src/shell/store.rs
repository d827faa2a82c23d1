//! Where the fleet is kept.

pub mod key_file;
pub mod sqlite;
