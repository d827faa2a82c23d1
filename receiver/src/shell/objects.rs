//! The files of one object.

mod encoded;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use proto::{
    crypto::{Digest, Hasher},
    flute::content_md5::ContentMd5,
};

use self::tables::TablesFile;
use super::disk::{Disk, DiskFile, OpenMode, SharedDisk};
use crate::{
    flute::decode::BlockFiles,
    store::{
        BlockPlace, Content, HeaderCheck, ObjectLayout, Recovered, Recovery, SlotAddress,
        StorageError, UnsignedContent,
    },
};

/// The directory of one object, with its open logs.
#[derive(Debug)]
pub struct ObjectDirectory {
    disk: SharedDisk,
    path: PathBuf,
    layout: ObjectLayout,
    logs: BTreeMap<u32, Box<dyn DiskFile>>,
    dirty: BTreeSet<u32>,
    tables: TablesFile,
    reservation: Reservation,
    image: ImagePaths,
    /// Octets of the image that have room, while there is none for the others.
    image_reserved: Option<u64>,
    image_made: bool,
}

/// Where an object's image is written, and where it goes when it is whole.
#[derive(Debug)]
struct ImagePaths {
    directory: PathBuf,
    part: PathBuf,
    image: PathBuf,
}

impl ImagePaths {
    /// An unsigned file lies in the output directory, which holds the data directory with `objects`.
    fn new(objects: &Path, layout: &ObjectLayout) -> Self {
        let (directory, name) = match layout.content() {
            Content::Image(_) => (objects.join(layout.directory_name()), IMAGE),
            Content::File(file) => {
                let out = objects.parent().and_then(Path::parent).unwrap_or(objects);
                (out.to_owned(), file.name.as_str())
            }
        };
        let (part, image) = (directory.join(format!("{name}.part")), directory.join(name));
        Self { directory, part, image }
    }

    /// Returns whether the image has its final name: then there is nothing to reserve.
    fn is_whole(&self, disk: &dyn Disk, layout: &ObjectLayout) -> bool {
        match layout.content() {
            Content::Image(_) => disk.exists(&self.image),
            // The file of that name is an earlier version.
            Content::File(_) => false,
        }
    }
}

/// How far the logs are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Reservation {
    file: u32,
    octets: u64,
}

/// What one step of a reservation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// Within a file.
    Partly,
    /// This many files from the first on are ready.
    Files(u32),
    /// All files are ready; there is nothing left to do.
    All,
}

/// What reading the image back came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishOutcome {
    /// The image is exact on the medium and has its final name.
    Ready {
        /// What it hashes to.
        sha256: Digest,
    },
    /// The image hashes to something else.
    WrongDigest {
        /// What it hashes to.
        found: Digest,
    },
    /// The content encoding of an unsigned file cannot be undone, or makes something else of it.
    WrongContent {
        /// What is wrong.
        why: String,
    },
    /// It could not be read, synced or renamed.
    Failed(StorageError),
}

impl ObjectDirectory {
    /// Opens the object's directory below `objects`, makes it where it is missing, and reserves the
    /// image's room.
    ///
    /// # Errors
    ///
    /// What the file system answers; [`StorageError::NoSpace`] when the image has no room.
    pub fn open(
        disk: &SharedDisk,
        objects: &Path,
        layout: ObjectLayout,
    ) -> Result<Self, StorageError> {
        let path = objects.join(layout.directory_name());
        let image = ImagePaths::new(objects, &layout);
        let attempt = || {
            disk.make_directory(&path)?;
            disk.sync_directory(objects)?;
            if image.is_whole(&**disk, &layout) {
                return Ok((false, None));
            }
            let image_made = !disk.exists(&image.part);
            let reserved = reserve_image(&**disk, &image, layout.image_bytes())?;
            Ok((image_made, reserved))
        };
        let (image_made, image_reserved) =
            attempt().map_err(StorageError::while_doing("reserve the image"))?;
        Ok(Self {
            disk: Arc::clone(disk),
            tables: TablesFile::new(Arc::clone(disk), &path),
            path,
            layout,
            logs: BTreeMap::new(),
            dirty: BTreeSet::new(),
            reservation: Reservation::default(),
            image,
            image_reserved,
            image_made,
        })
    }

    /// Returns the object's layout.
    #[must_use]
    pub const fn layout(&self) -> &ObjectLayout {
        &self.layout
    }

