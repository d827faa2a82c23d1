//! The files in reception, and their names and records.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::RangeInclusive,
};

use proto::{
    crypto::Hash16,
    ids::{Sbn, Toi},
    time::Mono,
};

use super::{
    announced::{Progress, SILENT_AFTER},
    entry::{beyond, content, no_parameters},
    eviction::{Usage, victim},
    limits::Limits,
    names::Names,
    object::UnsignedObject,
    output::Output,
    problems::Problems,
    record::{Found, Record, Undigested},
    session::{Description, SessionName, described, session_of},
};
use crate::store::{ObjectLayout, UnsignedIdentity};

/// Files whose opening waits for room, at most.
const MAX_DEFERRED: usize = 4096;

/// Incomplete files that are not in reception, and of which the symbols are kept, at most.
const MAX_ASIDE: usize = 1024;

/// Octets on disk of a file besides its content: its record and its entry in the directory.
const FILE_BYTES: u64 = 8192;

/// A resource that all files share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    /// Files in reception.
    Objects,
    /// Octets of their indexes.
    Index,
    /// Octets on disk.
    Disk,
}

impl Resource {
    /// Returns the amount that a file holds which is not complete.
    fn amount(self, object: &UnsignedObject) -> u64 {
        match self {
            Self::Objects => u64::from(!object.has_failed()),
            Self::Index if object.has_failed() => 0,
            Self::Index => object.layout().index_bytes(),
            Self::Disk => object.disk_bytes() + FILE_BYTES,
        }
    }
}

/// Returns all objects of a session.
fn all_of(session: &SessionName) -> RangeInclusive<UnsignedIdentity> {
    let first = UnsignedIdentity { source: session.0, tsi: session.1, toi: Toi(0) };
    first..=UnsignedIdentity { toi: Toi(u128::MAX), ..first }
}

/// The files in reception, by identity and by key.
#[derive(Debug)]
pub(super) struct ObjectTable {
    limits: Limits,
    objects: BTreeMap<UnsignedIdentity, UnsignedObject>,
    keys: BTreeMap<Hash16, UnsignedIdentity>,
    names: Names<(SessionName, String)>,
    /// Records of files that are not in reception.
    records: BTreeMap<Hash16, Record>,
    undigested: Undigested,
    /// Numbers of the first contents without a digest, where earlier ones are stored.
    generations: BTreeMap<UnsignedIdentity, u32>,
    /// Incomplete files that are described otherwise, or made room for others, oldest first.
    aside: VecDeque<Aside>,
    /// Reasons that the objects do not show.
    problems: Problems,
    /// Objects whose removal is not confirmed: they are not opened before.
    removing: BTreeMap<Hash16, UnsignedIdentity>,
    /// Described files that wait for room and of which no packet may come.
    deferred: BTreeSet<UnsignedIdentity>,
    /// Files that this run completed, by name, and their octets on disk.
    complete: BTreeMap<String, u64>,
    complete_bytes: u64,
    evicted: u64,
}

/// An incomplete file that is not in reception, with its symbols.
#[derive(Debug)]
struct Aside {
    of: UnsignedIdentity,
    layout: ObjectLayout,
    /// Octets that it takes on disk.
    bytes: u64,
}

impl ObjectTable {
    /// Starts from what earlier runs stored, without its [`Leftovers`](super::record::Leftovers).
    pub(super) fn new(limits: Limits, found: Found) -> Self {
        let Found { records, files, undigested, .. } = found;
        let mut names = Names::new(files);
        let (mut known, mut generations) = (BTreeMap::new(), BTreeMap::new());
        for record in records {
            let owner = (session_of(record.identity()), record.location().to_owned());
            names.restore(record.name().to_owned(), owner);
            if let Some(described) = record.described().filter(|it| it.md5.is_none()) {
                // A complete file of an earlier run stays the owner of its name until another
                // content is complete.
                let skipped = u32::from(undigested == Undigested::Anew);
                let first = generations.entry(*record.identity()).or_default();
                *first = described.generation.saturating_add(skipped).max(*first);
            }
            known.insert(record.object_key(), record);
        }
        Self {
            limits,
            objects: BTreeMap::new(),
            keys: BTreeMap::new(),
            names,
            records: known,
            undigested,
            generations,
            aside: VecDeque::new(),
            problems: Problems::default(),
            removing: BTreeMap::new(),
            deferred: BTreeSet::new(),
            complete: BTreeMap::new(),
            complete_bytes: 0,
            evicted: 0,
        }
    }

