//! The sessions on a channel, and the files that their FDT instances describe.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proto::{
    fec::oti::Oti,
    flute::{
        alc::Packet,
        fdt::{
            FileEntry,
            store::{FdtEvent, FdtStore},
        },
    },
    ids::{Toi, Tsi},
    time::{Mono, Utc},
    wire::WireError,
};

use crate::store::UnsignedIdentity;

/// Files of one session at most.
const MAX_ENTRIES: usize = 256;

/// Name of a session: its sender and its TSI.
// spec: rfc6726 3.1, rfc5651 4.1, rfc5775 2.1 (a session is a sender and a TSI)
pub(super) type SessionName = (IpAddr, Tsi);

/// Returns the session of an object.
pub(super) const fn session_of(of: &UnsignedIdentity) -> SessionName {
    (of.source, of.tsi)
}

/// The sessions in reception.
#[derive(Debug)]
pub(super) struct Sessions {
    limit: usize,
    sessions: BTreeMap<SessionName, FluteSession>,
}

/// One session.
#[derive(Debug, Default)]
pub(super) struct FluteSession {
    // spec: rfc6726 3.2 (the table is local to the session)
    fdt: FdtStore,
    entries: BTreeMap<Toi, FileEntry>,
    /// Expiry of the last instance that describes an object.
    described_until: BTreeMap<Toi, Utc>,
    /// Parameters that arrived in EXT_FTI before their entry.
    early: BTreeMap<Toi, Oti>,
    last_received: Mono,
}

/// Description of a file.
pub(super) struct Description<'a> {
    pub(super) entry: &'a FileEntry,
    /// Parameters that arrived in EXT_FTI before the entry.
    pub(super) early: Option<Oti>,
    /// Files of its session.
    pub(super) files: usize,
}

/// Changes that an FDT instance makes to the descriptions of a session.
#[derive(Debug, Default)]
pub(super) struct DescriptionChanges {
    /// Files whose description is another one.
    pub(super) replaced: BTreeSet<Toi>,
    /// Files with a description, in the order of the instance.
    pub(super) described: Vec<Toi>,
    /// Entries beyond the limit.
    pub(super) refused: u64,
}

impl Sessions {
    /// Creates a table of at most `limit` sessions.
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, sessions: BTreeMap::new() }
    }

    /// Returns whether there is room for the session of a received packet; evicts one without
    /// entries if needed.
    pub(super) fn admit(&mut self, now: Mono, name: SessionName) -> bool {
        if !self.sessions.contains_key(&name) && self.sessions.len() >= self.limit {
            let idle = self.sessions.iter().filter(|(_, session)| session.entries.is_empty());
            let oldest = idle.min_by_key(|(_, session)| session.last_received);
            let Some(oldest) = oldest.map(|(name, _)| *name) else { return false };
            self.sessions.remove(&oldest);
        }
        self.sessions.entry(name).or_default().last_received = now;
        true
    }

    pub(super) fn get_mut(&mut self, name: SessionName) -> Option<&mut FluteSession> {
        self.sessions.get_mut(&name)
    }

    /// Stores the FEC parameters of an object that no entry describes yet.
    pub(super) fn store_early_parameters(&mut self, of: &UnsignedIdentity, oti: Oti) {
        if let Some(session) = self.sessions.get_mut(&session_of(of))
            && session.early.len() < MAX_ENTRIES
        {
            session.early.entry(of.toi).or_insert(oti);
        }
    }

    /// Returns whether every description of an object has expired.
    // spec: rfc6726 3.3 (an expired instance does not describe packets that arrive later)
    pub(super) fn is_outdated(&self, now: Utc, of: &UnsignedIdentity) -> bool {
        let session = self.sessions.get(&session_of(of));
        let until = session.and_then(|session| session.described_until.get(&of.toi));
        until.is_some_and(|until| *until <= now)
    }

    /// Returns the description of a file.
    pub(super) fn description(&self, of: &UnsignedIdentity) -> Option<Description<'_>> {
        let session = self.sessions.get(&session_of(of))?;
        let entry = session.entries.get(&of.toi)?;
        let early = session.early.get(&of.toi).copied();
        Some(Description { entry, early, files: session.entries.len() })
    }

    /// Returns all described files.
    pub(super) fn described(&self) -> impl Iterator<Item = (UnsignedIdentity, &FileEntry)> {
        self.sessions.iter().flat_map(|((source, tsi), session)| {
            session.entries.iter().map(|(toi, entry)| {
                (UnsignedIdentity { source: *source, tsi: *tsi, toi: *toi }, entry)
            })
        })
    }
}

impl FluteSession {
    /// Handles a packet of the FDT.
    pub(super) fn handle_fdt(
        &mut self,
        now: Utc,
        packet: &Packet<'_>,
    ) -> Result<FdtEvent, WireError> {
        self.fdt.handle_packet(now, packet)
    }

    /// Stores the entries of a held instance. The first description of a TOI counts, unless
    /// `is_refused` returns that the file did not match it.
    // spec: rfc6726 3.3 (the description of a TOI never changes; it may be left out)
    pub(super) fn store_instance(
        &mut self,
        now: Utc,
        id: u32,
        is_refused: impl Fn(Toi) -> bool,
    ) -> DescriptionChanges {
        let mut changes = DescriptionChanges::default();
        let held = self.fdt.instances(now).find(|held| held.id == id);
        let Some(held) = held else { return changes };
        let (files, expires) = (held.instance.files.clone(), held.expires);
        for entry in files {
            let toi = entry.toi;
            if let Some(known) = self.entries.get(&toi) {
                if known.content_location == entry.content_location {
                    let until = self.described_until.entry(toi).or_insert(expires);
                    *until = expires.max(*until);
                }
                if *known == entry || changes.replaced.contains(&toi) || !is_refused(toi) {
                    continue;
                }
                // A rejected file may match another description.
                changes.replaced.insert(toi);
                self.early.remove(&toi);
                self.entries.remove(&toi);
            }
            if self.entries.len() >= MAX_ENTRIES {
                changes.refused += 1;
                continue;
            }
            changes.described.push(toi);
            self.described_until.insert(toi, expires);
            self.entries.insert(toi, entry);
        }
        changes
    }
}
