//! Receives unsigned files from any FLUTE session.
//!
//! ```text
//! datagram ─► session (sender, TSI) ─► FDT ─► entries
//!                    └─► object ◄──────────────┘   waits for its entry and its FEC parameters
//!                          └─► symbols ─► blocks ─► NAME.part ─► NAME
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`object`] | the reception of one file |
//! | [`entry`] | an FDT entry as content to receive, and the limits on it |
//! | [`waiting`] | packets that wait for an entry, in bounded memory |
//! | [`limits`], [`output`] | limits; effects for the shell |
//! | [`names`] | file names made from a `Content-Location` |
//! | [`record`] | the state of a file that survives a restart, beside its symbols |
//! | [`status`] | files and counters as the user sees them |
//! | [`dissect`] | the content of a capture, for people |
//!
//! A session is identified by sender and TSI, an object by its TOI within a session. The flags A
//! and B are hints that anyone can forge: no packet is dropped because of them. The first
//! description of a TOI counts; contradicting ones are counted and dropped. A file that does not
//! match its description is received once more; after that it is rejected until it is described
//! otherwise.

pub mod dissect;
pub mod entry;
pub mod limits;
pub mod names;
pub mod object;
pub mod output;
pub mod record;
pub mod status;
#[cfg(test)]
mod tests;
pub mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use proto::{
    crypto::{Digest, Hash16},
    fec::oti::Oti,
    flute::{
        alc::Packet,
        fdt::{
            FileEntry,
            store::{FdtEvent, FdtStore},
        },
    },
    ids::{Sbn, Toi, Tsi},
    time::{Mono, Now, Utc},
};

use self::{
    entry::{beyond, content, no_parameters},
    names::Names,
    object::{PacketOutcome, UnsignedObject},
    record::Record,
    status::unopened,
    waiting::Waiting,
};
pub use self::{
    limits::Limits,
    output::Output,
    status::{UnsignedFile, UnsignedStats},
};
use crate::{
    flute::decode::DecodeOutcome,
    store::{ObjectLayout, Recovered, StorageError, Ticket, UnsignedIdentity},
};

/// Selection of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// The only sender to accept.
    pub source: Option<IpAddr>,
    /// The only session to accept.
    pub tsi: Option<Tsi>,
}

/// Content of the output directory at the start.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Records of earlier runs.
    pub records: Vec<Record>,
    /// Names of all files there.
    pub files: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Session {
    // spec: rfc6726 3.2 (the table is local to the session)
    fdt: FdtStore,
    entries: BTreeMap<Toi, FileEntry>,
    /// Expiry of the last instance that describes an object.
    described_until: BTreeMap<Toi, Utc>,
    /// Parameters that arrived in EXT_FTI before their entry.
    early: BTreeMap<Toi, Oti>,
    last_received: Mono,
}

type SessionName = (IpAddr, Tsi);

/// The receiver core of unsigned sessions.
#[derive(Debug)]
pub struct UnsignedReceiver {
    limits: Limits,
    filter: Filter,
    sessions: BTreeMap<SessionName, Session>,
    objects: BTreeMap<UnsignedIdentity, UnsignedObject>,
    keys: BTreeMap<Hash16, UnsignedIdentity>,
    names: Names<(SessionName, String)>,
    records: BTreeMap<Hash16, Record>,
    /// Files in their second reception, after a failed verification.
    again: BTreeSet<UnsignedIdentity>,
    waiting: Waiting,
    outputs: VecDeque<Output>,
    stats: UnsignedStats,
}

impl UnsignedReceiver {
    /// Starts from what earlier runs stored.
    #[must_use]
    pub fn new(limits: Limits, filter: Filter, found: Found) -> Self {
        let Found { records, files } = found;
        let mut names = Names::new(files.clone());
        let mut outputs = VecDeque::new();
        let mut known = BTreeMap::new();
        for record in records {
            if record.complete && !files.contains(&record.name) {
                // The user removed the file: it may be received again.
                outputs.push_back(Output::RemoveRecord(record.file_name()));
                continue;
            }
            let owner = (session_of(&record.identity), record.location.clone());
            names.restore(record.name.clone(), owner);
            known.insert(record.object_key, record);
        }
        Self {
            limits,
            filter,
            sessions: BTreeMap::new(),
            objects: BTreeMap::new(),
            keys: BTreeMap::new(),
            names,
            records: known,
            again: BTreeSet::new(),
            waiting: Waiting::new(limits.waiting_bytes),
            outputs,
            stats: UnsignedStats::default(),
        }
    }

