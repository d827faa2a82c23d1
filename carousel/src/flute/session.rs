//! The sender core of one FLUTE session.
//!
//! ```text
//! start, restart:  FDT | plan header three times | the table of the segment where it begins, and
//!                  the symbols of later tables that are interleaved with earlier segments
//! then:            the records of the plan in their order, pass after pass
//! every 0.9 s:     FDT | plan headers
//! end:             the packet that closes the session, three times
//! ```
//!
//! It chooses the next record and writes a header in front of it; the shell paces, reads and sends.

use std::{io, time::Duration};

use proto::{
    fec::oti::Oti,
    flute::{
        alc::{Packet, Payload, PayloadId},
        ext::{self, ExtensionWriter},
        lct::{Extensions, Header},
    },
    ids::{CampaignId, Esi, Sbn, Toi, Tsi},
    time::Now,
    trust::PlannedObject,
};

use crate::{
    control::resume_point::ResumePoint,
    flute::{
        fdt::{self, FdtGenerator},
        lifecycle::{Announcement, NextPacket, REPEATS, SessionLifecycle},
    },
    plan::schedule::{Cursor, LCT_BYTES, Record, Schedule},
};

pub use crate::flute::lifecycle::{Sent, Transmit};

/// FDT and plan headers are repeated at least every second; this leaves room for pacing.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(900);

/// The source of the records.
pub trait Records {
    /// Fills `buffer` with the record of object number `object` at `offset` of its plan.
    ///
    /// # Errors
    ///
    /// Any error of the storage.
    fn read(&mut self, object: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// One object of a session.
#[derive(Debug, Clone)]
pub struct AiredObject {
    /// Its part of the campaign.
    pub object: PlannedObject,
    /// The order and the offsets of its records.
    pub schedule: Schedule,
    /// Its plan header.
    pub plan_header: Vec<u8>,
}

/// The parameters of a session.
#[derive(Debug, Clone)]
pub struct SessionSetup {
    /// Names the session together with its source.
    pub tsi: Tsi,
    /// Names the files in the FDT.
    pub campaign: CampaignId,
    /// At least one.
    pub objects: Vec<AiredObject>,
    /// The point to start from; the first segment if the plan does not have it.
    pub resume_point: ResumePoint,
    /// Passes after which the session closes by itself.
    pub passes: Option<u64>,
}

/// A packet to send before the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Fdt(usize),
    Header(usize),
    Table { object: usize, segment: Sbn, esi: Esi },
    Close,
}

/// The sender core.
#[derive(Debug, Clone)]
pub struct FluteSession {
    tsi: Tsi,
    objects: Vec<PreparedObject>,
    fdt: FdtGenerator,
    lifecycle: SessionLifecycle<Step>,
    object: usize,
    cursor: Cursor,
    earlier_passes: u64,
    passes: Option<u64>,
}

impl FluteSession {
    /// Prepares a session; nothing is sent before the first [`Self::poll_transmit`].
    ///
    /// # Panics
    ///
    /// When the setup has no object.
    #[must_use]
    pub fn new(now: Now, setup: SessionSetup) -> Self {
        let SessionSetup { tsi, campaign, objects, resume_point, passes } = setup;
        assert!(!objects.is_empty(), "a session has at least one object");
        let files = objects.iter().flat_map(|aired| {
            let tables = Oti::RaptorQ(*aired.schedule.shape().table_oti());
            fdt::entries(campaign, &aired.object, tables, &aired.plan_header)
        });
        let fdt = FdtGenerator::new(now.utc, tsi, files.collect(), resume_point.fdt_instance);
        let start = objects.iter().position(|aired| {
            let segments = u32::from(aired.schedule.shape().segments());
            aired.object.component == resume_point.component && resume_point.segment < segments
        });
        let segment = Sbn(start.map_or(0, |_| resume_point.segment));
        Self {
            tsi,
            objects: objects.into_iter().map(|aired| PreparedObject::new(tsi, aired)).collect(),
            fdt,
            lifecycle: SessionLifecycle::new(now.mono, ANNOUNCE_EVERY, Step::Close),
            object: start.unwrap_or(0),
            cursor: Cursor::start_of(segment),
            earlier_passes: resume_point.passes,
            passes,
        }
    }

