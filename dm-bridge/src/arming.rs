//! From a campaign to an armed device, and from its final alert to a result.
//!
//! | module | holds |
//! | --- | --- |
//! | [`commands`] | the commands for it; the only place that names a FLUTE session to a device |
//! | [`results`] | final alerts, and what is read back |

pub mod commands;
pub mod results;
