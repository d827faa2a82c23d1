//! Suspend and resume: reception stops while at least one reason is active, and what was received
//! stays.
//!
//! User and server reasons are explicit; the others follow from the environment by the policy.

mod environment;
mod policy;
mod reason;

pub(crate) use self::environment::Environment;
pub use self::{
    environment::{ExternalCondition, Readings},
    policy::{HYSTERESIS, InstallPolicy, Policy, SuspendOn},
    reason::SuspendReason,
};
