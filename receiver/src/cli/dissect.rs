//! `receiver dissect`: the content of a packet capture of FLUTE sessions.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::anyhow;
use clap::Args;
use serde_json::json;

use super::{Failure, exit};
use crate::{
    shell::capture::{Capture, CaptureError},
    unsigned::dissect::{DissectedObject, Dissector},
};

#[derive(Debug, Args)]
pub(super) struct DissectArgs {
    /// Packet capture (classic pcap)
    file: PathBuf,
    /// Read this UDP port only [default: every datagram]
    #[arg(long)]
    port: Option<u16>,
    /// Omit the lines of the packets
    #[arg(long)]
    summary: bool,
    /// Print a JSON object for each packet, and one with all objects at the end
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &DissectArgs) -> Result<u8, Failure> {
    match print(arguments) {
        Ok(()) => Ok(exit::DONE),
        // Without a reader there is nothing left to do.
        Err(CaptureError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(exit::DONE),
        Err(error) => {
            let missing = matches!(
                &error, CaptureError::Io(error) if error.kind() == io::ErrorKind::NotFound
            );
            let code = if missing { exit::NOT_FOUND } else { exit::CONFIGURATION };
            let path = arguments.file.display().to_string();
            Err(Failure { code, error: anyhow!(error).context(path) })
        }
    }
}

fn print(arguments: &DissectArgs) -> Result<(), CaptureError> {
    let mut capture = Capture::open(&arguments.file)?;
    let mut dissector = Dissector::new();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut number = 0_u64;
    while let Some(datagram) = capture.next_datagram()? {
        let destination = datagram.destination;
        if arguments.port.is_some_and(|port| port != destination.port()) {
            continue;
        }
        number += 1;
        let source = datagram.source.ip();
        let text = dissector.handle_datagram(datagram.at, source, datagram.payload);
        if arguments.summary {
            continue;
        }
        if arguments.json {
            let packet = json!({
                "packet": number, "time": datagram.at.to_string(),
                "to": destination.to_string(), "text": text,
            });
            writeln!(out, "{packet}")?;
        } else {
            writeln!(out, "{number} {} {destination} {text}", datagram.at)?;
        }
    }
    let objects = dissector.objects();
    let notes = [dissector.notes(), capture.skipped()].concat();
    if arguments.json {
        writeln!(out, "{}", json!({ "packets": number, "objects": objects, "skipped": notes }))?;
    } else {
        writeln!(out, "{number} datagrams, {} objects", objects.len())?;
        for object in &objects {
            table(&mut out, object)?;
        }
        if !notes.is_empty() {
            writeln!(out)?;
        }
        for note in &notes {
            writeln!(out, "{note}")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Blocks of an object that are printed one by one.
const MAX_LINES: usize = 64;

fn table(out: &mut impl io::Write, object: &DissectedObject) -> io::Result<()> {
    let DissectedObject { source, tsi, toi, fec_encoding_id, packets, .. } = object;
    let name = match (&object.location, toi.as_str()) {
        (_, "0") => "FDT".to_owned(),
        (Some(location), _) => location.escape_debug().to_string(),
        (None, _) => "not described".to_owned(),
    };
    let name = match object.content {
        0 | 1 => name,
        number => format!("{name} (content {number})"),
    };
    let length = object.length.map_or(String::new(), |length| format!(", {length} octets"));
    writeln!(out)?;
    writeln!(out, "{source} TSI {tsi} TOI {toi}: {name}{length}")?;
    let verdict = object.problem.as_deref().unwrap_or("complete");
    writeln!(out, "  FEC Encoding ID {fec_encoding_id}, {packets} packets: {verdict}")?;
    // Each FDT instance is an object of its own: their blocks are not comparable.
    if toi == "0" || object.blocks.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "  {:>5} {:>8} {:>8} {:>8} {:>8}",
        "block", "symbols", "held", "source", "missing"
    )?;
    let number = |value: Option<u32>| value.map_or("?".to_owned(), |value| value.to_string());
    for block in object.blocks.iter().take(MAX_LINES) {
        let (symbols, missing) = (number(block.symbols), number(block.missing));
        let (sbn, held, own) = (block.sbn, block.held, block.held_source);
        writeln!(out, "  {sbn:>5} {symbols:>8} {held:>8} {own:>8} {missing:>8}")?;
    }
    if object.blocks.len() > MAX_LINES {
        writeln!(out, "  and {} blocks more (all with --json)", object.blocks.len() - MAX_LINES)?;
    }
    Ok(())
}
