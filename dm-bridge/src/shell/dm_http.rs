//! `POST /dm`: one DM message in, one out.
//!
//! Only a device that has proved who it is leaves a session behind.

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

use super::{
    guard::Guard,
    state::Shared,
    tls::{Peer, Way},
};
use crate::{
    app::exchange::{self, Heard, Spoken},
    doors::Session,
    fleet::store::StoreError,
};

/// Takes one message.
pub(super) async fn post(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let came = Came { peer: &peer, headers: &headers, query: query.as_deref() };
    let answer = answer(&shared, came, body).await;
    shared.metrics.dm_message(answer.outcome());
    answer.into_response(shared.admission.retry_after)
}

/// What becomes of a message.
enum Answer {
    /// An answer in SyncML.
    Message(&'static str, Encoding, Spoken),
    /// Come back later.
    Later(&'static str, Option<Duration>),
    /// Not a message that this server reads.
    Refused(&'static str, StatusCode, String),
}

impl Answer {
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Message(outcome, ..) | Self::Later(outcome, _) | Self::Refused(outcome, ..) => {
                outcome
            }
        }
    }

    fn into_response(self, retry_after: Duration) -> Response {
        match self {
            Self::Message(_, encoding, Spoken { octets, mac }) => {
                let content_type = (header::CONTENT_TYPE, encoding.media_type());
                let headers = [content_type, (header::CACHE_CONTROL, "no-store")];
                let mac = mac.map(|mac| [(MAC_HEADER, mac.emit())]);
                (headers, mac, octets).into_response()
            }
            Self::Later(_, wait) => {
                let wait = wait.unwrap_or(retry_after).as_secs().max(1).to_string();
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, wait)]).into_response()
            }
            Self::Refused(_, status, text) => (status, text).into_response(),
        }
    }
}

/// How a message came.
#[derive(Clone, Copy)]
struct Came<'a> {
    peer: &'a Peer,
    headers: &'a HeaderMap,
    query: Option<&'a str>,
}

