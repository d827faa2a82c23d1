//! The floors: what the device must never fall behind, kept apart from the journal.
//!
//! ```text
//! floors                  written aside, synced and renamed, before the journal that relies on it
//!   0   "FCFL"
//!   4   format version, 4 octets
//!   8   length of the body, 4 octets
//!   12  body, a protobuf message
//!       H16 over everything before it
//! ```
//!
//! The journal holds the same values. Of the two the higher one counts, so a power cut between
//! their writes loses nothing, and the floors survive the loss of both copies of the journal.

use std::collections::BTreeMap;

use prost::Message;
use proto::{
    crypto::{Hash16, h16},
    wire::{Reader, WireError, Writer},
};

use super::{
    journal::JournalError,
    journal_state::{AcceptedCampaign, InstalledManifest, JournalState},
};

/// The floors of a device.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Floors {
    /// Version of the root in force.
    #[prost(uint64, tag = "1")]
    pub root_version: u64,
    /// Its epoch, within which sequences are compared.
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    /// The last campaign accepted, for each class.
    #[prost(message, repeated, tag = "3")]
    pub accepted: Vec<AcceptedCampaign>,
    /// The manifest confirmed last, for each class, and its floor.
    #[prost(message, repeated, tag = "4")]
    pub installed: Vec<InstalledManifest>,
    /// The floor of every class, as a person has set it.
    #[prost(uint64, tag = "5")]
    pub general: u64,
    /// Set in floors that a person has set, until the device writes its own.
    #[prost(bool, tag = "6")]
    pub is_reset: bool,
}

impl Floors {
    /// Returns the floors in a state.
    #[must_use]
    pub fn of(state: &JournalState) -> Self {
        Self {
            root_version: state.root_version,
            epoch: state.epoch,
            accepted: state.accepted.clone(),
            installed: state.installed.clone(),
            general: state.general_floor,
            is_reset: false,
        }
    }

    /// Raises the values of a state to these.
    pub fn raise(&self, state: &mut JournalState) {
        state.root_version = state.root_version.max(self.root_version);
        if self.epoch < state.epoch {
            return;
        }
        if self.epoch > state.epoch {
            // Sequences of an earlier epoch say nothing.
            state.epoch = self.epoch;
            state.accepted.clear();
            state.installed.clear();
            state.general_floor = 0;
        }
        state.general_floor = state.general_floor.max(self.general);
        let mut accepted: BTreeMap<_, _> =
            state.accepted.drain(..).map(|entry| (entry.class.clone(), entry)).collect();
        for ours in &self.accepted {
            let entry = accepted.entry(ours.class.clone()).or_insert_with(|| ours.clone());
            if ours.sequence > entry.sequence {
                *entry = ours.clone();
            }
        }
        state.accepted = accepted.into_values().collect();
        let mut installed: BTreeMap<_, _> =
            state.installed.drain(..).map(|entry| (entry.class.clone(), entry)).collect();
        for ours in &self.installed {
            let entry = installed.entry(ours.class.clone()).or_insert_with(|| ours.clone());
            let floor = ours.floor.max(entry.floor);
            if ours.sequence > entry.sequence {
                *entry = ours.clone();
            }
            entry.floor = floor;
        }
        state.installed = installed.into_values().collect();
    }

