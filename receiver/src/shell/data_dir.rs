//! The data directory: the stored state of one device, locked by one process at a time.
//!
//! ```text
//! DATA/                    0700
//!   lock                   locked by the running agent
//!   journal.a journal.b    see crate::store::journal
//!   journal.a.damaged …    copies that were damaged at the same time, for people
//!   floors floors.new      see crate::store::floors, written atomically; the space of the next
//!   files/NAME             small files (envelopes, parts of a package), each written atomically
//!   objects/KEY/           see crate::store
//!   account.toml card.toml the accounts of a bootstrap document and of the card, each written
//!                          atomically; see crate::bootstrap
//!   consent.json           the standing consent, written atomically; see crate::update::consent
//!   control.sock           the control socket, 0600
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use super::disk::{DirectoryLock, Disk, OpenMode, RealDisk, SharedDisk};
use crate::store::{
    CopyName, JournalWrite, ObjectLayout, StorageError,
    commands::{FileName, TEMPORARY},
    floors::FLOORS_BYTES,
    journal::JOURNAL_BYTES,
};

/// The data directory, locked for this process.
#[derive(Debug)]
pub struct DataDir {
    disk: SharedDisk,
    path: PathBuf,
    _lock: Box<dyn DirectoryLock>,
}

/// Error of opening the data directory.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another agent uses it.
    #[error("another agent uses {0}")]
    Locked(PathBuf),
    /// It cannot be created or opened.
    #[error("cannot use {path} as data directory")]
    Io {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Kind of a stored account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// The account of a bootstrap document.
    Given,
    /// The account of the card, which takes precedence.
    Card,
}

impl AccountKind {
    /// Both kinds, in rising precedence.
    pub const ALL: [Self; 2] = [Self::Given, Self::Card];

    const fn file_name(self) -> &'static str {
        match self {
            Self::Given => GIVEN,
            Self::Card => CARD,
        }
    }
}

