//! Proof of the storage: power cuts at every operation, random lives, killed processes.

mod crash;
mod fsck;
mod kill;
mod model;
mod room;
mod tables;
