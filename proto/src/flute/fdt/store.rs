//! The tables that a receiver holds: packets of TOI 0 in, the entry of an object out.
//!
//! An instance does not change until it expires, by the standard. Several deployed senders rewrite
//! the expiry or the list of files under one id, and a sender that starts again begins with the ids
//! that it had: the octets of each repetition are compared, and other ones replace the instance.
//! Ids may leave gaps and wrap; the logically higher one is newer. All memory has a limit, and a
//! sender that breaks one loses its own tables only: one store serves one session.

mod assembly;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{FdtInstance, FileEntry, inflate::inflate};
use crate::{
    crypto::{Hash16, h16},
    fec::oti::Oti,
    flute::{
        alc::{Packet, Payload},
        lct::Extensions,
    },
    ids::Toi,
    time::Utc,
    wire::WireError,
};

use assembly::Assembly;

/// Ids of whole instances that are remembered, at most.
const MAX_WHOLE: usize = 1024;

/// The limits of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Instances; each has at most [`super::MAX_BYTES`] octets.
    pub instances: usize,
    /// Octets of memory of the instances whose symbols are being collected. Beyond it the one
    /// without a packet for longest is given up.
    pub collected_bytes: usize,
    /// The end of instances.
    pub expiry: Expiry,
}

/// The treatment of the expiry of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// An expired instance describes nothing.
    #[default]
    Checked,
    /// Instances describe their objects for ever.
    Ignored,
}

impl Default for Limits {
    fn default() -> Self {
        Self { instances: 4, collected_bytes: 4 << 20, expiry: Expiry::Checked }
    }
}

/// The effect of a packet of TOI 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FdtEvent {
    /// It had no symbol, or its instance is not complete yet.
    Collected,
    /// It completed an instance that is held already, with the same octets.
    Repeated,
    /// It completed an instance.
    Instance {
        /// FDT Instance ID.
        id: u32,
        /// Objects that this instance describes otherwise than an earlier one that is held: a
        /// sender may not do that, so their received symbols may be wrong.
        contradicted: Vec<Toi>,
        /// Set when the id was held with other octets, which a sender may not do.
        rewritten: Option<Rewrite>,
    },
    /// It completed an instance that had expired, which is dropped.
    Expired {
        /// FDT Instance ID.
        id: u32,
        /// Time since its expiry.
        overdue: Duration,
    },
    /// It completed an instance that is older than all held ones, without room; it is not held. It
    /// describes its objects all the same until it expires.
    Late(Box<HeldInstance>),
    /// It completed a document that cannot be read; the instance may be collected again.
    Unreadable {
        /// FDT Instance ID.
        id: u32,
        /// The reason.
        reason: WireError,
    },
}

/// The difference between an instance and the one that was held under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrite {
    /// The files are the same.
    Expiry,
    /// The files are others.
    Files,
}

/// One instance that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldInstance {
    /// FDT Instance ID.
    pub id: u32,
    /// Its expiry.
    pub expires: Utc,
    /// Time since its expiry when it came: zero, unless expiry is ignored.
    pub overdue: Duration,
    /// Its content.
    pub instance: FdtInstance,
    /// Hash of its document.
    digest: Hash16,
}

/// The tables of one session.
#[derive(Debug, Clone, Default)]
pub struct FdtStore {
    limits: Limits,
    /// Newest first.
    held: Vec<HeldInstance>,
    assemblies: BTreeMap<u32, Assembly>,
    /// Ids of which an instance was whole once.
    whole: BTreeSet<u32>,
    /// Octets of memory of the assemblies.
    collected_bytes: usize,
    /// Counts packets, so that the assembly without one for longest is known.
    packets: u64,
    /// Assemblies that were given up since the last question.
    given_up: u64,
    /// The sender's clock when this host had the other time.
    sender_clock: Option<(Utc, Utc)>,
}

