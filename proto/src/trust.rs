//! Signed documents, and the hash plan that authenticates packets.
//!
//! ```text
//! root --keys--> manifest (what may exist)  <--digest--  campaign (what may be put on which device)
//!                                                             | plan_root
//!                        symbols  <--leaves--  tables  <--cap--  plan header
//! ```
//!
//! A document is authentic only as a [`Verified`] value, and only the `verify` functions of its
//! type return one.

pub mod bundle;
pub mod campaign;
mod checks;
mod document_kind;
pub mod envelope;
mod error;
pub mod manifest;
#[expect(unreachable_pub, reason = "generated code")]
mod messages;
pub mod plan;
mod role;
pub mod root;
mod strict_protobuf;

pub use campaign::{Campaign, PlannedObject};
pub use document_kind::DocumentKind;
pub use envelope::{Envelope, Verified};
pub use error::TrustError;
pub use manifest::{Component, ComponentEncoding, Manifest, component_class};
pub use role::{Role, RoleKeys};
pub use root::{Root, RootChain};

#[cfg(test)]
mod tests;
