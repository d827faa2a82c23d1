//! The data directory of the server, and the files that operators name.
//!
//! ```text
//! DIR/             0700
//!   admin.token    0600, the operator's bearer token
//!   packages/ID.bundle   packages for unicast; ID.RANDOM.part is being written
//!   profiles/NAME.toml   custom profiles
//!   classes.toml   the profiles of device classes; classes.lock is held by whoever changes them
//!   fleet.db       0600, SQLite; its -wal and -shm files take the same mode
//!   fleet.keys     0400, the keys that the secrets in it are sealed with
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use proto::{
    crypto::random,
    ids::{CampaignId, ClassId},
    trust::bundle::{BundleHead, MAX_HEAD},
};

use serde::Deserialize;

use super::store::{
    key_file::KeyFile,
    sqlite::{KEYS, PACKAGES, SqliteStore},
};
use crate::{
    app::{AppError, campaigns::PackageKeeper},
    fleet::profile::{Profile, is_name},
};

/// Largest file that an operator may name, in octets.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The data directory of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    path: PathBuf,
    /// Key file outside the directory.
    keys: Option<PathBuf>,
}

impl DataDir {
    /// Creates the directory with a token and an empty fleet; `keys` names a key file outside the
    /// directory.
    ///
    /// # Errors
    ///
    /// [`AppError::Conflict`] when it holds a token already.
    pub async fn init(path: &Path, keys: Option<&Path>, token: [u8; 32]) -> Result<Self, AppError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("create", path))?;
        let data = Self { path: path.to_owned(), keys: keys.map(Path::to_owned) };
        let text: String = token.iter().map(|octet| format!("{octet:02x}")).collect();
        let token_path = data.token_path();
        let mut file = match create(&token_path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(AppError::Conflict(format!("{} exists already", token_path.display())));
            }
            other => other.map_err(failed("create", &token_path))?,
        };
        file.write_all(format!("{text}\n").as_bytes()).map_err(failed("write", &token_path))?;
        file.sync_all().map_err(failed("write", &token_path))?;
        let database = data.database_path();
        match create(&database) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed("create", &database)(error));
            }
            Ok(_) | Err(_) => {}
        }
        data.store().await?.close().await;
        File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("write", path))?;
        Ok(data)
    }

    /// Opens a directory that [`DataDir::init`] has created.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when it is none.
    pub fn open(path: &Path, keys: Option<&Path>) -> Result<Self, AppError> {
        let data = Self { path: path.to_owned(), keys: keys.map(Path::to_owned) };
        if data.token_path().is_file() && data.database_path().is_file() {
            return Ok(data);
        }
        let path = path.display();
        Err(AppError::Configuration(format!(
            "{path} holds no fleet; make one with `dm-bridge init --data {path}`"
        )))
    }

    /// Opens the store of the fleet.
    ///
    /// # Errors
    ///
    /// [`AppError::Store`] when it cannot be opened.
    pub async fn store(&self) -> Result<SqliteStore, AppError> {
        Ok(SqliteStore::open(&self.database_path(), self.key_file()).await?)
    }

    /// Returns the key file: the one that was named, the service manager's, or the directory's own.
    fn key_file(&self) -> KeyFile {
        let own = || KeyFile::from_path(&self.path.join(KEYS));
        match &self.keys {
            Some(path) => KeyFile::from_path(path),
            None => KeyFile::from_credential().unwrap_or_else(own),
        }
    }

    /// Reads the operator's token.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when it is missing or too short to be a secret.
    pub fn token(&self) -> Result<String, AppError> {
        read_token(&self.token_path())
    }

    /// Returns the path of the bundle of a campaign.
    #[must_use]
    pub fn package_path(&self, id: CampaignId) -> PathBuf {
        self.path.join(PACKAGES).join(format!("{id}.bundle"))
    }

    /// Stores a copy of a bundle; it gets its name when it is complete and durable.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when it cannot be read or written.
    pub fn store_package(&self, id: CampaignId, from: &Path) -> Result<(), AppError> {
        let folder = self.path.join(PACKAGES);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(failed("create", &folder))?;
        let mut source = File::open(from).map_err(failed("open", from))?;
        replace(&self.package_path(id), |part| io::copy(&mut source, part).map(drop))
    }

    /// Removes what interrupted commands have left behind; files that are being written stay.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when a folder cannot be read.
    pub fn remove_parts(&self) -> Result<(), AppError> {
        for folder in [self.path.clone(), self.path.join(PACKAGES)] {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("read", &folder)(error)),
            };
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                if path.extension().is_some_and(|end| end == PART) {
                    remove_part(&path);
                }
            }
        }
        Ok(())
    }

    /// Returns all profiles with a line about each: built-in ones, then custom ones.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when the file of a custom profile is invalid.
    pub fn profiles(&self) -> Result<Vec<(Profile, String)>, AppError> {
        let built_in = Profile::built_in().into_iter();
        let mut all: Vec<_> =
            built_in.map(|(profile, about)| (profile, about.to_owned())).collect();
        let folder = self.path.join(PROFILES);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(all),
            Err(error) => return Err(failed("read", &folder)(error)),
        };
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
        paths.sort();
        for path in paths {
            let custom = custom_profile(&path)?;
            if all.iter().any(|(profile, _)| profile.name == custom.0.name) {
                let text = format!("{}: a profile of this name exists already", path.display());
                return Err(AppError::Configuration(text));
            }
            all.push(custom);
        }
        Ok(all)
    }

    /// Returns the profile of this name.
    ///
    /// # Errors
    ///
    /// [`AppError::Usage`] with all names when there is none.
    pub fn profile(&self, name: &str) -> Result<Profile, AppError> {
        let all = self.profiles()?;
        if let Some((profile, _)) = all.iter().find(|(profile, _)| profile.name == name) {
            return Ok(profile.clone());
        }
        let names: Vec<_> = all.iter().map(|(profile, _)| profile.name.as_str()).collect();
        Err(AppError::Usage(format!("no profile {name:?}, expected one of {}", names.join(", "))))
    }

    /// Returns the profile of a class; the standard profile when none was set.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when the file of classes cannot be read.
    pub fn profile_of(&self, class: ClassId) -> Result<Profile, AppError> {
        match self.classes()?.get(&class.to_string()) {
            Some(name) => self.profile(name),
            None => Ok(Profile::default()),
        }
    }

    /// Sets the profile of a class.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when it cannot be written.
    pub fn set_class_profile(&self, class: ClassId, name: &str) -> Result<(), AppError> {
        // Another command reads and writes before or after this one.
        let lock_path = self.path.join("classes.lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path);
        let lock = lock.map_err(failed("create", &lock_path))?;
        lock.lock().map_err(failed("lock", &lock_path))?;
        let mut classes = self.classes()?;
        classes.insert(class.to_string(), name.to_owned());
        let text = toml::to_string(&classes)
            .map_err(|error| AppError::Configuration(format!("cannot write classes: {error}")))?;
        replace(&self.path.join(CLASSES), |part| part.write_all(text.as_bytes()))
    }

    fn classes(&self) -> Result<BTreeMap<String, String>, AppError> {
        let path = self.path.join(CLASSES);
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        toml::from_str(&read_text(&path)?).map_err(|error| config_error(&path, &error))
    }

    fn token_path(&self) -> PathBuf {
        self.path.join("admin.token")
    }

    fn database_path(&self) -> PathBuf {
        self.path.join("fleet.db")
    }
}

