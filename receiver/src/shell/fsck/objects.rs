//! State of each object: logs, blocks, image.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use super::{
    files::{OBJECTS, hex, list, read_some},
    report::{Block, ImageState, Log, LogState, Object, Report},
};
use crate::{
    shell::disk::{Disk, DiskFile, OpenMode},
    store::{
        Content, HeaderCheck, ObjectLayout, Recovered, Recovery, SlotAddress, SlotRun, SymbolLog,
        header,
        journal_state::{JournalState, ObjectProgress},
    },
    unsigned::record::Record,
};
use proto::{
    crypto::{Digest, Hash16, Hasher},
    ids::Sbn,
};

/// Facts about an object from the journal or its record.
#[derive(Default)]
struct JournalFacts {
    done: BTreeSet<Sbn>,
    bad: Vec<SlotRun>,
}

pub(super) fn read(
    disk: &dyn Disk,
    path: &Path,
    report: &mut Report,
    state: Option<&JournalState>,
    records: &[Record],
) -> io::Result<()> {
    let directory = path.join(OBJECTS);
    for entry in list(disk, &directory)? {
        let name = entry.name.to_string_lossy().into_owned();
        if !entry.is_directory {
            report.foreign.push(format!("{OBJECTS}/{name}"));
            continue;
        }
        let object = read_object(disk, &directory.join(&entry.name), &name, report, |key| {
            known(key, state, records)
        })?;
        report.objects.push(object);
    }
    let missing = state.iter().flat_map(|state| &state.objects).filter(|object| {
        let name = hex(&object.object_key).chars().take(16).collect::<String>();
        !object.done().is_empty() && !report.objects.iter().any(|found| found.directory == name)
    });
    let missing: Vec<_> =
        missing.map(|object| format!("{} is gone", hex(&object.object_key))).collect();
    report.problems.extend(missing);
    Ok(())
}

fn known(key: Hash16, state: Option<&JournalState>, records: &[Record]) -> Option<JournalFacts> {
    let ours = |object: &&ObjectProgress| object.object_key == key.0;
    let journal = state.and_then(|state| state.objects.iter().find(ours));
    let record = records.iter().find(|record| record.object_key() == key);
    journal.map(|object| JournalFacts { done: object.done(), bad: object.bad() }).or_else(|| {
        record.map(|record| JournalFacts { done: record.done().clone(), bad: Vec::new() })
    })
}

fn read_object(
    disk: &dyn Disk,
    path: &Path,
    name: &str,
    report: &mut Report,
    known: impl Fn(Hash16) -> Option<JournalFacts>,
) -> io::Result<Object> {
    let mut files = BTreeMap::new();
    let mut layout: Option<ObjectLayout> = None;
    let mut tables_bytes = None;
    for entry in list(disk, path)? {
        let entry = entry.name.to_string_lossy().into_owned();
        let number = entry.strip_prefix("log.").and_then(|number| number.parse::<u32>().ok());
        let Some(number) = number else {
            if entry == "tables" {
                tables_bytes = Some(disk.open(&path.join(&entry), OpenMode::Read)?.length()?);
            } else if !["image", "image.part"].contains(&entry.as_str()) {
                report.foreign.push(format!("{OBJECTS}/{name}/{entry}"));
            }
            continue;
        };
        let log = path.join(&entry);
        let header = read_some(disk, &log, ObjectLayout::HEADER_BYTES)?.unwrap_or_default();
        let found = header::parse(&header).map(|(layout, _)| layout);
        layout = layout.or(found.filter(|found| found.directory_name() == name));
        files.insert(number, (disk.open(&log, OpenMode::Read)?, header));
    }
    let mut object = Object {
        directory: name.to_owned(),
        object_key: layout.as_ref().map(|layout| layout.object_key().to_string()),
        is_known: false,
        image_bytes: layout.as_ref().map(ObjectLayout::image_bytes),
        image: image_state(disk, path, layout.as_ref())?,
        logs: Vec::new(),
        tables_bytes,
        slots: layout.as_ref().map_or(0, ObjectLayout::slots),
        held: 0,
        free: 0,
        damaged: 0,
        bad: 0,
        blocks: Vec::new(),
    };
    if object.image == ImageState::Wrong {
        report.problems.push(format!("{OBJECTS}/{name}/image has a wrong digest"));
        report.is_repairable = false;
    }
    let Some(layout) = layout else {
        let logs = files.iter().map(|(file, (opened, header))| {
            let is_empty = header.iter().all(|octet| *octet == 0);
            let state = if is_empty { LogState::Unreserved } else { LogState::Foreign };
            Ok(Log { file: *file, octets: opened.length()?, state })
        });
        object.logs = logs.collect::<io::Result<_>>()?;
        attribute_damage(&object, report);
        return Ok(object);
    };
    let known = known(layout.object_key());
    object.is_known = known.is_some();
    let recovered = read_logs(&layout, &files, &mut object)?;
    fill(&mut object, layout, &recovered, &known.unwrap_or_default());
    if object.damaged > 0 {
        let text = format!("{OBJECTS}/{name}: {} damaged slots", object.damaged);
        report.problems.push(text);
    }
    attribute_damage(&object, report);
    Ok(object)
}

