//! Reception of one unsigned file: symbols in, blocks decoded, a name at the end.

use std::{collections::VecDeque, time::Duration};

use proto::{
    crypto::{Digest, Hash16},
    fec::oti::Oti,
    flute::{alc::Packet, fdt::FileEntry},
    ids::{Esi, Sbn},
    time::Mono,
};

use super::{
    announced::{Progress, SILENT_AFTER},
    output::Output,
    pauses::Doubt,
    record::Record,
    room::Room,
    status::UnsignedFile,
};
use crate::{
    flute::{blocks::Blocks, decode::DecodeOutcome},
    store::{Content, InsertOutcome, Limits, ObjectLayout, Recovered, SymbolLog, Ticket},
};

/// Outcome of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketOutcome {
    /// A symbol was stored.
    Stored,
    /// All its symbols are stored already, or not needed any more.
    NotNeeded,
    /// The storage is not ready: handle the packet again later.
    Retry,
    /// No symbol of this object.
    Invalid,
    /// Its FEC scheme or parameters differ from those of the object.
    FecMismatch,
    /// The object is not in reception.
    Rejected,
}

#[derive(Debug)]
enum State {
    /// Its directory is being opened.
    Opening,
    Receiving(Box<Blocks>),
    /// The file is empty.
    Empty,
    /// All blocks are decoded; the file is being verified.
    Checking,
    /// It has its name; its final record is being written.
    Naming,
    /// It is complete since an earlier run; the file is being read.
    Rechecking,
    Complete,
    Failed(String),
    /// It did not match the FDT, twice.
    Refused(String),
}

/// One unsigned file during reception, and after.
#[derive(Debug)]
pub struct UnsignedObject {
    layout: ObjectLayout,
    record: Record,
    entry: FileEntry,
    limits: Limits,
    state: State,
    room: Room,
    /// The block that the record being written names and its predecessor did not.
    recording: Option<Sbn>,
    /// Set when the record is to be written.
    record_dirty: bool,
    sha256: Option<Digest>,
    /// Time of the opening, or of the last symbol that is of this content without a doubt; `None`
    /// when all came after a pause.
    settled_at: Option<Mono>,
    /// Set while symbols from before a pause and after it may be of two contents.
    is_held_back: bool,
    received: u64,
    received_until_last_needed: u64,
}

impl UnsignedObject {
    /// Starts or resumes the reception of `record`; `problem` is the reason why it cannot.
    #[must_use]
    pub fn new(
        now: Mono,
        layout: ObjectLayout,
        record: Record,
        entry: FileEntry,
        unsynced_bytes: usize,
        problem: Option<String>,
    ) -> Self {
        let unsynced = unsynced_bytes.clamp(1 << 20, 8 << 20).max(4 * layout.slot_size());
        let limits = Limits {
            group_bytes: (unsynced / 16).max(layout.slot_size()),
            flush_bytes: unsynced / 4,
            unsynced_bytes: unsynced,
            ..Limits::default()
        };
        let state = match problem {
            Some(problem) => State::Failed(problem),
            None if record.is_complete() => State::Rechecking,
            None => State::Opening,
        };
        Self {
            layout,
            record,
            entry,
            limits,
            state,
            room: Room::new(now),
            recording: None,
            record_dirty: false,
            sha256: None,
            settled_at: Some(now),
            is_held_back: false,
            received: 0,
            received_until_last_needed: 0,
        }
    }

