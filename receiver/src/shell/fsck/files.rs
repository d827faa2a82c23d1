//! Bounded reads of files and directories.

use std::{io, path::Path};

use crate::shell::disk::{Disk, Entry, OpenMode};

/// Lists a directory; a missing one is empty.
pub(super) fn list(disk: &dyn Disk, path: &Path) -> io::Result<Vec<Entry>> {
    match disk.list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}

/// Reads the first octets of a file; `None` when there is none.
pub(super) fn read_some(disk: &dyn Disk, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let octets = usize::try_from(file.length()?).map_or(limit, |length| length.min(limit));
    let mut content = vec![0; octets];
    file.read_exact_at(&mut content, 0)?;
    Ok(Some(content))
}

pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

pub(super) const FILES: &str = "files";
pub(super) const OBJECTS: &str = "objects";
pub(super) const SMALL_FILE_BYTES: usize = 64 << 10;
