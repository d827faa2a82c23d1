//! The lab: image server, management server and N devices on one machine, over loopback
//! multicast, with loss, kills, forged floods and outages drawn from one seed.
//!
//! | module | holds |
//! | --- | --- |
//! | [`options`] | the command line |
//! | [`run`] | one run, from keys to verdict |
//! | [`roles`] | what the lab's own program is when it is started again |
//! | [`chance`] | the seeded source of everything that is left to chance |
//! | [`image`] | the image that is sent; digests of files |
//! | [`places`], [`schedule`] | free ports and a group; when the window opens and closes |
//! | [`headend`], [`documents`] | keys, package, plan, campaign; the two servers |
//! | [`device`], [`held`] | a device as the lab sees it; what its folder holds |
//! | [`tap`] | losses between socket and agent |
//! | [`counters`] | what a device heard, over all its lives |
//! | [`process`] | child processes that never outlive the lab |
//! | [`folder`] | the folder of one run |
//! | [`hook`], [`user`] | the installer hook of a lab device; its user |
//! | [`forgery`], [`attacker`] | what an attacker on the channel sends; the attacker as a process |
//! | [`report`], [`verdict`] | what came of it |
//! | [`progress`] | what a person sees meanwhile |
//!
//! The lab starts its own program again in hidden roles (`lab role …`), so that each device is a
//! process that can be killed, and one build makes everything.

pub mod attacker;
pub mod chance;
pub mod counters;
pub mod device;
pub mod documents;
pub mod exit;
pub mod folder;
pub mod forgery;
pub mod headend;
pub mod held;
pub mod hook;
pub mod image;
pub mod options;
pub mod places;
pub mod process;
pub mod progress;
pub mod report;
pub mod roles;
pub mod run;
pub mod schedule;
pub mod tap;
pub mod user;
pub mod verdict;