/// The folder of custom profiles.
const PROFILES: &str = "profiles";

/// The file of the profiles of classes.
const CLASSES: &str = "classes.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomProfile {
    #[serde(default)]
    about: String,
    quirks: Vec<String>,
}

fn custom_profile(path: &Path) -> Result<(Profile, String), AppError> {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    if !is_name(name) {
        return Err(config_error(path, &"a name has lower-case letters, digits and hyphens"));
    }
    let custom: CustomProfile =
        toml::from_str(&read_text(path)?).map_err(|error| config_error(path, &error))?;
    let quirks =
        custom.quirks.iter().map(|word| word.parse().map_err(|error| config_error(path, &error)));
    let profile = Profile { name: name.to_owned(), quirks: quirks.collect::<Result<_, _>>()? };
    Ok((profile, custom.about))
}

fn config_error(path: &Path, why: &dyn std::fmt::Display) -> AppError {
    AppError::Configuration(format!("{}: {why}", path.display()))
}

/// Reads a file that an operator names.
///
/// # Errors
///
/// [`AppError::NotFound`], or [`AppError::Configuration`] when it cannot be read, is empty or far
/// too large.
pub fn read_file(path: &Path) -> Result<Vec<u8>, AppError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    let path = path.display();
    match u64::try_from(bytes.len()) {
        Ok(0) => Err(AppError::Configuration(format!("{path} is empty"))),
        Ok(length) if length <= MAX_FILE_BYTES => Ok(bytes),
        Ok(_) | Err(_) => Err(AppError::Configuration(format!("{path} is larger than 1 MiB"))),
    }
}

