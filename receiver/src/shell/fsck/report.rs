//! Report of a check.

use std::collections::BTreeMap;

use serde::Serialize;

/// State of a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The copies of the journal, `journal.a` first.
    pub journal: Vec<Copy>,
    /// The floors; those that are sound are the latest.
    pub floors: CopyState,
    /// Phase of the operation in the journal; absent without a journal.
    pub phase: Option<String>,
    /// The armed campaign, in hex digits.
    pub campaign: Option<String>,
    /// Results that the server has not acknowledged.
    pub reports_waiting: usize,
    /// Small files, with their octets.
    pub files: BTreeMap<String, u64>,
    /// The objects.
    pub objects: Vec<Object>,
    /// Unknown and unused files.
    pub foreign: Vec<String>,
    /// Damage.
    pub problems: Vec<String>,
    /// Set when reception can repair the damage; otherwise state or a verified image is lost.
    pub is_repairable: bool,
}

/// A copy of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// Its file name.
    pub name: &'static str,
    /// Its state.
    pub state: CopyState,
    /// Number of its write; absent unless the copy is intact.
    pub generation: Option<u64>,
}

/// State of a copy of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyState {
    /// The latest state.
    Latest,
    /// The state before it.
    Earlier,
    /// Not written yet.
    Absent,
    /// Torn or damaged; the other copy is used.
    Damaged,
    /// Intact, but of another format.
    Foreign,
}

/// State of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Name of its directory.
    pub directory: String,
    /// The object's key; absent when no log has a header.
    pub object_key: Option<String>,
    /// Set when the journal or the record of an unsigned file has it.
    pub is_known: bool,
    /// Octets of the image.
    pub image_bytes: Option<u64>,
    /// State of the image.
    pub image: ImageState,
    /// Its logs, by number.
    pub logs: Vec<Log>,
    /// Octets of the stored table symbols; absent without any.
    pub tables_bytes: Option<u64>,
    /// Slots of all logs.
    pub slots: u32,
    /// Slots that hold a symbol.
    pub held: u64,
    /// Slots that can be written.
    pub free: u64,
    /// Slots with a torn or damaged record; they can be written.
    pub damaged: u32,
    /// Slots that failed once and are not used.
    pub bad: u64,
    /// Its source blocks.
    pub blocks: Vec<Block>,
}

/// A log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// Its number.
    pub file: u32,
    /// Octets of the file.
    pub octets: u64,
    /// Its state.
    pub state: LogState,
}

/// State of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogState {
    /// Reserved, ready for symbols.
    Ready,
    /// Not reserved completely.
    Unreserved,
    /// With a damaged header, or of another object or position.
    Foreign,
}

/// State of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageState {
    /// Absent: not begun, or an unsigned file, which is stored elsewhere.
    Absent,
    /// Incomplete: blocks are written as they are decoded.
    Partial,
    /// Verified.
    Exact,
    /// With its final name, but another digest.
    Wrong,
}

/// A source block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Block {
    /// Its number.
    pub sbn: u32,
    /// Its source symbols.
    pub needed: u32,
    /// Verified symbols in the logs.
    pub held: u32,
    /// Set when it is decoded and synced in the image.
    pub done: bool,
}
