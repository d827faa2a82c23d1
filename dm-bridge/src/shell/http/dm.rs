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
use tokio::time::timeout;

use super::super::{
    state::{AuthFailureLimiter, Shared},
    tls::{Peer, Transport},
};
use crate::{
    app::message_handler::SlotUpdate,
    dm::message::{InboundMessage, MessageOutcome, OutboundMessage},
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
    let outcome = receive(&shared, parts, body).await;
    let (label, response) = response_to(outcome, shared.admission.retry_after);
    shared.metrics.dm_message(label);
    response
}

/// Maps an outcome to its label in the metrics and its HTTP response.
fn response_to(outcome: MessageOutcome, retry_after: Duration) -> (&'static str, Response) {
    match outcome {
        MessageOutcome::Reply(message) => ("reply", syncml(message)),
        MessageOutcome::Replay(message) => ("replay", syncml(message)),
        MessageOutcome::AuthRequired(message) => ("auth_required", syncml(message)),
        MessageOutcome::AuthFailed(message) => ("auth_failed", syncml(message)),
        MessageOutcome::UnknownDevice(message) => ("unknown_device", syncml(message)),
        MessageOutcome::Busy(message) => ("busy", syncml(message)),
        MessageOutcome::LockedOut(wait) => ("locked_out", retry_later(wait)),
        MessageOutcome::Overloaded => ("overloaded", retry_later(retry_after)),
        MessageOutcome::NotStored => ("store", retry_later(retry_after)),
        MessageOutcome::MediaType => {
            let (xml, wbxml) = (Encoding::Xml.media_type(), Encoding::Wbxml.media_type());
            let text = format!("send {xml} or {wbxml}\n");
            ("media_type", (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response())
        }
        MessageOutcome::TooLarge(limit) => {
            let text = format!("a message has at most {limit} octets\n");
            ("too_large", (StatusCode::PAYLOAD_TOO_LARGE, text).into_response())
        }
        MessageOutcome::BodyTimeout => {
            let text = "the body has not come in time\n";
            ("body_timeout", (StatusCode::REQUEST_TIMEOUT, text).into_response())
        }
        MessageOutcome::NotSyncMl(error) => {
            ("not_syncml", (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response())
        }
        MessageOutcome::NoCertificate => {
            let text = "show a certificate whose common name is the device id\n";
            ("certificate", (StatusCode::FORBIDDEN, text).into_response())
        }
    }
}

fn syncml(OutboundMessage { bytes, mac }: OutboundMessage) -> Response {
    let content_type = (header::CONTENT_TYPE, Encoding::recognise(&bytes).media_type());
    let headers = [content_type, (header::CACHE_CONTROL, "no-store")];
    let mac = mac.map(|mac| [(MAC_HEADER, mac.emit())]);
    (headers, mac, bytes).into_response()
}

fn retry_later(wait: Duration) -> Response {
    let seconds = wait.as_secs().max(1).to_string();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, seconds)]).into_response()
}

/// The parts of an HTTP request beside its body.
#[derive(Clone, Copy)]
struct RequestParts<'a> {
    peer: &'a Peer,
    headers: &'a HeaderMap,
    query: Option<&'a str>,
}

/// Decodes a message within the limits of the server, and passes it on.
async fn receive(shared: &Shared, parts: RequestParts<'_>, body: Body) -> MessageOutcome {
    let RequestParts { peer, headers, query } = parts;
    let now = shared.clock.now().mono;
    if let Some(wait) = auth_limiter(shared).wait(now, peer.address.ip()) {
        return MessageOutcome::LockedOut(wait);
    }
    let Some(encoding) = encoding_of(headers) else { return MessageOutcome::MediaType };
    let limit = shared.limits.message_bytes;
    let bytes = match timeout(shared.admission.body_timeout, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return MessageOutcome::TooLarge(limit),
        Err(_) => return MessageOutcome::BodyTimeout,
    };
    // spec: security 7.2 (stalled bodies)
    let Ok(_permit) = shared.dm_permits.try_acquire() else { return MessageOutcome::Overloaded };
    let limits = encoding::Limits { message_bytes: limit, ..encoding::Limits::default() };
    let message = match encoding.parse(&bytes, &limits) {
        Ok(message) => message,
        Err(MessageError::TooLarge { .. }) => return MessageOutcome::TooLarge(limit),
        Err(error) => return MessageOutcome::NotSyncMl(error.to_string()),
    };
    let mac = match mac_of(headers) {
        Ok(mac) => mac,
        Err(error) => return MessageOutcome::NotSyncMl(error.to_string()),
    };
    let claim = message.header.source.uri.as_str();
    if shared.wants_certificate && !has_certificate(peer, claim) {
        return MessageOutcome::NoCertificate;
    }
    let (token, mac) = (token_of(query), mac.as_ref());
    let inbound = InboundMessage { bytes: &bytes, message: &message, token, mac };
    match handle(shared, inbound).await {
        Ok(outcome) => {
            count_auth(shared, peer, claim, &outcome);
            outcome
        }
        Err(error) => {
            tracing::warn!(%error, "DM message not stored");
            MessageOutcome::NotStored
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

fn auth_limiter(shared: &Shared) -> std::sync::MutexGuard<'_, AuthFailureLimiter> {
    shared.auth_limiter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts failed authentications by address. Behind a proxy on this machine all devices have
/// one address, so nothing is counted there.
fn count_auth(shared: &Shared, peer: &Peer, claim: &str, outcome: &MessageOutcome) {
    let address = peer.address.ip();
    if peer.transport == Transport::Plain && address.is_loopback() {
        return;
    }
    match outcome {
        MessageOutcome::Reply(_) => auth_limiter(shared).clear(address, claim),
        MessageOutcome::AuthFailed(_) | MessageOutcome::UnknownDevice(_) => {
            auth_limiter(shared).record_failure(shared.clock.now().mono, address, claim);
        }
        MessageOutcome::Replay(_)
        | MessageOutcome::AuthRequired(_)
        | MessageOutcome::Busy(_)
        | MessageOutcome::LockedOut(_)
        | MessageOutcome::Overloaded
        | MessageOutcome::NotStored
        | MessageOutcome::MediaType
        | MessageOutcome::TooLarge(_)
        | MessageOutcome::BodyTimeout
        | MessageOutcome::NotSyncMl(_)
        | MessageOutcome::NoCertificate => {}
    }
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
async fn handle(
    shared: &Shared,
    inbound: InboundMessage<'_>,
) -> Result<MessageOutcome, StoreError> {
    let Ok(id) = inbound.message.header.source.uri.parse::<DeviceId>() else {
        return Ok(MessageOutcome::unknown_device(inbound, shared.limits));
    };
    let now = shared.clock.now();
    let Some(mut slot_guard) = shared.sessions.admit(&id, now.mono) else {
        let after = now.utc + shared.admission.retry_after;
        return Ok(MessageOutcome::busy(inbound, shared.limits, after));
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
