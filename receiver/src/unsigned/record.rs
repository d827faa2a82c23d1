//! The stored state of an unsigned file beside its symbols: a small file of its own.
//!
//! ```text
//! files/<first 16 hex digits of the object key>.obj
//!   one line of JSON: format, object key, name, sender, TSI, TOI, location, length, digest,
//!     generation, decoded blocks, end
//!   one line: H16 over the first, in hex digits
//! ```
//!
//! A record is written atomically: before the first symbol of its object, then each time after the
//! blocks that it names were synced in the file, and before their symbols may be overwritten. A
//! directory without a record belongs to nobody. A damaged record counts as none.
//!
//! Format 1 had keys without the description of the file (`fcplain1`): such a record tells the
//! owner of a complete file's name, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    crypto::{Digest, Hash16, h16},
    ids::{Sbn, Toi, Tsi},
};
use serde::{Deserialize, Serialize};

use crate::store::{UnsignedContent, UnsignedDescription, UnsignedIdentity};

/// The stored state of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    object_key: Hash16,
    identity: UnsignedIdentity,
    name: String,
    location: String,
    /// `None` in a record of format 1.
    described: Option<UnsignedDescription>,
    /// Decoded and synced blocks.
    done: BTreeSet<Sbn>,
    /// Digest of the file, once it has its final name.
    complete: Option<Digest>,
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
    #[serde(default)]
    length: u64,
    /// The digest of the FDT, in hex digits.
    #[serde(default)]
    md5: Option<String>,
    #[serde(default)]
    generation: u32,
    /// Ranges of decoded blocks, both ends included.
    done: Vec<(u32, u32)>,
    complete: bool,
    #[serde(default)]
    sha256: Option<String>,
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
    /// Files of earlier runs without a digest in their FDT.
    pub undigested: Undigested,
}

/// Treatment of files whose FDT gave no digest, and which an earlier run left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Undigested {
    /// They are received anew: nothing tells whether the sender still sends the same content.
    #[default]
    Anew,
    /// They go on: the user knows that the content is the same.
    Resume,
}

/// Content of the output directory that no run goes on with, to be removed before this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Names of records.
    pub records: BTreeSet<String>,
    /// Names of directories with symbols.
    pub directories: BTreeSet<String>,
    /// Names of incomplete files in the output directory.
    pub parts: BTreeSet<String>,
    /// Incomplete files whose FDT gave no digest.
    pub undigested: usize,
    /// Directories of keys without a description, or without a record.
    pub former: usize,
}

impl Found {
    /// Takes out what cannot be gone on with.
    pub fn take_leftovers(&mut self) -> Leftovers {
        let mut left = Leftovers::default();
        let mut going_on = BTreeMap::new();
        for record in std::mem::take(&mut self.records) {
            let has_file = self.files.contains(record.name());
            if record.is_complete() && has_file {
                // It has no symbols any more.
                left.parts.insert(record.part_name());
                self.records.push(record);
            } else if !record.is_complete() && record.may_resume(self.undigested) {
                going_on.insert(record.directory_name(), record);
            } else {
                match record.described {
                    Some(_) => left.undigested += usize::from(!record.is_complete()),
                    None => left.former += usize::from(!record.is_complete()),
                }
                left.records.insert(record.file_name());
                left.parts.insert(record.part_name());
                left.directories.insert(record.directory_name());
            }
        }
        let unknown = self.stored.iter().filter(|name| !going_on.contains_key(*name));
        let before = left.directories.len();
        left.directories.extend(unknown.cloned());
        let without_record = left.directories.len() - before;
        left.former += without_record;
        let kept: BTreeSet<_> = going_on.values().map(Record::part_name).collect();
        let parts = self.files.iter().filter(|name| {
            // Format 1 had `NAME.part`.
            let is_ours = UnsignedContent::is_part_name(name)
                || without_record > 0 && name.ends_with(".part");
            is_ours && !kept.contains(*name)
        });
        left.parts.extend(parts.cloned());
        left.directories.retain(|name| self.stored.remove(name));
        left.parts.retain(|name| self.files.remove(name));
        self.records.extend(going_on.into_values());
        left
    }
}

const FORMAT: u32 = 2;
/// The format before, without descriptions.
const FORMER: u32 = 1;

impl Record {
    /// Starts the record of an object that is stored as `name`.
    #[must_use]
    pub const fn new(
        object_key: Hash16,
        identity: UnsignedIdentity,
        described: UnsignedDescription,
        name: String,
        location: String,
    ) -> Self {
        Self {
            object_key,
            identity,
            name,
            location,
            described: Some(described),
            done: BTreeSet::new(),
            complete: None,
        }
    }

    /// Returns whether an earlier run stored it, and this one may go on from it.
    #[must_use]
    pub fn may_resume(&self, undigested: Undigested) -> bool {
        self.described
            .is_some_and(|described| described.md5.is_some() || undigested == Undigested::Resume)
    }

    /// Returns whether it is of the object that is described so.
    #[must_use]
    pub fn is_of(
        &self,
        identity: &UnsignedIdentity,
        described: &UnsignedDescription,
        location: &str,
    ) -> bool {
        self.identity == *identity
            && self.described == Some(*described)
            && self.location == location
    }

    /// Returns the description of the file; `None` in a record of format 1.
    #[must_use]
    pub const fn described(&self) -> Option<&UnsignedDescription> {
        self.described.as_ref()
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
        self.complete.is_some()
    }

