//! The control API: sessions on air by orders and windows, and the state that survives a restart.

pub mod manager;
pub mod resume_point;
