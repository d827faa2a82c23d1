//! Campaigns: signed documents, windows, and the steps between them.
//!
//! | module | holds |
//! | --- | --- |
//! | [`model`] | a campaign and its window |
//! | [`verify`] | verification of signed documents |
//! | [`update_requests`] | the policy for devices that request an update |
//! | [`reconcile`] | the next steps, as a pure function of stored state |
//! | [`session_check`] | comparison of an open session with what its image server shows |
//! | [`step_scheduler`] | the order in which they run: one at a time for each image server |

pub mod model;
pub mod reconcile;
pub mod session_check;
pub mod step_scheduler;
pub mod update_requests;
pub mod verify;
