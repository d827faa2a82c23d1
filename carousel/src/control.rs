//! The control API: its operations, the windows of sessions, and the state that survives a restart.

pub mod manager;
pub mod plan_check;
pub mod resume_point;
