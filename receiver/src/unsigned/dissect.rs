//! The content of a captured session: a line for each packet, a summary of each object.
//!
//! Symbols are counted, not decoded. The summary shows sent and missing symbols, also of FEC
//! schemes that cannot be decoded here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    time::Duration,
};

use proto::{
    fec::{self, oti::Oti},
    flute::{
        alc::{Frame, Packet, PayloadId},
        ext::{AUTH, CENC, FDT, FTI, NOP, TIME},
        fdt::{
            FileEntry,
            store::{Expiry, FdtEvent, FdtStore, Limits},
        },
        lct::Header,
    },
    ids::{Sbn, Toi, Tsi},
    time::{Utc, text::span},
    wire::Reader,
};
use serde::Serialize;

use super::oddities::{INSTANCE_GIVEN_UP, Oddities, unsupported};
use crate::store::UnsignedIdentity;

/// Objects of a capture that are counted; a capture may hold packets of any sender.
const MAX_OBJECTS: usize = 4096;

/// Counter of the objects of a capture.
#[derive(Debug, Default)]
pub struct Dissector {
    tables: BTreeMap<(IpAddr, Tsi), FdtStore>,
    /// Sessions with a complete FDT instance.
    described: BTreeSet<(IpAddr, Tsi)>,
    entries: BTreeMap<UnsignedIdentity, FileEntry>,
    /// Objects whose every description had expired when it came, and since when.
    overdue: BTreeMap<UnsignedIdentity, Duration>,
    objects: BTreeMap<UnsignedIdentity, Seen>,
    oddities: Oddities,
}

#[derive(Debug, Default)]
struct Seen {
    oti: Option<Oti>,
    codepoint: u8,
    packets: u64,
    /// Reason why an EXT_FTI could not be read; its packet is not used.
    bad_fti: Option<String>,
    held: BTreeMap<Sbn, BTreeSet<u32>>,
}

/// An object of the capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DissectedObject {
    /// Address of its sender.
    pub source: IpAddr,
    /// Its session.
    pub tsi: u64,
    /// Decimal; 0 is the FDT.
    pub toi: String,
    /// Its `Content-Location` in the FDT.
    pub location: Option<String>,
    /// FEC Encoding ID.
    pub fec_encoding_id: u8,
    /// Octets, if known.
    pub length: Option<u64>,
    /// Captured packets.
    pub packets: u64,
    /// Set when the captured symbols are enough.
    pub complete: bool,
    /// Reason why it is not complete.
    pub problem: Option<String>,
    /// Source blocks with captured symbols; the problem counts the others.
    pub blocks: Vec<DissectedBlock>,
}

/// A source block of the capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DissectedBlock {
    /// Its number.
    pub sbn: u32,
    /// Source symbols, if known.
    pub symbols: Option<u32>,
    /// Distinct captured symbols.
    pub held: u32,
    /// Captured source symbols.
    pub held_source: u32,
    /// Missing symbols.
    pub missing: Option<u32>,
}

impl Dissector {
    /// Creates an empty dissector.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a datagram; returns its description in one line.
    pub fn handle_datagram(&mut self, at: Utc, source: IpAddr, datagram: &[u8]) -> String {
        let packet = match Packet::parse(datagram) {
            Ok(packet) => packet,
            Err(error) => {
                self.count_unsupported(source, datagram);
                let header = Header::parse(&mut Reader::new(datagram));
                let known = header.map_or(String::new(), |(header, _)| header_text(&header));
                return format!("{source} {known}not understood: {error}");
            }
        };
        let event = self.count(at, source, &packet);
        let fti = packet.extensions.fti(packet.header.codepoint).err();
        let fti = fti.map_or(String::new(), |error| format!(" (EXT_FTI is not valid: {error})"));
        let mut line = format!("{source} {}", header_text(&packet.header));
        match packet.payload {
            Some(payload) => {
                let (id, octets) = (payload.id, payload.symbols.len());
                write!(line, "SBN {} ESI {} {octets} octets", id.sbn.0, id.esi.0)
            }
            None => write!(line, "no data"),
        }
        .expect("a string takes all text");
        line.push_str(&extensions_text(&packet));
        line + &fti + &event
    }

