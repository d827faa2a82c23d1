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
//! | `session`, `announced`, `unread` | sessions, and what their FDT instances describe |
//! | `pauses` | what the pauses of a session make of the symbols after them |
//! | `object_table` | the files in reception, and their names and records |
//! | `eviction` | the choice of the session that makes room for another |
//! | `room` | the disk space of a file, reserved as its symbols come |
//! | [`entry`] | an FDT entry as content to receive, and the limits on it |
//! | [`waiting`] | packets that wait for an entry, in bounded memory |
//! | [`limits`], [`output`] | limits; effects for the shell |
//! | [`names`] | file names made from a `Content-Location` |
//! | [`record`] | the state of a file that survives a restart, beside its symbols |
//! | [`status`], `standing` | files and counters as the user sees them |
//! | [`oddities`], `problems` | the reasons why something received was not used |
//! | [`dissect`] | the content of a capture, for people |
//!
//! A session is identified by sender and TSI, an object by its TOI within a session, and what is
//! stored of it by a key of all that describes its content. The flags A and B are hints that anyone
//! can forge: no packet is dropped because of them. A file that does not match its description is
//! received once more; after that it is rejected until it is described otherwise.

mod announced;
pub mod dissect;
pub mod entry;
mod eviction;
pub mod limits;
pub mod names;
pub mod object;
mod object_table;
pub mod oddities;
pub mod output;
mod pauses;
mod problems;
pub mod record;
mod room;
mod session;
mod standing;
pub mod status;
#[cfg(test)]
mod tests;
mod unread;
pub mod waiting;

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use proto::{
    crypto::{Digest, Hash16},
    fec::{self, oti::Oti},
    flute::{
        alc::{Frame, Packet},
        fdt::store::{FdtEvent, HeldInstance, Rewrite},
    },
    ids::{Sbn, Toi},
    time::{Mono, Now},
    wire::WireError,
};

use self::{
    announced::{Announced, Progress},
    object::{PacketOutcome, UnsignedObject},
    object_table::ObjectTable,
    oddities::{INSTANCE_GIVEN_UP, Oddities, contradiction, malformed, misfit, unsupported},
    pauses::Doubt,
    session::{DescriptionChanges, Known, SessionName, Sessions, session_of},
    waiting::{For, Held, Waiting},
};
pub use self::{
    limits::{Filter, Limits},
    output::{FinishProblem, Output},
    record::{Found, Undigested},
    status::{Standing, UnsignedFile, UnsignedStats},
};
use crate::{
    flute::decode::DecodeOutcome,
    store::{Recovered, StorageError, Ticket, UnsignedIdentity},
};

/// Waiting packets of an object that find no room before the others are left alone.
const MAX_RETRIES: usize = 64;

/// The receiver core of unsigned sessions.
#[derive(Debug)]
pub struct UnsignedReceiver {
    filter: Filter,
    limits: Limits,
    /// Time after which a file that the storage failed is received again.
    retry_after: Duration,
    sessions: Sessions,
    objects: ObjectTable,
    waiting: Waiting,
    /// Files that the latest instance describes otherwise while symbols of them came lately.
    contradicted: BTreeSet<UnsignedIdentity>,
    outputs: VecDeque<Output>,
    stats: UnsignedStats,
    oddities: Oddities,
}

impl UnsignedReceiver {
    /// Starts from what earlier runs stored.
    #[must_use]
    pub fn new(limits: Limits, filter: Filter, found: Found) -> Self {
        Self {
            filter,
            limits,
            retry_after: limits.retry_after,
            sessions: Sessions::new(limits.sessions, limits.table_bytes, filter.expiry),
            objects: ObjectTable::new(limits, found),
            waiting: Waiting::new(limits.waiting_bytes),
            contradicted: BTreeSet::new(),
            outputs: VecDeque::new(),
            stats: UnsignedStats::default(),
            oddities: Oddities::default(),
        }
    }

