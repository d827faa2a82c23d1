//! Plans: the parameters, the order of the records, their encoding, the head of the file, and
//! its comparison with the signed campaign.

pub mod check;
pub mod encode;
pub mod file;
pub mod parameters;
pub mod runs;
pub mod schedule;