    /// Returns what was odd in the tables, a line for each reason.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.oddities.all().iter().map(ToString::to_string).collect()
    }

    /// Counts a packet of a FEC scheme that is not supported.
    fn count_unsupported(&mut self, source: IpAddr, datagram: &[u8]) {
        let Ok(Frame { header, .. }) = Frame::parse(datagram) else { return };
        let Some(toi) = header.toi.filter(|_| !fec::is_supported(header.codepoint)) else {
            return;
        };
        let of = UnsignedIdentity { source, tsi: header.tsi, toi };
        if self.objects.contains_key(&of) || self.objects.len() < MAX_OBJECTS {
            let seen = self.objects.entry(of).or_default();
            seen.packets += 1;
            seen.codepoint = header.codepoint;
        }
    }

    /// Returns the objects with their captured symbols.
    #[must_use]
    pub fn objects(&self) -> Vec<DissectedObject> {
        let described = self.entries.keys().filter(|of| !self.objects.contains_key(of));
        let uncaptured = described.map(|of| self.summary(of, &Seen::default()));
        let seen = self.objects.iter().map(|(of, seen)| self.summary(of, seen));
        seen.chain(uncaptured).collect()
    }

    fn count(&mut self, at: Utc, source: IpAddr, packet: &Packet<'_>) -> String {
        let tsi = packet.header.tsi;
        let (Some(toi), Some(payload)) = (packet.header.toi, packet.payload) else {
            return String::new();
        };
        let of = UnsignedIdentity { source, tsi, toi };
        if !self.objects.contains_key(&of) && self.objects.len() >= MAX_OBJECTS {
            return " (not counted: too many objects)".to_owned();
        }
        let seen = self.objects.entry(of).or_default();
        seen.packets += 1;
        seen.codepoint = packet.header.codepoint;
        match packet.extensions.fti(packet.header.codepoint) {
            Ok(fti) => seen.oti = seen.oti.or(fti),
            Err(error) => {
                seen.bad_fti = Some(error.to_string());
                if toi != Toi::FDT {
                    return String::new();
                }
            }
        }
        let described = self.entries.get(&of).and_then(|entry| described(entry, seen));
        let size = seen.oti.or(described).map(|oti| usize::from(oti.symbol_size()));
        let count = size.map_or(1, |size| payload.symbols.len().div_ceil(size.max(1)));
        let PayloadId { sbn, esi } = payload.id;
        seen.held.entry(sbn).or_default().extend((esi.0..).take(count));
        if toi == Toi::FDT { self.handle_fdt(at, source, tsi, packet) } else { String::new() }
    }

    fn handle_fdt(&mut self, at: Utc, source: IpAddr, tsi: Tsi, packet: &Packet<'_>) -> String {
        // What had expired is shown with the time since.
        let limits = Limits { expiry: Expiry::Ignored, ..Limits::default() };
        let table = self.tables.entry((source, tsi)).or_insert_with(|| FdtStore::new(limits));
        let event = table.handle_packet(at, packet);
        let given_up = table.take_given_up();
        (0..given_up).for_each(|_| self.oddities.note(INSTANCE_GIVEN_UP));
        match event {
            Ok(FdtEvent::Instance { id, .. }) => {
                self.described.insert((source, tsi));
                let Some(held) = table.instances(at).find(|held| held.id == id) else {
                    return String::new();
                };
                let overdue = held.overdue;
                let mut line = format!(" -> FDT instance {id}");
                if !overdue.is_zero() {
                    write!(line, ", which had expired {} before", span(overdue))
                        .expect("a string takes all text");
                }
                let skipped = &held.instance.skipped;
                if skipped.entries > 0 {
                    write!(line, ", entries skipped: {}", skipped.entries)
                        .expect("a string takes all text");
                }
                for part in &skipped.parts {
                    self.oddities.note(format_args!("FDT instance {id}: {part}"));
                }
                let files = held.instance.files.clone();
                let names: Vec<_> = files
                    .iter()
                    .map(|file| file.content_location.escape_debug().to_string())
                    .collect();
                for file in files {
                    let of = UnsignedIdentity { source, tsi, toi: file.toi };
                    if overdue.is_zero() {
                        self.overdue.remove(&of);
                    } else if !self.entries.contains_key(&of) {
                        self.overdue.insert(of, overdue);
                    }
                    self.entries.entry(of).or_insert(file);
                }
                format!("{line}: {}", names.join(", "))
            }
            Ok(FdtEvent::Expired { id, .. }) => format!(" -> FDT instance {id} had expired"),
            Ok(FdtEvent::Collected | FdtEvent::Repeated | FdtEvent::Late(_)) => String::new(),
            Ok(FdtEvent::Unreadable { reason: error, .. }) | Err(error) => {
                self.oddities.note(format_args!("an FDT packet or document is refused: {error}"));
                format!(" -> FDT not usable: {error}")
            }
        }
    }

    fn summary(&self, of: &UnsignedIdentity, seen: &Seen) -> DissectedObject {
        let entry = self.entries.get(of);
        let oti = seen.oti.or_else(|| entry.and_then(|entry| described(entry, seen)));
        let blocks = blocks(oti.as_ref(), seen);
        let problem = if of.toi == Toi::FDT {
            let is_whole = self.described.contains(&(of.source, of.tsi));
            (!is_whole).then(|| match fec::is_supported(seen.codepoint) {
                true => "no instance of it is whole and can be read".to_owned(),
                false => unsupported(seen.codepoint),
            })
        } else {
            let overdue = self.overdue.get(of).map(|overdue| {
                format!("its description had expired {} before it came", span(*overdue))
            });
            problem(entry, oti.as_ref(), seen, &blocks).or(overdue)
        };
        DissectedObject {
            source: of.source,
            tsi: of.tsi.0,
            toi: of.toi.0.to_string(),
            location: entry.map(|entry| entry.content_location.clone()),
            fec_encoding_id: oti.map_or(seen.codepoint, |oti| oti.encoding_id()),
            length: oti
                .map(|oti| oti.transfer_length())
                .or_else(|| entry.and_then(FileEntry::transferred)),
            packets: seen.packets,
            complete: problem.is_none(),
            problem,
            blocks,
        }
    }
}

