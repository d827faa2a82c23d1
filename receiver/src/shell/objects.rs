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
    flute::{content_encoding::ContentDecodeError, content_md5::ContentMd5},
};

use self::{encoded::decode_part, tables::TablesFile};
use super::disk::{Disk, DiskFile, OpenMode, SharedDisk};
use crate::{
    flute::decode::BlockFiles,
    store::{
        BlockPlace, Content, Encoded, HeaderCheck, ObjectLayout, Recovered, Recovery, SlotAddress,
        StorageError, UnsignedContent, commands::VerifyOutcome,
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
    tables_dirty: bool,
    reservation: Reservation,
    image: ImagePaths,
    /// Logs to reserve.
    wanted_logs: u32,
    /// Reserved octets of the image, until all are.
    image_reserved: Option<u64>,
    image_made: bool,
}

/// Paths of an object's image, while incomplete and when verified.
#[derive(Debug)]
struct ImagePaths {
    directory: PathBuf,
    part: PathBuf,
    image: PathBuf,
}

impl ImagePaths {
    /// Returns the paths. An unsigned file is in the output directory, the parent of the data
    /// directory.
    fn new(objects: &Path, layout: &ObjectLayout) -> Self {
        let own = layout.directory_name();
        let (directory, part, name) = match layout.content() {
            Content::Image(_) => (objects.join(own), format!("{IMAGE}.part"), IMAGE),
            Content::File(file) => {
                let out = objects.parent().and_then(Path::parent).unwrap_or(objects);
                // Several versions of a file may be incomplete at a time.
                let part = UnsignedContent::part_name(&file.name, &own);
                (out.to_owned(), part, file.name.as_str())
            }
        };
        let (part, image) = (directory.join(part), directory.join(name));
        Self { directory, part, image }
    }

    /// Returns whether the image has its final name, so that nothing is to be reserved.
    fn is_whole(&self, disk: &dyn Disk, layout: &ObjectLayout) -> bool {
        match layout.content() {
            Content::Image(_) => disk.exists(&self.image),
            // The file of that name is an earlier version.
            Content::File(_) => false,
        }
    }
}

/// Progress of the reservation of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Reservation {
    file: u32,
    octets: u64,
}

/// Outcome of one step of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// Within a file.
    Partly,
    /// This many files from the first on are ready.
    Files(u32),
    /// All files are ready.
    All,
}

