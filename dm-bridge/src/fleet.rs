//! The fleet: devices, attempts to arm them, and the store of both.
//!
//! | module | holds |
//! | --- | --- |
//! | [`device`] | a device, its credentials and nonces |
//! | [`address`] | addresses that a device has proved itself from |
//! | [`challenge`] | nonces of challenges, computed and not stored |
//! | [`profile`] | quirks of the clients of a class |
//! | [`components`] | the software components of a device, and operations on them |
//! | [`policy`] | the desired policy of a device |
//! | [`attempt`] | one attempt to arm one device for one campaign |
//! | [`package_secret`] | the secret in the URLs of the package of an attempt |
//! | [`sealing`] | stored secrets, sealed |
//! | [`store`] | the interface of a store, and its changes |
//! | [`audit`] | the chained log of changes |
//! | [`memory`] | the store for tests and trials |

pub mod address;
pub mod attempt;
pub mod audit;
pub mod challenge;
pub mod components;
pub mod device;
pub mod memory;
pub mod package_secret;
pub mod policy;
pub mod profile;
pub mod sealing;
pub mod store;

#[cfg(test)]
pub(crate) mod store_tests;