/// Returns the FEC parameters that an entry describes for packets of a codepoint.
fn described(entry: &FileEntry, seen: &Seen) -> Option<Oti> {
    entry.oti.or_else(|| entry.parameters_under(seen.codepoint).ok().flatten())
}

fn blocks(oti: Option<&Oti>, seen: &Seen) -> Vec<DissectedBlock> {
    let block = |(sbn, held): (&Sbn, &BTreeSet<u32>)| {
        let symbols = oti.and_then(|oti| oti.partition().symbols_of(*sbn));
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let source = symbols.map_or(0, |symbols| count(held.range(..symbols).count()));
        // No-Code needs each source symbol; of RaptorQ any will do.
        let useful = match oti {
            Some(Oti::NoCode(_)) => source,
            Some(Oti::RaptorQ(_)) | None => count(held.len()),
        };
        DissectedBlock {
            sbn: sbn.0,
            symbols,
            held: count(held.len()),
            held_source: source,
            missing: symbols.map(|symbols| symbols.saturating_sub(useful)),
        }
    };
    seen.held.iter().map(block).collect()
}

/// Returns the reason why an object cannot be assembled from the capture.
fn problem(
    entry: Option<&FileEntry>,
    oti: Option<&Oti>,
    seen: &Seen,
    blocks: &[DissectedBlock],
) -> Option<String> {
    if seen.packets == 0 {
        return Some("described, but no packet of it was captured".to_owned());
    }
    let scheme = entry.and_then(|entry| entry.encoding_id).unwrap_or(seen.codepoint);
    if oti.is_none() && !fec::is_supported(scheme) {
        return Some(unsupported(scheme));
    }
    if let Some(error) = seen.bad_fti.as_ref().filter(|_| seen.held.is_empty()) {
        return Some(format!("the EXT_FTI of its packets is not valid: {error}"));
    }
    let Some(oti) = oti else {
        return Some("no FEC parameters: neither in EXT_FTI nor in an FDT".to_owned());
    };
    let all = oti.partition().blocks();
    let captured = blocks.iter().filter(|block| block.symbols.is_some()).count();
    let uncaptured = u64::from(all).saturating_sub(u64::try_from(captured).unwrap_or(u64::MAX));
    let (short, missing) = blocks
        .iter()
        .filter_map(|block| block.missing.filter(|missing| *missing > 0))
        .fold((0_u64, 0_u64), |(blocks, symbols), missing| {
            (blocks + 1, symbols + u64::from(missing))
        });
    if uncaptured + short > 0 {
        let others = match uncaptured {
            0 => String::new(),
            blocks => format!(", nothing of {blocks} blocks"),
        };
        return Some(format!("{missing} symbols of {short} blocks are missing{others}"));
    }
    if entry.is_none() {
        return Some("no FDT says what it is".to_owned());
    }
    None
}

fn header_text(header: &Header) -> String {
    let mut text = format!("TSI {} ", header.tsi.0);
    if let Some(toi) = header.toi {
        write!(text, "TOI {} ", toi.0).expect("a string takes all text");
    }
    write!(text, "CP {} ", header.codepoint).expect("a string takes all text");
    let flags = [(header.close_session, "A "), (header.close_object, "B ")];
    text.extend(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag));
    text
}

fn extensions_text(packet: &Packet<'_>) -> String {
    let mut text = String::new();
    for extension in packet.extensions.iter() {
        match extension.kind {
            FDT => {
                if let Some(fdt) = packet.extensions.fdt() {
                    let (id, version) = (fdt.instance_id, fdt.version);
                    write!(text, " FDT({id}, FLUTE {version})").expect("a string takes all text");
                }
            }
            FTI => text.push_str(" FTI"),
            NOP => text.push_str(" NOP"),
            AUTH => text.push_str(" AUTH"),
            TIME => text.push_str(" TIME"),
            CENC => text.push_str(" CENC"),
            other => write!(text, " HET {other}").expect("a string takes all text"),
        }
    }
    text
}
