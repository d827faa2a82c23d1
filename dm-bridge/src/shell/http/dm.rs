//! `POST /dm`: one DM message in, one out.
//!
//! Only an authenticated device has a session; for any other peer nothing is stored.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::{
    Extension,
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
    peer::PeerNetwork,
    wire::WireError,
};
use proto_http::{body::BodyError, transport::Proved};

use super::{
    super::{state::Shared, tls::Peer},
    client_address::client_address,
    retry_after,
};
use crate::{
    app::message_handler::{SlotUpdate, fits_stored_nonce, handle_unknown, refuse_mac, verify_mac},
    dm::{
        auth::{ClientCredentials, MacVerdict},
        limiter::{FailureLimiter, Standing},
        message::{InboundMessage, MessageOutcome, OutboundMessage, RawMessage},
        proof,
    },
    fleet::{
        device::{Device, admits},
        store::StoreError,
    },
    random::spread,
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
    shared.status.metrics.dm_message(label);
    response
}

/// Maps an outcome to its label in the metrics and its HTTP response.
fn response_to(outcome: MessageOutcome, retry: Duration) -> (&'static str, Response) {
    match outcome {
        MessageOutcome::Reply(message) => {
            ("reply", (Extension(Proved), syncml(message)).into_response())
        }
        MessageOutcome::Replay(message) => ("replay", syncml(message)),
        MessageOutcome::AuthRequired(message) => ("auth_required", syncml(message)),
        MessageOutcome::AuthStale(message) => ("auth_stale", syncml(message)),
        MessageOutcome::AuthFailed(message) => ("auth_failed", syncml(message)),
        MessageOutcome::UnknownDevice(message) => ("unknown-device", syncml(message)),
        MessageOutcome::Busy(message) => ("busy", syncml(message)),
        MessageOutcome::OtherVersion(message) => ("other_version", syncml(message)),
        MessageOutcome::LockedOut(wait) => ("locked_out", retry_later(wait)),
        MessageOutcome::Overloaded => ("overloaded", retry_later(retry)),
        MessageOutcome::NotStored => ("store", retry_later(retry)),
        MessageOutcome::MediaType => {
            let (xml, wbxml) = (Encoding::Xml.media_type(), Encoding::Wbxml.media_type());
            let text = format!("send {xml} or {wbxml}\n");
            ("media_type", (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response())
        }
        MessageOutcome::ContentEncoding => {
            let headers = [(header::ACCEPT_ENCODING, "identity")];
            let text = "send the message without a content encoding\n";
            (
                "content_encoding",
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, headers, text).into_response(),
            )
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
            let text = "show a certificate whose common name is the device id, or the one that the \
                        device was enrolled with\n";
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
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, retry_after(wait))]).into_response()
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
    let RequestParts { headers, query, .. } = parts;
    let Some(encoding) = encoding_of(headers) else { return MessageOutcome::MediaType };
    if has_content_encoding(headers) {
        return MessageOutcome::ContentEncoding;
    }
    let limit = shared.limits.message_bytes;
    let bytes = match to_bytes(body, limit).await {
        Ok(bytes) => bytes,
        Err(error) if BodyError::is_timeout(&error) => return MessageOutcome::BodyTimeout,
        Err(_) => return MessageOutcome::TooLarge(limit),
    };
    // spec: security 7.2 (stalled bodies)
    let Ok(_permit) = shared.dm_permits.try_acquire() else { return MessageOutcome::Overloaded };
    let mac = match mac_of(headers) {
        Ok(mac) => mac,
        Err(error) => return MessageOutcome::NotSyncMl(error.to_string()),
    };
    let certificate = parts.peer.certificate();
    let raw = RawMessage { bytes: &bytes, token: token_of(query), mac: mac.as_ref(), certificate };
    match respond(shared, parts, encoding, raw).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "DM message not stored");
            MessageOutcome::NotStored
        }
    }
}