    /// Puts the next packet into `packet`, whose content is replaced.
    ///
    /// # Errors
    ///
    /// Any error of reading the record, which is skipped.
    pub fn poll_transmit(
        &mut self,
        now: Now,
        records: &mut dyn Records,
        packet: &mut Vec<u8>,
    ) -> io::Result<Transmit> {
        packet.clear();
        let is_complete = self.is_complete();
        match self.lifecycle.advance(now.mono, || is_complete) {
            Announcement::First => {
                self.lifecycle.queue((0..self.fdt.packets().len()).map(Step::Fdt));
                self.queue_preamble();
            }
            Announcement::Repeated => self.announce(now),
            Announcement::NotDue => {}
        }
        match self.lifecycle.next() {
            NextPacket::Step(step) => self.emit_step(step, records, packet)?,
            NextPacket::Closed => return Ok(Transmit::Closed),
            NextPacket::Data => self.emit_record(records, packet)?,
        }
        self.lifecycle.count(packet);
        Ok(Transmit::Packet)
    }

    /// Ends the session: only the packets that close it follow.
    pub fn close(&mut self) {
        self.lifecycle.close();
    }

    /// Returns the counters of sent packets.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.lifecycle.sent()
    }

    /// Returns the point to resume from after a restart: a segment boundary, and an FDT Instance ID
    /// that was not used.
    #[must_use]
    pub fn resume_point(&self) -> ResumePoint {
        ResumePoint {
            component: self.current_object().aired.object.component,
            segment: self.cursor.segment.0,
            passes: self.passes(),
            fdt_instance: self.fdt.next_instance_id(),
        }
    }

    /// Returns the index of the next data symbol, counted over all objects of the session.
    #[must_use]
    pub fn symbol_index(&self) -> u64 {
        let before = self.objects.iter().take(self.object);
        let before: u64 = before.map(|object| object.aired.schedule.shape().leaves()).sum();
        before + self.current_object().aired.schedule.symbol_index(self.cursor)
    }

    /// Returns the complete passes through all plans, over all runs of the session.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.earlier_passes + self.sent().symbols / self.pass_symbols()
    }

    /// Returns the data symbols of one pass.
    #[must_use]
    pub fn pass_symbols(&self) -> u64 {
        self.objects.iter().map(|object| object.aired.schedule.shape().leaves()).sum()
    }

    fn is_complete(&self) -> bool {
        self.passes
            .is_some_and(|passes| self.sent().symbols >= passes.saturating_mul(self.pass_symbols()))
    }

    fn current_object(&self) -> &PreparedObject {
        self.objects.get(self.object).expect("the object exists")
    }

    /// Queues header and tables of the segment at the cursor.
    fn queue_preamble(&mut self) {
        let object = self.object;
        self.lifecycle.queue(std::iter::repeat_n(Step::Header(object), REPEATS));
        let tables = self.current_object().aired.schedule.session_preamble(self.cursor.segment);
        self.lifecycle.queue(tables.map(|(segment, esi)| Step::Table { object, segment, esi }));
    }

    /// Queues FDT and headers before all other steps.
    fn announce(&mut self, now: Now) {
        self.fdt.reissue_if_due(now.utc);
        let headers = (0..self.objects.len()).map(Step::Header);
        self.lifecycle.queue_first((0..self.fdt.packets().len()).map(Step::Fdt).chain(headers));
    }

    fn emit_step(
        &self,
        step: Step,
        records: &mut dyn Records,
        packet: &mut Vec<u8>,
    ) -> io::Result<()> {
        match step {
            Step::Fdt(index) => {
                let made = self.fdt.packets().get(index);
                packet.extend_from_slice(made.expect("an instance has at least one packet"));
            }
            Step::Header(index) => {
                let object = self.objects.get(index).expect("the object exists");
                packet.extend_from_slice(&object.header_packet);
            }
            Step::Table { object, segment, esi } => {
                let prepared = self.objects.get(object).expect("the object exists");
                let record = Record::Table { segment, esi };
                prepared.emit(object, record, Information::Sent, records, packet)?;
            }
            Step::Close => {
                let close = Packet {
                    header: Header::close(self.tsi),
                    extensions: Extensions::NONE,
                    payload: None,
                };
                close.emit(packet).expect("a TSI of this product has 32 bits");
            }
        }
        Ok(())
    }

    /// Emits the next record of the plan; from object to object, from pass to pass.
    fn emit_record(&mut self, records: &mut dyn Records, packet: &mut Vec<u8>) -> io::Result<()> {
        let schedule = self.current_object().aired.schedule;
        let record = loop {
            match schedule.next(&mut self.cursor) {
                Some(record) => break record,
                None => {
                    let next = schedule.following(self.cursor.segment);
                    self.cursor = Cursor::start_of(next);
                    if next == Sbn(0) && self.objects.len() > 1 {
                        // The next object was not announced by the records of this one.
                        self.object = (self.object + 1) % self.objects.len();
                        self.queue_preamble();
                        let NextPacket::Step(step) = self.lifecycle.next() else { continue };
                        return self.emit_step(step, records, packet);
                    }
                }
            }
        };
        // spec: rfc6726 5 (EXT_FTI is repeated often enough)
        let information = match record {
            Record::Data { .. } if self.cursor.data == 1 => Information::Sent,
            Record::Table { esi: Esi(0), .. } => Information::Sent,
            Record::Data { .. } | Record::Table { .. } => Information::Omitted,
        };
        if matches!(record, Record::Data { .. }) {
            self.lifecycle.count_symbol();
        }
        // spec: rfc5775 4.3 (records carry the proofs of what they precede)
        self.current_object().emit(self.object, record, information, records, packet)
    }
}

