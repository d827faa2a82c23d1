//! The key file, whose keys seal the secrets of a fleet.
//!
//! ```text
//! write FILE.new (0400), flush | rename it to FILE | flush the folder
//! ```
//!
//! A writer holds the write lock of the database, so there is one at a time; a power cut leaves the
//! one file or the other. A process that meets an unknown key reads the file again.

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

/// Name of the credential that the service manager passes.
pub const CREDENTIAL: &str = "dm-bridge.keys";

/// Largest file, in octets.
const MAX_BYTES: usize = (MAX_KEYS + 1) * 65;

/// A key file and the keys read from it.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
    source: KeySource,
    ring: Arc<RwLock<Arc<KeyRing>>>,
}

/// The source of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeySource {
    /// This program, which creates the file; only its user may read it.
    Own,
    /// The service manager, which sets the permissions; the file is never written.
    Service,
}

impl KeyFile {
    /// Returns the key file at `path`; it is created when it is missing and nothing is sealed yet.
    #[must_use]
    pub fn from_path(path: &Path) -> Self {
        Self { path: path.to_owned(), source: KeySource::Own, ring: Arc::default() }
    }

    /// Returns the key file that the service manager passes as a credential, if any.
    #[must_use]
    pub fn from_credential() -> Option<Self> {
        let path = PathBuf::from(env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
        path.exists().then(|| Self { source: KeySource::Service, ..Self::from_path(&path) })
    }

    /// Returns the keys as they were read last.
    #[must_use]
    pub fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealed`] when it is missing, open to others or no key file.
    pub fn load(&self) -> Result<Arc<KeyRing>, StoreError> {
        let ring = Arc::new(self.read()?);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&ring);
        Ok(ring)
    }

    /// Reads the file, or creates it with one key when it is missing.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], and when it cannot be written.
    pub fn load_or_create(&self) -> Result<Arc<KeyRing>, StoreError> {
        if !self.path.exists() {
            let mut ring = KeyRing::default();
            ring.add(Zeroizing::new(random()));
            self.write(&ring)?;
        }
        self.load()
    }

    /// Returns the keys, which include one of this id; reads the file again when it was added
    /// since.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealed`] when the file lacks it.
    pub fn with(&self, id: KeyId) -> Result<Arc<KeyRing>, StoreError> {
        let known = Some(self.ring()).filter(|ring| ring.contains(id));
        let ring = known.map_or_else(|| self.load(), Ok)?;
        if ring.contains(id) { Ok(ring) } else { Err(self.missing(id)) }
    }

    /// Opens a secret.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealed`] when the file lacks its key, [`StoreError::Damaged`] when it
    /// is no secret of this device.
    pub fn open(&self, owner: Owner<'_>, sealed: &[u8]) -> Result<Secret, StoreError> {
        let damaged = |error: SealError| {
            let found = format!("{error}, for device {}", owner.device.as_str());
            StoreError::Damaged { what: "secret", found }
        };
        let ring = self.with(key_id(sealed).map_err(damaged)?)?;
        ring.open(owner, sealed).map_err(damaged)
    }

    fn missing(&self, id: KeyId) -> StoreError {
        self.refused(&format!(
            "key {id} is missing, which secrets of this fleet are sealed with; restore the file that \
             holds it, or name it with --secrets-key"
        ))
    }

    fn refused(&self, why: &str) -> StoreError {
        StoreError::Sealed(format!("the key file {}: {why}", self.path.display()))
    }

    fn failed(&self, doing: &'static str) -> impl Fn(std::io::Error) -> StoreError {
        move |error| self.refused(&format!("cannot {doing} it: {error}"))
    }

    /// Reads and parses the file.
    fn read(&self) -> Result<KeyRing, StoreError> {
        let file = File::open(&self.path).map_err(|error| {
            if error.kind() != ErrorKind::NotFound {
                return self.failed("open")(error);
            }
            self.refused(
                "it is missing, and the secrets of this fleet cannot be decrypted without it; restore \
                 it, or name it with --secrets-key",
            )
        })?;
        let mode = file.metadata().map_err(self.failed("read"))?.permissions().mode() & 0o7777;
        // spec: security 7.4 (mode 0400)
        if self.source == KeySource::Own && mode & !0o400 != 0 {
            let path = self.path.display();
            let text = format!("it has mode {mode:04o}, wider than 0400: chmod 0400 {path}");
            return Err(self.refused(&text));
        }
        let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES));
        let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
        file.take(limit).read_to_string(&mut text).map_err(self.failed("read"))?;
        KeyRing::parse(&text).map_err(|error| self.refused(&error.to_string()))
    }

    /// Adds a key that seals from then on; returns its id.
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

    /// Removes all keys except `used`; returns the ids of those removed, or that an operator may
    /// remove from the file of the service manager.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealed`] when the file cannot be written.
    pub fn remove_unused(&self, used: &BTreeSet<KeyId>) -> Result<Vec<KeyId>, StoreError> {
        let mut ring = self.read()?;
        let removed: BTreeSet<_> = ring.ids().filter(|id| !used.contains(id)).collect();
        if !removed.is_empty() && self.source == KeySource::Own {
            ring.remove(&removed);
            self.write(&ring)?;
            self.load()?;
        }
        Ok(removed.into_iter().collect())
    }

    /// Writes the file in one step.
    fn write(&self, ring: &KeyRing) -> Result<(), StoreError> {
        if self.source == KeySource::Service {
            return Err(self.refused(
                "the service manager passes it: add a line there, and use --use-last-key",
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
        let keys = KeyFile::from_path(&path);
        let created = keys.load_or_create().unwrap().last();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o400);
        assert_eq!(keys.load_or_create().unwrap().last(), created, "it is created once");
        for mode in [0o440, 0o404, 0o600] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = keys.load().unwrap_err().to_string();
            assert!(refused.contains(&format!("chmod 0400 {}", path.display())), "{refused}");
        }
        let service = KeyFile { source: KeySource::Service, ..KeyFile::from_path(&path) };
        assert_eq!(service.load().unwrap().last(), created, "the manager sets the permissions");
        assert!(service.write(&service.ring()).is_err());
    }

    #[test]
    fn a_key_added_since_is_found_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.keys");
        let (one, other) = (KeyFile::from_path(&path), KeyFile::from_path(&path));
        one.load_or_create().unwrap();
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
