//! Unsigned files in a content encoding, decoded into a second file, which then gets the name.
//!
//! ```text
//! NAME.part          as it was sent
//! NAME.decoded.part  decoded; renamed to NAME when verified, then NAME.part is removed
//! ```
//!
//! After a power cut `NAME.part` is still there, to decode again, until NAME is.

use std::{
    io::{self, Read},
    path::Path,
};

use proto::flute::content_encoding::ContentDecodeError;

use crate::{
    shell::disk::{Disk, DiskFile, OpenMode},
    store::Encoded,
};

/// Decodes the first `part_bytes` octets of the file `part` into the file `to`, which is emptied
/// first. Returns the octets of the decoded content.
///
/// # Errors
///
/// [`ContentDecodeError`]: an error of the file system, damage, or content over the limit of
/// `encoded`.
pub(super) fn decode_part(
    disk: &dyn Disk,
    encoded: &Encoded,
    part: &Path,
    part_bytes: u64,
    to: &Path,
) -> Result<u64, ContentDecodeError> {
    let open = |path, how| disk.open(path, how).map_err(ContentDecodeError::Io);
    let part = PartReader { file: open(part, OpenMode::Read)?, at: 0, length: part_bytes };
    let out = open(to, OpenMode::Empty)?;
    let mut at = 0;
    encoded.encoding.decode(part, encoded.limit, &mut |piece| {
        out.write_all_at(piece, at)?;
        at += piece.len() as u64;
        Ok(())
    })
}

/// Sequential reader of a file.
struct PartReader {
    file: Box<dyn DiskFile>,
    at: u64,
    length: u64,
}

impl Read for PartReader {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length - self.at).unwrap_or(usize::MAX);
        let count = octets.len().min(left);
        self.file.read_exact_at(octets.get_mut(..count).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
