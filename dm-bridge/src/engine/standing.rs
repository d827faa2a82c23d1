//! This server proves itself to the device, with a password that no other device has.
//!
//! ```text
//! basic, md5   a credential in the header, until the device answers 212
//! hmac         a proof beside each message
//! 401, 407     the device doubts: the same again, made with the nonce that it gave
//! ```

use proto::dm::{
    auth::{AuthKind, Mac},
    code::StatusCode,
    syncml::{Command, CommandId, Message, Status},
};

use super::{
    Desk,
    session::{DmSession, Reply},
};
use crate::fleet::device::{Device, DeviceNonce, SERVER_ID};

/// Challenges of a device that are answered in one session.
const MAX_CHALLENGES: u8 = 2;

/// How this server stands with the device in one session.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// Whether its proof holds for the rest of the session.
    is_believed: bool,
    challenges: u8,
    /// What was said last.
    said: Option<Message>,
}

/// Returns the Status by which a device refuses what it was told.
pub(super) fn doubt(message: &Message) -> Option<&Status> {
    message
        .statuses()
        .find(|status| status.command_ref == CommandId::HEADER && status.code.is_challenge())
}

impl DmSession {
    /// Puts the credential into the header, where the kind of proof is one.
    // spec: oma-dm 5.2 (the server proves itself too)
    pub(super) fn prove(&self, device: &Device, reply: &mut Reply<'_>) {
        let owed = device.server.as_ref().filter(|_| !self.standing.is_believed);
        reply.message.header.credential =
            owed.and_then(|server| server.secret.credential_of(device.auth.kind, &server.nonce.0));
    }

    /// Returns the proof that goes beside a message.
    #[must_use]
    pub fn mac(&self, device: &Device, octets: &[u8]) -> Option<Mac> {
        let server = device.server.as_ref().filter(|server| !server.nonce.0.is_empty())?;
        (device.auth.kind == AuthKind::Mac).then(|| Mac {
            user: SERVER_ID.to_owned(),
            mac: server.secret.mac(&server.nonce.0, octets),
        })
    }

    /// Takes note that the device believes this server, and of the nonce for the next proof.
    pub(super) fn is_believed(&mut self, device: &mut Device, status: &Status) {
        self.standing.is_believed |= status.code == StatusCode::AUTHENTICATED;
        if let (Some(server), Some(Ok(nonce))) =
            (&mut device.server, status.challenge.as_ref().map(|challenge| challenge.nonce()))
        {
            server.nonce = DeviceNonce(nonce);
        }
    }

    pub(super) fn remember(&mut self, said: &Message) {
        self.standing.said = Some(said.clone());
    }

    /// Says once more what the device refused, proved with the nonce that it gave.
    // spec: oma-dm 5.2 (a stale nonce of the server)
    pub(super) fn say_again(
        &mut self,
        desk: &mut Desk,
        mut reply: Reply<'_>,
        status: &Status,
    ) -> Message {
        let kind = desk.device.auth.kind;
        let asked = status.challenge.as_ref().filter(|asked| asked.kind() == Some(kind));
        let said = self.standing.said.take();
        let (Some(asked), Some(said), Some(server), 0..MAX_CHALLENGES) =
            (asked, said, &mut desk.device.server, self.standing.challenges)
        else {
            desk.note("the device does not believe this server");
            self.end();
            return reply.message;
        };
        self.standing.challenges += 1;
        if let Ok(nonce) = asked.nonce() {
            server.nonce = DeviceNonce(nonce);
        }
        let mut commands = said.commands.into_iter();
        if let (Some(Command::Status(first)), Some(Command::Status(header))) =
            (commands.next(), reply.message.commands.first_mut())
        {
            // What a device that doubts did not keep.
            header.challenge = header.challenge.take().or(first.challenge);
        }
        reply.message.commands.extend(commands);
        reply.message.is_final = said.is_final;
        self.renumber(said.header.message_id, reply.message.header.message_id);
        self.prove(&desk.device, &mut reply);
        reply.message
    }
}
