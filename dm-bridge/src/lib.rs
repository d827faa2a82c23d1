//! The management server: enrolment, arming, campaigns, results.

pub mod campaign;
pub mod fleet;
pub mod shell;
