//! Unsigned FLUTE sessions: files to any receiver, unsigned by nature.
//!
//! ```text
//! start, restart:  FDT
//! then:            row by row, pass after pass (schedule)
//! at an interval:  FDT
//! end:             the packet that closes the session, three times
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`schedule`] | the sending order of symbols |
//! | [`wire_profile`] | profiles, FEC parameters and their location |
//!
//! RaptorQ has practically unlimited repair symbols: whatever a receiver holds from earlier passes,
//! each further symbol is useful. Nothing here authenticates the sender of a file; devices in the
//! field use packages and campaigns.

pub mod schedule;
#[cfg(test)]
mod tests;
pub mod wire_profile;

use std::{collections::VecDeque, io, num::NonZeroU32, time::Duration};

use proto::{
    fec::oti::Oti,
    flute::{
        alc::PayloadId,
        ext::ExtensionWriter,
        fdt::FileEntry,
        lct::{Extensions, Header},
    },
    ids::{Toi, Tsi},
    time::{Mono, Now},
};
use serde::{Deserialize, Serialize};

use self::{
    schedule::{RowPosition, SymbolName, UnsignedSchedule},
    wire_profile::{Closing, FtiLocation, WireProfile},
};
use crate::flute::{
    fdt::FdtGenerator,
    lifecycle::{Announcement, NextPacket, Sent, SessionLifecycle, Transmit},
};

/// The source of the symbols.
pub trait Symbols {
    /// Sets the first repair symbol of each block; repair symbols are read in the order of their
    /// ids.
    fn prepare(&mut self, first: &[SymbolName]);

    /// Fills `symbol`, which has the length of the file's symbols; of the last one it may have the
    /// front alone.
    ///
    /// # Errors
    ///
    /// Any error of reading the file.
    fn read(&mut self, name: SymbolName, symbol: &mut [u8]) -> io::Result<()>;
}

/// One file of a session.
#[derive(Debug, Clone)]
pub struct UnsignedFile {
    /// Its entry in the FDT.
    pub entry: FileEntry,
    /// Its FEC parameters, also when the FDT does not hold them.
    pub oti: Oti,
}

/// The parameters of a session.
#[derive(Debug, Clone)]
pub struct UnsignedSetup {
    /// Names the session together with its source; fits the widths of the wire profile.
    pub tsi: Tsi,
    /// Its form on the wire.
    pub wire_profile: WireProfile,
    /// The files to send.
    pub files: Vec<UnsignedFile>,
    /// Entries of files without octets, of which nothing is sent; there is a file or one of these.
    pub empty: Vec<FileEntry>,
    /// The sending order of the files.
    pub schedule: UnsignedSchedule,
    /// The point to start from.
    pub resume_point: UnsignedResumePoint,
    /// Passes after which the session closes by itself, counted from its start.
    pub passes: Option<u64>,
    /// Interval of the FDT.
    pub announce_every: Duration,
}

/// The state that survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnsignedResumePoint {
    /// The row to resume at.
    pub at: RowPosition,
    /// An FDT Instance ID that was not used yet.
    pub fdt_instance: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Fdt(usize),
    Close,
}

/// The sender core of an unsigned session.
#[derive(Debug, Clone)]
pub struct UnsignedSession {
    tsi: Tsi,
    wire_profile: WireProfile,
    files: Vec<PreparedFile>,
    fdt: FdtGenerator,
    schedule: UnsignedSchedule,
    lifecycle: SessionLifecycle<Step>,
    /// The row of which `row` holds the symbols still to send.
    resume_point: RowPosition,
    row: VecDeque<SymbolName>,
    last_pass: Option<u64>,
    /// In a session without symbols: the moment of the next announcement.
    idle_until: Option<Mono>,
}

/// A file with the header of its packets.
#[derive(Debug, Clone)]
struct PreparedFile {
    oti: Oti,
    header: Vec<u8>,
}

impl UnsignedSession {
    /// Prepares a session; nothing is sent before the first [`Self::poll_transmit`].
    ///
    /// # Panics
    ///
    /// When the setup has no file at all, or TSI or a TOI do not fit the widths of the wire
    /// profile.
    #[must_use]
    pub fn new(now: Now, setup: UnsignedSetup) -> Self {
        let UnsignedSetup {
            tsi,
            wire_profile,
            files,
            empty,
            schedule,
            resume_point,
            passes,
            announce_every,
        } = setup;
        let mut entries: Vec<_> = files.iter().map(|file| file.entry.clone()).collect();
        entries.extend(empty);
        assert!(!entries.is_empty(), "a session has at least one file");
        entries.sort_by_key(|entry| entry.toi);
        Self {
            tsi,
            wire_profile,
            fdt: FdtGenerator::with_profile(
                now.utc,
                tsi,
                entries,
                resume_point.fdt_instance,
                wire_profile.fdt,
            ),
            files: files.iter().map(|file| PreparedFile::new(tsi, file, &wire_profile)).collect(),
            schedule,
            lifecycle: SessionLifecycle::new(now.mono, announce_every, Step::Close),
            resume_point: resume_point.at,
            row: VecDeque::new(),
            last_pass: passes.map(|passes| resume_point.at.pass.saturating_add(passes)),
            idle_until: None,
        }
    }

