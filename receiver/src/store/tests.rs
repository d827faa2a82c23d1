//! The log against a simulated disk on which an unsynced sector holds any of the contents it had.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use proto::{
    crypto::{Digest, Hash16},
    fec::oti::{RaptorQOti, RaptorQParameters},
    ids::{Esi, Sbn},
    time::Mono,
};

use super::*;

#[test]
fn a_record_is_read_as_it_was_written_and_no_damaged_one_is() {
    let layout = layout(2, 10);
    let octets = slot(&layout, Sbn(1), Esi(70_000));
    assert_eq!(octets.len(), layout.slot_size());
    let symbol = symbol(Sbn(1), Esi(70_000));
    let whole = Slot { sbn: Sbn(1), esi: Esi(70_000), symbol: &symbol };
    assert_eq!(layout.parse_slot(&octets), Some(whole));
    for length in 0..32 + layout.symbol_size() {
        assert_eq!(layout.parse_slot(&octets[..length]), None, "{length}");
    }
    for at in 0..32 + layout.symbol_size() {
        let mut flipped = octets.clone();
        flipped[at] ^= 1;
        assert_eq!(layout.parse_slot(&flipped), None, "{at}");
    }
}

#[test]
fn a_record_of_another_object_is_no_record() {
    let ours = layout(2, 10);
    let other = ObjectLayout::new(Hash16([9; 16]), ours.stored_sha256(), *ours.oti());
    assert_eq!(ours.parse_slot(&slot(&other, Sbn(0), Esi(0))), None);
}

#[test]
fn a_header_is_ours_only_in_its_object_and_place() {
    let ours = layout(2, 10);
    let header = ours.header(1);
    assert_eq!(header.len(), ObjectLayout::HEADER_BYTES);
    assert_eq!(ours.check_header(1, &header), HeaderCheck::Ours);
    assert_eq!(ours.check_header(0, &header), HeaderCheck::Foreign);
    let other = ObjectLayout::new(ours.object_key(), Digest([1; 32]), *ours.oti());
    assert_eq!(other.check_header(1, &header), HeaderCheck::Foreign);
    assert_eq!(ours.check_header(1, &header[..4095]), HeaderCheck::Damaged);
    for at in [0, 5, 20, 60, 79, 80, 4079, 4095] {
        let mut flipped = header.clone();
        flipped[at] ^= 0x80;
        assert_eq!(ours.check_header(1, &flipped), HeaderCheck::Damaged, "{at}");
    }
}

#[test]
fn the_last_block_ends_with_the_object() {
    let layout = layout(3, 10);
    let parts: Vec<_> = (0..3).map(|sbn| layout.block_place(Sbn(sbn)).unwrap()).collect();
    assert_eq!(parts[0], BlockPlace { offset: 0, octets: 640 });
    assert_eq!(parts[2], BlockPlace { offset: 1280, octets: 639 });
    assert_eq!(layout.block_place(Sbn(3)), None);
}

#[test]
fn spare_symbols_and_a_failed_flush_have_room_and_small_objects_reserve_little() {
    for (blocks, symbols) in [(1, 1), (1, 8192), (7, 8192), (255, 60), (255, 3000)] {
        let layout = layout(blocks, symbols);
        let wanted = layout.total_symbols() + 16 * u32::from(blocks);
        let slack = u32::try_from(ObjectLayout::SLACK_BYTES / layout.slot_size()).unwrap();
        assert_eq!(layout.slots(), wanted + slack.min(wanted));
        let files = layout.files();
        assert_eq!((0..files).map(|file| layout.slots_in(file)).sum::<u32>(), layout.slots());
        assert_eq!(layout.slots_before(files), layout.slots());
        for file in 0..files {
            let last = SlotAddress { file, index: layout.slots_in(file) - 1 };
            let end = layout.offset(last) + layout.slot_size() as u64;
            assert_eq!(layout.file_bytes(file), end.next_multiple_of(4096));
            let full = layout.file_bytes(file) == ObjectLayout::FILE_BYTES;
            assert!(full || file + 1 == files);
        }
        assert_eq!((layout.slots_in(files), layout.file_bytes(files)), (0, 4096));
    }
}

