//! Proof of the storage: a device whose power goes at any moment, one that is killed on real files,
//! and the flash writes of a reception.
//!
//! | module | holds |
//! | --- | --- |
//! | [`device`] | the agent with its real wiring and storage on a simulated disk |
//! | [`server`] | the DM server that arms it |
//! | [`ledger`] | acknowledgements of the storage, which must survive |
//! | [`kill`] | a real process, killed on real files |
//! | [`bench_flash_writes`] | octets written for each octet of the image |

pub mod bench_flash_writes;
pub mod device;
pub mod kill;
pub mod ledger;
pub mod server;
