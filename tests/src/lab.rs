//! The lab: image server, management server and N devices on one machine, over loopback
//! multicast, with loss, kills, forged floods and outages drawn from one seed.
//!
//! | module | holds |
//! | --- | --- |
//! | [`options`] | the command line |
//! | [`run`] | one run, from keys to verdict |
//! | [`subprocesses`] | subprocesses that the lab's own program runs as |
//! | [`rng`] | the seeded source of random numbers |
//! | [`image`] | the image that is sent; digests of files |
//! | [`addresses`], [`schedule`] | free ports and a group; when the window opens and closes |
//! | [`headend`], [`documents`] | keys, package, plan, campaign; the two servers |
//! | [`device`], [`device_storage`] | a device as the lab sees it; what its folder holds |
//! | [`lossy_filter`] | losses between socket and agent |
//! | [`counters`] | datagrams that a device received, over all its lives |
//! | [`process`] | child processes that never outlive the lab |
//! | [`folder`] | the folder of one run |
//! | [`hook`], [`user`] | the installer hook of a lab device; its user |
//! | [`forgery`], [`attacker`] | what an attacker on the channel sends; the attacker as a process |
//! | [`report`], [`verdict`] | the result of a run |
//! | [`progress`] | the progress display |
//!
//! The lab starts its own program again in hidden roles (`lab role …`), so that each device is a
//! process that can be killed, and one build makes everything.

pub mod addresses;
pub mod attacker;
pub mod counters;
pub mod device;
pub mod device_storage;
pub mod documents;
pub mod exit;
pub mod folder;
pub mod forgery;
pub mod headend;
pub mod hook;
pub mod image;
pub mod lossy_filter;
pub mod options;
pub mod process;
pub mod progress;
pub mod report;
pub mod rng;
pub mod run;
pub mod schedule;
pub mod subprocesses;
pub mod user;
pub mod verdict;
