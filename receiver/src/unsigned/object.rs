//! Reception of one unsigned file: symbols in, blocks decoded, a name at the end.

use std::collections::VecDeque;

use proto::{
    crypto::{Digest, Hash16},
    fec::oti::Oti,
    flute::{alc::Packet, fdt::FileEntry},
    ids::{Esi, Sbn},
    time::Mono,
};

use super::{output::Output, record::Record, status::UnsignedFile};
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
    /// Reserved log files.
    reserved: u32,
    /// The block that the record being written names and its predecessor did not.
    recording: Option<Sbn>,
    /// Set when the record is to be written.
    record_dirty: bool,
    sha256: Option<Digest>,
    received: u64,
    received_until_last_needed: u64,
}

impl UnsignedObject {
    /// Starts or resumes the reception of `record`; `problem` is the reason why it cannot.
    #[must_use]
    pub fn new(
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
            None if record.is_complete() => State::Complete,
            None => State::Opening,
        };
        Self {
            layout,
            record,
            entry,
            limits,
            state,
            reserved: 0,
            recording: None,
            record_dirty: false,
            sha256: None,
            received: 0,
            received_until_last_needed: 0,
        }
    }

    /// Handles a packet of this object; `fti` is the content of its EXT_FTI.
    pub fn handle_packet(
        &mut self,
        now: Mono,
        packet: &Packet<'_>,
        fti: Option<Oti>,
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
            State::Opening => return PacketOutcome::Retry,
            State::Receiving(blocks) => blocks,
            State::Empty | State::Checking | State::Naming | State::Complete => {
                return PacketOutcome::NotNeeded;
            }
            State::Failed(_) | State::Refused(_) => return PacketOutcome::Rejected,
        };
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
                    self.received += 1;
                    self.received_until_last_needed = self.received;
                }
                PacketOutcome::NotNeeded => self.received += 1,
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
        self.reserved = recovered.files_ready;
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
        self.reserved = files;
        self.with_log(|log| log.handle_reserved(files));
    }

    /// Handles the end of a flush.
    pub fn handle_flushed(&mut self, ticket: Ticket) {
        self.with_log(|log| log.handle_flushed(ticket));
    }

    /// Handles a failed write or flush.
    pub fn handle_log_failed(&mut self, now: Mono, ticket: Ticket) {
        self.with_log(|log| log.handle_failed(now, ticket));
    }

    /// Handles the outcome of decoding a block. A decoded block is done once it is recorded.
    pub fn handle_decoded(&mut self, sbn: Sbn, outcome: &DecodeOutcome) {
        let State::Receiving(blocks) = &mut self.state else { return };
        blocks.handle_decoded(sbn, outcome);
        match outcome {
            DecodeOutcome::Done => {
                self.record.add_block(sbn);
                self.recording = Some(sbn);
                self.record_dirty = true;
            }
            DecodeOutcome::Failed(error) => self.fail(format!("failed to {error}")),
            DecodeOutcome::NeedsMore | DecodeOutcome::LostSlots(_) => {}
        }
    }

    /// Handles the sync of the record; returns whether it completes the file.
    pub fn handle_recorded(&mut self) -> bool {
        match &mut self.state {
            State::Receiving(blocks) => {
                self.recording.take().into_iter().for_each(|sbn| blocks.handle_block_done(sbn));
                false
            }
            State::Naming => {
                self.state = State::Complete;
                true
            }
            State::Opening
            | State::Empty
            | State::Checking
            | State::Complete
            | State::Failed(_)
            | State::Refused(_) => false,
        }
    }

    /// Handles the verified file, which has its name.
    pub fn handle_finished(&mut self, sha256: Digest) {
        if matches!(self.state, State::Checking) {
            self.sha256 = Some(sha256);
            self.record.set_complete();
            self.record_dirty = true;
            self.state = State::Naming;
        }
    }

    /// Fails the file; synced symbols stay.
    pub fn fail(&mut self, problem: String) {
        self.state = State::Failed(problem);
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
            | State::Complete
            | State::Failed(_)
            | State::Refused(_) => None,
        }
    }

    /// Returns whether a completion of the storage or of the decoder is outstanding.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match &self.state {
            State::Opening | State::Empty | State::Checking | State::Naming => true,
            State::Receiving(blocks) => {
                let is_reserving = self.reserved < self.layout.files();
                is_reserving || blocks.is_decoding() || !blocks.log().is_quiet()
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
            State::Empty | State::Checking | State::Naming => ("checking", all),
            State::Complete => ("complete", all),
            State::Failed(_) | State::Refused(_) => ("failed", (0, recorded)),
        };
        let problem = match &self.state {
            State::Failed(problem) | State::Refused(problem) => Some(problem.clone()),
            State::Opening
            | State::Receiving(_)
            | State::Empty
            | State::Checking
            | State::Naming
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
