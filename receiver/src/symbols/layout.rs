//! Where everything of one object lies on disk, and the octets of log headers and slots.

use proto::{
    crypto::{Digest, Hash16, h16},
    fec::{oti::RaptorQOti, partition::Partition},
    ids::{Esi, Sbn},
    trust::plan::leaf,
    wire::{Reader, WireError, Writer},
};

/// The layout of one object's directory, derived from the object's identity alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectLayout {
    object_key: Hash16,
    stored_sha256: Digest,
    oti: RaptorQOti,
    partition: Partition,
    slot_size: usize,
    slots_per_file: u32,
    files: u32,
}

/// Where a slot lies: the log's number, and the place in it counted in slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotAddress {
    /// Number of the log file.
    pub file: u32,
    /// Place within the file, counted in slots.
    pub index: u32,
}

/// Where a source block lies in the image.
///
/// # Units
///
/// Octets. The last block ends with the object, not with the padding of its last symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlace {
    /// Offset of the block's first octet.
    pub offset: u64,
    /// Octets of the block that belong to the object.
    pub octets: u64,
}

/// What a log header says about its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderCheck {
    /// The file belongs to this object and stands where it should.
    Ours,
    /// No valid header: the file was not reserved to its end, or is damaged.
    Damaged,
    /// A valid header of another object, another place or another format version.
    Foreign,
}

/// A record that was found whole in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot<'a> {
    /// Source block of the symbol.
    pub sbn: Sbn,
    /// The symbol's id in its block.
    pub esi: Esi,
    /// The symbol.
    pub symbol: &'a [u8],
}

impl ObjectLayout {
    /// Octets of one log file.
    pub const FILE_OCTETS: u64 = 16 << 20;
    /// Octets in front of the first slot.
    pub const HEADER_OCTETS: usize = 4096;
    /// Symbols of a block that are kept beyond its source symbols.
    pub const SPARE_PER_BLOCK: u32 = 16;

    /// Lays out the object `object_key` whose octets hash to `stored_sha256`.
    ///
    /// # Panics
    ///
    /// Never: checked parameters have at most 255 blocks of 56,403 symbols.
    #[must_use]
    pub fn new(object_key: Hash16, stored_sha256: Digest, oti: RaptorQOti) -> Self {
        let partition = oti.partition();
        let slot_size = (SLOT_HEAD + usize::from(oti.parameters().symbol_size))
            .next_multiple_of(SLOT_ALIGNMENT);
        let file_octets = usize::try_from(Self::FILE_OCTETS).expect("16 MiB is a usize");
        let slots_per_file = u32::try_from((file_octets - Self::HEADER_OCTETS) / slot_size)
            .expect("16 MiB hold fewer than 2^32 slots");
        let wanted = u64::from(oti.total_symbols())
            + u64::from(partition.blocks()) * u64::from(Self::SPARE_PER_BLOCK);
        let files = u32::try_from(wanted.div_ceil(u64::from(slots_per_file)))
            .expect("255 blocks of 56,403 symbols fit in 2^32 files");
        Self { object_key, stored_sha256, oti, partition, slot_size, slots_per_file, files }
    }

    /// Returns the key that ties every record to this object.
    #[must_use]
    pub const fn object_key(&self) -> Hash16 {
        self.object_key
    }

    /// Returns the digest of the whole object.
    #[must_use]
    pub const fn stored_sha256(&self) -> Digest {
        self.stored_sha256
    }

    /// Returns the object's FEC parameters.
    #[must_use]
    pub const fn oti(&self) -> &RaptorQOti {
        &self.oti
    }

    /// Returns the name of the object's directory: a key of ours, never a name from the network.
    #[must_use]
    pub fn directory_name(&self) -> String {
        let mut name = self.object_key.to_string();
        name.truncate(16);
        name
    }

    /// Returns the octets of a symbol.
    #[must_use]
    pub fn symbol_size(&self) -> usize {
        usize::from(self.oti.parameters().symbol_size)
    }

    /// Returns the octets of a slot.
    #[must_use]
    pub const fn slot_size(&self) -> usize {
        self.slot_size
    }

    /// Returns how many slots a log file holds.
    #[must_use]
    pub const fn slots_per_file(&self) -> u32 {
        self.slots_per_file
    }

    /// Returns how many log files the object needs.
    #[must_use]
    pub const fn files(&self) -> u32 {
        self.files
    }