impl FdtStore {
    /// Starts without an instance.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Handles a packet of TOI 0.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it has no EXT_FDT or one of an unknown version, or when its FEC parameters
    /// are not valid or beyond the limits.
    pub fn handle_packet(&mut self, now: Utc, packet: &Packet<'_>) -> Result<FdtEvent, WireError> {
        self.expire(now);
        let Some(payload) = packet.payload else { return Ok(FdtEvent::Collected) };
        // spec: rfc6726 3.4.1 (EXT_FDT in every packet; its id names an instance that never changes)
        let header = packet
            .extensions
            .fdt()
            .ok_or_else(|| WireError::invalid("EXT_FDT", "absent", "one in each FDT packet"))?;
        if !(1..=2).contains(&header.version) {
            let found = header.version.into();
            return Err(WireError::Unexpected {
                field: "FLUTE version",
                found,
                expected: "1 or 2",
            });
        }
        self.handle_clock(now, &packet.extensions);
        let id = header.instance_id;
        let oti = packet.extensions.fti(packet.header.codepoint)?;
        let encoding = packet.extensions.content_encoding();
        let Some((encoding, octets)) = self.collect(id, oti, encoding, payload)? else {
            return Ok(FdtEvent::Collected);
        };
        let document = match inflate(encoding, &octets) {
            Ok(document) => document,
            Err(reason) => return Ok(FdtEvent::Unreadable { id, reason }),
        };
        let digest = h16(&[&document]);
        if self.held.iter().any(|held| held.id == id && held.digest == digest) {
            return Ok(FdtEvent::Repeated);
        }
        match FdtInstance::parse(&document) {
            Ok(instance) => Ok(self.hold(now, id, instance, digest)),
            Err(reason) => Ok(FdtEvent::Unreadable { id, reason }),
        }
    }

    /// Learns the sender's clock from a packet of any object of the session.
    // spec: rfc5651 5.2.2 (a hint: it is used for nothing but the expiry)
    pub fn handle_clock(&mut self, now: Utc, extensions: &Extensions<'_>) {
        let times = extensions.time().ok().flatten();
        if let Some(clock) = times.and_then(|times| times.sender_clock) {
            self.sender_clock = Some((now.from_ntp_near(clock), now));
        }
    }

    /// Adds symbols to the assembly of an id; returns its content encoding and its octets once it
    /// is whole.
    fn collect(
        &mut self,
        id: u32,
        oti: Option<Oti>,
        encoding: Option<u8>,
        payload: Payload<'_>,
    ) -> Result<Option<(u8, Vec<u8>)>, WireError> {
        let mut assembly = self.assemblies.remove(&id).unwrap_or_default();
        self.collected_bytes -= assembly.counted();
        self.packets += 1;
        let whole = assembly.push(self.packets, oti, encoding, payload)?;
        if whole.is_none() {
            self.collected_bytes += assembly.count_memory();
            self.assemblies.insert(id, assembly);
            self.give_up_others(id);
        }
        Ok(whole)
    }

    /// Gives up what is without a packet for longest until what remains fits the limit.
    fn give_up_others(&mut self, id: u32) {
        while self.collected_bytes > self.limits.collected_bytes {
            let others = self.assemblies.iter().filter(|(other, _)| **other != id);
            let oldest = others.min_by_key(|(_, assembly)| assembly.last()).map(|(id, _)| *id);
            let Some(oldest) = oldest.and_then(|oldest| self.assemblies.remove(&oldest)) else {
                return;
            };
            self.collected_bytes -= oldest.counted();
            self.given_up += 1;
        }
    }

