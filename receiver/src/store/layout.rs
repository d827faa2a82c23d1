//! The layout of one object on disk, and the octets of log headers and slots.

use std::net::IpAddr;

use proto::{
    crypto::{Digest, Hash16, h16},
    fec::{
        oti::{Oti, RAPTORQ_ESI_LIMIT},
        partition::Partition,
    },
    flute::{content_encoding::ContentEncoding, ext::ExtensionWriter},
    ids::{Esi, Sbn, Toi, Tsi},
    trust::plan::leaf,
    wire::{Reader, WireError, Writer},
};

/// The layout of one object's directory, derived from the object's identity alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectLayout {
    object_key: Hash16,
    content: Content,
    oti: Oti,
    partition: Partition,
    /// Octets of a symbol.
    symbol_size: usize,
    /// Octets of a slot: a record, padded.
    slot_size: usize,
    /// Slots of a full file.
    slots_per_file: u32,
    /// Slots of all files.
    slots: u32,
}

/// The expected content of an object, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An image of a signed campaign: it hashes to this, and stays in the object's directory.
    Image(Digest),
    /// An unsigned file.
    File(Box<UnsignedContent>),
}

/// Content of an unsigned file, as its FDT describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedContent {
    /// Its name in the output directory: one of ours, never one from the network.
    pub name: String,
    /// The digest of its `Content-MD5`, when it has one: as it was sent, or with its content
    /// encoding decoded.
    pub md5: Option<[u8; 16]>,
    /// The content encoding to decode.
    pub encoded: Option<Encoded>,
    /// Set when it is empty: then nothing is sent of it, and its parameters have no meaning.
    pub is_empty: bool,
}

impl UnsignedContent {
    /// Returns the name of an incomplete file: one for each key, so that no two versions of a file
    /// write into one.
    #[must_use]
    pub fn part_name(name: &str, directory: &str) -> String {
        format!("{name}~{directory}{PART}")
    }

    /// Returns whether a file of the output directory is an incomplete one.
    #[must_use]
    pub fn is_part_name(name: &str) -> bool {
        let key = name.strip_suffix(PART).and_then(|name| name.rsplit_once('~'));
        key.is_some_and(|(_, key)| {
            key.len() == 16 && key.bytes().all(|digit| digit.is_ascii_hexdigit())
        })
    }
}

/// A content encoding that is decoded when all octets are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// The encoding.
    pub encoding: ContentEncoding,
    /// Decoded octets, where that is known.
    pub length: Option<u64>,
    /// Limit of the decoded octets.
    pub limit: u64,
}

/// Identity of an object of an unsigned session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnsignedIdentity {
    /// Address of the sender.
    pub source: IpAddr,
    /// The FLUTE session.
    pub tsi: Tsi,
    /// The object.
    pub toi: Toi,
}

/// Description of an object of an unsigned session, as far as it tells one content from another.
///
/// # Source
///
/// Security facts 6.2, `fcplain2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsignedDescription {
    /// Octets of the file; of the transferred object where the file's are not known.
    pub length: u64,
    /// Its `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// Number of the content that has this TOI, counted from 0 in a run; 0 with a digest, which
    /// tells contents apart by itself.
    pub generation: u32,
    /// Hash of its `Content-Location`, octets as received.
    pub location: Hash16,
}

impl UnsignedDescription {
    /// Returns the hash of a `Content-Location`.
    #[must_use]
    pub fn location_hash(location: &str) -> Hash16 {
        h16(&[location.as_bytes()])
    }
}

impl UnsignedIdentity {
    /// Returns the key that ties records to the object with these parameters and this description.
    #[must_use]
    pub fn object_key(&self, oti: &Oti, described: &UnsignedDescription) -> Hash16 {
        let source = match self.source {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        h16(&[
            // spec: security 6 (what was described is part of the key)
            b"fcplain2",
            &source.octets(),
            &self.tsi.0.to_be_bytes(),
            &self.toi.0.to_be_bytes(),
            &[oti.encoding_id()],
            &information(oti),
            &described.length.to_be_bytes(),
            &described.md5.unwrap_or_default(),
            &described.generation.to_be_bytes(),
            &described.location.0,
        ])
    }
}

/// Returns the FEC parameters as they stand in EXT_FTI behind its length.
fn information(oti: &Oti) -> Vec<u8> {
    let mut extension = Vec::new();
    ExtensionWriter::new(&mut extension).fti(oti);
    extension.split_off(2)
}

/// The address of a slot: the log's number, and the index in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotAddress {
    /// Number of the log file.
    pub file: u32,
    /// Place within the file, counted in slots.
    pub index: u32,
}

/// The range of a source block in the image.
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

