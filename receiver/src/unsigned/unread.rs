//! Entries and documents of a session that cannot be read: something is announced all the same.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    flute::fdt::skipped::{Place, Skipped},
    ids::Toi,
};

/// Instances that are kept one by one; those beyond it count together.
const MAX_INSTANCES: usize = 64;

/// Parts of a session's FDT that cannot be read.
///
/// They count until the session is over, until an instance that can be read comes under the same
/// ID, or until another one describes the same object. Their expiry changes nothing: what was
/// announced did not arrive.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// By FDT Instance ID.
    instances: BTreeMap<u32, Parts>,
    /// Entries of instances that found no place.
    others: u64,
}

/// Parts of one instance.
#[derive(Debug, Default)]
struct Parts {
    /// Entries of which the TOI can be read.
    tois: BTreeSet<Toi>,
    /// Other entries.
    unnamed: u64,
    /// Set when a document came that cannot be read.
    is_document: bool,
}

impl Parts {
    fn count(&self) -> u64 {
        let tois = u64::try_from(self.tois.len()).unwrap_or(u64::MAX);
        self.unnamed.saturating_add(tois).saturating_add(u64::from(self.is_document))
    }
}

impl Unread {
    /// Takes what was left out of an instance, in place of what its ID had before; `described` are
    /// the objects that it describes.
    pub(super) fn store(&mut self, id: u32, skipped: &Skipped, described: &BTreeSet<Toi>) {
        for parts in self.instances.values_mut() {
            parts.tois.retain(|toi| !described.contains(toi));
        }
        let toi = |place: &Place| match place {
            Place::Entry { toi, .. } => *toi,
            Place::Detail => None,
        };
        let tois: BTreeSet<Toi> =
            skipped.parts.iter().filter_map(|part| toi(&part.place)).collect();
        let named = u64::try_from(tois.len()).unwrap_or(u64::MAX);
        let unnamed = skipped.entries.saturating_sub(named);
        self.put(id, Parts { tois, unnamed, is_document: false });
    }

    /// Counts a document that cannot be read.
    pub(super) fn refuse(&mut self, id: u32) {
        let parts = self.instances.remove(&id).unwrap_or_default();
        self.put(id, Parts { is_document: true, ..parts });
    }

    /// Handles an instance that is held and came again.
    pub(super) fn repeat(&mut self, id: u32) {
        if let Some(parts) = self.instances.remove(&id) {
            self.put(id, Parts { is_document: false, ..parts });
        }
    }

    fn put(&mut self, id: u32, parts: Parts) {
        self.instances.remove(&id);
        self.instances.retain(|_, parts| parts.count() > 0);
        if parts.count() == 0 {
            return;
        }
        if self.instances.len() >= MAX_INSTANCES {
            self.others = self.others.saturating_add(parts.count());
        } else {
            self.instances.insert(id, parts);
        }
    }

    /// Returns the number of parts.
    pub(super) fn count(&self) -> u64 {
        self.instances.values().map(Parts::count).fold(self.others, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proto::{flute::fdt::skipped::SkippedPart, wire::WireError};

    use super::*;

    fn skipped(tois: &[Option<u128>]) -> Skipped {
        let part = |toi: &Option<u128>| SkippedPart {
            place: Place::Entry { number: 1, toi: toi.map(Toi) },
            reason: WireError::invalid("TOI", "odd", "another"),
        };
        Skipped {
            entries: u64::try_from(tois.len()).unwrap(),
            parts: tois.iter().map(part).collect(),
            ..Skipped::default()
        }
    }

    fn tois<const N: usize>(tois: [u128; N]) -> BTreeSet<Toi> {
        tois.map(Toi).into()
    }

    #[test]
    fn an_entry_counts_until_its_object_or_its_instance_is_described() {
        let mut unread = Unread::default();
        unread.store(0, &skipped(&[Some(9), None]), &tois([1]));
        unread.store(1, &skipped(&[]), &tois([2]));
        assert_eq!(unread.count(), 2);
        unread.store(2, &skipped(&[]), &tois([9]));
        assert_eq!(unread.count(), 1);
        unread.store(0, &skipped(&[]), &tois([1]));
        assert_eq!(unread.count(), 0);
    }

    #[test]
    fn a_document_counts_until_its_instance_comes_whole() {
        let mut unread = Unread::default();
        unread.store(3, &skipped(&[None]), &tois([]));
        unread.refuse(3);
        unread.refuse(4);
        assert_eq!(unread.count(), 3);
        unread.repeat(3);
        unread.repeat(4);
        assert_eq!(unread.count(), 1);
    }

    #[test]
    fn any_number_of_instances_is_counted_in_bounded_memory() {
        let mut unread = Unread::default();
        for id in 0..10 * MAX_INSTANCES {
            unread.store(u32::try_from(id).unwrap(), &skipped(&[None]), &tois([]));
        }
        assert_eq!(unread.instances.len(), MAX_INSTANCES);
        assert_eq!(unread.count(), u64::try_from(10 * MAX_INSTANCES).unwrap());
    }
}
