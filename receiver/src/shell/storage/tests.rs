use std::{collections::BTreeSet, path::Path};

use proto::{
    crypto::sha256,
    fec::{
        codec::BlockEncoder as _,
        oti::{RaptorQOti, RaptorQParameters},
        raptorq_crate::Encoder,
    },
    ids::{Esi, Sbn},
    time::Mono,
};

use super::*;
use crate::{
    flute::decode::DecodeOutcome,
    store::{CopyName, InsertOutcome, Limits, SymbolLog, commands::VerifyOutcome},
};

#[test]
fn an_image_is_received_decoded_and_verified_across_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(home.path());
    let mut log = bench.open(&BTreeSet::new());
    let half = bench.symbols(0, 0..12).chain(bench.symbols(1, 0..12));
    half.for_each(|symbol| symbol.insert(&mut log));
    bench.flush(&mut log);
    assert_eq!(log.synced_total(), 24);
    bench.symbols(1, 12..15).for_each(|symbol| symbol.insert(&mut log));

    let mut bench = bench.restart(home.path());
    let mut log = bench.open(&BTreeSet::new());
    assert_eq!(log.synced_total(), 24, "what was not written is lost, what was synced is not");
    bench.symbols(0, 50..60).for_each(|symbol| symbol.insert(&mut log));
    bench.flush(&mut log);
    assert_eq!(bench.decode(&log, 0), DecodeOutcome::Done);
    assert_eq!(bench.decode(&log, 1), DecodeOutcome::NeedsMore);

    // Killed between the sync of the block and its journal record: it is decoded again.
    let mut bench = bench.restart(home.path());
    let mut log = bench.open(&BTreeSet::new());
    assert_eq!((log.synced(Sbn(0)), log.synced(Sbn(1))), (22, 12));
    assert_eq!(bench.decode(&log, 0), DecodeOutcome::Done);

    // Killed after the record.
    let mut bench = bench.restart(home.path());
    drop(log);
    log = bench.open(&BTreeSet::from([Sbn(0)]));
    assert_eq!((log.synced_total(), log.slots_held()), (20 + 12, 12));
    bench.symbols(1, 30..42).for_each(|symbol| symbol.insert(&mut log));
    bench.flush(&mut log);
    assert_eq!(bench.decode(&log, 1), DecodeOutcome::Done);
    log.block_done(Sbn(1));
    assert!(log.is_complete());

    bench.storage.send(StorageCommand::VerifyImage(bench.layout.clone()));
    let key = bench.layout.object_key();
    let finished = bench.next();
    assert!(
        matches!(finished, Completion::ImageVerified(of, VerifyOutcome::Ready { .. }) if of == key)
    );
    let data = bench.storage.stop();
    assert_eq!(std::fs::read(data.image_path(&bench.layout)).unwrap(), bench.image);
}

#[test]
fn a_damaged_slot_is_lost_and_received_again() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(home.path());
    let mut log = bench.open(&BTreeSet::new());
    bench.symbols(0, 0..20).for_each(|symbol| symbol.insert(&mut log));
    bench.flush(&mut log);
    let slots = log.slots_of(Sbn(0));
    let path = home.path().join("objects").join(bench.layout.directory_name()).join("log.0");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let offset = bench.layout.offset(slots[3]) + 40;
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xee; 4], offset).unwrap();
    let lost = vec![slots[3]];
    assert_eq!(bench.decode(&log, 0), DecodeOutcome::LostSlots(lost.clone()));
    log.slot_lost(Sbn(0), lost[0]);
    bench.symbols(0, 3..4).for_each(|symbol| symbol.insert(&mut log));
    bench.flush(&mut log);
    assert_eq!(bench.decode(&log, 0), DecodeOutcome::Done);
}

