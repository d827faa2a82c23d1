//! The simulated world: the real cores of all three programs, where nothing is left to the
//! machine. One seed decides everything.
//!
//! | module | holds |
//! | --- | --- |
//! | [`scenario`], [`fault`] | from a seed: the parts of the world, and its faults |
//! | [`simulation`], [`queue`] | events in their order, and what must be true after each |
//! | [`device`], [`model`] | a device with its real storage; what must be true of it |
//! | [`bridge`], [`image_server`] | the management server and the image servers |
//! | [`net`], [`attacker`] | what the network does to datagrams; what else is on the channel |
//! | [`account`] | URL, nonce and passwords of the devices |
//! | [`disk`] | a file system in memory that loses what was not synced |
//! | [`package`] | keys, documents and plans that are the same in each run |
//! | [`trace`] | what happened, as text and as a digest |
//! | [`injected_bugs`] | mistakes, to see that they are found |
//! | [`shrink`], [`command`] | a failing seed, made small; the program `sim` |
//! | [`known`] | seeds that are known to fail, and how |

pub mod account;
pub mod attacker;
pub mod bridge;
pub mod command;
pub mod device;
pub mod disk;
pub mod fault;
pub mod image_server;
pub mod injected_bugs;
pub mod model;
pub mod net;
pub mod package;
pub mod queue;
pub mod scenario;
pub mod shrink;
pub mod simulation;
pub mod trace;
