//! Roles, and the keys that sign for them.

use std::fmt;

use crate::crypto::PublicKey;

/// Who signs what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Signs roots.
    Root,
    /// Signs manifests: the manufacturer.
    Release,
    /// Signs campaigns: the operator.
    Campaign,
}

impl Role {
    /// All roles, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Root, Self::Release, Self::Campaign];

    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Root => 1,
            Self::Release => 2,
            Self::Campaign => 3,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Campaign => "campaign",
        })
    }
}

/// The keys of one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    /// Distinct keys that must have signed, at least 1.
    pub threshold: u32,
    /// Distinct public keys.
    pub keys: Vec<PublicKey>,
}
