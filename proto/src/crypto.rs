//! SHA-256, HMAC of SHA-1 and SHA-256, Ed25519, AES-256-GCM, random numbers and constant-time comparison; the only
//! user of `ring` besides TLS set-up.

use std::fmt;

use ring::{
    aead, digest, hmac, rand,
    rand::SecureRandom as _,
    signature::{self, Ed25519KeyPair, KeyPair as _},
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{ids::parse_hex, ids::write_hex};

macro_rules! hash_type {
    ($(#[$docs:meta])* $name:ident, $len:literal) => {
        $(#[$docs])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Octets of this hash.
            pub const LEN: usize = $len;

            /// Reads lower-case hex digits.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                parse_hex(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, formatter)
            }
        }
    };
}

hash_type!(
    /// A SHA-256 hash.
    Digest,
    32
);
hash_type!(
    /// The first 16 octets of a SHA-256 hash.
    Hash16,
    16
);

/// A SHA-256 computation over pieces.
#[derive(Clone)]
pub struct Hasher(digest::Context);

impl Hasher {
    /// Starts an empty computation.
    #[must_use]
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Adds `octets` to the hash.
    pub fn update(&mut self, octets: &[u8]) -> &mut Self {
        self.0.update(octets);
        self
    }

    /// Returns the hash of all that was added.
    #[must_use]
    pub fn finish(self) -> Digest {
        let mut hash = [0; Digest::LEN];
        hash.copy_from_slice(self.0.finish().as_ref());
        Digest(hash)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hasher")
    }
}

/// Returns H(the concatenation of `parts`).
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finish()
}

/// Returns H16(the concatenation of `parts`): the first 16 octets of the SHA-256 hash.
#[must_use]
pub fn h16(parts: &[&[u8]]) -> Hash16 {
    sha256(parts).into()
}

impl From<Digest> for Hash16 {
    fn from(Digest(hash): Digest) -> Self {
        let mut short = [0; Self::LEN];
        short.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self(short)
    }
}

/// Returns HMAC-SHA1 as RFC 2104 defines it: for bootstrap documents of OMA, which define no other.
#[must_use]
pub fn hmac_sha1(key: &[u8], octets: &[u8]) -> [u8; 20] {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let mut tag = [0; 20];
    tag.copy_from_slice(hmac::sign(&key, octets).as_ref());
    tag
}

/// Returns HMAC-SHA-256 of the concatenation of `parts`.
#[must_use]
pub fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> Digest {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    let mut tag = [0; Digest::LEN];
    tag.copy_from_slice(context.sign().as_ref());
    Digest(tag)
}

/// Compares two secrets in a time that depends on their lengths alone.
#[must_use]
pub fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    // ring's own comparison is deprecated without a successor; this is the textbook fold.
    a.len() == b.len()
        && std::hint::black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)))
            == 0
}

/// Returns `N` octets from the system's generator.
///
/// # Panics
///
/// When the system has no random numbers; nothing that needs a secret may continue then.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    rand::SystemRandom::new().fill(&mut octets).expect("the system's random generator answers");
    octets
}

