//! `receiver fsck`: the state of a data directory.

use std::{fmt::Write as _, io, path::PathBuf};

use anyhow::anyhow;
use clap::Args;

use super::{Failure, exit, print};
use crate::shell::{
    disk::RealDisk,
    fsck::{self, CopyState, ImageState, LogState, Object, Report},
};

#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct FsckArgs {
    /// Data directory: `receiver.data` of a device, or `.listen` in the output directory of
    /// `listen`
    directory: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &FsckArgs) -> Result<u8, Failure> {
    let report = fsck::inspect(&RealDisk, &arguments.directory).map_err(|error| {
        let missing = error.kind() == io::ErrorKind::NotFound;
        let code = if missing { exit::NOT_FOUND } else { exit::CONFIGURATION };
        let path = arguments.directory.display().to_string();
        Failure { code, error: anyhow!(error).context(path) }
    })?;
    if arguments.json {
        let text = serde_json::to_string(&report).expect("the report is serialisable");
        print(format_args!("{text}\n"))?;
    } else {
        print(text(&report))?;
    }
    Ok(if report.problems.is_empty() {
        exit::DONE
    } else if report.is_repairable {
        exit::PARTIAL
    } else {
        exit::REFUSED_SIGNATURE
    })
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a string takes every line");
    for copy in &report.journal {
        let generation = copy.generation.map(|generation| format!(", generation {generation}"));
        let state = match copy.state {
            CopyState::Latest => "the latest state",
            CopyState::Earlier => "the state before it",
            CopyState::Absent => "absent",
            CopyState::Damaged => "damaged",
            CopyState::Foreign => "not for this program",
        };
        line(format!("{}: {state}{}", copy.name, generation.unwrap_or_default()));
    }
    let floors = match report.floors {
        CopyState::Latest | CopyState::Earlier => "sound",
        CopyState::Absent => "absent",
        CopyState::Damaged => "damaged",
        CopyState::Foreign => "not for this program",
    };
    line(format!("floors: {floors}"));
    if let Some(phase) = &report.phase {
        let campaign = report.campaign.as_deref().unwrap_or("none");
        let reports = report.reports_waiting;
        line(format!("phase {phase}, campaign {campaign}, {reports} reports waiting"));
    }
    let octets: u64 = report.files.values().sum();
    line(format!("{} small files, {octets} octets", report.files.len()));
    report.objects.iter().flat_map(object).for_each(&mut line);
    report.foreign.iter().map(|path| format!("foreign: {path}")).for_each(&mut line);
    report.problems.iter().map(|text| format!("damage: {text}")).for_each(&mut line);
    if report.problems.is_empty() {
        line("sound".to_owned());
    }
    out
}

fn object(object: &Object) -> Vec<String> {
    let known = if object.is_known { "" } else { ", unknown to the journal" };
    let image = match object.image {
        ImageState::Absent => "no image",
        ImageState::Partial => "image partial",
        ImageState::Exact => "image exact",
        ImageState::Wrong => "image wrong",
    };
    let octets = object.image_bytes.map_or("?".to_owned(), |octets| octets.to_string());
    let mut lines = vec![format!("object {}: {octets} octets, {image}{known}", object.directory)];
    for log in &object.logs {
        let state = match log.state {
            LogState::Ready => "ready",
            LogState::Unreserved => "not reserved yet",
            LogState::Foreign => "no log of this object",
        };
        lines.push(format!("  log.{}: {} octets, {state}", log.file, log.octets));
    }
    if let Some(octets) = object.tables_bytes {
        lines.push(format!("  tables of the segments in flight: {octets} octets"));
    }
    if !object.blocks.is_empty() {
        let Object { slots, held, free, damaged, bad, .. } = object;
        lines.push(format!(
            "  slots: {slots}, {held} held, {free} free, {damaged} damaged, {bad} bad"
        ));
    }
    for block in &object.blocks {
        let state = if block.done {
            "decoded".to_owned()
        } else {
            format!("{} of {} symbols", block.held, block.needed)
        };
        lines.push(format!("  block {}: {state}", block.sbn));
    }
    lines
}

const EXAMPLES: &str = "\
The check changes nothing. A torn or damaged slot costs one symbol, which is received again; a
damaged copy of the journal costs nothing while the other is intact; a log without a header is
reserved again at the next start. Bad slots are those whose write or sync failed: they are not used.
Foreign files are harmless; those in objects/ are removed when the next campaign is armed.

Examples:
  receiver fsck /var/lib/fumocast
  receiver fsck --json /var/lib/fumocast | jq '.objects[].blocks[] | select(.done | not)'

Exit codes: 0 sound, 2 usage, 3 unreadable, 5 state or a finished image is lost, 6 no such
directory, 9 damage that costs symbols at most.";

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        fsck::Report {
            journal: vec![
                fsck::Copy { name: "journal.a", state: CopyState::Latest, generation: Some(7) },
                fsck::Copy { name: "journal.b", state: CopyState::Damaged, generation: None },
            ],
            floors: CopyState::Latest,
            phase: Some("receiving".to_owned()),
            campaign: None,
            reports_waiting: 0,
            files: [("root.env".to_owned(), 300)].into(),
            objects: vec![Object {
                directory: "00ff".to_owned(),
                object_key: Some("00ff".to_owned()),
                is_known: false,
                image_bytes: Some(5000),
                image: ImageState::Partial,
                logs: vec![fsck::Log { file: 0, octets: 8192, state: LogState::Ready }],
                tables_bytes: Some(4224),
                slots: 60,
                held: 3,
                free: 56,
                damaged: 1,
                bad: 1,
                blocks: vec![
                    fsck::Block { sbn: 0, needed: 4, held: 0, done: true },
                    fsck::Block { sbn: 1, needed: 4, held: 3, done: false },
                ],
            }],
            foreign: vec!["notes.txt".to_owned()],
            problems: vec!["journal.b is damaged".to_owned()],
            is_repairable: true,
        }
    }

    #[test]
    fn the_report_lists_files_objects_and_damage() {
        let expected = "\
journal.a: the latest state, generation 7
journal.b: damaged
floors: sound
phase receiving, campaign none, 0 reports waiting
1 small files, 300 octets
object 00ff: 5000 octets, image partial, unknown to the journal
  log.0: 8192 octets, ready
  tables of the segments in flight: 4224 octets
  slots: 60, 3 held, 56 free, 1 damaged, 1 bad
  block 0: decoded
  block 1: 3 of 4 symbols
foreign: notes.txt
damage: journal.b is damaged
";
        assert_eq!(text(&report()), expected);
        let mut sound = report();
        sound.problems.clear();
        assert!(text(&sound).ends_with("sound\n"));
    }
}
