//! The reception of the armed object: channels, packets, decode progress, the end of the windows.
//!
//! ```text
//! open window, open gate -> joined -> packets -> blocks decoded -> assembled
//! last window over        -> the last symbols synced -> windows over
//! ```
//!
//! The joined channels are those that the open windows and the object need. Packets are stored for
//! the armed object alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use proto::{
    crypto::Hash16,
    flute::alc::Packet,
    ids::Sbn,
    time::{Mono, Now},
    trust::PlannedObject,
    tune_in::TuneIn,
    wire::WireError,
};

use crate::{
    flute::{
        decode::{DecodeJob, DecodeOutcome},
        object::Object,
        stats::Stats,
        tuner::Tuner,
    },
    store::{
        Limits, ObjectLayout, Recovered, SlotRun, StorageError, SymbolLog, Ticket,
        commands::{Completion, StorageCommand, VerifyOutcome},
        journal_state::{JournalState, ObjectProgress, fixed},
    },
};

/// Octets of a datagram that can be an ALC packet of ours.
const DATAGRAM_BYTES: std::ops::RangeInclusive<usize> = 12..=1472;

/// The reception of the device: at most one object is armed.
#[derive(Debug, Default)]
pub struct Reception {
    tuner: Tuner,
    joined: Vec<TuneIn>,
    armed: Option<ArmedObject>,
    /// The object that the storage has open for this arming, after the commands so far.
    open: Option<Hash16>,
    /// Removals that the storage has not answered: its answers before are about objects before.
    removals: u32,
    /// Writes to the image of this arming that the storage has not answered, and those before them.
    image_writes: u32,
    late_image_writes: u32,
    /// The decode progress of the stored objects, by object key.
    progress: BTreeMap<Hash16, DecodeProgress>,
    stats: Stats,
    gate: Gate,
    /// Set when the last window was over at the last [`Self::renew`].
    is_over: bool,
}

/// The object of the armed campaign.
#[derive(Debug)]
struct ArmedObject {
    planned: PlannedObject,
    layout: ObjectLayout,
    /// The plan header of the arming.
    plan_header: Option<Vec<u8>>,
    /// `None` until the object's directory is read.
    object: Option<Object>,
    /// Symbols found on disk at recovery.
    resumed: u64,
    /// Set when a packet of the FLUTE session was received in this run.
    session_received: bool,
    /// Reserved log files.
    reserved: u32,
}

/// The decode progress of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct DecodeProgress {
    /// Blocks that are synced in the image.
    blocks: BTreeSet<Sbn>,
    /// Set once the image was read back and its digest matched.
    verified: bool,
    /// Slots of the logs that failed and are ignored.
    bad: Vec<SlotRun>,
    /// Set once the image was wrong: its blocks are decoded again.
    redecoded: bool,
}

/// The permission to receive, by the phase of the operation, the suspend reasons and the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gate {
    /// The operation has not begun to receive, or has assembled its image.
    #[default]
    Closed,
    /// Blocks are decoded, and no channel is joined.
    Paused,
    /// The channels of the open windows are joined while the object needs packets.
    Open,
}

/// An event of the reception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceptionEvent {
    /// The armed object is open; its image may be verified already.
    Opened {
        /// Set when the image was read back in an earlier run and is the signed one.
        is_verified: bool,
    },
    /// The armed object cannot be opened, or its space cannot be reserved.
    NotOpened(StorageError),
    /// Slots of the logs failed. The error ends the reception: the storage fails repeatedly.
    SlotsFailed(Option<StorageError>),
    /// A block has enough synced symbols.
    Decodable(DecodeJob),
    /// A block is decoded and synced in the image.
    BlockDecoded(Sbn),
    /// A block needs more symbols.
    BlockNotDecoded,
    /// A block cannot be written to the image: there is no room.
    NoRoom,
    /// Every block is decoded.
    Assembled,
    /// Enough symbols of every block are received: the channels are not needed any more.
    Enough,
    /// The image was read back.
    ImageVerified(VerifyOutcome),
    /// The last window is over, what was received is synced, and it is not enough.
    WindowsOver {
        /// Set when anything of the FLUTE session was received.
        received: bool,
    },
}

/// A change of the joined channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelChange {
    /// Channels to leave.
    pub left: Vec<TuneIn>,
    /// Channels to join.
    pub joined: Vec<TuneIn>,
    /// Set when any channel is joined after it.
    pub is_tuned_in: bool,
}