    /// Puts the next packet into `packet`, whose content is replaced.
    ///
    /// # Errors
    ///
    /// Any error of reading the symbol, which is skipped.
    pub fn poll_transmit(
        &mut self,
        now: Now,
        symbols: &mut dyn Symbols,
        packet: &mut Vec<u8>,
    ) -> io::Result<Transmit> {
        packet.clear();
        let is_complete = self.is_complete();
        match self.lifecycle.advance(now.mono, || is_complete) {
            // spec: rfc6726 3.3 (the table goes ahead of the files)
            Announcement::First => {
                self.announce();
                symbols.prepare(&self.schedule.repair_from(self.resume_point));
                self.enter(self.resume_point);
            }
            Announcement::Repeated => {
                // spec: rfc6726 3.2, rfc6726 3.5 (no receiver is assumed to hold the table)
                self.fdt.reissue_if_due(now.utc);
                self.announce();
            }
            Announcement::NotDue => {}
        }
        match self.lifecycle.next() {
            NextPacket::Step(step) => self.emit_step(step, packet),
            NextPacket::Closed => return Ok(Transmit::Closed),
            NextPacket::Data if self.files.is_empty() => {
                // The FDT is all that there is to send, and makes a pass.
                let next = self.lifecycle.next_announcement();
                if self.idle_until != Some(next) {
                    self.idle_until = Some(next);
                    self.resume_point.pass += 1;
                }
                return Ok(Transmit::Wait(next));
            }
            NextPacket::Data => self.emit_symbol(symbols, packet)?,
        }
        self.lifecycle.count(packet);
        Ok(Transmit::Packet)
    }

    /// Ends the session: only the packets that close it follow.
    // spec: rfc5651 5.1 (after A nothing but A)
    pub fn close(&mut self) {
        self.lifecycle.close();
    }

    /// Returns the counters of sent packets.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.lifecycle.sent()
    }

    /// Returns the point to resume from after a restart: the beginning of a row.
    #[must_use]
    pub const fn resume_point(&self) -> UnsignedResumePoint {
        UnsignedResumePoint { at: self.resume_point, fdt_instance: self.fdt.next_instance_id() }
    }

    /// Returns the number of rows of the current pass.
    #[must_use]
    pub fn rows_of_pass(&self) -> u64 {
        self.schedule.rows(self.resume_point.pass)
    }

    fn is_complete(&self) -> bool {
        self.last_pass.is_some_and(|last| self.resume_point.pass >= last)
    }

    /// Moves to the beginning of a row.
    fn enter(&mut self, resume_point: RowPosition) {
        self.resume_point = resume_point;
        self.row = self.schedule.row(resume_point).into();
    }

    fn announce(&mut self) {
        self.lifecycle.queue((0..self.fdt.packets().len()).map(Step::Fdt));
    }

    fn emit_step(&self, step: Step, packet: &mut Vec<u8>) {
        let fdt = |index| self.fdt.packets().get(index).expect("an instance has such a packet");
        match (step, self.wire_profile.closing) {
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
                None => self.enter(self.schedule.after(self.resume_point)),
            }
        };
        self.lifecycle.count_symbol();
        let file = self.files.get(name.block.file).expect("the file exists");
        packet.extend_from_slice(&file.header);
        PayloadId { sbn: name.block.sbn, esi: name.esi }
            .emit(file.oti.encoding_id(), packet)
            .expect("checked parameters have ids that fit");
        let start = packet.len();
        // spec: rfc6330 4.3 (one symbol in a packet)
        let length = file.oti.sent_bytes(name.block.sbn, name.esi);
        packet.resize(start + usize::from(length), 0);
        let read = symbols.read(name, packet.get_mut(start..).expect("it was just resized"));
        if self.row.is_empty() {
            self.enter(self.schedule.after(self.resume_point));
        }
        read
    }
}

impl PreparedFile {
    fn new(tsi: Tsi, file: &UnsignedFile, wire_profile: &WireProfile) -> Self {
        let mut extensions = Vec::new();
        match wire_profile.fti {
            FtiLocation::Fdt => {}
            // spec: rfc6726 5 (in each packet, which is often enough)
            FtiLocation::Packet | FtiLocation::Both => {
                ExtensionWriter::new(&mut extensions).fti(&file.oti);
            }
        }
        let extensions = Extensions::new(&extensions).expect("they were just written");
        let header = Header {
            widths: wire_profile.fdt.widths,
            ..Header::wide(tsi, file.entry.toi, file.oti.encoding_id())
        };
        let mut octets = Vec::new();
        header.emit(extensions, &mut octets).expect("TSI and TOI fit their widths");
        Self { oti: file.oti, header: octets }
    }
}

/// Returns the TOI of file number `index` of a session whose first file has the TOI `first`.
///
/// # Panics
///
/// Never: a number of files fits into 112 bits.
#[must_use]
// spec: rfc6726 3.1, rfc5651 6.1, rfc5775 2.1 (each file has a TOI above 0)
pub fn toi_of(first: NonZeroU32, index: usize) -> Toi {
    let index = u128::try_from(index).expect("a usize has at most 64 bits");
    Toi(u128::from(first.get()) + index)
}

/// The flag A in the second octet of an LCT header.
const CLOSE_SESSION: u8 = 2;
