//! A whole receiver of unsigned sessions: datagrams in, files out, with a disk that may fail.

use std::{collections::BTreeMap, io, net::IpAddr, time::Duration};

use proto::{
    crypto::{Hash16, sha256},
    fec::ENCODING_ID_RAPTORQ,
    fixtures::{packet::packet, unsigned},
    flute::{
        alc::PayloadId,
        ext::{ExtensionWriter, FTI, FdtHeader},
        lct::{Header, Widths},
    },
    ids::{Esi, Sbn, Toi, Tsi},
    time::{Mono, Now, Utc},
};
use receiver::{
    flute::decode::BlockFiles,
    store::{
        BlockPlace, Content, LogOutput, ObjectLayout, Recovered, SlotAddress, StorageError, Ticket,
    },
    unsigned::{Filter, FinishProblem, Found, Limits, Output, UnsignedReceiver},
};

use crate::script::{Script, datagram_action};

const RAW: u8 = 0;
const GOLDEN: u8 = 1;
const PATCHED: u8 = 2;
const TABLE: u8 = 3;
const DATA: u8 = 4;
const LATER: u8 = 5;
const TROUBLE: u8 = 6;
const ALL: u8 = 7;

/// Least memory of a packet that waits.
const WAITING_OVERHEAD: usize = 64;
/// Entries of a session in an input, at most.
const ENTRIES: usize = 256;
/// Datagrams after which an input is over: a hang is one that takes long, not that there are many.
const DATAGRAMS: u64 = 512;
/// Outputs that one input may set off: each object has a few at a time.
const OUTPUTS: usize = 100_000;

/// Plays the datagrams, the time and the troubles that the octets name.
pub fn run(octets: &[u8]) {
    let _files = completed(octets);
}

/// Does so, and returns the number of complete files.
#[must_use]
pub fn completed(octets: &[u8]) -> usize {
    let mut script = Script::new(octets);
    let mut bench = Bench::new();
    while !script.is_over() && bench.received < DATAGRAMS {
        let action = script.u8();
        let source = IpAddr::from([192, 0, 2, 1 + (action >> 6)]);
        match action & 7 {
            RAW => bench.receive(source, script.datagram()),
            GOLDEN => bench.receive(source, &golden_packet(&mut script)),
            PATCHED => {
                let mut packet = golden_packet(&mut script);
                let (at, change) = (usize::from(script.u16()) % packet.len().max(1), script.u8());
                match packet.get_mut(at) {
                    Some(octet) if change > 0 => *octet ^= change,
                    Some(_) | None => packet.truncate(at),
                }
                bench.receive(source, &packet);
            }
            TABLE => bench.receive(source, &table(&mut script)),
            DATA => bench.receive(source, &data(&mut script)),
            LATER => bench.later(script.u16().into()),
            TROUBLE => bench.disk.trouble = script.u8(),
            _ => {
                let packets = &unsigned::session().packets;
                packets.iter().for_each(|packet| bench.receive(source, packet));
            }
        }
        bench.check();
    }
    bench.finish()
}

fn golden_packet(script: &mut Script<'_>) -> Vec<u8> {
    let packets = &unsigned::session().packets;
    let number = usize::from(script.u8());
    packets.iter().cycle().nth(number).cloned().unwrap_or_default()
}

/// A table in one packet, its document as the script has it.
fn table(script: &mut Script<'_>) -> Vec<u8> {
    let (version, instance_id) = (1 + script.u8() % 2, u32::from(script.u8()));
    let tsi = Tsi(u64::from(script.u8()));
    let document = script.datagram();
    let length = u16::try_from(document.len()).expect("11 bits");
    let mut extensions = Vec::new();
    ExtensionWriter::new(&mut extensions).fdt(FdtHeader { version, instance_id });
    extensions.extend([FTI, 4, 0, 0, 0, 0]);
    extensions.extend(length.to_be_bytes());
    extensions.extend([0, 0]);
    extensions.extend(length.to_be_bytes());
    extensions.extend([0, 0, 0, 1]);
    let id = PayloadId { sbn: Sbn(0), esi: Esi(0) };
    packet(Header::wide(tsi, Toi::FDT, 0), &extensions, id, document)
}

