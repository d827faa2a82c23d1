//! Proof of the storage: a device whose power goes at any moment, one that is killed on real files,
//! and what a reception costs the flash.
//!
//! | module | holds |
//! | --- | --- |
//! | [`device`] | the agent with its real wiring and storage on a simulated disk |
//! | [`server`] | the DM server that arms it |
//! | [`ledger`] | what the storage has acknowledged, and so must keep |
//! | [`kill`] | a real process, killed on real files |
//! | [`wear`] | octets written for each octet of the image |

pub mod device;
pub mod kill;
pub mod ledger;
pub mod server;
pub mod wear;
