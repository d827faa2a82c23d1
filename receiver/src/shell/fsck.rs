//! Check of a data directory, without changes: the journal, small files, objects.
//!
//! The agent may be running: its unsynced writes are shown as they are read.

mod files;
mod objects;
mod report;

use std::{collections::BTreeMap, io, path::Path};

use self::files::{FILES, OBJECTS, SMALL_FILE_BYTES, hex, list, read_some};
pub use self::report::{Block, Copy, CopyState, ImageState, Log, LogState, Object, Report};
use super::{
    data_dir::{CARD, CONSENT, DAMAGED, FLOORS, FLOORS_NEXT, GIVEN},
    disk::Disk,
};
use crate::{
    store::{
        CopyName, JournalError, JournalImage,
        commands::FileName,
        floors::{FLOORS_BYTES, Floors, TrustState},
        journal::JOURNAL_BYTES,
        journal_state::JournalState,
    },
    unsigned::record::Record,
};

/// Checks a data directory.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] when there is none, or any error of the read.
pub fn inspect(disk: &dyn Disk, path: &Path) -> io::Result<Report> {
    let entries = disk.list(path)?;
    let mut report = Report {
        journal: Vec::new(),
        floors: CopyState::Absent,
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
    read_floors(disk, path, &mut report, state.as_ref())?;
    let records = read_small_files(disk, path, &mut report)?;
    objects::read(disk, path, &mut report, state.as_ref(), &records)?;
    let ours = [
        "lock",
        "control.sock",
        FILES,
        OBJECTS,
        "journal.a",
        "journal.b",
        FLOORS,
        FLOORS_NEXT,
        GIVEN,
        CARD,
        CONSENT,
    ];
    let names = entries.iter().map(|entry| entry.name.to_string_lossy().into_owned());
    let is_ours = |name: &str| {
        let aside = name.strip_suffix(DAMAGED);
        ours.contains(&name) || aside.is_some_and(|copy| copy.starts_with("journal."))
    };
    let foreign = names.filter(|name| !is_ours(name));
    report.foreign.extend(foreign);
    report.foreign.sort();
    Ok(report)
}

/// Reads the copies as the agent does: the intact one with the higher generation is the latest.
fn read_journal(
    disk: &dyn Disk,
    path: &Path,
    report: &mut Report,
) -> io::Result<Option<JournalState>> {
    let mut latest: Option<JournalImage<JournalState>> = None;
    let mut read = Vec::new();
    for copy in CopyName::BOTH {
        let octets = read_some(disk, &path.join(copy.file_name()), JOURNAL_BYTES)?;
        // A reserved copy of zeros is empty.
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

/// Reads the floors. They are made from the journal where there is one; without both, no update is
/// accepted.
fn read_floors(
    disk: &dyn Disk,
    path: &Path,
    report: &mut Report,
    state: Option<&JournalState>,
) -> io::Result<()> {
    let octets = read_some(disk, &path.join(FLOORS), FLOORS_BYTES)?;
    report.floors = match octets.as_deref().map(Floors::parse) {
        None => CopyState::Absent,
        Some(Ok(_)) => CopyState::Latest,
        Some(Err(JournalError::Damaged)) => CopyState::Damaged,
        Some(Err(
            JournalError::Newer { .. } | JournalError::Body | JournalError::TooLarge { .. },
        )) => CopyState::Foreign,
    };
    match report.floors {
        CopyState::Latest | CopyState::Earlier | CopyState::Absent => {}
        CopyState::Damaged => report.problems.push("floors are damaged".to_owned()),
        CopyState::Foreign => {
            report.problems.push("floors are not for this program".to_owned());
            report.is_repairable = false;
        }
    }
    let is_aside = CopyName::BOTH
        .iter()
        .any(|copy| disk.exists(&path.join(format!("{}{DAMAGED}", copy.file_name()))));
    let is_lost = match state {
        Some(state) => TrustState::of_number(state.trust_state) == TrustState::Lost,
        None => is_aside || report.floors == CopyState::Damaged,
    };
    if report.floors != CopyState::Latest && is_lost {
        let problem = "journal and floors were lost: set them by `receiver trust reset`";
        report.problems.push(problem.to_owned());
        report.is_repairable = false;
    }
    Ok(())
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
