use std::collections::BTreeMap;

use proto::{
    crypto::{Hash16, sha256},
    fec::{
        codec::BlockEncoder as _,
        oti::{NoCodeOti, RaptorQOti, RaptorQParameters},
        raptorq_crate::Encoder,
    },
    ids::Esi,
};

use super::*;

const SYMBOL: u64 = 64;

#[test]
fn a_block_is_decoded_from_any_mix_of_symbols_and_written_to_its_range() {
    let mut bench = Bench::new();
    let slots = bench.store(1, (5..12).chain(40..56));
    assert_eq!(bench.job(1, slots).run(&mut bench.files), DecodeOutcome::Done);
    let place = bench.layout.block_place(Sbn(1)).unwrap();
    assert_eq!((place.offset, place.octets), (20 * SYMBOL, 20 * SYMBOL - 9));
    let tail = &bench.image[usize::try_from(place.offset).unwrap()..];
    assert_eq!(bench.files.written, [(place, tail.to_vec())]);
}

#[test]
fn source_symbols_alone_are_enough() {
    let mut bench = Bench::new();
    let slots = bench.store(0, 0..20);
    assert_eq!(bench.job(0, slots).run(&mut bench.files), DecodeOutcome::Done);
    assert_eq!(bench.files.written[0].1, &bench.image[..1280]);
}

#[test]
fn one_symbol_short_is_not_enough() {
    let mut bench = Bench::new();
    let slots = bench.store(0, 1..20);
    assert_eq!(bench.job(0, slots).run(&mut bench.files), DecodeOutcome::NeedsMore);
    assert_eq!(bench.files.written, []);
}

#[test]
fn damaged_and_misplaced_records_are_reported_and_never_decoded() {
    let mut bench = Bench::new();
    let mut slots = bench.store(0, 0..20);
    let foreign = bench.store(1, 0..1);
    bench.files.slots.get_mut(&slots[4]).unwrap()[90] ^= 1;
    bench.files.slots.remove(&slots[9]);
    let expected = vec![slots[4], slots[9], foreign[0]];
    slots.push(foreign[0]);
    let outcome = bench.job(0, slots).run(&mut bench.files);
    assert_eq!(outcome, DecodeOutcome::LostSlots(expected));
    assert_eq!(bench.files.written, []);
}

#[test]
fn a_damaged_record_does_not_matter_when_the_others_suffice() {
    let mut bench = Bench::new();
    let slots = bench.store(0, 0..24);
    bench.files.slots.get_mut(&slots[4]).unwrap()[90] ^= 1;
    assert_eq!(bench.job(0, slots).run(&mut bench.files), DecodeOutcome::Done);
    assert_eq!(bench.files.written[0].1, &bench.image[..1280]);
}

#[test]
fn a_full_disk_is_named() {
    let mut bench = Bench::new();
    bench.files.full = true;
    let slots = bench.store(0, 0..20);
    let attempted = "write block 0 to the image".to_owned();
    assert_eq!(
        bench.job(0, slots).run(&mut bench.files),
        DecodeOutcome::Failed(StorageError::NoSpace { attempted })
    );
}