#[test]
fn the_journal_and_small_files_are_written_in_order_with_everything_else() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(home.path());
    let name = FileName::new("campaign.env").unwrap();
    bench.storage.send(StorageCommand::WriteFile(name.clone(), b"envelope".to_vec()));
    let write =
        JournalWrite { copy: CopyName::A, generation: 1, octets: b"state".to_vec(), floors: None };
    bench.storage.send(StorageCommand::Journal(write));
    bench.storage.send(StorageCommand::RemoveFile(name.clone()));
    assert_eq!(bench.next(), Completion::FileDone(name.clone()));
    assert_eq!(bench.next(), Completion::JournalWritten(1));
    assert_eq!(bench.next(), Completion::FileDone(name.clone()));
    let data = bench.storage.stop();
    assert_eq!(data.read_journal().unwrap(), [b"state".to_vec(), Vec::new()]);
    assert_eq!(data.read_file(&name).unwrap(), None);
}

#[test]
fn the_journal_does_not_go_on_without_the_files_that_it_may_rely_on() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(home.path());
    let name = FileName::new("campaign.env").unwrap();
    std::fs::create_dir(home.path().join("files/campaign.env.new")).unwrap();
    bench.storage.send(StorageCommand::WriteFile(name.clone(), b"envelope".to_vec()));
    let write =
        JournalWrite { copy: CopyName::A, generation: 1, octets: b"state".to_vec(), floors: None };
    bench.storage.send(StorageCommand::Journal(write));
    assert!(matches!(bench.next(), Completion::FileFailed(failed, _) if failed == name));
    assert!(matches!(bench.next(), Completion::JournalFailed(1, _)));
    let data = bench.storage.stop();
    assert_eq!(data.read_journal().unwrap(), [Vec::<u8>::new(), Vec::new()]);
}

#[test]
fn a_file_that_can_be_done_without_holds_nothing_up() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(home.path());
    std::fs::create_dir(home.path().join("files/0.piece.new")).unwrap();
    for name in ["0.piece", "1.piece"] {
        bench.storage.send(StorageCommand::WriteOptionalFile(
            FileName::new(name).unwrap(),
            b"piece".to_vec(),
        ));
    }
    let write =
        JournalWrite { copy: CopyName::A, generation: 1, octets: b"state".to_vec(), floors: None };
    bench.storage.send(StorageCommand::Journal(write));
    assert!(matches!(bench.next(), Completion::OptionalFileWritten(Err(_))));
    assert_eq!(bench.next(), Completion::OptionalFileWritten(Ok(())));
    assert_eq!(bench.next(), Completion::JournalWritten(1));
}

#[test]
fn objects_that_are_not_kept_leave_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(home.path());
    let mut log = bench.open(&BTreeSet::new());
    bench.storage.send(StorageCommand::RemoveOtherObjects(vec![bench.layout.clone()]));
    assert_eq!(bench.next(), Completion::ObjectsRemoved(Ok(())));
    assert!(home.path().join("objects").join(bench.layout.directory_name()).exists());
    bench.storage.send(StorageCommand::RemoveOtherObjects(vec![]));
    assert_eq!(bench.next(), Completion::ObjectsRemoved(Ok(())));
    bench.symbols(0, 0..1).for_each(|symbol| symbol.insert(&mut log));
    log.flush();
    while let Some(output) = log.poll_output() {
        bench.storage.send(StorageCommand::Log(bench.layout.object_key(), output));
    }
    let data = bench.storage.stop();
    assert_eq!(std::fs::read_dir(data.objects()).unwrap().count(), 0);
}

#[test]
fn a_directory_that_cannot_be_written_is_an_answer() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(home.path());
    let blocked = home.path().join("objects").join(bench.layout.directory_name());
    std::fs::write(blocked, b"in the way").unwrap();
    bench.storage.send(StorageCommand::Open(bench.layout.clone()));
    let answer = bench.next();
    assert!(matches!(answer, Completion::OpenFailed(_, StorageError::Io { .. })), "{answer:?}");
}

