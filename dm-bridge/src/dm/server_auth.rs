//! Authentication of this server to the device, with a password per device.
//!
//! ```text
//! basic, md5   a credential in the header, until the device answers 212
//! hmac         an HMAC beside each message
//! 401, 407     a challenge: the message is sent again, with the nonce of the challenge
//! ```

use proto::dm::{
    auth::{AuthKind, Mac},
    code::StatusCode,
    syncml::{Command, CommandId, Message, Status},
};

use super::{context::Context, message_builder::MessageBuilder, session::DmSession};
use crate::fleet::device::{Device, DeviceNonce, SERVER_ID};

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

/// Returns the Status that challenges this server.
pub(super) fn challenge_of(message: &Message) -> Option<&Status> {
    message
        .statuses()
        .find(|status| status.command_ref == CommandId::HEADER && status.code.is_challenge())
}

impl DmSession {
    /// Sets the credential of the header, for the authentication types that have one.
    // spec: oma-dm 5.2 (the server proves itself too)
    pub(super) fn add_credential(&self, device: &Device, reply: &mut MessageBuilder<'_>) {
        let credentials = device.server.as_ref().filter(|_| !self.server_auth.authenticated);
        reply.message.header.credential = credentials
            .and_then(|server| server.secret.credential_of(device.auth.kind, &server.nonce.0));
    }

    /// Returns the HMAC that is sent beside a message.
    #[must_use]
    pub fn mac(&self, device: &Device, octets: &[u8]) -> Option<Mac> {
        let server = device.server.as_ref().filter(|server| !server.nonce.0.is_empty())?;
        (device.auth.kind == AuthKind::Mac).then(|| Mac {
            user: SERVER_ID.to_owned(),
            mac: server.secret.mac(&server.nonce.0, octets),
        })
    }

    /// Handles a successful header status, and stores the nonce for the next credential.
    pub(super) fn on_authenticated(&mut self, device: &mut Device, status: &Status) {
        self.server_auth.authenticated |= status.code == StatusCode::AUTHENTICATED;
        if let (Some(server), Some(Ok(nonce))) =
            (&mut device.server, status.challenge.as_ref().map(|challenge| challenge.nonce()))
        {
            server.nonce = DeviceNonce(nonce);
        }
    }

    pub(super) fn record_sent(&mut self, message: &Message) {
        self.server_auth.last_sent = Some(message.clone());
    }

    /// Sends the rejected message again, with the nonce of the challenge.
    // spec: oma-dm 5.2 (a stale nonce of the server)
    pub(super) fn resend(
        &mut self,
        ctx: &mut Context<'_>,
        mut reply: MessageBuilder<'_>,
        status: &Status,
    ) -> Message {
        let kind = ctx.stored.device.auth.kind;
        let asked = status.challenge.as_ref().filter(|asked| asked.kind() == Some(kind));
        let last_sent = self.server_auth.last_sent.take();
        let (Some(asked), Some(last_sent), Some(server), 0..MAX_CHALLENGES) =
            (asked, last_sent, &mut ctx.stored.device.server, self.server_auth.challenges)
        else {
            ctx.audit_note("server authentication rejected");
            self.end();
            return reply.message;
        };
        self.server_auth.challenges += 1;
        if let Ok(nonce) = asked.nonce() {
            server.nonce = DeviceNonce(nonce);
        }
        let mut commands = last_sent.commands.into_iter();
        if let (Some(Command::Status(first)), Some(Command::Status(header))) =
            (commands.next(), reply.message.commands.first_mut())
        {
            // A device that sends a challenge has dropped this one.
            header.challenge = header.challenge.take().or(first.challenge);
        }
        reply.message.commands.extend(commands);
        reply.message.is_final = last_sent.is_final;
        self.renumber(last_sent.header.message_id, reply.message.header.message_id);
        self.add_credential(&ctx.stored.device, &mut reply);
        reply.message
    }
}
