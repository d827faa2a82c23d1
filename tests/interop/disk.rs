//! Our receiver of unsigned sessions, on a disk in memory without delays or faults.

use std::{collections::BTreeMap, io, net::IpAddr};

use proto::{
    crypto::{Hash16, sha256},
    time::{Mono, Now},
};
use receiver::{
    flute::decode::BlockFiles,
    store::{
        BlockPlace, Content, HeaderCheck, LogOutput, ObjectLayout, Recovered, Recovery, SlotAddress,
    },
    unsigned::{Filter, Found, Limits, Output, UnsignedReceiver},
};

use crate::peer::MOMENT;

/// Source address of these tests.
const SENDER: [u8; 4] = [192, 0, 2, 10];

/// The receiver core of `receiver listen`, with a disk.
pub(crate) struct OurReceiver {
    core: UnsignedReceiver,
    objects: BTreeMap<Hash16, Object>,
    files: BTreeMap<String, Vec<u8>>,
    packets: u64,
}

/// The part of one file on the disk.
struct Object {
    layout: ObjectLayout,
    logs: Vec<Vec<u8>>,
    part: Vec<u8>,
}

impl OurReceiver {
    /// Starts on an empty disk.
    pub(crate) fn new() -> Self {
        let core = UnsignedReceiver::new(Limits::default(), Filter::default(), Found::default());
        Self { core, objects: BTreeMap::new(), files: BTreeMap::new(), packets: 0 }
    }

    /// Takes datagrams, one a millisecond, and returns the complete files by Content-Location.
    pub(crate) fn receive(mut self, datagrams: &[Vec<u8>]) -> BTreeMap<String, Vec<u8>> {
        datagrams.iter().for_each(|datagram| self.push(datagram));
        // Whatever waits for a timer is through after ten seconds of silence.
        self.packets += 10_000;
        self.core.handle_timeout(self.now());
        self.run_commands();
        self.files
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.packets * 1_000_000), utc: MOMENT }
    }

    fn push(&mut self, datagram: &[u8]) {
        self.packets += 1;
        self.core.handle_datagram(self.now(), IpAddr::from(SENDER), datagram);
        self.core.handle_timeout(self.now());
        self.run_commands();
    }

    fn run_commands(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Open(layout) => self.open(layout),
                Output::Log(key, LogOutput::Write { file, offset, octets, .. }) => {
                    let logs = &mut self.objects.get_mut(&key).unwrap().logs;
                    let (file, at) =
                        (usize::try_from(file).unwrap(), usize::try_from(offset).unwrap());
                    logs[file][at..at + octets.len()].copy_from_slice(&octets);
                }
                Output::Log(_, LogOutput::Tables { .. }) => {
                    unreachable!("plain files have no tables")
                }
                Output::Log(key, LogOutput::Flush(ticket)) => {
                    self.core.handle_flushed(self.now(), key, ticket);
                }
                Output::WriteRecord(name, _) => self.core.handle_recorded(self.now(), &name),
                Output::Decode(job) => {
                    let key = job.layout.object_key();
                    let outcome = job.run(self.objects.get_mut(&key).unwrap());
                    self.core.handle_decoded(self.now(), key, job.sbn, &outcome);
                }
                Output::VerifyFile(layout) => {
                    let key = layout.object_key();
                    let digest = sha256(&[&self.objects[&key].part]);
                    self.core.handle_finished(self.now(), key, Ok(digest));
                }
                Output::Complete(file) => {
                    let objects = self.objects.values();
                    let of_it = |object: &&Object| name(&object.layout) == file.name;
                    let object = objects.rev().find(of_it).unwrap();
                    self.files.insert(file.location, object.part.clone());
                }
                Output::VerifyKept(..) => unreachable!("there is no earlier run"),
                // The symbols stay: the file is taken from them when it is complete.
                Output::RemoveObject(_) | Output::RemoveRecord(_) => {}
                Output::Reserve(key, files) => self.core.handle_reserved(self.now(), key, files),
                Output::DiscardObject(layout) => {
                    self.core.handle_discarded(self.now(), layout.object_key());
                }
            }
        }
    }

    fn open(&mut self, layout: ObjectLayout) {
        let logs = (0..layout.files()).map(|file| {
            let mut log = layout.header(file);
            log.resize(usize::try_from(layout.file_bytes(file)).unwrap(), 0);
            log
        });
        let logs: Vec<_> = logs.collect();
        let mut recovery = Recovery::new(&layout);
        for (file, log) in (0..).zip(&logs) {
            let header = &log[..ObjectLayout::HEADER_BYTES];
            assert_eq!(recovery.header(file, header), HeaderCheck::Ours);
        }
        let recovered = Recovered { image_made: true, ..recovery.finish() };
        let part = vec![0; usize::try_from(layout.image_bytes()).unwrap()];
        let key = layout.object_key();
        self.objects.insert(key, Object { layout, logs, part });
        self.core.handle_recovered(self.now(), key, &recovered);
    }
}

fn name(layout: &ObjectLayout) -> &str {
    match layout.content() {
        Content::File(file) => &file.name,
        Content::Image(_) => unreachable!("these are plain files"),
    }
}

impl BlockFiles for Object {
    fn read_slots(&mut self, first: SlotAddress, octets: &mut [u8]) -> io::Result<()> {
        let log = &self.logs[usize::try_from(first.file).unwrap()];
        let at = usize::try_from(self.layout.offset(first)).unwrap();
        octets.copy_from_slice(&log[at..at + octets.len()]);
        Ok(())
    }

    fn write_block(&mut self, place: BlockPlace, octets: &[u8]) -> io::Result<()> {
        let at = usize::try_from(place.offset).unwrap();
        self.part[at..at + octets.len()].copy_from_slice(octets);
        Ok(())
    }
}
