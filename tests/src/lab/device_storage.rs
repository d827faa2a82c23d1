//! Content of a device's folder, read with the receiver's own code and not changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use proto::{
    fec::{codec::BlockEncoder as _, oti::Oti, raptorq_crate::Encoder},
    ids::{Esi, Sbn},
};
use receiver::store::{
    CopyName, HeaderCheck, Journaler, ObjectLayout, Recovery, SlotAddress,
    journal_state::JournalState,
};

/// Content of a device's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceStorage {
    /// Symbols of blocks that are not decoded, each once.
    pub symbols: BTreeMap<Sbn, BTreeMap<Esi, Vec<u8>>>,
    /// Blocks that are decoded, by the journal.
    pub blocks: BTreeSet<Sbn>,
}

impl DeviceStorage {
    /// Returns the number of slots that count.
    pub fn slots(&self) -> u64 {
        self.symbols.values().map(|symbols| count(symbols.len())).sum()
    }

    /// Returns slots, and K for each decoded block.
    pub fn stored(&self, layout: &ObjectLayout) -> u64 {
        let decoded = self.blocks.iter().filter_map(|sbn| layout.block_symbols(*sbn));
        self.slots() + decoded.map(u64::from).sum::<u64>()
    }

    /// Returns how many of the symbols are not those of the image: none, or a promise is broken.
    pub fn wrong_symbols(&self, layout: &ObjectLayout, image: &[u8]) -> u64 {
        let wrong = |(sbn, symbols): (&Sbn, &BTreeMap<Esi, Vec<u8>>)| {
            wrong_in_block(layout, image, *sbn, symbols)
        };
        self.symbols.iter().map(wrong).sum()
    }
}

/// Reads the data directory of a device that does not run.
///
/// # Errors
///
/// When a file is there and cannot be read.
pub fn read(data: &Path, layout: &ObjectLayout) -> io::Result<DeviceStorage> {
    let blocks = decoded_blocks(data, layout)?;
    let folder = data.join("objects").join(layout.directory_name());
    let mut symbols: BTreeMap<Sbn, BTreeMap<Esi, Vec<u8>>> = BTreeMap::new();
    for file in 0..layout.files() {
        let octets = read_if_there(&folder.join(format!("log.{file}")))?;
        let (header, slots) =
            octets.split_at_checked(ObjectLayout::HEADER_BYTES).unwrap_or_default();
        let mut recovery = Recovery::new(layout);
        if recovery.header(file, header) != HeaderCheck::Ours {
            continue;
        }
        recovery.slots(SlotAddress { file, index: 0 }, slots);
        let records: Vec<_> = slots.chunks_exact(layout.slot_size()).collect();
        for found in recovery.finish().slots {
            let index = usize::try_from(found.slot.index).unwrap_or(usize::MAX);
            let slot = records.get(index).and_then(|record| layout.parse_slot(record));
            if let Some(slot) = slot.filter(|slot| !blocks.contains(&slot.sbn)) {
                let block = symbols.entry(slot.sbn).or_default();
                block.entry(slot.esi).or_insert_with(|| slot.symbol.to_vec());
            }
        }
    }
    Ok(DeviceStorage { symbols, blocks })
}

fn decoded_blocks(data: &Path, layout: &ObjectLayout) -> io::Result<BTreeSet<Sbn>> {
    let [a, b] = CopyName::BOTH.map(|copy| read_if_there(&data.join(copy.file_name())));
    let (_, state) = Journaler::recover::<JournalState>([&a?, &b?]).map_err(io::Error::other)?;
    let key = layout.object_key();
    let objects = state.map(|state| state.objects).unwrap_or_default();
    let object = objects.iter().find(|object| object.object_key == key.0);
    Ok(object.map(|object| object.done()).unwrap_or_default())
}

