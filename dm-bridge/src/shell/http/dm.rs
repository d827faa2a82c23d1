//! `POST /dm`: one DM message in, one out.
//!
//! Only an authenticated device has a session; for any other peer nothing is stored.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use proto::{
    crypto::random,
    dm::{
        auth::{MAC_HEADER, Mac},
        encoding::{self, Encoding, MessageError},
    },
    ids::DeviceId,
    wire::WireError,
};

use super::super::{
    auth_limiter::AuthFailureLimiter,
    state::Shared,
    tls::{Peer, Transport},
};
use crate::{
    app::message_handler::{self, InboundMessage, MessageOutcome, OutboundMessage},
    dm::session_table::SlotUpdate,
    fleet::store::StoreError,
};

/// Handles one message.
pub(super) async fn post(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let parts = RequestParts { peer: &peer, headers: &headers, query: query.as_deref() };
    let response = respond(&shared, parts, body).await;
    shared.metrics.dm_message(response.outcome());
    response.into_response(shared.admission.retry_after)
}

/// HTTP response to a DM message, with its label for the metrics.
enum DmResponse {
    /// A SyncML message.
    SyncMl(&'static str, Encoding, OutboundMessage),
    /// 503; retry after this time.
    RetryLater(&'static str, Option<Duration>),
    /// An HTTP error: the request carries no DM message that this server accepts.
    Rejected(&'static str, StatusCode, String),
}

impl DmResponse {
    const fn outcome(&self) -> &'static str {
        match self {
            Self::SyncMl(outcome, ..)
            | Self::RetryLater(outcome, _)
            | Self::Rejected(outcome, ..) => outcome,
        }
    }

    fn into_response(self, retry_after: Duration) -> Response {
        match self {
            Self::SyncMl(_, encoding, OutboundMessage { bytes, mac }) => {
                let content_type = (header::CONTENT_TYPE, encoding.media_type());
                let headers = [content_type, (header::CACHE_CONTROL, "no-store")];
                let mac = mac.map(|mac| [(MAC_HEADER, mac.emit())]);
                (headers, mac, bytes).into_response()
            }
            Self::RetryLater(_, wait) => {
                let wait = wait.unwrap_or(retry_after).as_secs().max(1).to_string();
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, wait)]).into_response()
            }
            Self::Rejected(_, status, text) => (status, text).into_response(),
        }
    }
}

/// The parts of an HTTP request beside its body.
#[derive(Clone, Copy)]
struct RequestParts<'a> {
    peer: &'a Peer,
    headers: &'a HeaderMap,
    query: Option<&'a str>,
}

