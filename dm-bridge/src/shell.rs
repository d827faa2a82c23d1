//! Sockets, files, clocks and tasks.
//!
//! | module | holds |
//! | --- | --- |
//! | [`command`] | carries out what the command line asks for |
//! | [`data_dir`] | the server's directory and the files of operators |
//! | [`server`], [`state`] | listener, tasks, shutdown; what the tasks share |
//! | [`dm_http`], [`api_http`] | routes for devices and for operators |
//! | [`dm_sessions`] | the DM sessions of the server |
//! | [`tls`], [`guard`] | who is at the other end, and whether it has failed too often |
//! | [`reconciler`], [`control_client`] | keep image servers in step with campaigns |
//! | [`notify`] | sends notifications |
//! | [`bootstrap`] | writes and pushes bootstrap documents |
//! | [`metrics`] | counters |
//! | [`clock`] | the time |
//! | [`store`] | where the fleet is kept |

pub mod api_http;
mod bootstrap;
pub mod clock;
pub mod command;
pub mod control_client;
pub mod data_dir;
pub mod dm_http;
pub mod dm_sessions;
mod download_http;
pub mod guard;
pub mod metrics;
mod notify;
pub mod reconciler;
pub mod server;
pub mod state;
pub mod store;
pub mod tls;