    /// Handles a datagram from `source`.
    pub fn handle_datagram(&mut self, now: Now, source: IpAddr, datagram: &[u8]) {
        self.handle_due(now);
        self.stats.datagrams += 1;
        // spec: rfc5651 6.2, rfc5775 4.4 (an unreadable packet is dropped)
        let frame = match Frame::parse(datagram) {
            Ok(frame) => frame,
            Err(error) => {
                self.stats.malformed += 1;
                return self.oddities.note(malformed(&error));
            }
        };
        let Frame { header, extensions, .. } = frame;
        let tsi = header.tsi;
        // spec: rfc5775 5.1.2.4
        let meant = self.filter.source.is_none_or(|only| only == source)
            && self.filter.tsi.is_none_or(|only| only == tsi);
        if !meant {
            self.stats.wrong_session += 1;
            return;
        }
        let payload = match frame.payload() {
            Ok(payload) => payload,
            Err(error) => return self.count_unreadable(header.toi, header.codepoint, &error),
        };
        let packet = Packet { header, extensions, payload };
        if let Some(evicted) = self.sessions.admit(now.mono, (source, tsi)) {
            self.forget(&evicted);
        }
        let name = (source, tsi);
        self.sessions.handle_clock(now.utc, &name, &packet.extensions);
        let (Some(toi), Some(_)) = (packet.header.toi, packet.payload) else {
            if packet.header.close_session {
                self.sessions.handle_close(now.mono, &name);
            }
            // spec: rfc5651 8.1, rfc5651 5.1 (A and B are hints: nothing is dropped because of them)
            self.stats.data_less += 1;
            return;
        };
        if self.sessions.handle_symbol(now.mono, &name, toi == Toi::FDT) {
            self.waiting.drop_copies(source, tsi);
        }
        if toi == Toi::FDT {
            self.handle_fdt(now, name, &packet);
        } else {
            self.handle_symbol(now, UnsignedIdentity { source, tsi, toi }, &packet, datagram);
        }
        if packet.header.close_session {
            self.sessions.handle_close(now.mono, &name);
        }
    }

    /// Counts a packet whose data cannot be read: most often it is of a FEC scheme of others.
    // spec: rfc6726 3.3 (what is of an unknown scheme is not decoded)
    fn count_unreadable(&mut self, toi: Option<Toi>, codepoint: u8, error: &WireError) {
        if fec::is_supported(codepoint) {
            self.stats.malformed += 1;
            return self.oddities.note(malformed(error));
        }
        self.stats.unsupported_fec += 1;
        let of = if toi == Some(Toi::FDT) { "an FDT" } else { "a file" };
        self.oddities.note(format_args!("a packet of {of}: {}", unsupported(codepoint)));
    }

    /// Counts what was left out of an FDT instance, and names it.
    fn count_skipped(&mut self, held: &HeldInstance) {
        let skipped = &held.instance.skipped;
        self.stats.fdt_entries_skipped += skipped.entries;
        skipped.parts.iter().for_each(|part| self.oddities.note(format_args!("FDT: {part}")));
    }

    /// Lets a packet wait that arrived at `at`.
    fn wait(&mut self, at: Mono, of: UnsignedIdentity, which: For, datagram: &[u8]) {
        self.stats.dropped += self.waiting.push(at, of, which, datagram);
    }

    /// Forgets a session that makes room for others.
    fn forget(&mut self, session: &SessionName) {
        self.stats.sessions_evicted += 1;
        self.objects.forget_session(session, &mut self.outputs);
    }