/// Reads a text that an operator names, without the white space around it.
///
/// # Errors
///
/// As [`read_file`], and [`AppError::Configuration`] when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, AppError> {
    let text = String::from_utf8(read_file(path)?)
        .map_err(|_| AppError::Configuration(format!("{} is not UTF-8", path.display())))?;
    Ok(text.trim().to_owned())
}

/// Reads the head of a bundle; returns it with the size of the bundle.
///
/// # Errors
///
/// [`AppError::NotFound`], or [`AppError::Configuration`] when it is no bundle or incomplete.
pub fn read_bundle(path: &Path) -> Result<(BundleHead, u64), AppError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let bytes = file.metadata().map_err(failed("read", path))?.len();
    let mut front = Vec::new();
    let limit = u64::try_from(MAX_HEAD).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut front).map_err(failed("read", path))?;
    let head = BundleHead::parse(&front).map_err(|error| config_error(path, &error))?;
    if head.bundle_octets() != bytes {
        return Err(config_error(path, &"the bundle is incomplete"));
    }
    Ok((head, bytes))
}

/// Reads a bearer token from a file.
///
/// # Errors
///
/// [`AppError::Configuration`] when it cannot be read or is too short to be a secret.
pub fn read_token(path: &Path) -> Result<String, AppError> {
    let text = String::from_utf8(read_file(path)?).unwrap_or_default();
    let token = text.trim();
    if token.len() < 16 || !token.chars().all(|c| c.is_ascii_graphic()) {
        let path = path.display();
        return Err(AppError::Configuration(format!("{path} holds no token of 16 characters")));
    }
    Ok(token.to_owned())
}

/// Returns the absolute path of a file, for other processes.
///
/// # Errors
///
/// [`AppError::NotFound`] when the file does not exist.
pub fn absolute(path: &Path) -> Result<String, AppError> {
    let full = fs::canonicalize(path).map_err(failed("find", path))?;
    full.into_os_string()
        .into_string()
        .map_err(|_| AppError::Configuration(format!("{} is no UTF-8 path", path.display())))
}

/// A bundle to be kept for a campaign.
#[derive(Debug, Clone)]
pub struct BundleFile {
    /// The directory that keeps it.
    pub data: DataDir,
    /// The file that an operator has named.
    pub from: PathBuf,
}

impl PackageKeeper for BundleFile {
    fn has(&self, id: CampaignId) -> bool {
        self.data.package_path(id).is_file()
    }

    fn keep(&self, id: CampaignId) -> Result<(), AppError> {
        self.data.store_package(id, &self.from)
    }
}

/// Extension of a file that is being written; it is locked meanwhile.
const PART: &str = "part";

/// Writes a file aside, under a name of its own, syncs it, gives it its name and syncs the folder.
fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<(), AppError> {
    let part = path.with_extension(format!("{:032x}.{PART}", u128::from_be_bytes(random())));
    let mut file = create(&part).map_err(failed("create", &part))?;
    let written = file.lock().and_then(|()| write(&mut file)).and_then(|()| file.sync_all());
    let named = written.and_then(|()| fs::rename(&part, path));
    if named.is_err() {
        remove_part(&part);
    }
    named.map_err(failed("write", path))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("write", folder))
}

