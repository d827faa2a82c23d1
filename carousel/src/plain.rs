//! Plain FLUTE sessions: files to any receiver, unsigned by nature.
//!
//! ```text
//! start, restart:  FDT
//! then:            row by row, pass after pass (schedule)
//! every so often:  FDT
//! end:             what closes the session, three times
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`schedule`] | which symbol goes next |
//! | [`style`] | profiles, FEC parameters and where they stand |
//!
//! In RaptorQ there is no end of fresh repair symbols: whatever a receiver holds from earlier
//! passes, all that it hears is of use to it. Nothing here proves who sent a file; for devices in
//! the field there are packages and campaigns.

pub mod schedule;
pub mod style;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, io, time::Duration};

use proto::{
    fec::oti::Oti,
    flute::{
        alc::PayloadId,
        ext::{ExtensionWriter, Extensions},
        fdt::FileEntry,
        lct::Header,
    },
    ids::{Toi, Tsi},
    time::{Mono, Now},
};
use serde::{Deserialize, Serialize};

use self::{
    schedule::{PlainSchedule, RowPlace, SymbolName},
    style::{Closing, FtiPlace, Style},
};
use crate::{
    fdt::FdtIssuer,
    life::{Due, Life, Next, Sent, Transmit},
};

/// Where the symbols come from.
pub trait Symbols {
    /// Learns with which symbol of each block its repair symbols begin; they are read in the order
    /// of their ids.
    fn prepare(&mut self, first: &[SymbolName]);

    /// Fills `symbol`, which has the length of the file's symbols.
    ///
    /// # Errors
    ///
    /// Whatever reading the file meets.
    fn read(&mut self, name: SymbolName, symbol: &mut [u8]) -> io::Result<()>;
}

/// One file of a session.
#[derive(Debug, Clone)]
pub struct PlainFile {
    /// What the FDT says about it.
    pub entry: FileEntry,
    /// Its FEC parameters, whether or not the FDT gives them.
    pub oti: Oti,
}

/// What a session is made of.
#[derive(Debug, Clone)]
pub struct PlainSetup {
    /// Names the session together with its source; fits the style's widths.
    pub tsi: Tsi,
    /// What it looks like on the wire.
    pub style: Style,
    /// What is sent.
    pub files: Vec<PlainFile>,
    /// Entries of files without octets, of which nothing is sent; there is a file or one of these.
    pub empty: Vec<FileEntry>,
    /// The sending order of the files.
    pub schedule: PlainSchedule,
    /// Where it begins.
    pub place: PlainPlace,
    /// Passes after which the session closes by itself, counted from where it begins.
    pub passes: Option<u64>,
    /// How often the FDT is sent.
    pub announce_every: Duration,
}

/// What is kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlainPlace {
    /// The row to go on with.
    pub at: RowPlace,
    /// An FDT Instance ID that was not used yet.
    pub fdt_instance: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Fdt(usize),
    Close,
}

/// The sender core of a plain session.
#[derive(Debug, Clone)]
pub struct PlainSession {
    tsi: Tsi,
    style: Style,
    files: Vec<Prepared>,
    fdt: FdtIssuer,
    schedule: PlainSchedule,
    life: Life<Step>,
    /// The row that `row` is the rest of.
    place: RowPlace,
    row: VecDeque<SymbolName>,
    last_pass: Option<u64>,
    /// In a session without symbols: the announcement that is waited for.
    idle_until: Option<Mono>,
}

/// A file with what precedes its payload ids on the wire.
#[derive(Debug, Clone)]
struct Prepared {
    oti: Oti,
    header: Vec<u8>,
}

impl PlainSession {
    /// Prepares a session; nothing is sent before the first [`Self::poll_transmit`].
    ///
    /// # Panics
    ///
    /// When the setup has no file at all, or TSI or a TOI do not fit the style's widths.
    #[must_use]
    pub fn new(now: Now, setup: PlainSetup) -> Self {
        let PlainSetup { tsi, style, files, empty, schedule, place, passes, announce_every } =
            setup;
        let mut entries: Vec<_> = files.iter().map(|file| file.entry.clone()).collect();
        entries.extend(empty);
        assert!(!entries.is_empty(), "a session has at least one file");
        entries.sort_by_key(|entry| entry.toi);
        Self {
            tsi,
            style,
            fdt: FdtIssuer::in_style(now.utc, tsi, entries, place.fdt_instance, style.fdt),
            files: files.iter().map(|file| Prepared::new(tsi, file, &style)).collect(),
            schedule,
            life: Life::new(now.mono, announce_every, Step::Close),
            place: place.at,
            row: VecDeque::new(),
            last_pass: passes.map(|passes| place.at.pass.saturating_add(passes)),
            idle_until: None,
        }
    }

