//! Files and counters as the user sees them.

use std::net::IpAddr;

use proto::{fec, flute::fdt::FileEntry, ids::Toi};
use serde::Serialize;

use super::{names, oddities::unsupported};
use crate::store::UnsignedIdentity;

/// A file as the user sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnsignedFile {
    /// Its name in the output directory.
    pub name: String,
    /// Its `Content-Location` in the FDT.
    pub location: String,
    /// Address of its sender.
    pub source: IpAddr,
    /// Its session.
    pub tsi: u64,
    /// Its object, decimal.
    pub toi: String,
    /// Octets, as they are sent.
    pub length: u64,
    /// `described`, `opening`, `receiving`, `checking`, `complete`, `superseded`, or `failed`.
    pub state: &'static str,
    /// Reason why it is not complete, other than missing symbols.
    pub problem: Option<String>,
    /// Content encoding in which it was sent. The stored file is decoded, unless `problem` states
    /// that the encoding is not known.
    pub content_encoding: Option<String>,
    /// SHA-256 of the stored file, once it is complete.
    pub sha256: Option<String>,
    /// Source blocks.
    pub blocks: u32,
    /// Decoded blocks.
    pub blocks_done: u32,
    /// Symbols that are synced, K for a decoded block.
    pub symbols_held: u64,
    /// Source symbols.
    pub symbols_needed: u64,
    /// Symbols received in this run, needed or not, up to the last one that was stored.
    pub symbols_received: u64,
}

/// State of all described files, in the order of importance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// All are complete, and there is at least one.
    Complete,
    /// At least one was rejected, or its entry cannot be read, and all others are complete.
    Refused,
    /// At least one is not complete and announced no longer, and no other is missing.
    Incomplete,
    /// At least one that is announced is not complete, or nothing is described.
    Open,
}

/// Counters of datagrams and of what they carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UnsignedStats {
    /// All datagrams.
    pub datagrams: u64,
    /// No ALC packet.
    pub malformed: u64,
    /// Packets of a FEC scheme that is not supported.
    pub unsupported_fec: u64,
    /// Of sessions that the filter excludes.
    pub wrong_session: u64,
    /// Sessions that made room for others.
    pub sessions_evicted: u64,
    /// Incomplete files that made room for others.
    pub evicted: u64,
    /// FDT packets.
    pub fdt: u64,
    /// Unusable FDT packets and documents.
    pub fdt_refused: u64,
    /// FDT documents that had expired.
    pub fdt_expired: u64,
    /// Time since the expiry of the last of these, when it came.
    pub fdt_overdue_seconds: u64,
    /// Entries of FDT documents that cannot be read.
    pub fdt_entries_skipped: u64,
    /// Without data: session ends and the like.
    pub data_less: u64,
    /// Packets and entries that contradict an earlier description.
    pub contradicting: u64,
    /// Entries of FDT instances beyond the limit of their octets.
    pub entries_refused: u64,
    /// Packets of files beyond the limits.
    pub refused: u64,
    /// Stored symbols.
    pub accepted: u64,
    /// Symbols that were stored already, or not needed any more.
    pub held: u64,
    /// Symbols of a wrong length or number.
    pub invalid: u64,
    /// Waiting packets that were evicted.
    pub dropped: u64,
    /// Packets that waited for a description, and may be of another content than the one that it
    /// describes.
    pub undecided: u64,
    /// Assembled files with a wrong digest, length or content encoding.
    pub wrong_digest: u64,
}

/// Returns the report of a file of which another object has a newer version.
pub(super) fn superseded(file: UnsignedFile, by: Toi) -> UnsignedFile {
    let problem = Some(format!("TOI {} has a newer version of it", by.0));
    UnsignedFile { state: "superseded", problem, ..file }
}

/// Returns the report of a file that is described and cannot be received yet.
/// `problem` is the reason, where one is known.
pub(super) fn unopened(
    of: &UnsignedIdentity,
    entry: &FileEntry,
    problem: Option<String>,
) -> UnsignedFile {
    let otherwise = || match (entry.oti, entry.encoding_id) {
        (Some(_), _) => "no symbol was received".to_owned(),
        (None, Some(id)) if !fec::is_supported(id) => unsupported(id),
        (None, Some(_) | None) => without_parameters(entry),
    };
    UnsignedFile {
        name: names::file_name(&entry.content_location),
        location: entry.content_location.clone(),
        source: of.source,
        tsi: of.tsi.0,
        toi: of.toi.0.to_string(),
        length: entry.transfer_length.or(entry.content_length).unwrap_or(0),
        state: "described",
        problem: Some(problem.unwrap_or_else(otherwise)),
        content_encoding: entry.content_encoding.clone(),
        sha256: None,
        blocks: 0,
        blocks_done: 0,
        symbols_held: 0,
        symbols_needed: 0,
        symbols_received: 0,
    }
}

/// Returns the reason why an entry has no FEC parameters.
fn without_parameters(entry: &FileEntry) -> String {
    match (&entry.content_encoding, entry.transferred()) {
        (Some(encoding), None) => format!(
            "its transfer length is not known: Transfer-Length is absent with Content-Encoding \
             {encoding:?}, and no EXT_FTI was received"
        ),
        (Some(_) | None, _) => "no FEC parameters were received".to_owned(),
    }
}