/// Parses a message and passes it on. One with an HMAC is parsed only if that is right; otherwise the
/// header alone, which the challenge answers.
// spec: security 7.2 (parse only if the MAC is right)
async fn respond(
    shared: &Shared,
    parts: RequestParts<'_>,
    encoding: Encoding,
    raw: RawMessage<'_>,
) -> Result<MessageOutcome, StoreError> {
    let RequestParts { peer, headers, .. } = parts;
    let address =
        || client_address(peer.address.ip(), headers, shared.connections.trusted_proxies());
    let checked = match raw.mac {
        Some(mac) => {
            let id = mac.user.parse().ok();
            let claim = Claim { network: PeerNetwork::of(address()), id, user: Some(&mac.user) };
            if lacks_certificate(shared, peer, &claim).await? {
                return Ok(MessageOutcome::NoCertificate);
            }
            let certificate = certificate_of(peer, &mac.user);
            check_mac(shared, claim, (mac, certificate), raw)
                .await?
                .map(|(check, id, evaluation)| (check, id, Some(evaluation)))
        }
        None => Ok((MacCheck::Passed, None, None)),
    };
    let (mut check, found, evaluation) = match checked {
        Ok(checked) => checked,
        Err(outcome) => return Ok(outcome),
    };
    let limit = shared.limits.message_bytes;
    let limits = encoding::Limits { message_bytes: limit, ..encoding::Limits::default() };
    let header_alone = || encoding.parse_header(raw.bytes, &limits);
    let mut parsed = match &check {
        MacCheck::Passed | MacCheck::NotUsed => encoding.parse(raw.bytes, &limits),
        MacCheck::Refused(_) => header_alone(),
    };
    if matches!((&check, &parsed), (MacCheck::NotUsed, Err(_))) {
        // As for an unknown device, and counted: the error would tell that this one is enrolled.
        (check, parsed) = (MacCheck::Refused(None), header_alone());
    }
    let message = match parsed {
        Ok(message) => message,
        Err(MessageError::TooLarge { .. }) => return Ok(MessageOutcome::TooLarge(limit)),
        Err(error) => return Ok(MessageOutcome::NotSyncMl(error.to_string())),
    };
    let RawMessage { bytes, token, mac, certificate } = raw;
    let message = &message;
    let mut inbound = InboundMessage { bytes, message, token, mac, network: None, certificate };
    if inbound.shows_proof() {
        inbound.network = Some(PeerNetwork::of(address()));
    }
    if let MacCheck::Refused(found) = check {
        return refuse(shared, found, inbound).await;
    }
    let id = found.or_else(|| inbound.claim().parse().ok());
    if mac.is_none() {
        let claim = Claim { network: PeerNetwork::of(address()), id: id.clone(), user: None };
        if lacks_certificate(shared, peer, &claim).await? {
            return Ok(MessageOutcome::NoCertificate);
        }
    }
    handle(shared, (inbound, id), certificate_of(peer, inbound.claim()), evaluation).await
}

/// The next step for a message with an HMAC.
enum MacCheck {
    Passed,
    /// The device proves itself otherwise.
    NotUsed,
    /// The header is parsed for the challenge; of an enrolled device, with the verdict.
    Refused(Option<(MacVerdict, Box<Device>)>),
}

/// Admits the HMAC of a message and verifies it over the octets; returns the outcome of a message that
/// needs not be parsed.
async fn check_mac<'a>(
    shared: &'a Shared,
    claim: Claim<'_>,
    (mac, certificate): (&Mac, Certificate),
    raw: RawMessage<'_>,
) -> Result<Result<CheckedMac<'a>, MessageOutcome>, StoreError> {
    let shown = ClientCredentials {
        credential: None,
        mac: Some((mac, raw.bytes)),
        user: None,
        source: &mac.user,
    };
    let evaluation = match admit_proof(shared, &claim, certificate, shown).await? {
        Ok(evaluation) => evaluation,
        Err(wait) => return Ok(Err(MessageOutcome::LockedOut(wait))),
    };
    let Some(id) = device_of(shared, &claim).await? else {
        return Ok(Ok((MacCheck::Refused(None), None, evaluation)));
    };
    if let Some(slot) = shared.sessions.find(&id)
        && let Some(reply) = slot.lock().await.repeated(&raw.digest())
    {
        return Ok(Err(reply));
    }
    let now = shared.clock.now().utc;
    let check = match verify_mac(&*shared.store, now, &id, (mac, raw.bytes)).await? {
        Some((MacVerdict::Right, _)) => MacCheck::Passed,
        Some((MacVerdict::NotUsed, _)) => MacCheck::NotUsed,
        Some((verdict, device)) => MacCheck::Refused(Some((verdict, Box::new(device)))),
        None => MacCheck::Refused(None),
    };
    Ok(Ok((check, Some(id), evaluation)))
}

/// The step after the check of an HMAC, and the device that its user is.
type CheckedMac<'a> = (MacCheck, Option<DeviceId>, Evaluation<'a>);

/// Returns the device that a peer claims to be: the user of an HMAC may be the user of an account,
/// and need not be a device id.
async fn device_of(shared: &Shared, claim: &Claim<'_>) -> Result<Option<DeviceId>, StoreError> {
    let found = match claim.user {
        Some(user) => shared.store.device_of_user(user).await?,
        None => None,
    };
    Ok(found.or_else(|| claim.id.clone()))
}

