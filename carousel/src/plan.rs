//! Plans: the parameters, the order of the records, their encoding and the head of the file.

pub mod encode;
pub mod file;
pub mod parameters;
pub mod schedule;
