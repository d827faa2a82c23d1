//! `POST /dm`: one DM message in, one out.
//!
//! Conversations of devices that have proved who they are live here; for everybody else nothing is
//! kept.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use proto::{
    crypto::random,
    dm::{
        syncml::{MEDIA_TYPE_XML, Message},
        xml::{self, XmlError},
    },
    ids::DeviceId,
    time::Mono,
};
use tokio::sync::Mutex as AsyncMutex;

use super::server::Shared;
use crate::{
    app::exchange::{self, Conversation, Heard},
    fleet::store::StoreError,
};

/// What the DM side of a server takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Messages that are worked on at once.
    pub messages: usize,
    /// Sessions that are open at once.
    pub sessions: usize,
    /// When a device that is turned away shall come back.
    pub retry_after: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self { messages: 256, sessions: 2_048, retry_after: Duration::from_secs(5) }
    }
}

/// A session that the device has left alone for so long is over.
const SESSION_IDLE: Duration = Duration::from_secs(600);
/// How long the last answer of a finished session is kept for a device that has not got it.
const ANSWER_KEPT: Duration = Duration::from_secs(60);

/// The sessions of this server.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<BTreeMap<DeviceId, Entry>>);

#[derive(Debug, Clone)]
struct Entry {
    slot: Arc<AsyncMutex<Conversation>>,
    touched: Mono,
    open: bool,
}

impl Sessions {
    /// Returns how many sessions are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.table().values().filter(|entry| entry.open).count()
    }

    /// Returns the place of a device; `None` when the server has taken on enough.
    fn slot(
        &self,
        id: &DeviceId,
        now: Mono,
        limit: usize,
    ) -> Option<Arc<AsyncMutex<Conversation>>> {
        let mut table = self.table();
        let known = table.get(id).cloned();
        if let Some(entry) = known.as_ref().filter(|entry| entry.open) {
            return Some(Arc::clone(&entry.slot));
        }
        if table.len() >= limit {
            table.retain(|_, entry| {
                let kept = if entry.open { SESSION_IDLE } else { ANSWER_KEPT };
                now.since(entry.touched) < kept
            });
            if table.values().filter(|entry| entry.open).count() >= limit {
                return None;
            }
        }
        if let Some(entry) = known {
            let slot = Arc::clone(&entry.slot);
            table.insert(id.clone(), entry);
            return Some(slot);
        }
        let entry = Entry { slot: Arc::default(), touched: now, open: false };
        let slot = Arc::clone(&entry.slot);
        table.insert(id.clone(), entry);
        Some(slot)
    }

    fn touch(&self, id: &DeviceId, now: Mono, open: bool) {
        if let Some(entry) = self.table().get_mut(id) {
            entry.touched = now;
            entry.open = open;
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<DeviceId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes one message.
pub(super) async fn post(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let answer = answer(&shared, &headers, query.as_deref(), body).await;
    shared.metrics.dm_message(answer.outcome());
    answer.into_response(shared.admission.retry_after)
}

/// What becomes of a message.
enum Answer {
    /// An answer in SyncML.
    Message(&'static str, Vec<u8>),
    /// Come back later.
    Later(&'static str, Option<Duration>),
    /// Not a message that this server reads.
    Refused(&'static str, StatusCode, String),
}

impl Answer {
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Message(outcome, _) | Self::Later(outcome, _) | Self::Refused(outcome, ..) => {
                outcome
            }
        }
    }

    fn into_response(self, retry_after: Duration) -> Response {
        match self {
            Self::Message(_, octets) => {
                let headers =
                    [(header::CONTENT_TYPE, MEDIA_TYPE_XML), (header::CACHE_CONTROL, "no-store")];
                (headers, octets).into_response()
            }
            Self::Later(_, wait) => {
                let wait = wait.unwrap_or(retry_after).as_secs().max(1).to_string();
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, wait)]).into_response()
            }
            Self::Refused(_, status, text) => (status, text).into_response(),
        }
    }
}

