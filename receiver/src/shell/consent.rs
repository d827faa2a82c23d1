//! The user's standing consent on disk.

use std::{io, path::Path};

use super::data_dir::{DataDir, read_if_there};
use crate::update::consent::Record;

/// Reads what the user of a device with this data directory has said, if anything.
///
/// # Errors
///
/// What reading meets; [`io::ErrorKind::InvalidData`] when it is no record.
pub fn read(data: &Path) -> io::Result<Option<Record>> {
    let path = DataDir::consent_file(data);
    let Some(text) = read_if_there(&path)? else { return Ok(None) };
    Record::parse(&text).map(Some).map_err(|error| {
        let text = format!("{}: {error}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}
