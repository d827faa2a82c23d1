//! The sender core of one FLUTE session.
//!
//! ```text
//! start, restart:  FDT | plan header three times | the table of the segment where it begins, and
//!                  what travelled of the tables after it with the segments before
//! then:            the records of the plan in their order, pass after pass
//! every 0.9 s:     FDT | plan headers
//! end:             the packet that closes the session, three times
//! ```
//!
//! It decides what goes next and puts a header in front of it; pacing, reading and sending are the
//! shell's.

use std::{io, time::Duration};

use proto::{
    fec::oti::Oti,
    flute::{
        alc::{Packet, Payload, PayloadId},
        ext::{self, ExtensionWriter, Extensions},
        lct::Header,
    },
    ids::{CampaignId, Esi, Sbn, Toi, Tsi},
    time::Now,
    trust::PlannedObject,
};

use crate::{
    fdt::{self, FdtIssuer},
    life::{Due, Life, Next, REPEATS},
    place::Place,
    schedule::{Cursor, LCT_OCTETS, Record, Schedule},
};

pub use crate::life::{Sent, Transmit};

/// FDT and plan headers are repeated at least every second; this leaves room for pacing.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(900);

/// Where the records come from.
pub trait Records {
    /// Fills `buffer` with the record of object number `object` that lies at `offset` of its plan.
    ///
    /// # Errors
    ///
    /// Whatever the storage answers.
    fn read(&mut self, object: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// One object of a session.
#[derive(Debug, Clone)]
pub struct AiredObject {
    /// What the campaign says about it.
    pub object: PlannedObject,
    /// Where its records lie.
    pub schedule: Schedule,
    /// Its plan header.
    pub plan_header: Vec<u8>,
}

/// What a session is made of.
#[derive(Debug, Clone)]
pub struct SessionSetup {
    /// Names the session together with its source.
    pub tsi: Tsi,
    /// Names the files in the FDT.
    pub campaign: CampaignId,
    /// At least one.
    pub objects: Vec<AiredObject>,
    /// Where it begins; rounded down to the segment, or to the first one if there is no such place.
    pub place: Place,
    /// Passes after which the session closes by itself.
    pub passes: Option<u64>,
}

/// Something to send before the next record.
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
    objects: Vec<Prepared>,
    fdt: FdtIssuer,
    life: Life<Step>,
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
        let SessionSetup { tsi, campaign, objects, place, passes } = setup;
        assert!(!objects.is_empty(), "a session has at least one object");
        let files = objects.iter().flat_map(|aired| {
            let tables = Oti::RaptorQ(*aired.schedule.shape().table_oti());
            fdt::entries(campaign, &aired.object, tables, &aired.plan_header)
        });
        let fdt = FdtIssuer::new(now.utc, tsi, files.collect(), place.fdt_instance);
        let start = objects.iter().position(|aired| {
            let segments = u32::from(aired.schedule.shape().segments());
            aired.object.component == place.component && place.segment < segments
        });
        let segment = Sbn(start.map_or(0, |_| place.segment));
        Self {
            tsi,
            objects: objects.into_iter().map(|aired| Prepared::new(tsi, aired)).collect(),
            fdt,
            life: Life::new(now.mono, ANNOUNCE_EVERY, Step::Close),
            object: start.unwrap_or(0),
            cursor: Cursor::start_of(segment),
            earlier_passes: place.passes,
            passes,
        }
    }

    /// Puts the next packet into `packet`, whose content is replaced.
    ///
    /// # Errors
    ///
    /// What reading the record answered; the place moves on all the same.
    pub fn poll_transmit(
        &mut self,
        now: Now,
        records: &mut dyn Records,
        packet: &mut Vec<u8>,
    ) -> io::Result<Transmit> {
        packet.clear();
        let is_through = self.is_through();
        match self.life.advance(now.mono, || is_through) {
            Due::Start => {
                self.life.queue((0..self.fdt.packets().len()).map(Step::Fdt));
                self.introduce();
            }
            Due::Announce => self.announce(now),
            Due::Nothing => {}
        }
        match self.life.next() {
            Next::Step(step) => self.emit_step(step, records, packet)?,
            Next::Closed => return Ok(Transmit::Closed),
            Next::Data => self.emit_record(records, packet)?,
        }
        self.life.count(packet);
        Ok(Transmit::Packet)
    }

    /// Ends the session: what comes yet are the packets that close it.
    pub fn close(&mut self) {
        self.life.close();
    }

