//! The HTTP routes of the server: one listener, a router for devices and one for operators.
//!
//! | module | holds |
//! | --- | --- |
//! | [`api`] | the operators' API and its route table |
//! | `client_address` | the address of a client behind proxies |
//! | [`dm`] | `POST /dm`: DM messages of devices |
//! | `download` | descriptors and packages for unicast delivery |

pub mod api;
mod client_address;
pub mod dm;
mod download;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};

use proto::crypto::random;

use super::state::Shared;
use crate::random::spread;

/// Returns the router of a server.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    devices().with_state(Arc::clone(shared)).merge(api::router(shared))
}

/// Returns the router of devices, which authenticate in their DM messages or need not.
fn devices() -> Router<Arc<Shared>> {
    let notification = DefaultBodyLimit::max(download::MAX_NOTIFICATION_BYTES);
    Router::new()
        .route("/dm", post(dm::post))
        .route("/download/{id}/{secret}/descriptor", get(download::descriptor))
        .route("/download/{id}/{secret}/package", get(download::package))
        .route("/download/{id}/{secret}/notify", post(download::notify).layer(notification))
        .route("/download/{id}/package", get(download::package_without_secret))
}

/// Returns the value of `Retry-After` for a wait, spread and rounded up.
///
/// # Units
///
/// Seconds, at least 1.
fn retry_after(wait: Duration) -> String {
    spread(wait, &mut random::<16>).as_millis().div_ceil(1000).max(1).to_string()
}