    /// Returns how many instances were given up before they were whole, since the last question.
    pub fn take_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }

    /// Returns the instances of which symbols were received and that never were whole: their ids, and
    /// whether their FEC parameters are known.
    pub fn unfinished(&self) -> impl Iterator<Item = (u32, bool)> {
        let all = self.assemblies.iter().map(|(id, assembly)| (*id, assembly.has_parameters()));
        all.filter(|(id, _)| !self.whole.contains(id))
    }

    /// Removes the expired instances.
    pub fn expire(&mut self, now: Utc) {
        // spec: rfc6726 3.3 (an expired instance says nothing about packets that come later)
        self.held.retain(|held| now < held.expires);
    }

    /// Forgets all instances, held or collected, other than `id`: those of a session that is over.
    pub fn keep_only(&mut self, id: u32) {
        self.held.retain(|held| held.id == id);
        self.whole.retain(|whole| *whole == id);
        self.assemblies.retain(|collected, _| *collected == id);
        self.collected_bytes = self.assemblies.values().map(Assembly::counted).sum();
    }

    /// Returns whether symbols of an instance were received that never was whole.
    #[must_use]
    pub fn is_collecting(&self) -> bool {
        self.unfinished().next().is_some()
    }

    /// Returns the instances that have not expired, newest first.
    pub fn instances(&self, now: Utc) -> impl Iterator<Item = &HeldInstance> {
        self.held.iter().filter(move |held| now < held.expires)
    }

    /// Returns about how many octets of memory the tables take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let held = self.held.iter().flat_map(|held| &held.instance.files).map(FileEntry::bytes);
        held.sum::<usize>() + self.collected_bytes
    }

    /// Returns the entry of an object in the newest instance that has one.
    #[must_use]
    pub fn entry(&self, now: Utc, toi: Toi) -> Option<&FileEntry> {
        self.entries(now).find(|entry| entry.toi == toi)
    }

    /// Returns the entry of a file's newest version.
    #[must_use]
    pub fn newest(&self, now: Utc, content_location: &str) -> Option<&FileEntry> {
        // spec: rfc6726 3.4.2 (of two objects with one location that of the higher id is newer)
        self.entries(now).find(|entry| entry.content_location == content_location)
    }

    /// Returns whether another object carries a newer version of an object's file.
    #[must_use]
    pub fn is_superseded(&self, now: Utc, toi: Toi) -> bool {
        let own = self.entry(now, toi);
        let newest = own.and_then(|own| self.newest(now, &own.content_location));
        newest.is_some_and(|newest| newest.toi != toi)
    }

    /// Returns whether no further file follows: an instance has `Complete`.
    #[must_use]
    pub fn is_complete(&self, now: Utc) -> bool {
        self.instances(now).any(|held| held.instance.complete)
    }

    /// Returns when the next instance expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Utc> {
        self.held.iter().map(|held| held.expires).min()
    }

    fn entries(&self, now: Utc) -> impl Iterator<Item = &FileEntry> {
        self.instances(now).flat_map(|held| &held.instance.files)
    }

    fn hold(&mut self, now: Utc, id: u32, instance: FdtInstance, digest: Hash16) -> FdtEvent {
        if self.whole.len() >= MAX_WHOLE {
            self.whole.pop_first();
        }
        self.whole.insert(id);
        let (expires, overdue) = self.expiry(now, &instance);
        if expires <= now {
            return FdtEvent::Expired { id, overdue };
        }
        let contradicted = instance
            .files
            .iter()
            .filter(|file| self.entry(now, file.toi).is_some_and(|held| contradict(held, file)))
            .map(|file| file.toi)
            .collect();
        // spec: rfc6726 3.4.1 (another instance under the id of one that has not expired is an
        // error of the sender, whose handling is left open: the later one counts)
        let before = self.held.iter().position(|held| held.id == id);
        let rewritten = before.map(|at| self.held.remove(at)).map(|before| {
            match before.instance.files == instance.files {
                true => Rewrite::Expiry,
                false => Rewrite::Files,
            }
        });
        let place = self.held.iter().position(|held| is_newer(id, held.id));
        let place = place.unwrap_or(self.held.len());
        if place >= self.limits.instances {
            let late = HeldInstance { id, expires, overdue, instance, digest };
            return FdtEvent::Late(Box::new(late));
        }
        self.held.insert(place, HeldInstance { id, expires, overdue, instance, digest });
        self.held.truncate(self.limits.instances);
        FdtEvent::Instance { id, contradicted, rewritten }
    }
}

impl FdtStore {
    /// Returns when an instance expires, and the time since. Where the sender tells its clock, the
    /// instance lasts as long as that says: of two clocks one is wrong, and it costs less to receive
    /// than not to.
    // spec: rfc6726 3.3
    fn expiry(&self, now: Utc, instance: &FdtInstance) -> (Utc, Duration) {
        let own = instance.expires(now);
        let by_sender = self.sender_clock.map(|(sender, then)| {
            let sender = sender + now.since(then);
            let expires = instance.expires(sender);
            (now + expires.since(sender), sender.since(expires))
        });
        let (expires, overdue) = match by_sender {
            Some((expires, overdue)) if expires >= own => (expires, overdue),
            Some(_) | None => (own, now.since(own)),
        };
        match self.limits.expiry {
            Expiry::Checked => (expires, overdue),
            Expiry::Ignored => (Utc(u64::MAX), overdue),
        }
    }
}

/// Returns whether `id` is logically higher than `other`: ids have 20 bits and wrap.
// spec: rfc6726 3.4.1 (wrapped ids count as higher)
#[must_use]
pub const fn is_newer(id: u32, other: u32) -> bool {
    let distance = id.wrapping_sub(other) & 0x000f_ffff;
    distance != 0 && distance < 1 << 19
}

/// Returns whether two entries of one TOI contradict each other.
fn contradict(one: &FileEntry, other: &FileEntry) -> bool {
    // spec: rfc6726 3.3 (later instances may repeat, leave out or add, and never change)
    fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
        one.zip(other).is_some_and(|(one, other)| one != other)
    }
    one.content_location != other.content_location
        || differ(one.transferred(), other.transferred())
        || differ(one.encoding_id, other.encoding_id)
        || differ(one.oti, other.oti)
        || differ(one.content_md5, other.content_md5)
}

#[cfg(test)]
mod tests;
