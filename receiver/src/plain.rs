//! Receiving plain files: any FLUTE session, unsigned by nature.
//!
//! ```text
//! datagram ─► session (sender, TSI) ─► FDT ─► entries
//!                    └─► object ◄──────────────┘   waits until its entry and its parameters are known
//!                          └─► symbols ─► blocks ─► NAME.part ─► NAME
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`object`] | one file: what is held of it, what it lacks |
//! | [`waiting`] | packets that came too early, in bounded memory |
//! | [`names`] | a label from the network to a file name of ours |
//! | [`record`] | what is kept over restarts beside the symbols |
//! | [`dissect`] | what a capture holds, for people |
//!
//! Sessions are told apart by sender and TSI, objects by their TOI within a session. The flags A and
//! B are hints that anyone can forge: nothing is dropped because of them. The first description of
//! a TOI counts; what contradicts it is counted and dropped. A file whose octets are not what its
//! description says is received once more, and then given up until it is described otherwise.

pub mod dissect;
pub mod names;
pub mod object;
pub mod record;
#[cfg(test)]
mod tests;
pub mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use proto::{
    crypto::{Digest, Hash16},
    fec::{
        ENCODING_ID_NO_CODE, ENCODING_ID_RAPTORQ,
        oti::{NoCodeOti, Oti},
    },
    flute::{
        alc::Packet,
        content_encoding::ContentEncoding,
        fdt::{
            FileEntry,
            store::{FdtEvent, FdtStore},
        },
    },
    ids::{Sbn, Toi, Tsi},
    time::{Mono, Now, Utc},
};
use serde::Serialize;

use self::{
    names::Names,
    object::{PlainObject, Take},
    record::Record,
    waiting::Waiting,
};
use crate::{
    decode::{DecodeJob, DecodeOutcome},
    symbols::{
        Encoded, LogOutput, ObjectLayout, PlainContent, PlainIdentity, Recovered, StorageError,
        Ticket,
    },
};

/// How much is taken from a network that nobody vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions that are followed at a time.
    pub sessions: usize,
    /// Files that are received at a time.
    pub objects: usize,
    /// Octets of packets that wait.
    pub waiting_octets: usize,
    /// Octets of a file.
    pub file_octets: u64,
    /// Symbols of a RaptorQ block: what a decoder may take.
    pub block_symbols: u32,
    /// Octets of a block of any scheme.
    pub block_octets: u64,
    /// Octets of all symbols that wait for the disk.
    pub unsynced_octets: usize,
    /// Octets of what is kept of all files before a symbol of them is held: it follows from sizes
    /// that anyone can announce.
    pub index_octets: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 32,
            objects: 64,
            waiting_octets: 8 << 20,
            file_octets: 16 << 30,
            block_symbols: 8192,
            block_octets: 32 << 20,
            unsynced_octets: 32 << 20,
            index_octets: 16 << 20,
        }
    }
}

/// Which sessions are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// The only sender to hear.
    pub source: Option<IpAddr>,
    /// The only session.
    pub tsi: Option<Tsi>,
}

/// What lies in the output directory at the start.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Records of earlier runs.
    pub records: Vec<Record>,
    /// Names of all files there.
    pub files: BTreeSet<String>,
}

/// What the shell must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open the object's directory; answered by [`PlainReceiver::handle_recovered`] and
    /// [`PlainReceiver::handle_reserved`], or [`PlainReceiver::handle_open_failed`].
    Open(ObjectLayout),
    /// Write to or sync the object's logs.
    Log(Hash16, LogOutput),
    /// Write a record whole; answered by [`PlainReceiver::handle_recorded`].
    Keep(String, Vec<u8>),
    /// Remove a record.
    Forget(String),
    /// Solve a block; answered by [`PlainReceiver::handle_decoded`].
    Decode(DecodeJob),
    /// Compare the file with what it should be and give it its name; answered by
    /// [`PlainReceiver::handle_finished`].
    Finish(ObjectLayout),
    /// Remove the object's symbols.
    Drop(ObjectLayout),
    /// Tell the user: a file is whole, synced, and has its name.
    Complete(PlainFile),
}

