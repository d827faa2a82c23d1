//! Proof of a password: `syncml:auth-md5` by a hash over it and a nonce, [`Mac`] over a message as
//! well, `syncml:auth-basic` by the password itself.
//!
//! ```text
//! secret = B64(MD5(user ":" password))          what a server stores
//! digest = B64(MD5(secret ":" nonce))           what goes into Cred; nonce: decoded octets
//! ```

use std::fmt;

use md5::{Digest as _, Md5};
use zeroize::Zeroize as _;

use super::{code::Format, meta::Meta};
use crate::{base64_text, crypto::equal_in_constant_time, wire::WireError};

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

crate::words! {
    /// The kind of proof by which one side authenticates itself.
    #[derive(Default)]
    pub enum AuthKind: "auth" {
        /// The password itself, in each message: over TLS or inside one machine.
        Basic = "basic",
        /// A digest over password and nonce; once it is accepted it holds for the DM session.
        #[default]
        Md5 = "md5",
        /// A proof over each message, with a nonce for each.
        Mac = "hmac",
        /// Nothing in the messages: the certificate of the TLS connection is the proof.
        Transport = "transport",
    }
}

impl AuthKind {
    /// Returns the authentication type as it stands in `Meta/Type`; none for that of the transport,
    /// which no message names.
    #[must_use]
    pub const fn meta_type(self) -> Option<&'static str> {
        match self {
            Self::Basic => Some(AUTH_BASIC),
            Self::Md5 => Some(AUTH_MD5),
            Self::Mac => Some(AUTH_MAC),
            Self::Transport => None,
        }
    }

    /// Returns whether its proofs are made of a password.
    #[must_use]
    pub const fn has_password(self) -> bool {
        match self {
            Self::Basic | Self::Md5 | Self::Mac => true,
            Self::Transport => false,
        }
    }

    /// Returns whether its proofs are made with a nonce.
    #[must_use]
    pub const fn has_nonce(self) -> bool {
        match self {
            Self::Md5 | Self::Mac => true,
            Self::Basic | Self::Transport => false,
        }
    }

    /// Returns the value of `AAuthType` and `AAuthPref` in DMAcc.
    // spec: oma-dm 10 (types of authentication in DMAcc)
    #[must_use]
    pub const fn account_type(self) -> &'static str {
        match self {
            Self::Basic => "BASIC",
            Self::Md5 => "DIGEST",
            Self::Mac => "HMAC",
            Self::Transport => "TRANSPORT",
        }
    }

    /// Returns the kind that a value of `AAuthType` names.
    #[must_use]
    pub fn from_account_type(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.account_type() == text)
    }

    fn of(meta: &Meta) -> Option<Self> {
        let named = meta.kind.as_deref()?;
        Self::ALL.into_iter().find(|kind| kind.meta_type() == Some(named))
    }
}

/// MD5(user ":" password): all that the protocol needs of a password, unless it goes over the
/// wire itself. It is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    hash: [u8; 16],
    /// User and password in the clear, for [`AuthKind::Basic`] alone.
    clear: Option<(String, String)>,
}