#[test]
fn a_no_code_block_is_copied_in_pieces_whatever_the_order_of_its_records() {
    let content: Vec<u8> = (0_u32..).map(|i| (i.pow(2) >> 3).to_le_bytes()[0]).take(635).collect();
    let oti = Oti::NoCode(NoCodeOti::new(635, 64, 10).unwrap());
    let digest = sha256(&[&content]);
    let layout = ObjectLayout::new(Hash16([1; 16]), digest, oti);
    let mut files = Memory { slot_size: layout.slot_size(), ..Memory::default() };
    let mut slots = Vec::new();
    for (at, esi) in (0..).zip([7, 3, 9, 0, 1, 2, 8, 5, 4, 6]) {
        let mut symbol = content.chunks(64).nth(esi).unwrap().to_vec();
        symbol.resize(64, 0);
        let (sbn, esi) = (Sbn(0), Esi(u32::try_from(esi).unwrap()));
        let mut record = Vec::new();
        layout.emit_slot(&mut record, sbn, esi, layout.tag(sbn, esi, &symbol), &symbol);
        let slot = SlotAddress { file: 0, index: at };
        files.slots.insert(slot, record);
        slots.push(slot);
    }
    let place = layout.block_place(Sbn(0)).unwrap();
    let job = DecodeJob { layout, sbn: Sbn(0), slots };
    assert_eq!(job.run_in_pieces(&mut files, place, 200), DecodeOutcome::Done);
    let offsets: Vec<_> = files.written.iter().map(|(place, _)| place.offset).collect();
    assert_eq!(offsets, [0, 192, 384, 576]);
    let written: Vec<u8> = files.written.iter().flat_map(|(_, piece)| piece.clone()).collect();
    assert_eq!(written, content);

    files.slots.get_mut(&job.slots[4]).unwrap()[90] ^= 1;
    let lost = DecodeOutcome::LostSlots(vec![job.slots[4]]);
    assert_eq!(job.run_in_pieces(&mut files, place, 200), lost);
    let short = DecodeJob { slots: job.slots[..9].to_vec(), ..job.clone() };
    files.slots.get_mut(&job.slots[4]).unwrap()[90] ^= 1;
    assert_eq!(short.run_in_pieces(&mut files, place, 200), DecodeOutcome::NeedsMore);
}

struct Bench {
    image: Vec<u8>,
    layout: ObjectLayout,
    files: Memory,
    next: u32,
}

impl Bench {
    fn new() -> Self {
        let image: Vec<u8> =
            (0_u32..).map(|i| (i.pow(2) >> 3).to_le_bytes()[0]).take(2551).collect();
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: image.len() as u64,
            symbol_size: 64,
            source_blocks: 2,
            sub_blocks: 1,
            alignment: 8,
        })
        .unwrap();
        let layout = ObjectLayout::new(Hash16([1; 16]), sha256(&[&image]), oti);
        let files = Memory { slot_size: layout.slot_size(), ..Memory::default() };
        Self { image, layout, files, next: 0 }
    }

    fn store(&mut self, sbn: u32, esis: impl IntoIterator<Item = u32>) -> Vec<SlotAddress> {
        let (sbn, block) = (Sbn(sbn), self.layout.block_place(Sbn(sbn)).unwrap());
        let from = usize::try_from(block.offset).unwrap();
        let octets = &self.image[from..from + usize::try_from(block.octets).unwrap()];
        let encoder = Encoder::new(&raptorq(&self.layout), sbn, octets).unwrap();
        let mut slots = Vec::new();
        for esi in esis {
            let mut record = Vec::new();
            encoder.for_each_symbol(esi..esi + 1, &mut |esi: Esi, symbol: &[u8]| {
                let tag = self.layout.tag(sbn, esi, symbol);
                self.layout.emit_slot(&mut record, sbn, esi, tag, symbol);
            });
            let slot = SlotAddress { file: self.next / 30, index: self.next % 30 };
            self.next += 1;
            self.files.slots.insert(slot, record);
            slots.push(slot);
        }
        slots
    }

    fn job(&self, sbn: u32, slots: Vec<SlotAddress>) -> DecodeJob {
        DecodeJob { layout: self.layout.clone(), sbn: Sbn(sbn), slots }
    }
}

#[derive(Default)]
struct Memory {
    slot_size: usize,
    slots: BTreeMap<SlotAddress, Vec<u8>>,
    written: Vec<(BlockPlace, Vec<u8>)>,
    full: bool,
}

impl BlockFiles for Memory {
    fn read_slots(&mut self, first: SlotAddress, octets: &mut [u8]) -> io::Result<()> {
        for (index, out) in (first.index..).zip(octets.chunks_exact_mut(self.slot_size)) {
            let slot = SlotAddress { file: first.file, index };
            let record = self.slots.get(&slot).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(record);
        }
        Ok(())
    }

    fn write_block(&mut self, place: BlockPlace, octets: &[u8]) -> io::Result<()> {
        if self.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.push((place, octets.to_vec()));
        Ok(())
    }
}

fn raptorq(layout: &ObjectLayout) -> RaptorQOti {
    match layout.oti() {
        proto::fec::oti::Oti::RaptorQ(oti) => *oti,
        proto::fec::oti::Oti::NoCode(_) => unreachable!("these tests use RaptorQ"),
    }
}
