//! The device around a session.

use proto::time::Now;

use crate::dm::{ManagementBackend, tree::Tree};

/// The time and the device of one input.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) device: &'a mut dyn ManagementBackend,
    pub(super) tree: &'a mut Tree,
}
