//! The image server: packages, plans, the FLUTE sender.

pub mod encode;
pub mod failure;
pub mod fdt;
pub mod pacing;
pub mod package;
pub mod place;
pub mod plan_file;
pub mod schedule;
pub mod session;
pub mod window;
