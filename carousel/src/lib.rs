//! The image server: packages, plans, the FLUTE sender.
//!
//! | module | holds |
//! | --- | --- |
//! | [`plan`] | parameters of a plan, the order of its records, their encoding, the plan file |
//! | [`package`] | signed documents of a package: made, signed, checked; roots |
//! | [`key_file`] | keys and signatures in the forms that tokens hand out |
//! | [`flute`] | the sender core of a FLUTE session: lifecycle, FDT instances, pacing |
//! | [`control`] | operations of the control API, sessions on air, resume points |
//! | [`window`] | windows, and moments as people write them |
//! | [`unsigned`] | sessions without signatures, for labs and other receivers |
//! | [`shell`] | files, sockets, clocks, threads, HTTP |
//! | [`cli`] | the command line |
//! | [`error`] | errors of commands, and their exit codes |
//!
//! Every packet of a package was made, hashed and written in sending order before the window:
//! the sender copies records and computes nothing, and it holds no key.

pub mod cli;
pub mod control;
pub mod error;
pub mod flute;
pub mod key_file;
pub mod package;
pub mod plan;
pub mod shell;
pub mod unsigned;
pub mod window;
