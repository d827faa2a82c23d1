//! The folder of one run.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use proto::crypto::random;

/// A folder; a temporary one is removed when the run is dropped, unless it is kept.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Remove,
}

impl Folder {
    /// Makes the folder: `given`, or a temporary one.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or `given` is not empty: an earlier run's keys and journals would
    /// be taken for this one's.
    pub fn new(given: Option<&Path>) -> io::Result<Self> {
        let Some(path) = given else {
            let name = format!("fumocast-lab-{:08x}", u32::from_be_bytes(random()));
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path)?;
            return Ok(Self { path, fate: Fate::Remove });
        };
        fs::create_dir_all(path)?;
        if fs::read_dir(path)?.next().is_some() {
            return Err(io::Error::other(format!("{} is not empty", path.display())));
        }
        Ok(Self { path: path.canonicalize()?, fate: Fate::Keep })
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the folder, so that what went wrong can be looked at.
    pub fn keep(&mut self) {
        self.fate = Fate::Keep;
    }

    /// Returns whether it will outlive the run.
    pub fn is_kept(&self) -> bool {
        self.fate == Fate::Keep
    }

    /// Makes and returns a folder below it.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn below(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        test_log::collect_folder(&self.path);
        if self.fate == Fate::Remove {
            // The error has no reader left: the verdict is printed, and the next run has another
            // folder.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_goes_and_a_kept_one_stays() {
        let gone = Folder::new(None).unwrap();
        let path = gone.path().to_owned();
        gone.below("a").unwrap();
        drop(gone);
        assert!(!path.exists());

        let mut kept = Folder::new(None).unwrap();
        kept.keep();
        let path = kept.path().to_owned();
        drop(kept);
        assert!(path.exists());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_folder_that_holds_something_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Folder::new(Some(folder.path())).unwrap().is_kept());
        fs::write(folder.path().join("x"), "").unwrap();
        assert!(Folder::new(Some(folder.path())).is_err());
    }
}
