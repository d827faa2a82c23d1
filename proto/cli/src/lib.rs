//! Parts that the shells and command lines of the programs share; no core uses them.
//!
//! | module | holds |
//! | --- | --- |
//! | [`output`] | text for the user on standard output and standard error |
//! | [`units`] | sizes, rates and durations |

pub mod output;
pub mod units;
