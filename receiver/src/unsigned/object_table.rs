//! The files in reception, and their names and records.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::{crypto::Hash16, time::Mono};

use super::{
    entry::{beyond, content, no_parameters},
    limits::Limits,
    names::Names,
    object::UnsignedObject,
    output::Output,
    record::Record,
    session::{Description, SessionName, session_of},
};
use crate::store::{ObjectLayout, UnsignedIdentity};

/// The files in reception, by identity and by key.
#[derive(Debug)]
pub(super) struct ObjectTable {
    limits: Limits,
    objects: BTreeMap<UnsignedIdentity, UnsignedObject>,
    keys: BTreeMap<Hash16, UnsignedIdentity>,
    names: Names<(SessionName, String)>,
    records: BTreeMap<Hash16, Record>,
    /// Files in their second reception, after a failed verification.
    again: BTreeSet<UnsignedIdentity>,
}

impl ObjectTable {
    /// Starts from what earlier runs stored.
    pub(super) fn new(
        limits: Limits,
        records: Vec<Record>,
        files: BTreeSet<String>,
        outputs: &mut VecDeque<Output>,
    ) -> Self {
        let mut names = Names::new(files.clone());
        let mut known = BTreeMap::new();
        for record in records {
            if record.is_complete() && !files.contains(record.name()) {
                // The user removed the file: it may be received again.
                outputs.push_back(Output::RemoveRecord(record.file_name()));
                continue;
            }
            let owner = (session_of(record.identity()), record.location().to_owned());
            names.restore(record.name().to_owned(), owner);
            known.insert(record.object_key(), record);
        }
        Self {
            limits,
            objects: BTreeMap::new(),
            keys: BTreeMap::new(),
            names,
            records: known,
            again: BTreeSet::new(),
        }
    }

    /// Opens an object once its parameters are known and there is room.
    pub(super) fn open(
        &mut self,
        of: UnsignedIdentity,
        description: &Description<'_>,
        outputs: &mut VecDeque<Output>,
    ) {
        let Description { entry, early, files } = *description;
        // spec: rfc6726 5 (EXT_FTI takes precedence over the FDT)
        // spec: rfc6726 3.4.2 (a file without octets has no packets; its entry is all that comes)
        let is_empty = entry.transferred() == Some(0);
        let Some(oti) = early.or(entry.oti).or(is_empty.then(no_parameters)) else { return };
        if self.objects.contains_key(&of) {
            return;
        }
        if self.receiving().count() >= self.limits.objects {
            return;
        }
        let key = of.object_key(&oti);
        let location = &entry.content_location;
        let record = match self.records.get(&key) {
            Some(record) => record.clone(),
            None => {
                let owner = (session_of(&of), location.clone());
                Record::new(key, of, self.names.claim(location, owner, &key), location.clone())
            }
        };
        let content = content(&self.limits, entry, &oti, record.name().to_owned());
        let Some(layout) = ObjectLayout::unsigned(&of, oti, content) else { return };
        let parameters = if is_empty { Ok(None) } else { entry.parameters(early) };
        let contradiction = parameters.err().map(|error| error.to_string());
        let problem = contradiction.or_else(|| beyond(&self.limits, &layout, entry));
        let kept: u64 = self.receiving().map(|object| object.layout().index_bytes()).sum();
        let has_room = kept + layout.index_bytes() <= self.limits.index_bytes;
        if problem.is_none() && !record.is_complete() && !has_room {
            return;
        }
        let unsynced = self.limits.unsynced_bytes / files.max(1);
        let object = UnsignedObject::new(layout.clone(), record, entry.clone(), unsynced, problem);
        if object.is_complete() {
            outputs.push_back(Output::Complete(object.report()));
        } else if !object.has_failed() {
            outputs.push_back(Output::Open(layout));
        }
        self.keys.insert(key, of);
        self.objects.insert(of, object);
    }

    fn receiving(&self) -> impl Iterator<Item = &UnsignedObject> {
        self.objects.values().filter(|object| !object.is_complete() && !object.has_failed())
    }

    /// Discards what was received of a file whose content is wrong. Returns the file when it is to
    /// be received once more; the second time it is rejected.
    pub(super) fn discard(
        &mut self,
        key: Hash16,
        why: &str,
        outputs: &mut VecDeque<Output>,
    ) -> Option<UnsignedIdentity> {
        let of = *self.keys.get(&key)?;
        let object = self.objects.get_mut(&of)?;
        self.records.remove(&key);
        outputs.push_back(Output::RemoveRecord(object.record().file_name()));
        outputs.push_back(Output::RemoveObject(object.layout().clone()));
        if self.again.insert(of) {
            self.keys.remove(&key);
            self.objects.remove(&of);
            return Some(of);
        }
        object.refuse(format!("{why}; received twice, then rejected"));
        None
    }

    /// Forgets a file, which is described otherwise.
    pub(super) fn forget(&mut self, of: &UnsignedIdentity) {
        self.objects.remove(of);
        self.keys.retain(|_, it| it != of);
        self.again.remove(of);
    }

    /// Returns the object of a file, if it is open.
    pub(super) fn get(&self, of: &UnsignedIdentity) -> Option<&UnsignedObject> {
        self.objects.get(of)
    }

    /// Returns the object of a file, to change it.
    pub(super) fn get_mut(&mut self, of: &UnsignedIdentity) -> Option<&mut UnsignedObject> {
        self.objects.get_mut(of)
    }

    /// Returns the file with a key.
    pub(super) fn with_key(&self, key: Hash16) -> Option<UnsignedIdentity> {
        self.keys.get(&key).copied()
    }

    /// Returns the object with a key.
    pub(super) fn with_key_mut(&mut self, key: Hash16) -> Option<&mut UnsignedObject> {
        self.objects.get_mut(self.keys.get(&key)?)
    }

    /// Returns the keys of all objects.
    pub(super) fn keys(&self) -> Vec<Hash16> {
        self.keys.keys().copied().collect()
    }

    /// Returns the object whose record has a name.
    pub(super) fn with_record(&mut self, name: &str) -> Option<&mut UnsignedObject> {
        self.objects.values_mut().find(|object| object.record().file_name() == name)
    }

    /// Flushes the logs that are due; returns the keys of their objects.
    pub(super) fn tick(&mut self, now: Mono) -> Vec<Hash16> {
        self.objects.values_mut().filter_map(|object| object.tick(now)).collect()
    }

    /// Returns the time of the next [`Self::tick`].
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.objects.values().filter_map(UnsignedObject::deadline).min()
    }

    /// Returns whether a completion of the storage or the decoder is outstanding.
    pub(super) fn is_busy(&self) -> bool {
        self.objects.values().any(UnsignedObject::is_busy)
    }
}
