//! Acknowledgements of the storage, read from its commands and answers: they must survive.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    crypto::Hash16,
    ids::{Esi, Sbn},
};
use receiver::{
    flute::decode::DecodeOutcome,
    store::{
        JournalImage, LogOutput, ObjectLayout, Recovered, Ticket,
        commands::{Completion, StorageCommand},
        journal_state::JournalState,
    },
};

/// A symbol's name.
pub type Name = (Sbn, Esi);

/// The acknowledgements of one device about its one object.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    layout: Option<ObjectLayout>,
    writes: BTreeMap<Ticket, Vec<Name>>,
    states: BTreeMap<u64, JournalState>,
    synced: BTreeSet<Name>,
    /// The journal's last acknowledged state.
    state: Option<JournalState>,
    /// Its generation.
    generation: u64,
    /// Promises that were broken.
    breaches: Vec<String>,
}

impl Ledger {
    /// Returns the layout of the object that was opened last.
    #[must_use]
    pub const fn layout(&self) -> Option<&ObjectLayout> {
        self.layout.as_ref()
    }

    /// Returns the broken promises.
    #[must_use]
    pub fn breaches(&self) -> &[String] {
        &self.breaches
    }

    /// Adds a broken promise that was found elsewhere.
    pub fn add_breach(&mut self, breach: String) {
        self.breaches.push(breach);
    }

    /// Returns the blocks that are decoded by the journal.
    #[must_use]
    pub fn done(&self) -> BTreeSet<Sbn> {
        let key = self.layout.as_ref().map(ObjectLayout::object_key);
        let objects = self.state.iter().flat_map(|state| &state.objects);
        objects
            .filter(|object| key.is_some_and(|Hash16(key)| object.object_key == key))
            .flat_map(|object| object.done())
            .collect()
    }

    /// Returns the symbols that must be there: synced, and of blocks that are not decoded.
    #[must_use]
    pub fn owed(&self) -> BTreeSet<Name> {
        let done = self.done();
        self.synced.iter().filter(|(sbn, _)| !done.contains(sbn)).copied().collect()
    }

    /// Returns the symbols that progress may count: K of each decoded block, and at most K of the
    /// others.
    #[must_use]
    pub fn owed_progress(&self) -> u64 {
        let Some(layout) = &self.layout else { return 0 };
        let (done, owed) = (self.done(), self.owed());
        let of_block = |sbn: Sbn| {
            let needed = u64::from(layout.block_symbols(sbn).unwrap_or_default());
            let held = owed.iter().filter(|(of, _)| *of == sbn).count() as u64;
            if done.contains(&sbn) { needed } else { held.min(needed) }
        };
        (0..layout.blocks()).map(Sbn).map(of_block).sum()
    }

    /// Returns the last acknowledged state with its generation.
    #[must_use]
    pub const fn state(&self) -> (u64, Option<&JournalState>) {
        (self.generation, self.state.as_ref())
    }

    /// Records a command to the storage.
    pub fn command(&mut self, command: &StorageCommand) {
        match command {
            StorageCommand::Open(layout) => {
                if self.layout.as_ref() != Some(layout) {
                    self.synced.clear();
                    self.layout = Some(layout.clone());
                }
                self.writes.clear();
            }
            StorageCommand::Log(_, LogOutput::Write { ticket, octets, .. }) => {
                let Some(layout) = &self.layout else { return };
                let slots = octets.chunks(layout.slot_size());
                let names = slots.filter_map(|slot| layout.parse_slot(slot));
                self.writes.insert(*ticket, names.map(|slot| (slot.sbn, slot.esi)).collect());
            }
            StorageCommand::Journal(write) => {
                if let Ok(image) = JournalImage::<JournalState>::parse(&write.octets) {
                    self.states.insert(image.generation, image.body);
                }
            }
            StorageCommand::RemoveOtherObjects(layouts) => {
                let kept = layouts.iter().any(|layout| self.layout.as_ref() == Some(layout));
                if !kept {
                    self.synced.clear();
                }
            }
            StorageCommand::Drop(_) | StorageCommand::Discard(_) => self.synced.clear(),
            StorageCommand::Log(_, LogOutput::Flush(_) | LogOutput::Tables { .. })
            | StorageCommand::Reserve(..)
            | StorageCommand::WriteImage(..)
            | StorageCommand::WriteFile(..)
            | StorageCommand::WriteOptionalFile(..)
            | StorageCommand::RemoveFile(_)
            | StorageCommand::Decode(_)
            | StorageCommand::VerifyImage(_)
            | StorageCommand::VerifyKept(..) => {}
        }
    }

    /// Records an answer of the storage.
    pub fn completion(&mut self, completion: &Completion) {
        match completion {
            Completion::Flushed(_, ticket) => {
                let later = self.writes.split_off(ticket);
                self.synced
                    .extend(std::mem::replace(&mut self.writes, later).into_values().flatten());
            }
            Completion::LogFailed(_, ticket, _) => {
                // A write of its own, or all that a flush covered.
                if self.writes.remove(ticket).is_none() {
                    self.writes = self.writes.split_off(ticket);
                }
            }
            Completion::JournalWritten(generation) => {
                if let Some(state) = self.states.remove(generation) {
                    self.state = Some(state);
                    self.generation = *generation;
                }
            }
            Completion::Decoded(_, sbn, DecodeOutcome::LostSlots(_)) => {
                // Damage to stored data: no promise covers it.
                self.synced.retain(|(of, _)| of != sbn);
            }
            Completion::Recovered(_, recovered) => self.check_recovered(recovered),
            Completion::Decoded(..)
            | Completion::ImageWritten(..)
            | Completion::Reserved(..)
            | Completion::OpenFailed(..)
            | Completion::JournalFailed(..)
            | Completion::FileDone(_)
            | Completion::FileFailed(..)
            | Completion::OptionalFileWritten(_)
            | Completion::ImageVerified(..)
            | Completion::Discarded(..)
            | Completion::ObjectsRemoved(_) => {}
        }
    }

    /// Checks that acknowledged state is found, and relies on the found state from here.
    fn check_recovered(&mut self, recovered: &Recovered) {
        let found: BTreeSet<_> = recovered.slots.iter().map(|slot| (slot.sbn, slot.esi)).collect();
        let lost: Vec<_> = self.owed().difference(&found).copied().collect();
        if !lost.is_empty() {
            self.breaches.push(format!("P2: {} synced symbols are lost: {lost:?}", lost.len()));
        }
    }

    /// Removes a symbol whose stored data were damaged: no promise covers it.
    pub fn forget(&mut self, name: Name) {
        self.synced.remove(&name);
    }

    /// Starts to rely on the symbols that a start found usable.
    pub fn rely_on(&mut self, names: impl IntoIterator<Item = Name>) {
        self.synced = names.into_iter().collect();
    }

    /// Records the journal after a start: the last acknowledged state, or the one that was
    /// being written.
    pub fn check_journal(&mut self, found: Option<(u64, JournalState)>) {
        let generation = found.as_ref().map_or(0, |(generation, _)| *generation);
        if generation < self.generation {
            let (found, owed) = (generation, self.generation);
            self.breaches.push(format!("the journal fell back from {owed} to {found}"));
        }
        (self.generation, self.state) =
            found.map_or((0, None), |(generation, state)| (generation, Some(state)));
        self.states.clear();
    }
}
