//! The fleet: devices, campaigns, armings, and where they are kept.
//!
//! | module | holds |
//! | --- | --- |
//! | [`device`] | a device, its credentials and nonces |
//! | [`profile`] | what clients of a class do otherwise |
//! | [`components`] | what a device holds of software components, and what is to be done with it |
//! | [`policy`] | what a device is to be told of its policy, and what it answered |
//! | [`arming`] | one attempt to arm one device for one campaign |
//! | [`sealing`] | secrets at rest |
//! | [`store`] | what a store must do, and the changes it takes |
//! | [`audit`] | the chained log of changes |
//! | [`memory`] | the store for tests and trials |

pub mod arming;
pub mod audit;
pub mod components;
pub mod device;
pub mod memory;
pub mod policy;
pub mod profile;
pub mod sealing;
pub mod store;

#[cfg(test)]
pub(crate) mod contract;
