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
    /// Key of the object.
    pub object_key: Hash16,
    /// Sender, session and TOI.
    pub identity: UnsignedIdentity,
    /// Its name in the output directory.
    pub name: String,
    /// Its `Content-Location`.
    pub location: String,
    /// Decoded and synced blocks.
    pub done: BTreeSet<Sbn>,
    /// Set once the file has its final name.
    pub complete: bool,
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

const FORMAT: u32 = 1;

impl Record {
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
