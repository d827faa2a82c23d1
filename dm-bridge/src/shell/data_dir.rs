//! The server's directory, and the files that operators hand in.
//!
//! ```text
//! DIR/             0700
//!   admin.token    0600, the operator's bearer token
//!   packages/ID.bundle   packages for unicast
//!   profiles/NAME.toml   profiles of the operator's own
//!   classes.toml   the profiles of device classes
//!   fleet.db       0600, SQLite; its -wal and -shm files take the same mode
//!   fleet.keys     0400, the keys that the secrets in it are sealed with
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use proto::{
    ids::{CampaignId, ClassId},
    trust::bundle::{BundleHead, MAX_HEAD},
};

use serde::Deserialize;

use super::store::{
    key_file::KeyFile,
    sqlite::{KEYS, PACKAGES, SqliteStore},
};
use crate::{
    app::AppError,
    fleet::profile::{Profile, is_name},
};

/// Octets of a file that an operator hands in, at most.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The server's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    path: PathBuf,
    /// The key file, where it was named.
    keys: Option<PathBuf>,
}

impl DataDir {
    /// Makes the directory with a token and an empty fleet; `keys` is the file of the keys of its
    /// secrets, where it does not lie in the directory.
    ///
    /// # Errors
    ///
    /// [`AppError::Conflict`] when it holds a token already.
    pub async fn init(path: &Path, keys: Option<&Path>, token: [u8; 32]) -> Result<Self, AppError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))?;
        let data = Self { path: path.to_owned(), keys: keys.map(Path::to_owned) };
        let text: String = token.iter().map(|octet| format!("{octet:02x}")).collect();
        let token_path = data.token_path();
        let mut file = match create(&token_path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(AppError::Conflict(format!("{} exists already", token_path.display())));
            }
            other => other.map_err(failed("make", &token_path))?,
        };
        file.write_all(format!("{text}\n").as_bytes()).map_err(failed("write", &token_path))?;
        file.sync_all().map_err(failed("write", &token_path))?;
        let database = data.database_path();
        match create(&database) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed("make", &database)(error));
            }
            Ok(_) | Err(_) => {}
        }
        data.store().await?.close().await;
        File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("write", path))?;
        Ok(data)
    }

    /// Takes a directory that was made by [`DataDir::init`].
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when it was not.
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

    /// Opens the fleet.
    ///
    /// # Errors
    ///
    /// [`AppError::Store`] when it cannot be opened.
    pub async fn store(&self) -> Result<SqliteStore, AppError> {
        Ok(SqliteStore::open(&self.database_path(), self.key_file()).await?)
    }

    /// Returns the key file: the one that was named, the service manager's, or the directory's own.
    fn key_file(&self) -> KeyFile {
        let own = || KeyFile::at(&self.path.join(KEYS));
        match &self.keys {
            Some(path) => KeyFile::at(path),
            None => KeyFile::of_service().unwrap_or_else(own),
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

    /// Returns where the bundle of a campaign lies.
    #[must_use]
    pub fn package_path(&self, id: CampaignId) -> PathBuf {
        self.path.join(PACKAGES).join(format!("{id}.bundle"))
    }

    /// Copies a bundle in; it has its name only when it is whole.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when it cannot be read or written.
    pub fn keep_package(&self, id: CampaignId, from: &Path) -> Result<(), AppError> {
        let folder = self.path.join(PACKAGES);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(failed("make", &folder))?;
        let part = folder.join(format!("{id}.part"));
        fs::copy(from, &part).map_err(failed("copy", from))?;
        File::open(&part).and_then(|file| file.sync_all()).map_err(failed("write", &part))?;
        let path = self.package_path(id);
        fs::rename(&part, &path).map_err(failed("rename", &part))?;
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed("write", &folder))
    }

    /// Returns all profiles with a line about each: those that every server has, then own ones.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when a file of an own profile is not as it must be.
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
            let own = own_profile(&path)?;
            if all.iter().any(|(profile, _)| profile.name == own.0.name) {
                let text = format!("{}: there is such a profile already", path.display());
                return Err(AppError::Configuration(text));
            }
            all.push(own);
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
        Err(AppError::Usage(format!("there is no profile {name:?}, but {}", names.join(", "))))
    }

    /// Returns the profile of a class; the standard when nobody has decided.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when what is kept cannot be read.
    pub fn profile_of(&self, class: ClassId) -> Result<Profile, AppError> {
        match self.classes()?.get(&class.to_string()) {
            Some(name) => self.profile(name),
            None => Ok(Profile::default()),
        }
    }

    /// Keeps the profile of a class.
    ///
    /// # Errors
    ///
    /// [`AppError::Configuration`] when it cannot be written.
    pub fn keep_class(&self, class: ClassId, name: &str) -> Result<(), AppError> {
        let mut classes = self.classes()?;
        classes.insert(class.to_string(), name.to_owned());
        let text = toml::to_string(&classes)
            .map_err(|error| AppError::Configuration(format!("cannot write classes: {error}")))?;
        let (part, path) = (self.path.join("classes.part"), self.path.join(CLASSES));
        let mut file = File::create(&part).map_err(failed("make", &part))?;
        file.write_all(text.as_bytes()).map_err(failed("write", &part))?;
        file.sync_all().map_err(failed("write", &part))?;
        fs::rename(&part, &path).map_err(failed("rename", &part))?;
        File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("write", &self.path))
    }

    fn classes(&self) -> Result<BTreeMap<String, String>, AppError> {
        let path = self.path.join(CLASSES);
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        toml::from_str(&read_text(&path)?).map_err(|error| wrong(&path, &error))
    }

    fn token_path(&self) -> PathBuf {
        self.path.join("admin.token")
    }

    fn database_path(&self) -> PathBuf {
        self.path.join("fleet.db")
    }
}

