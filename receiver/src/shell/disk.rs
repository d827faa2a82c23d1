//! Interface of the file system for the storage, one method per call.
//!
//! [`RealDisk`] is that of the machine. A simulation has another one that loses unsynced writes, so
//! that the tests run the real storage.
//!
//! Guarantees after a power cut:
//!
//! | call | survives |
//! | --- | --- |
//! | [`DiskFile::write_all_at`] | any part of it, until the file is synced |
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

/// A disk shared by the storage threads.
pub type SharedDisk = Arc<dyn Disk>;

/// A file system, as far as the storage uses one. Paths are those of the data directory.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] when it is missing and not to be made, or any error of the open.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Returns whether the path exists.
    fn exists(&self, path: &Path) -> bool;

    /// Creates a directory of mode 0700 and its missing parents.
    ///
    /// # Errors
    ///
    /// Any error of the creation.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    ///
    /// Any error of the sync.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Lists a directory, by name.
    ///
    /// # Errors
    ///
    /// Any error of the read.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Renames a file within its directory, replacing a file of the same name.
    ///
    /// # Errors
    ///
    /// Any error of the rename.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] when there is none, or any error of the removal.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with its content.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] when there is none, or any error of the removal.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Reads a whole file around the page cache, in blocks; unsynced writes may be missing.
    ///
    /// # Errors
    ///
    /// Any error of the read.
    fn read_uncached(&self, path: &Path, receive: &mut dyn FnMut(&[u8])) -> io::Result<()>;

    /// Creates the file `path` and locks it for this process until the lock is dropped.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when another process holds it, or any error of the open.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>>;
}

/// An open file.
pub trait DiskFile: fmt::Debug + Send {
    /// Fills `octets` from `offset` on.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] behind the end, or any error of the read.
    fn read_exact_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes `octets` at `offset`.
    ///
    /// # Errors
    ///
    /// Any error of the write; a part may be written then.
    fn write_all_at(&self, octets: &[u8], offset: u64) -> io::Result<()>;

    /// Returns the file's length.
    ///
    /// # Errors
    ///
    /// Any error of the call.
    fn length(&self) -> io::Result<u64>;

    /// Reserves space for `octets` octets and sets the length of the file.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] where the file system cannot: zeros must be written then.
    fn allocate(&self, octets: u64) -> io::Result<()>;

    /// Makes the file's octets and its length durable.
    ///
    /// # Errors
    ///
    /// Any error of the sync. Writes since the last sync may be lost then, although they can be
    /// read back: a second call may succeed without a sync.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes all of the file durable, with its metadata.
    ///
    /// # Errors
    ///
    /// As [`Self::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Drops a synced file from the page cache: later reads are from the medium.
    ///
    /// # Errors
    ///
    /// Any error of the call.
    fn drop_page_cache(&self) -> io::Result<()>;
}

/// A lock that is released when dropped.
pub trait DirectoryLock: fmt::Debug + Send + Sync {}

/// Mode of opening a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenMode {
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// Read and write; a missing file is created with mode 0600.
    Create,
    /// Read and write, truncated; a missing file is created with mode 0600.
    Empty,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// Set for a directory.
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

    fn read_uncached(&self, path: &Path, receive: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let cached = File::open(path)?;
        fadvise(&cached, 0, None, Advice::DontNeed)?;
        // Not every file system supports O_DIRECT; otherwise the advice has to suffice.
        match open_direct(path).and_then(|direct| read_through(direct, receive)) {
            // It fails at the first read, before the first call of `receive`.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                read_through(cached, receive)
            }
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

fn read_through(mut file: File, receive: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES + DIRECT_ALIGNMENT];
    let from = buffer.as_ptr().align_offset(DIRECT_ALIGNMENT).min(DIRECT_ALIGNMENT);
    let aligned = buffer.get_mut(from..from + READ_BYTES).unwrap_or_default();
    // Behind the end the offset is not aligned, so the end is counted rather than read.
    let mut left = file.metadata()?.len();
    while left > 0 {
        let octets = file.read(aligned)?;
        if octets == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        receive(aligned.get(..octets).unwrap_or_default());
        left = left.saturating_sub(octets as u64);
    }
    Ok(())
}

const READ_BYTES: usize = 1 << 20;
const DIRECT_ALIGNMENT: usize = 4096;
