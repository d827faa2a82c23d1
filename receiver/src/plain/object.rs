//! The life of one plain file: symbols in, blocks solved, a name at the end.

use std::collections::VecDeque;

use proto::{
    crypto::{Digest, Hash16},
    fec::oti::Oti,
    flute::{alc::Packet, fdt::FileEntry},
    ids::{Esi, Sbn},
    time::Mono,
};

use super::{Output, PlainFile, record::Record};
use crate::{
    blocks::Blocks,
    decode::DecodeOutcome,
    symbols::{Content, Insert, Limits, ObjectLayout, Recovered, SymbolLog, Ticket},
};

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// A symbol was taken in.
    Stored,
    /// Nothing of it is needed.
    Held,
    /// The storage is not ready: offer it again.
    Later,
    /// No symbol of this object.
    Invalid,
    /// Its scheme or its parameters are not those of the object.
    Contradicts,
    /// The object is not received.
    Refused,
}

#[derive(Debug)]
enum State {
    /// Its directory is being opened.
    Opening,
    Receiving(Box<Blocks>),
    /// There is nothing to receive: the file is empty.
    Empty,
    /// All blocks are solved; the file is compared with what it should be.
    Checking,
    /// It has its name; the record that says so is being written.
    Naming,
    Complete,
    Failed(String),
    /// What was received is not what the FDT says, and was not when it was received anew.
    Refused(String),
}

/// One plain file while it is received, and after.
#[derive(Debug)]
pub struct PlainObject {
    layout: ObjectLayout,
    record: Record,
    entry: FileEntry,
    limits: Limits,
    state: State,
    /// Log files that have their room.
    reserved: u32,
    /// A block that the record on its way to the disk names and the one before did not.
    recording: Option<Sbn>,
    /// Whether the record is to be written.
    unkept: bool,
    sha256: Option<Digest>,
    heard: u64,
    heard_until_last_needed: u64,
}

impl PlainObject {
    /// Begins, or goes on where `record` says; `problem` is why it cannot be received.
    #[must_use]
    pub fn new(
        layout: ObjectLayout,
        record: Record,
        entry: FileEntry,
        unsynced_octets: usize,
        problem: Option<String>,
    ) -> Self {
        let unsynced = unsynced_octets.clamp(1 << 20, 8 << 20).max(4 * layout.slot_size());
        let limits = Limits {
            group_octets: (unsynced / 16).max(layout.slot_size()),
            flush_octets: unsynced / 4,
            unsynced_octets: unsynced,
            ..Limits::default()
        };
        let state = match problem {
            Some(problem) => State::Failed(problem),
            None if record.complete => State::Complete,
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
            unkept: false,
            sha256: None,
            heard: 0,
            heard_until_last_needed: 0,
        }
    }

    /// Takes a packet of this object; `fti` is what its EXT_FTI says.
    pub fn take(&mut self, now: Mono, packet: &Packet<'_>, fti: Option<Oti>) -> Take {
        let oti = *self.layout.oti();
        // spec: rfc6726 5 (the codepoint is the object's FEC Encoding ID; EXT_FTI never changes)
        // spec: rfc5052 6.1
        let agrees = packet.header.codepoint == oti.encoding_id();
        if !agrees || fti.is_some_and(|fti| fti != oti) {
            return Take::Contradicts;
        }
        let Some(payload) = packet.payload else { return Take::Invalid };
        let blocks = match &mut self.state {
            State::Opening => return Take::Later,
            State::Receiving(blocks) => blocks,
            State::Empty | State::Checking | State::Naming | State::Complete => return Take::Held,
            State::Failed(_) | State::Refused(_) => return Take::Refused,
        };
        let mut outcome = Take::Invalid;
        // spec: rfc5775 2.3
        for (id, symbol) in payload.each(oti.symbol_size()) {
            outcome = match insert(blocks, now, id.sbn, id.esi, symbol) {
                Insert::Stored => Take::Stored,
                Insert::Duplicate | Insert::BlockFull | Insert::BlockDone => Take::Held,
                Insert::Busy | Insert::NoRoom => Take::Later,
                Insert::Invalid => Take::Invalid,
            };
            match outcome {
                Take::Stored => {
                    self.heard += 1;
                    self.heard_until_last_needed = self.heard;
                }
                Take::Held => self.heard += 1,
                Take::Later => break,
                Take::Invalid | Take::Contradicts | Take::Refused => {}
            }
        }
        blocks.flush_if_complete(payload.id.sbn);
        outcome
    }

    /// Goes on with what survived.
    pub fn handle_recovered(&mut self, recovered: &Recovered) {
        if recovered.image_made {
            // Without the file nothing of it can be solved.
            self.record.done.clear();
        }
        self.reserved = recovered.files_ready;
        if self.layout.is_empty() {
            self.state = State::Empty;
            return;
        }
        let layout = self.layout.clone();
        let log = SymbolLog::recovered(layout, self.limits, recovered, &self.record.done, &[]);
        self.state = State::Receiving(Box::new(Blocks::new(log)));
    }

    /// Learns that the first `files` logs are reserved.
    pub fn handle_reserved(&mut self, files: u32) {
        self.reserved = files;
        self.with_log(|log| log.handle_reserved(files));
    }

    /// Learns that a flush has returned.
    pub fn handle_flushed(&mut self, ticket: Ticket) {
        self.with_log(|log| log.handle_flushed(ticket));
    }

    /// Learns that a write or a flush failed.
    pub fn handle_log_failed(&mut self, now: Mono, ticket: Ticket) {
        self.with_log(|log| log.handle_failed(now, ticket));
    }

