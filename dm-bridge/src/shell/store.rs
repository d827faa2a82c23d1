//! Where the fleet is kept.

pub mod sqlite;
