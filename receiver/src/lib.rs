//! The device agent: tuner, symbol store, verifier, DM client.
//!
//! ```text
//! datagram ─► agent ─► object ─► symbols ─► decode ─► image ─► installer
//!               ▲        │ tables, pending: what a symbol must hash to
//! DM message ─► dm ──────┘ acceptance: what the device is armed with
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`agent`] | the device as a whole: every input, every effect, in one order |
//! | [`acceptance`] | whether the device takes a campaign |
//! | [`tuner`] | windows to joined channels |
//! | [`object`], [`tables`], [`pending`], [`authenticity`] | packets to verified symbols |
//! | [`unsigned`] | files of unsigned FLUTE sessions, for labs |
//! | [`symbols`], [`journal_state`] | what survives a power cut |
//! | [`blocks`], [`decode`] | which block to solve when; solving, off the network path |
//! | [`bootstrap`] | how the device comes by its account |
//! | [`dm`] | the DM session, the tree, reports |
//! | [`suspension`] | the reasons to suspend reception |
//! | [`sensors`] | what the world is like, and when that is a reason to rest |
//! | [`installer`] | the hand-off contract |
//! | [`components`] | software components: announced, delivered, installed |
//! | [`user`], [`consent`] | who answers questions, and what is asked before it happens, or once |
//! | [`stats`], [`chance`] | counters; chance as an argument |
//! | [`shell`] | sockets, files, clocks, threads |

pub mod acceptance;
pub mod agent;
pub mod authenticity;
pub mod blocks;
pub mod bootstrap;
pub mod chance;
pub mod cli;
pub mod components;
pub mod config;
pub mod consent;
pub mod decode;
pub mod dm;
pub mod installer;
pub mod journal_state;
pub mod object;
pub mod pending;
pub mod sensors;
pub mod shell;
pub mod stats;
pub mod suspension;
pub mod symbols;
pub mod tables;
pub mod tuner;
pub mod unsigned;
pub mod user;

#[cfg(test)]
mod testing;