    /// Handles a packet of this object; `fti` is the content of its EXT_FTI.
    pub(super) fn handle_packet(
        &mut self,
        now: Mono,
        packet: &Packet<'_>,
        fti: Option<Oti>,
        doubt: Doubt,
    ) -> PacketOutcome {
        let oti = *self.layout.oti();
        // spec: rfc6726 5 (the codepoint is the object's FEC Encoding ID; EXT_FTI never changes)
        // spec: rfc5052 6.1
        let agrees = packet.header.codepoint == oti.encoding_id();
        if !agrees || fti.is_some_and(|fti| fti != oti) {
            return PacketOutcome::FecMismatch;
        }
        let Some(payload) = packet.payload else { return PacketOutcome::Invalid };
        let blocks = match &mut self.state {
            State::Opening | State::Rechecking => return PacketOutcome::Retry,
            State::Receiving(blocks) => blocks,
            State::Empty | State::Checking | State::Naming | State::Complete => {
                return PacketOutcome::NotNeeded;
            }
            State::Failed(_) | State::Refused(_) => return PacketOutcome::Rejected,
        };
        // spec: rfc6330 4.4.2 (whole symbols; only the last one of the object may come cut)
        let size = u64::from(oti.symbol_size());
        let cut = u64::try_from(payload.symbols.len()).unwrap_or(u64::MAX) % size;
        if cut != 0 && cut != self.layout.image_bytes() % size {
            return PacketOutcome::Invalid;
        }
        let mut outcome = PacketOutcome::Invalid;
        // spec: rfc5775 2.3
        for (id, symbol) in payload.each(oti.symbol_size()) {
            outcome = match insert(blocks, now, id.sbn, id.esi, symbol) {
                InsertOutcome::Stored => PacketOutcome::Stored,
                InsertOutcome::Duplicate | InsertOutcome::BlockFull | InsertOutcome::BlockDone => {
                    PacketOutcome::NotNeeded
                }
                InsertOutcome::Busy | InsertOutcome::NoRoom => PacketOutcome::Retry,
                InsertOutcome::Invalid => PacketOutcome::Invalid,
            };
            match outcome {
                PacketOutcome::Stored => {
                    self.room.touch(now);
                    match doubt {
                        Doubt::Nothing => self.settled_at = self.settled_at.max(Some(now)),
                        // The digest tells.
                        Doubt::Early => self.is_held_back = self.entry.content_md5.is_none(),
                        Doubt::Late => {}
                    }
                    self.received += 1;
                    self.received_until_last_needed = self.received;
                }
                PacketOutcome::NotNeeded => {
                    blocks.handle_unneeded(id.sbn);
                    self.received += 1;
                }
                PacketOutcome::Retry => break,
                PacketOutcome::Invalid | PacketOutcome::FecMismatch | PacketOutcome::Rejected => {}
            }
        }
        blocks.flush_if_complete(payload.id.sbn);
        outcome
    }

    /// Handles the content of the object's directory.
    pub fn handle_recovered(&mut self, recovered: &Recovered) {
        if recovered.image_made {
            self.record.clear_blocks();
        }
        let done = self.record.done().iter().copied();
        self.room.handle_recovered(&self.layout, recovered.files_ready, done);
        if self.layout.is_empty() {
            self.state = State::Empty;
            return;
        }
        let layout = self.layout.clone();
        let log = SymbolLog::recovered(layout, self.limits, recovered, self.record.done(), &[]);
        self.state = State::Receiving(Box::new(Blocks::new(log)));
    }

    /// Handles the reservation of the first `files` logs.
    pub fn handle_reserved(&mut self, files: u32) {
        self.room.handle_reserved(files);
        self.with_log(|log| log.handle_reserved(files));
    }

    /// Handles a failed opening or reservation. What is stored stays, and after `pause` the file is
    /// opened, or the log reserved, again.
    pub fn handle_open_failed(&mut self, now: Mono, pause: Duration, problem: String) {
        match &self.state {
            State::Opening => self.fail(now, pause, problem),
            State::Receiving(_)
            | State::Empty
            | State::Checking
            | State::Naming
            | State::Rechecking
            | State::Complete
            | State::Failed(_)
            | State::Refused(_) => self.room.handle_failed(now + pause, problem),
        }
    }

