//! The journal: the decisions of the device, in two copies that are written in turn.
//!
//! ```text
//! journal.a, journal.b    at most 32 KiB each; reserved with zeros once there is an object
//!   0   "FCJN"
//!   4   format version, 4 octets
//!   8   generation, 8 octets
//!   16  length of the body, 4 octets
//!   20  body, a protobuf message
//!       H16 over everything before it
//! ```
//!
//! A write goes to the copy that does not hold the latest state, so a torn write leaves the state
//! before it. Reading takes the whole copy with the higher generation.

use prost::Message;
use proto::{
    crypto::{Hash16, h16},
    wire::{Reader, WireError, Writer},
};
use thiserror::Error;

/// One of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CopyName {
    /// `journal.a`
    A,
    /// `journal.b`
    B,
}

impl CopyName {
    /// Both copies, in the order in which [`Journaler::recover`] reads them.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// Returns the file name of this copy.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::A => "journal.a",
            Self::B => "journal.b",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A state with its generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalImage<M> {
    /// Number of the write; the higher one is the later one.
    pub generation: u64,
    /// The state.
    pub body: M,
}

/// The reason why a journal cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JournalError {
    /// The state is too long for a copy.
    #[error("the journal needs {octets} octets, the limit is {limit}", limit = JOURNAL_BYTES)]
    TooLarge {
        /// Octets that the copy would take.
        octets: usize,
    },
    /// A copy is whole, but a later program wrote it.
    #[error("the journal has format version {found}, this program reads up to {FORMAT_VERSION}")]
    Newer {
        /// The copy's format version.
        found: u32,
    },
    /// A copy is whole, but its body is not such a state.
    #[error("the body of the journal is not a state of this program")]
    Body,
    /// The copy is cut off, torn or damaged.
    #[error("the copy is damaged")]
    Damaged,
}

impl<M: Message + Default> JournalImage<M> {
    /// Returns the octets of a copy.
    ///
    /// # Errors
    ///
    /// [`JournalError::TooLarge`] when the state does not fit.
    pub fn emit(&self) -> Result<Vec<u8>, JournalError> {
        let length = self.body.encoded_len();
        let octets = HEAD_BYTES + length + Hash16::LEN;
        if octets > JOURNAL_BYTES {
            return Err(JournalError::TooLarge { octets });
        }
        let mut out = Vec::with_capacity(octets);
        Writer::new(&mut out)
            .bytes(MAGIC)
            .u32(FORMAT_VERSION)
            .u64(self.generation)
            .u32(u32::try_from(length).expect("32 KiB is a u32"))
            .bytes(&self.body.encode_to_vec());
        let hash = h16(&[&out]);
        Writer::new(&mut out).bytes(&hash.0);
        Ok(out)
    }

