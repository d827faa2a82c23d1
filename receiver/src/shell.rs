//! The shell: sockets, files, clocks, threads, other programs.
//!
//! | module | does |
//! | --- | --- |
//! | [`bootstrap`] | prepares the account before the agent starts |
//! | [`capture`] | reads packet captures |
//! | [`clock`] | reads the clocks of the machine |
//! | [`data_dir`], [`objects`], [`storage`] | the data directory, the files of one object, the storage threads |
//! | [`disk`] | the interface of the file system |
//! | [`fsck`] | checks a data directory |
//! | [`multicast`] | joins channels and receives datagrams in batches |
//! | [`http`], [`notifications`] | posts DM messages; receives notifications |
//! | [`fetch`] | fetches packages in ranges |
//! | [`media`] | reads bundles on local media |
//! | [`own_services`] | keeps package URLs away from the device itself and its link |
//! | [`installer`] | runs the installer hook |
//! | [`sensors`] | reads battery, memory, storage, link and temperature |
//! | [`user`], [`consent`] | prompts the user at the terminal or by a hook; loads a standing consent |
//! | [`control`] | the control socket, both ends |
//! | [`restore`] | starts the agent from the data directory |
//! | [`event_loop`] | runs the agent with all of these |
//! | [`listen`] | runs the receiver of unsigned files |

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
mod held;
pub mod http;
pub mod installer;
pub mod listen;
pub mod media;
pub mod multicast;
pub mod notifications;
pub mod objects;
pub mod own_services;
pub mod restore;
pub mod sensors;
pub mod storage;
pub mod user;
