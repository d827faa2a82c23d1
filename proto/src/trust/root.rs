//! The root document: the keys of each role.

use std::collections::BTreeMap;

use prost::Message as _;

use super::{
    checks::{check_count, check_schema},
    document_kind::DocumentKind,
    envelope::{Envelope, Verified},
    error::TrustError,
    messages,
    role::{Role, RoleKeys},
    strict_protobuf::{self, Field, MessageSchema, Unknown},
};
use crate::{crypto::PublicKey, time::Utc, wire::WireError};

/// The keys of each role, and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Counts up by one with each root.
    pub version: u64,
    /// Expiry, before which the next root must be installed.
    pub expires: Utc,
    /// Keys of every role.
    pub roles: BTreeMap<Role, RoleKeys>,
    /// Documents of a lower sequence are rejected.
    pub sequence_floor: u64,
    /// Sequences are compared within one epoch.
    pub epoch: u32,
}

impl Root {
    /// Reads the factory root, which is signed by its own keys.
    ///
    /// # Errors
    ///
    /// [`TrustError`] when it is malformed or not signed by its own threshold.
    pub fn from_factory(envelope: &[u8]) -> Result<Verified<Self>, TrustError> {
        let envelope = Envelope::parse(envelope)?;
        // Its keys are inside, so it is parsed before it is verified, and used only afterwards.
        let claimed = Self::read(envelope.payload())?;
        envelope.verify(DocumentKind::Root, claimed.keys(Role::Root))?.into_verified(Self::read)
    }

    /// Reads the root that follows `current`: signed by the threshold of both.
    ///
    /// # Errors
    ///
    /// [`TrustError`] when it is malformed, not the next version, of a lower epoch, below the floor
    /// of `current` in the same epoch, or when either threshold is not met.
    pub fn successor(
        current: &Verified<Self>,
        envelope: &[u8],
    ) -> Result<Verified<Self>, TrustError> {
        let envelope = Envelope::parse(envelope)?;
        // spec: security 2 (rotation of the root)
        let next = envelope
            .verify(DocumentKind::Root, current.keys(Role::Root))?
            .into_verified(Self::read)?;
        envelope.verify(DocumentKind::Root, next.keys(Role::Root))?;
        if Some(next.version) != current.version.checked_add(1) {
            let (found, stored) = (next.version, current.version);
            return Err(TrustError::Generation { what: "root version", found, stored });
        }
        if next.epoch < current.epoch {
            let (found, stored) = (next.epoch.into(), current.epoch.into());
            return Err(TrustError::Generation { what: "epoch", found, stored });
        }
        // A floor only ever rises; a new epoch counts from the beginning.
        if next.epoch == current.epoch && next.sequence_floor < current.sequence_floor {
            let (found, stored) = (next.sequence_floor, current.sequence_floor);
            return Err(TrustError::Generation { what: "sequence floor", found, stored });
        }
        Ok(next)
    }

    /// Returns the keys of `role`.
    ///
    /// # Panics
    ///
    /// Never on a root that was read or made with every role.
    #[must_use]
    pub fn keys(&self, role: Role) -> &RoleKeys {
        self.roles.get(&role).expect("a root holds every role")
    }

    /// Returns the document to sign.
    ///
    /// # Errors
    ///
    /// [`TrustError::Malformed`] when a field leaves its range.
    pub fn emit(&self) -> Result<Vec<u8>, TrustError> {
        let role = |(role, keys): (&Role, &RoleKeys)| messages::Role {
            role: role.number(),
            threshold: keys.threshold,
            keys: keys.keys.iter().map(|key| key.0.to_vec()).collect(),
        };
        let octets = messages::Root {
            schema: 1,
            version: self.version,
            expires: self.expires.seconds(),
            roles: self.roles.iter().map(role).collect(),
            sequence_floor: self.sequence_floor,
            epoch: self.epoch,
        }
        .encode_to_vec();
        Self::read(&octets)?;
        Ok(octets)
    }

