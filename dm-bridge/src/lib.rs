//! The management server: enrolment, arming, campaigns, results.
//!
//! | module | holds |
//! | --- | --- |
//! | [`dm`] | OMA DM sessions as a core |
//! | [`arming`] | from a campaign to commands, from a final alert to a result |
//! | [`campaign`] | what was signed, its window, and what to do next |
//! | [`random`] | random octets and correlators |
//! | [`fleet`] | devices and attempts, and what a store of them must do |
//! | [`app`] | one function for each operation |
//! | [`api`], [`cli`] | how operators ask for them |
//! | [`shell`] | sockets, files, clocks and tasks |
//!
//! Signed documents decide what may be installed; this server decides who is told, and when. It
//! holds no key that could put software on a device.

pub mod api;
pub mod app;
pub mod arming;
pub mod campaign;
pub mod cli;
pub mod dm;
pub mod fleet;
pub mod notify;
pub mod random;
pub mod shell;
