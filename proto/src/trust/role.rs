//! Roles, and the keys that sign for them.

use crate::crypto::PublicKey;

crate::words! {
    /// The role of a key.
    pub enum Role: "role" {
        /// Signs roots.
        Root = "root",
        /// Signs manifests: the manufacturer.
        Release = "release",
        /// Signs campaigns: the operator.
        Campaign = "campaign",
    }
}

impl Role {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Root => 1,
            Self::Release => 2,
            Self::Campaign => 3,
        }
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
