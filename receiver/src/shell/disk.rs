//! The seam to the file system: all that the storage asks of it, one method per call.
//!
//! [`RealDisk`] is the machine's. A simulation brings another one that loses what was not synced,
//! so that the storage is tested as it runs.
//!
//! What a caller may rely on after a power cut is what these calls promise and no more:
//!
//! | call | survives |
//! | --- | --- |
//! | [`DiskFile::write_all_at`] | nothing, or any of it, until the file is synced |
//! | [`DiskFile::sync_data`] | octets and length, once it has returned |
//! | [`Disk::open`] that makes a file, [`Disk::rename`], the removals | once the directory is synced |

use std::{
    ffi::OsString,
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use rustix::fs::{Advice, FallocateFlags, FlockOperation, OFlags, fadvise, fallocate, flock};

/// A disk that the storage threads share.
pub type SharedDisk = Arc<dyn Disk>;

/// A file system, as far as the storage uses one. Paths are those of the data directory.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] when it is missing and not to be made, or what opening meets.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Returns whether there is something of this name.
    fn exists(&self, path: &Path) -> bool;

    /// Makes a directory of mode 0700, with those above it, unless it is there.
    ///
    /// # Errors
    ///
    /// What making meets.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    ///
    /// What syncing meets.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Returns what lies in a directory, by name.
    ///
    /// # Errors
    ///
    /// What reading meets.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Gives a file another name in the same directory; what had that name is gone.
    ///
    /// # Errors
    ///
    /// What renaming meets.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] when there is none, or what removing meets.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that it holds.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] when there is none, or what removing meets.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Reads a whole file around the page cache, piece by piece: what was not synced before may
    /// not be seen.
    ///
    /// # Errors
    ///
    /// What reading meets.
    fn read_uncached(&self, path: &Path, take: &mut dyn FnMut(&[u8])) -> io::Result<()>;

    /// Makes the file `path` and locks it for this process until the answer is dropped.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when another process holds it, or what opening meets.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>>;
}

/// An open file.
pub trait DiskFile: fmt::Debug + Send {
    /// Fills `octets` from `offset` on.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] behind the end, or what reading meets.
    fn read_exact_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes `octets` at `offset`.
    ///
    /// # Errors
    ///
    /// What writing meets; some of it may be written then.
    fn write_all_at(&self, octets: &[u8], offset: u64) -> io::Result<()>;

    /// Returns the file's length.
    ///
    /// # Errors
    ///
    /// What asking meets.
    fn length(&self) -> io::Result<u64>;

    /// Reserves room for `octets` octets and makes the file that long.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] where the file system cannot: zeros must be written then.
    fn allocate(&self, octets: u64) -> io::Result<()>;

    /// Makes the file's octets and its length durable.
    ///
    /// # Errors
    ///
    /// What syncing meets. What was written since the last sync may be lost then, although it is
    /// read back: a second call may return well and has synced nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes all of the file durable, also what only its owner looks at.
    ///
    /// # Errors
    ///
    /// As [`Self::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Drops what the page cache has of a synced file: later reads see the medium.
    ///
    /// # Errors
    ///
    /// What asking meets.
    fn drop_page_cache(&self) -> io::Result<()>;
}

/// A lock that ends when it is dropped.
pub trait DirectoryLock: fmt::Debug + Send + Sync {}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenMode {
    /// To read it.
    Read,
    /// To read and write it.
    Write,
    /// To read and write it as it is; it is made where it is missing, with mode 0600.
    Create,
    /// To read and write it from nothing; it is made where it is missing, with mode 0600.
    Empty,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// Whether it names a directory.
    pub is_directory: bool,
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.mode(0o600).read(true).write(mode != OpenMode::Read);
        options
            .create(matches!(mode, OpenMode::Create | OpenMode::Empty))
            .truncate(mode == OpenMode::Empty);
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let entries = fs::read_dir(path)?.map(|entry| {
            let entry = entry?;
            Ok(Entry { name: entry.file_name(), is_directory: entry.file_type()?.is_dir() })
        });
        let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn read_uncached(&self, path: &Path, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let cached = File::open(path)?;
        fadvise(&cached, 0, None, Advice::DontNeed)?;
        // Not every file system reads around the cache; where it does not, the advice must do.
        match open_direct(path).and_then(|direct| read_through(direct, take)) {
            // It shows at the first read, before `take` has seen an octet.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => read_through(cached, take),
            outcome => outcome,
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let mut options = OpenOptions::new();
        let file = options.mode(0o600).write(true).create(true).truncate(false).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        Ok(Box::new(RealFile(file)))
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DirectoryLock for RealFile {}

impl DiskFile for RealFile {
    fn read_exact_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(octets, offset)
    }

    fn write_all_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(octets, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        fallocate(&self.0, FallocateFlags::empty(), 0, octets)?;
        self.0.set_len(octets)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn drop_page_cache(&self) -> io::Result<()> {
        Ok(fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }
}

fn open_direct(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECT;
    Ok(File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?))
}

fn read_through(mut file: File, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES + DIRECT_ALIGNMENT];
    let from = buffer.as_ptr().align_offset(DIRECT_ALIGNMENT).min(DIRECT_ALIGNMENT);
    let aligned = buffer.get_mut(from..from + READ_BYTES).unwrap_or_default();
    // Behind the end the offset is no longer aligned, so the end is counted and not met.
    let mut left = file.metadata()?.len();
    while left > 0 {
        let octets = file.read(aligned)?;
        if octets == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        take(aligned.get(..octets).unwrap_or_default());
        left = left.saturating_sub(octets as u64);
    }
    Ok(())
}

const READ_BYTES: usize = 1 << 20;
const DIRECT_ALIGNMENT: usize = 4096;
