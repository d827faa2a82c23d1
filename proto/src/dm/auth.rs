//! Proof of a password: `syncml:auth-md5` by a hash over it and a nonce, [`Mac`] over a message as
//! well, `syncml:auth-basic` by the password itself.
//!
//! ```text
//! secret = B64(MD5(user ":" password))          what a server stores
//! digest = B64(MD5(secret ":" nonce))           what goes into Cred; nonce: decoded octets
//! ```

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use md5::{Digest as _, Md5};

use super::{
    code::Format,
    syncml::{Challenge, Credential, Meta},
};
use crate::{crypto::equal_in_constant_time, wire::WireError};

mod mac;

pub use mac::{MAC_HEADER, Mac};

/// The authentication type as it stands in `Meta/Type`.
pub const AUTH_MD5: &str = "syncml:auth-md5";
/// Name and password in base64: for servers of others, over TLS.
pub const AUTH_BASIC: &str = "syncml:auth-basic";
/// A proof over the whole message, beside it.
pub const AUTH_MAC: &str = "syncml:auth-MAC";

/// Octets that a nonce from the other side may have.
pub const MAX_NONCE_LENGTH: usize = 64;

/// MD5(user ":" password): all that the protocol needs of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl Secret {
    /// Makes the secret of a user and its password.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self(md5(&[user.as_bytes(), b":", password.as_bytes()]))
    }

    /// Takes a stored secret.
    #[must_use]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// Returns the octets to store.
    #[must_use]
    pub const fn octets(&self) -> [u8; 16] {
        self.0
    }

    /// Returns the proof for a nonce, in base64.
    ///
    /// # Source
    ///
    /// OMA DM 1.2 Security, `syncml:auth-md5`.
    #[must_use]
    pub fn digest(&self, nonce: &[u8]) -> String {
        // spec: oma-dm 5 (auth-md5)
        let secret = BASE64_STANDARD.encode(self.0);
        BASE64_STANDARD.encode(md5(&[secret.as_bytes(), b":", nonce]))
    }

    /// Returns the credential for a nonce.
    #[must_use]
    pub fn credential(&self, nonce: &[u8]) -> Credential {
        Credential { meta: auth_meta(None), data: self.digest(nonce) }
    }

    /// Returns whether a credential of the type auth-basic names the user and the password, in
    /// constant time.
    #[must_use]
    pub fn proves_basic(&self, credential: &Credential) -> bool {
        let kind = credential.meta.kind.as_deref();
        let decoded = BASE64_STANDARD.decode(credential.data.trim()).unwrap_or_default();
        // The secret is the hash of just these octets.
        kind == Some(AUTH_BASIC) && equal_in_constant_time(&md5(&[&decoded]), &self.0)
    }

    /// Returns whether a credential proves this secret for a nonce, in constant time.
    #[must_use]
    pub fn proves(&self, credential: &Credential, nonce: &[u8]) -> bool {
        credential.is_md5()
            && equal_in_constant_time(
                credential.data.trim().as_bytes(),
                self.digest(nonce).as_bytes(),
            )
    }
}

/// Shows nothing of the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Credential {
    /// Returns a credential of the type auth-basic.
    #[must_use]
    pub fn basic(user: &str, password: &str) -> Self {
        let meta = Meta { kind: Some(AUTH_BASIC.to_owned()), ..auth_meta(None) };
        Self { meta, data: BASE64_STANDARD.encode(format!("{user}:{password}")) }
    }

    /// Returns whether the credential is of the type auth-md5.
    #[must_use]
    pub fn is_md5(&self) -> bool {
        self.meta.kind.as_deref() == Some(AUTH_MD5)
    }
}

impl Challenge {
    /// Returns a challenge that asks for auth-md5 with a nonce.
    #[must_use]
    pub fn md5(nonce: &[u8]) -> Self {
        Self { meta: auth_meta(Some(BASE64_STANDARD.encode(nonce))) }
    }

    /// Returns a challenge that asks for auth-MAC with a nonce.
    #[must_use]
    pub fn mac(nonce: &[u8]) -> Self {
        let meta = auth_meta(Some(BASE64_STANDARD.encode(nonce)));
        Self { meta: Meta { kind: Some(AUTH_MAC.to_owned()), ..meta } }
    }