impl ObjectDirectory {
    /// Opens the object's directory below `objects`, creates it if it is missing, and reserves the
    /// space of a signed image. The size of an unsigned file is anybody's claim: it is written as
    /// its blocks are decoded, and its logs wait for [`Self::reserve_up_to`].
    ///
    /// # Errors
    ///
    /// Any error of the file system; [`StorageError::NoSpace`] when the image has no room.
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
            let at_once = match layout.content() {
                Content::Image(_) => layout.image_bytes(),
                Content::File(_) => 0,
            };
            let reserved = match layout.content() {
                Content::File(file) if !image_made && !file.is_empty => None,
                Content::Image(_) | Content::File(_) => reserve_image(&**disk, &image, at_once)?,
            };
            Ok((image_made, reserved))
        };
        let (image_made, image_reserved) =
            attempt().map_err(StorageError::while_doing("reserve the image"))?;
        let wanted_logs = match layout.content() {
            Content::Image(_) => layout.files(),
            Content::File(_) => 0,
        };
        Ok(Self {
            disk: Arc::clone(disk),
            tables: TablesFile::new(Arc::clone(disk), &path),
            tables_dirty: false,
            path,
            layout,
            logs: BTreeMap::new(),
            dirty: BTreeSet::new(),
            reservation: Reservation::default(),
            image,
            image_reserved,
            image_made,
            wanted_logs,
        })
    }

    /// Returns the object's layout.
    #[must_use]
    pub const fn layout(&self) -> &ObjectLayout {
        &self.layout
    }

    /// Reads all logs and returns their surviving content, which is synced.
    ///
    /// A log of another object, and one whose header is damaged, is removed.
    ///
    /// # Errors
    ///
    /// Any error of an open, a sync or a removal. A sector that cannot be read costs its slots.
    pub fn recover(&mut self) -> Result<Recovered, StorageError> {
        let layout = self.layout.clone();
        let mut recovery = Recovery::new(&layout);
        // Its last sync, with the names of the logs, may have failed.
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
        // Writes of a killed process are readable before they are durable: sync, then read from the
        // medium. After a failed sync the cache differs from it.
        if let Err(error) = file.sync_data() {
            tracing::warn!(%error, number, "failed to sync a log before reading it");
        }
        file.drop_page_cache()?;
        let mut header = vec![0; ObjectLayout::HEADER_BYTES];
        // All slots depend on it: one failed read is no reason to drop them.
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

    /// Reads each slot of a run separately: a bad sector costs only its own slots.
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

    /// Sets how many logs [`Self::reserve_step`] reserves.
    pub const fn reserve_up_to(&mut self, files: u32) {
        self.wanted_logs = files;
    }

    /// Writes the next octets of the reservation: zeros first, then the header, which marks the
    /// file as complete.
    ///
    /// # Errors
    ///
    /// [`StorageError::NoSpace`] when the disk is full, or any other error of the write.
    pub fn reserve_step(&mut self) -> Result<Reserved, StorageError> {
        if let Some(at) = self.image_reserved {
            let step = self.reserve_image_part(at);
            return step.map_err(StorageError::while_doing("reserve the image"));
        }
        let number = self.reservation.file;
        if number >= self.wanted_logs.min(self.layout.files()) {
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
    /// Any error of the write; a log that is not reserved is an error.
    pub fn write(&mut self, number: u32, offset: u64, octets: &[u8]) -> Result<(), StorageError> {
        let attempt = || {
            let file = self.logs.get(&number).ok_or(io::ErrorKind::NotFound)?;
            file.write_all_at(octets, offset)
        };
        let while_doing = |error| {
            let attempted = format!("write to log.{number}");
            StorageError::while_doing(attempted)(error)
        };
        attempt().map_err(while_doing)?;
        self.dirty.insert(number);
        Ok(())
    }

    /// Writes to the file of table symbols; a failure costs only these.
    pub fn write_tables(&mut self, offset: u64, octets: &[u8]) {
        self.tables.write(offset, octets);
        self.tables_dirty = true;
    }

    /// Syncs every log written since the last flush, and the table symbols.
    ///
    /// # Errors
    ///
    /// Any error of the sync. It is not retried: the next call syncs later writes.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        if std::mem::take(&mut self.tables_dirty) {
            self.tables.sync();
        }
        let mut outcome = Ok(());
        for number in std::mem::take(&mut self.dirty) {
            let Some(file) = self.logs.get(&number) else { continue };
            let while_doing =
                |error| StorageError::while_doing(format!("sync log.{number}"))(error);
            outcome = outcome.and(file.sync_data().map_err(while_doing));
        }
        outcome
    }

    fn log_path(&self, number: u32) -> PathBuf {
        self.path.join(format!("log.{number}"))
    }
}

/// The files of one object for the decoder.
#[derive(Debug)]
pub struct DecodeFiles {
    disk: SharedDisk,
    path: PathBuf,
    image: ImagePaths,
    layout: ObjectLayout,
    logs: BTreeMap<u32, Box<dyn DiskFile>>,
}

impl DecodeFiles {
    /// Creates a handle of the object's files below `objects`; they are opened on use.
    #[must_use]
    pub fn new(disk: SharedDisk, objects: &Path, layout: ObjectLayout) -> Self {
        let image = ImagePaths::new(objects, &layout);
        let path = objects.join(layout.directory_name());
        Self { disk, path, image, layout, logs: BTreeMap::new() }
    }