    /// Returns the octets that the next log takes on disk, when it is to be requested.
    #[must_use]
    pub fn wanted_bytes(&self, now: Mono) -> Option<u64> {
        let State::Receiving(blocks) = &self.state else { return None };
        let wants = self.room.wants_log(now, blocks.log());
        wants.then(|| self.room.next_bytes(&self.layout))
    }

    /// Requests the reservation of the next log.
    pub fn request_log(&mut self, outputs: &mut VecDeque<Output>) {
        outputs.push_back(Output::Reserve(self.layout.object_key(), self.room.request()));
    }

    /// Records that `limit` leaves no room for the next log.
    pub fn refuse_log(&mut self, limit: u64) {
        self.room.refuse(limit);
    }

    /// Returns the octets that it takes on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        match self.state {
            State::Complete => self.layout.image_bytes(),
            State::Opening
            | State::Receiving(_)
            | State::Empty
            | State::Checking
            | State::Naming
            | State::Rechecking
            | State::Failed(_)
            | State::Refused(_) => self.room.bytes(&self.layout),
        }
    }

    /// Returns the octets on disk that hold stored symbols or decoded blocks.
    #[must_use]
    pub fn filled_bytes(&self) -> u64 {
        let held = match &self.state {
            State::Receiving(blocks) => blocks.log().slots_held(),
            State::Opening
            | State::Empty
            | State::Checking
            | State::Naming
            | State::Rechecking
            | State::Complete
            | State::Failed(_)
            | State::Refused(_) => 0,
        };
        self.room.filled_bytes(&self.layout, held)
    }

    /// Returns the time of its last stored symbol, or of its opening.
    #[must_use]
    pub const fn stored_at(&self) -> Mono {
        self.room.stored_at()
    }

    /// Returns whether it can make room for others: nothing reads or writes its blocks.
    #[must_use]
    pub const fn is_evictable(&self) -> bool {
        match &self.state {
            State::Receiving(blocks) => !blocks.is_decoding(),
            State::Opening | State::Failed(_) => true,
            State::Empty
            | State::Checking
            | State::Naming
            | State::Rechecking
            | State::Complete
            | State::Refused(_) => false,
        }
    }

    /// Returns whether the storage failed it, and it may be tried again.
    #[must_use]
    pub fn may_retry(&self, now: Mono) -> bool {
        matches!(self.state, State::Failed(_)) && self.room.may_retry(now)
    }

    /// Handles the end of a flush.
    pub fn handle_flushed(&mut self, ticket: Ticket) {
        self.with_log(|log| log.handle_flushed(ticket));
    }

    /// Handles a failed write or flush. After the last of many, the file is tried again after
    /// `pause`.
    pub fn handle_log_failed(&mut self, now: Mono, ticket: Ticket, pause: Duration) {
        self.with_log(|log| log.handle_failed(now, ticket));
        self.fail_with_log(now, pause);
    }

    /// Fails the file if its log stores nothing more, once no block is being decoded.
    fn fail_with_log(&mut self, now: Mono, pause: Duration) {
        if let State::Receiving(blocks) = &self.state
            && blocks.log().has_failed()
            && !blocks.is_decoding()
        {
            self.fail(now, pause, "failed to store its symbols".to_owned());
        }
    }

    /// Handles the outcome of decoding a block. A decoded block is done once it is recorded.
    pub fn handle_decoded(
        &mut self,
        now: Mono,
        sbn: Sbn,
        outcome: &DecodeOutcome,
        pause: Duration,
    ) {
        let State::Receiving(blocks) = &mut self.state else { return };
        blocks.handle_decoded(sbn, outcome);
        match outcome {
            DecodeOutcome::Done => {
                self.record.add_block(sbn);
                self.room.handle_decoded(&self.layout, sbn);
                self.recording = Some(sbn);
                self.record_dirty = true;
            }
            DecodeOutcome::Failed(error) => self.fail(now, pause, format!("failed to {error}")),
            DecodeOutcome::NeedsMore | DecodeOutcome::LostSlots(_) => {
                self.fail_with_log(now, pause);
            }
        }
    }

    /// Handles the sync of the record; returns whether it completes the file.
    pub fn handle_recorded(&mut self, now: Mono, pause: Duration) -> bool {
        match &mut self.state {
            State::Receiving(blocks) => {
                self.recording.take().into_iter().for_each(|sbn| blocks.handle_block_done(sbn));
                if !blocks.is_assembled() {
                    self.fail_with_log(now, pause);
                }
                false
            }
            State::Naming => {
                self.state = State::Complete;
                true
            }
            State::Opening
            | State::Empty
            | State::Checking
            | State::Rechecking
            | State::Complete
            | State::Failed(_)
            | State::Refused(_) => false,
        }
    }

    /// Handles the verified file, which has its name.
    pub fn handle_finished(&mut self, sha256: Digest) {
        if matches!(self.state, State::Checking) {
            self.sha256 = Some(sha256);
            self.record.set_complete(sha256);
            self.record_dirty = true;
            self.state = State::Naming;
        }
    }

    /// Handles the file of an earlier run, which still has its digest; returns whether it was asked
    /// for.
    pub fn handle_kept(&mut self, sha256: Digest) -> bool {
        let is_asked = matches!(self.state, State::Rechecking);
        if is_asked {
            self.sha256 = Some(sha256);
            self.state = State::Complete;
        }
        is_asked
    }

    /// Returns whether it is complete since an earlier run, and its file is being read.
    #[must_use]
    pub const fn is_rechecking(&self) -> bool {
        matches!(self.state, State::Rechecking)
    }

    /// Returns whether all of it is received: it is being verified, or complete.
    #[must_use]
    pub const fn is_assembled(&self) -> bool {
        match self.state {
            State::Checking | State::Naming | State::Rechecking | State::Complete => true,
            State::Opening
            | State::Receiving(_)
            | State::Empty
            | State::Failed(_)
            | State::Refused(_) => false,
        }
    }

    /// Returns the progress of the reception.
    pub(super) fn progress(&self, now: Mono) -> Progress {
        match &self.state {
            State::Complete => Progress::Finished,
            State::Refused(_) => Progress::Refused,
            State::Empty | State::Checking | State::Naming | State::Rechecking => Progress::Active,
            State::Receiving(blocks) if blocks.is_decoding() => Progress::Active,
            State::Opening | State::Receiving(_) | State::Failed(_) => {
                match self.settled_at.is_some_and(|at| now.since(at) < SILENT_AFTER) {
                    true => Progress::Active,
                    false => Progress::Silent,
                }
            }
        }
    }

    /// Returns the time at which it is silent.
    pub(super) fn silent_at(&self) -> Mono {
        self.settled_at.map_or(Mono(0), |at| at + SILENT_AFTER)
    }

    /// Records that it was opened for a symbol that came after a pause.
    pub(super) const fn open_in_doubt(&mut self) {
        self.settled_at = None;
    }

    /// Records that all its symbols are of its content.
    pub(super) const fn settle(&mut self) {
        self.settled_at = Some(self.room.stored_at());
        self.is_held_back = false;
    }

    /// Lets it be complete although no instance states whether all its symbols are of its
    /// content; returns whether it waited for that.
    pub(super) const fn release(&mut self) -> bool {
        std::mem::replace(&mut self.is_held_back, false)
    }

    /// Returns whether its content has a digest, by which it goes on whenever it is described again.
    #[must_use]
    pub const fn has_digest(&self) -> bool {
        self.entry.content_md5.is_some()
    }

    /// Fails the file until `pause` is over; synced symbols stay.
    pub fn fail(&mut self, now: Mono, pause: Duration, problem: String) {
        self.room.retry_after(now, pause);
        self.state = State::Failed(problem);
    }

    /// Sets the time after which a file that failed may be tried again.
    pub fn retry_after(&mut self, now: Mono, pause: Duration) {
        self.room.retry_after(now, pause);
    }

    /// Rejects the file: its content does not match its description.
    pub fn refuse(&mut self, problem: String) {
        self.state = State::Refused(problem);
    }

    /// Flushes the log if it is due; returns the object's key if it was.
    pub fn tick(&mut self, now: Mono) -> Option<Hash16> {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        self.with_log(|log| log.handle_timeout(now));
        due.then(|| self.layout.object_key())
    }

    /// Syncs the received symbols.
    pub fn flush(&mut self) {
        self.with_log(SymbolLog::flush);
    }

    /// Returns whether a block is due whose last attempt failed.
    #[must_use]
    pub fn is_due_again(&self) -> bool {
        matches!(&self.state, State::Receiving(blocks) if blocks.is_due_again())
    }

    /// Queues pending log writes.
    pub fn drain_log(&mut self, outputs: &mut VecDeque<Output>) {
        let key = self.layout.object_key();
        self.with_log(|log| {
            while let Some(output) = log.poll_output() {
                outputs.push_back(Output::Log(key, output));
            }
        });
    }

    /// Queues all pending effects.
    pub fn drain(&mut self, outputs: &mut VecDeque<Output>) {
        self.drain_log(outputs);
        match &mut self.state {
            State::Receiving(blocks) if blocks.is_assembled() && self.is_held_back => {}
            State::Receiving(blocks) if blocks.is_assembled() => {
                self.state = State::Checking;
                outputs.push_back(Output::VerifyFile(self.layout.clone()));
            }
            State::Receiving(blocks) => outputs.extend(blocks.next_decode().map(Output::Decode)),
            State::Empty => {
                self.state = State::Checking;
                outputs.push_back(Output::VerifyFile(self.layout.clone()));
            }
            State::Opening
            | State::Checking
            | State::Naming
            | State::Rechecking
            | State::Complete
            | State::Failed(_)
            | State::Refused(_) => {}
        }
        if std::mem::take(&mut self.record_dirty) {
            outputs.push_back(Output::WriteRecord(self.record.file_name(), self.record.emit()));
        }
    }

    /// Returns the time of the next [`Self::tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        match &self.state {
            State::Receiving(blocks) => blocks.log().deadline(),
            State::Opening
            | State::Empty
            | State::Checking
            | State::Naming
            | State::Rechecking
            | State::Complete
            | State::Failed(_)
            | State::Refused(_) => None,
        }
    }

    /// Returns whether a completion of the storage or of the decoder is outstanding.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match &self.state {
            State::Opening | State::Empty | State::Checking | State::Naming | State::Rechecking => {
                true
            }
            State::Receiving(blocks) => {
                self.room.is_reserving() || blocks.is_decoding() || !blocks.log().is_quiet()
            }
            State::Complete | State::Failed(_) | State::Refused(_) => false,
        }
    }

    /// Returns the object's layout.
    #[must_use]
    pub const fn layout(&self) -> &ObjectLayout {
        &self.layout
    }

    /// Returns its record.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Returns whether the file is complete and recorded so.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    /// Returns whether the reception failed.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed(_) | State::Refused(_))
    }

    /// Returns whether the content was rejected.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused(_))
    }

    /// Describes its blocks for a person.
    #[cfg(test)]
    pub(super) fn dump(&self) -> String {
        match &self.state {
            State::Receiving(blocks) => format!("{}\n{:?}", blocks.dump(), self.room),
            State::Opening
            | State::Empty
            | State::Checking
            | State::Naming
            | State::Rechecking
            | State::Complete
            | State::Failed(_)
            | State::Refused(_) => format!("{:?}", self.state),
        }
    }

    /// Returns the progress.
    #[must_use]
    pub fn report(&self) -> UnsignedFile {
        let (needed, blocks) = match self.layout.is_empty() {
            true => (0, 0),
            false => (u64::from(self.layout.total_symbols()), self.layout.blocks()),
        };
        let all = (needed, blocks);
        let recorded = u32::try_from(self.record.done().len()).unwrap_or(u32::MAX);
        let (state, (symbols_held, blocks_done)) = match &self.state {
            State::Opening => ("opening", (0, recorded)),
            State::Receiving(blocks) => {
                let log = blocks.log();
                let done = (0..log.layout().blocks()).filter(|sbn| log.is_done(Sbn(*sbn))).count();
                ("receiving", (log.synced_total(), u32::try_from(done).unwrap_or(u32::MAX)))
            }
            State::Empty | State::Checking | State::Naming | State::Rechecking => ("checking", all),
            State::Complete => ("complete", all),
            State::Failed(_) | State::Refused(_) => ("failed", (0, recorded)),
        };
        let problem = match &self.state {
            State::Failed(problem) | State::Refused(problem) => Some(problem.clone()),
            State::Receiving(_) => self.room.problem().cloned().or_else(|| self.stays_encoded()),
            State::Opening
            | State::Empty
            | State::Checking
            | State::Naming
            | State::Rechecking
            | State::Complete => self.stays_encoded(),
        };
        UnsignedFile {
            name: self.record.name().to_owned(),
            location: self.record.location().to_owned(),
            source: self.record.identity().source,
            tsi: self.record.identity().tsi.0,
            toi: self.record.identity().toi.0.to_string(),
            length: self.layout.image_bytes(),
            state,
            problem,
            content_encoding: self.entry.content_encoding.clone(),
            sha256: self.sha256.map(|digest| digest.to_string()),
            blocks,
            blocks_done,
            symbols_held,
            symbols_needed: needed,
            symbols_received: self.received_until_last_needed,
        }
    }

    /// Returns a note when the file is stored in the encoding in which it was sent.
    fn stays_encoded(&self) -> Option<String> {
        let encoding = self.entry.content_encoding.as_ref()?;
        match self.layout.content() {
            Content::File(file) if file.encoded.is_none() && !file.is_empty => {
                Some(format!("content encoding {encoding:?} is not known: stored as sent"))
            }
            Content::File(_) | Content::Image(_) => None,
        }
    }

    fn with_log(&mut self, act: impl FnOnce(&mut SymbolLog)) {
        if let State::Receiving(blocks) = &mut self.state {
            act(blocks.log_mut());
        }
    }
}