    fn handle_fdt(&mut self, now: Now, name: SessionName, packet: &Packet<'_>) {
        self.stats.fdt += 1;
        let Some(session) = self.sessions.get_mut(name) else { return };
        let event = session.handle_fdt(now, packet);
        let given_up = session.take_given_up();
        (0..given_up).for_each(|_| self.oddities.note(INSTANCE_GIVEN_UP));
        while let Some(evicted) = self.sessions.evict_for_tables(&name) {
            self.forget(&evicted);
        }
        let Some(session) = self.sessions.get_mut(name) else { return };
        let id = packet.extensions.fdt().map_or(0, |header| header.instance_id);
        let (instance, rewritten) = match event {
            Ok(FdtEvent::Collected) => return,
            Ok(FdtEvent::Repeated) => {
                session.go_on();
                let held = session.waits_for(now.utc, id).then(|| session.held(now.utc, id));
                self.settle(name);
                (held.flatten(), None)
            }
            // Each instance describes its objects until it expires, also beside many newer ones.
            Ok(FdtEvent::Late(instance)) => {
                self.count_skipped(&instance);
                (Some(*instance), None)
            }
            Ok(FdtEvent::Expired { overdue, .. }) => {
                self.stats.fdt_expired += 1;
                self.stats.fdt_overdue_seconds = overdue.as_secs();
                return;
            }
            Ok(FdtEvent::Instance { id, contradicted, rewritten }) => {
                let count = u64::try_from(contradicted.len()).unwrap_or(u64::MAX);
                self.stats.contradicting += count;
                let instance = session.held(now.utc, id);
                instance.iter().for_each(|instance| self.count_skipped(instance));
                (instance, rewritten)
            }
            Ok(FdtEvent::Unreadable { reason: error, .. }) | Err(error) => {
                self.stats.fdt_refused += 1;
                self.oddities.note(format_args!("an FDT packet or document is refused: {error}"));
                return;
            }
        };
        if let Some(instance) = instance {
            self.store_instance(now, name, instance, rewritten);
        }
    }

    fn store_instance(
        &mut self,
        now: Now,
        (source, tsi): SessionName,
        instance: HeldInstance,
        rewritten: Option<Rewrite>,
    ) {
        let of = |toi| UnsignedIdentity { source, tsi, toi };
        let Some(session) = self.sessions.get_mut((source, tsi)) else { return };
        let changes = session.store_instance(
            now,
            instance,
            rewritten,
            &Known {
                progress: &|toi| self.objects.progress(now.mono, &of(toi)),
                first_generation: &|toi| self.objects.first_generation(&of(toi)),
                entry_bytes: self.limits.entry_bytes,
            },
        );
        self.on_descriptions(now, (source, tsi), changes);
    }

    fn on_descriptions(
        &mut self,
        now: Now,
        (source, tsi): SessionName,
        changes: DescriptionChanges,
    ) {
        let of = |toi: &Toi| UnsignedIdentity { source, tsi, toi: *toi };
        self.stats.entries_refused += changes.refused;
        for toi in &changes.evicted {
            self.objects.replace(&of(toi), &mut self.outputs);
        }
        for toi in &changes.replaced {
            self.objects.replace(&of(toi), &mut self.outputs);
            // They were of the content before.
            self.waiting.take(&of(toi), For::This);
        }
        for toi in changes.replaced.iter().chain(&changes.contradicted) {
            let number = self.sessions.announced(&of(toi)).map_or(0, Announced::latest_number);
            self.waiting.use_copies(&of(toi), number);
        }
        self.contradicted.extend(changes.contradicted.iter().map(of));
        self.settle((source, tsi));
        while let Some(evicted) = self.sessions.evict_for_tables(&(source, tsi)) {
            self.forget(&evicted);
        }
        if changes.begins_session {
            // What came before its first packet without a description was of the session before.
            let is_open = |of: &UnsignedIdentity| self.objects.get(of).is_some();
            self.stats.undecided += self.waiting.drop_all_stale(now.mono, source, tsi, is_open);
        }
        for toi in &changes.described {
            self.open_described(now.mono, of(toi));
            let number = self.sessions.announced(&of(toi)).map_or(0, Announced::number);
            self.drop_stale(now.mono, of(toi), For::Next(number));
            self.decide_waiting(now, of(toi));
        }
    }

    /// Handles a packet of a file. After a pause of its session it is used for the content that is
    /// described, and a copy of it is kept for another one that an instance may describe.
    // spec: rfc6726 3.3 (an instance describes its objects until it expires)
    fn handle_symbol(
        &mut self,
        now: Now,
        of: UnsignedIdentity,
        packet: &Packet<'_>,
        datagram: &[u8],
    ) {
        if let Some(number) = self.sessions.is_undecided(now.utc, &of) {
            return self.wait(now.mono, of, For::Next(number), datagram);
        }
        let is_doubtful = self.sessions.doubt(now.mono, &session_of(&of)) != Doubt::Nothing;
        if is_doubtful && self.sessions.announced(&of).is_some() {
            self.waiting.copy(now.mono, of, datagram);
        }
        self.handle_data(now.mono, now.mono, of, packet, datagram);
    }