    /// Writes octets of the image in order, and syncs them; the first ones create the directory and
    /// reserve the space.
    ///
    /// # Errors
    ///
    /// Any error of the file system; [`StorageError::NoSpace`] when the image has no room.
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
        attempt().map_err(StorageError::while_doing("store a part of the image"))
    }

    /// Removes the incomplete image.
    ///
    /// # Errors
    ///
    /// Any error of the removal.
    pub fn remove_part(&self) -> Result<(), StorageError> {
        match self.disk.remove_file(&self.image.part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::while_doing("remove an incomplete file")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Syncs the image, verifies its digest from the medium, and gives it its name.
    ///
    /// Idempotent.
    #[must_use]
    pub fn finish(&self) -> VerifyOutcome {
        let attempt = || {
            let ImagePaths { directory, part, image } = &self.image;
            // What has the name of an unsigned file may be an earlier version of it.
            let is_own = matches!(self.layout.content(), Content::Image(_));
            let is_renamed = is_own && !self.disk.exists(part) && self.disk.exists(image);
            let scanned = self.scan(if is_renamed { image } else { part })?;
            let found = scanned.sha256;
            let is_right = match self.layout.content() {
                // spec: rfc5775 5 (the signed digest decides on the whole object)
                Content::Image(digest) => found == *digest,
                Content::File(file) => {
                    // spec: rfc6726 3.4.2 (a wrong digest is damage, a right one no proof)
                    let fits = file.encoded.is_some() || scanned.matches_digest(file);
                    fits && scanned.octets == self.layout.image_bytes()
                }
            };
            if !is_right {
                return Ok(VerifyOutcome::WrongDigest { found });
            }
            if let Content::File(file) = self.layout.content()
                && let Some(encoded) = &file.encoded
            {
                return self.finish_encoded(file, encoded, &scanned);
            }
            if !is_renamed {
                self.disk.rename(part, image)?;
            }
            // Also after a power cut between the rename and this.
            self.disk.sync_directory(directory)?;
            Ok(VerifyOutcome::Ready { sha256: found })
        };
        attempt().unwrap_or_else(|error| {
            VerifyOutcome::Failed(StorageError::while_doing("read the image back")(error))
        })
    }

    /// Reads a complete unsigned file of an earlier run: it counts when it has this digest.
    #[must_use]
    pub fn verify_kept(&self, expected: Digest) -> VerifyOutcome {
        let image = &self.image.image;
        let found = match self.disk.exists(image) {
            true => self.scan(image).map(|scanned| scanned.sha256),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        match found {
            Ok(found) if found == expected => VerifyOutcome::Ready { sha256: found },
            Ok(found) => VerifyOutcome::WrongDigest { found },
            Err(error) => {
                VerifyOutcome::Failed(StorageError::while_doing("read a complete file")(error))
            }
        }
    }

    /// Decodes a complete file.
    fn finish_encoded(
        &self,
        file: &UnsignedContent,
        encoded: &Encoded,
        sent: &ScannedImage,
    ) -> io::Result<VerifyOutcome> {
        let decoded = self.image.directory.join(UnsignedContent::part_name(
            &format!("{}.decoded", file.name),
            &self.layout.directory_name(),
        ));
        let wrong = match decode_part(&*self.disk, encoded, &self.image.part, sent.octets, &decoded)
        {
            Ok(octets) => {
                let other = encoded.length.filter(|length| *length != octets);
                other.map(|length| format!("it has {octets} octets, {length} by its FDT"))
            }
            Err(ContentDecodeError::Io(error)) => return Err(error),
            Err(error @ (ContentDecodeError::Damaged(_) | ContentDecodeError::TooLong { .. })) => {
                Some(error.to_string())
            }
        };
        if let Some(why) = wrong {
            self.disk.remove_file(&decoded)?;
            return Ok(VerifyOutcome::WrongContent { why });
        }
        let decoded_file = self.scan(&decoded)?;
        // spec: rfc6726 3.4.2 (senders differ in which form Content-MD5 is of)
        if !sent.matches_digest(file) && !decoded_file.matches_digest(file) {
            self.disk.remove_file(&decoded)?;
            return Ok(VerifyOutcome::WrongDigest { found: decoded_file.sha256 });
        }
        self.disk.rename(&decoded, &self.image.image)?;
        self.disk.sync_directory(&self.image.directory)?;
        self.disk.remove_file(&self.image.part)?;
        Ok(VerifyOutcome::Ready { sha256: decoded_file.sha256 })
    }

    /// Syncs a file and reads it back: it must be durable before it is renamed.
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

/// Length and digests of a file on the medium.
#[derive(Debug)]
struct ScannedImage {
    octets: u64,
    sha256: Digest,
    md5: [u8; 16],
}

impl ScannedImage {
    /// Returns whether it has the announced digest, if any.
    fn matches_digest(&self, file: &UnsignedContent) -> bool {
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

    /// Writes a block to the incomplete image. A complete one that is decoded again, because the
    /// journal has forgotten that it was verified, becomes incomplete.
    fn write_block(&mut self, place: BlockPlace, octets: &[u8]) -> io::Result<()> {
        let ImagePaths { directory, part, image } = &self.image;
        if matches!(self.layout.content(), Content::Image(_)) && !self.disk.exists(part) {
            self.disk.rename(image, part)?;
            self.disk.sync_directory(directory)?;
        }
        let image = self.disk.open(part, OpenMode::Write)?;
        image.write_all_at(octets, place.offset)?;
        image.sync_data()
    }
}

/// Creates or opens the incomplete image and reserves its space; returns the offset from which
/// zeros are to be written, if the file system cannot reserve without.
///
/// Logs are reserved by zeros because each of their many syncs would have to convert unwritten
/// extents. A block of the image is written once, by one write: reserving it without zeros costs
/// one conversion per block, saves the flash a whole image, and holds the space also where files
/// are never overwritten in place.
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
/// Reads of a header before its log counts as damaged.
const HEADER_READS: u32 = 3;

#[cfg(test)]
mod tests;
