//! Sockets, files, clocks and tasks.

pub mod store;
