//! The management server: enrolment, arming, campaigns, results.

pub mod app;
pub mod arming;
pub mod campaign;
pub mod engine;
pub mod fleet;
pub mod report;
pub mod shell;
