//! Campaigns: what was signed, when it goes on air, how it stands.
//!
//! | module | holds |
//! | --- | --- |
//! | [`model`] | a campaign and its window |
//! | [`admission`] | which signed documents make a campaign here |
//! | [`on_request`] | what a device that asks for an update gets |
//! | [`rollout`] | what to do next, as a pure function of stored state |

pub mod admission;
pub mod model;
pub mod on_request;
pub mod rollout;