    /// Returns whether the challenge asks for auth-MAC.
    #[must_use]
    pub fn is_mac(&self) -> bool {
        self.meta.kind.as_deref() == Some(AUTH_MAC)
    }

    /// Returns whether the challenge asks for auth-md5.
    #[must_use]
    pub fn is_md5(&self) -> bool {
        self.meta.kind.as_deref() == Some(AUTH_MD5)
    }

    /// Returns the octets of `NextNonce`.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it is absent, no base64, empty or longer than [`MAX_NONCE_LENGTH`].
    pub fn nonce(&self) -> Result<Vec<u8>, WireError> {
        let text = self.meta.next_nonce.as_deref().unwrap_or_default();
        let nonce = BASE64_STANDARD
            .decode(text)
            .map_err(|_| WireError::invalid("NextNonce", "no base64", "base64 text"))?;
        if (1..=MAX_NONCE_LENGTH).contains(&nonce.len()) {
            Ok(nonce)
        } else {
            let length = format!("{} octets long", nonce.len());
            Err(WireError::invalid("NextNonce", length, "1 to 64 octets"))
        }
    }
}

/// Returns octets as base64 text.
pub(super) fn base64(octets: &[u8]) -> String {
    BASE64_STANDARD.encode(octets)
}

fn auth_meta(next_nonce: Option<String>) -> Meta {
    Meta {
        format: Some(Format::B64),
        kind: Some(AUTH_MD5.to_owned()),
        next_nonce,
        ..Meta::default()
    }
}

pub(super) fn md5(parts: &[&[u8]]) -> [u8; 16] {
    parts.iter().fold(Md5::new(), |hasher, part| hasher.chain_update(part)).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification, confirmed against libdmclient.
    // test: oma-dm 5
    #[test]
    fn the_digest_of_the_specification_comes_out() {
        let secret = Secret::new("Bruce2", "OhBehave");
        assert_eq!(BASE64_STANDARD.encode(secret.octets()), "PtEdr8lBQ45IbT1bZIkrOQ==");
        assert_eq!(secret.digest(b"Nonce"), "Zz6EivR3yeaaENcRN6lpAQ==");
    }

    #[test]
    fn a_credential_proves_its_own_secret_and_nonce_alone() {
        let secret = Secret::new("user", "password");
        let credential = secret.credential(b"nonce");
        assert!(secret.proves(&credential, b"nonce"));
        assert!(!secret.proves(&credential, b"other"));
        assert!(!Secret::new("user", "passwore").proves(&credential, b"nonce"));
        let mut basic = credential;
        basic.meta.kind = Some("syncml:auth-basic".to_owned());
        assert!(!secret.proves(&basic, b"nonce"));
    }

    #[test]
    fn a_challenge_carries_its_nonce() {
        let challenge = Challenge::md5(&[0, 1, 254, 255]);
        assert!(challenge.is_md5());
        assert_eq!(challenge.nonce(), Ok(vec![0, 1, 254, 255]));
    }

    #[test]
    fn a_nonce_is_neither_empty_nor_endless() {
        for (length, fits) in [(0, false), (1, true), (64, true), (65, false)] {
            assert_eq!(Challenge::md5(&vec![7; length]).nonce().is_ok(), fits, "{length}");
        }
        let mut junk = Challenge::md5(b"x");
        junk.meta.next_nonce = Some("%%".to_owned());
        assert!(junk.nonce().is_err());
        junk.meta.next_nonce = None;
        assert!(junk.nonce().is_err());
    }

    // test: oma-dm 5.1
    #[test]
    fn basic_credentials_are_name_and_password() {
        let secret = Secret::new("Bruce2", "OhBehave");
        let credential = Credential::basic("Bruce2", "OhBehave");
        assert_eq!(credential.data, "QnJ1Y2UyOk9oQmVoYXZl");
        assert!(secret.proves_basic(&credential));
        assert!(!secret.proves(&credential, b""));
        for wrong in [Credential::basic("Bruce2", "x"), secret.credential(b"n")] {
            assert!(!secret.proves_basic(&wrong));
        }
        assert!(Challenge::mac(b"n").is_mac() && !Challenge::mac(b"n").is_md5());
    }

    #[test]
    fn the_debug_form_of_a_secret_hides_it() {
        assert_eq!(format!("{:?}", Secret::new("user", "password")), "Secret");
    }
}
