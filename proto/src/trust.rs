//! Signed documents, and the hash plan that authenticates packets.
//!
//! ```text
//! root --keys--> manifest (what may exist)  <--digest--  campaign (what may be put on which device)
//!                                                             | plan_root
//!                        symbols  <--leaves--  tables  <--cap--  plan header
//! ```
//!
//! A document is believed only as a [`Verified`] value, and only the `verify` functions of its
//! type make one.

pub mod bundle;
pub mod campaign;
pub mod envelope;
pub mod manifest;
pub mod plan;
pub mod root;
mod strict;

use thiserror::Error;

pub use campaign::{Campaign, PlannedObject};
pub use envelope::{DocumentKind, Envelope, Verified};
pub use manifest::{Component, ComponentEncoding, Manifest, component_class};
pub use root::{Role, Root, RootChain};

use crate::{ids::ComponentId, wire::WireError};

/// Why a document is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrustError {
    /// The octets are no document of the expected kind, or a field leaves its range.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// Too few keys of the role have signed.
    #[error("{valid} of {needed} needed signatures by {role} keys are valid")]
    Threshold {
        /// The role that must sign this kind of document.
        role: Role,
        /// Distinct keys of the role whose signature is valid.
        valid: usize,
        /// The role's threshold.
        needed: u32,
    },
    /// An extension that must be understood is unknown.
    #[error("{document} needs extension {number}, which is not understood")]
    NotUnderstood {
        /// The document's kind.
        document: DocumentKind,
        /// The extension's number.
        number: u32,
    },
    /// A signature was made by another key or over another document.
    #[error("the signature is not one of key {key_id} over this document")]
    ForeignSignature {
        /// Whose it was said to be.
        key_id: String,
    },
    /// Two documents do not belong together.
    #[error("{what} of the campaign does not belong to this manifest")]
    Mismatch {
        /// What differs.
        what: &'static str,
    },
    /// The document belongs to another generation of the root.
    #[error("{what} is {found}, the stored root has {stored}")]
    Generation {
        /// `epoch` or `root version`.
        what: &'static str,
        /// In the document.
        found: u64,
        /// In the stored root.
        stored: u64,
    },
}

fn check_schema(field: &'static str, found: u32) -> Result<(), WireError> {
    if found == 1 { Ok(()) } else { Err(WireError::invalid(field, found, "1")) }
}

/// No extension is defined, so each one that must be understood is one too many.
fn check_critical(document: DocumentKind, numbers: &[u32]) -> Result<(), TrustError> {
    match numbers.first() {
        Some(&number) => Err(TrustError::NotUnderstood { document, number }),
        None => Ok(()),
    }
}

fn check_generation(root: &Root, epoch: u32, root_version: u64) -> Result<(), TrustError> {
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

fn component_id(field: &'static str, found: u32) -> Result<ComponentId, WireError> {
    u8::try_from(found).map(ComponentId).map_err(|_| WireError::invalid(field, found, "0 to 255"))
}

fn fixed<const N: usize>(field: &'static str, octets: &[u8]) -> Result<[u8; N], WireError> {
    octets.try_into().map_err(|_| {
        WireError::invalid(field, format!("{} octets", octets.len()), "its fixed length")
    })
}

fn check_count(field: &'static str, found: usize, limit: usize) -> Result<(), WireError> {
    match found {
        0 => Err(WireError::invalid(field, "empty", "at least one entry")),
        _ if found > limit => {
            let wide = |size| u64::try_from(size).unwrap_or(u64::MAX);
            Err(WireError::TooLarge { field, found: wide(found), limit: wide(limit) })
        }
        _ => Ok(()),
    }
}

fn check_unique<T: Ord>(
    field: &'static str,
    mut items: impl Iterator<Item = T>,
) -> Result<(), WireError> {
    let mut seen = std::collections::BTreeSet::new();
    if items.all(|item| seen.insert(item)) {
        Ok(())
    } else {
        Err(WireError::invalid(field, "the same twice", "each once"))
    }
}

#[cfg(test)]
mod tests;

#[expect(unreachable_pub, reason = "generated code")]
mod messages {
    include!("generated/trust.rs");
}
