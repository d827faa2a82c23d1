//! What a data directory holds, without changing it: the journal, small files, objects.
//!
//! The receiver may be running: what it has not synced yet is shown as it is read.

mod objects;

use std::{collections::BTreeMap, io, path::Path};

use serde::Serialize;

pub use self::objects::{Block, ImageState, Log, LogState, Object};
use super::{
    data_dir::{CARD, FileName, GIVEN},
    disk::{Disk, OpenMode},
};
use crate::{
    store::{
        CopyName, JournalError, JournalImage, journal::JOURNAL_BYTES, journal_state::JournalState,
    },
    unsigned::record::Record,
};

/// What a data directory holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The copies of the journal, `journal.a` first.
    pub journal: Vec<Copy>,
    /// Phase of the operation, as the journal says; absent when there is no journal.
    pub phase: Option<String>,
    /// Campaign that the device is armed with, in hex digits.
    pub campaign: Option<String>,
    /// Results that the server has not acknowledged.
    pub reports_waiting: usize,
    /// Small files, with their octets.
    pub files: BTreeMap<String, u64>,
    /// What is there of each object.
    pub objects: Vec<Object>,
    /// What nobody put there, or nothing relies on.
    pub foreign: Vec<String>,
    /// Damage: what a sound directory does not have.
    pub problems: Vec<String>,
    /// Whether what is damaged can be had by receiving again; if not, state or a finished image is
    /// lost.
    pub is_repairable: bool,
}

/// A copy of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// Its file name.
    pub name: &'static str,
    /// What it is.
    pub state: CopyState,
    /// Counts the writes; absent unless the copy is whole.
    pub generation: Option<u64>,
}

/// What a copy of the journal is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyState {
    /// The state that counts.
    Latest,
    /// The state before it.
    Earlier,
    /// There is none yet.
    Absent,
    /// Torn or damaged; the other copy serves.
    Damaged,
    /// Whole, and not for this program.
    Foreign,
}

/// Looks through a data directory.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] when there is none, or what reading meets.
pub fn inspect(disk: &dyn Disk, path: &Path) -> io::Result<Report> {
    let entries = disk.list(path)?;
    let mut report = Report {
        journal: Vec::new(),
        phase: None,
        campaign: None,
        reports_waiting: 0,
        files: BTreeMap::new(),
        objects: Vec::new(),
        foreign: Vec::new(),
        problems: Vec::new(),
        is_repairable: true,
    };
    let state = read_journal(disk, path, &mut report)?;
    if let Some(state) = &state {
        report.phase = Some(state.phase.clone());
        report.campaign = state.armed.as_ref().map(|pin| hex(&pin.campaign_id));
        report.reports_waiting = state.alerts.len();
    }
    let records = read_small_files(disk, path, &mut report)?;
    objects::read(disk, path, &mut report, state.as_ref(), &records)?;
    let ours = ["lock", "control.sock", FILES, OBJECTS, "journal.a", "journal.b", GIVEN, CARD];
    let names = entries.iter().map(|entry| entry.name.to_string_lossy().into_owned());
    let foreign = names.filter(|name| !ours.contains(&name.as_str()));
    report.foreign.extend(foreign);
    report.foreign.sort();
    Ok(report)
}

/// Reads the copies as the agent does: the whole one with the higher generation counts.
fn read_journal(
    disk: &dyn Disk,
    path: &Path,
    report: &mut Report,
) -> io::Result<Option<JournalState>> {
    let mut latest: Option<JournalImage<JournalState>> = None;
    let mut read = Vec::new();
    for copy in CopyName::BOTH {
        let octets = read_some(disk, &path.join(copy.file_name()), JOURNAL_BYTES)?;
        // What is only reserved holds nothing yet.
        let octets = octets.filter(|octets| octets.iter().any(|octet| *octet != 0));
        let parsed = octets.as_deref().map(JournalImage::<JournalState>::parse);
        if let Some(Ok(image)) = &parsed
            && latest.as_ref().is_none_or(|latest| image.generation > latest.generation)
        {
            latest = Some(image.clone());
        }
        read.push((copy.file_name(), parsed));
    }
    let counts = latest.as_ref().map(|image| image.generation);
    for (name, parsed) in read {
        let generation =
            parsed.as_ref().and_then(|it| it.as_ref().ok()).map(|image| image.generation);
        let state = match parsed {
            None => CopyState::Absent,
            Some(Ok(image)) if Some(image.generation) == counts => CopyState::Latest,
            Some(Ok(_)) => CopyState::Earlier,
            Some(Err(JournalError::Damaged)) => CopyState::Damaged,
            Some(Err(
                JournalError::Newer { .. } | JournalError::Body | JournalError::TooLarge { .. },
            )) => CopyState::Foreign,
        };
        match state {
            CopyState::Damaged => report.problems.push(format!("{name} is damaged")),
            CopyState::Foreign => {
                report.problems.push(format!("{name} is not for this program"));
                report.is_repairable = false;
            }
            CopyState::Latest | CopyState::Earlier | CopyState::Absent => {}
        }
        report.journal.push(Copy { name, state, generation });
    }
    if latest.is_none() && !report.problems.is_empty() {
        report.problems.push("no copy of the journal can be read".to_owned());
        report.is_repairable = false;
    }
    Ok(latest.map(|image| image.body))
}

fn read_small_files(disk: &dyn Disk, path: &Path, report: &mut Report) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    let directory = path.join(FILES);
    for entry in list(disk, &directory)? {
        let name = entry.name.to_string_lossy().into_owned();
        if entry.is_directory || FileName::new(&name).is_none() {
            report.foreign.push(format!("{FILES}/{name}"));
            continue;
        }
        let octets = read_some(disk, &directory.join(&name), SMALL_FILE_BYTES)?;
        let octets = octets.unwrap_or_default();
        if name.ends_with(".obj") {
            match Record::parse(&octets) {
                Some(record) => records.push(record),
                None => report.problems.push(format!("{FILES}/{name} is damaged")),
            }
        }
        report.files.insert(name, octets.len() as u64);
    }
    Ok(records)
}

/// Lists a directory; one that is not there is empty.
fn list(disk: &dyn Disk, path: &Path) -> io::Result<Vec<super::disk::Entry>> {
    match disk.list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}

/// Reads the first octets of a file; `None` when there is none.
fn read_some(disk: &dyn Disk, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let octets = usize::try_from(file.length()?).map_or(limit, |length| length.min(limit));
    let mut content = vec![0; octets];
    file.read_exact_at(&mut content, 0)?;
    Ok(Some(content))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

const FILES: &str = "files";
const OBJECTS: &str = "objects";
const SMALL_FILE_BYTES: usize = 64 << 10;