    /// Records that the symbols of a session after a pause are of the contents that it describes,
    /// but for files that are described otherwise.
    fn settle(&mut self, (source, tsi): SessionName) {
        let is_other =
            |of: &UnsignedIdentity| self.sessions.announced(of).is_some_and(Announced::is_open);
        self.waiting.drop_copies(source, tsi);
        let settled = self.objects.settle(&(source, tsi), is_other);
        settled.into_iter().for_each(|key| self.proceed(key));
    }

    /// Handles the packets that waited for the description that counts now.
    fn decide_waiting(&mut self, now: Now, of: UnsignedIdentity) {
        let Some(number) = self.sessions.announced(&of).map(Announced::number) else { return };
        self.stats.undecided += self.waiting.drop_before(&of, number);
        for held in self.waiting.take(&of, For::Next(number)) {
            self.handle_held(now.mono, of, &held);
        }
    }

    /// Drops waiting packets of a file without a digest that may be of another content.
    fn drop_stale(&mut self, now: Mono, of: UnsignedIdentity, which: For) {
        let description = self.sessions.description(&of);
        if description.is_some_and(|description| description.entry.content_md5.is_none()) {
            self.stats.undecided += self.waiting.drop_stale(now, &of, which);
        }
    }

    /// Describes a file as the next instance does whose turn it is, once it is finished or silent.
    fn adopt(&mut self, now: Now, of: UnsignedIdentity) {
        while self.objects.progress(now.mono, &of) != Progress::Active {
            if !self.sessions.adopt(&of) {
                self.contradicted.remove(&of);
                return;
            }
            self.objects.replace(&of, &mut self.outputs);
            self.waiting.take(&of, For::This);
            self.open_described(now.mono, of);
            self.decide_waiting(now, of);
        }
    }

    /// Decides on files that are silent, and on those that waited for an instance after a pause.
    fn handle_due(&mut self, now: Now) {
        for name in self.sessions.take_resumed(now.mono) {
            self.objects.release_held_back(&name).into_iter().for_each(|key| self.proceed(key));
        }
        self.contradicted.clone().into_iter().for_each(|of| self.adopt(now, of));
    }

    /// Handles a packet that waited.
    fn handle_held(&mut self, now: Mono, of: UnsignedIdentity, held: &Held) {
        if let Ok(packet) = Packet::parse(&held.datagram) {
            self.handle_data(now, held.at, of, &packet, &held.datagram);
        }
    }

    /// Handles a packet that arrived at `at`. That time, not the one until which it may have
    /// waited, tells whether a file is silent.
    fn handle_data(
        &mut self,
        now: Mono,
        at: Mono,
        of: UnsignedIdentity,
        packet: &Packet<'_>,
        datagram: &[u8],
    ) {
        // spec: ts26346-mbms 7.2.8 (a profile of senders: receivers accept EXT_FTI all the same)
        let fti = match packet.extensions.fti(packet.header.codepoint) {
            Ok(fti) => fti,
            Err(error) => {
                self.stats.malformed += 1;
                self.oddities.note(format_args!("a packet of a file: EXT_FTI: {error}"));
                return;
            }
        };
        let doubt = self.sessions.doubt(at, &session_of(&of));
        if self.objects.retry_failed(now, &of) {
            self.sessions.forget_early_parameters(&of);
        }
        if self.objects.get(&of).is_none() {
            if self.sessions.contradicts(&of, packet.header.codepoint, fti) {
                let described = self.sessions.description(&of);
                let oti = described.and_then(|description| description.entry.oti);
                return self.count_contradiction(of, oti, packet.header.codepoint, fti);
            }
            let named = || self.sessions.named_by(&of, packet.header.codepoint);
            if let Some(oti) = fti.or_else(named) {
                self.sessions.store_early_parameters(&of, oti);
            }
            self.open_for_symbol(at, of, packet);
            if doubt != Doubt::Nothing
                && let Some(object) = self.objects.get_mut(&of)
            {
                object.open_in_doubt();
            }
        }
        self.objects.reserve(now, &of, &mut self.outputs);
        let Some(object) = self.objects.get_mut(&of) else {
            self.handle_unopened(at, of, datagram);
            return;
        };
        let outcome = object.handle_packet(at, packet, fti, doubt);
        object.drain_log(&mut self.outputs);
        if object.is_due_again() {
            object.drain(&mut self.outputs);
        }
        self.count_outcome(at, of, packet, fti, outcome);
        if outcome == PacketOutcome::Retry {
            self.wait(at, of, For::This, datagram);
        }
    }