    /// Returns whether an object is opened as soon as it is described: it needs no packet, or an
    /// earlier run stored symbols of it. Any other is opened with its first symbol: a description
    /// costs its sender nothing. Returns false for a version that a newer one has replaced.
    pub(super) fn opens_at_once(
        &self,
        of: &UnsignedIdentity,
        description: &Description<'_>,
    ) -> bool {
        let entry = description.entry;
        if entry.transferred() == Some(0) {
            return true;
        }
        let Some(oti) = description.early.or(entry.oti) else { return false };
        self.records.contains_key(&of.object_key(&oti, &described(description, &oti)))
    }

    /// Returns the number of the first content of a file in this run.
    pub(super) fn first_generation(&self, of: &UnsignedIdentity) -> u32 {
        self.generations.get(of).copied().unwrap_or_default()
    }

    /// Returns the progress of a file.
    pub(super) fn progress(&self, now: Mono, of: &UnsignedIdentity) -> Progress {
        self.objects.get(of).map_or(Progress::None, |object| object.progress(now))
    }

    /// Returns whether a newer version of a file has all its symbols: an older one is not received
    /// any more.
    pub(super) fn is_replaced(&self, of: &UnsignedIdentity, description: &Description<'_>) -> bool {
        description.superseded_by.is_some_and(|toi| {
            let newer = self.objects.get(&UnsignedIdentity { toi, ..*of });
            newer.is_some_and(UnsignedObject::is_assembled)
        })
    }

    /// Returns whether a block with this number exists in the described object.
    pub(super) fn has_block(description: &Description<'_>, codepoint: u8, sbn: Sbn) -> bool {
        let oti = description.early.or(description.entry.oti);
        oti.is_some_and(|oti| {
            oti.encoding_id() == codepoint && oti.partition().symbols_of(sbn).is_some()
        })
    }

    /// Opens an object once its parameters are known and there is room, which others may have to
    /// make.
    pub(super) fn open(
        &mut self,
        now: Mono,
        of: UnsignedIdentity,
        description: &Description<'_>,
        outputs: &mut VecDeque<Output>,
    ) {
        let Description { entry, early, files, .. } = *description;
        // spec: rfc6726 5 (EXT_FTI takes precedence over the FDT)
        // spec: rfc6726 3.4.2 (a file without octets has no packets; its entry is all that comes)
        let is_empty = entry.transferred() == Some(0);
        let Some(oti) = early.or(entry.oti).or(is_empty.then(no_parameters)) else { return };
        if self.objects.contains_key(&of) || self.is_replaced(&of, description) {
            return;
        }
        let of_key = described(description, &oti);
        let key = of.object_key(&oti, &of_key);
        if self.removing.contains_key(&key) {
            return self.defer(of);
        }
        let location = &entry.content_location;
        let known = self.records.get(&key).filter(|record| {
            // What was described is compared before it counts for anything.
            record.is_of(&of, &of_key, location)
                && (!record.is_complete() || record.may_resume(self.undigested))
        });
        let record = known.cloned().unwrap_or_else(|| {
            let owner = (session_of(&of), location.clone());
            let name = self.names.claim(location, owner, &key);
            Record::new(key, of, of_key, name, location.clone())
        });
        let content = content(&self.limits, entry, &oti, record.name().to_owned());
        let Some(layout) = ObjectLayout::unsigned(&of, &of_key, oti, content) else { return };
        let parameters = if is_empty { Ok(None) } else { entry.parameters(early) };
        let contradiction = parameters.err().map(|error| error.to_string());
        // The parameters may be those of an earlier content.
        let is_contradicted = contradiction.is_some();
        let problem = contradiction
            .or_else(|| beyond(&self.limits, &layout, entry))
            .or_else(|| self.beyond_count());
        let needs_room = problem.is_none() && !record.is_complete();
        let has_room = !needs_room
            || self.make_room(now, &of, Resource::Objects, 1, outputs)
                && self.make_room(now, &of, Resource::Index, layout.index_bytes(), outputs)
                && self.make_room(now, &of, Resource::Disk, FILE_BYTES, outputs);
        if !has_room {
            return self.defer(of);
        }
        self.deferred.remove(&of);
        self.aside.retain(|aside| aside.layout.object_key() != key);
        let unsynced = self.limits.unsynced_bytes / files.max(1);
        let mut object =
            UnsignedObject::new(now, layout.clone(), record, entry.clone(), unsynced, problem);
        if is_contradicted {
            object.retry_after(now, self.limits.retry_after);
        }
        if let Some(sha256) = object.record().sha256().filter(|_| object.is_rechecking()) {
            outputs.push_back(Output::VerifyKept(layout, sha256));
        } else if !object.has_failed() {
            // A directory without a record belongs to nobody.
            let record = object.record();
            outputs.push_back(Output::WriteRecord(record.file_name(), record.emit()));
            outputs.push_back(Output::Open(layout));
        }
        self.keys.insert(key, of);
        self.objects.insert(of, object);
    }

