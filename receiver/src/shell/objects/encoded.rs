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
    path::{Path, PathBuf},
};

use proto::flute::content_encoding::ContentDecodeError;

use super::{DecodeFiles, ScannedImage, VerifyOutcome};
use crate::{
    shell::disk::{DiskFile, OpenMode},
    store::{Encoded, UnsignedContent},
};

impl DecodeFiles {
    /// Decodes a complete file.
    pub(super) fn finish_encoded(
        &self,
        file: &UnsignedContent,
        encoded: &Encoded,
        sent: &ScannedImage,
    ) -> io::Result<VerifyOutcome> {
        let decoded = self.image.directory.join(format!("{}.decoded.part", file.name));
        let wrong = match self.undo(encoded, sent, &decoded) {
            Ok(octets) => {
                let other = encoded.length.filter(|length| *length != octets);
                other.map(|length| format!("it has {octets} octets, {length} by its FDT"))
            }
            Err(ContentDecodeError::Io(error)) => return Err(error),
            Err(error @ (ContentDecodeError::Damaged(_) | ContentDecodeError::TooLong { .. })) => {
                Some(error.to_string())
            }
        };
        if let Some(why) = wrong {
            self.disk.remove_file(&decoded)?;
            return Ok(VerifyOutcome::WrongContent { why });
        }
        let decoded_file = self.scan(&decoded)?;
        // spec: rfc6726 3.4.2 (senders differ in which form Content-MD5 is of)
        if !sent.matches_digest(file) && !decoded_file.matches_digest(file) {
            self.disk.remove_file(&decoded)?;
            return Ok(VerifyOutcome::WrongDigest { found: decoded_file.sha256 });
        }
        self.disk.rename(&decoded, &self.image.image)?;
        self.disk.sync_directory(&self.image.directory)?;
        self.disk.remove_file(&self.image.part)?;
        Ok(VerifyOutcome::Ready { sha256: decoded_file.sha256 })
    }

    fn undo(
        &self,
        encoded: &Encoded,
        sent: &ScannedImage,
        to: &Path,
    ) -> Result<u64, ContentDecodeError> {
        let open = |path: &PathBuf, how| self.disk.open(path, how).map_err(ContentDecodeError::Io);
        let part = PartReader {
            file: open(&self.image.part, OpenMode::Read)?,
            at: 0,
            length: sent.octets,
        };
        let out = open(&to.to_owned(), OpenMode::Empty)?;
        let mut at = 0;
        encoded.encoding.decode(part, encoded.limit, &mut |piece| {
            out.write_all_at(piece, at)?;
            at += piece.len() as u64;
            Ok(())
        })
    }
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
