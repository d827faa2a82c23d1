//! Proof: the lab, and the helpers of the test families.

pub mod broadcast;
pub mod check;
pub mod flood;
pub mod lab;
pub mod memory;
pub mod mutations;
pub mod namespaces;
pub mod schema;
pub mod secrets;
pub mod sessions;
pub mod sim;
pub mod span;
pub mod store;
pub mod storm;
pub mod tables;
pub mod tools;
pub mod verifier;