/// The reception as operators see it. Symbols count once they are synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceptionStatus {
    /// Channels that are joined, `group:port`.
    pub channels: Vec<String>,
    /// Symbols synced, K for each decoded block.
    pub symbols_synced: u64,
    /// Source symbols of the object.
    pub symbols_needed: u64,
    /// Symbols found on disk when this run began.
    pub symbols_resumed: u64,
    /// Slots that hold synced symbols of undecoded blocks.
    pub slots_held: u64,
    /// Decoded blocks.
    pub blocks_done: u64,
    /// Blocks of the object.
    pub blocks: u64,
    /// Reserved log files, and the number that the object needs.
    pub logs_reserved: Option<(u32, u32)>,
}

impl Reception {
    /// Restores windows and decode progress from the journal.
    ///
    /// # Errors
    ///
    /// [`WireError`] when an object has a key that this program cannot have written.
    pub fn from_journal(now: Now, boot_id: &str, state: &JournalState) -> Result<Self, WireError> {
        let tuner = Tuner::recovered(now, boot_id, &state.tune_ins);
        let progress = state.objects.iter().map(DecodeProgress::read).collect::<Result<_, _>>()?;
        Ok(Self { tuner, progress, ..Self::default() })
    }

    /// Writes windows and decode progress to the journal.
    pub fn write_journal(&self, boot_id: &str, state: &mut JournalState) {
        state.tune_ins = self.tuner.records(boot_id);
        state.objects = self.progress.iter().map(|(key, progress)| progress.write(*key)).collect();
    }

    /// Restores the object that was armed in an earlier run.
    pub fn restore_object(&mut self, planned: PlannedObject, plan_header: Option<Vec<u8>>) {
        let layout = ObjectLayout::new(planned.object_key, planned.stored_sha256, planned.oti);
        self.close();
        self.armed = Some(ArmedObject {
            planned,
            layout,
            plan_header,
            object: None,
            resumed: 0,
            session_received: false,
            reserved: 0,
        });
    }

    /// Arms an object for the windows of a tuner; the progress of others is forgotten.
    pub fn arm(&mut self, planned: PlannedObject, tuner: Tuner, plan_header: Option<Vec<u8>>) {
        self.tuner = tuner;
        self.progress.retain(|key, _| *key == planned.object_key);
        self.restore_object(planned, plan_header);
    }

    /// Arms an object whose image comes by unicast, from its first octet on.
    pub fn arm_unicast(&mut self, planned: PlannedObject) {
        self.progress.clear();
        self.restore_object(planned, None);
    }

    /// Moves the windows of the armed object.
    pub fn move_windows(&mut self, tuner: Tuner) {
        self.tuner = tuner;
    }

    /// Disarms: no window is left. Returns the layout of the object that was armed.
    pub fn disarm(&mut self) -> Option<ObjectLayout> {
        self.tuner = Tuner::default();
        self.close();
        self.armed.take().map(|armed| armed.layout)
    }

    /// Ends an arming for the storage: answers that are still to come are not about the next.
    const fn close(&mut self) {
        self.open = None;
        self.late_image_writes += self.image_writes;
        self.image_writes = 0;
    }

    /// Forgets the decode progress of all objects but this one.
    pub fn forget_progress_except(&mut self, kept: Option<&ObjectLayout>) {
        let kept = kept.map(ObjectLayout::object_key);
        self.progress.retain(|key, _| Some(*key) == kept);
    }

    /// Returns the layout of the armed object.
    #[must_use]
    pub fn layout(&self) -> Option<&ObjectLayout> {
        self.armed.as_ref().map(|armed| &armed.layout)
    }

