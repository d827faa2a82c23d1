//! Whether the server has proved who it is: commands of anybody else are not run.
//!
//! ```text
//! no proof, or a wrong one   401 or 407 on everything, with a fresh nonce; twice, then the end
//! right, basic or md5        212 and the nonce of the next session; it holds for this session
//! right, hmac                200 and the nonce of the next message
//! ```
//!
//! A nonce is good once: the next one is stored before the message that it opened is acted on.

use proto::dm::{
    auth::{AuthKind, Mac, Secret},
    code::StatusCode,
    syncml::{Challenge, Message},
};

use crate::dm::{Account, Device};

/// Challenges of the server in one session.
const MAX_CHALLENGES: u8 = 2;

/// The server as a session knows it.
pub(super) struct Server {
    kind: AuthKind,
    /// The user name of its credentials.
    id: String,
    secret: Secret,
    /// The nonce of a challenge in this session.
    asked: Option<[u8; 16]>,
    challenges: u8,
    /// Whether its proof holds for the rest of the session.
    is_proved: bool,
}

/// What a message of the server is worth, and what its header is answered with.
pub(super) enum Verdict {
    /// It is the server's.
    Believed(StatusCode, Option<Challenge>),
    /// It may be anybody's.
    Refused(StatusCode, Challenge),
    /// The server was asked often enough.
    Hopeless,
}

impl Server {
    /// Returns the server of an account; `None` when there is nothing to prove it by.
    pub(super) fn of(account: &Account) -> Option<Self> {
        let proof = account.server.as_ref()?;
        Some(Self {
            kind: account.auth,
            id: account.server_id.clone(),
            secret: proof.secret.clone(),
            asked: None,
            challenges: 0,
            is_proved: false,
        })
    }

    /// Judges a message, its octets and the proof beside them.
    // spec: oma-dm 5.2 (the server proves itself too)
    pub(super) fn judge(
        &mut self,
        device: &mut dyn Device,
        message: &Message,
        octets: &[u8],
        mac: Option<&Mac>,
    ) -> Verdict {
        if self.is_proved {
            return Verdict::Believed(StatusCode::AUTHENTICATED, None);
        }
        let stored = device.server_nonce();
        let asked = self.asked.as_ref().map(<[u8; 16]>::as_slice);
        let nonces = [asked, Some(stored.as_slice())];
        let proves = |nonce: &[u8]| self.proves(message, octets, mac, nonce);
        if nonces.into_iter().flatten().any(proves) {
            return self.believe(device);
        }
        if self.challenges >= MAX_CHALLENGES {
            return Verdict::Hopeless;
        }
        self.challenges += 1;
        let nonce = device.fresh_nonce();
        self.asked = Some(nonce);
        let tried = message.header.credential.is_some() || mac.is_some();
        let code =
            if tried { StatusCode::INVALID_CREDENTIALS } else { StatusCode::MISSING_CREDENTIALS };
        Verdict::Refused(code, Challenge::new(self.kind, &nonce))
    }

    fn believe(&mut self, device: &mut dyn Device) -> Verdict {
        self.asked = None;
        if self.kind == AuthKind::Basic {
            self.is_proved = true;
            return Verdict::Believed(StatusCode::AUTHENTICATED, None);
        }
        let next = device.fresh_nonce();
        // spec: security 7.2 (a nonce of the device is accepted once too)
        device.keep_server_nonce(&next);
        let challenge = Some(Challenge::new(self.kind, &next));
        self.is_proved = self.kind == AuthKind::Md5;
        let code = if self.is_proved { StatusCode::AUTHENTICATED } else { StatusCode::OK };
        Verdict::Believed(code, challenge)
    }

    fn proves(&self, message: &Message, octets: &[u8], mac: Option<&Mac>, nonce: &[u8]) -> bool {
        let credential = message.header.credential.as_ref();
        match self.kind {
            AuthKind::Basic => credential.is_some_and(|it| self.secret.proves_basic(it)),
            AuthKind::Md5 => {
                !nonce.is_empty() && credential.is_some_and(|it| self.secret.proves(it, nonce))
            }
            AuthKind::Mac => mac.is_some_and(|mac| {
                let is_named = mac.user == self.id && !nonce.is_empty();
                is_named && self.secret.proves_message(mac, nonce, octets)
            }),
        }
    }
}

/// Leaves out all that is secret.
impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Server(proved: {})", self.is_proved)
    }
}