    /// Notes the reason why packets of a file cannot be used, unless there is one.
    pub(super) fn note(&mut self, of: UnsignedIdentity, reason: impl FnOnce() -> String) {
        self.problems.note(of, reason);
    }

    /// Returns the reason why a file is not being received.
    pub(super) fn problem(&self, of: &UnsignedIdentity) -> Option<String> {
        let failed = self.problems.failed(of);
        if failed.is_some() {
            return failed;
        }
        if self.aside.iter().any(|aside| aside.of == *of) {
            return Some(
                "no symbol came for long, others have its place; its symbols are kept".into(),
            );
        }
        if self.deferred.contains(of) {
            let limit = self.limits.objects;
            return Some(format!("it waits for a place: {limit} files are received at a time"));
        }
        self.problems.of_packets(of)
    }

    /// Returns the files that can make room for others of their session, which wait for it, each
    /// with the time of its last symbol.
    fn waited_for(&self) -> impl Iterator<Item = (Mono, UnsignedIdentity)> {
        let sessions: BTreeSet<_> = self.deferred.iter().map(session_of).collect();
        let open = self.objects.iter().filter(move |(of, object)| {
            sessions.contains(&session_of(of)) && object.is_evictable() && !object.has_failed()
        });
        open.map(|(of, object)| (object.stored_at(), *of))
    }

    /// Sets files aside of which no symbol came for long, for others of their session that wait for
    /// room; returns their number. Their symbols are kept.
    pub(super) fn set_silent_aside(&mut self, now: Mono, outputs: &mut VecDeque<Output>) -> usize {
        let is_silent = |(at, _): &(Mono, UnsignedIdentity)| now.since(*at) >= SILENT_AFTER;
        let mut silent: Vec<_> = self.waited_for().filter(is_silent).collect();
        silent.sort_unstable();
        silent.truncate(self.deferred.len());
        silent.iter().for_each(|(_, of)| self.set_aside(of, outputs));
        silent.len()
    }

    /// Ends the reception of an incomplete file, and keeps its symbols.
    fn set_aside(&mut self, of: &UnsignedIdentity, outputs: &mut VecDeque<Output>) {
        let Some(object) = self.objects.get_mut(of) else { return };
        object.flush();
        object.drain_log(outputs);
        let (layout, bytes) = (object.layout().clone(), object.disk_bytes() + FILE_BYTES);
        self.records.insert(layout.object_key(), object.record().clone());
        self.aside.push_back(Aside { of: *of, layout, bytes });
        self.forget(of);
        if self.aside.len() > MAX_ASIDE
            && let Some(Aside { of, layout, .. }) = self.aside.pop_front()
        {
            self.remove_record(&layout, outputs);
            self.remove(of, layout, outputs);
        }
    }

    fn defer(&mut self, of: UnsignedIdentity) {
        if self.deferred.len() < MAX_DEFERRED {
            self.deferred.insert(of);
        }
    }

    /// Returns the files that waited for room.
    pub(super) fn take_deferred(&mut self) -> BTreeSet<UnsignedIdentity> {
        std::mem::take(&mut self.deferred)
    }

