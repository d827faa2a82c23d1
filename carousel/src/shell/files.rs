//! Files: whole ones with limits, keys with modes, large ones by offset.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use proto::crypto::{Digest, Hash16, Hasher, PublicKey, SigningKey, h16};
use rustix::{
    fs::{FallocateFlags, OFlags},
    io::Errno,
};

use crate::{
    error::{CliError, ExitCode},
    flute::session::Records,
    key_file,
    plan::{
        encode::{ReadAt, WriteAt},
        runs::RUN_BYTES,
    },
};

/// Octets of a key or token file at most.
const MAX_SECRET_BYTES: u64 = 4096;

impl ReadAt for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl WriteAt for File {
    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.write_all_at(octets, offset)
    }
}

/// Opens a file to read; a pipe that nobody writes to is empty, where a plain open never returns.
///
/// # Errors
///
/// Any error of the system.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("flags of the system are an int");
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}

/// Reads a file of at most `limit` octets.
///
/// # Errors
///
/// [`CliError`] that names the file.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, CliError> {
    let what = || path.display().to_string();
    let file = open(path).map_err(|error| CliError::io(what(), error))?;
    let mut octets = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut octets);
    let read = read.map_err(|error| CliError::io(what(), error))?;
    if u64::try_from(read).is_ok_and(|read| read > limit) {
        return Err(
            ExitCode::Configuration.with_message(format!("{}: longer than {limit} octets", what()))
        );
    }
    Ok(octets)
}

/// Reads a file that its owner alone may read: mode 0600 or 0400.
///
/// # Errors
///
/// [`CliError`] when it has another mode or is no regular file.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, CliError> {
    let what = || path.display().to_string();
    let metadata = fs::metadata(path).map_err(|error| CliError::io(what(), error))?;
    if !metadata.is_file() {
        return Err(ExitCode::Configuration.with_message(format!("{}: no regular file", what())));
    }
    let mode = metadata.mode() & 0o7777;
    if !matches!(mode, 0o600 | 0o400) {
        let text = format!("{}: mode {mode:04o}, expected 0600 or 0400; chmod 600 it", what());
        return Err(ExitCode::Configuration.with_message(text));
    }
    read(path, MAX_SECRET_BYTES)
}

/// Reads a signing key from a file that only its owner may read.
///
/// # Errors
///
/// [`CliError`] that names the file.
pub fn read_key(path: &Path) -> Result<SigningKey, CliError> {
    let octets = read_secret(path)?;
    key_file::private_key(&octets).map_err(|error| {
        ExitCode::Configuration.with_message(format!("{}: {error}", path.display()))
    })
}

/// Reads a public key from a file, or from a private key that only its owner may read.
///
/// # Errors
///
/// [`CliError`] that names the file.
pub fn read_public_key(path: &Path) -> Result<PublicKey, CliError> {
    let octets = read(path, MAX_SECRET_BYTES)?;
    match key_file::public_key(&octets) {
        Ok(key) => Ok(key),
        Err(_) if key_file::private_key(&octets).is_ok() => read_key(path).map(|key| key.public()),
        Err(text) => {
            Err(ExitCode::Configuration.with_message(format!("{}: {text}", path.display())))
        }
    }
}

/// Writes a file of mode 0600 that must not exist.
///
/// # Errors
///
/// [`ExitCode::Conflict`] when it exists.
pub fn write_secret(path: &Path, octets: &[u8]) -> Result<(), CliError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(octets)?;
        file.sync_all()?;
        sync_directory(path)
    };
    write().map_err(|error| CliError::io(path.display().to_string(), error))
}

/// Replaces a file as a whole: temporary name, sync, rename.
///
/// # Errors
///
/// [`CliError`] that names the file; its former content is unharmed.
pub fn replace(path: &Path, octets: &[u8]) -> Result<(), CliError> {
    let what = || path.display().to_string();
    let temporary = Temporary::create(path)?;
    temporary.file.write_all_at(octets, 0).map_err(|error| CliError::io(what(), error))?;
    temporary.persist()
}

