//! Authentication of the server: only commands of the authenticated server are run.
//!
//! ```text
//! wrong                      401 on every command, with a fresh nonce; once, then the end
//! missing, with commands     407 on every command and Alert 1223: no challenge, and the end
//! right, basic or md5        212 and the nonce of the next session; valid for this session
//! right, hmac                200 and the nonce of the next message
//! ```
//!
//! A nonce is valid once: the next one is stored before the commands of the message are run. A
//! message that ends the session is not answered, so that its server never learns another nonce: the
//! nonce stays.

use proto::dm::{
    auth::{AuthKind, Mac, Secret},
    code::StatusCode,
    syncml::{Challenge, Message},
};

use crate::dm::{Account, ManagementBackend};

/// Challenges of the server in one session.
const MAX_CHALLENGES: u8 = 1;

/// A received message of the server.
#[derive(Clone, Copy)]
pub(super) struct ServerMessage<'a> {
    pub(super) message: &'a Message,
    pub(super) bytes: &'a [u8],
    /// Its HMAC, from the HTTP header.
    pub(super) mac: Option<&'a Mac>,
}

/// Authentication state of the server in one session.
pub(super) struct ServerAuth {
    kind: AuthKind,
    /// User name of its credentials.
    id: String,
    secret: Secret,
    /// The nonce of a challenge in this session.
    challenge_nonce: Option<[u8; 16]>,
    challenges: u8,
    /// Set once its credentials are valid for the whole session.
    is_authenticated: bool,
}

/// Outcome of the authentication of a message, with the status of its header.
pub(super) enum AuthOutcome {
    /// The message is authentic.
    Authenticated(StatusCode, Option<Challenge>),
    /// The credentials are wrong.
    Challenge(StatusCode, Challenge),
    /// There are none.
    Missing,
    /// The limit of challenges is reached.
    Failed,
}

impl ServerAuth {
    /// Returns the state for the server of an account; `None` when the account has no credentials
    /// of the server, or TLS alone authenticates it.
    pub(super) fn of(account: &Account) -> Option<Self> {
        let proof = account.server.as_ref().filter(|it| it.kind != AuthKind::Transport)?;
        Some(Self {
            kind: proof.kind,
            id: account.server_id.clone(),
            secret: proof.secret.clone(),
            challenge_nonce: None,
            challenges: 0,
            is_authenticated: false,
        })
    }

    /// Authenticates a message by its credentials or its HMAC. `is_answered` is false for a message
    /// that ends the session by itself.
    // spec: oma-dm 5.2 (mutual authentication)
    pub(super) fn authenticate(
        &mut self,
        device: &mut dyn ManagementBackend,
        ServerMessage { message, bytes: octets, mac }: ServerMessage<'_>,
        is_answered: bool,
    ) -> AuthOutcome {
        if self.is_authenticated {
            return AuthOutcome::Authenticated(StatusCode::AUTHENTICATED, None);
        }
        let matches = |nonce: &[u8]| self.matches(message, octets, mac, nonce);
        let challenged = self.challenge_nonce.filter(|nonce| matches(nonce));
        if challenged.is_some() || matches(&device.server_nonce()) {
            return self.accept(device, challenged, is_answered);
        }
        if message.header.credential.is_none() && mac.is_none() {
            return AuthOutcome::Missing;
        }
        if self.challenges >= MAX_CHALLENGES {
            return AuthOutcome::Failed;
        }
        self.challenges += 1;
        let nonce = device.fresh_nonce();
        self.challenge_nonce = Some(nonce);
        let challenge = Challenge::new(self.kind, &nonce);
        AuthOutcome::Challenge(StatusCode::INVALID_CREDENTIALS, challenge)
    }

    fn accept(
        &mut self,
        device: &mut dyn ManagementBackend,
        challenged: Option<[u8; 16]>,
        is_answered: bool,
    ) -> AuthOutcome {
        self.challenge_nonce = None;
        if !self.kind.has_nonce() || !is_answered {
            self.is_authenticated = true;
            if let Some(known) = challenged {
                device.store_server_nonce(&known);
            }
            return AuthOutcome::Authenticated(StatusCode::AUTHENTICATED, None);
        }
        let next = device.fresh_nonce();
        // spec: security 7.2 (a nonce of the device is accepted once too)
        device.store_server_nonce(&next);
        let challenge = Some(Challenge::new(self.kind, &next));
        self.is_authenticated = self.kind == AuthKind::Md5;
        let code = if self.is_authenticated { StatusCode::AUTHENTICATED } else { StatusCode::OK };
        AuthOutcome::Authenticated(code, challenge)
    }

    fn matches(&self, message: &Message, octets: &[u8], mac: Option<&Mac>, nonce: &[u8]) -> bool {
        let credential = message.header.credential.as_ref();
        match self.kind {
            AuthKind::Transport => false,
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

/// Leaves out the secrets.
impl std::fmt::Debug for ServerAuth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ServerAuth(proved: {})", self.is_authenticated)
    }
}