#[test]
fn progress_counts_only_after_the_flush_has_returned() {
    let mut bench = Bench::new(layout(1, 4));
    for esi in 0..4 {
        assert_eq!(bench.insert(0, esi), InsertOutcome::Stored);
    }
    assert_eq!((bench.log.received(Sbn(0)), bench.log.synced(Sbn(0))), (4, 0));
    bench.log.handle_timeout(Mono(999_999_999));
    assert_eq!(bench.log.poll_output(), None);
    bench.log.handle_timeout(bench.log.deadline().unwrap());
    let write = bench.log.poll_output().unwrap();
    let LogOutput::Write { offset: 4096, octets, .. } = &write else { panic!("{write:?}") };
    assert_eq!(octets.len(), 4 * bench.log.layout().slot_size());
    let Some(LogOutput::Flush(ticket)) = bench.log.poll_output() else { panic!("no flush") };
    assert_eq!(bench.log.synced(Sbn(0)), 0);
    bench.log.handle_flushed(ticket);
    assert_eq!((bench.log.synced(Sbn(0)), bench.log.synced_total()), (4, 4));
    assert_eq!(bench.log.slots_of(Sbn(0)).len(), 4);
    assert_eq!(bench.log.deadline(), None);
}

#[test]
fn more_symbols_than_a_block_needs_are_no_progress_for_another() {
    let mut bench = Bench::new(layout(2, 4));
    (0..6).for_each(|esi| assert_eq!(bench.insert(0, esi), InsertOutcome::Stored));
    assert_eq!(bench.insert(1, 0), InsertOutcome::Stored);
    bench.settle_all();
    assert_eq!((bench.log.synced(Sbn(0)), bench.log.synced(Sbn(1))), (6, 1));
    assert_eq!(bench.log.synced_total(), 5);
}

#[test]
fn a_flush_follows_a_mebibyte_without_a_timer() {
    let mut bench = Bench::new(layout(1, 8192));
    let in_a_mebibyte = (1 << 20) / u32::try_from(bench.log.layout().slot_size()).unwrap();
    for esi in 0..in_a_mebibyte {
        assert!(!bench.wants_flush(), "{esi}");
        bench.insert(0, esi);
    }
    assert!(bench.wants_flush());
    assert_eq!(bench.log.deadline(), None);
}

#[test]
fn what_is_held_full_or_decoded_is_named() {
    let mut bench = Bench::new(layout(2, 4));
    bench.insert(0, 3);
    assert_eq!(bench.insert(0, 3), InsertOutcome::Duplicate);
    assert!(bench.log.holds(Sbn(0), Esi(3)) && !bench.log.holds(Sbn(0), Esi(2)));
    for esi in 100..119 {
        assert_eq!(bench.insert(0, esi), InsertOutcome::Stored, "{esi}");
    }
    assert_eq!(bench.insert(0, 0), InsertOutcome::BlockFull);
    bench.settle_all();
    bench.log.block_done(Sbn(0));
    assert_eq!(bench.insert(0, 0), InsertOutcome::BlockDone);
    assert!(bench.log.holds(Sbn(0), Esi(0)));
    assert_eq!((bench.log.synced_total(), bench.log.slots_held()), (4, 0));
    assert_eq!(bench.insert(2, 0), InsertOutcome::Invalid);
    assert_eq!(bench.insert(1, 1 << 24), InsertOutcome::Invalid);
    let short = bench.log.insert(Mono(0), Sbn(1), Esi(0), Hash16([0; 16]), &[0; 63]);
    assert_eq!(short, InsertOutcome::Invalid);
}

#[test]
fn a_storage_that_is_behind_is_busy_and_one_without_slots_is_full() {
    let limits = Limits { unsynced_bytes: 1280, ..Limits::default() };
    let mut log = SymbolLog::new(layout(1, 100), limits);
    let insert = |log: &mut SymbolLog, esi| {
        let symbol = symbol(Sbn(0), Esi(esi));
        log.insert(Mono(0), Sbn(0), Esi(esi), log.layout().tag(Sbn(0), Esi(esi), &symbol), &symbol)
    };
    assert_eq!(insert(&mut log, 0), InsertOutcome::Busy, "nothing is reserved yet");
    log.handle_reserved(1);
    for esi in 0..10 {
        assert_eq!(insert(&mut log, esi), InsertOutcome::Stored);
    }
    assert_eq!(insert(&mut log, 10), InsertOutcome::Busy);
    log.use_only(10);
    log.flush();
    let tickets: Vec<_> = std::iter::from_fn(|| log.poll_output()).filter_map(flush_of).collect();
    log.handle_flushed(tickets[0]);
    assert_eq!(insert(&mut log, 10), InsertOutcome::Busy, "more files may still be reserved");
}

