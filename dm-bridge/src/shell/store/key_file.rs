//! The file of the keys that seal the secrets of a fleet.
//!
//! ```text
//! write FILE.new (0400), flush | rename it to FILE | flush the folder
//! ```
//!
//! Whoever writes it holds the write lock of the database, so no two do at once; a power cut leaves
//! the one or the other. A process that meets a key that it does not know reads the file again.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use proto::{
    crypto::{SealingKey, random},
    dm::auth::Secret,
};
use zeroize::Zeroizing;

use crate::fleet::{
    sealing::{KeyId, KeyRing, MAX_KEYS, Owner, SealError, key_id},
    store::StoreError,
};

/// Name of the credential that a service manager hands over.
pub const CREDENTIAL: &str = "dm-bridge.keys";

/// Octets of the file that are read, at most.
const MAX_BYTES: usize = (MAX_KEYS + 1) * 65;

/// A key file and what was read of it.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
    keeper: Keeper,
    ring: Arc<RwLock<Arc<KeyRing>>>,
}

/// Who looks after the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    /// This program: it makes the file, and no one but its user may read it.
    Own,
    /// The service manager: it decides who reads the file, and nobody writes it.
    Service,
}

impl KeyFile {
    /// Takes the file at `path`, which is made when it is missing and nothing is sealed yet.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), keeper: Keeper::Own, ring: Arc::default() }
    }

    /// Takes the file that the service manager hands over, if it does.
    #[must_use]
    pub fn of_service() -> Option<Self> {
        let path = PathBuf::from(env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
        path.exists().then(|| Self { keeper: Keeper::Service, ..Self::at(&path) })
    }

    /// Returns the keys as they were read last.
    #[must_use]
    pub fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file anew.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealed`] when it is missing, open to others or no key file.
    pub fn load(&self) -> Result<Arc<KeyRing>, StoreError> {
        let ring = Arc::new(self.read()?);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&ring);
        Ok(ring)
    }

    /// Reads the file, or makes it with one key when there is none.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], and when it cannot be written.
    pub fn load_or_make(&self) -> Result<Arc<KeyRing>, StoreError> {
        if !self.path.exists() {
            let mut ring = KeyRing::default();
            ring.add(Zeroizing::new(random()));
            self.write(&ring)?;
        }
        self.load()
    }

    /// Returns the keys with one of them, from the file when it has come since it was read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealed`] when the file does not hold it.
    pub fn with(&self, id: KeyId) -> Result<Arc<KeyRing>, StoreError> {
        let known = Some(self.ring()).filter(|ring| ring.holds(id));
        let ring = known.map_or_else(|| self.load(), Ok)?;
        if ring.holds(id) { Ok(ring) } else { Err(self.missing(id)) }
    }

    /// Opens a secret.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealed`] when the file does not hold its key, [`StoreError::Damaged`] when it
    /// is no secret of this device.
    pub fn open(&self, owner: Owner<'_>, sealed: &[u8]) -> Result<Secret, StoreError> {
        let doubt = |error: SealError| {
            let found = format!("{error}, for device {}", owner.device.as_str());
            StoreError::Damaged { what: "secret", found }
        };
        let ring = self.with(key_id(sealed).map_err(doubt)?)?;
        ring.open(owner, sealed).map_err(doubt)
    }

    fn missing(&self, id: KeyId) -> StoreError {
        self.refused(&format!(
            "it does not hold key {id}, with which secrets of this fleet are sealed; put back the \
             file that holds it, or name it with --secrets-key"
        ))
    }

    fn refused(&self, why: &str) -> StoreError {
        StoreError::Sealed(format!("the key file {}: {why}", self.path.display()))
    }

    fn failed(&self, doing: &'static str) -> impl Fn(std::io::Error) -> StoreError {
        move |error| self.refused(&format!("cannot {doing} it: {error}"))
    }

    /// Reads the file as it is.
    fn read(&self) -> Result<KeyRing, StoreError> {
        let file = File::open(&self.path).map_err(|error| {
            if error.kind() != ErrorKind::NotFound {
                return self.failed("open")(error);
            }
            self.refused(
                "it is missing, and the secrets of this fleet do not open without it; put it back, \
                 or name it with --secrets-key",
            )
        })?;
        let mode = file.metadata().map_err(self.failed("read"))?.permissions().mode() & 0o7777;
        // spec: security 7.4 (mode 0400)
        if self.keeper == Keeper::Own && mode & !0o400 != 0 {
            let path = self.path.display();
            let text = format!("it has mode {mode:04o}, wider than 0400: chmod 0400 {path}");
            return Err(self.refused(&text));
        }
        let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES));
        let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
        file.take(limit).read_to_string(&mut text).map_err(self.failed("read"))?;
        KeyRing::parse(&text).map_err(|error| self.refused(&error.to_string()))
    }

    /// Adds a key, which seals from then on; returns its id.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealed`] when the file cannot be written, or belongs to the service manager.
    pub fn add(&self, key: [u8; SealingKey::LEN]) -> Result<KeyId, StoreError> {
        let mut ring = self.read()?;
        ring.add(Zeroizing::new(key));
        if ring.ids().count() > MAX_KEYS {
            return Err(self.refused("it holds 16 keys already"));
        }
        self.write(&ring)?;
        self.load()?.last().ok_or_else(|| self.refused("it is empty"))
    }

    /// Removes all keys but these; returns the ids of those that are gone, or that the service
    /// manager may take out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealed`] when the file cannot be written.
    pub fn retain(&self, wanted: &BTreeSet<KeyId>) -> Result<Vec<KeyId>, StoreError> {
        let mut ring = self.read()?;
        let gone: BTreeSet<_> = ring.ids().filter(|id| !wanted.contains(id)).collect();
        if !gone.is_empty() && self.keeper == Keeper::Own {
            ring.remove(&gone);
            self.write(&ring)?;
            self.load()?;
        }
        Ok(gone.into_iter().collect())
    }

    /// Writes the file in one step.
    fn write(&self, ring: &KeyRing) -> Result<(), StoreError> {
        if self.keeper == Keeper::Service {
            return Err(self.refused(
                "the service manager hands it over: add a line there, and use --with-last",
            ));
        }
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let part = PathBuf::from(name);
        match fs::remove_file(&part) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(self.failed("replace")(error));
            }
            Ok(()) | Err(_) => {}
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o400).open(&part).and_then(
                |mut file| {
                    file.write_all(ring.emit().as_bytes())?;
                    file.sync_all()?;
                    fs::rename(&part, &self.path)?;
                    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
                },
            );
        written.map_err(self.failed("write"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // test: security 7.4 (mode 0400)
    #[test]
    fn a_key_file_that_others_may_read_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.keys");
        let keys = KeyFile::at(&path);
        let made = keys.load_or_make().unwrap().last();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o400);
        assert_eq!(keys.load_or_make().unwrap().last(), made, "it is made once");
        for mode in [0o440, 0o404, 0o600] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = keys.load().unwrap_err().to_string();
            assert!(refused.contains(&format!("chmod 0400 {}", path.display())), "{refused}");
        }
        let service = KeyFile { keeper: Keeper::Service, ..KeyFile::at(&path) };
        assert_eq!(service.load().unwrap().last(), made, "its manager decides");
        assert!(service.write(&service.ring()).is_err());
    }

    #[test]
    fn a_key_that_has_come_since_is_found_and_one_that_has_not_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.keys");
        let (one, other) = (KeyFile::at(&path), KeyFile::at(&path));
        one.load_or_make().unwrap();
        let mut ring = other.read().unwrap_or_default();
        ring.add(Zeroizing::new([7; 32]));
        let id = ring.last().unwrap();
        let refused = one.with(id).unwrap_err().to_string();
        assert!(refused.contains("fleet.keys") && refused.contains(&id.to_string()), "{refused}");
        other.write(&ring).unwrap();
        assert_eq!(one.with(id).unwrap().last(), Some(id));
        fs::remove_file(&path).unwrap();
        assert!(one.load().unwrap_err().to_string().contains("is missing"));
    }
}