    /// Returns how many slots all log files hold together.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.files.saturating_mul(self.slots_per_file)
    }

    /// Returns the octets that the object takes on disk: its logs and its image.
    #[must_use]
    pub fn storage_octets(&self) -> u64 {
        u64::from(self.files) * Self::FILE_OCTETS + self.image_octets()
    }

    /// Returns the octets of the image.
    #[must_use]
    pub fn image_octets(&self) -> u64 {
        self.oti.parameters().transfer_length
    }

    /// Returns the number of source blocks.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        u32::from(self.oti.parameters().source_blocks)
    }

    /// Returns the number of source symbols of all blocks.
    #[must_use]
    pub fn total_symbols(&self) -> u32 {
        self.oti.total_symbols()
    }

    /// Returns the number of source symbols of block `sbn`, when there is such a block.
    #[must_use]
    pub fn block_symbols(&self, sbn: Sbn) -> Option<u32> {
        self.partition.symbols_of(sbn)
    }

    /// Returns where block `sbn` lies in the image, when there is such a block.
    #[must_use]
    pub fn block_place(&self, sbn: Sbn) -> Option<BlockPlace> {
        let symbol = u64::from(self.oti.parameters().symbol_size);
        let offset = self.partition.first_symbol(sbn)?.checked_mul(symbol)?;
        let padded = u64::from(self.partition.symbols_of(sbn)?) * symbol;
        Some(BlockPlace { offset, octets: padded.min(self.image_octets().checked_sub(offset)?) })
    }

    /// Returns the offset of a slot in its file.
    #[must_use]
    pub fn offset(&self, slot: SlotAddress) -> u64 {
        Self::HEADER_OCTETS as u64 + u64::from(slot.index) * self.slot_size as u64
    }

    /// Returns the place of slot `number` when slots are counted through all files.
    pub(super) const fn address(&self, number: u32) -> SlotAddress {
        SlotAddress { file: number / self.slots_per_file, index: number % self.slots_per_file }
    }

    /// Returns the number of a slot when slots are counted through all files.
    pub(super) fn number(&self, slot: SlotAddress) -> Option<u32> {
        (slot.file < self.files && slot.index < self.slots_per_file)
            .then(|| slot.file * self.slots_per_file + slot.index)
    }

    /// Returns the tag of a symbol: its leaf in the plan, so that storing adds no second hash.
    #[must_use]
    pub fn tag(&self, sbn: Sbn, esi: Esi, symbol: &[u8]) -> Hash16 {
        leaf(&self.object_key, sbn, esi, symbol)
    }

    /// Returns the header of log file `file`.
    #[must_use]
    pub fn header(&self, file: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::HEADER_OCTETS);
        Writer::new(&mut out)
            .bytes(HEADER_MAGIC)
            .u32(FORMAT_VERSION)
            .bytes(&self.object_key.0)
            .bytes(&self.stored_sha256.0)
            .u8(FEC_RAPTORQ)
            .bytes(&self.oti.octets())
            .zeros(3)
            .u32(u32::try_from(self.slot_size).expect("a slot is shorter than 2 KiB"))
            .u32(file);
        out.resize(Self::HEADER_OCTETS - Hash16::LEN, 0);
        let hash = h16(&[&out]);
        Writer::new(&mut out).bytes(&hash.0);
        out
    }

    /// Judges the first octets of log file `file`.
    #[must_use]
    pub fn check_header(&self, file: u32, octets: &[u8]) -> HeaderCheck {
        let Some((text, hash)) = octets
            .get(..Self::HEADER_OCTETS)
            .and_then(|header| header.split_at_checked(Self::HEADER_OCTETS - Hash16::LEN))
        else {
            return HeaderCheck::Damaged;
        };
        if !text.starts_with(HEADER_MAGIC) || h16(&[text]).0 != hash {
            HeaderCheck::Damaged
        } else if octets.get(..Self::HEADER_OCTETS) == Some(self.header(file).as_slice()) {
            HeaderCheck::Ours
        } else {
            HeaderCheck::Foreign
        }
    }

    /// Appends the record of one symbol to `out`: exactly one slot.
    pub fn emit_slot(&self, out: &mut Vec<u8>, sbn: Sbn, esi: Esi, tag: Hash16, symbol: &[u8]) {
        debug_assert_eq!(symbol.len(), self.symbol_size(), "symbols of an object have one size");
        let start = out.len();
        Writer::new(out)
            .bytes(SLOT_MAGIC)
            .u32(sbn.0)
            .u32(esi.0)
            .zeros(4)
            .bytes(&tag.0)
            .bytes(symbol);
        out.resize(start + self.slot_size, 0);
    }

    /// Reads a slot; `None` when it holds no whole record of this object.
    #[must_use]
    pub fn parse_slot<'a>(&self, octets: &'a [u8]) -> Option<Slot<'a>> {
        self.read_slot(octets).ok().flatten()
    }

    fn read_slot<'a>(&self, octets: &'a [u8]) -> Result<Option<Slot<'a>>, WireError> {
        let mut input = Reader::new(octets);
        let magic = input.array("slot magic")?;
        let (sbn, esi) = (Sbn(input.u32("SBN")?), Esi(input.u32("ESI")?));
        let flags = input.u32("slot flags")?;
        if magic != *SLOT_MAGIC || flags != 0 || !self.in_range(sbn, esi) {
            return Ok(None);
        }
        let tag = Hash16(input.array("tag")?);
        let symbol = input.take(self.symbol_size(), "symbol")?;
        Ok((self.tag(sbn, esi, symbol) == tag).then_some(Slot { sbn, esi, symbol }))
    }

    /// Returns whether the object can have such a symbol.
    pub(super) fn in_range(&self, sbn: Sbn, esi: Esi) -> bool {
        sbn.0 < self.blocks() && esi.0 <= LAST_ESI
    }
}

const HEADER_MAGIC: &[u8] = b"FCLG";
const SLOT_MAGIC: &[u8; 4] = b"SYM1";
const FORMAT_VERSION: u32 = 1;
const FEC_RAPTORQ: u8 = 6;
const SLOT_HEAD: usize = 32;
const SLOT_ALIGNMENT: usize = 64;
const LAST_ESI: u32 = (1 << 24) - 1;
