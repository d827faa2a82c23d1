//! HTTP servers of the three programs; only their shells use it.
//!
//! One accept loop serves HTTP/1 from a table of connections. Peers that hold places and prove
//! nothing lose them: every wait for a peer has a limit, and when places run short, whoever has more
//! than a share gives way.
//!
//! | module | holds |
//! | --- | --- |
//! | [`limits`] | [`Limits`](limits::Limits): places and times |
//! | [`table`] | the table of connections, without sockets and clocks |
//! | [`server`] | the accept loop |
//! | [`transport`] | [`Transport`](transport::Transport): plain HTTP, or TLS of a program |
//! | [`body`] | bodies of requests and responses, whose waits have limits |
//! | [`open_files`] | the limit of open files |

pub mod body;
pub mod limits;
pub mod open_files;
pub mod server;
pub mod table;
pub mod transport;

mod place;
mod stream;

#[cfg(test)]
mod tests;