    /// Handles a datagram from `source`.
    pub fn handle_datagram(&mut self, now: Now, source: IpAddr, datagram: &[u8]) {
        self.stats.datagrams += 1;
        // spec: rfc5651 6.2, rfc5775 4.4 (an unreadable packet is dropped)
        let Ok(packet) = Packet::parse(datagram) else {
            self.stats.malformed += 1;
            return;
        };
        let tsi = packet.header.tsi;
        // spec: rfc5775 5.1.2.4
        let meant = self.filter.source.is_none_or(|only| only == source)
            && self.filter.tsi.is_none_or(|only| only == tsi);
        if !meant {
            self.stats.wrong_session += 1;
            return;
        }
        // spec: rfc6726 3.1, rfc5651 4.1, rfc5775 2.1 (a session is a sender and a TSI)
        let name = (source, tsi);
        if !self.admit_session(now, name) {
            self.stats.sessions_refused += 1;
            return;
        }
        let (Some(toi), Some(_)) = (packet.header.toi, packet.payload) else {
            // spec: rfc5651 5.1 (A and B are hints: nothing is dropped because of them)
            // spec: rfc5651 8.1
            self.stats.data_less += 1;
            return;
        };
        if toi == Toi::FDT {
            self.handle_fdt(now, name, &packet);
        } else {
            let of = UnsignedIdentity { source, tsi, toi };
            if self.is_outdated(now.utc, &of) {
                self.stats.dropped += 1;
                return;
            }
            self.handle_data(now.mono, of, &packet, datagram);
        }
    }

    /// Returns whether every description of an unfinished object has expired.
    fn is_outdated(&self, now: Utc, of: &UnsignedIdentity) -> bool {
        // spec: rfc6726 3.3 (an expired instance does not describe packets that arrive later)
        let session = self.sessions.get(&session_of(of));
        let until = session.and_then(|session| session.described_until.get(&of.toi));
        until.is_some_and(|until| *until <= now)
            && !self.objects.get(of).is_some_and(UnsignedObject::is_complete)
    }

    /// Handles the content of an object's directory.
    pub fn handle_recovered(&mut self, now: Now, key: Hash16, recovered: &Recovered) {
        let Some(object) = self.object_mut(key) else { return };
        object.handle_recovered(recovered);
        self.proceed(key);
        self.retry(now.mono, key);
    }

    /// Handles the reservation of the first `files` logs of an object.
    pub fn handle_reserved(&mut self, now: Now, key: Hash16, files: u32) {
        let Some(object) = self.object_mut(key) else { return };
        object.handle_reserved(files);
        self.retry(now.mono, key);
    }

    /// Handles the lack of room, or of a directory, for an object.
    pub fn handle_open_failed(&mut self, key: Hash16, error: &StorageError) {
        if let Some(object) = self.object_mut(key) {
            object.fail(format!("failed to {error}"));
        }
    }

    /// Handles the end of a flush.
    pub fn handle_flushed(&mut self, now: Now, key: Hash16, ticket: Ticket) {
        let Some(object) = self.object_mut(key) else { return };
        object.handle_flushed(ticket);
        self.proceed(key);
        self.retry(now.mono, key);
    }

    /// Handles a failed write or flush.
    pub fn handle_log_failed(&mut self, now: Now, key: Hash16, ticket: Ticket) {
        if let Some(object) = self.object_mut(key) {
            object.handle_log_failed(now.mono, ticket);
        }
        self.proceed(key);
    }

    /// Handles the outcome of decoding a block.
    pub fn handle_decoded(&mut self, key: Hash16, sbn: Sbn, outcome: &DecodeOutcome) {
        if let Some(object) = self.object_mut(key) {
            object.handle_decoded(sbn, outcome);
        }
        self.proceed(key);
    }

    /// Handles the sync of the record with this name.
    pub fn handle_recorded(&mut self, now: Now, name: &str) {
        let with_name = |object: &&mut UnsignedObject| object.record().file_name() == name;
        let object = self.objects.values_mut().find(with_name);
        let Some(object) = object else { return };
        let key = object.layout().object_key();
        if object.handle_recorded() {
            let (layout, file) = (object.layout().clone(), object.report());
            self.outputs.push_back(Output::RemoveObject(layout));
            self.outputs.push_back(Output::Complete(file));
            self.begin_others(now.mono);
        }
        self.proceed(key);
    }