    fn beyond_count(&self) -> Option<String> {
        let limit = self.limits.complete_files;
        let all = u64::try_from(self.complete.len()).unwrap_or(u64::MAX) >= limit;
        all.then(|| format!("this run has completed {limit} files, the most that are accepted"))
    }

    /// Requests the next log of an object that needs it, if others make room.
    pub(super) fn reserve(
        &mut self,
        now: Mono,
        of: &UnsignedIdentity,
        outputs: &mut VecDeque<Output>,
    ) {
        let Some(bytes) = self.objects.get(of).and_then(|object| object.wanted_bytes(now)) else {
            return;
        };
        let has_room = self.make_room(now, of, Resource::Disk, bytes, outputs);
        let Some(object) = self.objects.get_mut(of) else { return };
        match has_room {
            true => object.request_log(outputs),
            false => object.refuse_log(self.limits.disk_bytes),
        }
    }

    /// Returns whether `amount` more of a resource fits its limit, after others made room for it.
    fn make_room(
        &mut self,
        now: Mono,
        of: &UnsignedIdentity,
        resource: Resource,
        amount: u64,
        outputs: &mut VecDeque<Output>,
    ) -> bool {
        let limit = match resource {
            Resource::Objects => u64::try_from(self.limits.objects).unwrap_or(u64::MAX),
            Resource::Index => self.limits.index_bytes,
            Resource::Disk => self.limits.disk_bytes.saturating_sub(self.complete_bytes),
        };
        loop {
            if self.held(resource).saturating_add(amount) <= limit {
                return true;
            }
            if resource == Resource::Disk
                && let Some(Aside { of, layout, .. }) = self.aside.pop_front()
            {
                self.remove_record(&layout, outputs);
                self.remove(of, layout, outputs);
                continue;
            }
            let (mut usage, asking, oldest) = (self.usage(resource), session_of(of), self.oldest());
            usage.retain(|session, _| *session == asking || oldest.contains_key(session));
            let chosen = victim(now, self.limits.idle_after, &usage, &asking, amount);
            let Some((_, oldest)) = chosen.and_then(|session| oldest.get(&session)) else {
                return false;
            };
            self.evict(oldest, outputs);
        }
    }

    fn held(&self, resource: Resource) -> u64 {
        let objects = self.objects.values().filter(|object| !object.is_complete());
        let aside: u64 = match resource {
            Resource::Disk => self.aside.iter().map(|aside| aside.bytes).sum(),
            Resource::Objects | Resource::Index => 0,
        };
        objects.map(|object| resource.amount(object)).sum::<u64>() + aside
    }

    /// Returns the use of a resource by the sessions.
    fn usage(&self, resource: Resource) -> BTreeMap<SessionName, Usage> {
        let mut usage: BTreeMap<SessionName, Usage> = BTreeMap::new();
        for (of, object) in self.objects.iter().filter(|(_, object)| !object.is_complete()) {
            let of_session = usage.entry(session_of(of)).or_default();
            of_session.held += resource.amount(object);
            of_session.reserved_bytes += object.disk_bytes();
            of_session.filled_bytes += object.filled_bytes();
            of_session.stored_at = of_session.stored_at.max(object.stored_at());
        }
        usage
    }

    /// Returns of each session the file that is without a symbol for longest, of those that can
    /// make room.
    fn oldest(&self) -> BTreeMap<SessionName, (Mono, UnsignedIdentity)> {
        let mut oldest: BTreeMap<SessionName, (Mono, UnsignedIdentity)> = BTreeMap::new();
        for (of, object) in self.objects.iter().filter(|(_, object)| object.is_evictable()) {
            if object.disk_bytes() > 0 || !object.has_failed() {
                let found = (object.stored_at(), *of);
                let kept = oldest.entry(session_of(of)).or_insert(found);
                *kept = found.min(*kept);
            }
        }
        oldest
    }

    /// Removes a file that is not complete, and what is stored of it.
    fn evict(&mut self, of: &UnsignedIdentity, outputs: &mut VecDeque<Output>) {
        self.evicted += 1;
        self.drop_incomplete(of, outputs);
    }

