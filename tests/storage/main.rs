//! Proof of the storage: power cuts at every operation, random lives, killed processes.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the output of a test is for the person who runs it"
)]

mod crash;
mod fsck;
mod kill;
mod model;
mod room;
mod tables;
