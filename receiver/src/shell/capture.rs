//! Packet captures, read one datagram at a time.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, ErrorKind, Read as _},
    net::SocketAddr,
    path::Path,
};

use proto::{
    pcap::{FILE_HEADER_BYTES, Format, RECORD_HEADER_BYTES, Skipped, SkippedFrames},
    time::Utc,
    wire::WireError,
};
use thiserror::Error;

/// An open capture.
#[derive(Debug)]
pub struct Capture {
    file: BufReader<File>,
    format: Format,
    frame: Vec<u8>,
    skipped: SkippedFrames,
}

/// A datagram of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured<'a> {
    /// Time of the capture.
    pub at: Utc,
    /// Its sender.
    pub source: SocketAddr,
    /// Its destination.
    pub destination: SocketAddr,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Error of reading a capture.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file cannot be read.
    #[error("cannot read the capture")]
    Io(#[from] io::Error),
    /// The file is not a supported capture.
    #[error("unsupported capture format")]
    Format(#[from] WireError),
}

impl Capture {
    /// Opens a capture.
    ///
    /// # Errors
    ///
    /// [`CaptureError`] when it cannot be read or is of another format.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let mut file = BufReader::with_capacity(256 << 10, File::open(path)?);
        let mut header = [0; FILE_HEADER_BYTES];
        file.read_exact(&mut header)?;
        let (format, skipped) = (Format::parse(&header)?, SkippedFrames::default());
        Ok(Self { file, format, frame: Vec::new(), skipped })
    }

    /// Returns the next UDP datagram; frames that hold none, or only a part of one, are skipped and
    /// counted.
    ///
    /// A truncated capture ends with its last complete frame.
    ///
    /// # Errors
    ///
    /// [`CaptureError`] when reading fails or a record is damaged.
    pub fn next_datagram(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        loop {
            if self.file.fill_buf()?.is_empty() {
                return Ok(None);
            }
            let mut header = [0; RECORD_HEADER_BYTES];
            if !self.fill(&mut header)? {
                self.skipped.add(Skipped::EndOfFile);
                return Ok(None);
            }
            let record = self.format.record(&header)?;
            let mut frame = std::mem::take(&mut self.frame);
            frame.resize(usize::try_from(record.captured).unwrap_or_default(), 0);
            let whole = self.fill(&mut frame)?;
            self.frame = frame;
            if !whole {
                self.skipped.add(Skipped::EndOfFile);
                return Ok(None);
            }
            if let Err(reason) = self.format.datagram(&record, &self.frame) {
                self.skipped.add(reason);
                continue;
            }
            let datagram = self.format.datagram(&record, &self.frame).ok();
            return Ok(datagram.map(|datagram| Captured {
                at: Utc(record.time_nanos / 1_000_000),
                source: datagram.source,
                destination: datagram.destination,
                payload: datagram.payload,
            }));
        }
    }

    /// Returns the frames that held no whole datagram so far, a line for each reason.
    #[must_use]
    pub fn skipped(&self) -> Vec<String> {
        let line = |(reason, count)| match count {
            1 => format!("1 frame of the capture skipped: {reason}"),
            count => format!("{count} frames of the capture skipped: {reason}"),
        };
        self.skipped.counts().map(line).collect()
    }

    /// Fills `octets`; `false` when the file ends before.
    fn fill(&mut self, octets: &mut [u8]) -> io::Result<bool> {
        match self.file.read_exact(octets) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::pcap::{Datagram, emit_datagram, emit_file_header};

    use super::*;

    #[test]
    fn datagrams_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pcap");
        let mut octets = emit_file_header();
        let source = "192.0.2.1:5000".parse().unwrap();
        let destination = "239.1.2.3:4000".parse().unwrap();
        for payload in [&b"one"[..], b"two"] {
            let datagram = Datagram { source, destination, payload };
            emit_datagram(1_800_000_000_123_456_789, 1, &datagram, &mut octets).unwrap();
        }
        // The last record is truncated.
        let whole = octets.len();
        octets.extend_from_within(24..70);
        std::fs::write(&path, &octets[..whole + 20]).unwrap();
        let mut capture = Capture::open(&path).unwrap();
        let at = Utc(1_800_000_000_123);
        for payload in [&b"one"[..], b"two"] {
            let expected = Captured { at, source, destination, payload };
            assert_eq!(capture.next_datagram().unwrap(), Some(expected));
        }
        assert_eq!(capture.next_datagram().unwrap(), None);
        let expected = "1 frame of the capture skipped: cut off by the end of the file";
        assert_eq!(capture.skipped(), [expected]);
        std::fs::write(&path, b"no capture at all, whatever it says").unwrap();
        assert!(matches!(Capture::open(&path), Err(CaptureError::Format(_))));
    }
}
