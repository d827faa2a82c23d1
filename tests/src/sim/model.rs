//! Invariants of one device, checked from outside: what its storage has acknowledged, and what
//! the disk must therefore hold.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use proto::{
    crypto::sha256,
    ids::{CampaignId, Esi, Sbn},
};
use receiver::{
    agent::Status,
    flute::decode::DecodeOutcome,
    store::{
        CopyName, JournalImage, LogOutput, ObjectLayout, SlotAddress, Ticket,
        commands::{Completion, StorageCommand},
        journal_state::JournalState,
    },
    update::installer::InstallRequest,
};

use super::{disk::SimDisk, package::Package};

/// Data directory of every device.
pub const DATA: &str = "/data";

/// Invariants of one device.
#[derive(Debug)]
pub struct Model {
    package: &'static Package,
    /// Log writes and flushes that were asked for, in order.
    asked: VecDeque<(Ticket, Vec<Claim>)>,
    /// Symbols that the storage has acknowledged as synced, by name.
    claims: BTreeMap<(Sbn, Esi), SlotAddress>,
    /// Journals that were asked for, by generation.
    journals: BTreeMap<u64, JournalState>,
    /// Generation of the last journal that the storage has acknowledged.
    acknowledged: u64,
    /// The journal that the storage has acknowledged, or that a start finds: that may be one whose
    /// sync failed, and go again with the power.
    journal: Option<JournalState>,
    /// The last one that was acknowledged: what a start finds beyond it may go again.
    known: Option<JournalState>,
    /// Hand-offs that were begun.
    pub installs: u64,
    /// Stored bits have flipped: symbols may be gone, but none may be wrong.
    pub damaged: bool,
    breaches: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    symbol: (Sbn, Esi),
    slot: SlotAddress,
}

impl Model {
    /// Returns the model of a device that holds nothing.
    pub fn new(package: &'static Package) -> Self {
        Self {
            package,
            asked: VecDeque::new(),
            claims: BTreeMap::new(),
            journals: BTreeMap::new(),
            acknowledged: 0,
            journal: None,
            known: None,
            installs: 0,
            damaged: false,
            breaches: Vec::new(),
        }
    }

    /// Removes and returns the breaches since the last call.
    pub fn take_breaches(&mut self) -> Vec<String> {
        std::mem::take(&mut self.breaches)
    }

    /// Records a breach.
    pub fn breach(&mut self, text: String) {
        self.breaches.push(text);
    }

    /// Records a command to the storage.
    pub fn handle_command(&mut self, command: &StorageCommand) {
        match command {
            StorageCommand::Log(key, LogOutput::Write { ticket, file, offset, octets }) => {
                if *key != self.package.object.object_key {
                    self.breach("a symbol of another object is stored".to_owned());
                }
                let claims = self.written(*file, *offset, octets);
                self.asked.push_back((*ticket, claims));
            }
            StorageCommand::Log(_, LogOutput::Flush(ticket)) => {
                self.asked.push_back((*ticket, Vec::new()));
            }
            StorageCommand::Journal(write) => {
                match JournalImage::<JournalState>::parse(&write.octets) {
                    Ok(image) => drop(self.journals.insert(write.generation, image.body)),
                    Err(error) => self.breach(format!("a journal that cannot be read: {error}")),
                }
            }
            StorageCommand::Log(_, LogOutput::Tables { .. })
            | StorageCommand::Open(_)
            | StorageCommand::WriteImage(..)
            | StorageCommand::WriteFile(..)
            | StorageCommand::WriteOptionalFile(..)
            | StorageCommand::RemoveFile(_)
            | StorageCommand::Decode(_)
            | StorageCommand::VerifyImage(_)
            | StorageCommand::VerifyKept(..)
            | StorageCommand::Reserve(..)
            | StorageCommand::Drop(_)
            | StorageCommand::Discard(_)
            | StorageCommand::RemoveOtherObjects(_) => {}
        }
    }

    /// Every record that is written must be one that was sent, in a slot that may be written.
    fn written(&mut self, file: u32, offset: u64, octets: &[u8]) -> Vec<Claim> {
        let layout = &self.package.layout;
        let size = layout.slot_size();
        let first = offset.saturating_sub(ObjectLayout::HEADER_BYTES as u64) / size as u64;
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        let mut claims = Vec::new();
        for (index, record) in (first..).zip(octets.chunks(size)) {
            let slot = SlotAddress { file, index };
            let Some(found) = layout.parse_slot(record) else {
                self.breaches.push(format!("no record is written to {slot:?}"));
                continue;
            };
            let symbol = (found.sbn, found.esi);
            if self.package.symbol(found.sbn, found.esi) != Some(found.symbol) {
                self.breaches.push(format!("a symbol is stored that was never sent: {symbol:?}"));
            }
            let holder = self.claims.iter().find(|(_, held)| **held == slot);
            if let Some((held, _)) = holder.filter(|(held, _)| !self.is_done(held.0)) {
                self.breaches.push(format!("{symbol:?} overwrites the synced {held:?}"));
            }
            claims.push(Claim { symbol, slot });
        }
        claims
    }

