//! Datagrams that a device received, over all its lives.
//!
//! ```text
//! 0  datagrams (8)    8  data packets among them (8)    16  lives begun (8)
//! ```
//!
//! Big-endian. Each datagram is counted by one positioned write before the agent sees it: the page
//! cache belongs to the kernel, so a count survives SIGKILL, which is all that the lab does to it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

/// The counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams after the loss model.
    pub datagrams: u64,
    /// Packets of the image's object among them.
    pub data: u64,
    /// Lives begun; each draws its own losses.
    pub lives: u64,
}

/// The counts of a living device, kept in a file.
#[derive(Debug)]
pub struct Counters {
    file: File,
    counts: Counts,
}

impl Counters {
    /// Opens the file of a device and begins a life.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, read or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let counts = read(path)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let counters = Self { file, counts: Counts { lives: counts.lives + 1, ..counts } };
        counters.store()?;
        Ok(counters)
    }

    /// Returns the counts.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Counts one datagram.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn count(&mut self, kind: Datagram) -> io::Result<()> {
        self.counts.datagrams += 1;
        self.counts.data += u64::from(kind == Datagram::Data);
        self.store()
    }

    fn store(&self) -> io::Result<()> {
        let Counts { datagrams, data, lives } = self.counts;
        let octets: Vec<u8> =
            [datagrams, data, lives].iter().flat_map(|count| count.to_be_bytes()).collect();
        self.file.write_all_at(&octets, 0)
    }
}

/// Content of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// Symbols of the image.
    Data,
    /// Tables, headers, the FDT, or noise.
    Other,
}

/// Reads the counts of a device; all zero when it never lived.
///
/// # Errors
///
/// When the file cannot be read.
pub fn read(path: &Path) -> io::Result<Counts> {
    let octets = match std::fs::read(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Counts::default()),
        Err(error) => return Err(error),
    };
    let count = |index: usize| {
        let field = octets.chunks_exact(8).nth(index).and_then(|field| field.try_into().ok());
        field.map_or(0, u64::from_be_bytes)
    };
    Ok(Counts { datagrams: count(0), data: count(1), lives: count(2) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_on_over_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters");
        assert_eq!(read(&path).unwrap(), Counts::default());
        for life in 1..=3 {
            let mut counters = Counters::open(&path).unwrap();
            counters.count(Datagram::Data).unwrap();
            counters.count(Datagram::Other).unwrap();
            let counts = Counts { datagrams: 2 * life, data: life, lives: life };
            assert_eq!(counters.counts(), counts);
            assert_eq!(read(&path).unwrap(), counts);
        }
    }
}