/// Stores a symbol; the last one of the object may arrive without its padding.
fn insert(blocks: &mut Blocks, now: Mono, sbn: Sbn, esi: Esi, symbol: &[u8]) -> InsertOutcome {
    let layout = blocks.log().layout();
    if symbol.len() == layout.symbol_size() {
        let tag = layout.tag(sbn, esi, symbol);
        return blocks.log_mut().insert(now, sbn, esi, tag, symbol);
    }
    // spec: rfc5445 3.2.2.2, rfc6330 4.4.2
    let is_last = sbn.0 + 1 == layout.blocks()
        && layout.block_symbols(sbn).is_some_and(|symbols| esi.0 + 1 == symbols);
    let size = u64::try_from(layout.symbol_size()).unwrap_or(u64::MAX);
    let length = match layout.image_bytes() % size {
        0 => size,
        length => length,
    };
    let is_whole = match layout.oti() {
        Oti::NoCode(_) => true,
        Oti::RaptorQ(oti) => oti.parameters().sub_blocks == 1,
    };
    if !is_last || !is_whole || u64::try_from(symbol.len()).ok() != Some(length) {
        return InsertOutcome::Invalid;
    }
    let mut padded = symbol.to_vec();
    padded.resize(layout.symbol_size(), 0);
    let tag = layout.tag(sbn, esi, &padded);
    blocks.log_mut().insert(now, sbn, esi, tag, &padded)
}
