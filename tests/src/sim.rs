//! The simulated world: what the real cores run on when nothing is left to the machine.
//!
//! | module | holds |
//! | --- | --- |
//! | [`disk`] | a file system in memory that loses what was not synced |

pub mod disk;
