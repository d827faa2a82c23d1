//! The image server: packages, plans, the FLUTE sender.

pub mod cli;
pub mod control;
pub mod encode;
pub mod failure;
pub mod fdt;
pub mod pacing;
pub mod package;
pub mod place;
pub mod plan_file;
pub mod schedule;
pub mod session;
pub mod shell;
pub mod window;
