//! A file in memory, for images and plans.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use carousel::plan::encode::{ReadAt, WriteAt};

/// Octets that are read and written at their places; their count stays.
#[derive(Debug)]
pub struct Memory(Mutex<Vec<u8>>);

impl Memory {
    /// Makes a file of these octets.
    #[must_use]
    pub const fn new(octets: Vec<u8>) -> Self {
        Self(Mutex::new(octets))
    }

    /// Returns what it holds.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for Memory {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner), offset, buffer)
    }
}

impl WriteAt for Memory {
    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let place = held.get_mut(from..).and_then(|tail| tail.get_mut(..octets.len()));
        place.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(octets);
        Ok(())
    }
}

/// Fills the buffer from this place on.
///
/// # Errors
///
/// `UnexpectedEof` when the octets end before.
pub fn read(octets: &[u8], offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let found = octets.get(from..).and_then(|tail| tail.get(..buffer.len()));
    buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}
