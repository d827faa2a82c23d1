//! Checks of fields that several kinds of documents have.

use super::{document_kind::DocumentKind, error::TrustError};
use crate::{ids::ComponentId, wire::WireError};

pub(super) fn check_schema(field: &'static str, found: u32) -> Result<(), WireError> {
    if found == 1 { Ok(()) } else { Err(WireError::invalid(field, found, "1")) }
}

/// No extension is defined, so each one that must be understood is one too many.
pub(super) fn check_critical(document: DocumentKind, numbers: &[u32]) -> Result<(), TrustError> {
    match numbers.first() {
        Some(&number) => Err(TrustError::NotUnderstood { document, number }),
        None => Ok(()),
    }
}

pub(super) fn component_id(field: &'static str, found: u32) -> Result<ComponentId, WireError> {
    u8::try_from(found).map(ComponentId).map_err(|_| WireError::invalid(field, found, "0 to 255"))
}

pub(super) fn fixed<const N: usize>(
    field: &'static str,
    octets: &[u8],
) -> Result<[u8; N], WireError> {
    octets.try_into().map_err(|_| {
        WireError::invalid(field, format!("{} octets", octets.len()), "its fixed length")
    })
}

pub(super) fn check_count(
    field: &'static str,
    found: usize,
    limit: usize,
) -> Result<(), WireError> {
    match found {
        0 => Err(WireError::invalid(field, "empty", "at least one entry")),
        _ if found > limit => {
            let wide = |size| u64::try_from(size).unwrap_or(u64::MAX);
            Err(WireError::TooLarge { field, found: wide(found), limit: wide(limit) })
        }
        _ => Ok(()),
    }
}

pub(super) fn check_unique<T: Ord>(
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