    fn count_outcome(
        &mut self,
        at: Mono,
        of: UnsignedIdentity,
        packet: &Packet<'_>,
        fti: Option<Oti>,
        outcome: PacketOutcome,
    ) {
        let oti = |objects: &ObjectTable| objects.get(&of).map(|object| *object.layout().oti());
        match outcome {
            PacketOutcome::Stored => {
                self.stats.accepted += 1;
                self.sessions.touch(at, &session_of(&of));
            }
            PacketOutcome::NotNeeded => {
                self.stats.held += 1;
                if self.objects.get(&of).is_some_and(UnsignedObject::is_complete) {
                    self.sessions.touch(at, &session_of(&of));
                }
            }
            PacketOutcome::Retry => {}
            PacketOutcome::Invalid => {
                self.stats.invalid += 1;
                self.oddities.note("a symbol does not fit the description of its file");
                if let Some((oti, payload)) = oti(&self.objects).zip(packet.payload) {
                    self.objects.note(of, || misfit(&oti, payload.id, payload.symbols.len()));
                }
            }
            PacketOutcome::FecMismatch => {
                let oti = oti(&self.objects);
                self.count_contradiction(of, oti, packet.header.codepoint, fti);
            }
            PacketOutcome::Rejected => self.stats.refused += 1,
        }
    }

    fn count_contradiction(
        &mut self,
        of: UnsignedIdentity,
        oti: Option<Oti>,
        codepoint: u8,
        fti: Option<Oti>,
    ) {
        self.stats.contradicting += 1;
        self.oddities.note("a packet contradicts the FEC parameters of its file");
        if let Some(oti) = oti {
            self.objects.note(of, || contradiction(&oti, codepoint, fti));
        }
    }

    /// Handles a packet of a file that is not open: it waits, unless a newer version of the file has
    /// all its symbols.
    fn handle_unopened(&mut self, at: Mono, of: UnsignedIdentity, datagram: &[u8]) {
        let description = self.sessions.description(&of);
        if description.is_some_and(|description| self.objects.is_replaced(&of, &description)) {
            self.stats.held += 1;
        } else {
            self.wait(at, of, For::This, datagram);
        }
    }

    /// Handles the content of an object's directory.
    pub fn handle_recovered(&mut self, now: Now, key: Hash16, recovered: &Recovered) {
        let Some(object) = self.objects.with_key_mut(key) else { return };
        object.handle_recovered(recovered);
        if let Some(of) = self.objects.with_key(key) {
            self.objects.reserve(now.mono, &of, &mut self.outputs);
        }
        self.proceed(key);
        self.retry(now.mono, key);
    }

    /// Handles the reservation of the first `files` logs of an object.
    pub fn handle_reserved(&mut self, now: Now, key: Hash16, files: u32) {
        let Some(object) = self.objects.with_key_mut(key) else { return };
        object.handle_reserved(files);
        self.retry(now.mono, key);
    }

    /// Handles the lack of room, or of a directory, for an object. It is tried again after a
    /// while.
    pub fn handle_open_failed(&mut self, now: Now, key: Hash16, error: &StorageError) {
        let pause = self.retry_after;
        if let Some(object) = self.objects.with_key_mut(key) {
            object.handle_open_failed(now.mono, pause, format!("failed to {error}"));
        }
    }

    /// Handles the removal of an object that made room for others, or whose content was wrong.
    pub fn handle_discarded(&mut self, now: Now, key: Hash16) {
        if let Some(of) = self.objects.handle_discarded(key) {
            self.open_described(now.mono, of);
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
            object.handle_log_failed(now.mono, ticket, self.retry_after);
        }
        self.proceed(key);
    }

