//! Devices and servers of others: scripts with an account of their own and each pair of kinds of
//! proof run whole sessions against the management server and against the client.
//!
//! | module | holds |
//! | --- | --- |
//! | `device` | a scripted device, against the management server |
//! | `server` | a scripted server, against the client |

mod device;
mod server;

use proto::dm::{
    auth::{AuthKind, Mac, Secret},
    syncml::{Credential, Message},
};

const USER: &str = "field.user";
const PASSWORD: &str = "password of the field";
const SERVER_ID: &str = "com.example.dm";
const SERVER_PASSWORD: &str = "password of its server";
const URL: &str = "https://dm.example/dm";

/// One side of an account.
#[derive(Debug, Clone)]
struct Side {
    kind: AuthKind,
    name: &'static str,
    secret: Secret,
    nonce: Vec<u8>,
}

impl Side {
    fn device(kind: AuthKind) -> Self {
        let secret = Secret::for_kind(AuthKind::Basic, USER, PASSWORD);
        Self { kind, name: USER, secret, nonce: Vec::new() }
    }

    fn server(kind: AuthKind) -> Self {
        let secret = Secret::for_kind(AuthKind::Basic, SERVER_ID, SERVER_PASSWORD);
        Self { kind, name: SERVER_ID, secret, nonce: Vec::new() }
    }

    /// Returns the credential for the header of its next message.
    fn credential(&self) -> Option<Credential> {
        self.secret.credential_of(self.kind, &self.nonce)
    }

    /// Returns the proof beside its next message.
    fn mac(&self, body: &[u8]) -> Option<Mac> {
        let is_due = self.kind == AuthKind::Mac && !self.nonce.is_empty();
        let mac = || Mac { user: self.name.to_owned(), mac: self.secret.mac(&self.nonce, body) };
        is_due.then(mac)
    }

    /// Returns whether a message of this side is proved.
    fn is_proved(&self, message: &Message, body: &[u8], mac: Option<&Mac>) -> bool {
        let credential = message.header.credential.as_ref();
        match self.kind {
            AuthKind::Transport => credential.is_none() && mac.is_none(),
            AuthKind::Basic => credential.is_some_and(|it| self.secret.proves_basic(it)),
            AuthKind::Md5 => credential.is_some_and(|it| self.secret.proves(it, &self.nonce)),
            AuthKind::Mac => mac.is_some_and(|mac| {
                mac.user == self.name && self.secret.proves_message(mac, &self.nonce, body)
            }),
        }
    }
}

/// Returns each pair of kinds: of the device, of the server.
fn pairs() -> impl Iterator<Item = (AuthKind, AuthKind)> {
    AuthKind::ALL.into_iter().flat_map(|own| AuthKind::ALL.into_iter().map(move |it| (own, it)))
}
