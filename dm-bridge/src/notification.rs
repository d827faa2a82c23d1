//! Notifications: package 0, its retries, and the addresses that it is sent to.
//!
//! | module | holds |
//! | --- | --- |
//! | [`retry`] | one notification and its repetitions until the device connects |
//! | [`target`] | addresses of devices, and gateways for short messages |

pub mod retry;
pub mod target;
