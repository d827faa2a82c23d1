//! Stored secrets, sealed with a key from a file, each for its device.
//!
//! ```text
//! sealed   format 1 (1) | key id (8) | nonce (12) | AES-256-GCM of the text | tag (16)
//! text     MD5(user ":" password) (16) | the password, where the authentication type needs it
//! owner    "fumocast secret 1 " role " " device id; it is authenticated and not stored
//! key file 64 hex digits a line, a key each; the last one seals, all of them open
//! key id   the front of H("fumocast key id" | key)
//! ```
//!
//! Decryption fails for a secret that was moved to another device or to the other role.
//!
//! # Source
//!
//! Security facts 7.4.

use std::{collections::BTreeSet, fmt};

use proto::{
    crypto::{SealingKey, sha256},
    dm::auth::{AuthKind, Secret},
    ids::DeviceId,
};
use thiserror::Error;
use zeroize::Zeroizing;

/// Keys of a file, at most.
pub const MAX_KEYS: usize = 16;

const FORMAT: u8 = 1;
const HASH_LEN: usize = 16;

/// The id of a key; it reveals nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(formatter, "{octet:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// An error of a key file or of a sealed secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SealError {
    /// A line of the file is no key.
    #[error("line {0} is no key: write 64 lower-case hex digits")]
    NoKey(usize),
    /// The file is empty, or endless.
    #[error("found {0} keys, expected 1 to 16")]
    Count(usize),
    /// The key of a secret is missing.
    #[error("key {0} is missing")]
    UnknownKey(KeyId),
    /// The secret is damaged, or belongs to another device or role.
    #[error("decryption failed")]
    DecryptionFailed,
}

/// A key of the file. It is wiped when dropped.
struct Key {
    id: KeyId,
    bytes: Zeroizing<[u8; SealingKey::LEN]>,
    sealing: SealingKey,
}

impl Key {
    fn new(bytes: Zeroizing<[u8; SealingKey::LEN]>) -> Self {
        let hash = sha256(&[b"fumocast key id", &*bytes]).0;
        let mut id = [0; 8];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self { id: KeyId(id), sealing: SealingKey::new(&bytes), bytes }
    }
}

/// The keys of a file, in their order. It has no text form but that of the file.
#[derive(Default)]
pub struct KeyRing(Vec<Key>);

impl fmt::Debug for KeyRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.ids()).finish()
    }
}

impl KeyRing {
    /// Parses a key file.
    ///
    /// # Errors
    ///
    /// [`SealError::NoKey`], [`SealError::Count`].
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let mut ring = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            ring.add(Zeroizing::new(key_of_hex(line).ok_or(SealError::NoKey(number))?));
        }
        match ring.0.len() {
            1..=MAX_KEYS => Ok(ring),
            count => Err(SealError::Count(count)),
        }
    }

    /// Returns the text of the key file.
    #[must_use]
    pub fn emit(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.0.len() * 65));
        for key in &self.0 {
            for octet in key.bytes.iter() {
                for digit in [octet >> 4, octet & 15] {
                    text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
                }
            }
            text.push('\n');
        }
        text
    }

    /// Adds a key and seals with it from then on.
    pub fn add(&mut self, bytes: Zeroizing<[u8; SealingKey::LEN]>) {
        let key = Key::new(bytes);
        self.0.retain(|other| other.id != key.id);
        self.0.push(key);
    }

    /// Removes keys.
    pub fn remove(&mut self, ids: &BTreeSet<KeyId>) {
        self.0.retain(|key| !ids.contains(&key.id));
    }

    /// Returns the ids of all keys.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.0.iter().map(|key| key.id)
    }

    /// Returns the id of the key that seals: the last one.
    #[must_use]
    pub fn last(&self) -> Option<KeyId> {
        self.ids().last()
    }

    /// Returns whether a key is in the ring.
    #[must_use]
    pub fn contains(&self, id: KeyId) -> bool {
        self.ids().any(|other| other == id)
    }

    fn key(&self, id: KeyId) -> Result<&SealingKey, SealError> {
        let found = self.0.iter().find(|key| key.id == id);
        found.map(|key| &key.sealing).ok_or(SealError::UnknownKey(id))
    }

    /// Seals a secret with one of the keys; `nonce` was never used.
    ///
    /// # Errors
    ///
    /// [`SealError::UnknownKey`] when the key is missing.
    pub fn seal(
        &self,
        id: KeyId,
        nonce: [u8; SealingKey::NONCE_LEN],
        owner: Owner<'_>,
        secret: &Secret,
    ) -> Result<Vec<u8>, SealError> {
        let mut text = Zeroizing::new(secret.octets().to_vec());
        text.extend(secret.password().unwrap_or_default().as_bytes());
        let mut sealed = vec![FORMAT];
        sealed.extend(id.0);
        sealed.extend(nonce);
        sealed.extend(self.key(id)?.seal(nonce, &owner.associated_data(), &text));
        Ok(sealed)
    }

    /// Opens a secret.
    ///
    /// # Errors
    ///
    /// [`SealError::UnknownKey`], [`SealError::DecryptionFailed`].
    pub fn open(&self, owner: Owner<'_>, sealed: &[u8]) -> Result<Secret, SealError> {
        let id = key_id(sealed)?;
        let (nonce, sealed) = sealed
            .get(1 + id.0.len()..)
            .and_then(<[u8]>::split_first_chunk)
            .ok_or(SealError::DecryptionFailed)?;
        let open = self.key(id)?.open(*nonce, &owner.associated_data(), sealed);
        let text = open.map_err(|_| SealError::DecryptionFailed)?;
        let (hash, password) =
            text.split_first_chunk::<HASH_LEN>().ok_or(SealError::DecryptionFailed)?;
        if password.is_empty() {
            return Ok(Secret::from_bytes(*hash));
        }
        let password = str::from_utf8(password).map_err(|_| SealError::DecryptionFailed)?;
        Ok(Secret::for_kind(AuthKind::Basic, owner.user, password))
    }
}