/// Returns whether a required certificate is missing: one whose common name is the claim, or, of a
/// device that is tied to one, this one.
// spec: security 7.2 (a certificate of the device names it)
async fn lacks_certificate(
    shared: &Shared,
    peer: &Peer,
    claim: &Claim<'_>,
) -> Result<bool, StoreError> {
    let Some(shown) = peer.certificate().filter(|_| shared.wants_certificate) else {
        return Ok(shared.wants_certificate);
    };
    // The peer holds a certificate of the CA: it is worth a row.
    let Some(id) = device_of(shared, claim).await? else {
        return Ok(shown.subject.as_deref() != claim.user);
    };
    if shown.subject.as_deref() == Some(id.as_str()) {
        return Ok(false);
    }
    let device = shared.store.device(&id).await?;
    let is_tied = |device: &Device| device.account.certificate.is_some();
    Ok(!device.is_some_and(|device| is_tied(&device) && admits(&device, Some(shown))))
}

/// Challenges a peer whose HMAC is wrong, and counts it.
async fn refuse(
    shared: &Shared,
    found: Option<(MacVerdict, Box<Device>)>,
    inbound: InboundMessage<'_>,
) -> Result<MessageOutcome, StoreError> {
    let at = (shared.clock.now().utc, shared.limits);
    let outcome = match &found {
        Some((verdict, device)) => {
            refuse_mac(&*shared.store, at, (*verdict, device), inbound).await?
        }
        None => handle_unknown(&*shared.store, at, inbound, &mut random::<16>).await?,
    };
    let id = inbound.claim().parse::<DeviceId>().ok();
    if let Some(network) = inbound.network {
        count_proof(shared, (network, id.as_ref()), &outcome);
    }
    Ok(outcome)
}

/// A verified certificate of the device that a peer claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certificate {
    Shown,
    Missing,
}

// spec: security 7.2 (a certificate of the device names it)
fn certificate_of(peer: &Peer, claim: &str) -> Certificate {
    let subject = peer.certificate().and_then(|shown| shown.subject.as_deref());
    if subject == Some(claim) { Certificate::Shown } else { Certificate::Missing }
}

fn encoding_of(headers: &HeaderMap) -> Option<Encoding> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Encoding::from_media_type(value?)
}

/// Returns whether the body is anything but the message itself.
// spec: oma-dm 6 (no content encoding)
fn has_content_encoding(headers: &HeaderMap) -> bool {
    let is_identity =
        |name: &str| name.trim().is_empty() || name.trim().eq_ignore_ascii_case("identity");
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    values.any(|value| !value.to_str().is_ok_and(|names| names.split(',').all(is_identity)))
}

/// Returns the HMAC over the message, from its HTTP header.
fn mac_of(headers: &HeaderMap) -> Result<Option<Mac>, WireError> {
    let Some(value) = headers.get(MAC_HEADER) else { return Ok(None) };
    Mac::parse(value.to_str().unwrap_or_default()).map(Some)
}

fn token_of(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("s="))
}

/// Admits a proof, passes the message on, and counts its outcome.
async fn handle(
    shared: &Shared,
    (inbound, id): (InboundMessage<'_>, Option<DeviceId>),
    certificate: Certificate,
    admitted: Option<Evaluation<'_>>,
) -> Result<MessageOutcome, StoreError> {
    let claimed = inbound.claim().parse::<DeviceId>().ok();
    let proof = inbound.network;
    let _evaluation = match (proof, admitted) {
        (Some(network), None) => {
            let claim = Claim { network, id: claimed.clone(), user: None };
            let shown = proof::credentials(inbound);
            match admit_proof(shared, &claim, certificate, shown).await? {
                Ok(evaluation) => Some(evaluation),
                Err(wait) => return Ok(MessageOutcome::LockedOut(wait)),
            }
        }
        (_, admitted) => admitted,
    };
    let outcome = match &id {
        Some(id) => converse(shared, id, inbound).await?,
        None => {
            let at = (shared.clock.now().utc, shared.limits);
            handle_unknown(&*shared.store, at, inbound, &mut random::<16>).await?
        }
    };
    if let Some(network) = proof {
        count_proof(shared, (network, claimed.as_ref()), &outcome);
    }
    Ok(outcome)
}

/// The claim of a peer with a proof: its address, the device id that it names, and the user of its
/// HMAC.
struct Claim<'a> {
    network: PeerNetwork,
    id: Option<DeviceId>,
    user: Option<&'a str>,
}

/// The address of a peer, and the device that it claims to be; none when the claim is no device id.
type Claimant<'a> = (PeerNetwork, Option<&'a DeviceId>);

