//! The HTTP routes of the server: one listener, a router for devices and one for operators.
//!
//! | module | holds |
//! | --- | --- |
//! | [`api`] | the operators' API and its route table |
//! | [`dm`] | `POST /dm`: DM messages of devices |
//! | `download` | descriptors and packages for unicast delivery |

pub mod api;
pub mod dm;
mod download;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

use super::state::Shared;

/// Returns the router of a server.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    devices().with_state(Arc::clone(shared)).merge(api::router(shared))
}

/// Returns the router of devices, which authenticate in their DM messages or need not.
fn devices() -> Router<Arc<Shared>> {
    Router::new()
        .route("/dm", post(dm::post))
        .route("/download/{id}/descriptor", get(download::descriptor))
        .route("/download/{id}/package", get(download::package))
        .route("/download/{id}/notify", post(download::notify))
}