    /// Handles a failed write of a record.
    pub fn handle_record_failed(&mut self, name: &str, error: &StorageError) {
        let with_name = |object: &&mut UnsignedObject| object.record().file_name() == name;
        if let Some(object) = self.objects.values_mut().find(with_name) {
            object.fail(format!("failed to {error}"));
        }
    }

    /// Handles the verification of a file: its SHA-256 when it matches its description.
    pub fn handle_finished(&mut self, key: Hash16, outcome: Result<Digest, FinishProblem>) {
        let Some(object) = self.object_mut(key) else { return };
        match outcome {
            Ok(sha256) => object.handle_finished(sha256),
            Err(FinishProblem::Storage(error)) => object.fail(format!("failed to {error}")),
            Err(FinishProblem::WrongDigest) => {
                return self.refuse(key, "its digest does not match its Content-MD5".to_owned());
            }
            Err(FinishProblem::WrongContent(why)) => return self.refuse(key, why),
        }
        self.proceed(key);
    }

    /// Flushes the logs that are due.
    pub fn handle_timeout(&mut self, now: Now) {
        let due: Vec<_> =
            self.objects.values_mut().filter_map(|object| object.tick(now.mono)).collect();
        due.into_iter().for_each(|key| self.proceed(key));
    }

    /// Syncs all received symbols before the program ends.
    pub fn handle_shutdown(&mut self) {
        let keys: Vec<_> = self.keys.keys().copied().collect();
        for key in keys {
            if let Some(object) = self.object_mut(key) {
                object.flush();
            }
            self.proceed(key);
        }
    }