/// A data packet whose numbers the script has.
fn data(script: &mut Script<'_>) -> Vec<u8> {
    let flags = script.u8();
    let codepoint = if flags & 1 == 0 { 6 } else { 0 };
    let mut extensions = Vec::new();
    if flags & 2 != 0 {
        extensions.extend([FTI, 4]);
        extensions.extend(script.take(14));
        extensions.resize(16, 0);
    }
    let tsi = Tsi(u64::from(script.u8()));
    let toi = Toi(1 + u128::from(script.u8()));
    let sbn = Sbn(script.u8().into());
    let esi = if flags & 1 == 0 { script.u32() & 0x00ff_ffff } else { script.u16().into() };
    let widths = if flags & 4 == 0 { Widths::WIDE } else { Widths::NARROW };
    let header = Header { widths, ..Header::wide(tsi, toi, codepoint) };
    packet(header, &extensions, PayloadId { sbn, esi: Esi(esi) }, script.datagram())
}

struct Bench {
    core: UnsignedReceiver,
    limits: Limits,
    now: Now,
    received: u64,
    completed: usize,
    disk: Disk,
}

/// Sparse, so that nothing is allocated by a size that someone announced.
#[derive(Default)]
struct Disk {
    layouts: BTreeMap<Hash16, ObjectLayout>,
    slots: BTreeMap<(Hash16, u32, u64), Vec<u8>>,
    /// Octets of each file by the offset of their block.
    parts: BTreeMap<Hash16, BTreeMap<u64, u64>>,
    failed: bool,
    /// Faults from here on, as bits.
    trouble: u8,
}

impl Disk {
    fn fails(&mut self, bit: u8) -> bool {
        let fails = self.trouble & bit != 0;
        self.failed |= fails;
        fails
    }
}

const WRITES_FAIL: u8 = 1;
const FLUSHES_FAIL: u8 = 2;
const OPENS_FAIL: u8 = 4;
const RECORDS_FAIL: u8 = 8;
const DIGESTS_DIFFER: u8 = 16;
const SLOTS_ROT: u8 = 32;
const BLOCKS_FAIL: u8 = 64;
const SPACE_IS_LATE: u8 = 128;

impl Bench {
    fn new() -> Self {
        let limits = Limits::default();
        Self {
            core: UnsignedReceiver::new(limits, Filter::default(), Found::default()),
            limits,
            now: Now { mono: Mono(1_000), utc: Utc::from_seconds(1_800_000_000) },
            received: 0,
            completed: 0,
            disk: Disk::default(),
        }
    }

    fn receive(&mut self, source: IpAddr, datagram: &[u8]) {
        self.received += 1;
        self.core.handle_datagram(self.now, source, datagram);
        self.run_commands();
    }

    fn later(&mut self, seconds: u64) {
        self.now.mono = self.now.mono + Duration::from_secs(seconds);
        self.now.utc = Utc::from_seconds(self.now.utc.seconds() + seconds);
        self.core.handle_timeout(self.now);
        self.run_commands();
    }