/// A file as the user sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlainFile {
    /// Its name in the output directory.
    pub name: String,
    /// What the FDT calls it.
    pub location: String,
    /// Address of its sender.
    pub source: IpAddr,
    /// Its session.
    pub tsi: u64,
    /// Its object, decimal.
    pub toi: String,
    /// Octets, as they are sent.
    pub length: u64,
    /// `described`, `opening`, `receiving`, `checking`, `complete`, or `failed`.
    pub state: &'static str,
    /// Why it is not complete, where there is more to say than that symbols are missing.
    pub problem: Option<String>,
    /// Content encoding in which it was sent; it lies there without, unless `problem` says that the
    /// encoding is not known.
    pub content_encoding: Option<String>,
    /// SHA-256 of what lies there, once it is whole.
    pub sha256: Option<String>,
    /// Source blocks, and how many of them are solved.
    pub blocks: u32,
    /// Solved blocks.
    pub blocks_done: u32,
    /// Symbols that are synced, K for a solved block.
    pub symbols_held: u64,
    /// Source symbols.
    pub symbols_needed: u64,
    /// Symbols that were heard in this run up to the last one that was taken in, needed or not.
    pub symbols_heard: u64,
}

/// What became of the datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PlainStats {
    /// All that were heard.
    pub datagrams: u64,
    /// No ALC packet, or of a scheme that is not known.
    pub malformed: u64,
    /// Of sessions that are not meant.
    pub foreign: u64,
    /// Of sessions beyond the limit.
    pub sessions_refused: u64,
    /// FDT packets.
    pub fdt: u64,
    /// FDT packets and documents that cannot be used.
    pub fdt_refused: u64,
    /// FDT documents that had expired.
    pub fdt_expired: u64,
    /// Without data: session ends and the like.
    pub data_less: u64,
    /// Packets and entries that contradict what was described before.
    pub contradicting: u64,
    /// Packets of files that are beyond the limits.
    pub refused: u64,
    /// Symbols that were taken in.
    pub taken: u64,
    /// Symbols that were held already, or not needed any more.
    pub held: u64,
    /// Symbols of a wrong length or number.
    pub invalid: u64,
    /// Packets that waited and had to go, and those whose description had expired.
    pub dropped: u64,
    /// Files whose digest, length or encoding was wrong when all of it was there.
    pub wrong_digest: u64,
}

#[derive(Debug, Default)]
struct Session {
    // spec: rfc6726 3.2 (the table is local to the session)
    fdt: FdtStore,
    entries: BTreeMap<Toi, FileEntry>,
    /// When the last instance that describes an object expires.
    described_until: BTreeMap<Toi, Utc>,
    /// Parameters that came in EXT_FTI before their entry.
    early: BTreeMap<Toi, Oti>,
    last_heard: Mono,
}

type SessionName = (IpAddr, Tsi);

/// The receiver core of plain sessions.
#[derive(Debug)]
pub struct PlainReceiver {
    limits: Limits,
    filter: Filter,
    sessions: BTreeMap<SessionName, Session>,
    objects: BTreeMap<PlainIdentity, PlainObject>,
    keys: BTreeMap<Hash16, PlainIdentity>,
    names: Names<(SessionName, String)>,
    records: BTreeMap<Hash16, Record>,
    /// Files that are received once more because what came was wrong.
    again: BTreeSet<PlainIdentity>,
    waiting: Waiting,
    outputs: VecDeque<Output>,
    stats: PlainStats,
}