    /// Returns when [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.objects.values().filter_map(UnsignedObject::deadline).min()
    }

    /// Returns the next effect; `None` when there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the described files, complete or not.
    pub fn files(&self) -> impl Iterator<Item = UnsignedFile> {
        self.sessions.iter().flat_map(|((source, tsi), session)| {
            session.entries.values().map(|entry| {
                let of = UnsignedIdentity { source: *source, tsi: *tsi, toi: entry.toi };
                let object = self.objects.get(&of);
                object.map_or_else(|| unopened(&of, entry), UnsignedObject::report)
            })
        })
    }

    /// Returns whether every described file is complete, and there is at least one.
    #[must_use]
    pub fn is_all_complete(&self) -> bool {
        let mut described = self.described().peekable();
        described.peek().is_some()
            && described
                .all(|name| self.objects.get(&name).is_some_and(UnsignedObject::is_complete))
    }

    /// Returns whether every described file is complete or rejected, and there is at least one.
    #[must_use]
    pub fn is_all_settled(&self) -> bool {
        let mut described = self.described().peekable();
        let is_settled = |of: UnsignedIdentity| {
            let object = self.objects.get(&of);
            object.is_some_and(|object| object.is_complete() || object.is_refused())
        };
        described.peek().is_some() && described.all(is_settled)
    }

    /// Returns whether a completion of the storage or the decoder is outstanding.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.objects.values().any(UnsignedObject::is_busy)
    }

    /// Returns the number of packets that wait for an FDT, for FEC parameters or for the disk.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the counters.
    #[must_use]
    pub const fn stats(&self) -> UnsignedStats {
        self.stats
    }

    /// Returns whether there is room for a session; evicts one without entries if needed.
    fn admit_session(&mut self, now: Now, name: SessionName) -> bool {
        if !self.sessions.contains_key(&name) && self.sessions.len() >= self.limits.sessions {
            let idle = self.sessions.iter().filter(|(_, session)| session.entries.is_empty());
            let oldest =
                idle.min_by_key(|(_, session)| session.last_received).map(|(name, _)| *name);
            let Some(oldest) = oldest else { return false };
            self.sessions.remove(&oldest);
        }
        self.sessions.entry(name).or_default().last_received = now.mono;
        true
    }

    fn handle_fdt(&mut self, now: Now, name: SessionName, packet: &Packet<'_>) {
        self.stats.fdt += 1;
        let Some(session) = self.sessions.get_mut(&name) else { return };
        match session.fdt.handle_packet(now.utc, packet) {
            Ok(FdtEvent::Collected | FdtEvent::Repeated | FdtEvent::Late { .. }) => {}
            Ok(FdtEvent::Expired { .. }) => self.stats.fdt_expired += 1,
            Ok(FdtEvent::Instance { id, contradicted }) => {
                let count = u64::try_from(contradicted.len()).unwrap_or(u64::MAX);
                self.stats.contradicting += count;
                self.handle_instance(now, name, id);
            }
            Err(_) => self.stats.fdt_refused += 1,
        }
    }

    /// Stores the entries of an instance. The first description of a TOI counts.
    // spec: rfc6726 3.3 (the description of a TOI never changes; it may be left out)
    fn handle_instance(&mut self, now: Now, (source, tsi): SessionName, id: u32) {
        let Some(session) = self.sessions.get_mut(&(source, tsi)) else { return };
        let held = session.fdt.instances(now.utc).find(|held| held.id == id);
        let Some(held) = held else { return };
        let (files, expires) = (held.instance.files.clone(), held.expires);
        let mut fresh = Vec::new();
        for entry in files {
            let identity = UnsignedIdentity { source, tsi, toi: entry.toi };
            if let Some(known) = session.entries.get(&entry.toi) {
                if known.content_location == entry.content_location {
                    let until = session.described_until.entry(entry.toi).or_insert(expires);
                    *until = expires.max(*until);
                }
                let object = self.objects.get(&identity);
                if *known == entry || !object.is_some_and(UnsignedObject::is_refused) {
                    continue;
                }
                // A rejected file may match another description.
                self.objects.remove(&identity);
                self.keys.retain(|_, of| *of != identity);
                self.again.remove(&identity);
                session.early.remove(&entry.toi);
                session.entries.remove(&entry.toi);
            }
            if session.entries.len() >= MAX_ENTRIES {
                self.stats.refused += 1;
                continue;
            }
            fresh.push(entry.toi);
            session.described_until.insert(entry.toi, expires);
            session.entries.insert(entry.toi, entry);
        }
        for toi in fresh {
            let identity = UnsignedIdentity { source, tsi, toi };
            self.begin(identity);
            self.retry_object(now.mono, identity);
        }
    }

    fn handle_data(
        &mut self,
        now: Mono,
        of: UnsignedIdentity,
        packet: &Packet<'_>,
        datagram: &[u8],
    ) {
        // spec: ts26346-mbms 7.2.8 (a profile of senders: receivers accept EXT_FTI all the same)
        let fti = match packet.extensions.fti(packet.header.codepoint) {
            Ok(fti) => fti,
            Err(_) => {
                self.stats.malformed += 1;
                return;
            }
        };
        if let (Some(oti), None) = (fti, self.objects.get(&of)) {
            self.note_early(of, oti);
            self.begin(of);
        }
        let Some(object) = self.objects.get_mut(&of) else {
            self.stats.dropped += self.waiting.push(of, datagram);
            return;
        };
        match object.handle_packet(now, packet, fti) {
            PacketOutcome::Stored => self.stats.accepted += 1,
            PacketOutcome::NotNeeded => self.stats.held += 1,
            PacketOutcome::Retry => self.stats.dropped += self.waiting.push(of, datagram),
            PacketOutcome::Invalid => self.stats.invalid += 1,
            PacketOutcome::FecMismatch => self.stats.contradicting += 1,
            PacketOutcome::Rejected => self.stats.refused += 1,
        }
        object.drain_log(&mut self.outputs);
    }

    /// Stores the FEC parameters of a TOI that no entry describes yet.
    fn note_early(&mut self, of: UnsignedIdentity, oti: Oti) {
        if let Some(session) = self.sessions.get_mut(&session_of(&of))
            && session.early.len() < MAX_ENTRIES
        {
            session.early.entry(of.toi).or_insert(oti);
        }
    }

    /// Opens an object once its entry and its parameters are known.
    fn begin(&mut self, of: UnsignedIdentity) {
        let Some(session) = self.sessions.get(&session_of(&of)) else { return };
        let Some(entry) = session.entries.get(&of.toi) else { return };
        // spec: rfc6726 5 (EXT_FTI takes precedence over the FDT)
        let early = session.early.get(&of.toi).copied();
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
        let record = self.records.get(&key).cloned();
        let owner = (session_of(&of), entry.content_location.clone());
        let name = match &record {
            Some(record) => record.name.clone(),
            None => self.names.claim(&entry.content_location, owner, &key),
        };
        let content = content(&self.limits, entry, &oti, name.clone());
        let record = record.unwrap_or_else(|| Record {
            object_key: key,
            identity: of,
            name,
            location: entry.content_location.clone(),
            done: BTreeSet::new(),
            complete: false,
        });
        let shares = session.entries.len().max(1);
        let Some(layout) = ObjectLayout::unsigned(&of, oti, content) else { return };
        let parameters = if is_empty { Ok(None) } else { entry.parameters(early) };
        let contradiction = parameters.err().map(|error| error.to_string());
        let problem = contradiction.or_else(|| beyond(&self.limits, &layout, entry));
        let kept: u64 = self.receiving().map(|object| object.layout().index_bytes()).sum();
        let has_room = kept + layout.index_bytes() <= self.limits.index_bytes;
        if problem.is_none() && !record.complete && !has_room {
            return;
        }
        let unsynced = self.limits.unsynced_bytes / shares;
        let object = UnsignedObject::new(layout.clone(), record, entry.clone(), unsynced, problem);
        if object.is_complete() {
            self.outputs.push_back(Output::Complete(object.report()));
        } else if !object.has_failed() {
            self.outputs.push_back(Output::Open(layout));
        }
        self.keys.insert(key, of);
        self.objects.insert(of, object);
    }

    fn receiving(&self) -> impl Iterator<Item = &UnsignedObject> {
        self.objects.values().filter(|object| !object.is_complete() && !object.has_failed())
    }

    /// Opens objects that waited for others to complete.
    fn begin_others(&mut self, now: Mono) {
        let missing = self.described().filter(|of| !self.objects.contains_key(of));
        let missing: Vec<_> = missing.collect();
        for of in missing {
            self.begin(of);
            self.retry_object(now, of);
        }
    }

    /// Returns all files that a session described.
    fn described(&self) -> impl Iterator<Item = UnsignedIdentity> {
        self.sessions.iter().flat_map(|((source, tsi), session)| {
            let of = |toi: &Toi| UnsignedIdentity { source: *source, tsi: *tsi, toi: *toi };
            session.entries.keys().map(of)
        })
    }

    /// Discards what was received of a file: it is received once more, and then rejected.
    fn refuse(&mut self, key: Hash16, why: String) {
        self.stats.wrong_digest += 1;
        let Some(of) = self.keys.get(&key).copied() else { return };
        if self.again.insert(of) {
            self.begin_again(key);
            return;
        }
        let Some(object) = self.objects.get_mut(&of) else { return };
        object.refuse(format!("{why}; received twice, then rejected"));
        self.records.remove(&key);
        self.outputs.push_back(Output::RemoveRecord(object.record().file_name()));
        self.outputs.push_back(Output::RemoveObject(object.layout().clone()));
    }

    /// Removes what is stored of a file, to receive it again.
    fn begin_again(&mut self, key: Hash16) {
        let Some(of) = self.keys.remove(&key) else { return };
        let Some(object) = self.objects.remove(&of) else { return };
        self.records.remove(&key);
        self.outputs.push_back(Output::RemoveRecord(object.record().file_name()));
        self.outputs.push_back(Output::RemoveObject(object.layout().clone()));
        self.begin(of);
    }

    /// Queues the effects of an object.
    fn proceed(&mut self, key: Hash16) {
        let Some(of) = self.keys.get(&key) else { return };
        let Some(object) = self.objects.get_mut(of) else { return };
        object.drain(&mut self.outputs);
    }

    fn retry(&mut self, now: Mono, key: Hash16) {
        if let Some(of) = self.keys.get(&key).copied() {
            self.retry_object(now, of);
        }
    }

    /// Handles the packets that waited for an object.
    fn retry_object(&mut self, now: Mono, of: UnsignedIdentity) {
        for datagram in self.waiting.take(&of) {
            if let Ok(packet) = Packet::parse(&datagram) {
                self.handle_data(now, of, &packet, &datagram);
            }
        }
    }

    fn object_mut(&mut self, key: Hash16) -> Option<&mut UnsignedObject> {
        self.objects.get_mut(self.keys.get(&key)?)
    }
}

/// Error from the verification of an assembled file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishProblem {
    /// Length or digest are wrong.
    WrongDigest,
    /// Its decoded content is wrong.
    WrongContent(String),
    /// The storage failed.
    Storage(StorageError),
}

/// Files of one session at most.
const MAX_ENTRIES: usize = 256;

const fn session_of(of: &UnsignedIdentity) -> SessionName {
    (of.source, of.tsi)
}
