//! Entries and documents of a session that cannot be read: something is announced all the same.

use std::collections::{BTreeMap, BTreeSet};

use proto::{flute::fdt::skipped::Skipped, ids::Toi};

/// Instances that are kept one by one; those beyond it count together.
const MAX_INSTANCES: usize = 64;

/// Objects of a session that are kept one by one.
const MAX_TOIS: usize = 4096;

/// Parts of a session's FDT that cannot be read.
///
/// They count until an instance that can be read comes under the same ID, or another one describes the
/// same object. Neither their expiry nor another session changes anything: what was announced did not
/// arrive.
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
        let others = self.instances.iter().filter(|(other, _)| **other != id);
        let kept: usize = others.map(|(_, parts)| parts.tois.len()).sum();
        let room = MAX_TOIS.saturating_sub(kept);
        let tois: BTreeSet<Toi> = skipped.tois().take(room).collect();
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

    /// Returns whether the entry of an object cannot be read.
    pub(super) fn names(&self, toi: Toi) -> bool {
        self.instances.values().any(|parts| parts.tois.contains(&toi))
    }

    /// Returns the number of parts.
    pub(super) fn count(&self) -> u64 {
        self.instances.values().map(Parts::count).fold(self.others, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(tois: &[Option<u128>]) -> Skipped {
        Skipped {
            entries: u64::try_from(tois.len()).unwrap(),
            tois: tois.iter().flatten().copied().map(Toi).collect(),
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
        assert!(unread.names(Toi(9)) && !unread.names(Toi(1)));
        unread.store(2, &skipped(&[]), &tois([9]));
        assert_eq!(unread.count(), 1);
        assert!(!unread.names(Toi(9)));
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
        let mut unread = Unread::default();
        for id in 0..10_u32 {
            let many: Vec<_> = (0..1000).map(|toi| Some(u128::from(id) * 1000 + toi)).collect();
            unread.store(id, &skipped(&many), &tois([]));
        }
        let kept: usize = unread.instances.values().map(|parts| parts.tois.len()).sum();
        assert_eq!((kept, unread.count()), (MAX_TOIS, 10_000));
    }
}