/// Removes a file that was being written, unless a process still writes it.
fn remove_part(path: &Path) {
    let removed = File::open(path).and_then(|file| match file.try_lock() {
        Ok(()) => fs::remove_file(path),
        Err(_) => Ok(()),
    });
    if let Err(error) = removed {
        tracing::debug!(%error, path = %path.display(), "unfinished file not removed");
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn failed(doing: &'static str, path: &Path) -> impl Fn(std::io::Error) -> AppError {
    move |error| {
        let name = path.display().to_string();
        if error.kind() == std::io::ErrorKind::NotFound {
            AppError::NotFound { what: "file", name }
        } else {
            AppError::Configuration(format!("cannot {doing} {name}: {error}"))
        }
    }
}

#[cfg(test)]
mod package_tests;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn secrets_are_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bridge");
        let data = DataDir::init(&path, None, [7; 32]).await.unwrap();
        for file in ["admin.token", "fleet.db"] {
            let mode = fs::metadata(path.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let mode = fs::metadata(path.join("fleet.keys")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        assert_eq!(data.token().unwrap(), "07".repeat(32));
    }

    #[tokio::test]
    async fn a_directory_is_created_once_and_its_token_stays() {
        let folder = tempfile::tempdir().unwrap();
        DataDir::init(folder.path(), None, [7; 32]).await.unwrap();
        let again = DataDir::init(folder.path(), None, [8; 32]).await.unwrap_err();
        assert_eq!(again.exit_code(), 7);
        assert_eq!(DataDir::open(folder.path(), None).unwrap().token().unwrap(), "07".repeat(32));
    }

    #[test]
    fn a_directory_without_a_fleet_is_an_error_that_names_init() {
        let folder = tempfile::tempdir().unwrap();
        let error = DataDir::open(folder.path(), None).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("dm-bridge init"));
    }

    #[tokio::test]
    async fn profiles_are_built_in_or_custom() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::init(folder.path(), None, [7; 32]).await.unwrap();
        let class = ClassId([2; 16]);
        assert_eq!(data.profile_of(class).unwrap(), Profile::default());
        let unknown = data.profile("own").unwrap_err();
        assert_eq!(unknown.exit_code(), 2);
        assert!(unknown.to_string().contains("standard, no-atomic, minimal"), "{unknown}");
        fs::create_dir(folder.path().join("profiles")).unwrap();
        let path = folder.path().join("profiles/own.toml");
        fs::write(&path, "about = \"boxes\"\nquirks = [\"no-sequence\"]\n").unwrap();
        let own = data.profile("own").unwrap();
        assert!(own.quirks.contains(&crate::fleet::profile::Quirk::NoSequence));
        data.set_class_profile(class, "own").unwrap();
        data.set_class_profile(ClassId([3; 16]), "minimal").unwrap();
        assert_eq!(data.profile_of(class).unwrap(), own);
        for wrong in ["quirks = [\"no-luck\"]", "quirks = 5", "quirk = []"] {
            fs::write(&path, wrong).unwrap();
            let refused = data.profiles().unwrap_err();
            assert!(refused.exit_code() == 3 && refused.to_string().contains("own.toml"));
        }
        fs::rename(&path, folder.path().join("profiles/minimal.toml")).unwrap();
        fs::write(folder.path().join("profiles/minimal.toml"), "quirks = []").unwrap();
        assert_eq!(data.profiles().unwrap_err().exit_code(), 3);
    }

    #[test]
    fn a_missing_file_is_not_found_and_an_empty_one_is_a_configuration_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read_file(&path).unwrap_err().exit_code(), 6);
        fs::write(&path, b"").unwrap();
        assert_eq!(read_file(&path).unwrap_err().exit_code(), 3);
        fs::write(&path, b"short\n").unwrap();
        assert_eq!(read_token(&path).unwrap_err().exit_code(), 3);
    }
}