    /// Reads all logs once and says what survived; what it says is synced.
    ///
    /// A log of another object, and one whose header is damaged, is removed.
    ///
    /// # Errors
    ///
    /// What opening, syncing or removing meets. A sector that cannot be read costs its slots.
    pub fn recover(&mut self) -> Result<Recovered, StorageError> {
        let layout = self.layout.clone();
        let mut recovery = Recovery::new(&layout);
        // The last sync of it may have failed, with the names of the logs.
        self.disk
            .sync_directory(&self.path)
            .map_err(StorageError::while_doing("sync the object's directory"))?;
        for number in 0..layout.files() {
            self.recover_log(number, &mut recovery)
                .map_err(StorageError::while_doing(format!("recover log.{number}")))?;
        }
        let (image_made, tables) = (self.image_made, self.tables.read());
        let recovered = Recovered { image_made, tables, ..recovery.finish() };
        self.reservation = Reservation { file: recovered.files_ready, octets: 0 };
        Ok(recovered)
    }

    fn recover_log(&mut self, number: u32, recovery: &mut Recovery<'_>) -> io::Result<()> {
        let path = self.log_path(number);
        let file = match self.disk.open(&path, OpenMode::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        // What a killed process wrote is readable before it is durable: sync, then believe what is
        // read from the medium. Where this sync, or one before it, failed, the cache would lie.
        if let Err(error) = file.sync_data() {
            tracing::warn!(%error, number, "failed to sync a log before reading it");
        }
        file.drop_page_cache()?;
        let mut header = vec![0; ObjectLayout::HEADER_BYTES];
        // All slots hang on it: a reading that fails once is no reason to drop them.
        let readable = (0..HEADER_READS).any(|_| file.read_exact_at(&mut header, 0).is_ok());
        let whole = file.length()? == self.layout.file_bytes(number);
        let offered = if readable && whole { header.as_slice() } else { &[] };
        match recovery.header(number, offered) {
            HeaderCheck::Ours => self.recover_slots(number, &*file, recovery),
            HeaderCheck::Damaged | HeaderCheck::Foreign => {
                self.disk.remove_file(&path)?;
                return self.disk.sync_directory(&self.path);
            }
        }
        self.logs.insert(number, file);
        Ok(())
    }

    fn recover_slots(&self, number: u32, file: &dyn DiskFile, recovery: &mut Recovery<'_>) {
        let size = self.layout.slot_size();
        let at_once = u32::try_from((READ_BYTES / size).max(1)).unwrap_or(1);
        let mut buffer = vec![0; usize::try_from(at_once).unwrap_or(1) * size];
        let mut index = 0;
        let slots = self.layout.slots_in(number);
        while index < slots {
            let count = at_once.min(slots - index);
            let octets = usize::try_from(count).unwrap_or_default() * size;
            let run = buffer.get_mut(..octets).unwrap_or_default();
            let first = SlotAddress { file: number, index };
            if file.read_exact_at(run, self.layout.offset(first)).is_ok() {
                recovery.slots(first, run);
            } else {
                self.recover_slot_by_slot(file, first, run, recovery);
            }
            index += count;
        }
    }

    /// Reads each slot of a run alone: a bad sector costs the slots that lie on it.
    fn recover_slot_by_slot(
        &self,
        file: &dyn DiskFile,
        first: SlotAddress,
        run: &mut [u8],
        recovery: &mut Recovery<'_>,
    ) {
        let slots = run.chunks_exact_mut(self.layout.slot_size());
        for (index, slot) in (first.index..).zip(slots) {
            let address = SlotAddress { file: first.file, index };
            if file.read_exact_at(slot, self.layout.offset(address)).is_ok() {
                recovery.slots(address, slot);
            }
        }
    }

    /// Writes the next octets of the reservation: zeros first, then the header that says that the
    /// file is whole.
    ///
    /// # Errors
    ///
    /// [`StorageError::NoSpace`] when the disk is full, or what else writing meets.
    pub fn reserve_step(&mut self) -> Result<Reserved, StorageError> {
        if let Some(at) = self.image_reserved {
            let step = self.reserve_image_part(at);
            return step.map_err(StorageError::while_doing("reserve the image"));
        }
        let number = self.reservation.file;
        if number >= self.layout.files() {
            return Ok(Reserved::All);
        }
        if self.reservation.octets == 0 && self.logs.contains_key(&number) {
            self.reservation.file += 1;
            return Ok(Reserved::Files(self.reservation.file));
        }
        self.reserve_part(number)
            .map_err(StorageError::while_doing(format!("reserve log.{number}")))
    }

    fn reserve_image_part(&mut self, at: u64) -> io::Result<Reserved> {
        let file = self.disk.open(&self.image.part, OpenMode::Write)?;
        let whole = self.layout.image_bytes();
        let end = (at + RESERVE_BYTES).min(whole);
        file.write_all_at(&zeros(at, end), at)?;
        file.sync_data()?;
        self.image_reserved = Some(end).filter(|end| *end < whole);
        Ok(Reserved::Partly)
    }

    fn reserve_part(&mut self, number: u32) -> io::Result<Reserved> {
        let path = self.log_path(number);
        let at = self.reservation.octets;
        let how = if at == 0 { OpenMode::Empty } else { OpenMode::Create };
        let file = self.disk.open(&path, how)?;
        let whole = self.layout.file_bytes(number);
        let end = (at + RESERVE_BYTES).min(whole);
        file.write_all_at(&zeros(at, end), at)?;
        if end < whole {
            file.sync_data()?;
            self.reservation.octets = end;
            return Ok(Reserved::Partly);
        }
        file.sync_all()?;
        file.write_all_at(&self.layout.header(number), 0)?;
        file.sync_data()?;
        self.disk.sync_directory(&self.path)?;
        self.logs.insert(number, file);
        self.reservation = Reservation { file: number + 1, octets: 0 };
        Ok(Reserved::Files(number + 1))
    }

    /// Writes slots into a log.
    ///
    /// # Errors
    ///
    /// What writing meets; a log that is not reserved is refused.
    pub fn write(&mut self, number: u32, offset: u64, octets: &[u8]) -> Result<(), StorageError> {
        let attempt = || {
            let file = self.logs.get(&number).ok_or(io::ErrorKind::NotFound)?;
            file.write_all_at(octets, offset)
        };
        attempt().map_err(StorageError::while_doing(format!("write to log.{number}")))?;
        self.dirty.insert(number);
        Ok(())
    }

    /// Writes into the file of table symbols; a failure costs these, and nothing else.
    pub fn write_tables(&mut self, offset: u64, octets: &[u8]) {
        self.tables.write(offset, octets);
    }

    /// Syncs every log that was written since the last time, and the table symbols.
    ///
    /// # Errors
    ///
    /// What syncing meets. It is not tried again: the next call syncs what is written after this.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        self.tables.sync();
        let mut outcome = Ok(());
        for number in std::mem::take(&mut self.dirty) {
            let Some(file) = self.logs.get(&number) else { continue };
            let attempted = format!("sync log.{number}");
            outcome = outcome.and(file.sync_data().map_err(StorageError::while_doing(attempted)));
        }
        outcome
    }