/// The folder of own profiles.
const PROFILES: &str = "profiles";

/// The file of the profiles of classes.
const CLASSES: &str = "classes.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnProfile {
    #[serde(default)]
    about: String,
    quirks: Vec<String>,
}

fn own_profile(path: &Path) -> Result<(Profile, String), AppError> {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    if !is_name(name) {
        return Err(wrong(path, &"a name has lower-case letters, digits and hyphens"));
    }
    let own: OwnProfile = toml::from_str(&read_text(path)?).map_err(|error| wrong(path, &error))?;
    let quirks = own.quirks.iter().map(|word| word.parse().map_err(|error| wrong(path, &error)));
    let profile = Profile { name: name.to_owned(), quirks: quirks.collect::<Result<_, _>>()? };
    Ok((profile, own.about))
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> AppError {
    AppError::Configuration(format!("{}: {why}", path.display()))
}

/// Reads a file that an operator hands in.
///
/// # Errors
///
/// [`AppError::NotFound`], or [`AppError::Configuration`] when it cannot be read, is empty or far
/// too large.
pub fn read_file(path: &Path) -> Result<Vec<u8>, AppError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let mut octets = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut octets).map_err(failed("read", path))?;
    let path = path.display();
    match u64::try_from(octets.len()) {
        Ok(0) => Err(AppError::Configuration(format!("{path} is empty"))),
        Ok(length) if length <= MAX_FILE_BYTES => Ok(octets),
        Ok(_) | Err(_) => Err(AppError::Configuration(format!("{path} is larger than 1 MiB"))),
    }
}

/// Reads a text that an operator hands in, without the white space around it.
///
/// # Errors
///
/// As [`read_file`], and [`AppError::Configuration`] when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, AppError> {
    let text = String::from_utf8(read_file(path)?)
        .map_err(|_| AppError::Configuration(format!("{} is not UTF-8", path.display())))?;
    Ok(text.trim().to_owned())
}

/// Reads the front of a bundle; returns it with the octets of the whole.
///
/// # Errors
///
/// [`AppError::NotFound`], or [`AppError::Configuration`] when it is no bundle or not whole.
pub fn read_bundle(path: &Path) -> Result<(BundleHead, u64), AppError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let octets = file.metadata().map_err(failed("read", path))?.len();
    let mut front = Vec::new();
    let limit = u64::try_from(MAX_HEAD).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut front).map_err(failed("read", path))?;
    let wrong = |why: String| AppError::Configuration(format!("{}: {why}", path.display()));
    let head = BundleHead::parse(&front).map_err(|error| wrong(error.to_string()))?;
    if head.bundle_octets() != octets {
        return Err(wrong("the bundle is cut short".to_owned()));
    }
    Ok((head, octets))
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

/// Returns a path that stays right when another process reads it.
///
/// # Errors
///
/// [`AppError::NotFound`] when the file is not there.
pub fn absolute(path: &Path) -> Result<String, AppError> {
    let full = fs::canonicalize(path).map_err(failed("find", path))?;
    full.into_os_string()
        .into_string()
        .map_err(|_| AppError::Configuration(format!("{} is no UTF-8 path", path.display())))
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
    async fn a_directory_is_made_once_and_keeps_its_token() {
        let folder = tempfile::tempdir().unwrap();
        DataDir::init(folder.path(), None, [7; 32]).await.unwrap();
        let again = DataDir::init(folder.path(), None, [8; 32]).await.unwrap_err();
        assert_eq!(again.exit_code(), 7);
        assert_eq!(DataDir::open(folder.path(), None).unwrap().token().unwrap(), "07".repeat(32));
    }

    #[test]
    fn a_directory_without_fleet_is_a_configuration_error_that_teaches() {
        let folder = tempfile::tempdir().unwrap();
        let error = DataDir::open(folder.path(), None).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("dm-bridge init"));
    }

    #[tokio::test]
    async fn profiles_are_those_of_every_server_and_own_ones() {
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
        data.keep_class(class, "own").unwrap();
        data.keep_class(ClassId([3; 16]), "minimal").unwrap();
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