    fn run_commands(&mut self) {
        for _ in 0..OUTPUTS {
            let Some(output) = self.core.poll_output() else { return };
            self.answer(output);
        }
        panic!("one input set off {OUTPUTS} outputs");
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each command")]
    fn answer(&mut self, output: Output) {
        let (core, disk, now) = (&mut self.core, &mut self.disk, self.now);
        let broken = || StorageError::while_doing("test")(io::Error::other("disk"));
        match output {
            Output::Open(layout) => {
                let key = layout.object_key();
                if disk.fails(OPENS_FAIL) {
                    core.handle_open_failed(now, key, &broken());
                    return;
                }
                check_layout(&self.limits, &layout);
                let files = layout.files();
                let late = disk.trouble & SPACE_IS_LATE != 0;
                let files_ready = if late { 0 } else { files };
                disk.layouts.insert(key, layout);
                let image_made = !disk.parts.contains_key(&key);
                let empty = Recovered { files_ready, image_made, ..Recovered::default() };
                core.handle_recovered(now, key, &empty);
                core.handle_reserved(now, key, files);
            }
            Output::Reserve(key, files) => {
                if disk.fails(OPENS_FAIL) {
                    core.handle_open_failed(now, key, &broken());
                } else {
                    core.handle_reserved(now, key, files);
                }
            }
            Output::Log(key, LogOutput::Write { ticket, file, offset, octets }) => {
                if disk.fails(WRITES_FAIL) {
                    core.handle_log_failed(now, key, ticket);
                    return;
                }
                let size = disk.layouts.get(&key).map_or(1, ObjectLayout::slot_size);
                for (offset, slot) in (offset..).step_by(size).zip(octets.chunks(size)) {
                    disk.slots.insert((key, file, offset), slot.to_vec());
                }
            }
            Output::Log(_, LogOutput::Tables { .. }) => {}
            Output::Log(key, LogOutput::Flush(ticket)) => {
                if disk.fails(FLUSHES_FAIL) {
                    core.handle_log_failed(now, key, ticket);
                } else {
                    core.handle_flushed(now, key, ticket);
                    core.handle_flushed(now, key, Ticket(u64::MAX));
                }
            }
            Output::WriteRecord(name, record) => {
                assert!(record.len() < 1 << 20, "a record is short");
                if disk.fails(RECORDS_FAIL) {
                    core.handle_record_failed(now, &name, &broken());
                } else {
                    core.handle_recorded(now, &name);
                }
            }
            Output::RemoveRecord(_) => {}
            Output::Decode(job) => {
                let key = job.layout.object_key();
                let outcome = job.run(&mut Files { disk, layout: &job.layout });
                core.handle_decoded(now, key, job.sbn, &outcome);
            }
            Output::VerifyFile(layout) => {
                let key = layout.object_key();
                let written: u64 = disk.parts.entry(key).or_default().values().sum();
                assert_eq!(written, layout.image_bytes(), "a file without all its blocks");
                let outcome = match disk.fails(DIGESTS_DIFFER) {
                    true => Err(FinishProblem::WrongDigest),
                    false => Ok(sha256(&[])),
                };
                core.handle_finished(now, key, outcome);
            }
            Output::VerifyKept(layout, _) => {
                core.handle_finished(now, layout.object_key(), Err(FinishProblem::WrongDigest));
            }
            Output::RemoveObject(layout) => {
                disk.slots.retain(|(key, _, _), _| *key != layout.object_key());
                disk.parts.remove(&layout.object_key());
            }
            Output::DiscardObject(layout) => {
                let key = layout.object_key();
                disk.slots.retain(|(of, _, _), _| *of != key);
                disk.parts.remove(&key);
                core.handle_discarded(now, key);
            }
            Output::Complete(file) => {
                assert_eq!((file.state, file.blocks), ("complete", file.blocks_done));
                self.completed += 1;
            }
        }
    }

    fn check(&self) {
        let limits = &self.limits;
        assert_eq!(self.core.stats().datagrams, self.received);
        assert!(self.core.waiting() * WAITING_OVERHEAD <= limits.waiting_bytes);
        assert!(self.disk.layouts.len() <= limits.sessions * ENTRIES);
    }

    fn finish(mut self) -> usize {
        self.disk.trouble = 0;
        self.core.handle_shutdown();
        self.run_commands();
        self.check();
        assert!(self.core.files().count() <= self.limits.sessions * ENTRIES);
        // Whatever was received: with a disk that works nothing is left unanswered.
        assert!(self.disk.failed || !self.core.is_busy(), "the core waits for an answer");
        self.completed
    }
}

/// Checks that open objects keep the limits of the core, by which memory and disk are measured.
fn check_layout(limits: &Limits, layout: &ObjectLayout) {
    assert!(layout.image_bytes() <= limits.file_bytes);
    let largest = u64::from(layout.oti().partition().largest());
    let is_coded = layout.oti().encoding_id() == ENCODING_ID_RAPTORQ;
    assert!(!is_coded || largest * u64::from(layout.oti().symbol_size()) <= limits.block_bytes);
    match layout.content() {
        Content::File(file) => {
            let odd = |c: char| matches!(c, '/' | '\\' | '\0') || c.is_control();
            assert!(!file.name.contains(odd) && !file.name.starts_with('.'), "{}", file.name);
            assert!((1..=255).contains(&file.name.len()), "{}", file.name);
        }
        Content::Image(_) => panic!("these are plain files"),
    }
}

struct Files<'a> {
    disk: &'a mut Disk,
    layout: &'a ObjectLayout,
}

