//! The content of a captured session: a line for each packet, a summary of each object.
//!
//! Symbols are counted, not decoded. The summary shows sent and missing symbols, also of FEC
//! schemes that cannot be decoded here.

mod symbols;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    time::Duration,
};

use proto::{
    fec::{self, oti::Oti},
    flute::{
        alc::{Frame, Packet},
        ext::{AUTH, CENC, FDT, FTI, NOP, TIME},
        fdt::{
            FileEntry,
            skipped::Place,
            store::{Expiry, FdtEvent, FdtStore, HeldInstance, Limits},
        },
        lct::Header,
    },
    ids::{Sbn, Toi, Tsi},
    time::{Utc, text::span},
    wire::{Reader, WireError},
};
use serde::Serialize;

use self::symbols::{Seen, Used};
use super::{
    announced::SILENT_AFTER,
    oddities::{INSTANCE_GIVEN_UP, Oddities, malformed, unsupported},
};
use crate::store::UnsignedIdentity;

/// Objects of a capture that are counted; a capture may hold packets of any sender.
const MAX_OBJECTS: usize = 4096;

/// Contents of one TOI that are kept apart, at most.
const MAX_CONTENTS: usize = 16;

/// Counter of the objects of a capture.
#[derive(Debug, Default)]
pub struct Dissector {
    sessions: BTreeMap<(IpAddr, Tsi), Session>,
    /// The contents of each TOI, one after the other.
    objects: BTreeMap<UnsignedIdentity, Vec<Described>>,
    /// Reasons why entries could not be read.
    unread: BTreeMap<UnsignedIdentity, String>,
    oddities: Oddities,
}

#[derive(Debug)]
struct Session {
    table: FdtStore,
    /// Set once an instance was whole.
    is_described: bool,
    /// Time of the last packet.
    last: Option<Utc>,
    /// Set when it was silent before the packets since the last instance.
    has_paused: bool,
}

/// One content of an object.
#[derive(Debug, Default)]
struct Described {
    entry: Option<FileEntry>,
    /// Time since the expiry of its description, if every one had expired when it came.
    overdue: Option<Duration>,
    seen: Seen,
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
    /// Number of its content, from 1: a TOI may be described anew.
    pub content: usize,
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
                self.count_unreadable(source, datagram, &error);
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