    fn is_done(&self, sbn: Sbn) -> bool {
        self.done().contains(&sbn)
    }

    /// Returns the blocks that are decoded by the acknowledged journal.
    fn done(&self) -> BTreeSet<Sbn> {
        self.journal.as_ref().map(|state| self.done_in(state)).unwrap_or_default()
    }

    fn done_in(&self, state: &JournalState) -> BTreeSet<Sbn> {
        let key = self.package.object.object_key.0;
        let ours = state.objects.iter().find(|object| object.object_key == key);
        ours.map(receiver::store::journal_state::ObjectProgress::done).unwrap_or_default()
    }

    /// Records an answer of the storage.
    pub fn handle_completion(&mut self, completion: &Completion) {
        match completion {
            Completion::Flushed(_, ticket) => {
                while let Some((asked, claims)) = self.asked.pop_front() {
                    for Claim { symbol, slot } in claims {
                        self.claims.retain(|_, held| *held != slot);
                        self.claims.insert(symbol, slot);
                    }
                    if asked == *ticket {
                        break;
                    }
                }
            }
            Completion::LogFailed(_, ticket, _) => self.failed(*ticket),
            Completion::JournalWritten(generation) => {
                if let Some(state) = self.journals.remove(generation) {
                    self.check_persistent_state(&state);
                    self.known = Some(state.clone());
                    let done = self.done_in(&state);
                    self.claims.retain(|(sbn, _), _| !done.contains(sbn));
                    self.acknowledged = *generation;
                    self.journal = Some(state);
                }
            }
            // What is there after a start is what there is; `check_disk` has compared it with what
            // was acknowledged before.
            Completion::Recovered(_, recovered) => {
                self.asked.clear();
                let found = recovered.slots.iter().map(|slot| ((slot.sbn, slot.esi), slot.slot));
                self.claims = found.rev().collect();
            }
            // What was read back damaged is lost: its slots are written again.
            Completion::Decoded(_, _, DecodeOutcome::LostSlots(slots)) => {
                self.claims.retain(|_, held| !slots.contains(held));
            }
            Completion::ObjectsRemoved(_)
            | Completion::Discarded(..)
            | Completion::ImageWritten(..)
            | Completion::Reserved(..)
            | Completion::OpenFailed(..)
            | Completion::JournalFailed(..)
            | Completion::FileDone(_)
            | Completion::FileFailed(..)
            | Completion::OptionalFileWritten(_)
            | Completion::Decoded(_, _, DecodeOutcome::Done)
            | Completion::Decoded(_, _, DecodeOutcome::NeedsMore)
            | Completion::Decoded(_, _, DecodeOutcome::Failed(_))
            | Completion::ImageVerified(..) => {}
        }
    }

    /// Checks that learned roots and campaigns are never rolled back, and no device is armed
    /// by keys that one of its roots has revoked.
    fn check_persistent_state(&mut self, after: &JournalState) {
        let armed = matches!(&*after.phase, "armed" | "receiving" | "suspended");
        if let Some(campaign) = after.armed.as_ref().filter(|_| armed) {
            let id = <[u8; 16]>::try_from(&*campaign.campaign_id).map(CampaignId);
            let trusted = id.is_ok_and(|id| self.package.is_trusted(id, after.root_version.max(1)));
            if !trusted {
                let root = after.root_version;
                self.breach(format!("armed by keys that root {root} does not have"));
            }
        }
        let Some(before) = &self.known else { return };
        let (from, to) = (before.root_version, after.root_version);
        let sequences = |state: &JournalState| state.accepted.iter().map(|it| it.sequence).max();
        let (held, holds) = (sequences(before), sequences(after));
        let is_older = after.epoch < before.epoch || (after.epoch == before.epoch && holds < held);
        if to < from {
            self.breach(format!("the root fell from {from} back to {to}"));
        }
        if is_older {
            self.breach(format!("the sequence fell from {held:?} back to {holds:?}"));
        }
    }

    /// A flush that fails loses all that it covers, a write what it carries.
    fn failed(&mut self, ticket: Ticket) {
        let Some(at) = self.asked.iter().position(|(asked, _)| *asked == ticket) else { return };
        let is_flush = self.asked.get(at).is_some_and(|(_, claims)| claims.is_empty());
        if is_flush {
            self.asked.drain(..=at);
        } else {
            self.asked.remove(at);
        }
    }

    /// Drops the symbols of objects that were dropped.
    pub fn handle_dropped(&mut self, kept: &[ObjectLayout]) {
        let key = self.package.object.object_key;
        if !kept.iter().any(|layout| layout.object_key() == key) {
            self.asked.clear();
            self.claims.clear();
        }
    }

    /// The process has ended: pending answers are dropped.
    pub fn handle_ended(&mut self) {
        self.asked.clear();
        self.journals.clear();
    }

