//! Suspend and resume: the reasons to stop receiving while what was received is stored.

mod reason;

pub use self::reason::SuspendReason;