    /// Puts the next packet into `packet`, whose content is replaced.
    ///
    /// # Errors
    ///
    /// What reading the symbol answered; the place moves on all the same.
    pub fn poll_transmit(
        &mut self,
        now: Now,
        symbols: &mut dyn Symbols,
        packet: &mut Vec<u8>,
    ) -> io::Result<Transmit> {
        packet.clear();
        let is_through = self.is_through();
        match self.life.advance(now.mono, || is_through) {
            // spec: rfc6726 3.3 (the table goes ahead of the files)
            Due::Start => {
                self.announce();
                symbols.prepare(&self.schedule.repair_from(self.place));
                self.enter(self.place);
            }
            Due::Announce => {
                // spec: rfc6726 3.2, rfc6726 3.5 (no receiver is assumed to hold the table)
                self.fdt.renew(now.utc);
                self.announce();
            }
            Due::Nothing => {}
        }
        match self.life.next() {
            Next::Step(step) => self.emit_step(step, packet),
            Next::Closed => return Ok(Transmit::Closed),
            Next::Data if self.files.is_empty() => {
                // The FDT is all that there is to send, and makes a pass.
                let next = self.life.next_announcement();
                if self.idle_until != Some(next) {
                    self.idle_until = Some(next);
                    self.place.pass += 1;
                }
                return Ok(Transmit::Wait(next));
            }
            Next::Data => self.emit_symbol(symbols, packet)?,
        }
        self.life.count(packet);
        Ok(Transmit::Packet)
    }

    /// Ends the session: what comes yet are the packets that close it.
    // spec: rfc5651 5.1 (after A nothing but A)
    pub fn close(&mut self) {
        self.life.close();
    }

    /// Returns what was sent.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.life.sent()
    }

    /// Returns where to go on after a restart: the beginning of a row.
    #[must_use]
    pub const fn place(&self) -> PlainPlace {
        PlainPlace { at: self.place, fdt_instance: self.fdt.next_instance_id() }
    }

    /// Returns how many rows the pass has that is being sent.
    #[must_use]
    pub fn rows_of_pass(&self) -> u64 {
        self.schedule.rows(self.place.pass)
    }

    fn is_through(&self) -> bool {
        self.last_pass.is_some_and(|last| self.place.pass >= last)
    }

    /// Goes to the beginning of a row.
    fn enter(&mut self, place: RowPlace) {
        self.place = place;
        self.row = self.schedule.row(place).into();
    }

    fn announce(&mut self) {
        self.life.queue((0..self.fdt.packets().len()).map(Step::Fdt));
    }

    fn emit_step(&self, step: Step, packet: &mut Vec<u8>) {
        let fdt = |index| self.fdt.packets().get(index).expect("an instance has such a packet");
        match (step, self.style.closing) {
            (Step::Fdt(index), _) => packet.extend_from_slice(fdt(index)),
            (Step::Close, Closing::DataLess) => {
                Header::close(self.tsi).emit(Extensions::NONE, packet).expect("the TSI has 32 bits")
            }
            (Step::Close, Closing::FlagOnFdt) => {
                packet.extend_from_slice(fdt(0));
                packet.get_mut(1).into_iter().for_each(|flags| *flags |= CLOSE_SESSION);
            }
        }
    }

    fn emit_symbol(&mut self, symbols: &mut dyn Symbols, packet: &mut Vec<u8>) -> io::Result<()> {
        // spec: rfc5775 4.3 (TSI, TOI and payload id of what is sent)
        let name = loop {
            match self.row.pop_front() {
                Some(name) => break name,
                None => self.enter(self.schedule.after(self.place)),
            }
        };
        self.life.count_symbol();
        let file = self.files.get(name.block.file).expect("the file exists");
        packet.extend_from_slice(&file.header);
        PayloadId { sbn: name.block.sbn, esi: name.esi }
            .emit(file.oti.encoding_id(), packet)
            .expect("checked parameters have ids that fit");
        let start = packet.len();
        // spec: rfc6330 4.3 (one symbol in a packet)
        packet.resize(start + usize::from(file.oti.symbol_size()), 0);
        let read = symbols.read(name, packet.get_mut(start..).expect("it was just resized"));
        if self.row.is_empty() {
            self.enter(self.schedule.after(self.place));
        }
        read
    }
}

impl Prepared {
    fn new(tsi: Tsi, file: &PlainFile, style: &Style) -> Self {
        let mut extensions = Vec::new();
        match style.fti {
            FtiPlace::Fdt => {}
            // spec: rfc6726 5 (in each packet, which is often enough)
            FtiPlace::Packet | FtiPlace::Both => {
                ExtensionWriter::new(&mut extensions).fti(&file.oti);
            }
        }
        let extensions = Extensions::new(&extensions).expect("they were just written");
        let header = Header {
            widths: style.fdt.widths,
            ..Header::wide(tsi, file.entry.toi, file.oti.encoding_id())
        };
        let mut octets = Vec::new();
        header.emit(extensions, &mut octets).expect("TSI and TOI fit their widths");
        Self { oti: file.oti, header: octets }
    }
}

/// Returns the TOI of file number `index`.
///
/// # Panics
///
/// Never: a number of files fits into 112 bits.
#[must_use]
// spec: rfc6726 3.1, rfc5651 6.1, rfc5775 2.1 (each file has a TOI above 0)
pub fn toi_of(index: usize) -> Toi {
    Toi(u128::try_from(index).expect("a usize has at most 64 bits") + 1)
}

/// The flag A in the second octet of an LCT header.
const CLOSE_SESSION: u8 = 2;