impl PlainReceiver {
    /// Starts with what earlier runs left.
    #[must_use]
    pub fn new(limits: Limits, filter: Filter, found: Found) -> Self {
        let Found { records, files } = found;
        let mut names = Names::new(files.clone());
        let mut outputs = VecDeque::new();
        let mut known = BTreeMap::new();
        for record in records {
            if record.complete && !files.contains(&record.name) {
                // The user took the file away: it may come again.
                outputs.push_back(Output::Forget(record.file_name()));
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
            waiting: Waiting::new(limits.waiting_octets),
            outputs,
            stats: PlainStats::default(),
        }
    }

    /// Takes a datagram that came from `source`.
    pub fn handle_datagram(&mut self, now: Now, source: IpAddr, datagram: &[u8]) {
        self.stats.datagrams += 1;
        // spec: rfc5651 6.2, rfc5775 4.4 (what cannot be read is dropped)
        let Ok(packet) = Packet::parse(datagram) else {
            self.stats.malformed += 1;
            return;
        };
        let tsi = packet.header.tsi;
        // spec: rfc5775 5.1.2.4
        let meant = self.filter.source.is_none_or(|only| only == source)
            && self.filter.tsi.is_none_or(|only| only == tsi);
        if !meant {
            self.stats.foreign += 1;
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
            let of = PlainIdentity { source, tsi, toi };
            if self.is_outdated(now.utc, &of) {
                self.stats.dropped += 1;
                return;
            }
            self.handle_data(now.mono, of, &packet, datagram);
        }
    }

    /// Returns whether every description of an unfinished object has expired.
    fn is_outdated(&self, now: Utc, of: &PlainIdentity) -> bool {
        // spec: rfc6726 3.3 (an expired instance says nothing about packets that come later)
        let session = self.sessions.get(&session_of(of));
        let until = session.and_then(|session| session.described_until.get(&of.toi));
        until.is_some_and(|until| *until <= now)
            && !self.objects.get(of).is_some_and(PlainObject::is_complete)
    }

    /// Learns what an object's directory holds.
    pub fn handle_recovered(&mut self, now: Now, key: Hash16, recovered: &Recovered) {
        let Some(object) = self.object_mut(key) else { return };
        object.handle_recovered(recovered);
        self.proceed(key);
        self.retry(now.mono, key);
    }

    /// Learns that the first `files` logs of an object are reserved.
    pub fn handle_reserved(&mut self, now: Now, key: Hash16, files: u32) {
        let Some(object) = self.object_mut(key) else { return };
        object.handle_reserved(files);
        self.retry(now.mono, key);
    }

    /// Learns that there is no room, or no directory, for an object.
    pub fn handle_open_failed(&mut self, key: Hash16, error: &StorageError) {
        if let Some(object) = self.object_mut(key) {
            object.fail(format!("failed to {error}"));
        }
    }

    /// Learns that a flush has returned.
    pub fn handle_flushed(&mut self, now: Now, key: Hash16, ticket: Ticket) {
        let Some(object) = self.object_mut(key) else { return };
        object.handle_flushed(ticket);
        self.proceed(key);
        self.retry(now.mono, key);
    }

    /// Learns that a write or a flush failed.
    pub fn handle_log_failed(&mut self, now: Now, key: Hash16, ticket: Ticket) {
        if let Some(object) = self.object_mut(key) {
            object.handle_log_failed(now.mono, ticket);
        }
        self.proceed(key);
    }

    /// Learns what solving a block came to.
    pub fn handle_decoded(&mut self, key: Hash16, sbn: Sbn, outcome: &DecodeOutcome) {
        if let Some(object) = self.object_mut(key) {
            object.handle_decoded(sbn, outcome);
        }
        self.proceed(key);
    }

    /// Learns that a record of this name is synced.
    pub fn handle_recorded(&mut self, now: Now, name: &str) {
        let with_name = |object: &&mut PlainObject| object.record().file_name() == name;
        let object = self.objects.values_mut().find(with_name);
        let Some(object) = object else { return };
        let key = object.layout().object_key();
        if object.handle_recorded() {
            let (layout, file) = (object.layout().clone(), object.report());
            self.outputs.push_back(Output::Drop(layout));
            self.outputs.push_back(Output::Complete(file));
            self.begin_others(now.mono);
        }
        self.proceed(key);
    }

    /// Learns that a record cannot be written.
    pub fn handle_record_failed(&mut self, name: &str, error: &StorageError) {
        let with_name = |object: &&mut PlainObject| object.record().file_name() == name;
        if let Some(object) = self.objects.values_mut().find(with_name) {
            object.fail(format!("failed to {error}"));
        }
    }

    /// Learns what comparing a file came to: its SHA-256 when it is right, `Err` with the reason
    /// when it is not.
    pub fn handle_finished(&mut self, key: Hash16, outcome: Result<Digest, FinishProblem>) {
        let Some(object) = self.object_mut(key) else { return };
        match outcome {
            Ok(sha256) => object.handle_finished(sha256),
            Err(FinishProblem::Storage(error)) => object.fail(format!("failed to {error}")),
            Err(FinishProblem::WrongDigest) => {
                return self.refuse(key, "it is not what its Content-MD5 says".to_owned());
            }
            Err(FinishProblem::WrongContent(why)) => return self.refuse(key, why),
        }
        self.proceed(key);
    }

    /// Flushes what has waited long enough.
    pub fn handle_timeout(&mut self, now: Now) {
        let due: Vec<_> =
            self.objects.values_mut().filter_map(|object| object.tick(now.mono)).collect();
        due.into_iter().for_each(|key| self.proceed(key));
    }

    /// Syncs all that was taken in, before the program ends.
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
        self.objects.values().filter_map(PlainObject::deadline).min()
    }