impl DataDir {
    /// Opens the directory, creates it if it is missing, and locks it.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] when another process has locked it, [`OpenError::Io`] otherwise.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(RealDisk), path)
    }

    /// Opens the directory on another disk than that of the machine.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_on(disk: SharedDisk, path: &Path) -> Result<Self, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        let missing: Vec<_> = path.ancestors().take_while(|path| !disk.exists(path)).collect();
        for path in [path.to_owned(), path.join(FILES), path.join(OBJECTS)] {
            disk.make_directory(&path).map_err(failed(&path))?;
        }
        // The rename of a killed process is visible before it would survive a power cut.
        disk.sync_directory(path).map_err(failed(path))?;
        // Each time: an earlier run may have failed before this. The parents may be new, too.
        let made = std::iter::once(path).chain(missing.into_iter().skip(1));
        for above in made.filter_map(Path::parent) {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            disk.sync_directory(above).map_err(failed(above))?;
        }
        let lock = disk.lock(&path.join("lock")).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                OpenError::Locked(path.to_owned())
            } else {
                failed(&path.join("lock"))(error)
            }
        })?;
        Ok(Self { disk, path: path.to_owned(), _lock: lock })
    }

    /// Returns its disk.
    #[must_use]
    pub fn disk(&self) -> SharedDisk {
        Arc::clone(&self.disk)
    }

    /// Returns the path of the control socket for a data directory.
    #[must_use]
    pub fn control_socket(data: &Path) -> PathBuf {
        data.join("control.sock")
    }

    /// Returns the directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the parent of the objects' directories.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.path.join(OBJECTS)
    }

    /// Returns the path of the verified image of an object.
    #[must_use]
    pub fn image_path(&self, layout: &ObjectLayout) -> PathBuf {
        self.objects().join(layout.directory_name()).join("image")
    }

    /// Reads both copies of the journal; an absent one is empty. The returned content is durable.
    ///
    /// # Errors
    ///
    /// Any error of the read, other than an absent file.
    pub fn read_journal(&self) -> Result<[Vec<u8>; 2], StorageError> {
        let [a, b] = CopyName::BOTH.map(|copy| {
            self.read_copy(&self.path.join(copy.file_name()))
                .map(Option::unwrap_or_default)
                .map_err(StorageError::while_doing(format!("read {}", copy.file_name())))
        });
        Ok([a?, b?])
    }

    /// Syncs and reads a copy from the medium. The copy of a killed process is readable before it
    /// is durable, and one whose sync failed stays so: as the latest state it would direct the next
    /// write over the only copy that survives a power cut.
    fn read_copy(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self.disk.open(path, OpenMode::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(file) => {
                if let Err(error) = file.sync_data() {
                    tracing::warn!(%error, "failed to sync a copy of the journal before reading it");
                }
                file.drop_page_cache()?;
            }
        }
        // A reserved copy of zeros is empty.
        let read = read_limited(&*self.disk, path, JOURNAL_BYTES)?;
        Ok(read.filter(|octets| octets.iter().any(|octet| *octet != 0)))
    }

    /// Reserves the space of both copies of the journal, without changing their content, and of the
    /// next floors.
    ///
    /// # Errors
    ///
    /// [`StorageError::NoSpace`] when there is none, or any other error of the write.
    pub fn reserve_journal(&self) -> Result<(), StorageError> {
        let attempt = || {
            let mut has_grown = self.reserve(FLOORS_NEXT, FLOORS_BYTES)?;
            for copy in CopyName::BOTH {
                has_grown |= self.reserve(copy.file_name(), JOURNAL_BYTES)?;
            }
            if has_grown { self.disk.sync_directory(&self.path) } else { Ok(()) }
        };
        attempt().map_err(StorageError::while_doing("reserve the journal"))
    }

    /// Lengthens a file to `octets` and syncs it; returns whether it was shorter.
    fn reserve(&self, name: &str, octets: usize) -> io::Result<bool> {
        let whole = octets as u64;
        let file = self.disk.open(&self.path.join(name), OpenMode::Create)?;
        // The last page of the state is allocated, and not written again.
        let from = file.length()?.next_multiple_of(PAGE_BYTES).min(whole);
        if from < whole {
            let zeros = vec![0; usize::try_from(whole - from).unwrap_or_default()];
            file.write_all_at(&zeros, from)?;
            file.sync_all()?;
        }
        Ok(from < whole)
    }

    /// Writes the floors of a write, if it has any, then one copy of the journal; syncs both.
    ///
    /// # Errors
    ///
    /// Any error of the write or the sync; the other copy is untouched.
    pub fn write_journal(&self, write: &JournalWrite) -> Result<(), StorageError> {
        if let Some(floors) = &write.floors {
            self.write_floors(floors)?;
        }
        let name = write.copy.file_name();
        let path = self.path.join(name);
        let attempt = || {
            let is_fresh = !self.disk.exists(&path);
            let file = self.disk.open(&path, OpenMode::Create)?;
            file.write_all_at(&write.octets, 0)?;
            file.sync_data()?;
            if is_fresh { self.disk.sync_directory(&self.path) } else { Ok(()) }
        };
        attempt().map_err(StorageError::while_doing(format!("write {name}")))
    }

    /// Puts both copies of the journal aside, for people.
    ///
    /// # Errors
    ///
    /// Any error of the rename or the sync.
    pub fn put_journal_aside(&self) -> Result<(), StorageError> {
        let attempt = || {
            for copy in CopyName::BOTH {
                match self.disk.rename(&self.path.join(copy.file_name()), &self.aside(copy)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
            self.disk.sync_directory(&self.path)
        };
        attempt().map_err(StorageError::while_doing("put the damaged journal aside"))
    }

    /// Returns how many copies of the journal were put aside.
    #[must_use]
    pub fn journal_copies_aside(&self) -> usize {
        CopyName::BOTH.into_iter().filter(|copy| self.disk.exists(&self.aside(*copy))).count()
    }

    fn aside(&self, copy: CopyName) -> PathBuf {
        self.path.join(format!("{}{DAMAGED}", copy.file_name()))
    }

    /// Reads the floors; `None` when there are none.
    ///
    /// # Errors
    ///
    /// Any error of the read.
    pub fn read_floors(&self) -> Result<Option<Vec<u8>>, StorageError> {
        read_limited(&*self.disk, &self.path.join(FLOORS), FLOORS_BYTES)
            .map_err(StorageError::while_doing("read the floors"))
    }

    /// Writes the floors atomically, into the reserved space where there is some, and syncs them.
    /// Reserves the space of the next ones, where there is any.
    ///
    /// # Errors
    ///
    /// Any error of the write, the sync or the rename; the floors are unchanged then.
    pub fn write_floors(&self, octets: &[u8]) -> Result<(), StorageError> {
        let temporary = self.path.join(FLOORS_NEXT);
        let attempt = || {
            let file = self.disk.open(&temporary, OpenMode::Create)?;
            file.write_all_at(octets, 0)?;
            file.sync_all()?;
            self.disk.rename(&temporary, &self.path.join(FLOORS))?;
            self.disk.sync_directory(&self.path)
        };
        attempt().map_err(StorageError::while_doing("write the floors"))?;
        if let Err(error) = self.reserve(FLOORS_NEXT, FLOORS_BYTES) {
            tracing::warn!(%error, "no space is reserved for the next floors");
        }
        Ok(())
    }

    /// Reads a small file; `None` when there is none of that name.
    ///
    /// # Errors
    ///
    /// Any error of the read.
    pub fn read_file(&self, name: &FileName) -> Result<Option<Vec<u8>>, StorageError> {
        read_limited(&*self.disk, &self.path.join(FILES).join(name.as_str()), SMALL_FILE_BYTES)
            .map_err(StorageError::while_doing(format!("read {}", name.as_str())))
    }

    /// Reads all small files, by name.
    ///
    /// # Errors
    ///
    /// Any error of the read.
    pub fn read_files(&self) -> Result<BTreeMap<String, Vec<u8>>, StorageError> {
        let attempt = || {
            let mut files = BTreeMap::new();
            let directory = self.path.join(FILES);
            for entry in self.disk.list(&directory)? {
                let name = entry.name.into_string().unwrap_or_default();
                if FileName::new(&name).is_some()
                    && let Some(octets) =
                        read_limited(&*self.disk, &directory.join(&name), SMALL_FILE_BYTES)?
                {
                    files.insert(name, octets);
                }
            }
            Ok(files)
        };
        attempt().map_err(StorageError::while_doing("read the small files"))
    }

    /// Writes a small file atomically, and syncs it.
    ///
    /// # Errors
    ///
    /// Any error of the write, the sync or the rename; a file of that name is unchanged then.
    pub fn write_file(&self, name: &FileName, octets: &[u8]) -> Result<(), StorageError> {
        self.write_atomically(&self.path.join(FILES), name.as_str(), octets)
    }

    fn write_atomically(
        &self,
        directory: &Path,
        name: &str,
        octets: &[u8],
    ) -> Result<(), StorageError> {
        let temporary = directory.join(format!("{name}{TEMPORARY}"));
        let attempt = || {
            let file = self.disk.open(&temporary, OpenMode::Empty)?;
            file.write_all_at(octets, 0)?;
            file.sync_all()?;
            self.disk.rename(&temporary, &directory.join(name))?;
            self.disk.sync_directory(directory)
        };
        attempt().map_err(StorageError::while_doing(format!("write {name}")))
    }

    /// Returns the path of an account for a data directory.
    #[must_use]
    pub fn account_file(data: &Path, kind: AccountKind) -> PathBuf {
        data.join(kind.file_name())
    }

    /// Writes an account atomically, and syncs it.
    ///
    /// # Errors
    ///
    /// Any error of the write, the sync or the rename; the account is unchanged then.
    pub fn write_account(&self, kind: AccountKind, text: &str) -> Result<(), StorageError> {
        self.write_atomically(&self.path, kind.file_name(), text.as_bytes())
    }

    /// Removes an account, if it exists.
    ///
    /// # Errors
    ///
    /// Any error of the removal or the sync.
    pub fn remove_account(&self, kind: AccountKind) -> Result<(), StorageError> {
        self.remove_top_level(kind.file_name())
    }

    /// Returns the path of the standing consent for a data directory.
    #[must_use]
    pub fn consent_file(data: &Path) -> PathBuf {
        data.join(CONSENT)
    }

    /// Writes the standing consent atomically, and syncs it.
    ///
    /// # Errors
    ///
    /// Any error of the write, the sync or the rename; the consent is unchanged then.
    pub fn write_consent(&self, text: &str) -> Result<(), StorageError> {
        self.write_atomically(&self.path, CONSENT, text.as_bytes())
    }

    /// Removes the standing consent, if it exists.
    ///
    /// # Errors
    ///
    /// Any error of the removal or the sync.
    pub fn remove_consent(&self) -> Result<(), StorageError> {
        self.remove_top_level(CONSENT)
    }

    fn remove_top_level(&self, name: &str) -> Result<(), StorageError> {
        let attempt = || match self.disk.remove_file(&self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => self.disk.sync_directory(&self.path),
        };
        attempt().map_err(StorageError::while_doing(format!("remove {name}")))
    }

    /// Removes a small file, if it exists.
    ///
    /// # Errors
    ///
    /// Any error of the removal.
    pub fn remove_file(&self, name: &FileName) -> Result<(), StorageError> {
        match self.disk.remove_file(&self.path.join(FILES).join(name.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::while_doing(format!("remove {}", name.as_str()))(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes the directory of an object, if it exists.
    ///
    /// # Errors
    ///
    /// Any error of the removal.
    pub fn drop_object(&self, layout: &ObjectLayout) -> Result<(), StorageError> {
        self.drop_named(&layout.directory_name())
    }

    /// Removes the directory of an object by its name, if it exists.
    ///
    /// # Errors
    ///
    /// Any error of the removal.
    pub fn drop_named(&self, name: &str) -> Result<(), StorageError> {
        match self.disk.remove_directory(&self.objects().join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::while_doing("remove an object")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes a file of the parent directory, the output directory, if it exists.
    ///
    /// # Errors
    ///
    /// Any error of the removal.
    pub fn remove_beside(&self, name: &str) -> Result<(), StorageError> {
        let beside = self.path.parent().unwrap_or(&self.path);
        match self.disk.remove_file(&beside.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::while_doing(format!("remove {name}"))(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns the names of the files in the parent directory, the output directory.
    ///
    /// # Errors
    ///
    /// Any error of the read.
    pub fn names_beside(&self) -> Result<BTreeSet<String>, StorageError> {
        let attempt = || {
            let beside = self.path.parent().unwrap_or(&self.path);
            let names = self.disk.list(beside)?.into_iter().map(|entry| entry.name);
            Ok(names.filter_map(|name| name.into_string().ok()).collect())
        };
        attempt().map_err(StorageError::while_doing("read the output directory"))
    }

    /// Returns the names of the objects' directories.
    ///
    /// # Errors
    ///
    /// Any error of the read.
    pub fn object_names(&self) -> Result<BTreeSet<String>, StorageError> {
        let found = self.disk.list(&self.objects());
        let found = found.map_err(StorageError::while_doing("read the objects"))?;
        let directories = found.into_iter().filter(|entry| entry.is_directory);
        Ok(directories.filter_map(|entry| entry.name.into_string().ok()).collect())
    }

    /// Returns the octets that the disk has free for this user.
    ///
    /// # Errors
    ///
    /// Any error of the query.
    pub fn free_bytes(&self) -> Result<u64, StorageError> {
        let free = rustix::fs::statvfs(&self.path).map(|found| found.f_bavail * found.f_frsize);
        free.map_err(|error| StorageError::while_doing("query the free space")(error.into()))
    }

    /// Removes the directories of all objects except those in `keep`.
    ///
    /// # Errors
    ///
    /// Any error of the removal.
    pub fn drop_objects_except(&self, keep: &[ObjectLayout]) -> Result<(), StorageError> {
        let keep: Vec<_> = keep.iter().map(ObjectLayout::directory_name).collect();
        let attempt = || {
            for entry in self.disk.list(&self.objects())? {
                let path = self.objects().join(&entry.name);
                if !entry.is_directory {
                    self.disk.remove_file(&path)?;
                } else if !keep.iter().any(|name| entry.name == name.as_str()) {
                    self.disk.remove_directory(&path)?;
                }
            }
            self.disk.sync_directory(&self.objects())
        };
        attempt().map_err(StorageError::while_doing("remove other objects"))
    }
}

/// Reads a text file; `None` when it or its directory is missing. Opening the directory reports
/// other problems.
///
/// # Errors
///
/// Any error of the read.
pub fn read_optional(path: &Path) -> io::Result<Option<String>> {
    match read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads a file that a person wrote, such as the configuration.
///
/// # Errors
///
/// Any error of the read, text that is not UTF-8 included.
pub fn read_text(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
}

/// Reads a whole file of octets.
///
/// # Errors
///
/// [`io::Error`] from the file system.
pub fn read_octets(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path)
}

/// Creates a directory of mode 0700 and its missing parents.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    RealDisk.make_directory(path)
}

fn read_limited(disk: &dyn Disk, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let octets = usize::try_from(file.length()?).map_or(limit, |length| length.min(limit));
    let mut content = vec![0; octets];
    file.read_exact_at(&mut content, 0)?;
    Ok(Some(content))
}

pub(super) const GIVEN: &str = "account.toml";
pub(super) const CARD: &str = "card.toml";
pub(super) const FLOORS: &str = "floors";
/// The reserved space of the next floors.
pub(super) const FLOORS_NEXT: &str = "floors.new";
/// The end of the name of a copy of the journal that was put aside.
pub(super) const DAMAGED: &str = ".damaged";
const FILES: &str = "files";
pub(super) const CONSENT: &str = "consent.json";
const OBJECTS: &str = "objects";
const PAGE_BYTES: u64 = 4096;
/// Octets of a small file, at most; envelopes and plan headers have at most 4 KiB.
const SMALL_FILE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn floors_are_on_disk_before_the_journal_that_relies_on_them() {
        let home = tempfile::tempdir().unwrap();
        let data = DataDir::open(&home.path().join("data")).unwrap();
        let write = |octets: &[u8], floors: Option<&[u8]>| {
            data.write_journal(&JournalWrite {
                copy: CopyName::A,
                generation: 1,
                octets: octets.to_vec(),
                floors: floors.map(<[u8]>::to_vec),
            })
        };
        write(b"low", Some(b"1")).unwrap();
        assert_eq!(data.read_floors().unwrap().as_deref(), Some(&b"1"[..]));
        // Their temporary file cannot be written.
        fs::remove_file(data.path().join("floors.new")).unwrap();
        fs::create_dir(data.path().join("floors.new")).unwrap();
        write(b"high", Some(b"2")).unwrap_err();
        assert_eq!(data.read_journal().unwrap()[0], b"low");
        assert_eq!(data.read_floors().unwrap().as_deref(), Some(&b"1"[..]));
        write(b"same", None).unwrap();
        fs::remove_dir(data.path().join("floors.new")).unwrap();
        data.reserve_journal().unwrap();
        let reserved = fs::metadata(data.path().join("floors.new")).unwrap().len();
        assert_eq!(reserved, FLOORS_BYTES as u64, "a disk that is full later takes the floors");
        write(b"high", Some(b"3")).unwrap();
        assert!(data.read_floors().unwrap().unwrap().starts_with(b"3\0"));
        let reserved = fs::metadata(data.path().join("floors.new")).unwrap().len();
        assert_eq!(reserved, FLOORS_BYTES as u64, "the space of the next ones, too");
    }

    #[test]
    fn damaged_copies_are_kept_aside() {
        let home = tempfile::tempdir().unwrap();
        let data = DataDir::open(&home.path().join("data")).unwrap();
        assert_eq!(data.journal_copies_aside(), 0);
        fs::write(data.path().join("journal.a"), b"junk").unwrap();
        data.put_journal_aside().unwrap();
        assert_eq!(data.journal_copies_aside(), 1);
        assert_eq!(fs::read(data.path().join("journal.a.damaged")).unwrap(), b"junk");
        assert_eq!(data.read_journal().unwrap(), [b"", b""]);
    }

    #[test]
    fn a_name_that_could_be_a_path_is_rejected() {
        let long = "x".repeat(101);
        for wrong in ["", ".", "..", ".x", "a/b", "../x", "a\0b", "A", "a b", "x.new", &long] {
            assert_eq!(FileName::new(wrong), None, "{wrong:?}");
        }
        assert!(FileName::new("campaign-00ff.env").is_some());
    }

    #[test]
    fn one_process_locks_the_directory() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("data");
        let first = DataDir::open(&path).unwrap();
        assert!(matches!(DataDir::open(&path), Err(OpenError::Locked(_))));
        drop(first);
        DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn journal_copies_and_small_files_are_read_as_written() {
        let home = tempfile::tempdir().unwrap();
        let data = DataDir::open(home.path()).unwrap();
        assert_eq!(data.read_journal().unwrap(), [Vec::<u8>::new(), Vec::new()]);
        let write = JournalWrite {
            copy: CopyName::B,
            generation: 1,
            octets: b"state".to_vec(),
            floors: None,
        };
        data.write_journal(&write).unwrap();
        assert_eq!(data.read_journal().unwrap(), [Vec::new(), b"state".to_vec()]);

        data.reserve_journal().unwrap();
        let [a, b] = data.read_journal().unwrap();
        assert_eq!((a.len(), b.len()), (0, JOURNAL_BYTES));
        assert!(b.starts_with(b"state\0"));
        for name in ["journal.a", "journal.b"] {
            let room = fs::metadata(home.path().join(name)).unwrap().len();
            assert_eq!(room, JOURNAL_BYTES as u64);
        }

        let name = FileName::new("root.env").unwrap();
        assert_eq!(data.read_file(&name).unwrap(), None);
        data.write_file(&name, b"one").unwrap();
        data.write_file(&name, b"two").unwrap();
        assert_eq!(data.read_file(&name).unwrap().as_deref(), Some(&b"two"[..]));
        fs::write(home.path().join("files/half.new"), b"half").unwrap();
        let all = data.read_files().unwrap();
        assert_eq!(all, BTreeMap::from([("root.env".to_owned(), b"two".to_vec())]));
        data.remove_file(&name).unwrap();
        data.remove_file(&name).unwrap();
        assert_eq!(data.read_file(&name).unwrap(), None);
    }

    #[test]
    fn a_full_disk_is_distinguished_from_other_failures() {
        let home = tempfile::tempdir().unwrap();
        let data = DataDir::open(home.path()).unwrap();
        std::os::unix::fs::symlink("/dev/full", home.path().join("journal.a")).unwrap();
        let write = JournalWrite {
            copy: CopyName::A,
            generation: 1,
            octets: b"state".to_vec(),
            floors: None,
        };
        let attempted = "write journal.a".to_owned();
        assert_eq!(data.write_journal(&write), Err(StorageError::NoSpace { attempted }));
    }

    #[test]
    fn a_data_directory_that_is_a_file_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("data");
        fs::write(&path, b"").unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
