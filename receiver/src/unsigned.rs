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
//! | `session` | sessions, and the files that their FDT instances describe |
//! | `object_table` | the files in reception, and their names and records |
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
mod object_table;
pub mod output;
pub mod record;
mod session;
pub mod status;
#[cfg(test)]
mod tests;
pub mod waiting;

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
};

use proto::{
    crypto::{Digest, Hash16},
    flute::{alc::Packet, fdt::store::FdtEvent},
    ids::{Sbn, Toi, Tsi},
    time::{Mono, Now},
};

pub use self::{
    limits::Limits,
    output::Output,
    status::{UnsignedFile, UnsignedStats},
};
use self::{
    object::{PacketOutcome, UnsignedObject},
    object_table::ObjectTable,
    record::Record,
    session::{DescriptionChanges, SessionName, Sessions},
    status::unopened,
    waiting::Waiting,
};
use crate::{
    flute::decode::DecodeOutcome,
    store::{Recovered, StorageError, Ticket, UnsignedIdentity},
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

/// The receiver core of unsigned sessions.
#[derive(Debug)]
pub struct UnsignedReceiver {
    filter: Filter,
    sessions: Sessions,
    objects: ObjectTable,
    waiting: Waiting,
    outputs: VecDeque<Output>,
    stats: UnsignedStats,
}

impl UnsignedReceiver {
    /// Starts from what earlier runs stored.
    #[must_use]
    pub fn new(limits: Limits, filter: Filter, found: Found) -> Self {
        let mut outputs = VecDeque::new();
        Self {
            filter,
            sessions: Sessions::new(limits.sessions),
            objects: ObjectTable::new(limits, found.records, found.files, &mut outputs),
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
        if !self.sessions.admit(now.mono, (source, tsi)) {
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
            self.handle_fdt(now, (source, tsi), &packet);
        } else {
            let of = UnsignedIdentity { source, tsi, toi };
            let is_complete = self.objects.get(&of).is_some_and(UnsignedObject::is_complete);
            if self.sessions.is_outdated(now.utc, &of) && !is_complete {
                self.stats.dropped += 1;
                return;
            }
            self.handle_data(now.mono, of, &packet, datagram);
        }
    }

    fn handle_fdt(&mut self, now: Now, (source, tsi): SessionName, packet: &Packet<'_>) {
        self.stats.fdt += 1;
        let Some(session) = self.sessions.get_mut((source, tsi)) else { return };
        match session.handle_fdt(now.utc, packet) {
            Ok(FdtEvent::Collected | FdtEvent::Repeated | FdtEvent::Late { .. }) => {}
            Ok(FdtEvent::Expired { .. }) => self.stats.fdt_expired += 1,
            Ok(FdtEvent::Instance { id, contradicted }) => {
                let count = u64::try_from(contradicted.len()).unwrap_or(u64::MAX);
                self.stats.contradicting += count;
                let is_refused = |toi| {
                    let object = self.objects.get(&UnsignedIdentity { source, tsi, toi });
                    object.is_some_and(UnsignedObject::is_refused)
                };
                let changes = session.store_instance(now.utc, id, is_refused);
                self.on_descriptions(now.mono, (source, tsi), changes);
            }
            Err(_) => self.stats.fdt_refused += 1,
        }
    }

    fn on_descriptions(
        &mut self,
        now: Mono,
        (source, tsi): SessionName,
        changes: DescriptionChanges,
    ) {
        self.stats.refused += changes.refused;
        for toi in changes.replaced {
            self.objects.forget(&UnsignedIdentity { source, tsi, toi });
        }
        for toi in changes.described {
            self.open(now, UnsignedIdentity { source, tsi, toi });
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
            self.sessions.store_early_parameters(&of, oti);
            self.open_if_described(of);
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

    /// Handles the content of an object's directory.
    pub fn handle_recovered(&mut self, now: Now, key: Hash16, recovered: &Recovered) {
        let Some(object) = self.objects.with_key_mut(key) else { return };
        object.handle_recovered(recovered);
        self.proceed(key);
        self.retry(now.mono, key);
    }

    /// Handles the reservation of the first `files` logs of an object.
    pub fn handle_reserved(&mut self, now: Now, key: Hash16, files: u32) {
        let Some(object) = self.objects.with_key_mut(key) else { return };
        object.handle_reserved(files);
        self.retry(now.mono, key);
    }

    /// Handles the lack of room, or of a directory, for an object.
    pub fn handle_open_failed(&mut self, key: Hash16, error: &StorageError) {
        if let Some(object) = self.objects.with_key_mut(key) {
            object.fail(format!("failed to {error}"));
        }
    }

    /// Handles the end of a flush.
    pub fn handle_flushed(&mut self, now: Now, key: Hash16, ticket: Ticket) {
        let Some(object) = self.objects.with_key_mut(key) else { return };
        object.handle_flushed(ticket);
        self.proceed(key);
        self.retry(now.mono, key);
    }

    /// Handles a failed write or flush.
    pub fn handle_log_failed(&mut self, now: Now, key: Hash16, ticket: Ticket) {
        if let Some(object) = self.objects.with_key_mut(key) {
            object.handle_log_failed(now.mono, ticket);
        }
        self.proceed(key);
    }

    /// Handles the outcome of decoding a block.
    pub fn handle_decoded(&mut self, key: Hash16, sbn: Sbn, outcome: &DecodeOutcome) {
        if let Some(object) = self.objects.with_key_mut(key) {
            object.handle_decoded(sbn, outcome);
        }
        self.proceed(key);
    }

    /// Handles the sync of the record with this name.
    pub fn handle_recorded(&mut self, now: Now, name: &str) {
        let Some(object) = self.objects.with_record(name) else { return };
        let key = object.layout().object_key();
        if object.handle_recorded() {
            let (layout, file) = (object.layout().clone(), object.report());
            self.outputs.push_back(Output::RemoveObject(layout));
            self.outputs.push_back(Output::Complete(file));
            self.open_others(now.mono);
        }
        self.proceed(key);
    }

    /// Handles a failed write of a record.
    pub fn handle_record_failed(&mut self, name: &str, error: &StorageError) {
        if let Some(object) = self.objects.with_record(name) {
            object.fail(format!("failed to {error}"));
        }
    }

    /// Handles the verification of a file: its SHA-256 when it matches its description.
    pub fn handle_finished(&mut self, key: Hash16, outcome: Result<Digest, FinishProblem>) {
        let Some(object) = self.objects.with_key_mut(key) else { return };
        match outcome {
            Ok(sha256) => object.handle_finished(sha256),
            Err(FinishProblem::Storage(error)) => object.fail(format!("failed to {error}")),
            Err(FinishProblem::WrongDigest) => {
                return self.discard(key, "its digest does not match its Content-MD5");
            }
            Err(FinishProblem::WrongContent(why)) => return self.discard(key, &why),
        }
        self.proceed(key);
    }

    /// Flushes the logs that are due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.objects.tick(now.mono).into_iter().for_each(|key| self.proceed(key));
    }

    /// Syncs all received symbols before the program ends.
    pub fn handle_shutdown(&mut self) {
        for key in self.objects.keys() {
            if let Some(object) = self.objects.with_key_mut(key) {
                object.flush();
            }
            self.proceed(key);
        }
    }

    /// Returns when [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.objects.deadline()
    }

    /// Returns the next effect; `None` when there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the described files, complete or not.
    pub fn files(&self) -> impl Iterator<Item = UnsignedFile> {
        self.sessions.described().map(|(of, entry)| {
            let object = self.objects.get(&of);
            object.map_or_else(|| unopened(&of, entry), UnsignedObject::report)
        })
    }

    /// Returns whether every described file is complete, and there is at least one.
    #[must_use]
    pub fn is_all_complete(&self) -> bool {
        self.is_all(UnsignedObject::is_complete)
    }

    /// Returns whether every described file is complete or rejected, and there is at least one.
    #[must_use]
    pub fn is_all_settled(&self) -> bool {
        self.is_all(|object| object.is_complete() || object.is_refused())
    }

    fn is_all(&self, holds: impl Fn(&UnsignedObject) -> bool) -> bool {
        let mut described = self.sessions.described().peekable();
        described.peek().is_some()
            && described.all(|(of, _)| self.objects.get(&of).is_some_and(&holds))
    }

    /// Returns whether a completion of the storage or the decoder is outstanding.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.objects.is_busy()
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

    /// Opens an object, if it is described and may be received, and handles its waiting packets.
    fn open(&mut self, now: Mono, of: UnsignedIdentity) {
        self.open_if_described(of);
        self.retry_object(now, of);
    }

    fn open_if_described(&mut self, of: UnsignedIdentity) {
        if let Some(description) = self.sessions.description(&of) {
            self.objects.open(of, &description, &mut self.outputs);
        }
    }

    /// Opens objects that waited for others to complete.
    fn open_others(&mut self, now: Mono) {
        let described = self.sessions.described().map(|(of, _)| of);
        let missing: Vec<_> = described.filter(|of| self.objects.get(of).is_none()).collect();
        missing.into_iter().for_each(|of| self.open(now, of));
    }

    /// Discards what was received of a file: it is received once more, and then rejected.
    fn discard(&mut self, key: Hash16, why: &str) {
        self.stats.wrong_digest += 1;
        if let Some(of) = self.objects.discard(key, why, &mut self.outputs) {
            self.open_if_described(of);
        }
    }

    /// Queues the effects of an object.
    fn proceed(&mut self, key: Hash16) {
        if let Some(object) = self.objects.with_key_mut(key) {
            object.drain(&mut self.outputs);
        }
    }

    fn retry(&mut self, now: Mono, key: Hash16) {
        if let Some(of) = self.objects.with_key(key) {
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
