//! The lab: image server, management server and N devices on one machine, over loopback
//! multicast, with loss, kills, forged floods and outages drawn from one seed.
//!
//! | module | holds |
//! | --- | --- |
//! | [`options`] | the command line |
//! | [`chance`] | the seeded source of everything that is left to chance |
//! | [`image`] | the image that is sent; digests of files |
//! | [`counters`] | what a device heard, over all its lives |
//! | [`process`] | child processes that never outlive the lab |
//! | [`folder`] | the folder of one run |
//! | [`hook`] | the installer hook of a lab device |
//! | [`forgery`] | what an attacker on the channel sends |
//! | [`report`], [`verdict`] | what came of it |
//! | [`progress`] | what a person sees meanwhile |
//!
//! The lab starts its own program again in hidden roles (`lab role …`), so that each device is a
//! process that can be killed, and one build makes everything.

pub mod chance;
pub mod counters;
pub mod exit;
pub mod folder;
pub mod forgery;
pub mod hook;
pub mod image;
pub mod options;
pub mod process;
pub mod progress;
pub mod report;
pub mod verdict;
