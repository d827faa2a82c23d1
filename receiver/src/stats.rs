//! Counters of what was heard, by what became of it. The network moves counters, never log lines.

use serde::Serialize;

/// What became of the datagrams of this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Datagrams handed to the agent.
    pub datagrams: u64,
    /// Heard while not tuned in to the channel that they came on.
    pub not_tuned_in: u64,
    /// From another source, or of another session.
    pub foreign: u64,
    /// No ALC packet, or a length beyond the limits.
    pub malformed: u64,
    /// Of another object; the FDT too, which an armed device does not act on.
    pub other_object: u64,
    /// A hint in the packet contradicts the campaign.
    pub contradicts: u64,
    /// Plan headers whose hash is not the pinned one.
    pub header_forged: u64,
    /// Table symbols that do not lead to the cap.
    pub table_forged: u64,
    /// Table symbols taken.
    pub table_taken: u64,
    /// Data symbols whose hash is not their leaf.
    pub data_forged: u64,
    /// Data symbols held already, or of a decoded block.
    pub data_held: u64,
    /// Data symbols that waited for their table.
    pub data_pending: u64,
    /// Data symbols that no table came for in time.
    pub data_unproven: u64,
    /// Data symbols verified and taken in.
    pub data_taken: u64,
    /// Verified data symbols dropped because the storage is behind or has no room.
    pub data_dropped: u64,
}

impl Stats {
    /// Returns how many packets were dropped because they are not what the plan says.
    #[must_use]
    pub const fn forged(&self) -> u64 {
        self.header_forged + self.table_forged + self.data_forged
    }
}