    /// Removes a file that is not complete, and what is stored of it: another one takes its place.
    pub(super) fn drop_incomplete(
        &mut self,
        of: &UnsignedIdentity,
        outputs: &mut VecDeque<Output>,
    ) {
        let Some(object) = self.objects.remove(of) else { return };
        let (layout, name) = (object.layout().clone(), object.record().name().to_owned());
        self.keys.remove(&layout.object_key());
        self.problems.forget(of);
        outputs.push_back(Output::RemoveRecord(object.record().file_name()));
        self.remove(*of, layout, outputs);
        self.release(&name);
    }

    /// Ends the reception of a file that is described otherwise from here on. A complete one keeps
    /// its name until the other is complete; the symbols of one with a digest are kept.
    pub(super) fn replace(&mut self, of: &UnsignedIdentity, outputs: &mut VecDeque<Output>) {
        let Some(object) = self.objects.get_mut(of) else { return };
        if object.is_complete() {
            self.records.insert(object.layout().object_key(), object.record().clone());
            self.forget(of);
        } else if object.is_refused() {
            self.forget(of);
        } else if object.has_digest() {
            self.set_aside(of, outputs);
        } else {
            self.drop_incomplete(of, outputs);
        }
    }

    /// Forgets a complete file whose content is another than its record states; returns it.
    pub(super) fn lose(
        &mut self,
        key: Hash16,
        outputs: &mut VecDeque<Output>,
    ) -> Option<UnsignedIdentity> {
        let of = *self.keys.get(&key)?;
        let object = self.objects.get(&of)?;
        outputs.push_back(Output::RemoveRecord(object.record().file_name()));
        self.records.remove(&key);
        self.forget(&of);
        Some(of)
    }

    /// Handles the completion of a file: it has replaced all that had its name.
    pub(super) fn handle_complete(&mut self, key: Hash16, outputs: &mut VecDeque<Output>) {
        let Some(of) = self.keys.get(&key).copied() else { return };
        let Some(object) = self.objects.get(&of) else { return };
        let (name, bytes) = (object.record().name().to_owned(), object.layout().image_bytes());
        self.count_complete(name.clone(), bytes);
        let former = |record: &Record| {
            record.is_complete() && record.object_key() != key && record.name() == name
        };
        let records: Vec<_> = self.records.values().filter(|record| former(record)).collect();
        outputs.extend(records.iter().map(|record| Output::RemoveRecord(record.file_name())));
        self.records.retain(|_, record| !former(record));
        let others = self.objects.iter().filter(|(_, object)| {
            // One that is being named is the newer version.
            object.is_complete() && former(object.record())
        });
        let others: Vec<_> = others.map(|(of, _)| *of).collect();
        for of in others {
            if let Some(object) = self.objects.get(&of) {
                outputs.push_back(Output::RemoveRecord(object.record().file_name()));
            }
            self.forget(&of);
        }
    }

    fn remove_record(&mut self, layout: &ObjectLayout, outputs: &mut VecDeque<Output>) {
        if let Some(record) = self.records.remove(&layout.object_key()) {
            outputs.push_back(Output::RemoveRecord(record.file_name()));
        }
    }

    /// Removes what is stored of an object: its symbols, and its own incomplete file.
    fn remove(
        &mut self,
        of: UnsignedIdentity,
        layout: ObjectLayout,
        outputs: &mut VecDeque<Output>,
    ) {
        let key = layout.object_key();
        self.records.remove(&key);
        self.removing.insert(key, of);
        outputs.push_back(Output::DiscardObject(layout));
    }

    fn release(&mut self, name: &str) {
        if !self.is_used(name) {
            self.names.release(name);
        }
    }

    fn is_used(&self, name: &str) -> bool {
        let open = self.objects.values().filter(|object| !object.is_refused());
        open.map(UnsignedObject::record)
            .chain(self.records.values())
            .any(|record| record.name() == name)
    }

    /// Forgets the files of a session: those in reception are removed, complete ones stay.
    pub(super) fn forget_session(&mut self, session: &SessionName, outputs: &mut VecDeque<Output>) {
        let all: Vec<_> = self.objects.range(all_of(session)).map(|(of, _)| *of).collect();
        self.deferred.retain(|of| session_of(of) != *session);
        for of in all {
            let Some(object) = self.objects.get(&of) else { continue };
            if object.is_complete() {
                let next = object.record().described().map_or(0, |it| it.generation + 1);
                self.generations.insert(of, next);
                self.records.insert(object.layout().object_key(), object.record().clone());
                self.forget(&of);
            } else if object.is_evictable() {
                self.evict(&of, outputs);
            } else if object.is_refused() {
                self.forget(&of);
            }
        }
    }