#[test]
fn groups_end_where_a_file_ends() {
    let mut bench = Bench::new(layout(2, 40_000));
    assert_eq!(bench.log.layout().files(), 1);
    let big = RaptorQParameters {
        transfer_length: 1408 * 12_000,
        symbol_size: 1408,
        source_blocks: 2,
        sub_blocks: 1,
        alignment: 8,
    };
    let layout = ObjectLayout::new(Hash16([7; 16]), Digest([8; 32]), RaptorQOti::new(big).unwrap());
    assert_eq!((layout.files(), layout.slot_size(), layout.slots_in(0)), (2, 1472, 11_394));
    bench = Bench::new(layout.clone());
    let symbol = [5; 1408];
    let mut writes = BTreeMap::new();
    for esi in 0..12_000 {
        let (sbn, esi) = (Sbn(esi % 2), Esi(esi / 2));
        let tag = layout.tag(sbn, esi, &symbol);
        assert_eq!(bench.log.insert(Mono(0), sbn, esi, tag, &symbol), InsertOutcome::Stored);
        while let Some(output) = bench.log.poll_output() {
            match output {
                LogOutput::Write { file, offset, octets, .. } => {
                    writes.insert((file, offset), octets.len() as u64);
                }
                LogOutput::Tables { .. } => {}
                LogOutput::Flush(ticket) => bench.log.handle_flushed(ticket),
            }
        }
    }
    let ends =
        |file| writes.iter().filter(|((f, _), _)| *f == file).map(|((_, at), len)| at + len).max();
    assert_eq!(ends(0), Some(4096 + 11_394 * 1472));
    assert!(writes.contains_key(&(1, 4096)));
}

#[test]
fn what_a_failed_flush_covers_is_written_again_on_other_pages() {
    let mut bench = Bench::new(layout(1, 100));
    bench.insert(0, 0);
    bench.settle_all();
    bench.insert(0, 1);
    bench.log.flush();
    let tickets: Vec<_> =
        std::iter::from_fn(|| bench.log.poll_output()).filter_map(flush_of).collect();
    bench.insert(0, 2);
    bench.log.handle_failed(Mono(5), tickets[0]);
    assert_eq!(bench.log.deadline(), Some(Mono(1_000_000_000)));
    assert_eq!((bench.log.received(Sbn(0)), bench.log.synced(Sbn(0))), (3, 1));
    bench.log.handle_flushed(tickets[0]);
    assert_eq!(bench.log.synced(Sbn(0)), 1, "an answer that comes too late changes nothing");
    assert_eq!(bench.insert(0, 1), InsertOutcome::Duplicate, "it is still held");
    bench.settle_all();
    assert_eq!(bench.log.synced(Sbn(0)), 3);
    let slots = bench.log.slots_of(Sbn(0));
    let offsets: Vec<_> = slots.iter().map(|slot| bench.log.layout().offset(*slot)).collect();
    // Symbol 0, then symbol 2 that was on its way, then symbol 1 on the next page.
    assert_eq!(offsets, [4096, 4096 + 2 * 128, 8192]);
    let in_page = 4096 / 128;
    let expected = [SlotRun { first: 1, count: 1 }, SlotRun { first: 3, count: in_page - 3 }];
    assert_eq!(bench.log.bad_runs(), expected);
}

#[test]
fn bad_slots_are_neither_read_nor_used_after_a_restart() {
    let mut bench = Bench::new(layout(1, 100));
    (0..3).for_each(|esi| assert_eq!(bench.insert(0, esi), InsertOutcome::Stored));
    bench.settle_all();
    let recovered = bench.recover(&bench.disk.durable);
    let layout = bench.log.layout().clone();
    let bad = [SlotRun { first: 1, count: 1 }, SlotRun { first: 3, count: u32::MAX }];
    let none = BTreeSet::new();
    let mut log = SymbolLog::recovered(layout, Limits::default(), &recovered, &none, &bad);
    assert!(log.holds(Sbn(0), Esi(0)) && log.holds(Sbn(0), Esi(2)));
    assert!(!log.holds(Sbn(0), Esi(1)));
    let symbol = symbol(Sbn(0), Esi(1));
    let tag = log.layout().tag(Sbn(0), Esi(1), &symbol);
    assert_eq!(log.insert(Mono(0), Sbn(0), Esi(1), tag, &symbol), InsertOutcome::NoRoom);
    assert_eq!(log.bad_runs().len(), 2);
}