impl Secret {
    /// Makes the secret of a user and its password.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self::from_bytes(md5(&[user.as_bytes(), b":", password.as_bytes()]))
    }

    /// Makes the secret that a kind of proof needs: the password is stored for auth-basic alone.
    #[must_use]
    pub fn for_kind(kind: AuthKind, user: &str, password: &str) -> Self {
        let mut secret = Self::new(user, password);
        secret.clear = (kind == AuthKind::Basic).then(|| (user.to_owned(), password.to_owned()));
        secret
    }

    /// Returns a secret from its stored octets.
    #[must_use]
    pub const fn from_bytes(hash: [u8; 16]) -> Self {
        Self { hash, clear: None }
    }

    /// Returns the octets to store.
    #[must_use]
    pub const fn octets(&self) -> [u8; 16] {
        self.hash
    }

    /// Returns the password where the kind of proof needs it.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.clear.as_ref().map(|(_, password)| password.as_str())
    }

    /// Returns the proof for a nonce, in base64.
    ///
    /// # Source
    ///
    /// OMA DM 1.2 Security, `syncml:auth-md5`.
    #[must_use]
    pub fn digest(&self, nonce: &[u8]) -> String {
        // spec: oma-dm 5 (auth-md5)
        let secret = base64_text::encode(self.hash);
        base64_text::encode(md5(&[secret.as_bytes(), b":", nonce]))
    }

    /// Returns the credential of the type auth-md5 for a nonce.
    #[must_use]
    pub fn credential(&self, nonce: &[u8]) -> Credential {
        Credential { meta: auth_meta(AuthKind::Md5, None), data: self.digest(nonce) }
    }

    /// Returns the credential of a kind for the header of a message; `None` where the proof goes
    /// beside the message, or where what it is made of is missing.
    #[must_use]
    pub fn credential_of(&self, kind: AuthKind, nonce: &[u8]) -> Option<Credential> {
        match kind {
            AuthKind::Basic => {
                let (user, password) = self.clear.as_ref()?;
                Some(Credential::basic(user, password))
            }
            AuthKind::Md5 => (!nonce.is_empty()).then(|| self.credential(nonce)),
            AuthKind::Mac | AuthKind::Transport => None,
        }
    }

    /// Returns whether a credential of the type auth-basic names the user and the password, in
    /// constant time.
    #[must_use]
    pub fn proves_basic(&self, credential: &Credential) -> bool {
        let decoded = base64_text::decode(&credential.data).unwrap_or_default();
        // The secret is the hash of just these octets.
        credential.kind() == Some(AuthKind::Basic)
            && equal_in_constant_time(&md5(&[&decoded]), &self.hash)
    }

    /// Returns whether a credential proves this secret for a nonce, in constant time.
    #[must_use]
    pub fn proves(&self, credential: &Credential, nonce: &[u8]) -> bool {
        credential.kind() == Some(AuthKind::Md5)
            && equal_in_constant_time(
                credential.data.trim().as_bytes(),
                self.digest(nonce).as_bytes(),
            )
    }

    /// Returns the proof over a message for a nonce, in base64.
    ///
    /// # Source
    ///
    /// OMA DM 1.2 Security, `syncml:auth-MAC`.
    // spec: oma-dm 5.1 (auth-MAC)
    #[must_use]
    pub fn mac(&self, nonce: &[u8], body: &[u8]) -> String {
        let (secret, body) = (base64_text::encode(self.octets()), md5(&[body]));
        let body = base64_text::encode(body);
        base64_text::encode(md5(&[secret.as_bytes(), b":", nonce, b":", body.as_bytes()]))
    }

    /// Returns whether a header proves this secret over a message, in constant time.
    #[must_use]
    pub fn proves_message(&self, mac: &Mac, nonce: &[u8], body: &[u8]) -> bool {
        equal_in_constant_time(mac.mac.as_bytes(), self.mac(nonce, body).as_bytes())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.hash.zeroize();
        if let Some((_, password)) = &mut self.clear {
            password.zeroize();
        }
    }
}

/// Shows nothing of the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// A `Cred`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its type and format.
    pub meta: Meta,
    /// The proof.
    pub data: String,
}

impl Credential {
    /// Returns a credential of the type auth-basic.
    #[must_use]
    pub fn basic(user: &str, password: &str) -> Self {
        let meta = auth_meta(AuthKind::Basic, None);
        Self { meta, data: base64_text::encode(format!("{user}:{password}")) }
    }

    /// Returns the kind of the proof, if it is a supported one.
    #[must_use]
    pub fn kind(&self) -> Option<AuthKind> {
        AuthKind::of(&self.meta)
    }
}

/// Shows the type and not the proof.
impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credential").field("kind", &self.meta.kind).finish_non_exhaustive()
    }
}

/// A `Chal`: the required kind of proof, and the nonce for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Type, format and `NextNonce`.
    pub meta: Meta,
}

