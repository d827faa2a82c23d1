//! Proof: the lab and the helpers of the test families.

pub mod schema;
