//! The management server: enrolment, arming, campaigns, results.
//!
//! | module | holds |
//! | --- | --- |
//! | [`dm`] | OMA DM sessions as a core |
//! | [`arming`] | from a campaign to commands, from a final alert to a result |
//! | [`campaign`] | signed documents, windows, and the next steps |
//! | [`random`] | random octets and correlators |
//! | [`fleet`] | devices and attempts, and the interface of their store |
//! | [`notification`] | package 0 and its repetitions |
//! | [`app`] | one function for each operation |
//! | [`api`], [`cli`] | the interfaces of operators |
//! | [`shell`] | sockets, files, clocks and tasks |
//!
//! Signed documents decide what may be installed; this server decides which devices are armed, and
//! when. It holds no key that could sign software.

pub mod api;
pub mod app;
pub mod arming;
pub mod campaign;
pub mod cli;
pub mod dm;
pub mod fleet;
pub mod notification;
pub mod random;
pub mod shell;
