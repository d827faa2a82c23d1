//! The file of table symbols. It is optional: after the first failure no more symbols are written
//! until the next start.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    shell::disk::{DiskFile, OpenMode, SharedDisk},
    store::table_log::TABLES_BYTES,
};

/// The file, opened at the first write.
#[derive(Debug)]
pub(super) struct TablesFile {
    disk: SharedDisk,
    directory: PathBuf,
    file: Option<Box<dyn DiskFile>>,
    /// Set when this run created it, so that its name may not be durable.
    is_fresh: bool,
    has_failed: bool,
}

/// Its name in the object's directory.
const NAME: &str = "tables";

impl TablesFile {
    pub(super) fn new(disk: SharedDisk, directory: &Path) -> Self {
        Self {
            disk,
            directory: directory.to_owned(),
            file: None,
            is_fresh: false,
            has_failed: false,
        }
    }

    /// Returns the content of the file; empty when it is unreadable.
    pub(super) fn read(&self) -> Vec<u8> {
        let attempt = || {
            let file = self.disk.open(&self.directory.join(NAME), OpenMode::Read)?;
            let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
            let mut octets = vec![0; length.min(TABLES_BYTES)];
            file.read_exact_at(&mut octets, 0)?;
            io::Result::Ok(octets)
        };
        attempt().unwrap_or_default()
    }

    pub(super) fn write(&mut self, offset: u64, octets: &[u8]) {
        if self.has_failed {
            return;
        }
        let written = self.open().and_then(|file| file.write_all_at(octets, offset));
        self.note("write", written);
    }

    /// Syncs the writes. A failure is not retried.
    pub(super) fn sync(&mut self) {
        if self.has_failed {
            return;
        }
        let synced = self.file.as_ref().map_or(Ok(()), |file| file.sync_data());
        let named = synced.and_then(|()| match std::mem::take(&mut self.is_fresh) {
            true => self.disk.sync_directory(&self.directory),
            false => Ok(()),
        });
        self.note("sync", named);
    }

    fn open(&mut self) -> io::Result<&dyn DiskFile> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let path = self.directory.join(NAME);
                self.is_fresh = !self.disk.exists(&path);
                self.disk.open(&path, OpenMode::Create)?
            }
        };
        Ok(&**self.file.insert(file))
    }

    fn note(&mut self, attempted: &str, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            tracing::warn!(%error, attempted, "table symbols are no longer stored");
            self.has_failed = true;
        }
    }
}
