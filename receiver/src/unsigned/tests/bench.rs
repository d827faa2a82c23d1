//! The core with a disk in memory.

use super::*;

/// The core and its disk.
pub(super) struct Bench {
    pub(super) core: UnsignedReceiver,
    pub(super) disk: Disk,
    pub(super) complete: Vec<UnsignedFile>,
    /// Time since the beginning.
    pub(super) elapsed: Duration,
    /// Set while reservations fail.
    pub(super) is_full: bool,
    /// Set while the storage answers nothing, until [`Self::settle`] is called.
    pub(super) is_slow: bool,
}

/// The result of an effect, for the core.
pub(super) enum Answer {
    Recovered(Hash16, Recovered),
    Reserved(Hash16, u32),
    OpenFailed(Hash16, StorageError),
    Flushed(Hash16, Ticket),
    Recorded(String),
    Decoded(Hash16, Sbn, DecodeOutcome),
    Finished(Hash16, Result<Digest, FinishProblem>),
    Discarded(Hash16),
}

/// The files of the output directory.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) logs: BTreeMap<(String, u32), Vec<u8>>,
    pub(super) parts: BTreeMap<String, Vec<u8>>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) records: BTreeMap<String, Vec<u8>>,
    pub(super) layouts: BTreeMap<Hash16, ObjectLayout>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::on(Disk::default())
    }

    pub(super) fn on(disk: Disk) -> Self {
        Self::with(Limits::default(), disk)
    }

    pub(super) fn with(limits: Limits, disk: Disk) -> Self {
        Self::resume(limits, disk, Undigested::Anew)
    }

    /// Starts on a disk as the shell does: without what no run goes on with.
    pub(super) fn resume(limits: Limits, mut disk: Disk, undigested: Undigested) -> Self {
        let mut found = Found {
            records: disk.records.values().filter_map(|octets| Record::parse(octets)).collect(),
            files: disk.files.keys().chain(disk.parts.keys()).cloned().collect(),
            stored: disk.logs.keys().map(|(name, _)| name.clone()).collect(),
            undigested,
        };
        let left = found.take_leftovers();
        disk.logs.retain(|(name, _), _| !left.directories.contains(name));
        disk.parts.retain(|name, _| !left.parts.contains(name));
        disk.records.retain(|name, _| !left.records.contains(name));
        let core = UnsignedReceiver::new(limits, Filter::default(), found);
        Self {
            core,
            disk,
            complete: Vec::new(),
            elapsed: Duration::ZERO,
            is_full: false,
            is_slow: false,
        }
    }

    pub(super) fn now(&self) -> Now {
        Now { mono: now().mono + self.elapsed, utc: now().utc + self.elapsed }
    }

    /// Restarts the core on the same disk.
    pub(super) fn restart(self) -> Self {
        Self::on(self.disk)
    }

    pub(super) fn standing(&self) -> Standing {
        self.core.standing(self.now())
    }

    pub(super) fn is_all_complete(&self) -> bool {
        self.standing() == Standing::Complete
    }

    pub(super) fn receive(&mut self, packet: &[u8]) {
        self.receive_from(SENDER.into(), packet);
    }

    pub(super) fn receive_from(&mut self, source: IpAddr, packet: &[u8]) {
        let now = self.now();
        self.core.handle_datagram(now, source, packet);
        if !self.is_slow {
            self.settle();
        }
    }

    pub(super) fn sync(&mut self) {
        let mono = self.now().mono + Duration::from_secs(5);
        self.core.handle_timeout(Now { mono, ..self.now() });
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        while let Some(output) = self.core.poll_output() {
            if let Some(answer) = self.execute(output) {
                self.answer(answer);
            }
        }
    }

    /// Executes an effect; returns its result for the core.
    pub(super) fn execute(&mut self, output: Output) -> Option<Answer> {
        Some(match output {
            Output::Open(layout) => Answer::Recovered(layout.object_key(), self.open(&layout)),
            Output::Reserve(key, _) if self.is_full => {
                let error = StorageError::while_doing("reserve")(io::ErrorKind::StorageFull.into());
                Answer::OpenFailed(key, error)
            }
            Output::Reserve(key, files) => {
                self.disk.reserve(key, files);
                Answer::Reserved(key, files)
            }
            Output::DiscardObject(layout) => {
                let directory = layout.directory_name();
                self.disk.logs.retain(|(of, _), _| *of != directory);
                self.disk.parts.remove(&part(&layout));
                self.disk.layouts.remove(&layout.object_key());
                Answer::Discarded(layout.object_key())
            }
            Output::Log(key, LogOutput::Write { file, offset, octets, .. }) => {
                let name = self.disk.name_of(key);
                let log = self.disk.logs.get_mut(&(name, file)).unwrap();
                let at = usize::try_from(offset).unwrap();
                log[at..at + octets.len()].copy_from_slice(&octets);
                return None;
            }
            Output::Log(_, LogOutput::Tables { .. }) => panic!("an unsigned file has no tables"),
            Output::Log(key, LogOutput::Flush(ticket)) => Answer::Flushed(key, ticket),
            Output::WriteRecord(name, octets) => {
                self.disk.records.insert(name.clone(), octets);
                Answer::Recorded(name)
            }
            Output::RemoveRecord(name) => {
                self.disk.records.remove(&name);
                return None;
            }
            Output::Decode(job) => {
                let mut files = DiskFiles { disk: &mut self.disk, layout: job.layout.clone() };
                let outcome = job.run(&mut files);
                Answer::Decoded(job.layout.object_key(), job.sbn, outcome)
            }
            Output::VerifyFile(layout) => {
                Answer::Finished(layout.object_key(), self.verify(&layout))
            }
            Output::VerifyKept(layout, expected) => {
                let found = self.disk.files.get(&name(&layout)).map(|octets| sha256(&[octets]));
                let outcome = match found {
                    Some(found) if found == expected => Ok(found),
                    Some(_) | None => Err(FinishProblem::WrongDigest),
                };
                Answer::Finished(layout.object_key(), outcome)
            }
            Output::RemoveObject(layout) => {
                let directory = layout.directory_name();
                self.disk.logs.retain(|(of, _), _| *of != directory);
                return None;
            }
            Output::Complete(file) => {
                self.complete.push(file);
                return None;
            }
        })
    }

    /// Hands the result of an effect to the core.
    pub(super) fn answer(&mut self, answer: Answer) {
        let now = self.now();
        match answer {
            Answer::Recovered(key, recovered) => self.core.handle_recovered(now, key, &recovered),
            Answer::Reserved(key, files) => self.core.handle_reserved(now, key, files),
            Answer::OpenFailed(key, error) => self.core.handle_open_failed(now, key, &error),
            Answer::Flushed(key, ticket) => self.core.handle_flushed(now, key, ticket),
            Answer::Recorded(name) => self.core.handle_recorded(now, &name),
            Answer::Decoded(key, sbn, outcome) => {
                self.core.handle_decoded(now, key, sbn, &outcome);
            }
            Answer::Finished(key, outcome) => self.core.handle_finished(now, key, outcome),
            Answer::Discarded(key) => self.core.handle_discarded(now, key),
        }
    }

    fn verify(&mut self, layout: &ObjectLayout) -> Result<Digest, FinishProblem> {
        let (name, part) = (name(layout), part(layout));
        let octets = self.disk.parts[&part].clone();
        let Content::File(file) = layout.content() else { unreachable!() };
        if file.md5.is_some_and(|expected| expected != md5(&octets)) {
            return Err(FinishProblem::WrongDigest);
        }
        let digest = sha256(&[&octets]);
        self.disk.parts.remove(&part);
        self.disk.files.insert(name, octets);
        Ok(digest)
    }

    fn open(&mut self, layout: &ObjectLayout) -> Recovered {
        let image_made = !self.disk.parts.contains_key(&part(layout));
        self.disk.parts.entry(part(layout)).or_default();
        self.disk.layouts.insert(layout.object_key(), layout.clone());
        let mut recovery = Recovery::new(layout);
        for file in 0..layout.files() {
            let Some(log) = self.disk.logs.get(&(layout.directory_name(), file)) else { break };
            assert_eq!(recovery.header(file, &log[..4096]), HeaderCheck::Ours);
            recovery.slots(SlotAddress { file, index: 0 }, &log[4096..]);
        }
        Recovered { image_made, ..recovery.finish() }
    }

    pub(super) fn file(&self, name: &str) -> Option<&[u8]> {
        self.disk.files.get(name).map(Vec::as_slice)
    }
}

