//! The user's standing consent on disk.

use std::{io, path::Path};

use super::directory::{DataDirectory, read_text};
use crate::consent::Record;

/// Reads what the user of a device with this data directory has said, if anything.
///
/// # Errors
///
/// What reading meets; [`io::ErrorKind::InvalidData`] when it is no record.
pub fn read(data: &Path) -> io::Result<Option<Record>> {
    let path = DataDirectory::consent_file(data);
    match read_text(&path) {
        Ok(text) => Record::parse(&text).map(Some).map_err(|error| {
            let text = format!("{}: {error}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
