//! The device agent: tuner, symbol store, verifier, DM client.

pub mod symbols;
