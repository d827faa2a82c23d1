//! Authentication of the client: its credentials, and the server's nonces for them.

use proto::dm::{
    auth::{AuthKind, Mac, Secret},
    code::StatusCode,
    syncml::{Credential, Status},
};

use super::{address::Origin, outcome::SessionError};
use crate::dm::Account;

/// Authentication state of the client in one session.
#[derive(Debug)]
pub(super) struct ClientAuth {
    kind: AuthKind,
    secret: Secret,
    /// The nonce for the next credentials; empty when there is none.
    nonce: Vec<u8>,
    scope: Scope,
    /// Challenges of the server so far.
    challenges: u8,
}

/// Scope of the client's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Message,
    /// The server accepted them for the whole session.
    Session,
}

impl ClientAuth {
    pub(super) fn new(account: &Account, nonce: Vec<u8>) -> Self {
        Self {
            kind: account.auth,
            secret: account.secret.clone(),
            nonce,
            scope: Scope::Message,
            challenges: 0,
        }
    }

    /// Returns the credentials of the next message to an origin.
    pub(super) fn credential(&self, origin: Option<Origin<'_>>) -> Option<Credential> {
        let is_due = self.scope == Scope::Message && self.may_send(self.kind, origin);
        is_due.then(|| self.secret.credential_of(self.kind, &self.nonce)).flatten()
    }

    /// Returns the HMAC header of an encoded message.
    // spec: oma-dm 5.1 (HMAC of each message)
    pub(super) fn mac(&self, user: &str, body: &[u8]) -> Option<String> {
        (self.kind == AuthKind::Mac && !self.nonce.is_empty())
            .then(|| Mac { user: user.to_owned(), mac: self.secret.mac(&self.nonce, body) }.emit())
    }

    /// Handles the status of our header: the scope of our credentials, and the next nonce, which
    /// is returned.
    pub(super) fn on_header_status(&mut self, status: &Status) -> Option<&[u8]> {
        if status.code == StatusCode::AUTHENTICATED {
            self.scope = Scope::Session;
        }
        // With 212 the nonce is for the next session, with 200 for the next message. An unreadable
        // one counts as none: the server will challenge.
        self.nonce = status.challenge.as_ref()?.nonce().ok()?;
        Some(&self.nonce)
    }

    /// Handles a challenge: the next credentials are made from its nonce, which is used and not
    /// stored, because nobody has proved yet that it is the server's.
    pub(super) fn on_challenge(
        &mut self,
        status: &Status,
        origin: Option<Origin<'_>>,
        max_challenges: u8,
    ) -> Result<(), SessionError> {
        let challenge =
            status.challenge.as_ref().ok_or(SessionError::Protocol("a challenge without Chal"))?;
        // Without a password there is nothing to answer with.
        let has_secret = self.kind != AuthKind::Transport;
        let may_send = |kind: &AuthKind| has_secret && self.may_send(*kind, origin);
        let kind = challenge.kind().filter(may_send);
        self.kind = kind.ok_or(SessionError::UnsupportedAuthentication)?;
        if self.challenges >= max_challenges {
            return Err(SessionError::CredentialsRefused);
        }
        self.challenges += 1;
        // spec: oma-dm 5 (a challenge's nonce is not stored)
        if self.kind != AuthKind::Basic {
            self.nonce = challenge.nonce().map_err(|_| {
                SessionError::Protocol(
                    "a challenge whose NextNonce is absent or no base64 of 1 to 64 octets",
                )
            })?;
        }
        self.scope = Scope::Message;
        Ok(())
    }

    /// Returns whether credentials of a kind may be sent to an origin: the password itself only
    /// if configured, and over a private transport.
    // spec: security 7.2 (the password itself goes over TLS or stays on the machine)
    fn may_send(&self, kind: AuthKind, origin: Option<Origin<'_>>) -> bool {
        kind != AuthKind::Basic
            || (self.secret.password().is_some() && origin.is_some_and(Origin::is_private))
    }
}