#[test]
fn eight_failures_in_a_row_stop_the_log_and_keep_what_is_synced() {
    let mut bench = Bench::new(layout(1, 200));
    bench.insert(0, 0);
    bench.settle_all();
    bench.insert(0, 1);
    for failures in 0..8 {
        assert!(!bench.log.has_failed(), "{failures}");
        bench.log.flush();
        while let Some(output) = bench.log.poll_output() {
            if let Some(ticket) = flush_of(output) {
                bench.log.handle_failed(Mono(0), ticket);
            }
        }
    }
    assert!(bench.log.has_failed());
    assert_eq!(bench.insert(0, 9), InsertOutcome::NoRoom);
    assert!(!bench.log.holds(Sbn(0), Esi(1)), "what cannot be written is forgotten");
    assert_eq!((bench.log.received(Sbn(0)), bench.log.synced_total()), (1, 1));
    assert!(bench.log.is_quiet());
}

#[test]
fn a_flush_that_covers_nothing_is_no_success() {
    let mut bench = Bench::new(layout(1, 200));
    for failures in 0..8 {
        assert!(!bench.log.has_failed(), "{failures}");
        bench.insert(0, failures);
        bench.log.flush();
        let Some(LogOutput::Write { ticket, .. }) = bench.log.poll_output() else {
            panic!("no write")
        };
        let flush = bench.log.poll_output().and_then(flush_of).unwrap();
        bench.log.handle_failed(Mono(0), ticket);
        bench.log.handle_flushed(flush);
    }
    assert!(bench.log.has_failed());
}

#[test]
fn a_damaged_record_is_missing_again_and_its_slot_is_free() {
    let mut bench = Bench::new(layout(1, 4));
    (0..3).for_each(|esi| assert_eq!(bench.insert(0, esi), InsertOutcome::Stored));
    bench.settle_all();
    let slots = bench.log.slots_of(Sbn(0));
    bench.log.slot_lost(Sbn(0), slots[1]);
    bench.log.slot_lost(Sbn(0), slots[1]);
    assert_eq!(bench.log.synced_total(), 2);
    assert_eq!(bench.insert(0, 1), InsertOutcome::Stored);
}

#[test]
fn slots_of_a_decoded_block_are_used_again() {
    let mut bench = Bench::new(layout(2, 4));
    bench.log.use_only(5);
    (0..4).for_each(|esi| assert_eq!(bench.insert(0, esi), InsertOutcome::Stored));
    bench.settle_all();
    bench.insert(0, 4);
    assert_eq!(bench.insert(1, 0), InsertOutcome::Busy);
    bench.log.block_done(Sbn(0));
    bench.settle_all();
    (0..5).for_each(|esi| assert_eq!(bench.insert(1, esi), InsertOutcome::Stored, "{esi}"));
    bench.settle_all();
    assert_eq!(bench.log.slots_of(Sbn(1)).len(), 5, "the one that came too late is free too");
}

#[derive(Debug, Clone)]
enum Step {
    InsertOutcome { sbn: u32, esi: u32, count: u32 },
    Wait(u64),
    Flush,
    Serve(usize),
    FailNext(usize),
    Decode(u32),
    Kill,
    PowerCut(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..BLOCKS, 0_u32..60, 1_u32..12)
            .prop_map(|(sbn, esi, count)| Step::InsertOutcome { sbn, esi, count }),
        2 => (0_u64..1500).prop_map(Step::Wait),
        2 => Just(Step::Flush),
        6 => (1_usize..6).prop_map(Step::Serve),
        1 => (0_usize..4).prop_map(Step::FailNext),
        1 => (0..BLOCKS).prop_map(Step::Decode),
        1 => Just(Step::Kill),
        3 => any::<u64>().prop_map(Step::PowerCut),
    ];
    prop::collection::vec(step, 1..100)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_crash_costs_a_synced_symbol_or_invents_one(steps in steps()) {
        let mut bench = Bench::new(layout_of(u8::try_from(BLOCKS).unwrap(), 20, STRADDLING));
        bench.log.use_only(SLOTS);
        for step in &steps {
            bench.step(step);
            bench.check();
        }
        bench.step(&Step::PowerCut(0));
        bench.check();
    }
}

const BLOCKS: u32 = 3;
/// Octets of a symbol whose slots, of 192 octets, do not end where sectors do.
const STRADDLING: u16 = 160;
/// Fewer than three blocks may hold, so that slots are used again.
const SLOTS: u32 = 70;

