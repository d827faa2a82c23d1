//! The files of one object.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use proto::{
    crypto::{Digest, Hasher},
    flute::content_md5::ContentMd5,
};
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};

use super::directory::{make_directory, private, sync_directory};
use crate::{
    decode::BlockFiles,
    symbols::{
        BlockPlace, Content, HeaderCheck, ObjectLayout, Recovered, Recovery, SlotAddress,
        StorageError,
    },
};

/// The directory of one object, with its open logs.
#[derive(Debug)]
pub struct ObjectDirectory {
    path: PathBuf,
    layout: ObjectLayout,
    logs: BTreeMap<u32, File>,
    dirty: BTreeSet<u32>,
    reservation: Reservation,
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
    /// A plain file lies in the output directory, which holds the data directory with `objects`.
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
    fn is_whole(&self, layout: &ObjectLayout) -> bool {
        match layout.content() {
            Content::Image(_) => self.image.exists(),
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
    pub fn open(objects: &Path, layout: ObjectLayout) -> Result<Self, StorageError> {
        let path = objects.join(layout.directory_name());
        let image = ImagePaths::new(objects, &layout);
        let attempt = || {
            make_directory(&path)?;
            sync_directory(objects)?;
            let image_made = !image.is_whole(&layout) && !image.part.exists();
            if !image.is_whole(&layout) {
                reserve_image(&image, layout.image_octets())?;
            }
            Ok(image_made)
        };
        let image_made = attempt().map_err(StorageError::while_doing("reserve the image"))?;
        Ok(Self {
            path,
            layout,
            logs: BTreeMap::new(),
            dirty: BTreeSet::new(),
            reservation: Reservation::default(),
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
        for number in 0..layout.files() {
            self.recover_log(number, &mut recovery)
                .map_err(StorageError::while_doing(format!("recover log.{number}")))?;
        }
        let recovered = Recovered { image_made: self.image_made, ..recovery.finish() };
        self.reservation = Reservation { file: recovered.files_ready, octets: 0 };
        Ok(recovered)
    }

    fn recover_log(&mut self, number: u32, recovery: &mut Recovery<'_>) -> io::Result<()> {
        let path = self.log_path(number);
        let file = match private().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        // What a killed process wrote is readable before it is durable: sync, then believe.
        file.sync_data()?;
        let mut header = vec![0; ObjectLayout::HEADER_OCTETS];
        let readable = file.read_exact_at(&mut header, 0).is_ok();
        let whole = file.metadata()?.len() == self.layout.file_octets();
        let offered = if readable && whole { header.as_slice() } else { &[] };
        match recovery.header(number, offered) {
            HeaderCheck::Ours => self.recover_slots(number, &file, recovery),
            HeaderCheck::Damaged | HeaderCheck::Foreign => {
                fs::remove_file(&path)?;
                return sync_directory(&self.path);
            }
        }
        self.logs.insert(number, file);
        Ok(())
    }

    fn recover_slots(&self, number: u32, file: &File, recovery: &mut Recovery<'_>) {
        let size = self.layout.slot_size();
        let at_once = u32::try_from((READ_OCTETS / size).max(1)).unwrap_or(1);
        let mut buffer = vec![0; usize::try_from(at_once).unwrap_or(1) * size];
        let mut index = 0;
        while index < self.layout.slots_per_file() {
            let count = at_once.min(self.layout.slots_per_file() - index);
            let octets = usize::try_from(count).unwrap_or_default() * size;
            let run = buffer.get_mut(..octets).unwrap_or_default();
            let first = SlotAddress { file: number, index };
            if file.read_exact_at(run, self.layout.offset(first)).is_ok() {
                recovery.slots(first, run);
            } else {
                self.recover_alone(file, first, run, recovery);
            }
            index += count;
        }
    }

    /// Reads each slot of a run alone: a bad sector costs the slots that lie on it.
    fn recover_alone(
        &self,
        file: &File,
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

    fn reserve_part(&mut self, number: u32) -> io::Result<Reserved> {
        let path = self.log_path(number);
        let at = self.reservation.octets;
        let file = private().read(true).write(true).create(true).truncate(at == 0).open(path)?;
        let end = (at + RESERVE_OCTETS).min(self.layout.file_octets());
        let zeros = vec![0; usize::try_from(end - at).unwrap_or_default()];
        file.write_all_at(&zeros, at)?;
        if end < self.layout.file_octets() {
            file.sync_data()?;
            self.reservation.octets = end;
            return Ok(Reserved::Partly);
        }
        file.sync_all()?;
        file.write_all_at(&self.layout.header(number), 0)?;
        file.sync_data()?;
        sync_directory(&self.path)?;
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

    /// Syncs every log that was written since the last time.
    ///
    /// # Errors
    ///
    /// What syncing meets. It is not tried again: the next call syncs what is written after this.
    pub fn flush(&mut self) -> Result<(), StorageError> {
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
    path: PathBuf,
    image: ImagePaths,
    layout: ObjectLayout,
    logs: BTreeMap<u32, File>,
}

impl DecodeFiles {
    /// Names the object's files below `objects`; they are opened when they are needed.
    #[must_use]
    pub fn new(objects: &Path, layout: ObjectLayout) -> Self {
        let image = ImagePaths::new(objects, &layout);
        Self { path: objects.join(layout.directory_name()), image, layout, logs: BTreeMap::new() }
    }

    /// Syncs the image, reads it back from the medium, compares its digest, gives it its name.
    ///
    /// Harmless when it is done already.
    #[must_use]
    pub fn finish(&self) -> FinishOutcome {
        let attempt = || {
            let ImagePaths { directory, part, image } = &self.image;
            let is_renamed = !part.exists() && image.exists();
            let from = if is_renamed { image } else { part };
            let mut md5 = ContentMd5::new();
            let (mut octets, wants_md5) = (0, self.md5().is_some());
            let found = read_back(from, &mut |piece| {
                octets += piece.len() as u64;
                if wants_md5 {
                    md5.update(piece);
                }
            })?;
            let is_right = match self.layout.content() {
                Content::Image(digest) => found == *digest,
                Content::File(file) => {
                    let fits = file.md5.is_none_or(|expected| expected == md5.finish());
                    fits && octets == self.layout.image_octets()
                }
            };
            if !is_right {
                return Ok(FinishOutcome::WrongDigest { found });
            }
            if !is_renamed {
                fs::rename(part, image)?;
                sync_directory(directory)?;
            }
            Ok(FinishOutcome::Ready { sha256: found })
        };
        attempt().unwrap_or_else(|error| {
            FinishOutcome::Failed(StorageError::while_doing("read the image back")(error))
        })
    }

    fn md5(&self) -> Option<[u8; 16]> {
        match self.layout.content() {
            Content::Image(_) => None,
            Content::File(file) => file.md5,
        }
    }
}

impl BlockFiles for DecodeFiles {
    fn read_slots(&mut self, first: SlotAddress, octets: &mut [u8]) -> io::Result<()> {
        let offset = self.layout.offset(first);
        if let Some(file) = self.logs.get(&first.file) {
            return file.read_exact_at(octets, offset);
        }
        let file = File::open(self.path.join(format!("log.{}", first.file)))?;
        file.read_exact_at(octets, offset)?;
        self.logs.insert(first.file, file);
        Ok(())
    }

    fn write_block(&mut self, place: BlockPlace, octets: &[u8]) -> io::Result<()> {
        let image = private().write(true).open(&self.image.part)?;
        image.write_all_at(octets, place.offset)?;
        image.sync_data()
    }
}

/// Makes the unfinished image, or takes it as it is, and reserves its room.
fn reserve_image(paths: &ImagePaths, octets: u64) -> io::Result<()> {
    let image = private().write(true).create(true).truncate(false).open(&paths.part)?;
    match fallocate(&image, FallocateFlags::empty(), 0, octets) {
        Err(rustix::io::Errno::OPNOTSUPP) => {}
        outcome => outcome?,
    }
    image.set_len(octets)?;
    image.sync_all()?;
    sync_directory(&paths.directory)
}

/// Hashes what the medium holds, not what the page cache remembers; `take` sees it, too.
fn read_back(path: &Path, take: &mut dyn FnMut(&[u8])) -> io::Result<Digest> {
    let file = private().read(true).write(true).open(path)?;
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    // Not every file system reads around the cache; where it does not, the advice must do.
    match open_direct(path).and_then(|direct| hash(direct, take)) {
        // It shows at the first read, before `take` has seen an octet.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => hash(file, take),
        outcome => outcome,
    }
}

fn open_direct(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECT;
    Ok(File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?))
}

fn hash(mut file: File, take: &mut dyn FnMut(&[u8])) -> io::Result<Digest> {
    let mut buffer = vec![0; READ_OCTETS + DIRECT_ALIGNMENT];
    let from = buffer.as_ptr().align_offset(DIRECT_ALIGNMENT).min(DIRECT_ALIGNMENT);
    let aligned = buffer.get_mut(from..from + READ_OCTETS).unwrap_or_default();
    let mut hasher = Hasher::new();
    // Behind the end the offset is no longer aligned, so the end is counted and not met.
    let mut left = file.metadata()?.len();
    while left > 0 {
        let octets = file.read(aligned)?;
        if octets == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let piece = aligned.get(..octets).unwrap_or_default();
        hasher.update(piece);
        take(piece);
        left = left.saturating_sub(octets as u64);
    }
    Ok(hasher.finish())
}

const IMAGE: &str = "image";
const READ_OCTETS: usize = 1 << 20;
const RESERVE_OCTETS: u64 = 2 << 20;
const DIRECT_ALIGNMENT: usize = 4096;

#[cfg(test)]
mod tests;
