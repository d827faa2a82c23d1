//! Decoding one source block, off the network path.
//!
//! The job reads the block's records back from the logs, checks each tag again, decodes, and writes
//! the block to its offset in the image. One block at a time; besides the memory of the decoder it
//! has one read buffer, and never a second copy of the block.

use std::io;

use proto::{
    fec::{codec::BlockDecoder, nocode, oti::Oti, raptorq_crate},
    ids::{Esi, Sbn},
};

use crate::store::{BlockPlace, ObjectLayout, SlotAddress, StorageError};

/// The files of one object, as far as decoding needs them.
pub trait BlockFiles {
    /// Fills `octets` with the slots from `first` on.
    ///
    /// # Errors
    ///
    /// Any error of the read, the end of the file included.
    fn read_slots(&mut self, first: SlotAddress, octets: &mut [u8]) -> io::Result<()>;

    /// Writes a block to its place in the image and syncs it.
    ///
    /// # Errors
    ///
    /// Any error of the write or the sync; nothing is retried.
    fn write_block(&mut self, place: BlockPlace, octets: &[u8]) -> io::Result<()>;
}

/// One attempt to decode a source block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeJob {
    /// The object.
    pub layout: ObjectLayout,
    /// The block.
    pub sbn: Sbn,
    /// The addresses of its synced symbols, in the order of the files.
    pub slots: Vec<SlotAddress>,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeOutcome {
    /// The block is synced in the image; the journal may record it.
    Done,
    /// At least one more symbol is needed.
    NeedsMore,
    /// These records are damaged, and without them it is not enough.
    LostSlots(Vec<SlotAddress>),
    /// The image cannot be written.
    Failed(StorageError),
}

impl DecodeJob {
    /// Makes the attempt. Blocks: seconds for a large block.
    pub fn run(&self, files: &mut impl BlockFiles) -> DecodeOutcome {
        let Some(place) = self.layout.block_place(self.sbn) else {
            return DecodeOutcome::NeedsMore;
        };
        match self.layout.oti() {
            Oti::NoCode(_) if place.octets > PIECE_BYTES as u64 => {
                return self.run_in_pieces(files, place, PIECE_BYTES);
            }
            Oti::NoCode(_) | Oti::RaptorQ(_) => {}
        }
        let Some(mut decoder) = decoder(self.layout.oti(), self.sbn) else {
            return DecodeOutcome::NeedsMore;
        };
        let lost = self.feed(files, decoder.as_mut());
        let block = decoder.decode();
        drop(decoder);
        match block {
            Some(block) => self.write(files, place, &block),
            None if lost.is_empty() => DecodeOutcome::NeedsMore,
            None => DecodeOutcome::LostSlots(lost),
        }
    }

    /// Copies the symbols of a No-Code block to the image, a piece at a time: nothing is solved, so
    /// memory does not grow with the block.
    fn run_in_pieces(
        &self,
        files: &mut impl BlockFiles,
        place: BlockPlace,
        piece_bytes: usize,
    ) -> DecodeOutcome {
        let symbols = self.layout.block_symbols(self.sbn).unwrap_or_default();
        let mut slots = vec![None; usize::try_from(symbols).unwrap_or_default()];
        let mut lost = self.each_record(files, &self.slots, &mut |slot, esi, _| {
            if let Some(of) = usize::try_from(esi.0).ok().and_then(|esi| slots.get_mut(esi)) {
                *of = Some(slot);
            }
        });
        let Some(slots) = slots.into_iter().collect::<Option<Vec<_>>>() else {
            return match lost.is_empty() {
                true => DecodeOutcome::NeedsMore,
                false => DecodeOutcome::LostSlots(lost),
            };
        };
        let per_piece = (piece_bytes / self.layout.symbol_size()).max(1);
        let mut offset = 0;
        for slots in slots.chunks(per_piece) {
            let mut piece = Vec::with_capacity(slots.len() * self.layout.symbol_size());
            lost = self.each_record(files, slots, &mut |_, _, symbol| piece.extend(symbol));
            if !lost.is_empty() {
                return DecodeOutcome::LostSlots(lost);
            }
            let octets = (piece.len() as u64).min(place.octets.saturating_sub(offset));
            let part = BlockPlace { offset: place.offset + offset, octets };
            let outcome = self.write(files, part, &piece);
            if outcome != DecodeOutcome::Done {
                return outcome;
            }
            offset += octets;
        }
        DecodeOutcome::Done
    }

    /// Hands every whole record to the decoder; returns the others.
    fn feed(
        &self,
        files: &mut impl BlockFiles,
        decoder: &mut dyn BlockDecoder,
    ) -> Vec<SlotAddress> {
        self.each_record(files, &self.slots, &mut |_, esi, symbol| decoder.push(esi, symbol))
    }

    /// Hands on every whole record of the block in these slots; returns the other slots.
    fn each_record(
        &self,
        files: &mut impl BlockFiles,
        slots: &[SlotAddress],
        receive: &mut dyn FnMut(SlotAddress, Esi, &[u8]),
    ) -> Vec<SlotAddress> {
        let mut lost = Vec::new();
        let slot_size = self.layout.slot_size();
        let mut buffer = vec![0; (READ_BYTES / slot_size).max(1) * slot_size];
        for run in runs(slots, buffer.len() / slot_size) {
            let Some(first) = run.first() else { continue };
            let octets = buffer.get_mut(..run.len() * slot_size).unwrap_or_default();
            let whole_run = files.read_slots(*first, octets).is_ok();
            for (slot, record) in run.iter().zip(octets.chunks_exact_mut(slot_size)) {
                // One bad sector must not cost its neighbours: read each slot alone then.
                let readable = whole_run || files.read_slots(*slot, record).is_ok();
                match self.layout.parse_slot(record).filter(|_| readable) {
                    Some(found) if found.sbn == self.sbn => {
                        receive(*slot, found.esi, found.symbol);
                    }
                    Some(_) | None => lost.push(*slot),
                }
            }
        }
        lost
    }

    fn write(&self, files: &mut impl BlockFiles, place: BlockPlace, block: &[u8]) -> DecodeOutcome {
        let octets = usize::try_from(place.octets).ok().and_then(|octets| block.get(..octets));
        let octets = octets.expect("a solved block holds all its symbols");
        match files.write_block(place, octets) {
            Ok(()) => DecodeOutcome::Done,
            Err(error) => {
                let attempted = format!("write block {} to the image", self.sbn.0);
                DecodeOutcome::Failed(StorageError::while_doing(attempted)(error))
            }
        }
    }
}

/// Cuts slots into runs that lie one after the other, `longest` slots at most.
fn runs(slots: &[SlotAddress], longest: usize) -> impl Iterator<Item = &[SlotAddress]> {
    slots
        .chunk_by(|a, b| a.file == b.file && a.index.checked_add(1) == Some(b.index))
        .flat_map(move |run| run.chunks(longest))
}

/// Returns a decoder of the object's scheme; `None` when it has no such block.
#[must_use]
pub fn decoder(oti: &Oti, sbn: Sbn) -> Option<Box<dyn BlockDecoder>> {
    Some(match oti {
        Oti::NoCode(oti) => Box::new(nocode::Decoder::new(oti, sbn)?),
        Oti::RaptorQ(oti) => Box::new(raptorq_crate::Decoder::new(oti, sbn)?),
    })
}

/// Octets that are read at once.
const READ_BYTES: usize = 256 << 10;
/// Octets of a No-Code block that are copied at once.
const PIECE_BYTES: usize = 4 << 20;

#[cfg(test)]
mod tests;