struct Bench {
    log: SymbolLog,
    disk: Disk,
    queue: VecDeque<LogOutput>,
    now: Mono,
    /// Outputs until the one that fails.
    fail_after: Option<usize>,
    done: BTreeSet<Sbn>,
}

impl Bench {
    fn new(layout: ObjectLayout) -> Self {
        let files = layout.files();
        let limits = Limits { group_bytes: 1024, flush_bytes: 1 << 20, ..Limits::default() };
        let mut log = SymbolLog::new(layout, limits);
        log.handle_reserved(files);
        Self {
            log,
            disk: Disk::default(),
            queue: VecDeque::new(),
            now: Mono(0),
            fail_after: None,
            done: BTreeSet::new(),
        }
    }

    fn insert(&mut self, sbn: u32, esi: u32) -> InsertOutcome {
        let (sbn, esi) = (Sbn(sbn), Esi(esi));
        let symbol = symbol_of(self.log.layout().symbol_size(), sbn, esi);
        let tag = self.log.layout().tag(sbn, esi, &symbol);
        self.log.insert(self.now, sbn, esi, tag, &symbol)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::InsertOutcome { sbn, esi, count } => (esi..esi + count).for_each(|esi| {
                self.insert(sbn, esi);
            }),
            Step::Wait(millis) => {
                self.now = Mono(self.now.0 + millis * 1_000_000);
                self.log.handle_timeout(self.now);
            }
            Step::Flush => self.log.flush(),
            Step::Serve(count) => (0..count).for_each(|_| self.serve()),
            Step::FailNext(after) => self.fail_after = Some(after),
            Step::Decode(sbn) => self.decode(Sbn(sbn)),
            Step::Kill => self.restart(),
            Step::PowerCut(seed) => {
                self.disk.power_cut(seed);
                self.restart();
            }
        }
        self.queue.extend(std::iter::from_fn(|| self.log.poll_output()));
    }

    fn serve(&mut self) {
        self.queue.extend(std::iter::from_fn(|| self.log.poll_output()));
        let Some(output) = self.queue.pop_front() else { return };
        let fails = self.fail_after == Some(0);
        self.fail_after = self.fail_after.filter(|_| !fails).map(|left| left - 1);
        match output {
            LogOutput::Write { ticket, .. } if fails => self.log.handle_failed(Mono(0), ticket),
            LogOutput::Write { file, offset, octets, .. } => {
                assert_eq!(file, 0);
                self.disk.write(usize::try_from(offset).unwrap(), &octets);
            }
            LogOutput::Tables { .. } => {}
            LogOutput::Flush(ticket) if fails => self.log.handle_failed(Mono(0), ticket),
            LogOutput::Flush(ticket) => {
                self.disk.sync();
                self.log.handle_flushed(ticket);
            }
        }
    }

    fn settle_all(&mut self) {
        self.log.flush();
        while !self.log.is_quiet() {
            self.serve();
        }
    }

    fn wants_flush(&mut self) -> bool {
        std::iter::from_fn(|| self.log.poll_output()).filter_map(flush_of).count() > 0
    }

    fn decode(&mut self, sbn: Sbn) {
        if self.log.synced(sbn) >= self.log.layout().block_symbols(sbn).unwrap() {
            self.done.insert(sbn);
            self.log.block_done(sbn);
        }
    }

    /// The process starts again; the shell syncs the logs before it trusts them.
    fn restart(&mut self) {
        let before = self.synced();
        self.queue.clear();
        self.disk.sync();
        let recovered = self.recover(&self.disk.cache);
        assert_eq!(recovered, self.recover(&self.disk.durable), "recovery is repeatable");
        let layout = self.log.layout().clone();
        let limits = Limits { group_bytes: 1024, ..Limits::default() };
        self.log =
            SymbolLog::recovered(layout, limits, &recovered, &self.done, &self.log.bad_runs());
        self.log.use_only(SLOTS);
        assert!(self.synced().is_superset(&before), "a synced symbol is lost");
    }

    fn recover(&self, octets: &[u8]) -> Recovered {
        let layout = self.log.layout();
        let mut recovery = Recovery::new(layout);
        assert_eq!(recovery.header(0, &layout.header(0)), HeaderCheck::Ours);
        let slots = octets.get(ObjectLayout::HEADER_BYTES..).unwrap_or_default();
        recovery.slots(SlotAddress { file: 0, index: 0 }, slots);
        recovery.finish()
    }

    fn synced(&self) -> BTreeSet<(Sbn, Esi)> {
        (0..BLOCKS)
            .map(Sbn)
            .filter(|sbn| !self.log.is_done(*sbn))
            .flat_map(|sbn| self.log.slots_of(sbn))
            .map(|slot| {
                let found = self.disk.durable_slot(self.log.layout(), slot);
                (found.0, found.1)
            })
            .collect()
    }

    /// Each claimed symbol is on the durable disk, bit for bit.
    fn check(&self) {
        let synced = self.synced();
        let claimed: u64 = (0..BLOCKS)
            .map(Sbn)
            .map(|sbn| if self.log.is_done(sbn) { 20 } else { self.log.synced(sbn).min(20) })
            .map(u64::from)
            .sum();
        assert_eq!(claimed, self.log.synced_total());
        assert_eq!(synced.len() as u64, self.log.slots_held());
        for (sbn, esi) in synced {
            assert!(self.log.holds(sbn, esi));
        }
    }
}