    /// Returns what was odd, a line for each reason.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut oddities = self.oddities.clone();
        for (of, content) in
            self.objects.iter().flat_map(|(of, all)| all.iter().map(move |it| (of, it)))
        {
            for (reason, count) in content.used(of.toi).unused() {
                let toi = of.toi.0;
                oddities.note(format_args!("TOI {toi}: {count} packets cannot be used: {reason}"));
            }
        }
        oddities.all().iter().map(ToString::to_string).collect()
    }

    /// Counts a packet that cannot be read, most often one of a FEC scheme that is not supported.
    fn count_unreadable(&mut self, source: IpAddr, datagram: &[u8], error: &WireError) {
        let frame = Frame::parse(datagram);
        let foreign = frame.ok().filter(|frame| !fec::is_supported(frame.header.codepoint));
        let Some(Frame { header, .. }) = foreign else {
            return self.oddities.note(malformed(error));
        };
        let Some(toi) = header.toi else { return };
        let of = UnsignedIdentity { source, tsi: header.tsi, toi };
        if let Some(content) = self.content(of) {
            content.seen.count(header.codepoint);
        }
    }

    /// Returns the content of an object whose packets come; none where there are too many objects.
    fn content(&mut self, of: UnsignedIdentity) -> Option<&mut Described> {
        if !self.objects.contains_key(&of) && self.objects.len() >= MAX_OBJECTS {
            return None;
        }
        let contents = self.objects.entry(of).or_default();
        if contents.is_empty() {
            contents.push(Described::default());
        }
        contents.last_mut()
    }

    /// Returns the objects with their captured symbols.
    #[must_use]
    pub fn objects(&self) -> Vec<DissectedObject> {
        let numbered = |(of, all): (&UnsignedIdentity, &Vec<Described>)| -> Vec<DissectedObject> {
            all.iter().zip(1..).map(|(content, number)| self.summary(of, number, content)).collect()
        };
        self.objects.iter().flat_map(numbered).collect()
    }

    fn count(&mut self, at: Utc, source: IpAddr, packet: &Packet<'_>) -> String {
        let tsi = packet.header.tsi;
        let (Some(toi), Some(payload)) = (packet.header.toi, packet.payload) else {
            return String::new();
        };
        let session = self.sessions.entry((source, tsi)).or_insert_with(Session::new);
        session.handle_packet(at, packet);
        let of = UnsignedIdentity { source, tsi, toi };
        let Some(content) = self.content(of) else {
            return " (not counted: too many objects)".to_owned();
        };
        let seen = &mut content.seen;
        seen.count(packet.header.codepoint);
        match packet.extensions.fti(packet.header.codepoint) {
            Ok(fti) => seen.add(&payload, fti, toi == Toi::FDT),
            Err(error) => {
                seen.refuse(&error);
                if toi != Toi::FDT {
                    return String::new();
                }
            }
        }
        if toi == Toi::FDT { self.handle_fdt(at, source, tsi, packet) } else { String::new() }
    }

    fn handle_fdt(&mut self, at: Utc, source: IpAddr, tsi: Tsi, packet: &Packet<'_>) -> String {
        let Some(session) = self.sessions.get_mut(&(source, tsi)) else { return String::new() };
        let event = session.table.handle_packet(at, packet);
        let given_up = session.table.take_given_up();
        (0..given_up).for_each(|_| self.oddities.note(INSTANCE_GIVEN_UP));
        let (held, rewritten) = match event {
            Ok(FdtEvent::Instance { id, rewritten, .. }) => {
                let held = session.table.instances(at).find(|held| held.id == id).cloned();
                (held, rewritten)
            }
            Ok(FdtEvent::Late(held)) => (Some(*held), None),
            Ok(FdtEvent::Expired { id, .. }) => {
                return format!(" -> FDT instance {id} had expired");
            }
            Ok(FdtEvent::Collected | FdtEvent::Repeated) => return String::new(),
            Ok(FdtEvent::Unreadable { reason: error, .. }) | Err(error) => {
                self.oddities.note(format_args!("an FDT packet or document is refused: {error}"));
                return format!(" -> FDT not usable: {error}");
            }
        };
        let Some(held) = held else { return String::new() };
        session.is_described = true;
        let has_paused = std::mem::take(&mut session.has_paused);
        let line = instance_text(&held);
        self.describe((source, tsi), held, rewritten.is_some() && has_paused);
        line
    }

    /// Takes the entries of an instance; `is_anew` after a silence behind which its ID has another
    /// document: the sender may have started again.
    fn describe(&mut self, (source, tsi): (IpAddr, Tsi), held: HeldInstance, is_anew: bool) {
        let HeldInstance { id, overdue, instance, .. } = held;
        for part in &instance.skipped.parts {
            self.oddities.note(format_args!("FDT instance {id}: {part}"));
            if let Place::Entry { toi: Some(toi), .. } = part.place {
                let of = UnsignedIdentity { source, tsi, toi };
                self.unread.insert(of, format!("its FDT entry cannot be read: {}", part.reason));
            }
        }
        for file in instance.files {
            let of = UnsignedIdentity { source, tsi, toi: file.toi };
            let contents = self.objects.entry(of).or_default();
            let is_other = contents.last().is_some_and(|last| last.is_other(&file, is_anew));
            if is_other && contents.len() < MAX_CONTENTS {
                self.oddities.note(format_args!(
                    "TOI {} is described anew: its packets from there on are of another content",
                    file.toi.0
                ));
            }
            if contents.is_empty() || is_other && contents.len() < MAX_CONTENTS {
                contents.push(Described::default());
            }
            let Some(content) = contents.last_mut() else { continue };
            if overdue.is_zero() {
                content.overdue = None;
            } else if content.entry.is_none() {
                content.overdue = Some(overdue);
            }
            content.entry.get_or_insert(file);
        }
    }

    fn summary(
        &self,
        of: &UnsignedIdentity,
        number: usize,
        content: &Described,
    ) -> DissectedObject {
        let Described { entry, overdue, seen } = content;
        let entry = entry.as_ref();
        let oti = content.oti();
        let used = content.used(of.toi);
        let blocks = blocks(oti.as_ref(), &used);
        let problem = if of.toi == Toi::FDT {
            let session = self.sessions.get(&(of.source, of.tsi));
            let is_whole = session.is_some_and(|session| session.is_described);
            (!is_whole).then(|| match fec::is_supported(seen.codepoint()) {
                true => "no instance of it is whole and can be read".to_owned(),
                false => unsupported(seen.codepoint()),
            })
        } else if let Some(reason) = self.unread.get(of).filter(|_| entry.is_none()) {
            Some(reason.clone())
        } else {
            let overdue = overdue.map(|overdue| {
                format!("its description had expired {} before it came", span(overdue))
            });
            let missing = problem(entry, oti.as_ref(), seen, &blocks);
            missing.map(|missing| used.explain(missing)).or(overdue)
        };
        DissectedObject {
            source: of.source,
            tsi: of.tsi.0,
            toi: of.toi.0.to_string(),
            content: number,
            location: entry.map(|entry| entry.content_location.clone()),
            fec_encoding_id: oti.map_or(seen.codepoint(), |oti| oti.encoding_id()),
            length: oti
                .map(|oti| oti.transfer_length())
                .or_else(|| entry.and_then(FileEntry::transferred)),
            packets: seen.packets(),
            complete: problem.is_none(),
            problem,
            blocks,
        }
    }
}