fn attribute_damage(object: &Object, report: &mut Report) {
    let name = &object.directory;
    for log in object.logs.iter().filter(|log| log.state == LogState::Foreign) {
        report
            .problems
            .push(format!("{OBJECTS}/{name}/log.{} is not a log of this object", log.file));
    }
}

type Files = BTreeMap<u32, (Box<dyn DiskFile>, Vec<u8>)>;

fn read_logs(layout: &ObjectLayout, files: &Files, object: &mut Object) -> io::Result<Recovered> {
    let mut recovery = Recovery::new(layout);
    for (number, (file, header)) in files {
        let octets = file.length()?;
        let is_whole = octets == layout.file_bytes(*number);
        let state = match recovery.header(*number, header) {
            HeaderCheck::Ours if is_whole => LogState::Ready,
            HeaderCheck::Damaged if header.iter().all(|octet| *octet == 0) => LogState::Unreserved,
            HeaderCheck::Ours | HeaderCheck::Damaged | HeaderCheck::Foreign => LogState::Foreign,
        };
        object.logs.push(Log { file: *number, octets, state });
        if state != LogState::Ready {
            continue;
        }
        let mut record = vec![0; layout.slot_size()];
        for index in 0..layout.slots_in(*number) {
            let slot = SlotAddress { file: *number, index };
            match file.read_exact_at(&mut record, layout.offset(slot)) {
                Ok(()) => recovery.slots(slot, &record),
                Err(_) => object.damaged += 1,
            }
        }
    }
    Ok(recovery.finish())
}

/// Counts slots and blocks as the symbol log does after a restart.
fn fill(object: &mut Object, layout: ObjectLayout, recovered: &Recovered, known: &JournalFacts) {
    let limits = crate::store::Limits::default();
    let all = Recovered { files_ready: layout.files(), ..recovered.clone() };
    let log = SymbolLog::recovered(layout, limits, &all, &known.done, &known.bad);
    let layout = log.layout();
    object.damaged += recovered.damaged;
    object.held = log.slots_held();
    object.bad = log.bad_runs().iter().map(|run| u64::from(run.count)).sum();
    object.free = u64::from(layout.slots()).saturating_sub(object.held + object.bad);
    object.blocks = (0..layout.blocks())
        .map(Sbn)
        .map(|sbn| Block {
            sbn: sbn.0,
            needed: layout.block_symbols(sbn).unwrap_or_default(),
            held: if log.is_done(sbn) { 0 } else { log.synced(sbn) },
            done: log.is_done(sbn),
        })
        .collect();
}

fn image_state(
    disk: &dyn Disk,
    path: &Path,
    layout: Option<&ObjectLayout>,
) -> io::Result<ImageState> {
    let digest = layout.and_then(|layout| match layout.content() {
        Content::Image(digest) => Some(*digest),
        Content::File(_) => None,
    });
    let image = path.join("image");
    Ok(match digest {
        Some(digest) if disk.exists(&image) => {
            if sha256(disk, &image)? == digest {
                ImageState::Exact
            } else {
                ImageState::Wrong
            }
        }
        Some(_) | None if disk.exists(&path.join("image.part")) => ImageState::Partial,
        Some(_) | None => ImageState::Absent,
    })
}

fn sha256(disk: &dyn Disk, path: &Path) -> io::Result<Digest> {
    let file = disk.open(path, OpenMode::Read)?;
    let length = file.length()?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    while at < length {
        let octets = usize::try_from(length - at).map_or(buffer.len(), |left| left.min(256 << 10));
        let piece = buffer.get_mut(..octets).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        hasher.update(piece);
        at += octets as u64;
    }
    Ok(hasher.finish())
}
