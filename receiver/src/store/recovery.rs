//! Recovery: one sequential read of the logs returns the symbols that are whole.
//!
//! Reading the same files twice gives the same result; recovery only drops records.

use proto::ids::{Esi, Sbn};

use super::layout::{HeaderCheck, ObjectLayout, SlotAddress};

/// A symbol that was found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveredSlot {
    /// The address of its record.
    pub slot: SlotAddress,
    /// Source block of the symbol.
    pub sbn: Sbn,
    /// The symbol's id in its block.
    pub esi: Esi,
}

/// The result of recovery; the shell syncs the logs before it passes this on, so all of it is safe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Whole records in the order of their slots; the first copy of a symbol wins.
    pub slots: Vec<RecoveredSlot>,
    /// Log files from the first on that need no reservation.
    pub files_ready: u32,
    /// Set when the image was created again: no block of it can be decoded already.
    pub image_made: bool,
    /// Slots that are neither whole nor still zero: torn or damaged records.
    pub damaged: u32,
    /// The file of table symbols as it was read; nothing in it is checked yet.
    pub tables: Vec<u8>,
}

/// Collects the content of the log files of one object.
#[derive(Debug)]
pub struct Recovery<'a> {
    layout: &'a ObjectLayout,
    found: Recovered,
}

impl<'a> Recovery<'a> {
    /// Starts with no file read.
    #[must_use]
    pub fn new(layout: &'a ObjectLayout) -> Self {
        Self { layout, found: Recovered::default() }
    }

    /// Checks the header of log file `file`; slots are only to be read when it is ours.
    ///
    /// Files are offered in order. `octets` are the file's first, [`ObjectLayout::HEADER_BYTES`]
    /// of them or fewer when the file is shorter.
    pub fn header(&mut self, file: u32, octets: &[u8]) -> HeaderCheck {
        let check = self.layout.check_header(file, octets);
        if check == HeaderCheck::Ours && file == self.found.files_ready {
            self.found.files_ready += 1;
        }
        check
    }

    /// Reads whole slots: `octets` starts at slot `first`; an incomplete last slot is left out.
    pub fn slots(&mut self, first: SlotAddress, octets: &[u8]) {
        for (index, record) in (first.index..).zip(octets.chunks_exact(self.layout.slot_size())) {
            if index >= self.layout.slots_in(first.file) {
                return;
            }
            let slot = SlotAddress { file: first.file, index };
            match self.layout.parse_slot(record) {
                Some(whole) => {
                    self.found.slots.push(RecoveredSlot { slot, sbn: whole.sbn, esi: whole.esi });
                }
                None if record.iter().any(|octet| *octet != 0) => self.found.damaged += 1,
                None => {}
            }
        }
    }

    /// Returns the result.
    #[must_use]
    pub fn finish(self) -> Recovered {
        self.found
    }
}