    /// Handles the outcome of decoding a block.
    pub fn handle_decoded(&mut self, now: Now, key: Hash16, sbn: Sbn, outcome: &DecodeOutcome) {
        if let Some(object) = self.objects.with_key_mut(key) {
            object.handle_decoded(now.mono, sbn, outcome, self.retry_after);
        }
        self.proceed(key);
    }

    /// Handles the sync of the record with this name.
    pub fn handle_recorded(&mut self, now: Now, name: &str) {
        let pause = self.retry_after;
        let Some(object) = self.objects.with_record(name) else { return };
        let key = object.layout().object_key();
        if object.handle_recorded(now.mono, pause) {
            let (layout, file) = (object.layout().clone(), object.report());
            self.outputs.push_back(Output::RemoveObject(layout));
            if self.has_replacement(key) {
                // The newer version has the name, or gets it next.
                self.objects.lose(key, &mut self.outputs);
            } else {
                self.objects.handle_complete(key, &mut self.outputs);
                self.outputs.push_back(Output::Complete(file));
            }
            self.open_others(now.mono);
            if let Some(of) = self.objects.with_key(key).filter(|of| self.contradicted.contains(of))
            {
                self.adopt(now, of);
            }
        }
        self.proceed(key);
    }

    /// Returns whether a newer version of a file has all its symbols.
    fn has_replacement(&self, key: Hash16) -> bool {
        let Some(of) = self.objects.with_key(key) else { return false };
        let description = self.sessions.description(&of);
        description.is_some_and(|description| self.objects.is_replaced(&of, &description))
    }

    /// Handles a failed write of a record.
    pub fn handle_record_failed(&mut self, now: Now, name: &str, error: &StorageError) {
        let pause = self.retry_after;
        if let Some(object) = self.objects.with_record(name) {
            object.fail(now.mono, pause, format!("failed to {error}"));
        }
    }

    /// Handles the verification of a file: its SHA-256 when it matches its description.
    pub fn handle_finished(
        &mut self,
        now: Now,
        key: Hash16,
        outcome: Result<Digest, FinishProblem>,
    ) {
        let pause = self.retry_after;
        let Some(object) = self.objects.with_key_mut(key) else { return };
        if object.is_rechecking() {
            return self.handle_kept(now, key, outcome);
        }
        match outcome {
            Ok(sha256) => object.handle_finished(sha256),
            Err(FinishProblem::Storage(error)) => {
                object.fail(now.mono, pause, format!("failed to {error}"));
            }
            Err(FinishProblem::WrongDigest) => {
                return self.discard(now.mono, key, "its digest does not match its Content-MD5");
            }
            Err(FinishProblem::WrongContent(why)) => return self.discard(now.mono, key, &why),
        }
        self.proceed(key);
    }

    /// Handles the reading of a complete file of an earlier run: another content is received anew.
    fn handle_kept(&mut self, now: Now, key: Hash16, outcome: Result<Digest, FinishProblem>) {
        let Some(object) = self.objects.with_key_mut(key) else { return };
        if outcome.is_ok_and(|sha256| object.handle_kept(sha256)) {
            self.outputs.push_back(Output::Complete(object.report()));
            return self.retry(now.mono, key);
        }
        if let Some(of) = self.objects.lose(key, &mut self.outputs) {
            self.open_described(now.mono, of);
        }
    }

    /// Flushes the logs that are due, and decides on files that are silent.
    pub fn handle_timeout(&mut self, now: Now) {
        self.objects.tick(now.mono).into_iter().for_each(|key| self.proceed(key));
        let count = self.objects.set_silent_aside(now.mono, &mut self.outputs);
        if count > 0 {
            self.oddities.note("files without a symbol for 10 s made room for others");
            self.open_others(now.mono);
        }
        self.handle_due(now);
    }

    /// Syncs all received symbols before the program ends.
    pub fn handle_shutdown(&mut self) {
        for key in self.objects.keys() {
            self.objects.with_key_mut(key).into_iter().for_each(UnsignedObject::flush);
            self.proceed(key);
        }
    }