    /// Returns what was sent.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.life.sent()
    }

    /// Returns where to go on after a restart: a segment boundary, and an FDT Instance ID that was
    /// not used.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            component: self.current().aired.object.component,
            segment: self.cursor.segment.0,
            passes: self.passes(),
            fdt_instance: self.fdt.next_instance_id(),
        }
    }

    /// Returns the index of the next data symbol, counted over all objects of the session.
    #[must_use]
    pub fn symbol_place(&self) -> u64 {
        let before = self.objects.iter().take(self.object);
        let before: u64 = before.map(|object| object.aired.schedule.shape().leaves()).sum();
        before + self.current().aired.schedule.place(self.cursor)
    }

    /// Returns how often all plans were gone through, over all lives of the session.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.earlier_passes + self.sent().symbols / self.pass_symbols()
    }

    /// Returns the data symbols of one pass.
    #[must_use]
    pub fn pass_symbols(&self) -> u64 {
        self.objects.iter().map(|object| object.aired.schedule.shape().leaves()).sum()
    }

    fn is_through(&self) -> bool {
        self.passes
            .is_some_and(|passes| self.sent().symbols >= passes.saturating_mul(self.pass_symbols()))
    }

    fn current(&self) -> &Prepared {
        self.objects.get(self.object).expect("the object exists")
    }

    /// Queues header and tables of the segment at the cursor.
    fn introduce(&mut self) {
        let object = self.object;
        self.life.queue(std::iter::repeat_n(Step::Header(object), REPEATS));
        let tables = self.current().aired.schedule.introduction(self.cursor.segment);
        self.life.queue(tables.map(|(segment, esi)| Step::Table { object, segment, esi }));
    }

    /// Queues FDT and headers before whatever waits.
    fn announce(&mut self, now: Now) {
        self.fdt.renew(now.utc);
        let headers = (0..self.objects.len()).map(Step::Header);
        self.life.queue_first((0..self.fdt.packets().len()).map(Step::Fdt).chain(headers));
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
        let schedule = self.current().aired.schedule;
        let record = loop {
            match schedule.next(&mut self.cursor) {
                Some(record) => break record,
                None => {
                    let next = schedule.following(self.cursor.segment);
                    self.cursor = Cursor::start_of(next);
                    if next == Sbn(0) && self.objects.len() > 1 {
                        // The next object was not announced by the records of this one.
                        self.object = (self.object + 1) % self.objects.len();
                        self.introduce();
                        let Next::Step(step) = self.life.next() else { continue };
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
            self.life.count_symbol();
        }
        // spec: rfc5775 4.3 (records carry the proofs of what they precede)
        self.current().emit(self.object, record, information, records, packet)
    }
}

/// Whether a packet carries EXT_FTI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Information {
    Sent,
    Omitted,
}

/// An object with what precedes its records on the wire.
#[derive(Debug, Clone)]
struct Prepared {
    aired: AiredObject,
    header_packet: Vec<u8>,
    data: Vec<u8>,
    data_with_fti: Vec<u8>,
    table: Vec<u8>,
    table_with_fti: Vec<u8>,
}

impl Prepared {
    fn new(tsi: Tsi, aired: AiredObject) -> Self {
        let component = aired.object.component;
        let image = Oti::RaptorQ(aired.object.oti);
        let tables = Oti::RaptorQ(*aired.schedule.shape().table_oti());
        let auth = usize::try_from(aired.schedule.auth_octets()).expect("at most 184 octets");
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
            (Record::Data { .. }, Information::Omitted) => (&self.data, schedule.data_octets()),
            (Record::Data { .. }, Information::Sent) => {
                (&self.data_with_fti, schedule.data_octets())
            }
            (Record::Table { .. }, Information::Omitted) => (&self.table, schedule.table_octets()),
            (Record::Table { .. }, Information::Sent) => {
                (&self.table_with_fti, schedule.table_octets())
            }
        };
        let offset = schedule.offset(record).expect("the plan holds its own records");
        let length = prefix.len() + usize::try_from(octets).expect("a record is a packet long");
        packet.extend_from_slice(prefix);
        packet.resize(length, 0);
        let rest = packet.get_mut(prefix.len()..).expect("it was just resized");
        records.read(object, offset, rest)
    }
}

/// Returns the LCT header of an object's packets, up to the EXT_AUTH that the record begins with.
fn prefix(tsi: Tsi, toi: Toi, oti: &Oti, information: Information, auth_octets: usize) -> Vec<u8> {
    let mut extensions = Vec::new();
    if information == Information::Sent {
        ExtensionWriter::new(&mut extensions).fti(oti);
    }
    let kept = usize::try_from(LCT_OCTETS).expect("16") + extensions.len();
    if auth_octets > 0 {
        // The header's length covers the EXT_AUTH, whose octets come from the plan.
        ExtensionWriter::new(&mut extensions)
            .variable(ext::AUTH, &vec![0; auth_octets - 2])
            .expect("a path has at most 11 hashes");
    }
    let extensions = Extensions::new(&extensions).expect("they were just written");
    let mut out = Vec::new();
    let header = Header::wide(tsi, toi, oti.encoding_id());
    header.emit(extensions, &mut out).expect("TSI and TOI of this product have 32 bits");
    out.truncate(kept);
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