/// Removes a file, if there is one.
///
/// # Errors
///
/// [`CliError`] that names the file.
pub fn remove(path: &Path) -> Result<(), CliError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CliError::io(path.display().to_string(), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a directory and those above it.
///
/// # Errors
///
/// [`CliError`] that names the directory.
pub fn make_directory(path: &Path) -> Result<(), CliError> {
    fs::create_dir_all(path).map_err(|error| CliError::io(path.display().to_string(), error))
}

/// Returns whether something has this name.
#[must_use]
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Returns the names in a directory, sorted; those that are no UTF-8 are left out.
///
/// # Errors
///
/// [`CliError`] that names the directory.
pub fn names(path: &Path) -> Result<Vec<String>, CliError> {
    let failed = |error| CliError::io(path.display().to_string(), error);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// A file under a temporary name; removed unless it is persisted.
#[derive(Debug)]
pub struct Temporary {
    file: File,
    name: PathBuf,
    target: PathBuf,
    persisted: bool,
}

impl Temporary {
    /// Makes an empty file beside `target`.
    ///
    /// # Errors
    ///
    /// [`CliError`] that names the target.
    pub fn create(target: &Path) -> Result<Self, CliError> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let name = target.with_file_name(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&name);
        let file = file.map_err(|error| CliError::io(target.display().to_string(), error))?;
        Ok(Self { file, name, target: target.to_owned(), persisted: false })
    }

    /// Returns the file, to write into it.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Reserves space, so that a full disk shows before the work begins. On file systems that
    /// cannot do it nothing happens.
    ///
    /// # Errors
    ///
    /// [`ExitCode::Incomplete`] when there is not enough.
    pub fn preallocate(&self, octets: u64) -> Result<(), CliError> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, octets) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => {
                let what = format!("{}: {octets} octets", self.target.display());
                Err(CliError::io(what, error.into()))
            }
        }
    }

    /// Syncs it and renames it to its target.
    ///
    /// # Errors
    ///
    /// [`CliError`] that names the target, which is unharmed.
    pub fn persist(mut self) -> Result<(), CliError> {
        let persist = || -> io::Result<()> {
            self.file.sync_all()?;
            fs::rename(&self.name, &self.target)?;
            sync_directory(&self.target)
        };
        persist().map_err(|error| CliError::io(self.target.display().to_string(), error))?;
        self.persisted = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.persisted {
            // It is only a left-over; the next run overwrites it.
            drop(fs::remove_file(&self.name));
        }
    }
}

/// Opens an image and returns its length.
///
/// # Errors
///
/// [`CliError`] when it is missing, unreadable, no regular file or empty.
pub fn open_image(path: &Path) -> Result<(File, u64), CliError> {
    let (file, length) = open_regular(path)?;
    if length == 0 {
        let what = path.display();
        return Err(ExitCode::Configuration.with_message(format!("image {what}: it is empty")));
    }
    Ok((file, length))
}

/// Opens a file and returns its length.
///
/// # Errors
///
/// [`CliError`] when it is missing, unreadable or no regular file.
pub fn open_regular(path: &Path) -> Result<(File, u64), CliError> {
    let what = || format!("image {}", path.display());
    let failed = |error| CliError::io(what(), error);
    let file = open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(ExitCode::Configuration.with_message(format!("{}: no regular file", what())));
    }
    Ok((file, metadata.len()))
}

/// Copies `length` octets into `target` and hashes them; without a target it only hashes.
///
/// # Errors
///
/// [`CliError`] that names the side that failed.
pub fn copy_and_hash(
    source: &File,
    length: u64,
    target: Option<&Temporary>,
    progress: &dyn Fn(u64),
) -> Result<Digest, CliError> {
    let mut hasher = Hasher::new();
    for_each_chunk(source, length, |offset, chunk| {
        hasher.update(chunk);
        if let Some(target) = target {
            let written = target.file.write_all_at(chunk, offset);
            let what = || target.target.display().to_string();
            written.map_err(|error| CliError::io(what(), error))?;
        }
        progress(u64::try_from(chunk.len()).expect("at most 1 MiB"));
        Ok(())
    })?;
    Ok(hasher.finish())
}

