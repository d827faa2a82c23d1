//! A device as the bridge knows it: who it is, how it proves it, when it was last heard.

use std::{fmt, ops::Deref, str::FromStr, time::Duration};

use proto::{
    dm::auth::{AuthKind, Secret},
    ids::{ClassId, DeviceId, VendorId},
    time::Utc,
    wire::WireError,
};

use super::{components::Components, policy::PolicyOrders, profile::Profile};
use crate::campaign::on_request::OnRequest;

/// The FUMO object of a device unless it was enrolled with another.
pub const DEFAULT_FUMO_OBJECT: &str = "./FwUpdate/Main";

/// Name of this server as devices know it.
pub const SERVER_ID: &str = "fumocast";

/// A device that was enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its `./DevInfo/DevId`.
    pub id: DeviceId,
    /// Row version for compare-and-set; 0 before it was stored.
    pub version: u64,
    /// Maker, as enrolled.
    pub manufacturer: String,
    /// Model, as enrolled.
    pub model: String,
    /// Vendor that the manifest must name.
    pub vendor: VendorId,
    /// Class that the manifest must list.
    pub class: ClassId,
    /// Where the device reaches this server, as it was told at enrolment.
    pub url: String,
    /// Place of its FUMO object.
    pub object: String,
    /// How it proves who it is.
    pub auth: DeviceAuth,
    /// How this server proves to it who asks; absent on a device that was enrolled without.
    pub server: Option<ServerProof>,
    /// What it gets when it asks for an update, whatever campaigns say.
    pub on_request: Option<OnRequest>,
    /// How its client is spoken to.
    pub profile: Profile,
    /// What its next DM session tells it.
    pub rest: Option<Rest>,
    /// What it is to be told of its policy, and what it answered.
    pub policy: PolicyOrders,
    /// Its software components.
    pub components: Components,
    /// `./DevDetail/FwV` as last read.
    pub firmware_version: Option<String>,
    /// When it was enrolled.
    pub enrolled: Utc,
    /// When it last proved who it is.
    pub last_seen: Option<Utc>,
}

/// Whether a device goes on with what it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It keeps what it has and stops.
    Suspend,
    /// It goes on.
    Resume,
}

impl Rest {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Suspend, Self::Resume];

    /// Returns the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
        }
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for Rest {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|rest| rest.word() == word)
            .ok_or_else(|| WireError::invalid("rest", word, "suspend or resume"))
    }
}

/// Credentials of a device, and what keeps them from being used twice.
///
/// # Source
///
/// Security facts 7.2 and 7.4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAuth {
    /// What either side proves itself by to the other.
    pub kind: AuthKind,
    /// User name of the device's client credentials.
    pub user: String,
    /// MD5(user ":" password); the password itself is not kept.
    pub secret: Kept,
    /// The nonce that was handed out for the next session; it stays until it is used.
    pub next_nonce: Option<Nonce>,
    /// The nonce of the latest challenge; void after [`CHALLENGE_LIFETIME`].
    pub challenge: Option<Challenge>,
    /// Failures since `failing_since`.
    pub failures: u32,
    /// When the first of those failures was.
    pub failing_since: Utc,
}

/// What a device knows this server by: no two devices share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerProof {
    /// MD5(server id ":" password), with the password for auth-basic.
    pub secret: Kept,
    /// The nonce that the device awaits in the next proof.
    pub nonce: DeviceNonce,
}

/// A secret, and whether the store holds it already: a store that seals does so once.
#[derive(Debug, Clone)]
pub struct Kept {
    secret: Secret,
    is_stored: bool,
}

impl Kept {
    /// Takes a secret as it was read from the store.
    #[must_use]
    pub const fn stored(secret: Secret) -> Self {
        Self { secret, is_stored: true }
    }

    /// Tells whether the store holds it.
    #[must_use]
    pub const fn is_stored(&self) -> bool {
        self.is_stored
    }
}

impl From<Secret> for Kept {
    fn from(secret: Secret) -> Self {
        Self { secret, is_stored: false }
    }
}

impl Deref for Kept {
    type Target = Secret;

    fn deref(&self) -> &Secret {
        &self.secret
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret
    }
}

impl Eq for Kept {}

/// How long the answer to a challenge is awaited.
pub const CHALLENGE_LIFETIME: Duration = Duration::from_secs(600);

/// A nonce that was sent in a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The nonce.
    pub nonce: Nonce,
    /// The DM session that it belongs to.
    pub session: String,
    /// When it was made.
    pub made: Utc,
}

/// A nonce that a device gave this server, of a length that the device chose. It has no text form.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceNonce(pub Vec<u8>);

impl fmt::Debug for DeviceNonce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DeviceNonce")
    }
}

/// Octets that make a credential good for one use. It has no text form.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(pub [u8; 16]);

impl fmt::Debug for Nonce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Nonce")
    }
}
