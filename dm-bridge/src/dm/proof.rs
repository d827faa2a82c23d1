//! The proof of a message: the nonce of the next one, or a refusal with a challenge.

use proto::dm::{auth::AuthKind, code::StatusCode, encoding::MetaOrder, syncml::Challenge};

use super::{
    Limits,
    auth::{self, AuthOutcome, ClientCredentials, MacVerdict},
    context::AuthContext,
    message::{InboundMessage, MessageOutcome, meta_order, refuse},
};
use crate::{
    fleet::{
        challenge::ChallengeKeys,
        device::{Device, Nonce, admits},
    },
    random::RandomBytes,
};

/// Verifies the proof of a message by the row of its device; returns the nonce of the next one.
///
/// # Errors
///
/// The outcome for a peer that has not proved itself; the row is as before.
pub(super) fn verify(
    ctx: &mut AuthContext<'_>,
    inbound: InboundMessage<'_>,
    limits: Limits,
) -> Result<Nonce, MessageOutcome> {
    let fresh = Nonce((ctx.random)());
    let device = &mut *ctx.device;
    let (name, kind) = (device.id.as_str(), device.auth.kind);
    // What the transport proves was looked at before: see `device::admits`.
    if kind == AuthKind::Transport {
        if inbound.message.header.source.uri != name || !admits(device, inbound.certificate) {
            return Err(MessageOutcome::NoCertificate);
        }
        device.last_seen = Some(ctx.now);
        return Ok(fresh);
    }
    let credentials = credentials(inbound);
    let outcome = auth::authenticate(&mut device.auth, name, credentials, ctx.challenges, fresh);
    let refusal = |code, nonce: &Nonce| {
        let refusal = refuse(inbound.message, limits, code, Some(Challenge::new(kind, &nonce.0)));
        inbound.encode(meta_order(&device.profile), &refusal)
    };
    match outcome {
        AuthOutcome::Accepted(next) => {
            device.last_seen = Some(ctx.now);
            if let Some(network) = inbound.network {
                device.auth.proved_from.record(network, ctx.now);
            }
            Ok(next)
        }
        AuthOutcome::AuthRequired(nonce) => {
            Err(MessageOutcome::AuthRequired(refusal(StatusCode::MISSING_CREDENTIALS, &nonce)))
        }
        AuthOutcome::Stale(nonce) => {
            Err(MessageOutcome::AuthStale(refusal(StatusCode::INVALID_CREDENTIALS, &nonce)))
        }
        AuthOutcome::AuthFailed(nonce) => {
            Err(MessageOutcome::AuthFailed(refusal(StatusCode::INVALID_CREDENTIALS, &nonce)))
        }
    }
}

/// Returns the outcome of a message whose HMAC is wrong, of which the header alone was parsed.
#[must_use]
pub fn refuse_mac(
    device: &Device,
    verdict: MacVerdict,
    inbound: InboundMessage<'_>,
    challenges: &ChallengeKeys,
    limits: Limits,
) -> MessageOutcome {
    let nonce = challenges.nonce(device.id.as_str(), device.auth.challenge_count);
    let challenge = Challenge::new(device.auth.kind, &nonce.0);
    let code = StatusCode::INVALID_CREDENTIALS;
    let refusal = refuse(inbound.message, limits, code, Some(challenge));
    let refusal = inbound.encode(meta_order(&device.profile), &refusal);
    match verdict {
        MacVerdict::Stale => MessageOutcome::AuthStale(refusal),
        MacVerdict::Right | MacVerdict::Wrong | MacVerdict::NotUsed => {
            MessageOutcome::AuthFailed(refusal)
        }
    }
}

/// Returns the outcome of a message of a device that is not enrolled: the challenge that an enrolled
/// one of the default authentication type gets.
// spec: security 7.2 (unknown devices)
#[must_use]
pub fn unknown_device(
    inbound: InboundMessage<'_>,
    challenges: &ChallengeKeys,
    limits: Limits,
    random: RandomBytes<'_>,
) -> MessageOutcome {
    let name = inbound.claim();
    let (code, nonce) = match auth::refuse_unknown(name, credentials(inbound), challenges, random())
    {
        AuthOutcome::AuthRequired(nonce) => (StatusCode::MISSING_CREDENTIALS, nonce),
        AuthOutcome::Accepted(nonce)
        | AuthOutcome::Stale(nonce)
        | AuthOutcome::AuthFailed(nonce) => (StatusCode::INVALID_CREDENTIALS, nonce),
    };
    let challenge = Challenge::new(AuthKind::default(), &nonce.0);
    let refusal = refuse(inbound.message, limits, code, Some(challenge));
    MessageOutcome::UnknownDevice(inbound.encode(MetaOrder::FormatFirst, &refusal))
}

/// Returns the credentials of a message.
#[must_use]
pub fn credentials(inbound: InboundMessage<'_>) -> ClientCredentials<'_> {
    let header = &inbound.message.header;
    ClientCredentials {
        credential: header.credential.as_ref(),
        mac: inbound.mac.map(|mac| (mac, inbound.bytes)),
        user: header.source.name.as_deref(),
        source: &header.source.uri,
    }
}
