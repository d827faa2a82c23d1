//! The device agent: tuner, symbol store, verifier, DM client.

pub mod config;
pub mod decode;
pub mod dm;
pub mod journal_state;
pub mod shell;
pub mod symbols;