    fn log_path(&self, number: u32) -> PathBuf {
        self.path.join(format!("log.{number}"))
    }
}

/// The files of one object as the decoder sees them.
#[derive(Debug)]
pub struct DecodeFiles {
    disk: SharedDisk,
    path: PathBuf,
    image: ImagePaths,
    layout: ObjectLayout,
    logs: BTreeMap<u32, Box<dyn DiskFile>>,
}

impl DecodeFiles {
    /// Names the object's files below `objects`; they are opened when they are needed.
    #[must_use]
    pub fn new(disk: SharedDisk, objects: &Path, layout: ObjectLayout) -> Self {
        let image = ImagePaths::new(objects, &layout);
        let path = objects.join(layout.directory_name());
        Self { disk, path, image, layout, logs: BTreeMap::new() }
    }

    /// Writes octets of the image that come in their order, and syncs them; the first ones make the
    /// directory and reserve the room.
    ///
    /// # Errors
    ///
    /// What the file system answers; [`StorageError::NoSpace`] when the image has no room.
    pub fn store(&self, offset: u64, octets: &[u8]) -> Result<(), StorageError> {
        let attempt = || {
            if offset == 0 {
                self.disk.make_directory(&self.path)?;
                if let Some(objects) = self.path.parent() {
                    self.disk.sync_directory(objects)?;
                }
                reserve_image(&*self.disk, &self.image, self.layout.image_bytes())?;
            }
            let image = self.disk.open(&self.image.part, OpenMode::Write)?;
            image.write_all_at(octets, offset)?;
            image.sync_data()
        };
        attempt().map_err(StorageError::while_doing("store a piece of the image"))
    }

