//! The stored state of an unsigned file beside its symbols: a small file of its own.
//!
//! ```text
//! files/<first 16 hex digits of the object key>.obj
//!   one line of JSON: format, object key, name, sender, TSI, TOI, location, decoded blocks, end
//!   one line: H16 over the first, in hex digits
//! ```
//!
//! A record is written atomically, each time after the blocks that it names were synced in the
//! file, and before their symbols may be overwritten. A damaged record counts as none: its blocks
//! are then received again.

use std::collections::BTreeSet;

use proto::{
    crypto::{Hash16, h16},
    ids::{Sbn, Toi, Tsi},
};
use serde::{Deserialize, Serialize};

use crate::store::UnsignedIdentity;

/// The stored state of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    object_key: Hash16,
    identity: UnsignedIdentity,
    name: String,
    location: String,
    /// Decoded and synced blocks.
    done: BTreeSet<Sbn>,
    /// Set once the file has its final name.
    complete: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    format: u32,
    object: String,
    source: std::net::IpAddr,
    tsi: u64,
    toi: String,
    name: String,
    location: String,
    /// Ranges of decoded blocks, both ends included.
    done: Vec<(u32, u32)>,
    complete: bool,
}

/// Content of the output directory at the start.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Records of earlier runs.
    pub records: Vec<Record>,
    /// Names of all files there.
    pub files: BTreeSet<String>,
    /// Names of the directories with symbols.
    pub stored: BTreeSet<String>,
}

const FORMAT: u32 = 1;

impl Record {
    /// Starts the record of an object that is stored as `name`.
    #[must_use]
    pub const fn new(
        object_key: Hash16,
        identity: UnsignedIdentity,
        name: String,
        location: String,
    ) -> Self {
        Self { object_key, identity, name, location, done: BTreeSet::new(), complete: false }
    }

    /// Returns the key of the object.
    #[must_use]
    pub const fn object_key(&self) -> Hash16 {
        self.object_key
    }

    /// Returns sender, session and TOI.
    #[must_use]
    pub const fn identity(&self) -> &UnsignedIdentity {
        &self.identity
    }

    /// Returns the name in the output directory.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the `Content-Location`.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Returns the decoded and synced blocks.
    #[must_use]
    pub const fn done(&self) -> &BTreeSet<Sbn> {
        &self.done
    }

    /// Returns whether the file has its final name.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Records a decoded and synced block.
    pub fn add_block(&mut self, sbn: Sbn) {
        self.done.insert(sbn);
    }

    /// Records that the file was missing: no block of it is decoded.
    pub fn clear_blocks(&mut self) {
        self.done.clear();
    }

    /// Records that the file has its final name.
    pub const fn set_complete(&mut self) {
        self.complete = true;
    }

    /// Returns the name of the record's own file.
    #[must_use]
    pub fn file_name(&self) -> String {
        let mut name = self.object_key.to_string();
        name.truncate(16);
        name + ".obj"
    }

    /// Encodes the record.
    ///
    /// # Panics
    ///
    /// Never: it is plain data.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let line = Line {
            format: FORMAT,
            object: self.object_key.to_string(),
            source: self.identity.source,
            tsi: self.identity.tsi.0,
            toi: self.identity.toi.0.to_string(),
            name: self.name.clone(),
            location: self.location.clone(),
            done: ranges(&self.done),
            complete: self.complete,
        };
        let line = serde_json::to_string(&line).expect("plain data is JSON");
        let hash = h16(&[line.as_bytes()]);
        format!("{line}\n{hash}\n").into_bytes()
    }

    /// Parses a record; `None` when it is damaged or of another format.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let (line, hash) = text.strip_suffix('\n')?.split_once('\n')?;
        if Hash16::from_hex(hash)? != h16(&[line.as_bytes()]) {
            return None;
        }
        let line: Line =
            serde_json::from_str(line).ok().filter(|line: &Line| line.format == FORMAT)?;
        let toi = Toi(line.toi.parse().ok()?);
        Some(Self {
            object_key: Hash16::from_hex(&line.object)?,
            identity: UnsignedIdentity { source: line.source, tsi: Tsi(line.tsi), toi },
            name: line.name,
            location: line.location,
            done: line.done.iter().flat_map(|(first, last)| *first..=*last).map(Sbn).collect(),
            complete: line.complete,
        })
    }
}

fn ranges(blocks: &BTreeSet<Sbn>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for Sbn(block) in blocks {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*block) => *last = *block,
            Some(_) | None => ranges.push((*block, *block)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_parsed_as_written_and_no_damaged_one_is() {
        let record = Record {
            object_key: Hash16([0x5a; 16]),
            identity: UnsignedIdentity {
                source: [192, 0, 2, 7].into(),
                tsi: Tsi(9),
                toi: Toi(u128::MAX >> 16),
            },
            name: "fw.bin".to_owned(),
            location: "http://x/\"fw.bin\"".to_owned(),
            done: [0, 1, 2, 9, 11, 12].map(Sbn).into(),
            complete: false,
        };
        let octets = record.emit();
        assert_eq!(Record::parse(&octets), Some(record.clone()));
        for at in 0..octets.len() {
            let mut damaged = octets.clone();
            damaged[at] ^= 1;
            assert_eq!(Record::parse(&damaged), None, "{at}");
            assert_eq!(Record::parse(&octets[..at]), None, "{at}");
        }
        assert_eq!(record.file_name(), "5a5a5a5a5a5a5a5a.obj");
    }
}