    /// Returns when [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let silent = self.contradicted.iter().filter_map(|of| {
            let object = self.objects.get(of)?;
            (!object.is_assembled()).then(|| object.silent_at())
        });
        self.objects.deadline().into_iter().chain(self.sessions.deadline()).chain(silent).min()
    }

    /// Returns the next effect; `None` when there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the described files, complete or not.
    pub fn files(&self) -> impl Iterator<Item = UnsignedFile> {
        standing::files(&self.sessions, &self.objects)
    }

    /// Returns how far the described files are.
    #[must_use]
    pub fn standing(&self, now: Now) -> Standing {
        standing::standing(now, &self.sessions, &self.objects, &self.waiting)
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

    /// Counts datagrams that the shell dropped before it had a store.
    pub const fn count_dropped(&mut self, datagrams: u64) {
        self.stats.dropped += datagrams;
    }

    /// Returns the reasons why something received was not used.
    #[must_use]
    pub fn oddities(&self) -> Oddities {
        let mut oddities = self.oddities.clone();
        self.sessions.unfinished().for_each(|reason| oddities.note(reason));
        oddities
    }

    /// Returns the counters.
    #[must_use]
    pub const fn stats(&self) -> UnsignedStats {
        UnsignedStats { evicted: self.objects.evicted(), ..self.stats }
    }

    /// Returns the octets on disk of all files of this run: reserved, or complete.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.objects.disk_bytes()
    }

    /// Opens an object that is described and needs no symbol for that; handles the packets that
    /// waited for the description.
    fn open_described(&mut self, now: Mono, of: UnsignedIdentity) {
        if let Some(description) = self.sessions.description(&of)
            && self.objects.opens_at_once(&of, &description)
        {
            self.objects.open(now, of, &description, &mut self.outputs);
        }
        self.retry_object(now, of);
    }

    /// Opens an object that is described, for a packet with one of its symbols.
    fn open_for_symbol(&mut self, at: Mono, of: UnsignedIdentity, packet: &Packet<'_>) {
        let Some(payload) = packet.payload else { return };
        if let Some(description) = self.sessions.description(&of)
            && ObjectTable::has_block(&description, packet.header.codepoint, payload.id.sbn)
        {
            self.objects.open(at, of, &description, &mut self.outputs);
        }
    }

    /// Opens objects that waited for others to complete.
    fn open_others(&mut self, now: Mono) {
        let mut missing = self.objects.take_deferred();
        missing.extend(self.waiting.objects());
        missing.into_iter().for_each(|of| self.open_described(now, of));
    }

    /// Discards what was received of a file: it is received once more, and then rejected.
    fn discard(&mut self, now: Mono, key: Hash16, why: &str) {
        self.stats.wrong_digest += 1;
        self.oddities.note(format_args!("a file does not match its description: {why}"));
        if let Some(of) = self.objects.discard(key, why, &mut self.outputs) {
            self.open_described(now, of);
        }
    }

    /// Queues the effects of an object.
    fn proceed(&mut self, key: Hash16) {
        let Some(object) = self.objects.with_key_mut(key) else { return };
        object.drain(&mut self.outputs);
        if object.is_assembled()
            && let Some(of) = self.objects.with_key(key)
        {
            // An older version must not get the name after this one.
            for older in self.sessions.older_versions(&of) {
                if self.objects.get(&older).is_some_and(|object| !object.is_assembled()) {
                    self.objects.drop_incomplete(&older, &mut self.outputs);
                }
                self.waiting.take(&older, For::This);
            }
        }
    }

    fn retry(&mut self, now: Mono, key: Hash16) {
        if let Some(of) = self.objects.with_key(key) {
            self.retry_object(now, of);
        }
    }

    /// Handles the packets that waited for an object.
    fn retry_object(&mut self, now: Mono, of: UnsignedIdentity) {
        let mut waiting = self.waiting.take(&of, For::This);
        while let Some(held) = waiting.pop_front() {
            self.handle_held(now, of, &held);
            if self.waiting.len_of(&of) >= MAX_RETRIES {
                // These wait again; those behind them would, too. They come first the next time.
                self.waiting.put_back(of, waiting);
                return;
            }
        }
    }
}