    /// Returns whether anything of an object is stored.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.armed.is_some() || !self.progress.is_empty()
    }

    /// Handles a datagram. The order of checks is that of security facts 4.5: each step costs more
    /// than the one before.
    pub fn handle_datagram(
        &mut self,
        now: Mono,
        channel: SocketAddr,
        source: IpAddr,
        datagram: &[u8],
    ) {
        self.stats.datagrams += 1;
        let mut on_channel =
            self.joined.iter().filter(|tune_in| tune_in.channel == channel).peekable();
        let Some(armed) = self.armed.as_mut().filter(|_| on_channel.peek().is_some()) else {
            self.stats.not_tuned_in += 1;
            return;
        };
        if !DATAGRAM_BYTES.contains(&datagram.len()) {
            self.stats.malformed += 1;
            return;
        }
        let Ok(packet) = Packet::parse(datagram) else {
            self.stats.malformed += 1;
            return;
        };
        if !on_channel.any(|joined| joined.source == source && joined.tsi == packet.header.tsi) {
            self.stats.wrong_session += 1;
            return;
        }
        match &mut armed.object {
            Some(object) => {
                armed.session_received |= object.handle_packet(now, &packet, &mut self.stats);
            }
            None => self.stats.data_dropped += 1,
        }
    }

    /// Flushes symbols that have waited long enough. Late and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Mono) {
        if let Some(object) = self.object_mut() {
            object.log_mut().handle_timeout(now);
        }
    }

    /// Returns the time of the next [`Self::handle_timeout`].
    #[must_use]
    pub fn flush_deadline(&self) -> Option<Mono> {
        self.object()?.log().deadline()
    }

    /// Returns the time of the next [`Self::tune`] or [`Self::end_windows`].
    #[must_use]
    pub fn next_window_change(&self, now: Mono) -> Option<Mono> {
        self.armed.as_ref()?;
        self.tuner.next_change(now)
    }

    /// Sets the gate.
    pub const fn set_gate(&mut self, gate: Gate) {
        self.gate = gate;
    }

    /// Sets the gate, and records whether the last window of the armed object is over.
    pub fn renew(&mut self, now: Mono, gate: Gate) {
        self.set_gate(gate);
        self.is_over = self.has_no_window_left(now);
    }

    /// Returns whether [`Self::renew`] would change nothing.
    #[must_use]
    pub fn is_renewed(&self, now: Mono, gate: Gate) -> bool {
        self.gate == gate && self.is_over == self.has_no_window_left(now)
    }

    /// Syncs all received symbols: at suspend, and before the process ends.
    pub fn flush(&mut self) {
        if let Some(object) = self.object_mut() {
            object.log_mut().flush();
        }
    }

    /// Handles a completion of the storage. Answers about an object that is not open come too late.
    pub fn handle_storage(&mut self, now: Mono, completion: Completion) -> Option<ReceptionEvent> {
        match completion {
            Completion::Recovered(key, recovered) if self.is_open(key) => {
                self.handle_recovered(&recovered)
            }
            Completion::Reserved(key, files) if self.is_open(key) => {
                self.handle_reserved(files);
                None
            }
            Completion::OpenFailed(key, error) if self.is_open(key) => {
                tracing::error!(%error, "failed to reserve space for the image");
                Some(ReceptionEvent::NotOpened(error))
            }
            Completion::LogFailed(key, ticket, error) if self.is_open(key) => {
                tracing::error!(%error, "failed to store symbols");
                self.handle_log_failed(now, ticket, error)
            }
            Completion::Decoded(key, sbn, outcome) if self.is_open(key) => {
                self.handle_decoded(sbn, outcome)
            }
            Completion::ImageVerified(key, outcome) if self.is_open(key) => {
                Some(ReceptionEvent::ImageVerified(outcome))
            }
            Completion::Recovered(..)
            | Completion::Reserved(..)
            | Completion::OpenFailed(..)
            | Completion::Flushed(..)
            | Completion::LogFailed(..)
            | Completion::Decoded(..)
            | Completion::ImageVerified(..)
            | Completion::ImageWritten(..)
            | Completion::JournalWritten(_)
            | Completion::JournalFailed(..)
            | Completion::FileDone(_)
            | Completion::FileFailed(..)
            | Completion::OptionalFileWritten(_)
            | Completion::Discarded(..)
            | Completion::ObjectsRemoved(_) => None,
        }
    }

    /// Handles the end of a flush. Returns whether the last window is over: then it leads to
    /// [`Self::end_windows`].
    pub fn handle_flushed(&mut self, key: Hash16, ticket: Ticket) -> bool {
        if self.is_open(key)
            && let Some(object) = self.object_mut()
        {
            object.log_mut().handle_flushed(ticket);
        }
        self.is_over
    }

    /// Records a command that the storage executes next.
    pub fn handle_command(&mut self, command: &StorageCommand) {
        match command {
            StorageCommand::Open(layout) | StorageCommand::VerifyImage(layout) => {
                self.open = Some(layout.object_key());
            }
            StorageCommand::WriteImage(..) => self.image_writes += 1,
            StorageCommand::RemoveOtherObjects(_) | StorageCommand::Drop(_) => self.removals += 1,
            StorageCommand::Log(..)
            | StorageCommand::Journal(_)
            | StorageCommand::WriteFile(..)
            | StorageCommand::WriteOptionalFile(..)
            | StorageCommand::RemoveFile(_)
            | StorageCommand::Decode(_)
            | StorageCommand::VerifyKept(..)
            | StorageCommand::Reserve(..)
            | StorageCommand::Discard(_) => {}
        }
    }

    /// Handles that the storage has removed objects, or has failed to.
    pub const fn handle_objects_removed(&mut self) {
        self.removals = self.removals.saturating_sub(1);
    }

    /// Handles that the storage has answered a write to an image, in order. Returns whether it is
    /// that of this arming.
    pub const fn handle_image_written(&mut self) -> bool {
        let is_late = self.late_image_writes > 0;
        let answered = if is_late { &mut self.late_image_writes } else { &mut self.image_writes };
        *answered = answered.saturating_sub(1);
        !is_late
    }

    /// Returns whether an answer about the object of this key is about this arming of it: the
    /// object may have been armed, and opened, before.
    fn is_open(&self, key: Hash16) -> bool {
        self.removals == 0
            && self.open == Some(key)
            && self.layout().is_some_and(|layout| layout.object_key() == key)
    }

    /// Opens the armed object with the content of its directory.
    fn handle_recovered(&mut self, recovered: &Recovered) -> Option<ReceptionEvent> {
        let (symbols, damaged) = (recovered.slots.len(), recovered.damaged);
        tracing::info!(symbols, damaged, "recovered");
        let armed = self.armed.as_mut()?;
        let progress = self.progress.entry(armed.planned.object_key).or_default();
        let log = SymbolLog::recovered(
            armed.layout.clone(),
            Limits::default(),
            recovered,
            &progress.blocks,
            &progress.bad,
        );
        armed.reserved = recovered.files_ready;
        armed.resumed = log.synced_total();
        let mut object = Object::new(armed.planned, log);
        object.recover_tables(&recovered.tables);
        if let Some(header) = armed.plan_header.as_deref() {
            object.receive_header(header, &mut self.stats);
        }
        armed.object = Some(object);
        Some(ReceptionEvent::Opened { is_verified: progress.verified })
    }

    /// Records that the first `files` logs are reserved.
    fn handle_reserved(&mut self, files: u32) {
        if let Some(armed) = &mut self.armed {
            armed.reserved = files;
            if let Some(object) = &mut armed.object {
                object.log_mut().handle_reserved(files);
            }
        }
    }

    /// Records the slots of a failed write or flush.
    fn handle_log_failed(
        &mut self,
        now: Mono,
        ticket: Ticket,
        error: StorageError,
    ) -> Option<ReceptionEvent> {
        let armed = self.armed.as_mut()?;
        let log = armed.object.as_mut()?.log_mut();
        log.handle_failed(now, ticket);
        self.progress.entry(armed.layout.object_key()).or_default().bad = log.bad_runs();
        Some(ReceptionEvent::SlotsFailed(Some(error).filter(|_| log.has_failed())))
    }

    /// Handles the outcome of decoding a block. One that is done is progress, and its slots are
    /// free by [`Self::handle_block_done`] once the journal records that.
    fn handle_decoded(&mut self, sbn: Sbn, outcome: DecodeOutcome) -> Option<ReceptionEvent> {
        if let DecodeOutcome::Failed(error) = &outcome {
            tracing::warn!(%error, "block not written");
        }
        let armed = self.armed.as_mut()?;
        armed.object.as_mut()?.blocks_mut().handle_decoded(sbn, &outcome);
        match outcome {
            DecodeOutcome::Done => {
                self.progress.entry(armed.layout.object_key()).or_default().blocks.insert(sbn);
                Some(ReceptionEvent::BlockDecoded(sbn))
            }
            DecodeOutcome::Failed(StorageError::NoSpace { .. }) => Some(ReceptionEvent::NoRoom),
            DecodeOutcome::NeedsMore
            | DecodeOutcome::LostSlots(_)
            | DecodeOutcome::Failed(StorageError::Io { .. }) => {
                Some(ReceptionEvent::BlockNotDecoded)
            }
        }
    }

    /// Handles that the journal records a decoded block.
    pub fn handle_block_done(&mut self, sbn: Sbn) {
        if let Some(object) = self.object_mut() {
            object.blocks_mut().handle_block_done(sbn);
        }
    }

    /// Records that the image was read back and is the signed one.
    pub fn mark_verified(&mut self) {
        if let Some(armed) = &self.armed {
            self.progress.entry(armed.layout.object_key()).or_default().verified = true;
        }
    }

    /// Decodes all blocks again because the image is wrong: symbols are exact, so the stored blocks
    /// were damaged. Returns the object to open; `None` when that has not helped before.
    pub fn decode_again(&mut self) -> Option<ObjectLayout> {
        let armed = self.armed.as_mut()?;
        let progress = self.progress.entry(armed.layout.object_key()).or_default();
        if progress.redecoded {
            return None;
        }
        armed.object = None;
        let bad = std::mem::take(&mut progress.bad);
        *progress = DecodeProgress { bad, redecoded: true, ..DecodeProgress::default() };
        Some(armed.layout.clone())
    }

    /// Returns the next event of the blocks. Symbols of a block that has enough of them are
    /// flushed, instead of waiting for the timer.
    pub fn poll(&mut self) -> Option<ReceptionEvent> {
        let object = self.armed.as_mut()?.object.as_mut()?;
        let blocks = object.blocks_mut();
        blocks.flush_complete_blocks();
        if let Some(job) = blocks.next_decode() {
            return Some(ReceptionEvent::Decodable(job));
        }
        if self.gate != Gate::Closed && blocks.is_assembled() {
            return Some(ReceptionEvent::Assembled);
        }
        (!self.joined.is_empty() && blocks.has_enough()).then_some(ReceptionEvent::Enough)
    }

    /// Returns the next write or sync of the logs.
    pub fn poll_log(&mut self) -> Option<StorageCommand> {
        let armed = self.armed.as_mut()?;
        let output = armed.object.as_mut()?.log_mut().poll_output()?;
        Some(StorageCommand::Log(armed.layout.object_key(), output))
    }

    /// Replaces the joined channels by those that the open windows and the object need. Returns
    /// `None` when they are the same.
    pub fn tune(&mut self, now: Mono) -> Option<ChannelChange> {
        let lacks_symbols = || self.object().is_some_and(|object| !object.blocks().has_enough());
        let wants_packets = self.gate == Gate::Open && lacks_symbols();
        let wanted = || self.tuner.wanted(now).filter(|_| wants_packets);
        if wanted().eq(&self.joined) {
            return None;
        }
        let wanted: Vec<_> = wanted().cloned().collect();
        let is_tuned_in = !wanted.is_empty();
        let joined = wanted.iter().filter(|it| !self.joined.contains(it)).cloned().collect();
        let mut left = std::mem::replace(&mut self.joined, wanted);
        left.retain(|tune_in| !self.joined.contains(tune_in));
        Some(ChannelChange { left, joined, is_tuned_in })
    }

    /// Ends the reception after the last window, unless enough symbols are received. The last
    /// symbols are synced first, for another window: their flush leads here again.
    pub fn end_windows(&mut self, now: Mono) -> Option<ReceptionEvent> {
        let armed = self.armed.as_mut()?;
        let object = armed.object.as_mut()?;
        if !self.tuner.is_over(now) {
            return None;
        }
        if !object.log().is_quiet() {
            object.log_mut().flush();
            return None;
        }
        if self.gate == Gate::Closed || object.blocks().has_enough() {
            return None;
        }
        let received = armed.session_received || object.log().synced_total() > 0;
        Some(ReceptionEvent::WindowsOver { received })
    }

    /// Returns the part of the object that is synced, per mille.
    #[must_use]
    pub fn progress_per_mille(&self) -> u16 {
        self.object().map_or(0, |object| {
            let needed = u64::from(object.log().layout().total_symbols()).max(1);
            let held = object.log().synced_total().min(needed);
            u16::try_from(held * 1000 / needed).unwrap_or(1000)
        })
    }

    /// Returns the status for operators.
    #[must_use]
    pub fn status(&self) -> ReceptionStatus {
        let armed = self.armed.as_ref();
        let log = self.object().map(Object::log);
        let blocks = log.map_or(0, |log| log.layout().blocks());
        let done = |log: &SymbolLog| (0..blocks).filter(|sbn| log.is_done(Sbn(*sbn))).count();
        ReceptionStatus {
            channels: self.joined.iter().map(|tune_in| tune_in.channel.to_string()).collect(),
            symbols_synced: log.map_or(0, SymbolLog::synced_total),
            symbols_needed: armed.map_or(0, |armed| armed.layout.total_symbols().into()),
            symbols_resumed: armed.map_or(0, |armed| armed.resumed),
            slots_held: log.map_or(0, SymbolLog::slots_held),
            blocks_done: log.map_or(0, |log| u64::try_from(done(log)).unwrap_or(u64::MAX)),
            blocks: blocks.into(),
            logs_reserved: armed.map(|armed| (armed.reserved, armed.layout.files())),
        }
    }

    /// Returns the counters of this run.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    fn has_no_window_left(&self, now: Mono) -> bool {
        self.armed.is_some() && self.tuner.is_over(now)
    }

    fn object(&self) -> Option<&Object> {
        self.armed.as_ref()?.object.as_ref()
    }

    fn object_mut(&mut self) -> Option<&mut Object> {
        self.armed.as_mut()?.object.as_mut()
    }
}

