//! The disk space of one unsigned file: reserved log by log, as symbols come.

use std::time::Duration;

use proto::{ids::Sbn, time::Mono};

use crate::store::{ObjectLayout, SymbolLog};

/// The space of one file.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Reserved logs.
    reserved: u32,
    /// Logs whose reservation was requested, the reserved ones included.
    requested: u32,
    /// Octets of the decoded blocks.
    decoded_bytes: u64,
    /// Arrival of the last stored symbol, or the opening.
    stored_at: Mono,
    /// Time before which nothing is requested, after a failure.
    not_before: Mono,
    /// Reason why there is no room.
    problem: Option<String>,
}

impl Room {
    /// Starts at the opening of the file.
    pub(super) fn new(now: Mono) -> Self {
        Self { stored_at: now, ..Self::default() }
    }

    /// Handles the content of the object's directory: its logs and decoded blocks.
    pub(super) fn handle_recovered(
        &mut self,
        layout: &ObjectLayout,
        files: u32,
        done: impl Iterator<Item = Sbn>,
    ) {
        (self.reserved, self.requested) = (files, files);
        self.decoded_bytes = done.map(|sbn| block_bytes(layout, sbn)).sum();
    }

    /// Handles the reservation of the first `files` logs.
    pub(super) fn handle_reserved(&mut self, files: u32) {
        self.reserved = files;
        self.requested = self.requested.max(files);
        self.problem = None;
    }

    /// Handles a failed reservation: it is requested again after a while.
    pub(super) fn handle_failed(&mut self, until: Mono, problem: String) {
        self.requested = self.reserved;
        self.not_before = until;
        self.problem = Some(problem);
    }

    /// Handles a decoded block.
    pub(super) fn handle_decoded(&mut self, layout: &ObjectLayout, sbn: Sbn) {
        self.decoded_bytes += block_bytes(layout, sbn);
    }

    /// Records that a symbol was stored, which arrived at `at`: it may have waited.
    pub(super) fn touch(&mut self, at: Mono) {
        self.stored_at = self.stored_at.max(at);
    }

    /// Returns whether the next log is to be requested.
    pub(super) fn wants_log(&self, now: Mono, log: &SymbolLog) -> bool {
        let layout = log.layout();
        let last = layout.slots_in(self.requested.saturating_sub(1));
        self.requested < layout.files()
            && self.requested == self.reserved
            && now >= self.not_before
            && (self.requested == 0 || log.free_slots() <= last / 4)
    }

    /// Requests the next log; returns how many that makes.
    pub(super) fn request(&mut self) -> u32 {
        self.requested += 1;
        self.problem = None;
        self.requested
    }

    /// Records that the limit leaves no room for the next log.
    pub(super) fn refuse(&mut self, limit: u64) {
        self.problem.get_or_insert_with(|| {
            format!("no room: all files together may take {limit} octets; it waits for the others")
        });
    }

    /// Returns the octets on disk with `files` logs: these, and the part of the image that is
    /// decoded or can be decoded from them.
    pub(super) fn bytes_with(&self, layout: &ObjectLayout, files: u32) -> u64 {
        let logs: u64 = (0..files).map(|file| layout.file_bytes(file)).sum();
        let symbol = u64::try_from(layout.symbol_size()).unwrap_or(u64::MAX);
        let held = u64::from(layout.slots_before(files)) * symbol;
        logs + layout.image_bytes().min(self.decoded_bytes.saturating_add(held))
    }

    /// Returns the octets on disk.
    pub(super) fn bytes(&self, layout: &ObjectLayout) -> u64 {
        self.bytes_with(layout, self.requested)
    }

    /// Returns the octets that the next log takes.
    pub(super) fn next_bytes(&self, layout: &ObjectLayout) -> u64 {
        self.bytes_with(layout, self.requested + 1) - self.bytes(layout)
    }

    /// Returns the octets with stored symbols, of which `held` are in slots, or decoded blocks.
    pub(super) fn filled_bytes(&self, layout: &ObjectLayout, held: u64) -> u64 {
        let symbol = u64::try_from(layout.symbol_size()).unwrap_or(u64::MAX);
        // A stored symbol stands for its slot and for its part of the image.
        self.decoded_bytes + held.saturating_mul(2 * symbol)
    }

    /// Returns the time of the last stored symbol, or of the opening.
    pub(super) const fn stored_at(&self) -> Mono {
        self.stored_at
    }

    /// Returns whether a requested reservation is outstanding.
    pub(super) const fn is_reserving(&self) -> bool {
        self.reserved < self.requested
    }

    /// Returns whether a failed file may be received again.
    pub(super) fn may_retry(&self, now: Mono) -> bool {
        self.not_before > Mono(0) && now >= self.not_before
    }

    /// Sets the time at which a failed file may be received again.
    pub(super) fn retry_after(&mut self, now: Mono, pause: Duration) {
        self.not_before = now + pause;
    }

    /// Returns the reason why there is no room.
    pub(super) const fn problem(&self) -> Option<&String> {
        self.problem.as_ref()
    }
}

fn block_bytes(layout: &ObjectLayout, sbn: Sbn) -> u64 {
    layout.block_place(sbn).map_or(0, |place| place.octets)
}
