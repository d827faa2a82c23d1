//! Effects that the receiver requests from the shell.

use proto::crypto::{Digest, Hash16};

use super::status::UnsignedFile;
use crate::{
    flute::decode::DecodeJob,
    store::{LogOutput, ObjectLayout, StorageError},
};

/// Effect for the shell to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open the object's directory, without reserving anything; answered by
    /// [`handle_recovered`](super::UnsignedReceiver::handle_recovered) or
    /// [`handle_open_failed`](super::UnsignedReceiver::handle_open_failed).
    Open(ObjectLayout),
    /// Reserve the first logs of an open object, this many; answered by
    /// [`handle_reserved`](super::UnsignedReceiver::handle_reserved) or
    /// [`handle_open_failed`](super::UnsignedReceiver::handle_open_failed).
    Reserve(Hash16, u32),
    /// Write to or sync the object's logs.
    Log(Hash16, LogOutput),
    /// Write a record atomically; answered by
    /// [`handle_recorded`](super::UnsignedReceiver::handle_recorded).
    WriteRecord(String, Vec<u8>),
    /// Remove a record.
    RemoveRecord(String),
    /// Decode a block; answered by
    /// [`handle_decoded`](super::UnsignedReceiver::handle_decoded).
    Decode(DecodeJob),
    /// Verify the file and give it its name; answered by
    /// [`handle_finished`](super::UnsignedReceiver::handle_finished).
    VerifyFile(ObjectLayout),
    /// Read a complete file of an earlier run, which has this digest; answered by
    /// [`handle_finished`](super::UnsignedReceiver::handle_finished).
    VerifyKept(ObjectLayout, Digest),
    /// Remove the symbols of a complete object.
    RemoveObject(ObjectLayout),
    /// Remove the symbols and the incomplete file of an object; answered by
    /// [`handle_discarded`](super::UnsignedReceiver::handle_discarded).
    DiscardObject(ObjectLayout),
    /// Show the user that a file is complete: synced, and with its name.
    Complete(UnsignedFile),
}

/// Error from the verification of an assembled file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishProblem {
    /// Length or digest are wrong.
    WrongDigest,
    /// Its decoded content is wrong.
    WrongContent(String),
    /// The storage failed.
    Storage(StorageError),
}