    /// Returns what to do next, `None` when there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the files that were described, whole or not.
    pub fn files(&self) -> impl Iterator<Item = PlainFile> {
        self.sessions.iter().flat_map(|((source, tsi), session)| {
            session.entries.values().map(|entry| {
                let of = PlainIdentity { source: *source, tsi: *tsi, toi: entry.toi };
                let object = self.objects.get(&of);
                object.map_or_else(|| unopened(&of, entry), PlainObject::report)
            })
        })
    }

    /// Returns whether every file that a session described is whole, and there is one.
    #[must_use]
    pub fn is_all_complete(&self) -> bool {
        let mut described = self.described().peekable();
        described.peek().is_some()
            && described.all(|name| self.objects.get(&name).is_some_and(PlainObject::is_complete))
    }

    /// Returns whether every file that a session described is whole or given up for what its octets
    /// are, and there is one.
    #[must_use]
    pub fn is_all_settled(&self) -> bool {
        let mut described = self.described().peekable();
        let is_settled = |of: PlainIdentity| {
            let object = self.objects.get(&of);
            object.is_some_and(|object| object.is_complete() || object.is_refused())
        };
        described.peek().is_some() && described.all(is_settled)
    }

    /// Returns whether the storage or the decoder has work of ours that it has not answered.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.objects.values().any(PlainObject::is_busy)
    }

    /// Returns how many packets wait for an FDT, parameters or the disk.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the counters.
    #[must_use]
    pub const fn stats(&self) -> PlainStats {
        self.stats
    }

    /// Returns whether there is room for a session; one that described nothing makes room.
    fn admit_session(&mut self, now: Now, name: SessionName) -> bool {
        if !self.sessions.contains_key(&name) && self.sessions.len() >= self.limits.sessions {
            let idle = self.sessions.iter().filter(|(_, session)| session.entries.is_empty());
            let oldest = idle.min_by_key(|(_, session)| session.last_heard).map(|(name, _)| *name);
            let Some(oldest) = oldest else { return false };
            self.sessions.remove(&oldest);
        }
        self.sessions.entry(name).or_default().last_heard = now.mono;
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

    /// Takes what an instance describes. The first description of a TOI counts.
    // spec: rfc6726 3.3 (what is said of a TOI never changes; it may be left out)
    fn handle_instance(&mut self, now: Now, (source, tsi): SessionName, id: u32) {
        let Some(session) = self.sessions.get_mut(&(source, tsi)) else { return };
        let held = session.fdt.instances(now.utc).find(|held| held.id == id);
        let Some(held) = held else { return };
        let (files, expires) = (held.instance.files.clone(), held.expires);
        let mut fresh = Vec::new();
        for entry in files {
            let identity = PlainIdentity { source, tsi, toi: entry.toi };
            if let Some(known) = session.entries.get(&entry.toi) {
                if known.content_location == entry.content_location {
                    let until = session.described_until.entry(entry.toi).or_insert(expires);
                    *until = expires.max(*until);
                }
                let object = self.objects.get(&identity);
                if *known == entry || !object.is_some_and(PlainObject::is_refused) {
                    continue;
                }
                // What was refused may be right by another description.
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
            let identity = PlainIdentity { source, tsi, toi };
            self.begin(identity);
            self.retry_object(now.mono, identity);
        }
    }

    fn handle_data(&mut self, now: Mono, of: PlainIdentity, packet: &Packet<'_>, datagram: &[u8]) {
        // spec: ts26346-mbms 7.2.8 (a profile of senders: receivers take it all the same)
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
        match object.take(now, packet, fti) {
            Take::Stored => self.stats.taken += 1,
            Take::Held => self.stats.held += 1,
            Take::Later => self.stats.dropped += self.waiting.push(of, datagram),
            Take::Invalid => self.stats.invalid += 1,
            Take::Contradicts => self.stats.contradicting += 1,
            Take::Refused => self.stats.refused += 1,
        }
        object.drain_log(&mut self.outputs);
    }

    /// Remembers parameters of a TOI that no entry describes yet.
    fn note_early(&mut self, of: PlainIdentity, oti: Oti) {
        if let Some(session) = self.sessions.get_mut(&session_of(&of))
            && session.early.len() < MAX_ENTRIES
        {
            session.early.entry(of.toi).or_insert(oti);
        }
    }

    /// Opens an object once its entry and its parameters are known.
    fn begin(&mut self, of: PlainIdentity) {
        let Some(session) = self.sessions.get(&session_of(&of)) else { return };
        let Some(entry) = session.entries.get(&of.toi) else { return };
        // spec: rfc6726 5 (EXT_FTI goes before the FDT)
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
        let Some(layout) = ObjectLayout::plain(&of, oti, content) else { return };
        let parameters = if is_empty { Ok(None) } else { entry.parameters(early) };
        let contradiction = parameters.err().map(|error| error.to_string());
        let problem = contradiction.or_else(|| beyond(&self.limits, &layout, entry));
        let kept: u64 = self.receiving().map(|object| object.layout().index_octets()).sum();
        let has_room = kept + layout.index_octets() <= self.limits.index_octets;
        if problem.is_none() && !record.complete && !has_room {
            return;
        }
        let unsynced = self.limits.unsynced_octets / shares;
        let object = PlainObject::new(layout.clone(), record, entry.clone(), unsynced, problem);
        if object.is_complete() {
            self.outputs.push_back(Output::Complete(object.report()));
        } else if !object.has_failed() {
            self.outputs.push_back(Output::Open(layout));
        }
        self.keys.insert(key, of);
        self.objects.insert(of, object);
    }

    fn receiving(&self) -> impl Iterator<Item = &PlainObject> {
        self.objects.values().filter(|object| !object.is_complete() && !object.has_failed())
    }

    /// Opens objects that had to wait for others to be complete.
    fn begin_others(&mut self, now: Mono) {
        let missing = self.described().filter(|of| !self.objects.contains_key(of));
        let missing: Vec<_> = missing.collect();
        for of in missing {
            self.begin(of);
            self.retry_object(now, of);
        }
    }

    /// Returns all files that a session described.
    fn described(&self) -> impl Iterator<Item = PlainIdentity> {
        self.sessions.iter().flat_map(|((source, tsi), session)| {
            let of = |toi: &Toi| PlainIdentity { source: *source, tsi: *tsi, toi: *toi };
            session.entries.keys().map(of)
        })
    }

    /// Refuses what was received of a file: it is received once more, and then given up.
    fn refuse(&mut self, key: Hash16, why: String) {
        self.stats.wrong_digest += 1;
        let Some(of) = self.keys.get(&key).copied() else { return };
        if self.again.insert(of) {
            self.begin_again(key);
            return;
        }
        let Some(object) = self.objects.get_mut(&of) else { return };
        object.refuse(format!("{why}; received twice, and given up"));
        self.records.remove(&key);
        self.outputs.push_back(Output::Forget(object.record().file_name()));
        self.outputs.push_back(Output::Drop(object.layout().clone()));
    }

    /// Forgets what is held of a file, to receive it again.
    fn begin_again(&mut self, key: Hash16) {
        let Some(of) = self.keys.remove(&key) else { return };
        let Some(object) = self.objects.remove(&of) else { return };
        self.records.remove(&key);
        self.outputs.push_back(Output::Forget(object.record().file_name()));
        self.outputs.push_back(Output::Drop(object.layout().clone()));
        self.begin(of);
    }

    /// Hands on what an object wants done.
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

    /// Looks again at packets that waited.
    fn retry_object(&mut self, now: Mono, of: PlainIdentity) {
        for datagram in self.waiting.take(&of) {
            if let Ok(packet) = Packet::parse(&datagram) {
                self.handle_data(now, of, &packet, &datagram);
            }
        }
    }

    fn object_mut(&mut self, key: Hash16) -> Option<&mut PlainObject> {
        self.objects.get_mut(self.keys.get(&key)?)
    }
}

/// Returns the report of a file that is described and cannot be received yet.
fn unopened(of: &PlainIdentity, entry: &FileEntry) -> PlainFile {
    let problem = match (entry.oti, entry.encoding_id) {
        (Some(_), _) => "too many files are received at a time".to_owned(),
        (None, Some(id)) if ![ENCODING_ID_NO_CODE, ENCODING_ID_RAPTORQ].contains(&id) => {
            format!("FEC Encoding ID {id} is not supported")
        }
        (None, Some(_) | None) => "no FEC parameters were heard".to_owned(),
    };
    PlainFile {
        name: names::file_name(&entry.content_location),
        location: entry.content_location.clone(),
        source: of.source,
        tsi: of.tsi.0,
        toi: of.toi.0.to_string(),
        length: entry.transfer_length.or(entry.content_length).unwrap_or(0),
        state: "described",
        problem: Some(problem),
        content_encoding: entry.content_encoding.clone(),
        sha256: None,
        blocks: 0,
        blocks_done: 0,
        symbols_held: 0,
        symbols_needed: 0,
        symbols_heard: 0,
    }
}

/// Why a file that was put together is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishProblem {
    /// Length or digest are wrong.
    WrongDigest,
    /// What its content encoding makes of it is wrong.
    WrongContent(String),
    /// The disk does not do.
    Storage(StorageError),
}