    /// Syncs the image, reads it back from the medium, compares its digest, gives it its name.
    ///
    /// Harmless when it is done already.
    #[must_use]
    pub fn finish(&self) -> FinishOutcome {
        let attempt = || {
            let ImagePaths { directory, part, image } = &self.image;
            let is_renamed = !self.disk.exists(part) && self.disk.exists(image);
            let scanned = self.scan(if is_renamed { image } else { part })?;
            let found = scanned.sha256;
            let is_right = match self.layout.content() {
                // spec: rfc5775 5 (the signed digest decides on the whole object)
                Content::Image(digest) => found == *digest,
                Content::File(file) => {
                    // spec: rfc6726 3.4.2 (a wrong digest is damage, a right one no proof)
                    let fits = file.encoded.is_some() || scanned.matches_layout(file);
                    fits && scanned.octets == self.layout.image_bytes()
                }
            };
            if !is_right {
                return Ok(FinishOutcome::WrongDigest { found });
            }
            if let Content::File(file) = self.layout.content()
                && let Some(encoded) = &file.encoded
            {
                return self.finish_encoded(file, encoded, &scanned);
            }
            if !is_renamed {
                self.disk.rename(part, image)?;
            }
            // Also when the power went between the rename and this.
            self.disk.sync_directory(directory)?;
            Ok(FinishOutcome::Ready { sha256: found })
        };
        attempt().unwrap_or_else(|error| {
            FinishOutcome::Failed(StorageError::while_doing("read the image back")(error))
        })
    }

    /// Syncs a file and reads it back: what is renamed must be durable before its name says so.
    fn scan(&self, path: &Path) -> io::Result<ScannedImage> {
        self.disk.open(path, OpenMode::Write)?.sync_all()?;
        let wants_md5 = match self.layout.content() {
            Content::Image(_) => false,
            Content::File(file) => file.md5.is_some(),
        };
        let (mut sha256, mut md5, mut octets) = (Hasher::new(), ContentMd5::new(), 0);
        self.disk.read_uncached(path, &mut |piece| {
            sha256.update(piece);
            octets += piece.len() as u64;
            if wants_md5 {
                md5.update(piece);
            }
        })?;
        Ok(ScannedImage { octets, sha256: sha256.finish(), md5: md5.finish() })
    }
}

/// What a file on the medium is.
#[derive(Debug)]
struct ScannedImage {
    octets: u64,
    sha256: Digest,
    md5: [u8; 16],
}

impl ScannedImage {
    /// Returns whether it has the digest that was announced, if one was.
    fn matches_layout(&self, file: &UnsignedContent) -> bool {
        file.md5.is_none_or(|expected| expected == self.md5)
    }
}

impl BlockFiles for DecodeFiles {
    fn read_slots(&mut self, first: SlotAddress, octets: &mut [u8]) -> io::Result<()> {
        let offset = self.layout.offset(first);
        if let Some(file) = self.logs.get(&first.file) {
            return file.read_exact_at(octets, offset);
        }
        let path = self.path.join(format!("log.{}", first.file));
        let file = self.disk.open(&path, OpenMode::Read)?;
        file.read_exact_at(octets, offset)?;
        self.logs.insert(first.file, file);
        Ok(())
    }

    fn write_block(&mut self, place: BlockPlace, octets: &[u8]) -> io::Result<()> {
        let image = self.disk.open(&self.image.part, OpenMode::Write)?;
        image.write_all_at(octets, place.offset)?;
        image.sync_data()
    }
}

/// Makes the unfinished image, or takes it as it is, and reserves its room; returns where zeros are
/// to be written for it, where the file system cannot reserve without.
///
/// Logs are reserved by zeros because each of their many syncs would have to convert unwritten
/// extents. A block of the image is written once, by one write: reserving it without zeros costs
/// one conversion a block, spares the flash a whole image, and holds the room also where files are
/// never overwritten in place.
fn reserve_image(disk: &dyn Disk, paths: &ImagePaths, octets: u64) -> io::Result<Option<u64>> {
    let how = if octets == 0 { OpenMode::Empty } else { OpenMode::Create };
    let image = disk.open(&paths.part, how)?;
    let allocated = if octets == 0 { Ok(()) } else { image.allocate(octets) };
    let zeros_from = match allocated {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Some(image.length()?),
        outcome => outcome.map(|()| None)?,
    };
    image.sync_all()?;
    disk.sync_directory(&paths.directory)?;
    Ok(zeros_from.filter(|from| *from < octets))
}

fn zeros(from: u64, to: u64) -> Vec<u8> {
    vec![0; usize::try_from(to - from).unwrap_or_default()]
}

const IMAGE: &str = "image";
const READ_BYTES: usize = 1 << 20;
const RESERVE_BYTES: u64 = 2 << 20;
/// Times that a header is read before its log counts as damaged.
const HEADER_READS: u32 = 3;

#[cfg(test)]
mod tests;
