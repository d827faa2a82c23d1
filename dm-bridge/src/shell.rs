//! Sockets, files, clocks and tasks.
//!
//! | module | holds |
//! | --- | --- |
//! | [`data_dir`] | the server's directory and the files of operators |
//! | [`server`], [`state`] | listener, tasks, shutdown; what the tasks share |
//! | [`http`] | routes for devices and for operators |
//! | [`dm_sessions`] | the DM sessions of the server |
//! | [`tls`] | the listener, with TLS or without |
//! | [`auth_limiter`] | failed authentications by address |
//! | [`reconciler`], [`control_client`] | reconcile image servers with campaigns |
//! | [`notify`] | sends notifications |
//! | [`metrics`] | counters |
//! | [`clock`] | the time |
//! | [`store`] | the database of the fleet |

pub mod auth_limiter;
pub mod clock;
pub mod control_client;
pub mod data_dir;
pub mod dm_sessions;
pub mod http;
pub mod metrics;
pub(crate) mod notify;
pub mod reconciler;
pub mod server;
pub mod state;
pub mod store;
pub mod tls;
