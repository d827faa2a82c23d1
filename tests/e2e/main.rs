//! Real processes on loopback, bounded in time: they prove wiring, not logic.
//!
//! | module | shows |
//! | --- | --- |
//! | [`lab_runs`] | the lab as a person runs it: loss, kills, forged floods, an outage |
//! | [`matrix`] | attack x place: each refused for its reason |
//! | [`verifier`] | what a flood does to a receiver that accepts everything |
//! | [`secrets`] | that no secret of a run is in any log |
//! | [`bad_input`] | mistakes of operators, with the exit code of each |
//! | [`bootstrap`] | bootstrap of device accounts: from a file, over the air, by a card |
//! | [`components`] | a software component: brought, deactivated, removed, each time read back |
//! | [`notify`] | notifications to a device over each transport |
//! | [`announce`] | a session announced, joined by its description, received |
//! | [`rotation`] | two rotations of the root over DM, and a campaign of the new keys |
//! | [`output`] | pipes whose reader is gone |
//! | [`policy`] | the policy of a device, set by the operator, and its answer |
//! | [`processes`] | programs as processes |
//! | [`readme`] | the commands of the READMEs and other pages |
//! | [`unicast`] | a package over HTTP, inside the DM session, from local media |
//! | [`span`] | an unsigned file over a link between namespaces that loses packets |

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the output of a test is for the person who runs it"
)]
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, helpers included"
)]

mod announce;
mod bad_input;
mod bootstrap;
mod components;
mod inventory;
mod lab_runs;
mod matrix;
mod notify;
mod output;
mod policy;
mod processes;
mod readme;
mod rotation;
mod secrets;
mod span;
mod unicast;
mod verifier;

/// Sets the path of the lab's program in the lab's library: a test's own program is another one.
pub(crate) fn lab_program() -> &'static str {
    env!("CARGO_BIN_EXE_lab")
}