/// Files of one session at most.
const MAX_ENTRIES: usize = 256;

const fn session_of(of: &PlainIdentity) -> SessionName {
    (of.source, of.tsi)
}

/// Returns the parameters under which a file without octets is kept.
fn no_parameters() -> Oti {
    Oti::NoCode(NoCodeOti::new(1, 1, 1).expect("a symbol of an octet"))
}

/// Returns what a file is to be, with the name that it gets here.
fn content(limits: &Limits, entry: &FileEntry, oti: &Oti, name: String) -> PlainContent {
    let is_empty = entry.transferred() == Some(0);
    let encoding = entry.content_encoding.as_deref().filter(|_| !is_empty);
    let undone = encoding.and_then(ContentEncoding::of);
    let grown = oti.transfer_length().saturating_mul(MAX_GROWTH);
    let encoded = undone.map(|encoding| Encoded {
        encoding,
        length: entry.content_length,
        limit: entry.content_length.unwrap_or(grown).min(limits.file_octets),
    });
    // The digest of an encoded file may be that of either form. Where only one of them can be had,
    // it may be the other's.
    let md5 = entry.content_md5.filter(|_| encoding.is_none() || encoded.is_some());
    PlainContent { name, md5, encoded, is_empty }
}

/// Octets that may come out of each encoded one where the FDT does not say how many there are.
const MAX_GROWTH: u64 = 100;

/// Returns what a file asks for that is beyond the limits.
fn beyond(limits: &Limits, layout: &ObjectLayout, entry: &FileEntry) -> Option<String> {
    let oti = layout.oti();
    let largest = oti.partition().largest();
    let block = u64::from(largest) * u64::from(oti.symbol_size());
    let is_coded = match oti {
        Oti::NoCode(_) => false,
        Oti::RaptorQ(_) => true,
    };
    let octets = entry.content_length.unwrap_or(0).max(oti.transfer_length());
    if octets > limits.file_octets {
        let (found, limit) = (octets, limits.file_octets);
        Some(format!("the file has {found} octets, at most {limit} are taken"))
    } else if is_coded && largest > limits.block_symbols {
        Some(format!(
            "its blocks have {largest} symbols, at most {} are solved",
            limits.block_symbols
        ))
    } else if block > limits.block_octets {
        Some(format!("its blocks have {block} octets, at most {} are solved", limits.block_octets))
    } else if layout.index_octets() > limits.index_octets {
        let (symbols, blocks) = (layout.total_symbols(), layout.blocks());
        Some(format!("its {symbols} symbols in {blocks} blocks are too many to keep track of"))
    } else {
        None
    }
}
