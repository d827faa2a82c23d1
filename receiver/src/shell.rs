//! What touches the world: sockets, files, clocks, threads, other programs.
//!
//! | module | does |
//! | --- | --- |
//! | [`capture`] | reads packet captures |
//! | [`clock`] | the one place that asks for the time |
//! | [`data_dir`], [`objects`], [`storage`] | the data directory, one object's files, the thread that serves them in order |
//! | [`disk`] | the file system below these, as a seam |
//! | [`fsck`] | says what a data directory holds |
//! | [`multicast`] | joins channels and receives datagrams in batches |
//! | [`http`], [`notifications`] | posts DM messages; takes notifications |
//! | [`fetch`] | fetches packages, piece by piece |
//! | [`installer`] | runs the installer hook |
//! | [`sensors`] | reads battery, memory, storage, link and heat |
//! | [`user`], [`consent`] | asks the user at the terminal or by a hook; keeps a standing consent |
//! | [`control`] | the local control socket: both ends |
//! | [`wiring`] | between agent and storage: outputs to commands, completions to inputs |
//! | [`event_loop`] | drives the agent with all of these |
//! | [`listen`] | drives the receiver of unsigned files |

pub mod bootstrap;
pub mod capture;
pub mod clock;
pub mod consent;
pub mod control;
pub mod data_dir;
pub mod disk;
pub mod event_loop;
pub mod fetch;
pub mod fsck;
pub mod http;
pub mod installer;
pub mod listen;
pub mod multicast;
pub mod notifications;
pub mod objects;
pub mod sensors;
pub mod storage;
pub mod user;
pub mod wiring;