/// The rejection of a key, a signature or sealed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CryptoError {
    /// The octets are no Ed25519 private key in PKCS#8 form.
    #[error("not an Ed25519 private key in PKCS#8 form")]
    BadKey,
    /// The signature does not belong to this key and text.
    #[error("the signature does not match")]
    BadSignature,
    /// The octets were sealed by another key, for something else, or are damaged.
    #[error("what is sealed does not open")]
    BadSeal,
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Returns the key id: the first 8 octets of H(public key) in lower-case hex. A hint only.
    #[must_use]
    pub fn key_id(&self) -> String {
        let mut id = sha256(&[&self.0]).to_string();
        id.truncate(16);
        id
    }

    /// Checks that `signature` was made over `text` with the private half of this key.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadSignature`] when it was not.
    pub fn verify(&self, text: &[u8], signature: &[u8; 64]) -> Result<(), CryptoError> {
        signature::UnparsedPublicKey::new(&signature::ED25519, &self.0)
            .verify(text, signature)
            .map_err(|_| CryptoError::BadSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

/// An Ed25519 private key. It has no text form, so it cannot reach a log.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Makes a key from the system's generator; returns its PKCS#8 form.
    ///
    /// # Panics
    ///
    /// When the system has no random numbers.
    #[must_use]
    pub fn generate_pkcs8() -> Vec<u8> {
        Ed25519KeyPair::generate_pkcs8(&rand::SystemRandom::new())
            .expect("the system's random generator answers")
            .as_ref()
            .to_vec()
    }

    /// Reads a PKCS#8 document (version 1 or 2).
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadKey`] when it holds no Ed25519 private key.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, CryptoError> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(document)
            .map(Self)
            .map_err(|_| CryptoError::BadKey)
    }

    /// Returns the public half.
    ///
    /// # Panics
    ///
    /// Never: an Ed25519 public key has 32 octets.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let octets = self.0.public_key().as_ref();
        PublicKey(octets.try_into().expect("an Ed25519 public key has 32 octets"))
    }

    /// Signs `text`.
    ///
    /// # Panics
    ///
    /// Never: an Ed25519 signature has 64 octets.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.0.sign(text).as_ref().try_into().expect("an Ed25519 signature has 64 octets")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.public().key_id())
    }
}

/// A key that seals and opens: AES-256-GCM. It has no text form.
///
/// The octets that it is made of are wiped by their owner; what `ring` computes from them lives as
/// long as this value.
pub struct SealingKey(aead::LessSafeKey);

impl SealingKey {
    /// Octets of the key.
    pub const LEN: usize = 32;
    /// Octets of a nonce.
    pub const NONCE_LEN: usize = aead::NONCE_LEN;

    /// Creates the key from its octets.
    ///
    /// # Panics
    ///
    /// Never: a key of AES-256 has 32 octets.
    #[must_use]
    pub fn new(key: &[u8; Self::LEN]) -> Self {
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, key).expect("the key has 32 octets");
        Self(aead::LessSafeKey::new(key))
    }

    /// Seals `text` for `owner`, for whom alone it opens. A nonce from the system's generator is
    /// used once; one key seals 2^32 texts, not more.
    ///
    /// # Panics
    ///
    /// When the text has 64 GiB or more.
    #[must_use]
    pub fn seal(&self, nonce: [u8; Self::NONCE_LEN], owner: &[u8], text: &[u8]) -> Vec<u8> {
        let mut octets = text.to_vec();
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(nonce, aead::Aad::from(owner), &mut octets)
            .expect("a text that is no larger than memory");
        octets
    }

    /// Opens what was sealed for `owner`.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadSeal`] when it was not, or not by this key.
    pub fn open(
        &self,
        nonce: [u8; Self::NONCE_LEN],
        owner: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let mut octets = Zeroizing::new(sealed.to_vec());
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let length = self
            .0
            .open_in_place(nonce, aead::Aad::from(owner), &mut octets)
            .map_err(|_| CryptoError::BadSeal)?
            .len();
        octets.truncate(length);
        Ok(octets)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SealingKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 16 of the specification of GCM (McGrew and Viega).
    #[test]
    fn sealing_is_aes_256_gcm() {
        let octets = |hex: &str| -> Vec<u8> {
            hex.as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        let key = octets("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let text = octets(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
             1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let owner = octets("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let sealed = octets(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
        );
        let nonce = octets("cafebabefacedbaddecaf888").try_into().unwrap();
        let key = SealingKey::new(&key.try_into().unwrap());
        assert_eq!(key.seal(nonce, &owner, &text), sealed);
        assert_eq!(*key.open(nonce, &owner, &sealed).unwrap(), text);
    }

    #[test]
    fn what_is_sealed_opens_for_its_owner_and_key_alone() {
        let key = SealingKey::new(&[1; 32]);
        let sealed = key.seal([2; 12], b"a", b"secret");
        assert_eq!(key.open([2; 12], b"a", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(key.open([2; 12], b"b", &sealed), Err(CryptoError::BadSeal));
        assert_eq!(key.open([3; 12], b"a", &sealed), Err(CryptoError::BadSeal));
        assert!(SealingKey::new(&[9; 32]).open([2; 12], b"a", &sealed).is_err());
        for length in 0..sealed.len() {
            assert!(key.open([2; 12], b"a", &sealed[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn pieces_hash_like_the_whole() {
        assert_eq!(
            sha256(&[b"fumocast ", b"test image"]).to_string(),
            "e3dba8b14015278f0457f4b17ea6d133ef854f9e4d32b6f51c840299b192a245"
        );
    }

    #[test]
    fn a_signature_holds_for_its_text_and_key_alone() {
        let key = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8()).unwrap();
        let other = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8()).unwrap();
        let signature = key.sign(b"text");
        assert_eq!(key.public().verify(b"text", &signature), Ok(()));
        assert_eq!(key.public().verify(b"texu", &signature), Err(CryptoError::BadSignature));
        assert_eq!(other.public().verify(b"text", &signature), Err(CryptoError::BadSignature));
    }

    #[test]
    fn a_truncated_key_file_is_refused() {
        let document = SigningKey::generate_pkcs8();
        for length in 0..document.len() {
            assert!(SigningKey::from_pkcs8(&document[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn secrets_of_different_lengths_differ() {
        assert!(equal_in_constant_time(b"abc", b"abc"));
        assert!(!equal_in_constant_time(b"abc", b"abd"));
        assert!(!equal_in_constant_time(b"abc", b"abcd"));
    }

    /// Test case 4 of RFC 4231 has a key of 25 octets; a key is padded with zeros to the block.
    #[test]
    fn hmac_sha256_is_that_of_rfc_4231() {
        let mut key = [0; 32];
        key.iter_mut().zip(1..=25).for_each(|(octet, value)| *octet = value);
        let tag = hmac_sha256(&key, &[&[0xcd; 20], &[0xcd; 30]]);
        assert_eq!(
            tag.to_string(),
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"
        );
    }

    #[test]
    fn hmac_sha1_is_that_of_rfc_2202() {
        let tag = hmac_sha1(b"Jefe", b"what do ya want for nothing?");
        let hex: String = tag.iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(hex, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    }
}
