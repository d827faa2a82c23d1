//! Reasons for which a document is rejected.

use thiserror::Error;

use super::{document_kind::DocumentKind, role::Role};
use crate::wire::WireError;

/// Reason for which a document is rejected.
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
        /// The key that it names.
        key_id: String,
    },
    /// Two documents do not belong together.
    #[error("{what} of the campaign does not belong to this manifest")]
    Mismatch {
        /// The difference.
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