impl DecodeProgress {
    fn read(object: &ObjectProgress) -> Result<(Hash16, Self), WireError> {
        let progress = Self {
            blocks: object.done(),
            verified: object.verified,
            bad: object.bad(),
            redecoded: object.redecoded,
        };
        Ok((Hash16(fixed(&object.object_key)?), progress))
    }

    fn write(&self, key: Hash16) -> ObjectProgress {
        let mut object = ObjectProgress {
            object_key: key.0.to_vec(),
            blocks_done: Vec::new(),
            verified: self.verified,
            bad_slots: self.bad.iter().flat_map(|run| [run.first, run.count]).collect(),
            redecoded: self.redecoded,
        };
        self.blocks.iter().for_each(|sbn| object.mark_done(*sbn));
        object
    }
}

#[cfg(test)]
mod tests {
    use proto::fixtures::broadcast::Broadcast;

    use super::*;

    #[test]
    fn an_answer_about_an_object_that_was_removed_since_comes_too_late() {
        let planned = Broadcast::small().object;
        let mut reception = Reception::default();
        reception.arm(planned, Tuner::default(), None);
        let layout = reception.layout().cloned().unwrap();
        let verified = || {
            let outcome = VerifyOutcome::Ready { sha256: planned.stored_sha256 };
            Completion::ImageVerified(planned.object_key, outcome)
        };
        reception.handle_command(&StorageCommand::VerifyImage(layout.clone()));
        reception.disarm();
        reception.handle_command(&StorageCommand::RemoveOtherObjects(Vec::new()));
        reception.arm(planned, Tuner::default(), None);
        assert_eq!(reception.handle_storage(Mono(0), verified()), None);
        reception.handle_command(&StorageCommand::Open(layout));
        assert_eq!(reception.handle_storage(Mono(0), verified()), None);
        reception.handle_objects_removed();
        assert!(reception.handle_storage(Mono(0), verified()).is_some());
    }

