//! Counters of datagrams by their outcome. The network moves counters, never log lines.

use serde::Serialize;

/// The datagrams of this run by their outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Datagrams handed to the agent.
    pub datagrams: u64,
    /// Received while not tuned in to their channel.
    pub not_tuned_in: u64,
    /// From another source, or of another session.
    pub wrong_session: u64,
    /// No ALC packet, or a length beyond the limits.
    pub malformed: u64,
    /// Of another object; the FDT too, which an armed device does not act on.
    pub other_object: u64,
    /// With FEC information other than that of the campaign.
    pub fec_mismatch: u64,
    /// Plan headers whose hash is not the signed one.
    pub header_forged: u64,
    /// Table symbols that do not lead to the cap.
    pub table_forged: u64,
    /// Table symbols accepted.
    pub table_accepted: u64,
    /// Data symbols whose hash is not their leaf.
    pub data_forged: u64,
    /// Data symbols held already, or of a decoded block.
    pub data_held: u64,
    /// Data symbols that waited for their table.
    pub data_pending: u64,
    /// Data symbols whose table was not known in time.
    pub data_expired_unverified: u64,
    /// Data symbols verified and stored.
    pub data_accepted: u64,
    /// Verified data symbols dropped because the storage is behind or has no room.
    pub data_dropped: u64,
}