    /// Returns the digest of the file that has its final name.
    #[must_use]
    pub const fn sha256(&self) -> Option<Digest> {
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

    /// Records that the file has its final name, and its digest.
    pub const fn set_complete(&mut self, sha256: Digest) {
        self.complete = Some(sha256);
    }

    /// Returns the name of the record's own file.
    #[must_use]
    pub fn file_name(&self) -> String {
        self.directory_name() + ".obj"
    }

    /// Returns the name of the directory with its symbols.
    #[must_use]
    pub fn directory_name(&self) -> String {
        let mut name = self.object_key.to_string();
        name.truncate(16);
        name
    }

    /// Returns the name of the incomplete file in the output directory.
    fn part_name(&self) -> String {
        match self.described {
            Some(_) => UnsignedContent::part_name(&self.name, &self.directory_name()),
            None => format!("{}.part", self.name),
        }
    }

    /// Encodes the record.
    ///
    /// # Panics
    ///
    /// Never: it is plain data.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let described = self.described;
        let line = Line {
            format: if described.is_some() { FORMAT } else { FORMER },
            object: self.object_key.to_string(),
            source: self.identity.source,
            tsi: self.identity.tsi.0,
            toi: self.identity.toi.0.to_string(),
            name: self.name.clone(),
            location: self.location.clone(),
            length: described.map_or(0, |described| described.length),
            md5: described.and_then(|described| described.md5).map(|md5| Hash16(md5).to_string()),
            generation: described.map_or(0, |described| described.generation),
            done: ranges(&self.done),
            complete: self.complete.is_some(),
            sha256: self.complete.map(|digest| digest.to_string()),
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
        let line: Line = serde_json::from_str(line).ok()?;
        let toi = Toi(line.toi.parse().ok()?);
        let md5 = match &line.md5 {
            Some(digits) => Some(Hash16::from_hex(digits)?.0),
            None => None,
        };
        let location = UnsignedDescription::location_hash(&line.location);
        let (length, generation) = (line.length, line.generation);
        let (described, sha256) = match line.format {
            FORMAT => {
                let described = UnsignedDescription { length, md5, generation, location };
                (Some(described), line.sha256.as_deref().map(Digest::from_hex))
            }
            FORMER => (None, Some(Some(Digest([0; 32])))),
            _ => return None,
        };
        let complete = if line.complete { Some(sha256??) } else { None };
        Some(Self {
            object_key: Hash16::from_hex(&line.object)?,
            identity: UnsignedIdentity { source: line.source, tsi: Tsi(line.tsi), toi },
            name: line.name,
            location: line.location,
            described,
            done: line.done.iter().flat_map(|(first, last)| *first..=*last).map(Sbn).collect(),
            complete,
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
            described: Some(UnsignedDescription {
                length: 9000,
                md5: Some([0xa5; 16]),
                generation: 0,
                location: UnsignedDescription::location_hash("http://x/\"fw.bin\""),
            }),
            done: [0, 1, 2, 9, 11, 12].map(Sbn).into(),
            complete: Some(Digest([3; 32])),
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

    fn record(key: u8, name: &str, md5: Option<[u8; 16]>, complete: bool) -> Record {
        let identity =
            UnsignedIdentity { source: [192, 0, 2, 7].into(), tsi: Tsi(9), toi: Toi(key.into()) };
        let location = UnsignedDescription::location_hash(name);
        let described = UnsignedDescription { length: 9, md5, generation: 0, location };
        let mut record =
            Record::new(Hash16([key; 16]), identity, described, name.to_owned(), name.to_owned());
        if complete {
            record.set_complete(Digest([key; 32]));
        }
        record
    }

    #[test]
    fn only_what_has_a_digest_is_left_for_the_next_run() {
        let former = Record { described: None, ..record(5, "former", None, false) };
        let former_done = Record { described: None, ..record(6, "former-done", None, true) };
        let all = || Found {
            records: vec![
                record(1, "digest", Some([1; 16]), false),
                record(2, "plain", None, false),
                record(3, "done", None, true),
                record(4, "gone", None, true),
                former.clone(),
                former_done.clone(),
            ],
            files: [
                "done",
                "former-done",
                "digest~0101010101010101.part",
                "plain~0202020202020202.part",
                "orphan~0909090909090909.part",
                "former.part",
                "users.txt",
            ]
            .map(str::to_owned)
            .into(),
            stored: [1, 2, 5].map(|key: u8| format!("{key:02x}").repeat(8)).into(),
            undigested: Undigested::Anew,
        };
        let mut found = all();
        let left = found.take_leftovers();
        assert_eq!((left.undigested, left.former), (1, 1));
        let names: Vec<_> = found.records.iter().map(|record| record.name().to_owned()).collect();
        assert_eq!(names, ["done", "former-done", "digest"]);
        assert_eq!(left.directories, ["02", "05"].map(|key| key.repeat(8)).into());
        let parts = ["former.part", "orphan~0909090909090909.part", "plain~0202020202020202.part"];
        assert_eq!(left.parts, parts.map(str::to_owned).into());
        assert_eq!(left.records.len(), 3);
        // The user knows better.
        let mut found = Found { undigested: Undigested::Resume, ..all() };
        let left = found.take_leftovers();
        assert_eq!((left.undigested, left.former, left.directories.len()), (0, 1, 1));
        // A directory without a record: its name in the output directory is not known.
        let mut found = Found { records: Vec::new(), ..all() };
        let left = found.take_leftovers();
        assert_eq!((left.directories.len(), left.parts.len(), left.former), (3, 4, 3));
        assert!(found.stored.is_empty() && found.files.contains("users.txt"));
    }
}
