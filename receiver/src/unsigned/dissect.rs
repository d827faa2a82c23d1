//! The content of a captured session: a line for each packet, a summary of each object.
//!
//! Symbols are counted, not decoded. The summary shows sent and missing symbols, also of FEC
//! schemes that cannot be decoded here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use proto::{
    fec::oti::Oti,
    flute::{
        alc::{Packet, PayloadId},
        ext::{AUTH, CENC, FDT, FTI, NOP, TIME},
        fdt::{
            FileEntry,
            store::{FdtEvent, FdtStore},
        },
        lct::Header,
    },
    ids::{Sbn, Toi, Tsi},
    time::Utc,
    wire::Reader,
};
use serde::Serialize;

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
    objects: BTreeMap<UnsignedIdentity, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    oti: Option<Oti>,
    codepoint: u8,
    packets: u64,
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
                let header = Header::parse(&mut Reader::new(datagram));
                let known = header.map_or(String::new(), |(header, _)| header_text(&header));
                return format!("{source} {known}not understood: {error}");
            }
        };
        let event = self.count(at, source, &packet);
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
        line + &event
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
        let fti = packet.extensions.fti(packet.header.codepoint).ok().flatten();
        seen.oti = seen.oti.or(fti);
        let described = self.entries.get(&of).and_then(|entry| entry.oti);
        let size = seen.oti.or(described).map(|oti| usize::from(oti.symbol_size()));
        let count = size.map_or(1, |size| payload.symbols.len().div_ceil(size.max(1)));
        let PayloadId { sbn, esi } = payload.id;
        seen.held.entry(sbn).or_default().extend((esi.0..).take(count));
        if toi == Toi::FDT { self.handle_fdt(at, source, tsi, packet) } else { String::new() }
    }

    fn handle_fdt(&mut self, at: Utc, source: IpAddr, tsi: Tsi, packet: &Packet<'_>) -> String {
        let table = self.tables.entry((source, tsi)).or_default();
        match table.handle_packet(at, packet) {
            Ok(FdtEvent::Instance { id, .. }) => {
                self.described.insert((source, tsi));
                let held = table.instances(at).find(|held| held.id == id);
                let files = held.map(|held| held.instance.files.clone()).unwrap_or_default();
                let names: Vec<_> = files
                    .iter()
                    .map(|file| file.content_location.escape_debug().to_string())
                    .collect();
                for file in files {
                    let of = UnsignedIdentity { source, tsi, toi: file.toi };
                    self.entries.entry(of).or_insert(file);
                }
                format!(" -> FDT instance {id}: {}", names.join(", "))
            }
            Ok(FdtEvent::Expired { id }) => format!(" -> FDT instance {id} had expired"),
            Ok(FdtEvent::Collected | FdtEvent::Repeated | FdtEvent::Late(_)) => String::new(),
            Err(error) => format!(" -> FDT not usable: {error}"),
        }
    }

    fn summary(&self, of: &UnsignedIdentity, seen: &Seen) -> DissectedObject {
        let entry = self.entries.get(of);
        let oti = seen.oti.or_else(|| entry.and_then(|entry| entry.oti));
        let blocks = blocks(oti.as_ref(), seen);
        let problem = if of.toi == Toi::FDT {
            let is_whole = self.described.contains(&(of.source, of.tsi));
            (!is_whole).then(|| "no instance of it is whole".to_owned())
        } else {
            problem(entry, oti.as_ref(), seen, &blocks)
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