async fn respond(shared: &Shared, parts: RequestParts<'_>, body: Body) -> DmResponse {
    let RequestParts { peer, headers, query } = parts;
    let now = shared.clock.now().mono;
    let address = peer.address.ip();
    if let Some(wait) = shared.auth_limiter().wait(now, address) {
        return DmResponse::RetryLater("locked_out", Some(wait));
    }
    let Ok(_permit) = shared.dm_permits.try_acquire() else {
        return DmResponse::RetryLater("overloaded", None);
    };
    let Some(encoding) = encoding_of(headers) else {
        let (xml, wbxml) = (Encoding::Xml.media_type(), Encoding::Wbxml.media_type());
        let text = format!("send {xml} or {wbxml}\n");
        return DmResponse::Rejected("media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    };
    let limit = shared.limits.message_bytes;
    let Ok(bytes) = to_bytes(body, limit).await else { return too_large(limit) };
    let limits = encoding::Limits { message_bytes: limit, ..encoding::Limits::default() };
    let message = match encoding.parse(&bytes, &limits) {
        Ok(message) => message,
        Err(MessageError::TooLarge { .. }) => return too_large(limit),
        Err(error) => {
            return DmResponse::Rejected(
                "not_syncml",
                StatusCode::BAD_REQUEST,
                format!("{error}\n"),
            );
        }
    };
    let mac = match mac_of(headers) {
        Ok(mac) => mac,
        Err(error) => {
            return DmResponse::Rejected(
                "not_syncml",
                StatusCode::BAD_REQUEST,
                format!("{error}\n"),
            );
        }
    };
    let claim = message.header.source.uri.as_str();
    if shared.wants_certificate && !has_certificate(peer, claim) {
        let text = "show a certificate whose common name is the device id\n".to_owned();
        return DmResponse::Rejected("certificate", StatusCode::FORBIDDEN, text);
    }
    let (token, mac) = (token_of(query), mac.as_ref());
    let inbound = InboundMessage { bytes: &bytes, message: &message, token, mac };
    match handle_message(shared, inbound).await {
        Ok(outcome) => {
            shared.count_auth(peer, claim, &outcome);
            DmResponse::of(outcome, encoding)
        }
        Err(error) => {
            tracing::warn!(%error, "DM message not stored");
            DmResponse::RetryLater("store", None)
        }
    }
}

/// Returns whether a peer has presented a certificate of the device that it claims to be.
// spec: security 7.2 (a certificate of the device names it)
fn has_certificate(peer: &Peer, claim: &str) -> bool {
    match &peer.transport {
        Transport::Tls { subject } => subject.as_deref() == Some(claim),
        Transport::Plain => false,
    }
}

impl Shared {
    fn auth_limiter(&self) -> std::sync::MutexGuard<'_, AuthFailureLimiter> {
        self.auth_limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts failed authentications by address. Behind a proxy on this machine all devices have
    /// one address, so nothing is counted there.
    fn count_auth(&self, peer: &Peer, claim: &str, outcome: &MessageOutcome) {
        let address = peer.address.ip();
        if peer.transport == Transport::Plain && address.is_loopback() {
            return;
        }
        match outcome {
            MessageOutcome::Reply(_) => self.auth_limiter().clear(address, claim),
            MessageOutcome::AuthFailed(_) | MessageOutcome::UnknownDevice(_) => {
                self.auth_limiter().record_failure(self.clock.now().mono, address, claim);
            }
            MessageOutcome::Replay(_)
            | MessageOutcome::AuthRequired(_)
            | MessageOutcome::Busy(_)
            | MessageOutcome::LockedOut(_) => {}
        }
    }
}

fn too_large(limit: usize) -> DmResponse {
    let text = format!("a message has at most {limit} octets\n");
    DmResponse::Rejected("too_large", StatusCode::PAYLOAD_TOO_LARGE, text)
}

fn encoding_of(headers: &HeaderMap) -> Option<Encoding> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Encoding::from_media_type(value?)
}

/// Returns the HMAC over the message, from its HTTP header.
fn mac_of(headers: &HeaderMap) -> Result<Option<Mac>, WireError> {
    let Some(value) = headers.get(MAC_HEADER) else { return Ok(None) };
    Mac::parse(value.to_str().unwrap_or_default()).map(Some)
}

fn token_of(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("s="))
}

/// Passes a message to the session of its device, unless the session table is full.
async fn handle_message(
    shared: &Shared,
    inbound: InboundMessage<'_>,
) -> Result<MessageOutcome, StoreError> {
    let Ok(id) = inbound.message.header.source.uri.parse::<DeviceId>() else {
        return Ok(message_handler::unknown_device(inbound));
    };
    let now = shared.clock.now();
    let Some(mut slot_guard) = shared.sessions.admit(&id, now.mono) else {
        let after = now.utc + shared.admission.retry_after;
        return Ok(message_handler::busy(inbound, after));
    };
    // One message of a device at a time.
    let slot = Arc::clone(&slot_guard.slot);
    let mut session = slot.lock().await;
    let (store, at) = (&*shared.store, (now.utc, shared.limits));
    let outcome = session.handle(store, at, &id, inbound, &mut random::<16>).await?;
    if matches!(outcome, MessageOutcome::Reply(_)) {
        slot_guard.update =
            if session.is_open() { SlotUpdate::SessionOpen } else { SlotUpdate::SessionClosed };
    }
    Ok(outcome)
}

impl DmResponse {
    fn of(outcome: MessageOutcome, encoding: Encoding) -> Self {
        let bare = |bytes| OutboundMessage { bytes, mac: None };
        match outcome {
            MessageOutcome::Reply(bytes) => Self::SyncMl("reply", encoding, bytes),
            MessageOutcome::Replay(bytes) => Self::SyncMl("replay", encoding, bytes),
            MessageOutcome::AuthFailed(bytes) => Self::SyncMl("auth_failed", encoding, bare(bytes)),
            MessageOutcome::AuthRequired(bytes) => {
                Self::SyncMl("auth_required", encoding, bare(bytes))
            }
            MessageOutcome::UnknownDevice(bytes) => {
                Self::SyncMl("unknown_device", encoding, bare(bytes))
            }
            MessageOutcome::Busy(bytes) => Self::SyncMl("busy", encoding, bare(bytes)),
            MessageOutcome::LockedOut(wait) => Self::RetryLater("locked_out", Some(wait)),
        }
    }
}
