//! Sockets, files, clocks and tasks.
//!
//! | module | holds |
//! | --- | --- |
//! | [`data_dir`] | the server's directory and the files of operators |
//! | [`server`] | listener, tasks, shutdown |
//! | [`state`] | what the tasks share: clock, DM sessions, failed authentications, counters |
//! | [`http`] | routes for devices and for operators |
//! | [`tls`] | the listener, with TLS or without |
//! | [`reconciler`], [`control_client`] | reconcile image servers with campaigns |
//! | [`notify`] | sends notifications |
//! | [`store`] | the database of the fleet |

pub mod control_client;
pub mod data_dir;
pub mod health;
pub mod http;
pub(crate) mod notify;
pub mod reconciler;
pub mod server;
pub mod state;
pub mod store;
pub mod tls;
