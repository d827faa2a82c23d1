//! Authentication of this server to the device, with a password per device.
//!
//! ```text
//! basic, md5   a credential in the header, until the device answers 212
//! hmac         an HMAC beside each message
//! transport    nothing: the certificate of the connection is the proof
//! 401, 407     a challenge: the message is sent again, with the nonce of the challenge
//! ```

use proto::dm::{
    auth::{AuthKind, Mac},
    code::StatusCode,
    syncml::{CommandId, Message, MessageId, Status},
};

use super::{context::Context, message::MessageBuilder};
use crate::fleet::device::{Device, DeviceNonce};

/// Challenges of a device that are answered per session.
const MAX_CHALLENGES: u8 = 2;

/// State of the server's authentication in one session.
#[derive(Debug, Clone, Default)]
pub(super) struct ServerAuth {
    /// Set once the device has answered 212: no credential is needed until the session ends.
    authenticated: bool,
    challenges: u8,
    /// The last message sent.
    last_sent: Option<Message>,
}

impl ServerAuth {
    /// Sets the credential of the header, for the authentication types that have one.
    // spec: oma-dm 5.2 (the server proves itself too)
    pub(super) fn add_credential(&self, device: &Device, reply: &mut MessageBuilder<'_>) {
        let credentials = device.server.as_ref().filter(|_| !self.authenticated);
        reply.set_credential(
            credentials
                .and_then(|server| Some((server.secret.opened()?, &server.nonce.0)))
                .and_then(|(secret, nonce)| {
                    secret.credential_of(device.account.server_kind, nonce)
                }),
        );
    }

    /// Handles a successful header status, and stores the nonce for the next credential.
    pub(super) fn on_accepted(&mut self, device: &mut Device, status: &Status) {
        self.authenticated |= status.code == StatusCode::AUTHENTICATED;
        if let (Some(server), Some(Ok(nonce))) =
            (&mut device.server, status.challenge.as_ref().map(|challenge| challenge.nonce()))
        {
            server.nonce = DeviceNonce(nonce);
        }
    }

    /// Returns the Status that challenges the last message of this session.
    pub(super) fn challenge_of<'a>(&self, message: &'a Message) -> Option<&'a Status> {
        let is_challenge = |status: &&Status| {
            status.command_ref == CommandId::HEADER && status.code.is_challenge()
        };
        message.statuses().filter(is_challenge).find(|status| self.is_answered_by(status))
    }

    /// Returns whether a header status is about the last message of this session. One about an
    /// earlier message, as the challenge before the session, says nothing about this server.
    pub(super) fn is_answered_by(&self, status: &Status) -> bool {
        let last = self.last_sent.as_ref().map(|sent| sent.header.message_id);
        last == Some(status.message_ref)
    }

    /// Takes the nonce of a challenge, and nothing else of its status.
    // spec: oma-dm 5 (both sides may challenge each other in one exchange)
    pub(super) fn take_nonce(device: &mut Device, status: &Status) {
        let kind = device.account.server_kind;
        let asked = status.challenge.as_ref().filter(|asked| asked.kind() == Some(kind));
        if let (Some(server), Some(Ok(nonce))) =
            (&mut device.server, asked.map(|asked| asked.nonce()))
        {
            server.nonce = DeviceNonce(nonce);
        }
    }

    pub(super) fn record_sent(&mut self, message: &Message) {
        self.last_sent = Some(message.clone());
    }

    /// Makes the reply repeat the challenged message, with the nonce of the challenge; returns the
    /// number under which its commands were sent, or `None` when the server gives up.
    // spec: oma-dm 5.2 (a stale nonce of the server)
    pub(super) fn resend(
        &mut self,
        ctx: &mut Context<'_>,
        reply: &mut MessageBuilder<'_>,
        status: &Status,
    ) -> Option<MessageId> {
        let device = &mut ctx.stored.device;
        let kind = device.account.server_kind;
        let asked = status.challenge.as_ref().filter(|asked| asked.kind() == Some(kind));
        let last_sent = self.last_sent.take();
        let (Some(asked), Some(last_sent), Some(server), 0..MAX_CHALLENGES) =
            (asked, last_sent, &mut device.server, self.challenges)
        else {
            return None;
        };
        self.challenges += 1;
        if let Ok(nonce) = asked.nonce() {
            server.nonce = DeviceNonce(nonce);
        }
        let sent_as = last_sent.header.message_id;
        reply.repeat(last_sent);
        self.add_credential(device, reply);
        Some(sent_as)
    }
}

/// Returns the HMAC of this server over a message to the device.
pub(super) fn mac(device: &Device, octets: &[u8]) -> Option<Mac> {
    let server = device.server.as_ref().filter(|server| !server.nonce.0.is_empty())?;
    let account = &device.account;
    let secret = server.secret.opened().filter(|_| account.server_kind == AuthKind::Mac)?;
    Some(Mac { user: account.server_id.clone(), mac: secret.mac(&server.nonce.0, octets) })
}