impl Challenge {
    /// Returns a challenge that requires a kind of proof, with the nonce for it, if the kind has
    /// one.
    #[must_use]
    pub fn new(kind: AuthKind, nonce: &[u8]) -> Self {
        let nonce = kind.has_nonce().then(|| base64_text::encode(nonce));
        Self { meta: auth_meta(kind, nonce) }
    }

    /// Returns the required kind of proof, if it is a supported one.
    #[must_use]
    pub fn kind(&self) -> Option<AuthKind> {
        AuthKind::of(&self.meta)
    }

    /// Returns the octets of `NextNonce`.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it is absent, no base64, empty or longer than [`MAX_NONCE_LENGTH`].
    pub fn nonce(&self) -> Result<Vec<u8>, WireError> {
        let text = self.meta.next_nonce.as_deref().unwrap_or_default();
        let nonce = base64_text::decode(text)
            .map_err(|_| WireError::invalid("NextNonce", "no base64", "base64 text"))?;
        if (1..=MAX_NONCE_LENGTH).contains(&nonce.len()) {
            Ok(nonce)
        } else {
            let length = format!("{} octets long", nonce.len());
            Err(WireError::invalid("NextNonce", length, "1 to 64 octets"))
        }
    }
}

fn auth_meta(kind: AuthKind, next_nonce: Option<String>) -> Meta {
    Meta {
        format: Some(Format::B64),
        kind: kind.meta_type().map(str::to_owned),
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
        assert_eq!(base64_text::encode(secret.octets()), "PtEdr8lBQ45IbT1bZIkrOQ==");
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
        let challenge = Challenge::new(AuthKind::Md5, &[0, 1, 254, 255]);
        assert_eq!(challenge.kind(), Some(AuthKind::Md5));
        assert_eq!(challenge.nonce(), Ok(vec![0, 1, 254, 255]));
    }

    #[test]
    fn a_nonce_is_neither_empty_nor_endless() {
        for (length, fits) in [(0, false), (1, true), (64, true), (65, false)] {
            assert_eq!(
                Challenge::new(AuthKind::Mac, &vec![7; length]).nonce().is_ok(),
                fits,
                "{length}"
            );
        }
        let mut junk = Challenge::new(AuthKind::Md5, b"x");
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
        let challenge = Challenge::new(AuthKind::Basic, b"n");
        assert!(challenge.meta.next_nonce.is_none(), "there is no nonce in it");
    }

    // test: oma-dm 10
    #[test]
    fn every_kind_reads_back_from_each_of_its_names() {
        for kind in AuthKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(AuthKind::from_account_type(kind.account_type()), Some(kind));
            // No message asks for the proof of the transport.
            let asked = Some(kind).filter(|kind| *kind != AuthKind::Transport);
            assert_eq!(Challenge::new(kind, b"n").kind(), asked);
        }
        assert!("digest".parse::<AuthKind>().is_err());
    }

    #[test]
    fn a_secret_gives_the_credentials_that_it_can() {
        let basic = Secret::for_kind(AuthKind::Basic, "user", "password");
        assert_eq!(basic.password(), Some("password"));
        let shown = basic.credential_of(AuthKind::Basic, b"").unwrap();
        assert!(Secret::new("user", "password").proves_basic(&shown));
        let stored = Secret::for_kind(AuthKind::Md5, "user", "password");
        assert_eq!(stored.password(), None, "nobody needs it");
        assert_eq!(stored.credential_of(AuthKind::Basic, b"n"), None);
        assert_eq!(stored.credential_of(AuthKind::Md5, b""), None);
        assert_eq!(stored.credential_of(AuthKind::Mac, b"n"), None);
        assert_eq!(stored.credential_of(AuthKind::Md5, b"n"), Some(stored.credential(b"n")));
    }

    #[test]
    fn the_debug_form_of_a_secret_hides_it() {
        let secret = Secret::for_kind(AuthKind::Basic, "user", "password");
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