    /// Reads a copy. Octets after its end are left from a longer state and ignored.
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`], [`JournalError::Newer`] or [`JournalError::Body`].
    pub fn parse(octets: &[u8]) -> Result<Self, JournalError> {
        let frame = read_frame(octets).ok().flatten().ok_or(JournalError::Damaged)?;
        if frame.version > FORMAT_VERSION {
            return Err(JournalError::Newer { found: frame.version });
        }
        let body = M::decode(frame.body).map_err(|_| JournalError::Body)?;
        Ok(Self { generation: frame.generation, body })
    }
}

struct Frame<'a> {
    version: u32,
    generation: u64,
    body: &'a [u8],
}

fn read_frame(octets: &[u8]) -> Result<Option<Frame<'_>>, WireError> {
    let mut input = Reader::new(octets);
    let magic = input.take(MAGIC.len(), "journal magic")?;
    let version = input.u32("journal version")?;
    let generation = input.u64("generation")?;
    let length = input.u32("body length")?;
    let body = input.take(usize::try_from(length).unwrap_or(usize::MAX), "body")?;
    let hash = input.array("journal hash")?;
    let covered = octets.get(..HEAD_BYTES + body.len()).unwrap_or_default();
    let whole = magic == MAGIC && h16(&[covered]) == Hash16(hash);
    Ok(whole.then_some(Frame { version, generation, body }))
}

/// The writer of the two copies: chooses the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journaler {
    /// Generation of the latest state that is known to be whole.
    generation: u64,
    /// The copy that does not hold it.
    next: CopyName,
}

/// One write of the journal: the whole copy, followed by a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalWrite {
    /// The copy.
    pub copy: CopyName,
    /// Generation to hand to [`Journaler::handle_written`] once it is synced.
    pub generation: u64,
    /// The copy's octets, from its start.
    pub octets: Vec<u8>,
    /// The file of floors to write before, where the state relies on higher ones.
    pub floors: Option<Vec<u8>>,
}

impl Journaler {
    /// Reads both copies, `A` and `B`; an absent file is an empty copy.
    ///
    /// # Errors
    ///
    /// [`JournalError::Newer`] or [`JournalError::Body`] when an intact copy is not for this
    /// program: a fresh start over it would lose the state that the device is bound to.
    pub fn recover<M: Message + Default>(
        copies: [&[u8]; 2],
    ) -> Result<(Self, Option<M>), JournalError> {
        let mut latest: Option<(CopyName, JournalImage<M>)> = None;
        for (copy, octets) in CopyName::BOTH.into_iter().zip(copies) {
            match JournalImage::parse(octets) {
                Ok(image)
                    if latest.as_ref().is_none_or(|(_, l)| image.generation > l.generation) =>
                {
                    latest = Some((copy, image));
                }
                Ok(_) | Err(JournalError::Damaged) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(match latest {
            Some((copy, image)) => {
                (Self { generation: image.generation, next: copy.other() }, Some(image.body))
            }
            None => (Self { generation: 0, next: CopyName::A }, None),
        })
    }

    /// Returns the write that makes `body` the latest state.
    ///
    /// One write at a time: until it is acknowledged, the same copy is named again, so that the
    /// copy that holds the latest whole state is never touched.
    ///
    /// # Errors
    ///
    /// [`JournalError::TooLarge`] when the state does not fit.
    pub fn write<M: Message + Default + Clone>(
        &self,
        body: &M,
    ) -> Result<JournalWrite, JournalError> {
        let generation = self.generation + 1;
        let octets = JournalImage { generation, body: body.clone() }.emit()?;
        Ok(JournalWrite { copy: self.next, generation, octets, floors: None })
    }

    /// Handles the sync of `generation`.
    pub fn handle_written(&mut self, generation: u64) {
        if generation == self.generation + 1 {
            self.generation = generation;
            self.next = self.next.other();
        }
    }
}

/// Octets of a copy at most.
pub const JOURNAL_BYTES: usize = 32 << 10;

const MAGIC: &[u8] = b"FCJN";
const FORMAT_VERSION: u32 = 1;
const HEAD_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct State {
        #[prost(bytes = "vec", tag = "1")]
        text: Vec<u8>,
    }

    fn state(text: &[u8]) -> State {
        State { text: text.to_vec() }
    }

    fn recover(a: &[u8], b: &[u8]) -> (Journaler, Option<State>) {
        Journaler::recover([a, b]).unwrap()
    }

    #[test]
    fn no_journal_is_an_empty_state() {
        let (journaler, found) = recover(&[], &[]);
        assert_eq!(found, None);
        assert_eq!(journaler.write(&state(b"x")).unwrap().copy, CopyName::A);
    }

    #[test]
    fn copies_take_turns_and_the_later_one_is_read() {
        let mut files = [Vec::new(), Vec::new()];
        let mut journaler = recover(&[], &[]).0;
        for round in 0_u8..5 {
            let write = journaler.write(&state(&[round; 3])).unwrap();
            assert_eq!(write.copy, CopyName::BOTH[usize::from(round % 2)]);
            files[usize::from(round % 2)] = write.octets;
            journaler.handle_written(write.generation);
            let (again, found) = recover(&files[0], &files[1]);
            assert_eq!(found, Some(state(&[round; 3])));
            assert_eq!(again, journaler);
        }
    }

    #[test]
    fn a_write_that_is_not_acknowledged_goes_to_the_same_copy_again() {
        let mut journaler = recover(&[], &[]).0;
        journaler.handle_written(journaler.write(&state(b"first")).unwrap().generation);
        let failed = journaler.write(&state(b"second")).unwrap();
        let retried = journaler.write(&state(b"third")).unwrap();
        assert_eq!((failed.copy, failed.generation), (retried.copy, retried.generation));
        assert_eq!(retried.copy, CopyName::B);
    }

    #[test]
    fn every_prefix_and_every_flipped_octet_of_a_copy_leaves_the_other_one() {
        let old = JournalImage { generation: 6, body: state(b"old") }.emit().unwrap();
        let new = JournalImage { generation: 7, body: state(b"new") }.emit().unwrap();
        for length in 0..new.len() {
            assert_eq!(recover(&old, &new[..length]).1, Some(state(b"old")), "{length}");
        }
        for at in 0..new.len() {
            let mut torn = new.clone();
            torn[at] ^= 0x40;
            assert_eq!(recover(&torn, &old).1, Some(state(b"old")), "{at}");
        }
        assert_eq!(recover(&old, &new).1, Some(state(b"new")));
    }

    #[test]
    fn what_is_left_of_a_longer_state_is_ignored() {
        let mut long = JournalImage { generation: 1, body: state(&[1; 500]) }.emit().unwrap();
        let short = JournalImage { generation: 3, body: state(b"short") }.emit().unwrap();
        long[..short.len()].copy_from_slice(&short);
        assert_eq!(recover(&long, &[]).1, Some(state(b"short")));
    }

    #[test]
    fn a_journal_of_a_later_program_is_refused_and_not_overwritten() {
        let mut octets = JournalImage { generation: 9, body: state(b"x") }.emit().unwrap();
        let body_end = octets.len() - Hash16::LEN;
        octets[7] = 2;
        let hash = h16(&[&octets[..body_end]]);
        octets[body_end..].copy_from_slice(&hash.0);
        assert_eq!(
            Journaler::recover::<State>([&octets, &[]]).unwrap_err(),
            JournalError::Newer { found: 2 }
        );
    }

    #[test]
    fn a_state_of_32_kib_fits_and_one_octet_more_does_not() {
        let overhead =
            JournalImage { generation: 1, body: state(&[0; 32_000]) }.emit().unwrap().len()
                - 32_000;
        let fits = state(&vec![0; JOURNAL_BYTES - overhead]);
        let beyond = state(&vec![0; JOURNAL_BYTES - overhead + 1]);
        assert_eq!(JournalImage { generation: 1, body: fits }.emit().unwrap().len(), JOURNAL_BYTES);
        assert_eq!(
            JournalImage { generation: 1, body: beyond }.emit().unwrap_err(),
            JournalError::TooLarge { octets: JOURNAL_BYTES + 1 }
        );
    }

    proptest! {
        #[test]
        fn a_write_torn_at_any_sector_leaves_the_old_or_the_new_state(
            history in prop::collection::vec(0_usize..3000, 1..6),
            last in 0_usize..3000,
            kept in any::<u64>(),
        ) {
            let mut files = [Vec::new(), Vec::new()];
            let mut journaler = recover(&[], &[]).0;
            let mut before = None;
            for (round, length) in history.iter().enumerate() {
                let body = state(&vec![u8::try_from(round).unwrap(); *length]);
                let write = journaler.write(&body).unwrap();
                overwrite(&mut files[usize::from(write.copy == CopyName::B)], &write.octets, !0);
                journaler.handle_written(write.generation);
                before = Some(body);
            }
            let after = state(&vec![0xee; last]);
            let write = journaler.write(&after).unwrap();
            overwrite(&mut files[usize::from(write.copy == CopyName::B)], &write.octets, kept);
            let found = recover(&files[0], &files[1]).1;
            prop_assert!(found == before || found == Some(after));
        }
    }

    /// Writes those 512-octet sectors whose bit is set.
    fn overwrite(file: &mut Vec<u8>, octets: &[u8], kept: u64) {
        file.resize(file.len().max(octets.len()), 0);
        for (sector, (to, from)) in file.chunks_mut(512).zip(octets.chunks(512)).enumerate() {
            if kept >> sector & 1 == 1 {
                to[..from.len()].copy_from_slice(from);
            }
        }
    }
}
