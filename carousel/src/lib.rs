//! The image server: packages, plans, the FLUTE sender.

pub mod encode;
pub mod failure;
pub mod pacing;
pub mod plan_file;
pub mod schedule;