/// The outcome of checking a log header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderCheck {
    /// The file belongs to this object and has the right number.
    Ours,
    /// No valid header: the file was not reserved to its end, or is damaged.
    Damaged,
    /// A valid header of another object, another number or another format version.
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
    /// Octets of a log file at most, unless a single slot needs more.
    pub const FILE_BYTES: u64 = 16 << 20;
    /// Octets in front of the first slot.
    pub const HEADER_BYTES: usize = 4096;
    /// Symbols of a block that are stored beyond its source symbols.
    pub const SPARE_PER_BLOCK: u32 = 16;
    /// Octets of slots beyond those: what one failed flush covered is written again there.
    pub const SLACK_BYTES: usize = 1 << 20;

    /// Lays out the object `object_key` whose octets hash to `stored_sha256`.
    ///
    /// # Panics
    ///
    /// When there are more than 2^31 symbols; RaptorQ has at most 255 blocks of 56,403.
    #[must_use]
    pub fn new(object_key: Hash16, stored_sha256: Digest, oti: impl Into<Oti>) -> Self {
        Self::checked(object_key, Content::Image(stored_sha256), oti.into())
            .expect("255 blocks of 56,403 symbols are fewer than 2^31")
    }

    /// Lays out a file of an unsigned session; `None` when it has more symbols than can be counted.
    #[must_use]
    pub fn unsigned(
        identity: &UnsignedIdentity,
        described: &UnsignedDescription,
        oti: Oti,
        content: UnsignedContent,
    ) -> Option<Self> {
        let object_key = identity.object_key(&oti, described);
        Self::checked(object_key, Content::File(Box::new(content)), oti)
    }

    pub(super) fn checked(object_key: Hash16, content: Content, oti: Oti) -> Option<Self> {
        let partition = oti.partition();
        let spare = match oti {
            Oti::NoCode(_) => 0,
            Oti::RaptorQ(_) => Self::SPARE_PER_BLOCK,
        };
        let symbol_size = usize::from(oti.symbol_size());
        let slot_size = (SLOT_HEAD + symbol_size).next_multiple_of(SLOT_ALIGNMENT);
        let file_bytes = usize::try_from(Self::FILE_BYTES).ok()?;
        let wanted = partition.total_symbols() + u64::from(partition.blocks()) * u64::from(spare);
        let slack = u64::try_from(Self::SLACK_BYTES / slot_size).ok()?.min(wanted);
        let slots = u32::try_from(wanted + slack).ok().filter(|slots| *slots < 1 << 31)?;
        let full = u32::try_from((file_bytes - Self::HEADER_BYTES) / slot_size).ok()?;
        let slots_per_file = full.min(slots);
        Some(Self {
            object_key,
            content,
            oti,
            partition,
            symbol_size,
            slot_size,
            slots_per_file,
            slots,
        })
    }

    /// Returns the key that ties every record to this object.
    #[must_use]
    pub const fn object_key(&self) -> Hash16 {
        self.object_key
    }

    /// Returns the expected content.
    #[must_use]
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// Returns the SHA-256 digest of the whole object; zeros for an unsigned file, which has none.
    #[must_use]
    pub const fn stored_sha256(&self) -> Digest {
        match self.content {
            Content::Image(digest) => digest,
            Content::File(_) => Digest([0; 32]),
        }
    }

    /// Returns the object's FEC parameters.
    #[must_use]
    pub const fn oti(&self) -> &Oti {
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
    pub const fn symbol_size(&self) -> usize {
        self.symbol_size
    }

    /// Returns the octets of log file `file`: whole pages, 16 MiB of them unless it is the last.
    #[must_use]
    pub fn file_bytes(&self, file: u32) -> u64 {
        let slots = u64::from(self.slots_in(file)) * self.slot_size() as u64;
        (Self::HEADER_BYTES as u64 + slots).next_multiple_of(PAGE_BYTES)
    }

    /// Returns the octets of a slot.
    #[must_use]
    pub const fn slot_size(&self) -> usize {
        self.slot_size
    }

    /// Returns how many slots log file `file` holds.
    #[must_use]
    pub fn slots_in(&self, file: u32) -> u32 {
        self.slots.saturating_sub(file.saturating_mul(self.slots_per_file)).min(self.slots_per_file)
    }

    /// Returns how many slots the log files before `file` hold together.
    #[must_use]
    pub fn slots_before(&self, file: u32) -> u32 {
        file.saturating_mul(self.slots_per_file).min(self.slots)
    }

    /// Returns how many log files the object needs.
    #[must_use]
    pub const fn files(&self) -> u32 {
        self.slots.div_ceil(self.slots_per_file)
    }

    /// Returns how many slots all log files hold together.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Returns the octets of the object on disk: its logs and its image.
    #[must_use]
    pub fn storage_bytes(&self) -> u64 {
        let logs: u64 = (0..self.files()).map(|file| self.file_bytes(file)).sum();
        logs + self.image_bytes()
    }

    /// Returns the octets of memory that it takes to know which slots are in use and how far each
    /// block is, before a symbol is held.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        u64::from(self.slots()) / 8 + u64::from(self.blocks()) * BLOCK_INDEX_BYTES
    }

    /// Returns the octets of the image.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        if self.is_empty() { 0 } else { self.oti.transfer_length() }
    }

    /// Returns whether it is an unsigned file without octets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.content {
            Content::Image(_) => false,
            Content::File(file) => file.is_empty,
        }
    }

    /// Returns the number of source blocks.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.partition.blocks()
    }

    /// Returns the number of source symbols of all blocks.
    #[must_use]
    pub fn total_symbols(&self) -> u32 {
        u32::try_from(self.partition.total_symbols()).unwrap_or(u32::MAX)
    }

    /// Returns the number of source symbols of block `sbn`, when there is such a block.
    #[must_use]
    pub fn block_symbols(&self, sbn: Sbn) -> Option<u32> {
        self.partition.symbols_of(sbn)
    }

    /// Returns the range of block `sbn` in the image, when there is such a block.
    #[must_use]
    pub fn block_place(&self, sbn: Sbn) -> Option<BlockPlace> {
        let symbol = u64::from(self.oti.symbol_size());
        let offset = self.partition.first_symbol(sbn)?.checked_mul(symbol)?;
        let padded = u64::from(self.partition.symbols_of(sbn)?) * symbol;
        Some(BlockPlace { offset, octets: padded.min(self.image_bytes().checked_sub(offset)?) })
    }

    /// Returns the offset of a slot in its file.
    #[must_use]
    pub fn offset(&self, slot: SlotAddress) -> u64 {
        Self::HEADER_BYTES as u64 + u64::from(slot.index) * self.slot_size() as u64
    }

    /// Returns the place of slot `number` when slots are counted through all files.
    pub(super) const fn address(&self, number: u32) -> SlotAddress {
        SlotAddress { file: number / self.slots_per_file, index: number % self.slots_per_file }
    }

    /// Returns the number of a slot when slots are counted through all files.
    pub(super) fn number(&self, slot: SlotAddress) -> Option<u32> {
        (slot.index < self.slots_in(slot.file))
            .then(|| slot.file * self.slots_per_file + slot.index)
    }

    /// Returns the tag of a symbol: of an image its leaf in the plan, so that storing adds no
    /// second hash; of an unsigned file a hash that finds damage on disk and proves nothing.
    #[must_use]
    pub fn tag(&self, sbn: Sbn, esi: Esi, symbol: &[u8]) -> Hash16 {
        match self.content {
            Content::Image(_) => leaf(&self.object_key, sbn, esi, symbol),
            Content::File(_) => {
                let ids = [sbn.0.to_be_bytes(), esi.0.to_be_bytes()];
                h16(&[&[0x00], &self.object_key.0, ids.as_flattened(), symbol])
            }
        }
    }

    /// Returns the header of log file `file`.
    #[must_use]
    pub fn header(&self, file: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::HEADER_BYTES);
        Writer::new(&mut out)
            .bytes(HEADER_MAGIC)
            .u32(FORMAT_VERSION)
            .bytes(&self.object_key.0)
            .bytes(&self.stored_sha256().0)
            .u8(self.oti.encoding_id())
            .bytes(&information(&self.oti))
            .zeros(1)
            .u32(u32::try_from(self.slot_size()).expect("a slot is shorter than 65 KiB"))
            .u32(file);
        out.resize(Self::HEADER_BYTES - Hash16::LEN, 0);
        let hash = h16(&[&out]);
        Writer::new(&mut out).bytes(&hash.0);
        out
    }

    /// Checks the first octets of log file `file`.
    #[must_use]
    pub fn check_header(&self, file: u32, octets: &[u8]) -> HeaderCheck {
        let Some((text, hash)) = octets
            .get(..Self::HEADER_BYTES)
            .and_then(|header| header.split_at_checked(Self::HEADER_BYTES - Hash16::LEN))
        else {
            return HeaderCheck::Damaged;
        };
        if !text.starts_with(HEADER_MAGIC) || h16(&[text]).0 != hash {
            HeaderCheck::Damaged
        } else if octets.get(..Self::HEADER_BYTES) == Some(self.header(file).as_slice()) {
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
        out.resize(start + self.slot_size(), 0);
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
    fn in_range(&self, sbn: Sbn, esi: Esi) -> bool {
        self.block_symbols(sbn).is_some_and(|symbols| self.has_esi(symbols, esi))
    }

    /// Returns whether a block of `source_symbols` source symbols can have such a symbol.
    pub(super) const fn has_esi(&self, source_symbols: u32, esi: Esi) -> bool {
        match self.oti {
            Oti::NoCode(_) => esi.0 < source_symbols,
            Oti::RaptorQ(_) => esi.0 < RAPTORQ_ESI_LIMIT,
        }
    }
}

/// Extension of an incomplete unsigned file.
const PART: &str = ".part";
pub(super) const HEADER_MAGIC: &[u8] = b"FCLG";
const SLOT_MAGIC: &[u8; 4] = b"SYM1";
const FORMAT_VERSION: u32 = 1;
const SLOT_HEAD: usize = 32;
const SLOT_ALIGNMENT: usize = 64;
/// Octets in memory for a block without symbols in [`super::SymbolLog`].
const BLOCK_INDEX_BYTES: u64 = 64;
const PAGE_BYTES: u64 = 4096;