/// Admits a proof to be evaluated, or returns the time to wait. Only beyond a limit anything is read
/// from the store: the addresses of the device, and then its row. A proof for the stored nonce is
/// admitted whatever others have sent from its address: they cannot know that nonce.
async fn admit_proof<'a>(
    shared: &'a Shared,
    claim: &Claim<'_>,
    certificate: Certificate,
    shown: ClientCredentials<'_>,
) -> Result<Result<Evaluation<'a>, Duration>, StoreError> {
    let (network, id) = (claim.network, claim.id.as_ref());
    let now = shared.clock.now();
    {
        let mut limiter = limiter(shared);
        if !limiter.is_over(now.mono, network, id) {
            return Ok(Ok(Evaluation::begin(shared, &mut limiter, (network, id))));
        }
    }
    let found = device_of(shared, claim).await?;
    let is_familiar = match (certificate, &found) {
        (Certificate::Shown, _) => true,
        (Certificate::Missing, Some(id)) => {
            shared.store.proved_from(id).await?.has(network, now.utc)
        }
        (Certificate::Missing, None) => false,
    };
    let standing = if is_familiar { Standing::Familiar } else { Standing::Stranger };
    let wait = {
        let mut limiter = limiter(shared);
        match limiter.admit(now.mono, network, id, standing) {
            Ok(()) => return Ok(Ok(Evaluation::begin(shared, &mut limiter, (network, id)))),
            Err(wait) => wait,
        }
    };
    let Some(name) = &found else { return Ok(Err(wait)) };
    // The body, which names the device of an HMAC, is not parsed yet.
    let source = if claim.user.is_some() { name.as_str() } else { shown.source };
    let shown = ClientCredentials { source, ..shown };
    // spec: security 7.2 (the owner beside a stranger)
    if fits_stored_nonce(&*shared.store, name, shown, &mut random::<16>).await? {
        return Ok(Ok(Evaluation::begin(shared, &mut limiter(shared), (network, id))));
    }
    Ok(Err(wait))
}

/// A proof that is being evaluated, until it is dropped.
struct Evaluation<'a> {
    shared: &'a Shared,
    network: PeerNetwork,
    id: Option<DeviceId>,
}

impl<'a> Evaluation<'a> {
    fn begin(
        shared: &'a Shared,
        limiter: &mut FailureLimiter,
        (network, id): Claimant<'_>,
    ) -> Self {
        limiter.begin(network, id);
        Self { shared, network, id: id.cloned() }
    }
}

impl Drop for Evaluation<'_> {
    fn drop(&mut self) {
        limiter(self.shared).end(self.network, self.id.as_ref());
    }
}

/// Counts a wrong proof, and clears the count of a device that has proved itself.
fn count_proof(shared: &Shared, (network, id): Claimant<'_>, outcome: &MessageOutcome) {
    let now = shared.clock.now().mono;
    match outcome {
        MessageOutcome::Reply(_) => {
            if let Some(id) = id {
                limiter(shared).record_success(now, network, id);
            }
        }
        MessageOutcome::AuthFailed(_) | MessageOutcome::UnknownDevice(_) => {
            tracing::debug!(?network, device = id.map(DeviceId::as_str), "proof refused");
            limiter(shared).record_failure(now, network, id);
        }
        MessageOutcome::Replay(_)
        | MessageOutcome::AuthRequired(_)
        | MessageOutcome::AuthStale(_)
        | MessageOutcome::Busy(_)
        | MessageOutcome::OtherVersion(_)
        | MessageOutcome::LockedOut(_)
        | MessageOutcome::Overloaded
        | MessageOutcome::NotStored
        | MessageOutcome::MediaType
        | MessageOutcome::ContentEncoding
        | MessageOutcome::TooLarge(_)
        | MessageOutcome::BodyTimeout
        | MessageOutcome::NotSyncMl(_)
        | MessageOutcome::NoCertificate => {}
    }
}

fn limiter(shared: &Shared) -> std::sync::MutexGuard<'_, FailureLimiter> {
    shared.limiter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes a message to the session of its device, unless the session table is full.
async fn converse(
    shared: &Shared,
    id: &DeviceId,
    inbound: InboundMessage<'_>,
) -> Result<MessageOutcome, StoreError> {
    let now = shared.clock.now();
    let Some(mut slot_guard) = shared.sessions.admit(id, now.mono) else {
        let after = now.utc + spread(shared.admission.retry_after, &mut random::<16>);
        return Ok(MessageOutcome::busy(inbound, shared.limits, after));
    };
    // One message of a device at a time.
    let slot = Arc::clone(&slot_guard.slot);
    let mut session = slot.lock().await;
    let (store, at) = (&*shared.store, (now.utc, shared.limits));
    let outcome = session.handle(store, at, id, inbound, &mut random::<16>).await?;
    if matches!(outcome, MessageOutcome::Reply(_)) {
        slot_guard.update =
            if session.is_open() { SlotUpdate::SessionOpen } else { SlotUpdate::SessionClosed };
    }
    Ok(outcome)
}