    /// Returns the octets of the file.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let body = self.encode_to_vec();
        let length = u32::try_from(body.len()).expect("32 classes are some KiB");
        let mut out = Vec::new();
        Writer::new(&mut out).bytes(MAGIC).u32(FORMAT_VERSION).u32(length).bytes(&body);
        let hash = h16(&[&out]);
        Writer::new(&mut out).bytes(&hash.0);
        out
    }

    /// Reads the file. Octets after its end are reserved space.
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`], [`JournalError::Newer`] or [`JournalError::Body`].
    pub fn parse(octets: &[u8]) -> Result<Self, JournalError> {
        let (version, body) = read_frame(octets).ok().flatten().ok_or(JournalError::Damaged)?;
        if version > FORMAT_VERSION {
            return Err(JournalError::Newer { found: version });
        }
        Self::decode(body).map_err(|_| JournalError::Body)
    }
}

fn read_frame(octets: &[u8]) -> Result<Option<(u32, &[u8])>, WireError> {
    let mut input = Reader::new(octets);
    let magic = input.take(MAGIC.len(), "magic of the floors")?;
    let version = input.u32("version of the floors")?;
    let length = input.u32("body length")?;
    let body = input.take(usize::try_from(length).unwrap_or(usize::MAX), "body")?;
    let hash = input.array("hash of the floors")?;
    let covered = octets.get(..HEAD_BYTES + body.len()).unwrap_or_default();
    let whole = magic == MAGIC && h16(&[covered]) == Hash16(hash);
    Ok(whole.then_some((version, body)))
}

/// The origin of the floors with which a device starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrustState {
    /// They are what the device has written.
    #[default]
    Sound,
    /// Both copies of the journal were lost: the floors alone are left.
    Restored,
    /// The floors were lost, too: nothing is accepted until a person sets them.
    Lost,
}

impl TrustState {
    /// Returns the word for the server; `None` when there is nothing to report.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Sound => None,
            Self::Restored => Some("trust-state"),
            Self::Lost => Some("trust-state-lost"),
        }
    }

    /// Returns the number in the journal.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Sound => 0,
            Self::Restored => 1,
            Self::Lost => 2,
        }
    }

    /// Returns the state of a number in the journal.
    #[must_use]
    pub const fn of_number(number: u32) -> Self {
        match number {
            0 => Self::Sound,
            1 => Self::Restored,
            _ => Self::Lost,
        }
    }
}

/// The file of the floors, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FloorsFile {
    /// There is none.
    Missing,
    /// It is damaged.
    Damaged,
    /// Its content.
    Sound(Floors),
}

impl FloorsFile {
    /// Reads the file; `None` is a missing one.
    ///
    /// # Errors
    ///
    /// [`JournalError::Newer`] or [`JournalError::Body`] when it is not for this program: nothing
    /// is written over it.
    pub fn read(octets: Option<&[u8]>) -> Result<Self, JournalError> {
        match octets.map(Floors::parse) {
            None => Ok(Self::Missing),
            Some(Ok(floors)) => Ok(Self::Sound(floors)),
            Some(Err(JournalError::Damaged)) => Ok(Self::Damaged),
            Some(Err(error)) => Err(error),
        }
    }
}

/// The other content of the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leftovers {
    /// Copies of the journal that are damaged, those that were put aside included.
    pub damaged_copies: usize,
    /// Set where there is an object or a small file.
    pub has_files: bool,
}

/// The floors with which a device starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloorsAtStart {
    /// The floors on disk.
    pub on_disk: Option<Floors>,
    /// The floors to write before anything else.
    pub to_write: Option<Floors>,
    /// Their origin.
    pub state: TrustState,
}

/// Decides with which floors a device starts.
#[must_use]
pub fn floors_at_start(
    journal: Option<&JournalState>,
    file: FloorsFile,
    leftovers: Leftovers,
) -> FloorsAtStart {
    let before =
        journal.map_or(TrustState::Sound, |state| TrustState::of_number(state.trust_state));
    match (journal, file) {
        (Some(_), FloorsFile::Sound(floors)) => {
            let is_reset = before == TrustState::Lost;
            let state = if is_reset { TrustState::Sound } else { before };
            FloorsAtStart { on_disk: Some(floors), to_write: None, state }
        }
        // A journal that was begun without floors does not restore them.
        (Some(_), FloorsFile::Missing | FloorsFile::Damaged) if before == TrustState::Lost => {
            lost()
        }
        (Some(journal), FloorsFile::Missing | FloorsFile::Damaged) => {
            let made = Some(Floors::of(journal));
            FloorsAtStart { on_disk: None, to_write: made, state: before }
        }
        (None, FloorsFile::Sound(floors)) => {
            // One damaged copy is the first write of a journal, torn.
            let has_lost = leftovers.damaged_copies > 1 && !floors.is_reset;
            let state = if has_lost { TrustState::Restored } else { TrustState::Sound };
            FloorsAtStart { on_disk: Some(floors), to_write: None, state }
        }
        (None, FloorsFile::Missing) if leftovers.damaged_copies == 0 && !leftovers.has_files => {
            let (made, state) = (Some(Floors::default()), TrustState::Sound);
            FloorsAtStart { on_disk: None, to_write: made, state }
        }
        (None, FloorsFile::Missing | FloorsFile::Damaged) => lost(),
    }
}

const fn lost() -> FloorsAtStart {
    FloorsAtStart { on_disk: None, to_write: None, state: TrustState::Lost }
}

/// Octets of the file at most.
pub const FLOORS_BYTES: usize = 16 << 10;

const MAGIC: &[u8] = b"FCFL";
const FORMAT_VERSION: u32 = 1;
const HEAD_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(class: u8, sequence: u64) -> AcceptedCampaign {
        AcceptedCampaign {
            class: vec![class; 16],
            sequence,
            campaign_sha256: vec![u8::try_from(sequence).unwrap(); 32],
        }
    }

    fn installed(class: u8, sequence: u64, floor: u64) -> InstalledManifest {
        let manifest_sha256 = vec![u8::try_from(sequence).unwrap(); 32];
        InstalledManifest { class: vec![class; 16], sequence, floor, manifest_sha256 }
    }

    fn floors() -> Floors {
        Floors {
            root_version: 3,
            epoch: 1,
            accepted: vec![accepted(1, 9), accepted(2, 4)],
            installed: vec![installed(1, 8, 5)],
            general: 2,
            is_reset: false,
        }
    }

    fn journal(floors: &Floors, trust: TrustState) -> JournalState {
        let mut state = JournalState { trust_state: trust.number(), ..JournalState::default() };
        floors.raise(&mut state);
        state
    }

    const NOTHING: Leftovers = Leftovers { damaged_copies: 0, has_files: false };
    const DAMAGED: Leftovers = Leftovers { damaged_copies: 2, has_files: true };

    #[test]
    fn floors_are_read_as_they_were_written_and_no_damage_is_accepted() {
        let octets = floors().emit();
        assert_eq!(Floors::parse(&octets), Ok(floors()));
        for length in 0..octets.len() {
            assert_eq!(Floors::parse(&octets[..length]), Err(JournalError::Damaged), "{length}");
        }
        for at in 0..octets.len() {
            let mut torn = octets.clone();
            torn[at] ^= 0x40;
            assert_eq!(Floors::parse(&torn), Err(JournalError::Damaged), "{at}");
        }
        let reserved = [&*octets, &[0; 99]].concat();
        assert_eq!(Floors::parse(&reserved), Ok(floors()), "what is reserved behind is ignored");
        let mut newer = octets[..octets.len() - Hash16::LEN].to_vec();
        newer[7] = 2;
        let hash = h16(&[&newer]);
        newer.extend(hash.0);
        assert_eq!(Floors::parse(&newer), Err(JournalError::Newer { found: 2 }));
        assert!(FloorsFile::read(Some(&newer)).is_err(), "it is not written over");
    }

    #[test]
    fn sixteen_classes_fit() {
        let many = Floors {
            root_version: u64::MAX,
            epoch: u32::MAX,
            accepted: vec![accepted(1, 200); 16],
            installed: vec![installed(1, 200, u64::MAX); 16],
            general: u64::MAX,
            is_reset: true,
        };
        assert!(many.emit().len() <= FLOORS_BYTES, "{}", many.emit().len());
    }

    #[test]
    fn of_floors_and_journal_the_higher_value_counts_class_by_class() {
        let mut state = JournalState {
            root_version: 4,
            epoch: 1,
            accepted: vec![accepted(1, 7), accepted(2, 5), accepted(3, 1)],
            installed: vec![installed(1, 6, 6)],
            general_floor: 1,
            ..JournalState::default()
        };
        floors().raise(&mut state);
        let expected = Floors {
            root_version: 4,
            epoch: 1,
            accepted: vec![accepted(1, 9), accepted(2, 5), accepted(3, 1)],
            installed: vec![installed(1, 8, 6)],
            general: 2,
            is_reset: false,
        };
        assert_eq!(Floors::of(&state), expected);
        let mut later = JournalState { epoch: 2, ..JournalState::default() };
        floors().raise(&mut later);
        assert!(later.accepted.is_empty() && later.installed.is_empty(), "another epoch");
        let mut earlier =
            JournalState { accepted: vec![accepted(1, 99)], ..JournalState::default() };
        floors().raise(&mut earlier);
        assert_eq!(Floors::of(&earlier), floors());
    }

    #[test]
    fn floors_are_made_on_a_device_without_anything_and_not_where_something_is_left() {
        let made = floors_at_start(None, FloorsFile::Missing, NOTHING);
        assert_eq!((made.to_write, made.state), (Some(Floors::default()), TrustState::Sound));
        for leftovers in [
            Leftovers { damaged_copies: 1, has_files: false },
            Leftovers { damaged_copies: 0, has_files: true },
            DAMAGED,
        ] {
            let start = floors_at_start(None, FloorsFile::Missing, leftovers);
            assert_eq!(start, lost(), "{leftovers:?}");
        }
    }

    #[test]
    fn floors_are_made_from_a_valid_journal() {
        let state = journal(&floors(), TrustState::Sound);
        for file in [FloorsFile::Missing, FloorsFile::Damaged] {
            let start = floors_at_start(Some(&state), file, DAMAGED);
            assert_eq!((start.to_write, start.state), (Some(floors()), TrustState::Sound));
        }
        let start = floors_at_start(Some(&state), FloorsFile::Sound(floors()), DAMAGED);
        assert_eq!((start.on_disk, start.to_write), (Some(floors()), None));
    }

    #[test]
    fn floors_outlive_both_copies_of_the_journal_and_the_server_is_informed() {
        let start = floors_at_start(None, FloorsFile::Sound(floors()), DAMAGED);
        assert_eq!((start.on_disk, start.state), (Some(floors()), TrustState::Restored));
        assert_eq!(start.state.reason(), Some("trust-state"));
        let torn = Leftovers { damaged_copies: 1, has_files: true };
        let start = floors_at_start(None, FloorsFile::Sound(floors()), torn);
        assert_eq!(start.state, TrustState::Sound, "a first journal that was torn");
    }

    #[test]
    fn without_journal_and_floors_the_trust_is_lost_until_a_person_sets_it() {
        for file in [FloorsFile::Missing, FloorsFile::Damaged] {
            assert_eq!(floors_at_start(None, file.clone(), DAMAGED), lost());
            // The journal that such a device begins is no proof of what was before.
            let begun = journal(&Floors::default(), TrustState::Lost);
            assert_eq!(floors_at_start(Some(&begun), file, NOTHING), lost());
        }
        assert_eq!(floors_at_start(None, FloorsFile::Damaged, NOTHING), lost());
        let begun = journal(&Floors::default(), TrustState::Lost);
        let set = floors_at_start(Some(&begun), FloorsFile::Sound(floors()), DAMAGED);
        assert_eq!((set.on_disk, set.state), (Some(floors()), TrustState::Sound));
        let by_person = FloorsFile::Sound(Floors { is_reset: true, ..floors() });
        assert_eq!(floors_at_start(None, by_person, DAMAGED).state, TrustState::Sound);
    }
}