fn read_if_there(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn wrong_in_block(
    layout: &ObjectLayout,
    image: &[u8],
    sbn: Sbn,
    symbols: &BTreeMap<Esi, Vec<u8>>,
) -> u64 {
    let block = layout.block_place(sbn).and_then(|place| {
        let start = usize::try_from(place.offset).ok()?;
        let end = start.checked_add(usize::try_from(place.octets).ok()?)?;
        image.get(start..end.min(image.len()))
    });
    let (Some(block), Some(source)) = (block, layout.block_symbols(sbn)) else {
        return count(symbols.len());
    };
    // Source symbols are the image itself; only repair symbols need the (slow) encoder.
    let repair = symbols.keys().any(|esi| esi.0 >= source);
    let encoder = match layout.oti() {
        Oti::RaptorQ(oti) if repair => Encoder::new(oti, sbn, block),
        Oti::RaptorQ(_) | Oti::NoCode(_) => None,
    };
    let is_true = |esi: Esi, symbol: &[u8]| match &encoder {
        Some(encoder) if esi.0 >= source => {
            let mut same = false;
            encoder.for_each_symbol(esi.0..esi.0 + 1, &mut |_, octets| same = octets == symbol);
            same
        }
        Some(_) | None => is_source_symbol(block, esi, symbol),
    };
    count(symbols.iter().filter(|(esi, symbol)| !is_true(**esi, symbol)).count())
}

/// Returns whether a symbol is that of the block, the last one padded with zeros.
fn is_source_symbol(block: &[u8], esi: Esi, symbol: &[u8]) -> bool {
    let start = usize::try_from(esi.0).ok().and_then(|esi| esi.checked_mul(symbol.len()));
    let expected = start.and_then(|start| block.get(start..)).unwrap_or_default();
    let expected = expected.get(..symbol.len()).unwrap_or(expected);
    let (front, padding) = symbol.split_at_checked(expected.len()).unwrap_or_default();
    !expected.is_empty() && front == expected && padding.iter().all(|octet| *octet == 0)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proto::{
        crypto::sha256,
        fec::oti::{RaptorQOti, RaptorQParameters},
        trust::plan::object_key,
    };

    use super::*;

    const IMAGE_BYTES: usize = 10 * 64 - 5;

    #[test]
    fn slots_are_read_as_the_receiver_wrote_them_and_decoded_blocks_count_whole() {
        let (image, layout) = planned();
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), &layout).unwrap(), DeviceStorage::default());

        let slots = [(0, 0), (0, 1), (0, 0), (1, 4), (1, 9)];
        write_log(folder.path(), &layout, &image, &slots);
        let stored = read(folder.path(), &layout).unwrap();
        assert_eq!((stored.slots(), stored.stored(&layout)), (4, 4));
        assert_eq!(stored.wrong_symbols(&layout, &image), 0);

        write_journal(folder.path(), &layout, Sbn(0));
        let stored = read(folder.path(), &layout).unwrap();
        assert_eq!((stored.slots(), stored.stored(&layout)), (2, 2 + 5));
    }

    #[test]
    fn a_symbol_that_is_not_of_the_image_is_counted_as_wrong() {
        let (mut image, layout) = planned();
        let folder = tempfile::tempdir().unwrap();
        write_log(folder.path(), &layout, &image, &[(0, 0), (0, 1), (0, 7), (1, 4), (1, 9)]);
        let stored = read(folder.path(), &layout).unwrap();
        assert_eq!(stored.wrong_symbols(&layout, &image), 0);
        image[64] ^= 1;
        // The source symbol, and the repair symbol that depends on it.
        assert_eq!(stored.wrong_symbols(&layout, &image), 2);
    }

    fn planned() -> (Vec<u8>, ObjectLayout) {
        let image: Vec<u8> = (0..=255).cycle().take(IMAGE_BYTES).collect();
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: count(image.len()),
            symbol_size: 64,
            source_blocks: 2,
            sub_blocks: 1,
            alignment: 8,
        })
        .unwrap();
        let digest = sha256(&[&image]);
        let layout = ObjectLayout::new(object_key(&digest, &oti), digest, oti);
        (image, layout)
    }

    fn write_log(data: &Path, layout: &ObjectLayout, image: &[u8], slots: &[(u32, u32)]) {
        let mut log = layout.header(0);
        log.resize(ObjectLayout::HEADER_BYTES, 0);
        for (sbn, esi) in slots {
            let (sbn, esi) = (Sbn(*sbn), Esi(*esi));
            let place = layout.block_place(sbn).unwrap();
            let start = usize::try_from(place.offset).unwrap();
            let end = (start + usize::try_from(place.octets).unwrap()).min(image.len());
            let Oti::RaptorQ(oti) = layout.oti() else { panic!("a campaign's object") };
            let encoder = Encoder::new(oti, sbn, &image[start..end]).unwrap();
            encoder.for_each_symbol(esi.0..esi.0 + 1, &mut |_, symbol| {
                layout.emit_slot(&mut log, sbn, esi, layout.tag(sbn, esi, symbol), symbol);
            });
        }
        let folder = data.join("objects").join(layout.directory_name());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("log.0"), log).unwrap();
    }

    fn write_journal(data: &Path, layout: &ObjectLayout, done: Sbn) {
        let mut progress = receiver::store::journal_state::ObjectProgress {
            object_key: layout.object_key().0.to_vec(),
            ..Default::default()
        };
        progress.mark_done(done);
        let state = JournalState { objects: vec![progress], ..Default::default() };
        let (journaler, _) = Journaler::recover::<JournalState>([&[], &[]]).unwrap();
        let write = journaler.write(&state).unwrap();
        fs::write(data.join(write.copy.file_name()), write.octets).unwrap();
    }
}