async fn answer(shared: &Shared, came: Came<'_>, body: Body) -> Answer {
    let Came { peer, headers, query } = came;
    let now = shared.clock.now().mono;
    let address = peer.address.ip();
    if let Some(wait) = shared.guard().wait(now, address) {
        return Answer::Later("locked", Some(wait));
    }
    let Ok(_permit) = shared.dm_permits.try_acquire() else {
        return Answer::Later("busy", None);
    };
    let Some(encoding) = encoding_of(headers) else {
        let (xml, wbxml) = (Encoding::Xml.media_type(), Encoding::Wbxml.media_type());
        let text = format!("send {xml} or {wbxml}\n");
        return Answer::Refused("media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    };
    let limit = shared.limits.message_bytes;
    let Ok(octets) = to_bytes(body, limit).await else { return too_large(limit) };
    let limits = encoding::Limits { message_bytes: limit, ..encoding::Limits::default() };
    let message = match encoding.parse(&octets, &limits) {
        Ok(message) => message,
        Err(MessageError::TooLarge { .. }) => return too_large(limit),
        Err(error) => {
            return Answer::Refused("not-syncml", StatusCode::BAD_REQUEST, format!("{error}\n"));
        }
    };
    let mac = match mac_of(headers) {
        Ok(mac) => mac,
        Err(error) => {
            return Answer::Refused("not-syncml", StatusCode::BAD_REQUEST, format!("{error}\n"));
        }
    };
    let claim = message.header.source.uri.as_str();
    if shared.wants_certificate && !has_certificate(peer, claim) {
        let text = "show a certificate whose common name is the device id\n".to_owned();
        return Answer::Refused("certificate", StatusCode::FORBIDDEN, text);
    }
    let (token, mac) = (token_of(query), mac.as_ref());
    let heard = Heard { octets: &octets, message: &message, token, mac };
    match converse(shared, heard).await {
        Ok(answer) => {
            shared.count(peer, claim, &answer);
            Answer::of(answer, encoding)
        }
        Err(error) => {
            tracing::warn!(%error, "a DM message was not stored");
            Answer::Later("store", None)
        }
    }
}

/// Tells whether a peer has shown a certificate of the device that it claims to be.
// spec: security 7.2 (a certificate of the device names it)
fn has_certificate(peer: &Peer, claim: &str) -> bool {
    match &peer.way {
        Way::Tls { subject } => subject.as_deref() == Some(claim),
        Way::Plain => false,
    }
}

impl Shared {
    fn guard(&self) -> std::sync::MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts failures by address. Behind a proxy on this machine all devices have one.
    fn count(&self, peer: &Peer, claim: &str, answer: &exchange::Answer) {
        let address = peer.address.ip();
        if peer.way == Way::Plain && address.is_loopback() {
            return;
        }
        match answer {
            exchange::Answer::Answered(_) => self.guard().made_good(address, claim),
            exchange::Answer::Wrong(_) | exchange::Answer::Unknown(_) => {
                self.guard().failed(self.clock.now().mono, address, claim);
            }
            exchange::Answer::Repeated(_)
            | exchange::Answer::Challenged(_)
            | exchange::Answer::PutOff(_)
            | exchange::Answer::Locked(_) => {}
        }
    }
}

fn too_large(limit: usize) -> Answer {
    let text = format!("a message has at most {limit} octets\n");
    Answer::Refused("too-large", StatusCode::PAYLOAD_TOO_LARGE, text)
}

fn encoding_of(headers: &HeaderMap) -> Option<Encoding> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Encoding::from_media_type(value?)
}

/// Returns the proof over the message, if one came beside it.
fn mac_of(headers: &HeaderMap) -> Result<Option<Mac>, WireError> {
    let Some(value) = headers.get(MAC_HEADER) else { return Ok(None) };
    Mac::parse(value.to_str().unwrap_or_default()).map(Some)
}

fn token_of(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("s="))
}

/// Takes a message to the device's conversation, unless there are too many of them.
async fn converse(shared: &Shared, heard: Heard<'_>) -> Result<exchange::Answer, StoreError> {
    let Ok(id) = heard.message.header.source.uri.parse::<DeviceId>() else {
        return Ok(exchange::unknown(heard));
    };
    let now = shared.clock.now();
    let Some(mut visit) = shared.sessions.enter(&id, now.mono) else {
        let after = now.utc + shared.admission.retry_after;
        return Ok(exchange::put_off(heard, after));
    };
    // One message of a device at a time.
    let slot = Arc::clone(&visit.slot);
    let mut conversation = slot.lock().await;
    let (store, at) = (&*shared.store, (now.utc, shared.limits));
    let answer = conversation.answer(store, at, &id, heard, &mut random::<16>).await?;
    if matches!(answer, exchange::Answer::Answered(_)) {
        visit.leaves = if conversation.is_open() { Session::Open } else { Session::Over };
    }
    Ok(answer)
}

impl Answer {
    fn of(answer: exchange::Answer, encoding: Encoding) -> Self {
        let bare = |octets| Spoken { octets, mac: None };
        match answer {
            exchange::Answer::Answered(octets) => Self::Message("answered", encoding, octets),
            exchange::Answer::Repeated(octets) => Self::Message("repeated", encoding, octets),
            exchange::Answer::Wrong(octets) => Self::Message("wrong", encoding, bare(octets)),
            exchange::Answer::Challenged(octets) => {
                Self::Message("challenged", encoding, bare(octets))
            }
            exchange::Answer::Unknown(octets) => {
                Self::Message("unknown-device", encoding, bare(octets))
            }
            exchange::Answer::PutOff(octets) => Self::Message("full", encoding, bare(octets)),
            exchange::Answer::Locked(wait) => Self::Later("locked", Some(wait)),
        }
    }
}