struct Bench {
    image: Vec<u8>,
    layout: ObjectLayout,
    storage: Storage,
    answers: UnboundedReceiver<Completion>,
}

struct Symbol {
    sbn: Sbn,
    esi: Esi,
    octets: Vec<u8>,
}

impl Symbol {
    fn insert(self, log: &mut SymbolLog) {
        let tag = log.layout().tag(self.sbn, self.esi, &self.octets);
        let outcome = log.insert(Mono(0), self.sbn, self.esi, tag, &self.octets);
        assert_eq!(outcome, InsertOutcome::Stored);
    }
}

impl Bench {
    fn start(home: &Path) -> Self {
        let image: Vec<u8> =
            (0_u32..).map(|i| (i.wrapping_mul(i) >> 3).to_le_bytes()[0]).take(2555).collect();
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: image.len() as u64,
            symbol_size: 64,
            source_blocks: 2,
            sub_blocks: 1,
            alignment: 8,
        });
        let layout = ObjectLayout::new(Hash16([1; 16]), sha256(&[&image]), oti.unwrap());
        let (storage, answers) = Storage::start(DataDir::open(home).unwrap()).unwrap();
        Self { image, layout, storage, answers }
    }

    fn restart(self, home: &Path) -> Self {
        drop(self.storage.stop());
        Self::start(home)
    }

    fn next(&mut self) -> Completion {
        self.answers.blocking_recv().unwrap()
    }

    fn open(&mut self, done: &BTreeSet<Sbn>) -> SymbolLog {
        self.storage.send(StorageCommand::Open(self.layout.clone()));
        let Completion::Recovered(_, recovered) = self.next() else { panic!("not recovered") };
        let mut log =
            SymbolLog::recovered(self.layout.clone(), Limits::default(), &recovered, done, &[]);
        if recovered.files_ready == 0 {
            assert_eq!(self.next(), Completion::Reserved(self.layout.object_key(), 1));
            log.handle_reserved(1);
        }
        log
    }

    fn flush(&mut self, log: &mut SymbolLog) {
        log.flush();
        while let Some(output) = log.poll_output() {
            self.storage.send(StorageCommand::Log(self.layout.object_key(), output));
        }
        let Completion::Flushed(_, ticket) = self.next() else { panic!("not flushed") };
        log.handle_flushed(ticket);
        assert!(log.is_quiet());
    }

    fn decode(&mut self, log: &SymbolLog, sbn: u32) -> DecodeOutcome {
        let sbn = Sbn(sbn);
        let job = DecodeJob { layout: self.layout.clone(), sbn, slots: log.slots_of(sbn) };
        self.storage.send(StorageCommand::Decode(job));
        let answer = self.next();
        let Completion::Decoded(_, of, outcome) = answer else { panic!("{answer:?}") };
        assert_eq!(of, sbn);
        outcome
    }

    fn symbols(
        &self,
        sbn: u32,
        esis: std::ops::Range<u32>,
    ) -> impl Iterator<Item = Symbol> + use<> {
        let sbn = Sbn(sbn);
        let place = self.layout.block_place(sbn).unwrap();
        let from = usize::try_from(place.offset).unwrap();
        let block = &self.image[from..from + usize::try_from(place.octets).unwrap()];
        let encoder = Encoder::new(&raptorq(&self.layout), sbn, block).unwrap();
        let mut symbols = Vec::new();
        encoder.for_each_symbol(esis, &mut |esi, octets| {
            symbols.push(Symbol { sbn, esi, octets: octets.to_vec() });
        });
        symbols.into_iter()
    }
}

fn raptorq(layout: &ObjectLayout) -> RaptorQOti {
    match layout.oti() {
        proto::fec::oti::Oti::RaptorQ(oti) => *oti,
        proto::fec::oti::Oti::NoCode(_) => unreachable!("these tests use RaptorQ"),
    }
}
