//! Packages: what the planner chooses, and the documents that are made and signed.

pub mod choose;
pub mod documents;
pub mod roots;