/// One log file. A sector that was written since the last sync may survive in any of its states.
#[derive(Default)]
struct Disk {
    durable: Vec<u8>,
    cache: Vec<u8>,
    states: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl Disk {
    fn write(&mut self, offset: usize, octets: &[u8]) {
        let end = (offset + octets.len()).next_multiple_of(SECTOR);
        self.cache.resize(self.cache.len().max(end), 0);
        self.durable.resize(self.cache.len(), 0);
        self.cache[offset..offset + octets.len()].copy_from_slice(octets);
        for sector in offset / SECTOR..end / SECTOR {
            let state = self.cache[sector * SECTOR..(sector + 1) * SECTOR].to_vec();
            self.states.entry(sector).or_default().push(state);
        }
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.cache);
        self.states.clear();
    }

    fn power_cut(&mut self, seed: u64) {
        let mut chance = seed;
        for (sector, states) in std::mem::take(&mut self.states) {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
            let choice = usize::try_from(chance >> 33).unwrap() % (states.len() + 1);
            if let Some(state) = choice.checked_sub(1).and_then(|kept| states.get(kept)) {
                self.durable[sector * SECTOR..(sector + 1) * SECTOR].copy_from_slice(state);
            }
        }
        self.cache.clone_from(&self.durable);
    }

    fn durable_slot(&self, layout: &ObjectLayout, slot: SlotAddress) -> (Sbn, Esi) {
        let at = usize::try_from(layout.offset(slot)).unwrap();
        let found = layout
            .parse_slot(&self.durable[at..at + layout.slot_size()])
            .expect("a claimed slot is whole on the durable disk");
        let exact = symbol_of(layout.symbol_size(), found.sbn, found.esi);
        assert_eq!(found.symbol, exact, "a claimed symbol is exact");
        (found.sbn, found.esi)
    }
}

const SECTOR: usize = 512;

/// An object of `blocks` blocks of `symbols` symbols of 64 octets, one octet short of full.
fn layout(blocks: u8, symbols: u32) -> ObjectLayout {
    layout_of(blocks, symbols, 64)
}

fn layout_of(blocks: u8, symbols: u32, symbol_size: u16) -> ObjectLayout {
    let symbol_bytes = u64::from(symbol_size);
    let oti = RaptorQOti::new(RaptorQParameters {
        transfer_length: u64::from(blocks) * u64::from(symbols) * symbol_bytes - 1,
        symbol_size,
        source_blocks: blocks,
        sub_blocks: 1,
        alignment: 8,
    });
    ObjectLayout::new(Hash16([3; 16]), Digest([4; 32]), oti.unwrap())
}

fn symbol(sbn: Sbn, esi: Esi) -> Vec<u8> {
    symbol_of(64, sbn, esi)
}

fn symbol_of(octets: usize, sbn: Sbn, esi: Esi) -> Vec<u8> {
    let words = (0..).flat_map(|i| [sbn.0.to_be_bytes(), (esi.0 ^ i).to_be_bytes()]);
    words.flatten().take(octets).collect()
}

fn slot(layout: &ObjectLayout, sbn: Sbn, esi: Esi) -> Vec<u8> {
    let symbol = symbol(sbn, esi);
    let mut out = Vec::new();
    layout.emit_slot(&mut out, sbn, esi, layout.tag(sbn, esi, &symbol), &symbol);
    out
}

fn flush_of(output: LogOutput) -> Option<Ticket> {
    match output {
        LogOutput::Flush(ticket) => Some(ticket),
        LogOutput::Write { .. } | LogOutput::Tables { .. } => None,
    }
}