    #[test]
    fn a_write_to_the_image_of_the_arming_before_is_answered_before_those_of_this_one() {
        let planned = Broadcast::small().object;
        let mut reception = Reception::default();
        reception.arm_unicast(planned);
        let layout = reception.layout().cloned().unwrap();
        let write = StorageCommand::WriteImage(layout, 0, Vec::new());
        reception.handle_command(&write);
        reception.disarm();
        reception.arm_unicast(planned);
        reception.handle_command(&write);
        assert_eq!([(); 2].map(|()| reception.handle_image_written()), [false, true]);
    }

    fn full() -> Reception {
        let progress = DecodeProgress {
            blocks: BTreeSet::from([Sbn(0), Sbn(9)]),
            verified: true,
            bad: vec![SlotRun { first: 3, count: 2 }, SlotRun { first: 9, count: 1 }],
            redecoded: true,
        };
        let progress = BTreeMap::from([(Hash16([9; 16]), progress)]);
        Reception { progress, ..Reception::default() }
    }

    fn written(reception: &Reception) -> JournalState {
        let mut state = JournalState::default();
        reception.write_journal("boot", &mut state);
        state
    }

    #[test]
    fn the_progress_is_read_as_it_was_written() {
        for reception in [Reception::default(), full()] {
            let state = written(&reception);
            let again = Reception::from_journal(Now::default(), "boot", &state).unwrap();
            assert_eq!(written(&again), state);
            assert_eq!(again.progress, reception.progress);
        }
    }

    #[test]
    fn an_object_with_a_key_of_another_length_is_refused() {
        let mut state = written(&full());
        state.objects[0].object_key.push(0);
        assert!(Reception::from_journal(Now::default(), "boot", &state).is_err());
    }
}