    /// Checks that reported progress would survive a power cut at this moment; where bits have
    /// flipped that shows only when they are read.
    pub fn check_status(&mut self, status: &Status) {
        if status.symbols_needed == 0 || self.damaged {
            return;
        }
        let done = self.done();
        let blocks = (0..self.package.layout.blocks()).map(Sbn);
        let survives: u64 = blocks
            .map(|sbn| {
                let needed = self.package.layout.block_symbols(sbn).unwrap_or_default();
                let held = self.claims.keys().filter(|(held, _)| *held == sbn).count();
                if done.contains(&sbn) { needed.into() } else { u64::from(needed).min(held as u64) }
            })
            .sum();
        if status.symbols_synced > survives {
            let said = status.symbols_synced;
            let of = status.symbols_needed;
            self.breach(format!("{said} symbols of {of} are reported, {survives} would survive"));
        }
    }

    /// The image that is handed off must be the image that was sent, and durable.
    pub fn check_install(&mut self, disk: &SimDisk, layout: &ObjectLayout, asked: &InstallRequest) {
        self.installs += 1;
        let path = directory(layout).join("image");
        let after_a_cut = disk.fork();
        after_a_cut.power_on(1);
        for (disk, when) in [(disk, "now"), (&after_a_cut, "after a power cut")] {
            match disk.content(&path) {
                Some(image) if image == self.package.image => {}
                Some(_) => self.breach(format!("{when} the image handed off is another one")),
                None => self.breach(format!("{when} there is no image to hand off")),
            }
        }
        if asked.sha256 != sha256(&[&self.package.image]).to_string() {
            self.breach("the installer is told another digest".to_owned());
        }
    }

    /// After the power came back, or the process did: the disk holds what was acknowledged.
    pub fn check_disk(&mut self, disk: &SimDisk) {
        let copies = CopyName::BOTH.map(|copy| {
            let octets = disk.content(&Path::new(DATA).join(copy.file_name()));
            JournalImage::<JournalState>::parse(&octets.unwrap_or_default()).ok()
        });
        let found = copies.into_iter().flatten().max_by_key(|image| image.generation);
        let acknowledged = self.acknowledged;
        let generation = found.as_ref().map_or(0, |image| image.generation);
        if generation < acknowledged {
            self.breach(format!("the journal fell from {acknowledged} back to {generation}"));
        }
        if let Some(image) = &found {
            self.check_persistent_state(&image.body);
        }
        // A write that was never acknowledged may have survived.
        self.journal = found.map(|image| image.body);
        let done = self.done();
        self.claims.retain(|(sbn, _), _| !done.contains(sbn));
        self.check_logs(disk);
        if !self.damaged {
            self.check_image(disk, &done);
        }
    }

    fn check_logs(&mut self, disk: &SimDisk) {
        let layout = self.package.layout.clone();
        let size = layout.slot_size();
        let mut whole = BTreeSet::new();
        for file in 0..layout.files() {
            let path = directory(&layout).join(format!("log.{file}"));
            let Some(content) = disk.content(&path) else { continue };
            let slots = content.get(ObjectLayout::HEADER_BYTES..).unwrap_or_default();
            for (index, record) in (0..).zip(slots.chunks_exact(size)) {
                let Some(found) = layout.parse_slot(record) else { continue };
                if self.package.symbol(found.sbn, found.esi) != Some(found.symbol) {
                    let symbol = (found.sbn, found.esi);
                    self.breach(format!("the disk holds a symbol that was not sent: {symbol:?}"));
                }
                whole.insert(((found.sbn, found.esi), SlotAddress { file, index }));
            }
        }
        if self.damaged {
            return;
        }
        let lost = self.claims.iter().find(|(symbol, slot)| !whole.contains(&(**symbol, **slot)));
        if let Some((symbol, slot)) = lost {
            self.breach(format!("the synced {symbol:?} of {slot:?} did not survive"));
        }
    }

    /// Checks that a block that is decoded by the journal is in the image, under one of its names.
    fn check_image(&mut self, disk: &SimDisk, done: &BTreeSet<Sbn>) {
        if done.is_empty() {
            return;
        }
        let layout = &self.package.layout;
        let content =
            ["image.part", "image"].map(|name| disk.content(&directory(layout).join(name)));
        let holds = |sbn: &Sbn| {
            let place = layout.block_place(*sbn)?;
            let from = usize::try_from(place.offset).ok()?;
            let to = from + usize::try_from(place.octets).ok()?;
            let sent = self.package.block(*sbn)?;
            let found = content.iter().flatten().any(|image| image.get(from..to) == Some(sent));
            found.then_some(())
        };
        let missing = done.iter().find(|sbn| holds(sbn).is_none()).copied();
        if let Some(sbn) = missing {
            self.breach(format!("{sbn:?} is solved by the journal and not in the image"));
        }
    }
}

/// Returns where the files of an object lie.
pub fn directory(layout: &ObjectLayout) -> PathBuf {
    Path::new(DATA).join("objects").join(layout.directory_name())
}
