//! The user's standing consent on disk.

use std::{io, path::Path};

use super::data_dir::{DataDir, read_optional};
use crate::update::consent::Record;

/// Loads the standing consent of a data directory, if any.
///
/// # Errors
///
/// Any error of the read; [`io::ErrorKind::InvalidData`] for a malformed record.
pub fn read(data: &Path) -> io::Result<Option<Record>> {
    let path = DataDir::consent_file(data);
    let Some(text) = read_optional(&path)? else { return Ok(None) };
    Record::parse(&text).map(Some).map_err(|error| {
        let text = format!("{}: {error}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}
