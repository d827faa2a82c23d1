//! Packet captures of what a session sends.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    net::SocketAddr,
    path::Path,
};

use proto::{
    pcap::{Datagram, emit_datagram, emit_file_header},
    time::Utc,
};

use crate::error::CliError;

/// A capture that is being written.
#[derive(Debug)]
pub struct CaptureWriter {
    file: BufWriter<File>,
    source: SocketAddr,
    destination: SocketAddr,
    hops: u8,
    record: Vec<u8>,
}

impl CaptureWriter {
    /// Begins a capture of datagrams between two addresses.
    ///
    /// # Errors
    ///
    /// [`CliError`] that names the file.
    pub fn create(
        path: &Path,
        source: SocketAddr,
        destination: SocketAddr,
        hops: u8,
    ) -> Result<Self, CliError> {
        let attempt = || {
            let mut file = BufWriter::new(File::create(path)?);
            file.write_all(&emit_file_header())?;
            Ok(Self { file, source, destination, hops, record: Vec::new() })
        };
        attempt().map_err(|error| CliError::io(format!("capture {}", path.display()), error))
    }

    /// Adds a datagram that is sent at `now`.
    ///
    /// # Errors
    ///
    /// Any error of writing.
    pub fn write(&mut self, now: Utc, payload: &[u8]) -> io::Result<()> {
        self.record.clear();
        let datagram = Datagram { source: self.source, destination: self.destination, payload };
        let nanos = now.0.saturating_mul(1_000_000);
        emit_datagram(nanos, self.hops, &datagram, &mut self.record).map_err(io::Error::other)?;
        self.file.write_all(&self.record)
    }

    /// Writes the buffered octets.
    ///
    /// # Errors
    ///
    /// Any error of writing.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