    /// Learns what solving a block came to. A block that is solved is done once the record says so.
    pub fn handle_decoded(&mut self, sbn: Sbn, outcome: &DecodeOutcome) {
        let State::Receiving(blocks) = &mut self.state else { return };
        blocks.handle_decoded(sbn, outcome);
        match outcome {
            DecodeOutcome::Done => {
                self.record.done.insert(sbn);
                self.recording = Some(sbn);
                self.unkept = true;
            }
            DecodeOutcome::Failed(error) => self.fail(format!("failed to {error}")),
            DecodeOutcome::NeedsMore | DecodeOutcome::LostSlots(_) => {}
        }
    }

    /// Learns that the record is synced; returns whether the file is complete by it.
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

    /// Learns that the file is right and has its name.
    pub fn handle_finished(&mut self, sha256: Digest) {
        if matches!(self.state, State::Checking) {
            self.sha256 = Some(sha256);
            self.record.complete = true;
            self.unkept = true;
            self.state = State::Naming;
        }
    }

    /// Gives the file up; what is synced stays where it is.
    pub fn fail(&mut self, problem: String) {
        self.state = State::Failed(problem);
    }

    /// Gives the file up for what its octets are.
    pub fn refuse(&mut self, problem: String) {
        self.state = State::Refused(problem);
    }

    /// Flushes what has waited long enough; returns the object's key if there was something.
    pub fn tick(&mut self, now: Mono) -> Option<Hash16> {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        self.with_log(|log| log.handle_timeout(now));
        due.then(|| self.layout.object_key())
    }

    /// Syncs what was taken in.
    pub fn flush(&mut self) {
        self.with_log(SymbolLog::flush);
    }

    /// Hands on what is to be written.
    pub fn drain_log(&mut self, outputs: &mut VecDeque<Output>) {
        let key = self.layout.object_key();
        self.with_log(|log| {
            while let Some(output) = log.poll_output() {
                outputs.push_back(Output::Log(key, output));
            }
        });
    }

    /// Hands on all that is to be done next.
    pub fn drain(&mut self, outputs: &mut VecDeque<Output>) {
        self.drain_log(outputs);
        match &mut self.state {
            State::Receiving(blocks) if blocks.is_assembled() => {
                self.state = State::Checking;
                outputs.push_back(Output::Finish(self.layout.clone()));
            }
            State::Receiving(blocks) => outputs.extend(blocks.next_decode().map(Output::Decode)),
            State::Empty => {
                self.state = State::Checking;
                outputs.push_back(Output::Finish(self.layout.clone()));
            }
            State::Opening
            | State::Checking
            | State::Naming
            | State::Complete
            | State::Failed(_)
            | State::Refused(_) => {}
        }
        if std::mem::take(&mut self.unkept) {
            outputs.push_back(Output::Keep(self.record.file_name(), self.record.emit()));
        }
    }

    /// Returns when [`Self::tick`] has something to do.
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

    /// Returns whether an answer of the storage or of the decoder is to come.
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

    /// Returns what is kept of it.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Returns whether the file is there, and a record says so.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    /// Returns whether the file was given up.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed(_) | State::Refused(_))
    }

    /// Returns whether the file was given up for what its octets are.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused(_))
    }

    /// Returns how far it is.
    #[must_use]
    pub fn report(&self) -> PlainFile {
        let (needed, blocks) = match self.layout.is_empty() {
            true => (0, 0),
            false => (u64::from(self.layout.total_symbols()), self.layout.blocks()),
        };
        let all = (needed, blocks);
        let recorded = u32::try_from(self.record.done.len()).unwrap_or(u32::MAX);
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
        PlainFile {
            name: self.record.name.clone(),
            location: self.record.location.clone(),
            source: self.record.identity.source,
            tsi: self.record.identity.tsi.0,
            toi: self.record.identity.toi.0.to_string(),
            length: self.layout.image_octets(),
            state,
            problem,
            content_encoding: self.entry.content_encoding.clone(),
            sha256: self.sha256.map(|digest| digest.to_string()),
            blocks,
            blocks_done,
            symbols_held,
            symbols_needed: needed,
            symbols_heard: self.heard_until_last_needed,
        }
    }

    /// Says so when the file will lie there in the encoding in which it was sent.
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

/// Takes a symbol in; the last one of the object may come without its padding.
fn insert(blocks: &mut Blocks, now: Mono, sbn: Sbn, esi: Esi, symbol: &[u8]) -> Insert {
    let layout = blocks.log().layout();
    if symbol.len() == layout.symbol_size() {
        let tag = layout.tag(sbn, esi, symbol);
        return blocks.log_mut().insert(now, sbn, esi, tag, symbol);
    }
    // spec: rfc5445 3.2.2.2, rfc6330 4.4.2
    let is_last = sbn.0 + 1 == layout.blocks()
        && layout.block_symbols(sbn).is_some_and(|symbols| esi.0 + 1 == symbols);
    let size = u64::try_from(layout.symbol_size()).unwrap_or(u64::MAX);
    let length = match layout.image_octets() % size {
        0 => size,
        rest => rest,
    };
    let is_whole = match layout.oti() {
        Oti::NoCode(_) => true,
        Oti::RaptorQ(oti) => oti.parameters().sub_blocks == 1,
    };
    if !is_last || !is_whole || u64::try_from(symbol.len()).ok() != Some(length) {
        return Insert::Invalid;
    }
    let mut padded = symbol.to_vec();
    padded.resize(layout.symbol_size(), 0);
    let tag = layout.tag(sbn, esi, &padded);
    blocks.log_mut().insert(now, sbn, esi, tag, &padded)
}