async fn answer(shared: &Shared, headers: &HeaderMap, query: Option<&str>, body: Body) -> Answer {
    let Ok(_permit) = shared.dm_permits.try_acquire() else {
        return Answer::Later("busy", None);
    };
    if !is_syncml_xml(headers) {
        let text = format!("send {MEDIA_TYPE_XML}\n");
        return Answer::Refused("media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    }
    let limit = shared.limits.message_bytes;
    let Ok(octets) = to_bytes(body, limit).await else { return too_large(limit) };
    let limits = xml::Limits { message_bytes: limit, ..xml::Limits::default() };
    let message = match xml::parse(&octets, &limits) {
        Ok(message) => message,
        Err(XmlError::TooLarge { .. }) => return too_large(limit),
        Err(error) => {
            return Answer::Refused("not-syncml", StatusCode::BAD_REQUEST, format!("{error}\n"));
        }
    };
    converse(shared, &octets, &message, token_of(query)).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "a DM message was not stored");
        Answer::Later("store", None)
    })
}

fn too_large(limit: usize) -> Answer {
    let text = format!("a message has at most {limit} octets\n");
    Answer::Refused("too-large", StatusCode::PAYLOAD_TOO_LARGE, text)
}

/// Takes `application/vnd.syncml.dm+xml` and what clients in the field write instead.
fn is_syncml_xml(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    media_type.to_ascii_lowercase().ends_with("+xml")
}

fn token_of(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("s="))
}

async fn converse(
    shared: &Shared,
    octets: &[u8],
    message: &Message,
    token: Option<&str>,
) -> Result<Answer, StoreError> {
    let id = match message.header.source.uri.parse::<DeviceId>() {
        Ok(id) if shared.store.device(&id).await?.is_some() => id,
        Ok(_) | Err(_) => return Ok(exchange::unknown(message).into()),
    };
    let now = shared.clock.now();
    let Some(slot) = shared.sessions.slot(&id, now.mono, shared.admission.sessions) else {
        return Ok(Answer::Later("full", None));
    };
    // One message of a device at a time.
    let mut conversation = slot.lock().await;
    let heard = Heard { octets, message, token };
    let (store, at) = (&*shared.store, (now.utc, shared.limits));
    let answer = conversation.answer(store, at, &id, heard, &mut random::<16>).await?;
    if matches!(answer, exchange::Answer::Answered(_)) {
        shared.sessions.touch(&id, now.mono, conversation.is_open());
    }
    Ok(answer.into())
}

impl From<exchange::Answer> for Answer {
    fn from(answer: exchange::Answer) -> Self {
        match answer {
            exchange::Answer::Answered(octets) => Self::Message("answered", octets),
            exchange::Answer::Repeated(octets) => Self::Message("repeated", octets),
            exchange::Answer::Challenged(octets) => Self::Message("challenged", octets),
            exchange::Answer::Unknown(octets) => Self::Message("unknown-device", octets),
            exchange::Answer::Locked(wait) => Self::Later("locked", Some(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    #[test]
    fn only_so_many_sessions_are_open_at_once() {
        let sessions = Sessions::default();
        for name in ["a", "b"] {
            assert!(sessions.slot(&id(name), Mono(0), 2).is_some());
            sessions.touch(&id(name), Mono(0), true);
        }
        assert!(sessions.slot(&id("c"), Mono(0), 2).is_none());
        assert!(sessions.slot(&id("a"), Mono(0), 2).is_some(), "one that is open goes on");
        sessions.touch(&id("a"), Mono(0), false);
        assert!(sessions.slot(&id("c"), Mono(0), 2).is_some());
        sessions.touch(&id("c"), Mono(0), true);
        assert!(sessions.slot(&id("a"), Mono(0), 2).is_none(), "its place was taken");
        assert_eq!(sessions.open(), 2);
    }

    #[test]
    fn a_session_that_is_left_alone_makes_room() {
        let sessions = Sessions::default();
        sessions.slot(&id("a"), Mono(0), 1).unwrap();
        sessions.touch(&id("a"), Mono(0), true);
        let just_before = Mono(0) + (SESSION_IDLE - Duration::from_millis(1));
        assert!(sessions.slot(&id("b"), just_before, 1).is_none());
        assert!(sessions.slot(&id("b"), Mono(0) + SESSION_IDLE, 1).is_some());
    }

    #[test]
    fn media_types_are_taken_by_their_suffix() {
        for (value, taken) in [
            ("application/vnd.syncml.dm+xml", true),
            ("application/vnd.syncml+xml; charset=UTF-8", true),
            ("APPLICATION/VND.SYNCML.DM+XML", true),
            ("application/vnd.syncml.dm+wbxml", false),
            ("text/xml", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(is_syncml_xml(&headers), taken, "{value}");
        }
        assert!(!is_syncml_xml(&HeaderMap::new()));
    }
}