/// Reads `length` octets from the start and calls `process` with each chunk and its offset.
///
/// # Errors
///
/// [`CliError`] when reading fails, or the error of `process`.
pub fn for_each_chunk(
    source: &File,
    length: u64,
    mut process: impl FnMut(u64, &[u8]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < length {
        let wanted = usize::try_from(length - offset).unwrap_or(usize::MAX).min(buffer.len());
        let chunk = buffer.get_mut(..wanted).expect("no longer than the buffer");
        source.read_exact_at(chunk, offset).map_err(|error| CliError::io("image", error))?;
        process(offset, chunk)?;
        offset += u64::try_from(wanted).expect("at most 1 MiB");
    }
    Ok(())
}

/// Octets that the sender reads at once.
const READ_AHEAD_BYTES: usize = 256 * 1024;

/// Plan files, read ahead in sending order. Each run that is read is compared with its hash.
#[derive(Debug)]
pub struct PlanReader {
    files: Vec<ReadAhead>,
}

#[derive(Debug)]
struct ReadAhead {
    file: File,
    start: u64,
    buffer: Vec<u8>,
    /// Hashes of all runs; none when they are not known.
    runs: Vec<Hash16>,
    /// Runs that differ from their hash.
    damaged: BTreeSet<usize>,
}

impl PlanReader {
    /// Reads from the plan files of a session, in the order of its objects, each with the hashes of
    /// its runs; without hashes nothing is compared.
    #[must_use]
    pub fn new(files: Vec<(File, Vec<Hash16>)>) -> Self {
        let ahead = |(file, runs)| {
            let (buffer, damaged) = (Vec::new(), BTreeSet::new());
            ReadAhead { file, start: 0, buffer, runs, damaged }
        };
        Self { files: files.into_iter().map(ahead).collect() }
    }

    /// Returns the number of runs that differ from their hash. They are sent all the same: devices
    /// reject each changed symbol, and the others of the run are good.
    #[must_use]
    pub fn damaged_runs(&self) -> u64 {
        let count: usize = self.files.iter().map(|ahead| ahead.damaged.len()).sum();
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

impl Records for PlanReader {
    fn read(&mut self, object: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let ahead = self.files.get_mut(object).ok_or(io::ErrorKind::NotFound)?;
        if ahead.buffered(offset, buffer.len()).is_none() {
            ahead.refill(offset)?;
        }
        let buffered = ahead.buffered(offset, buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(buffered);
        Ok(())
    }
}

impl ReadAhead {
    fn buffered(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.buffer.get(start..start.checked_add(length)?)
    }

    fn refill(&mut self, offset: u64) -> io::Result<()> {
        self.buffer.resize(READ_AHEAD_BYTES, 0);
        self.start = offset - offset % RUN_BYTES;
        let start = self.start;
        let mut filled = 0;
        while let Some(tail) = self.buffer.get_mut(filled..).filter(|tail| !tail.is_empty()) {
            let position = start + u64::try_from(filled).expect("at most 256 KiB");
            match std::os::unix::fs::FileExt::read_at(&self.file, tail, position) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.truncate(filled);
        self.compare();
        Ok(())
    }

    /// Compares the runs in the buffer with their hashes.
    fn compare(&mut self) {
        let size = usize::try_from(RUN_BYTES).expect("64 KiB");
        let first = usize::try_from(self.start / RUN_BYTES).unwrap_or(usize::MAX);
        for (index, run) in (first..).zip(self.buffer.chunks(size)) {
            if self.runs.get(index).is_some_and(|expected| h16(&[run]) != *expected) {
                self.damaged.insert(index);
            }
        }
    }
}

/// Makes a file readable and writable by its owner alone.
///
/// # Errors
///
/// [`CliError`] that names the file.
pub fn protect(path: &Path) -> Result<(), CliError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(|error| CliError::io(path.display().to_string(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write_secret(&path, &SigningKey::generate_pkcs8()).unwrap();
        assert!(read_key(&path).is_ok());
        for mode in [0o640, 0o604, 0o660, 0o644, 0o601, 0o700, 0o200, 0o4600] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_key(&path).unwrap_err();
            assert_eq!(error.exit_code(), ExitCode::Configuration);
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read_key(&path).is_ok());
        protect(&path).unwrap();
        assert!(read_key(&path).is_ok());
        assert_eq!(write_secret(&path, b"x").unwrap_err().exit_code(), ExitCode::Conflict);
    }

    #[test]
    fn a_key_file_that_holds_no_key_is_refused_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("release.key");
        write_secret(&path, b"not a key").unwrap();
        assert!(read_key(&path).unwrap_err().to_string().contains("release.key"));
        let missing = directory.path().join("missing.key");
        assert_eq!(read_key(&missing).unwrap_err().exit_code(), ExitCode::NotFound);
        assert_eq!(read_key(directory.path()).unwrap_err().exit_code(), ExitCode::Configuration);
    }

    #[test]
    fn a_temporary_file_leaves_nothing_unless_it_is_persisted() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("0.plan");
        replace(&target, b"old").unwrap();
        let temporary = Temporary::create(&target).unwrap();
        temporary.file().write_all_at(b"new", 0).unwrap();
        drop(temporary);
        assert_eq!(names(directory.path()).unwrap(), ["0.plan"]);
        assert_eq!(read(&target, 10).unwrap(), b"old");
        replace(&target, b"new").unwrap();
        assert_eq!(read(&target, 10).unwrap(), b"new");
    }

    #[test]
    fn a_file_beyond_its_limit_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        replace(&path, b"0123456789").unwrap();
        assert!(read(&path, 10).is_ok());
        assert!(read(&path, 9).is_err());
    }

    #[test]
    fn images_that_are_missing_empty_or_no_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        assert_eq!(open_image(&path).unwrap_err().exit_code(), ExitCode::NotFound);
        replace(&path, b"").unwrap();
        assert!(open_image(&path).unwrap_err().to_string().ends_with("it is empty"));
        assert_eq!(open_image(directory.path()).unwrap_err().exit_code(), ExitCode::Configuration);
    }

    #[test]
    fn a_full_disk_is_reported_as_resumable() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = WriteAt::write_at(&full, 0, b"x").unwrap_err();
        assert_eq!(CliError::io("0.plan", error).exit_code(), ExitCode::Incomplete);
        let directory = tempfile::tempdir().unwrap();
        let target = Temporary::create(&directory.path().join("0.plan")).unwrap();
        assert_eq!(target.preallocate(1 << 60).unwrap_err().exit_code(), ExitCode::Incomplete);
    }

    #[test]
    fn records_are_read_ahead_and_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plan");
        let content: Vec<u8> = (0..700_000_u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
        replace(&path, &content).unwrap();
        let mut reader = PlanReader::new(vec![(File::open(&path).unwrap(), Vec::new())]);
        for offset in [0, 1400, 262_000, 699_000, 5] {
            let mut record = [0; 1000];
            reader.read(0, offset, &mut record).unwrap();
            let start = usize::try_from(offset).unwrap();
            assert_eq!(record, content[start..start + 1000]);
        }
        assert!(reader.read(0, 699_001, &mut [0; 1000]).is_err());
        assert!(reader.read(1, 0, &mut [0; 1]).is_err());
    }

    #[test]
    fn a_run_that_was_changed_after_it_was_hashed_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plan");
        let mut content = vec![7; 700_000];
        let size = usize::try_from(RUN_BYTES).unwrap();
        let runs: Vec<_> = content.chunks(size).map(|run| h16(&[run])).collect();
        content[3 * size] ^= 1;
        replace(&path, &content).unwrap();
        let mut reader = PlanReader::new(vec![(File::open(&path).unwrap(), runs)]);
        let mut record = [0; 1000];
        for _ in 0..2 {
            reader.read(0, 0, &mut record).unwrap();
            reader.read(0, 690_000, &mut record).unwrap();
        }
        assert_eq!(reader.damaged_runs(), 1);
    }
}
