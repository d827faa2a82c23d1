//! Packages: signed documents and roots.

pub mod documents;
pub mod roots;