/// The presence of EXT_FTI in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Information {
    Sent,
    Omitted,
}

/// An object with the headers of its packets.
#[derive(Debug, Clone)]
struct PreparedObject {
    aired: AiredObject,
    header_packet: Vec<u8>,
    data: Vec<u8>,
    data_with_fti: Vec<u8>,
    table: Vec<u8>,
    table_with_fti: Vec<u8>,
}

impl PreparedObject {
    fn new(tsi: Tsi, aired: AiredObject) -> Self {
        let component = aired.object.component;
        let image = Oti::RaptorQ(aired.object.oti);
        let tables = Oti::RaptorQ(*aired.schedule.shape().table_oti());
        let auth = usize::try_from(aired.schedule.auth_bytes()).expect("at most 184 octets");
        let data = |information| prefix(tsi, Toi::object(component), &image, information, 0);
        let table = |information| prefix(tsi, Toi::tables(component), &tables, information, auth);
        Self {
            header_packet: header_packet(tsi, &aired),
            data: data(Information::Omitted),
            data_with_fti: data(Information::Sent),
            table: table(Information::Omitted),
            table_with_fti: table(Information::Sent),
            aired,
        }
    }

    fn emit(
        &self,
        object: usize,
        record: Record,
        information: Information,
        records: &mut dyn Records,
        packet: &mut Vec<u8>,
    ) -> io::Result<()> {
        let schedule = &self.aired.schedule;
        let (prefix, octets) = match (record, information) {
            (Record::Data { .. }, Information::Omitted) => (&self.data, schedule.data_bytes()),
            (Record::Data { .. }, Information::Sent) => {
                (&self.data_with_fti, schedule.data_bytes())
            }
            (Record::Table { .. }, Information::Omitted) => (&self.table, schedule.table_bytes()),
            (Record::Table { .. }, Information::Sent) => {
                (&self.table_with_fti, schedule.table_bytes())
            }
        };
        let offset = schedule.offset(record).expect("the plan holds its own records");
        let length = prefix.len() + usize::try_from(octets).expect("a record is a packet long");
        packet.extend_from_slice(prefix);
        packet.resize(length, 0);
        let tail = packet.get_mut(prefix.len()..).expect("it was just resized");
        records.read(object, offset, tail)
    }
}

/// Returns the LCT header of an object's packets, up to the EXT_AUTH that the record begins with.
fn prefix(tsi: Tsi, toi: Toi, oti: &Oti, information: Information, auth_bytes: usize) -> Vec<u8> {
    let mut extensions = Vec::new();
    if information == Information::Sent {
        ExtensionWriter::new(&mut extensions).fti(oti);
    }
    let saved = usize::try_from(LCT_BYTES).expect("16") + extensions.len();
    if auth_bytes > 0 {
        // The header's length covers the EXT_AUTH, whose octets are in the plan.
        ExtensionWriter::new(&mut extensions)
            .variable(ext::AUTH, &vec![0; auth_bytes - 2])
            .expect("a path has at most 11 hashes");
    }
    let extensions = Extensions::new(&extensions).expect("they were just written");
    let mut out = Vec::new();
    let header = Header::wide(tsi, toi, oti.encoding_id());
    header.emit(extensions, &mut out).expect("TSI and TOI of this product have 32 bits");
    out.truncate(saved);
    out
}

fn header_packet(tsi: Tsi, aired: &AiredObject) -> Vec<u8> {
    let oti = fdt::plan_header_oti(&aired.plan_header);
    let mut extensions = Vec::new();
    ExtensionWriter::new(&mut extensions).fti(&oti);
    let toi = Toi::plan_header(aired.object.component);
    let packet = Packet {
        header: Header::wide(tsi, toi, oti.encoding_id()),
        extensions: Extensions::new(&extensions).expect("they were just written"),
        payload: Some(Payload {
            id: PayloadId { sbn: Sbn(0), esi: Esi(0) },
            symbols: &aired.plan_header,
        }),
    };
    let mut out = Vec::new();
    packet.emit(&mut out).expect("TSI and TOI of this product have 32 bits");
    out
}

#[cfg(test)]
mod tests;
