//! The HTTP routes of the server.
//!
//! | module | holds |
//! | --- | --- |
//! | [`api`] | the route table, and the operators' API |
//! | [`dm`] | `POST /dm`: DM messages of devices |
//! | `download` | descriptors and packages for unicast delivery |

pub mod api;
pub mod dm;
mod download;
