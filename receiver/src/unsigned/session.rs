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
            store::{self, Expiry, FdtEvent, FdtStore, HeldInstance},
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
    /// Octets of all tables and entries.
    table_bytes: usize,
    expiry: Expiry,
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
    /// Time of its last stored symbol.
    stored_at: Option<Mono>,
    /// Octets of its tables and entries.
    bytes: usize,
    /// Entries of its last instance that could not be read.
    unread: u64,
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
    /// Creates a table of at most `limit` sessions with `table_bytes` octets of tables and entries.
    pub(super) const fn new(limit: usize, table_bytes: usize, expiry: Expiry) -> Self {
        Self { limit, table_bytes, expiry, sessions: BTreeMap::new() }
    }

    /// Admits the session of a received packet; returns the session that makes room for it, if one
    /// has to.
    ///
    /// A packet proves nothing, so any session may be evicted: half of the places at least are for
    /// those that brought symbols, of which the one that is silent for longest makes room.
    pub(super) fn admit(&mut self, now: Mono, name: SessionName) -> Option<SessionName> {
        let is_new = !self.sessions.contains_key(&name);
        let evicted =
            if is_new && self.sessions.len() >= self.limit { self.oldest() } else { None };
        if let Some(evicted) = &evicted {
            self.sessions.remove(evicted);
        }
        let expiry = self.expiry;
        let session = self.sessions.entry(name).or_insert_with(|| FluteSession::new(expiry));
        session.last_received = now;
        evicted
    }

    fn oldest(&self) -> Option<SessionName> {
        let without = self.sessions.iter().filter(|(_, session)| session.stored_at.is_none());
        let with = self.sessions.iter().filter(|(_, session)| session.stored_at.is_some());
        let oldest = if without.clone().count() * 2 >= self.limit {
            without.min_by_key(|(_, session)| session.last_received)
        } else {
            with.min_by_key(|(_, session)| session.stored_at)
        };
        oldest.map(|(name, _)| *name)
    }

    /// Records that a symbol of a session was stored, or that a file of it is complete.
    pub(super) fn touch(&mut self, now: Mono, name: &SessionName) {
        if let Some(session) = self.sessions.get_mut(name) {
            session.stored_at = Some(now);
        }
    }

    /// Returns the session that makes room for the tables of `own`: the largest without a symbol,
    /// else the largest that is larger; `own` itself if there is none. Returns nothing while all
    /// fit.
    pub(super) fn evict_for_tables(&mut self, own: &SessionName) -> Option<SessionName> {
        let bytes: usize = self.sessions.values().map(|session| session.bytes).sum();
        if bytes <= self.table_bytes {
            return None;
        }
        let limit = self.sessions.get(own).map_or(0, |session| session.bytes);
        let others = self.sessions.iter().filter(|(name, _)| *name != own);
        let may_go = others.filter(|(_, session)| {
            session.bytes > 0 && (session.stored_at.is_none() || session.bytes > limit)
        });
        let largest =
            may_go.max_by_key(|(_, session)| (session.stored_at.is_none(), session.bytes));
        let evicted = largest.map_or(*own, |(name, _)| *name);
        self.sessions.remove(&evicted);
        Some(evicted)
    }

    /// Returns the number of sessions, and the octets of their tables and entries.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.sessions.len(), self.sessions.values().map(|session| session.bytes).sum())
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

    /// Returns the parameters of an object whose entry names no FEC scheme, in that which the
    /// codepoint of a packet names.
    // spec: rfc6726 5 (the codepoint is the FEC Encoding ID)
    pub(super) fn named_by(&self, of: &UnsignedIdentity, codepoint: u8) -> Option<Oti> {
        self.description(of)?.entry.parameters_under(codepoint).ok().flatten()
    }

    /// Returns the entries that could not be read, of the last instance of each session.
    pub(super) fn unread(&self) -> u64 {
        self.sessions.values().map(|session| session.unread).sum()
    }

    /// Returns whether a packet contradicts the parameters that the entry of its object states.
    pub(super) fn contradicts(
        &self,
        of: &UnsignedIdentity,
        codepoint: u8,
        fti: Option<Oti>,
    ) -> bool {
        let Some(Description { entry, early: None, .. }) = self.description(of) else {
            return false;
        };
        entry
            .oti
            .is_some_and(|oti| oti.encoding_id() != codepoint || fti.is_some_and(|fti| fti != oti))
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
    fn new(expiry: Expiry) -> Self {
        let limits = store::Limits { expiry, ..store::Limits::default() };
        Self { fdt: FdtStore::new(limits), ..Self::default() }
    }

    /// Handles a packet of the FDT.
    pub(super) fn handle_fdt(
        &mut self,
        now: Utc,
        packet: &Packet<'_>,
    ) -> Result<FdtEvent, WireError> {
        let event = self.fdt.handle_packet(now, packet);
        self.count_bytes();
        event
    }

    /// Returns a copy of the held instance `id`.
    pub(super) fn held(&self, now: Utc, id: u32) -> Option<HeldInstance> {
        self.fdt.instances(now).find(|held| held.id == id).cloned()
    }

    fn count_bytes(&mut self) {
        self.bytes = self.fdt.bytes() + self.entries.values().map(FileEntry::bytes).sum::<usize>();
    }

    /// Stores the entries of an instance, held or not. The first description of a TOI counts, unless
    /// `is_refused` returns that the file did not match it.
    // spec: rfc6726 3.3 (the description of a TOI never changes; it may be left out)
    pub(super) fn store_instance(
        &mut self,
        instance: HeldInstance,
        is_refused: impl Fn(Toi) -> bool,
    ) -> DescriptionChanges {
        let mut changes = DescriptionChanges::default();
        let expires = instance.expires;
        self.unread = instance.instance.skipped.entries;
        for entry in instance.instance.files {
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
        self.count_bytes();
        changes
    }
}