/// Returns the id of the key that a secret was sealed with.
///
/// # Errors
///
/// [`SealError::DecryptionFailed`] when the format is unknown.
pub fn key_id(sealed: &[u8]) -> Result<KeyId, SealError> {
    match sealed.split_first_chunk::<9>() {
        Some(([FORMAT, id @ ..], _)) => Ok(KeyId(*id)),
        Some(_) | None => Err(SealError::DecryptionFailed),
    }
}

/// The device and role that a secret belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// Side that the secret authenticates.
    pub role: Role,
    /// User name of the credential.
    pub user: &'a str,
}

/// The side that a secret authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The device to this server.
    Device,
    /// This server to the device.
    Server,
}

impl Owner<'_> {
    fn associated_data(self) -> Vec<u8> {
        let role = match self.role {
            Role::Device => "device",
            Role::Server => "server",
        };
        format!("fumocast secret {FORMAT} {role} {}", self.device.as_str()).into_bytes()
    }
}

fn key_of_hex(line: &str) -> Option<[u8; SealingKey::LEN]> {
    let digit = |octet: u8| match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'a'..=b'f' => Some(octet - b'a' + 10),
        _ => None,
    };
    let (pairs, odd) = line.as_bytes().as_chunks::<2>();
    if pairs.len() != SealingKey::LEN || !odd.is_empty() {
        return None;
    }
    let mut octets = [0; SealingKey::LEN];
    for (octet, [high, low]) in octets.iter_mut().zip(pairs) {
        *octet = digit(*high)? << 4 | digit(*low)?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[u8]) -> KeyRing {
        let mut ring = KeyRing::default();
        keys.iter().for_each(|key| ring.add(Zeroizing::new([*key; 32])));
        ring
    }

    fn id(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    // test: security 7.4 (stored secrets)
    #[test]
    fn a_secret_opens_for_its_device_and_role_alone() {
        let (ring, a, b) = (ring(&[1]), id("a"), id("b"));
        let owner = Owner { device: &a, role: Role::Server, user: "server" };
        let key = ring.last().unwrap();
        for secret in
            [Secret::new("server", "pw"), Secret::for_kind(AuthKind::Basic, "server", "pw")]
        {
            let sealed = ring.seal(key, [7; 12], owner, &secret).unwrap();
            assert_eq!(ring.open(owner, &sealed).unwrap(), secret);
            assert_eq!(key_id(&sealed).unwrap(), key);
            let moved = Owner { device: &b, ..owner };
            let swapped = Owner { role: Role::Device, ..owner };
            for other in [moved, swapped] {
                assert_eq!(ring.open(other, &sealed), Err(SealError::DecryptionFailed));
            }
            for length in 0..sealed.len() {
                assert!(ring.open(owner, &sealed[..length]).is_err(), "{length}");
            }
            for place in [0, 1, 9, sealed.len() - 1] {
                let mut damaged = sealed.clone();
                damaged[place] ^= 1;
                assert!(ring.open(owner, &damaged).is_err(), "{place}");
            }
        }
    }

    #[test]
    fn all_keys_open_and_the_last_one_seals() {
        let a = id("a");
        let owner = Owner { device: &a, role: Role::Device, user: "a" };
        let secret = Secret::new("a", "pw");
        let mut ring = ring(&[1]);
        let old = ring.last().unwrap();
        let sealed = ring.seal(old, [7; 12], owner, &secret).unwrap();
        ring.add(Zeroizing::new([2; 32]));
        assert_ne!(ring.last(), Some(old));
        assert_eq!(ring.open(owner, &sealed).unwrap(), secret);
        ring.remove(&BTreeSet::from([old]));
        assert_eq!(ring.open(owner, &sealed), Err(SealError::UnknownKey(old)));
    }

    #[test]
    fn a_key_file_is_parsed_as_it_is_emitted_and_other_text_is_rejected() {
        let text = ring(&[1, 0xef]).emit();
        assert_eq!(*text, format!("{}\n{}\n", "01".repeat(32), "ef".repeat(32)));
        let read = KeyRing::parse(&text).unwrap();
        assert_eq!(read.emit(), text);
        assert!(!format!("{read:?}").contains("0101"), "{read:?}");
        for (text, why) in [
            (String::new(), SealError::Count(0)),
            (format!("{}\n\n", "01".repeat(32)), SealError::NoKey(2)),
            (format!("{}\n", "01".repeat(31)), SealError::NoKey(1)),
            (format!("{}\n", "EF".repeat(32)), SealError::NoKey(1)),
        ] {
            assert_eq!(KeyRing::parse(&text).unwrap_err(), why, "{text}");
        }
        let many: String =
            (0..17).map(|key| format!("{}\n", format!("{key:02x}").repeat(32))).collect();
        assert_eq!(KeyRing::parse(&many).unwrap_err(), SealError::Count(17));
        assert!(KeyRing::parse(many.split_once('\n').unwrap().1).is_ok(), "sixteen are accepted");
    }
}
