//! The control API over HTTP: parses, calls one operation, maps its result.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prost::Message;
use proto::{
    control::{AirPhase, AirStatus, CONTENT_TYPE, PATH, StatusReply, StatusRequest},
    crypto::equal_in_constant_time,
    ids::CampaignId,
    time::Now,
};
use proto_http::{
    server::Connections,
    table::Stats,
    transport::{Peer, Plain, Proved},
};
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_http::timeout::TimeoutLayer;

use super::session_manager::{ControlError, SessionManager, SharedManager};
use crate::{control::manager::Refusal, error::ExitCode};

/// Octets of a request body at most.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The time limit of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the control API until it is dropped.
pub async fn serve(
    listener: TcpListener,
    shared: SharedManager,
    token: Vec<u8>,
    connections: Connections,
) {
    let router = router(shared, token, connections.clone());
    let handle = move |_: Peer<()>, request| {
        let router = router.clone();
        async move { router.oneshot(request).await.unwrap_or_else(|never| match never {}) }
    };
    connections.serve(listener, Plain, handle, std::future::pending()).await;
}

/// Returns the routes, all of which require the token.
fn router(shared: SharedManager, token: Vec<u8>, connections: Connections) -> Router {
    let operations = Router::new()
        .route("/prepare", post(prepare))
        .route("/open", post(open))
        .route("/stop", post(stop))
        .route("/status", post(status));
    Router::new()
        .nest(PATH, operations)
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
        .layer(Extension(connections))
        .layer(middleware::from_fn_with_state(Arc::new(token), admit))
        .with_state(shared)
}

/// Rejects a request without the token.
async fn admit(State(token): State<Arc<Vec<u8>>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if shown.is_some_and(|shown| equal_in_constant_time(shown, &token)) {
        (Extension(Proved), next.run(request).await).into_response()
    } else {
        (StatusCode::UNAUTHORIZED, "a bearer token is required").into_response()
    }
}

async fn prepare(State(shared): State<SharedManager>, headers: HeaderMap, body: Bytes) -> Response {
    operate(&shared, &headers, &body, SessionManager::prepare)
}

async fn open(State(shared): State<SharedManager>, headers: HeaderMap, body: Bytes) -> Response {
    operate(&shared, &headers, &body, |manager, now, request| {
        manager.open(now, request).map(one_session)
    })
}

async fn stop(State(shared): State<SharedManager>, headers: HeaderMap, body: Bytes) -> Response {
    operate(&shared, &headers, &body, |manager, now, request| {
        manager.stop(now, request).map(one_session)
    })
}

async fn status(State(shared): State<SharedManager>, headers: HeaderMap, body: Bytes) -> Response {
    operate(&shared, &headers, &body, SessionManager::status)
}

fn one_session(session: AirStatus) -> StatusReply {
    StatusReply { sessions: vec![session] }
}

fn operate<Input: Message + Default, Reply: Message>(
    shared: &SharedManager,
    headers: &HeaderMap,
    body: &[u8],
    operation: impl FnOnce(&mut SessionManager, Now, &Input) -> Result<Reply, ControlError>,
) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    if kind != Some(CONTENT_TYPE.as_bytes()) {
        let text = format!("content type: expected {CONTENT_TYPE}");
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    }
    let request = match Input::decode(body) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("body: {error}")).into_response(),
    };
    match shared.operate(|manager, now| operation(manager, now, &request)) {
        Ok(answer) => {
            ([(header::CONTENT_TYPE, CONTENT_TYPE)], answer.encode_to_vec()).into_response()
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &ControlError) -> Response {
    let (status, text) = match error {
        ControlError::Refused(refusal) => (status_of(refusal), refusal.to_string()),
        ControlError::Package(error) if error.exit_code() == ExitCode::NotFound => {
            (StatusCode::NOT_FOUND, error.to_string())
        }
        ControlError::Package(error) => (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        ControlError::Storage(error) => (StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
    };
    (status, text).into_response()
}

fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        Refusal::Conflict(_) => StatusCode::CONFLICT,
        Refusal::Policy(_) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// The state of all sessions and of connections in the text form of Prometheus.
async fn metrics(
    State(shared): State<SharedManager>,
    Extension(connections): Extension<Connections>,
) -> Response {
    match shared.operate(|manager, now| manager.status(now, &StatusRequest::default())) {
        Ok(reply) => (exposition(&reply) + &exposed(&connections.stats())).into_response(),
        Err(error) => refuse(&error),
    }
}

fn exposition(reply: &StatusReply) -> String {
    let mut text = String::new();
    type Read = fn(&AirStatus) -> u64;
    let families: [(&str, &str, Read); 5] = [
        ("carousel_packets_total", "counter", |session| session.packets_sent),
        ("carousel_bytes_total", "counter", |session| session.bytes_sent),
        ("carousel_passes_total", "counter", |session| session.passes),
        ("carousel_damaged_runs", "gauge", |session| session.damaged_runs),
        ("carousel_on_air", "gauge", |session| u64::from(session.phase() == AirPhase::OnAir)),
    ];
    for (name, kind, value) in families {
        text.push_str(&format!("# TYPE {name} {kind}\n"));
        for session in &reply.sessions {
            let id = <[u8; 16]>::try_from(session.campaign_id.as_slice()).map(CampaignId);
            let Ok(id) = id else { continue };
            let (tsi, value) = (session.tsi, value(session));
            text.push_str(&format!("{name}{{campaign=\"{id}\",tsi=\"{tsi}\"}} {value}\n"));
        }
    }
    text
}

fn exposed(connections: &Stats) -> String {
    let proved = connections.open.saturating_sub(connections.unproved);
    let mut text = "# TYPE carousel_connections gauge\n".to_owned();
    for (peer, count) in [("proved", proved), ("unproved", connections.unproved)] {
        text.push_str(&format!("carousel_connections{{peer=\"{peer}\"}} {count}\n"));
    }
    text.push_str("# TYPE carousel_connections_total counter\n");
    for (outcome, count) in connections.by_outcome() {
        text.push_str(&format!("carousel_connections_total{{outcome=\"{outcome}\"}} {count}\n"));
    }
    text
}