impl Disk {
    fn name_of(&self, key: Hash16) -> String {
        key.to_string()[..16].to_owned()
    }

    fn reserve(&mut self, key: Hash16, files: u32) {
        let layout = &self.layouts[&key];
        for file in 0..files {
            self.logs.entry((layout.directory_name(), file)).or_insert_with(|| {
                // Nothing is written behind the first MiB of the large files of these tests.
                let length = layout.file_bytes(file).min(1 << 20);
                let mut log = vec![0; usize::try_from(length).unwrap()];
                log[..ObjectLayout::HEADER_BYTES].copy_from_slice(&layout.header(file));
                log
            });
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let files = self.parts.values().chain(self.files.values());
        let logs = self.layouts.values().flat_map(|layout| {
            let name = layout.directory_name();
            let is_reserved = move |file: &u32| self.logs.contains_key(&(name.clone(), *file));
            (0..layout.files()).filter(is_reserved).map(|file| layout.file_bytes(file))
        });
        files.map(|octets| octets.len() as u64).chain(logs).sum()
    }
}

fn name(layout: &ObjectLayout) -> String {
    match layout.content() {
        Content::File(file) => file.name.clone(),
        Content::Image(_) => unreachable!("these are unsigned files"),
    }
}

fn part(layout: &ObjectLayout) -> String {
    UnsignedContent::part_name(&name(layout), &layout.directory_name())
}

struct DiskFiles<'a> {
    disk: &'a mut Disk,
    layout: ObjectLayout,
}

impl BlockFiles for DiskFiles<'_> {
    fn read_slots(&mut self, first: SlotAddress, octets: &mut [u8]) -> io::Result<()> {
        let log = &self.disk.logs[&(self.layout.directory_name(), first.file)];
        let at = usize::try_from(self.layout.offset(first)).unwrap();
        octets.copy_from_slice(&log[at..at + octets.len()]);
        Ok(())
    }

    fn write_block(&mut self, place: BlockPlace, octets: &[u8]) -> io::Result<()> {
        let part = self.disk.parts.get_mut(&part(&self.layout)).unwrap();
        let at = usize::try_from(place.offset).unwrap();
        part.resize(part.len().max(at + octets.len()), 0);
        part[at..at + octets.len()].copy_from_slice(octets);
        Ok(())
    }
}