impl Session {
    fn new() -> Self {
        // What had expired is shown with the time since.
        let limits = Limits { expiry: Expiry::Ignored, ..Limits::default() };
        let table = FdtStore::new(limits);
        Self { table, is_described: false, last: None, has_paused: false }
    }

    fn handle_packet(&mut self, at: Utc, packet: &Packet<'_>) {
        self.has_paused |= self.last.is_some_and(|last| at.since(last) >= SILENT_AFTER);
        self.last = self.last.max(Some(at));
        self.table.handle_clock(at, &packet.extensions);
    }
}

impl Described {
    /// Returns its FEC parameters: the entry decides, as in a reception.
    fn oti(&self) -> Option<Oti> {
        let entry = self.entry.as_ref();
        let named =
            || entry.and_then(|entry| entry.parameters_under(self.seen.codepoint()).ok().flatten());
        entry.and_then(|entry| entry.oti).or(self.seen.oti()).or_else(named)
    }

    /// Returns whether an entry is of another content.
    fn is_other(&self, file: &FileEntry, is_anew: bool) -> bool {
        fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.zip(other).is_some_and(|(one, other)| one != other)
        }
        let Some(known) = &self.entry else { return false };
        known.content_location != file.content_location
            || differ(known.transferred(), file.transferred())
            || differ(known.oti, file.oti)
            || differ(known.content_md5, file.content_md5)
            || is_anew && file.content_md5.is_none() && self.seen.packets() > 0
    }

    /// Returns the captured symbols that a reception would use.
    fn used(&self, toi: Toi) -> Used {
        self.seen.used(self.oti().as_ref(), toi == Toi::FDT)
    }
}

/// Returns the text of an instance that was read.
fn instance_text(held: &HeldInstance) -> String {
    let mut line = format!(" -> FDT instance {}", held.id);
    if !held.overdue.is_zero() {
        write!(line, ", which had expired {} before", span(held.overdue))
            .expect("a string takes all text");
    }
    let skipped = held.instance.skipped.entries;
    if skipped > 0 {
        write!(line, ", entries skipped: {skipped}").expect("a string takes all text");
    }
    let files = held.instance.files.iter();
    let names: Vec<_> =
        files.map(|file| file.content_location.escape_debug().to_string()).collect();
    format!("{line}: {}", names.join(", "))
}

fn blocks(oti: Option<&Oti>, used: &Used) -> Vec<DissectedBlock> {
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
    used.held().iter().map(block).collect()
}

/// Returns the reason why an object cannot be assembled from the capture.
fn problem(
    entry: Option<&FileEntry>,
    oti: Option<&Oti>,
    seen: &Seen,
    blocks: &[DissectedBlock],
) -> Option<String> {
    if seen.packets() == 0 {
        return Some("described, but no packet of it was captured".to_owned());
    }
    let scheme = entry.and_then(|entry| entry.encoding_id).unwrap_or(seen.codepoint());
    if oti.is_none() && !fec::is_supported(scheme) {
        return Some(unsupported(scheme));
    }
    if let Some(error) = seen.bad_fti().filter(|_| seen.is_empty()) {
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