    /// Parses the fields without verification, to show a document to people.
    ///
    /// # Errors
    ///
    /// [`TrustError`] when a field leaves its range.
    pub fn read(octets: &[u8]) -> Result<Self, TrustError> {
        strict_protobuf::scan(octets, &ROOT)?;
        let message = messages::Root::decode(octets)
            .map_err(|error| WireError::invalid("root", error, "a protobuf message"))?;
        check_schema("root schema", message.schema)?;
        let roles = message.roles.iter().map(read_role).collect::<Result<Vec<_>, _>>()?;
        let count = roles.len();
        let roles: BTreeMap<_, _> = roles.into_iter().collect();
        if count != Role::ALL.len() || roles.len() != count {
            return Err(WireError::invalid("roles", count, "root, release and campaign").into());
        }
        Ok(Self {
            version: message.version,
            expires: Utc::from_seconds(message.expires),
            roles,
            sequence_floor: message.sequence_floor,
            epoch: message.epoch,
        })
    }
}

/// Roots that lead, each signed by the threshold of the one before, to the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootChain {
    newest: Verified<Root>,
    envelopes: BTreeMap<u64, Vec<u8>>,
}

impl RootChain {
    /// Steps of a chain at most.
    pub const MAX_STEPS: usize = 64;

    /// Verifies envelopes, in any order; the oldest is signed by its own keys.
    ///
    /// # Errors
    ///
    /// [`TrustError`] when there are none or more than [`Self::MAX_STEPS`], when a version is
    /// missing or there twice, or when one root does not follow from the one before it.
    pub fn verify(envelopes: Vec<Vec<u8>>) -> Result<Self, TrustError> {
        check_count("roots", envelopes.len(), Self::MAX_STEPS)?;
        let mut by_version = BTreeMap::new();
        for envelope in envelopes {
            // Only to sort them: the fields are verified below.
            let version = Root::read(Envelope::parse(&envelope)?.payload())?.version;
            if by_version.insert(version, envelope).is_some() {
                return Err(WireError::invalid("roots", version, "each version once").into());
            }
        }
        let mut newest: Option<Verified<Root>> = None;
        for envelope in by_version.values() {
            newest = Some(match &newest {
                None => Root::from_factory(envelope)?,
                Some(before) => Root::successor(before, envelope)?,
            });
        }
        let newest = newest.ok_or_else(|| WireError::invalid("roots", "none", "one or more"))?;
        Ok(Self { newest, envelopes: by_version })
    }

    /// Returns the root that all the others lead to.
    #[must_use]
    pub const fn newest(&self) -> &Verified<Root> {
        &self.newest
    }

    /// Returns the envelopes by version.
    #[must_use]
    pub fn into_envelopes(self) -> BTreeMap<u64, Vec<u8>> {
        self.envelopes
    }
}

/// Checks that a document belongs to the generation of the stored root.
pub(super) fn check_generation(
    root: &Root,
    epoch: u32,
    root_version: u64,
) -> Result<(), TrustError> {
    if epoch != root.epoch {
        let (found, stored) = (epoch.into(), root.epoch.into());
        return Err(TrustError::Generation { what: "epoch", found, stored });
    }
    if root_version > root.version {
        let (found, stored) = (root_version, root.version);
        return Err(TrustError::Generation { what: "root version", found, stored });
    }
    Ok(())
}

fn read_role(message: &messages::Role) -> Result<(Role, RoleKeys), WireError> {
    let role = Role::ALL
        .into_iter()
        .find(|role| role.number() == message.role)
        .ok_or_else(|| WireError::invalid("role", message.role, "1, 2 or 3"))?;
    let mut keys = Vec::new();
    for key in &message.keys {
        let key = PublicKey(key.as_slice().try_into().map_err(|_| {
            WireError::invalid("public key", format!("{} octets", key.len()), "32 octets")
        })?);
        // Two keys of the same octets are one key, or one holder could meet a threshold of two.
        if keys.contains(&key) {
            return Err(WireError::invalid("public key", key.key_id(), "each key once in a role"));
        }
        keys.push(key);
    }
    let possible = 1..=u32::try_from(keys.len()).unwrap_or(u32::MAX);
    if !possible.contains(&message.threshold) {
        let found = message.threshold;
        return Err(WireError::invalid("threshold", found, "1 to the number of the role's keys"));
    }
    Ok((role, RoleKeys { threshold: message.threshold, keys }))
}

static ROLE: MessageSchema = MessageSchema {
    name: "role",
    fields: &[Field::one(1), Field::one(2), Field::many(3)],
    unknown: Unknown::Skip,
};

static ROOT: MessageSchema = MessageSchema {
    name: "root",
    fields: &[
        Field::one(1),
        Field::one(2),
        Field::one(3),
        Field::messages(4, &ROLE),
        Field::one(5),
        Field::one(6),
    ],
    unknown: Unknown::Skip,
};
