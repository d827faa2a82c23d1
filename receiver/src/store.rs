//! The resumable symbol store: received symbols survive a power cut, as octets and decisions.
//!
//! Nothing here opens a file. [`SymbolLog`] requests writes and syncs, the shell executes them;
//! [`Recovery`] reads the content of the files and returns the symbols that survived. The shell
//! executes the [`commands`] in order.
//!
//! ```text
//! objects/<first 16 hex digits of the object key>/
//!   log.0 … log.k   16 MiB each, the last one as long as it must be; reserved with zeros before the
//!                   window opens
//!     0      header, 4,096 octets: object and number of the log, and H16 over it
//!     4,096  slots of one size, packed: SYM1 | SBN 4 | ESI 4 | flags 1 | zero 3 | tag 16 | symbol T
//!            padded with zeros to a multiple of 64
//!   tables          table symbols of the segments in flight, see [`table_log`]
//!   image.part      the object, written block by block as blocks are decoded
//!   image           the same file once its digest was read back
//!                   (an unsigned file has its own name, in the output directory)
//! ```
//!
//! Slots are written in groups and count once `fdatasync` has returned. There is no index on disk:
//! a slot is valid when its tag fits, and recovery is one sequential read.
//!
//! | a power cut | leaves |
//! | --- | --- |
//! | while a log is reserved | no valid header: the file is reserved again |
//! | between a write and its sync | any subset of its sectors; torn slots fail their tag and are free |
//! | between the sync of a decoded block and its journal record | the slots: it is decoded again |
//! | after that record | the block in `image.part`; its slots are free to be written again |
//!
//! A slot that holds the only copy of a synced symbol of an undecoded block is never written.

pub mod commands;
pub mod error;
pub mod floors;
pub(crate) mod header;
pub mod journal;
pub mod journal_state;
pub mod layout;
pub mod log;
pub mod recovery;
mod slots;
pub mod table_log;
#[cfg(test)]
mod tests;

pub use self::{
    error::StorageError,
    journal::{CopyName, JournalError, JournalImage, JournalWrite, Journaler},
    layout::{
        BlockPlace, Content, Encoded, HeaderCheck, ObjectLayout, Slot, SlotAddress,
        UnsignedContent, UnsignedDescription, UnsignedIdentity,
    },
    log::{InsertOutcome, Limits, LogOutput, SlotRun, SymbolLog, Ticket},
    recovery::{Recovered, RecoveredSlot, Recovery},
    table_log::TableLog,
};
