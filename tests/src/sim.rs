//! The simulated world: the real cores of all three programs, where nothing is left to the
//! machine. One seed decides everything.
//!
//! | module | holds |
//! | --- | --- |
//! | [`scenario`], [`fault`] | from a seed: the parts of the world, and its faults |
//! | [`simulation`], [`queue`] | events in their order, and what must be true after each |
//! | [`device`], [`model`] | a device with its real storage; what must be true of it |
//! | [`bridge`], [`image_server`] | the management server and the image servers |
//! | [`reconciler`] | the steps of the management server, and its calls to image servers |
//! | `ready` | futures of a fleet in memory |
//! | [`gateway`] | notifications on their way to devices |
//! | [`net`], [`attacker`] | what the network does to datagrams; what else is on the channel |
//! | [`account`] | URL, nonce and passwords of the devices |
//! | [`disk`] | a file system in memory that loses what was not synced |
//! | [`package`] | keys, documents and plans that are the same in each run |
//! | [`trace`] | what happened, as text and as a digest |
//! | [`injected_bugs`] | mistakes, to see that they are found |
//! | [`superseding`] | a world superseded at every step of a device |
//! | [`shrink`], [`command`] | a failing world, made small; the program `sim` |

pub mod account;
pub mod attacker;
pub mod bridge;
pub mod command;
pub mod device;
pub mod disk;
pub mod fault;
pub mod gateway;
pub mod image_server;
pub mod injected_bugs;
pub mod model;
pub mod net;
pub mod package;
pub mod queue;
mod ready;
pub mod reconciler;
pub mod scenario;
pub mod shrink;
pub mod simulation;
pub mod superseding;
pub mod trace;