    /// Forgets a file that the storage failed, or whose parameters were contradicted, so that it is
    /// opened anew, if its time has come; returns whether it did.
    pub(super) fn retry_failed(&mut self, now: Mono, of: &UnsignedIdentity) -> bool {
        let is_due = self.objects.get(of).is_some_and(|object| object.may_retry(now));
        if is_due && let Some(object) = self.objects.remove(of) {
            let key = object.layout().object_key();
            self.keys.remove(&key);
            self.records.insert(key, object.record().clone());
        }
        is_due
    }

    /// Counts a file that this run completed, in place of the one that had its name.
    fn count_complete(&mut self, name: String, bytes: u64) {
        let bytes = bytes.saturating_add(FILE_BYTES);
        let before = self.complete.insert(name, bytes).unwrap_or_default();
        self.complete_bytes = self.complete_bytes.saturating_sub(before).saturating_add(bytes);
    }

    /// Returns how many files made room for others.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Returns the octets on disk of all files of this run.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.complete_bytes + self.held(Resource::Disk)
    }

    /// Handles the confirmed removal of an object; returns it if it was to be opened meanwhile.
    pub(super) fn handle_discarded(&mut self, key: Hash16) -> Option<UnsignedIdentity> {
        self.removing.remove(&key).filter(|of| self.deferred.remove(of))
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
        let layout = object.layout().clone();
        outputs.push_back(Output::RemoveRecord(object.record().file_name()));
        object.refuse(format!("{why}; received twice, then rejected"));
        self.remove(of, layout, outputs);
        if self.problems.fail(of, why) {
            self.keys.remove(&key);
            self.objects.remove(&of);
            return Some(of);
        }
        None
    }

    /// Forgets a file, which is described otherwise.
    pub(super) fn forget(&mut self, of: &UnsignedIdentity) {
        self.objects.remove(of);
        self.keys.retain(|_, it| it != of);
        self.problems.forget(of);
    }

    /// Returns the files that are open, complete or not.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.objects.len()
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
        let digits = name.get(..16)?;
        let of_half =
            |half: char| Hash16::from_hex(&format!("{digits}{}", half.to_string().repeat(16)));
        let (_, of) = self.keys.range(of_half('0')?..=of_half('f')?).next()?;
        self.objects.get_mut(of).filter(|object| object.record().file_name() == name)
    }

    /// Records that the symbols of a session after a pause are of the same contents, but for those
    /// files of which `is_other` holds; returns the keys of the files.
    pub(super) fn settle(
        &mut self,
        session: &SessionName,
        is_other: impl Fn(&UnsignedIdentity) -> bool,
    ) -> Vec<Hash16> {
        let of_session = self.objects.range_mut(all_of(session));
        let same = of_session.filter(|(of, object)| !object.is_complete() && !is_other(of));
        same.map(|(_, object)| {
            object.settle();
            object.layout().object_key()
        })
        .collect()
    }

    /// Lets the files of a session be complete that waited for an instance after a pause; returns
    /// their keys.
    pub(super) fn release_held_back(&mut self, session: &SessionName) -> Vec<Hash16> {
        let held = self.objects.range_mut(all_of(session));
        let held =
            held.filter_map(|(_, object)| object.release().then(|| object.layout().object_key()));
        held.collect()
    }

    /// Flushes the logs that are due; returns the keys of their objects.
    pub(super) fn tick(&mut self, now: Mono) -> Vec<Hash16> {
        self.objects.values_mut().filter_map(|object| object.tick(now)).collect()
    }

    /// Returns the time of the next [`Self::tick`].
    pub(super) fn deadline(&self) -> Option<Mono> {
        let due = self.objects.values().filter_map(UnsignedObject::deadline);
        due.chain(self.waited_for().map(|(at, _)| at + SILENT_AFTER)).min()
    }

    /// Returns whether a completion of the storage or the decoder is outstanding.
    pub(super) fn is_busy(&self) -> bool {
        self.objects.values().any(UnsignedObject::is_busy)
    }
}
