//! The disk as a whole: power, faults, counters.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use receiver::shell::disk::OpenMode;

use super::{
    call::{Call, Fault, Faults, History},
    file::File,
    tree::Tree,
};
use crate::lab::rng::SeededRng;

/// The disk.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) tree: Tree,
    /// Counts the times that the power came back.
    pub(super) epoch: u64,
    pub(super) off: bool,
    pub(super) cut_at: Option<u64>,
    pub(super) operations: u64,
    pub(super) counts: BTreeMap<Call, u64>,
    pub(super) faults: Faults,
    /// Chances in a million, by call.
    pub(super) rates: BTreeMap<Call, (u64, Fault)>,
    pub(super) capacity: u64,
    pub(super) allocates: bool,
    pub(super) written: u64,
    pub(super) synced: u64,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) history: Option<History>,
    rng: SeededRng,
}

/// Fate of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    fault: Option<Fault>,
    /// The power goes while it is done.
    cut: bool,
}

impl Step {
    pub(super) const fn fault(self) -> Option<Fault> {
        self.fault
    }

    /// Ends a call that fails without an effect.
    pub(super) fn failure(self) -> io::Result<()> {
        self.fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    /// Ends a call whose effect is there, though the caller may get no answer.
    pub(super) fn end(self, state: &mut State) -> io::Result<()> {
        if self.cut {
            state.off = true;
            return Err(power_is_off());
        }
        Ok(())
    }
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            tree: Tree::new(),
            epoch: 0,
            off: false,
            cut_at: None,
            operations: 0,
            counts: BTreeMap::new(),
            faults: Faults::new(),
            rates: BTreeMap::new(),
            capacity: u64::MAX,
            allocates: true,
            written: 0,
            synced: 0,
            locks: BTreeSet::new(),
            history: None,
            rng: SeededRng::new(seed, "disk"),
        }
    }

    /// Counts a call and decides what becomes of it.
    pub(super) fn enter(&mut self, call: Call, path: &Path) -> io::Result<Step> {
        if self.off {
            return Err(power_is_off());
        }
        let count = self.counts.entry(call).or_default();
        *count += 1;
        let planned = self.faults.remove(&(call, *count));
        let drawn = self.rates.get(&call).filter(|(rate, _)| self.rng.below(1_000_000) < *rate);
        let fault = planned.or(drawn.map(|(_, fault)| *fault));
        if let Some(history) = &mut self.history {
            history.push((call, path.to_owned()));
        }
        self.operations += u64::from(call.is_operation());
        let cut = call.is_operation() && self.cut_at == Some(self.operations);
        if cut && fault.is_some() {
            self.off = true;
        }
        Ok(Step { fault, cut })
    }

    pub(super) fn power_on(&mut self, seed: u64) {
        let mut rng = SeededRng::new(seed, "survival");
        self.tree.lose_power(&mut rng);
        self.epoch += 1;
        self.off = false;
        self.cut_at = None;
        self.locks.clear();
    }

    pub(super) fn open(&mut self, path: &Path, how: OpenMode) -> io::Result<u64> {
        let found = self.tree.find(path);
        match (found, how) {
            (Some(id), OpenMode::Read | OpenMode::Write | OpenMode::Create) => {
                self.tree.file(id)?;
                Ok(id)
            }
            (Some(id), OpenMode::Empty) => {
                self.tree.file_mut(id)?.empty();
                Ok(id)
            }
            (None, OpenMode::Create | OpenMode::Empty) => self.tree.make_file(path),
            (None, OpenMode::Read | OpenMode::Write) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn opened(&mut self, id: u64) -> io::Result<&mut File> {
        self.tree.file_mut(id)
    }

    pub(super) fn file_mut(&mut self, path: &Path) -> Option<&mut File> {
        let id = self.tree.find(path)?;
        self.tree.file_mut(id).ok()
    }

    pub(super) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let id = self.tree.find(path)?;
        self.tree.file(id).ok().map(File::content)
    }

    pub(super) fn medium(&self, path: &Path) -> io::Result<Vec<u8>> {
        let id = self.tree.find(path).ok_or(io::ErrorKind::NotFound)?;
        self.tree.file(id)?.medium()
    }

    /// Returns whether a file can become `end` octets long.
    pub(super) fn has_room(&self, id: u64, end: u64) -> bool {
        let length = self.tree.file(id).map_or(0, File::length);
        end <= length || self.tree.used_bytes() + (end - length) <= self.capacity
    }

    /// Draws how much of a write is done that fails.
    pub(super) fn part_of(&mut self, octets: usize) -> usize {
        usize::try_from(self.rng.below(octets as u64)).unwrap_or_default()
    }

    pub(super) fn fail_sync(&mut self, id: u64) -> io::Result<()> {
        let Self { tree, rng, .. } = self;
        tree.file_mut(id)?.fail_sync(rng);
        Ok(())
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}