impl BlockFiles for Files<'_> {
    fn read_slots(&mut self, first: SlotAddress, octets: &mut [u8]) -> io::Result<()> {
        let (key, size) = (self.layout.object_key(), self.layout.slot_size());
        let rotten = self.disk.fails(SLOTS_ROT);
        let offsets = (self.layout.offset(first)..).step_by(size);
        for (offset, slot) in offsets.zip(octets.chunks_exact_mut(size)) {
            match self.disk.slots.get(&(key, first.file, offset)) {
                Some(held) if held.len() == size && !rotten => slot.copy_from_slice(held),
                Some(_) | None => slot.fill(0),
            }
        }
        Ok(())
    }

    fn write_block(&mut self, place: BlockPlace, octets: &[u8]) -> io::Result<()> {
        if self.disk.fails(BLOCKS_FAIL) {
            return Err(io::Error::other("disk"));
        }
        assert_eq!(u64::try_from(octets.len()).ok(), Some(place.octets));
        assert!(place.offset + place.octets <= self.layout.image_bytes());
        let part = self.disk.parts.entry(self.layout.object_key()).or_default();
        part.insert(place.offset, place.octets);
        Ok(())
    }
}

/// The session whole, in parts, with troubles, among made packets.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let session = unsigned::session();
    let one_by_one: Vec<u8> =
        (0..u8::MAX).zip(&session.packets).flat_map(|(at, _)| [GOLDEN, at]).collect();
    let backwards: Vec<u8> = one_by_one.chunks(2).rev().flatten().copied().collect();
    let mut seeds = vec![vec![ALL], one_by_one.clone(), backwards];
    for bit in 0..8 {
        seeds.push(vec![TROUBLE, 1 << bit, ALL, LATER, 0, 9, TROUBLE, 0, ALL, LATER, 0, 9, ALL]);
    }
    let raw = session.packets.iter().flat_map(|packet| datagram_action(RAW, packet)).collect();
    seeds.push(raw);
    let mut patched = one_by_one;
    patched.extend([PATCHED, 8, 0, 40, 1, PATCHED, 9, 0, 20, 0, LATER, 0, 2, ALL]);
    seeds.push(patched);
    for document in &session.documents {
        let mut made = vec![TABLE, 1, 9, 8];
        made.extend(datagram_action(0, document.as_bytes()).get(1..).unwrap_or_default());
        // The parameters in the packet, and one symbol of 16 octets.
        made.extend([
            DATA, 2, 0, 0, 0, 0, 43, 0, 0, 16, 1, 0, 1, 4, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 16,
        ]);
        made.extend([7; 16]);
        made.extend([DATA, 1, 8, 2, 0, 0, 1, 0, 20]);
        made.extend([7; 20]);
        made.extend([LATER, 0, 2]);
        seeds.push(made);
    }
    seeds
}
