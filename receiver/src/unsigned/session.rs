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
            store::{self, Expiry, FdtEvent, FdtStore, HeldInstance, Rewrite},
        },
        lct::Extensions,
    },
    ids::{Toi, Tsi},
    time::{Mono, Now, Utc},
    wire::WireError,
};

use super::{
    announced::{Announced, Catalogue, Issue, Other, Progress, SILENT_AFTER, Update},
    pauses::{Doubt, Pauses},
    unread::Unread,
};
use crate::store::{UnsignedDescription, UnsignedIdentity};

/// Objects of one session whose parameters came before their entry, at most.
const MAX_EARLY: usize = 1024;

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
    files: Catalogue,
    /// Parameters that arrived in EXT_FTI before their entry.
    early: BTreeMap<Toi, Oti>,
    last_received: Mono,
    /// Time of its last stored symbol.
    stored_at: Option<Mono>,
    pauses: Pauses,
    /// Sessions that had its name before, and lists of files that its instances had before.
    issue: (u32, u32),
    /// Instances of which entries were refused.
    truncated: BTreeSet<u32>,
    /// Time of the last packet of an instance that is not held.
    collecting_at: Option<Mono>,
    /// Octets of its tables and entries.
    bytes: usize,
    /// Entries and documents that cannot be read.
    unread: Unread,
}

/// Description of a file.
pub(super) struct Description<'a> {
    pub(super) entry: &'a FileEntry,
    /// Parameters that arrived in EXT_FTI before the entry.
    pub(super) early: Option<Oti>,
    /// Files of its session.
    pub(super) files: usize,
    /// Number of its content.
    pub(super) generation: u32,
    /// The object with a newer version of the file.
    pub(super) superseded_by: Option<Toi>,
}

/// Returns the part of a description that is part of the object's key.
pub(super) fn described(
    Description { entry, generation, .. }: &Description<'_>,
    oti: &Oti,
) -> UnsignedDescription {
    UnsignedDescription {
        length: entry.content_length.unwrap_or_else(|| oti.transfer_length()),
        md5: entry.content_md5,
        generation: *generation,
        location: UnsignedDescription::location_hash(&entry.content_location),
    }
}

/// Knowledge of the files that a session describes.
pub(super) struct Known<'a> {
    /// Progress of a file.
    pub(super) progress: &'a dyn Fn(Toi) -> Progress,
    /// Number of the first content of a file in this run.
    pub(super) first_generation: &'a dyn Fn(Toi) -> u32,
    /// Octets of the entries of a session, at most.
    pub(super) entry_bytes: usize,
}

/// Changes that an FDT instance makes to the descriptions of a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DescriptionChanges {
    /// Files with another content from here on.
    pub(super) replaced: BTreeSet<Toi>,
    /// Files with a description, in the order of the instance.
    pub(super) described: Vec<Toi>,
    /// Files that are described otherwise while symbols of them come.
    pub(super) contradicted: BTreeSet<Toi>,
    /// Set when the instance begins another session under the name.
    pub(super) begins_session: bool,
    /// Files whose entry made room for others.
    pub(super) evicted: BTreeSet<Toi>,
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
            session.stored_at = session.stored_at.max(Some(now));
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

    /// Records that a packet with a symbol arrived; returns whether the session paused before it.
    pub(super) fn handle_symbol(&mut self, now: Mono, name: &SessionName, is_of_fdt: bool) -> bool {
        let session = self.sessions.get_mut(name);
        session.is_some_and(|session| session.pauses.handle_symbol(now, is_of_fdt))
    }

    /// Returns what is known of the content of symbols that arrived at `at`.
    pub(super) fn doubt(&self, at: Mono, name: &SessionName) -> Doubt {
        self.sessions.get(name).map_or(Doubt::Nothing, |session| session.pauses.doubt(at))
    }

    /// Returns the sessions that paused, and of which no instance stated within a minute that
    /// they have other contents: their files may be complete.
    pub(super) fn take_resumed(&mut self, now: Mono) -> Vec<SessionName> {
        let sessions = self.sessions.iter_mut();
        let due = sessions.filter_map(|(name, it)| it.pauses.handle_timeout(now).then_some(*name));
        due.collect()
    }

    /// Returns the time of the next [`Self::take_resumed`].
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.sessions.values().filter_map(|session| session.pauses.awaited_until()).min()
    }

    /// Learns the sender's clock from the extensions of a packet.
    pub(super) fn handle_clock(
        &mut self,
        now: Utc,
        name: &SessionName,
        extensions: &Extensions<'_>,
    ) {
        if let Some(session) = self.sessions.get_mut(name) {
            session.fdt.handle_clock(now, extensions);
        }
    }

    /// Records that a packet had the flag A.
    pub(super) fn handle_close(&mut self, now: Mono, name: &SessionName) {
        if let Some(session) = self.sessions.get_mut(name) {
            session.pauses.handle_close(now);
        }
    }

    /// Stores the FEC parameters of an object that no entry describes yet.
    pub(super) fn store_early_parameters(&mut self, of: &UnsignedIdentity, oti: Oti) {
        if let Some(session) = self.sessions.get_mut(&session_of(of))
            && session.early.len() < MAX_EARLY
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

    /// Returns the number of entries and documents that cannot be read.
    pub(super) fn unread(&self) -> u64 {
        self.sessions.values().map(|session| session.unread.count()).fold(0, u64::saturating_add)
    }

    /// Returns whether the entry of an object cannot be read: its symbols are of no use.
    pub(super) fn is_unreadable(&self, of: &UnsignedIdentity) -> bool {
        self.sessions.get(&session_of(of)).is_some_and(|session| session.unread.names(of.toi))
    }

    /// Forgets the FEC parameters that came in EXT_FTI before the entry of an object.
    pub(super) fn forget_early_parameters(&mut self, of: &UnsignedIdentity) {
        if let Some(session) = self.sessions.get_mut(&session_of(of)) {
            session.early.remove(&of.toi);
        }
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

    /// Returns the number of the description of which the symbols of an object are that arrive,
    /// where it is another one than the one in reception: this one has expired, or the latest
    /// instance describes the object otherwise. They wait for it.
    pub(super) fn is_undecided(&self, now: Utc, of: &UnsignedIdentity) -> Option<u64> {
        let file = self.announced(of)?;
        Some(file.number_now(now)).filter(|number| *number != file.number())
    }

    /// Returns a file as its session describes it.
    pub(super) fn announced(&self, of: &UnsignedIdentity) -> Option<&Announced> {
        self.sessions.get(&session_of(of))?.files.files().get(&of.toi)
    }

    /// Returns the description of a file.
    pub(super) fn description(&self, of: &UnsignedIdentity) -> Option<Description<'_>> {
        let session = self.sessions.get(&session_of(of))?;
        let file = session.files.files().get(&of.toi)?;
        Some(Description {
            entry: file.entry(),
            early: session.early.get(&of.toi).copied(),
            files: session.files.files().len(),
            generation: file.generation(),
            superseded_by: file.superseded_by(),
        })
    }

    /// Returns the objects with an older version of a file.
    pub(super) fn older_versions(&self, of: &UnsignedIdentity) -> Vec<UnsignedIdentity> {
        let Some(session) = self.sessions.get(&session_of(of)) else { return Vec::new() };
        let older = session.files.older(of.toi);
        older.into_iter().map(|toi| UnsignedIdentity { toi, ..*of }).collect()
    }

    /// Describes a file as the next instance that waits for its turn does; returns whether there was
    /// one.
    pub(super) fn adopt(&mut self, of: &UnsignedIdentity) -> bool {
        let Some(session) = self.sessions.get_mut(&session_of(of)) else { return false };
        if session.files.change(of.toi, Announced::adopt) != Some(true) {
            return false;
        }
        session.early.remove(&of.toi);
        session.count_bytes();
        true
    }

    /// Returns all described files.
    pub(super) fn described(&self) -> impl Iterator<Item = (UnsignedIdentity, &Announced)> {
        self.sessions.iter().flat_map(|((source, tsi), session)| {
            session.files.files().iter().map(|(toi, file)| {
                (UnsignedIdentity { source: *source, tsi: *tsi, toi: *toi }, file)
            })
        })
    }

    /// Returns whether a session announces more than its entries list: an instance whose symbols
    /// came lately is not whole, or entries were refused.
    pub(super) fn announces_more(&self, now: Mono) -> bool {
        self.sessions.values().any(|session| {
            let is_late = |at: Mono| now.since(at) < SILENT_AFTER;
            !session.truncated.is_empty()
                || session.fdt.is_collecting() && session.collecting_at.is_some_and(is_late)
        })
    }

    /// Returns the reasons why FDT instances that came in part describe nothing.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = &'static str> {
        self.sessions.values().flat_map(|session| {
            let is_bare = session.files.files().is_empty();
            session.fdt.unfinished().filter_map(move |(_, has_parameters)| match has_parameters {
                false => Some("an FDT instance came without its FEC parameters (EXT_FTI)"),
                true if is_bare => Some("an FDT instance did not come whole"),
                true => None,
            })
        })
    }

    /// Returns whether an instance of a session states that it lists all files.
    pub(super) fn lists_all(&self, now: Utc, name: &SessionName) -> bool {
        self.sessions.get(name).is_some_and(|session| session.fdt.is_complete(now))
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
        now: Now,
        packet: &Packet<'_>,
    ) -> Result<FdtEvent, WireError> {
        let event = self.fdt.handle_packet(now.utc, packet);
        match &event {
            Ok(FdtEvent::Collected) => self.collecting_at = Some(now.mono),
            Ok(FdtEvent::Unreadable { id, .. }) => self.unread.refuse(*id),
            Ok(FdtEvent::Repeated) => {
                packet
                    .extensions
                    .fdt()
                    .into_iter()
                    .for_each(|fdt| self.unread.repeat(fdt.instance_id));
            }
            Ok(FdtEvent::Instance { .. } | FdtEvent::Expired { .. } | FdtEvent::Late(_))
            | Err(_) => {}
        }
        self.count_bytes();
        event
    }

    /// Returns how many instances were given up before they were whole, since the last question.
    pub(super) fn take_given_up(&mut self) -> u64 {
        self.fdt.take_given_up()
    }

    /// Records that the session goes on after a pause: what it has said before is repeated.
    pub(super) const fn go_on(&mut self) {
        self.pauses.handle_instance();
    }

    /// Returns a copy of the held instance `id`.
    pub(super) fn held(&self, now: Utc, id: u32) -> Option<HeldInstance> {
        self.fdt.instances(now).find(|held| held.id == id).cloned()
    }

    /// Returns whether a repetition of the held instance `id` may decide something.
    pub(super) fn waits_for(&self, now: Utc, id: u32) -> bool {
        self.truncated.contains(&id)
            || self.files.files().values().any(|file| file.is_contradicted() || file.has_ended(now))
    }

    fn count_bytes(&mut self) {
        self.bytes = self.fdt.bytes() + self.files.bytes();
    }

    /// Stores the entries of an instance, held or not.
    ///
    /// The description of a TOI counts until it expires or the session is over, and as long as
    /// symbols of the file come. What contradicts it then waits until they no longer do.
    // spec: rfc6726 3.3 (the description of a TOI never changes; it may be left out)
    pub(super) fn store_instance(
        &mut self,
        now: Now,
        instance: HeldInstance,
        rewritten: Option<Rewrite>,
        known: &Known<'_>,
    ) -> DescriptionChanges {
        let begins_session = self.begin_session(now, &instance, rewritten);
        if rewritten == Some(Rewrite::Files) {
            self.issue.1 += 1;
        }
        let mut changes = DescriptionChanges { begins_session, ..DescriptionChanges::default() };
        self.truncated.remove(&instance.id);
        let mut is_searched = false;
        let listed: BTreeSet<_> = instance.instance.files.iter().map(|file| file.toi).collect();
        self.unread.store(instance.id, &instance.instance.skipped, &listed);
        for (entry, place) in instance.instance.files.into_iter().zip(0..) {
            let issue = Issue { session: self.issue, id: instance.id, place };
            let offered = Other { entry, until: instance.expires, issue };
            let toi = offered.entry.toi;
            if self.files.files().contains_key(&toi) {
                let progress = (known.progress)(toi);
                let update = self.files.change(toi, |file| file.update(now.utc, offered, progress));
                match update {
                    Some(Update::Begins) => {
                        self.early.remove(&toi);
                        changes.replaced.insert(toi);
                    }
                    Some(Update::Waits) => {
                        changes.contradicted.insert(toi);
                    }
                    Some(Update::GoesOn) | None => {}
                }
                changes.described.push(toi);
                continue;
            }
            let taken = Announced::needs(&offered.entry);
            if self.files.bytes() + taken > known.entry_bytes && !is_searched {
                changes.evicted.extend(self.evict_entries(now.utc, &listed, known));
                is_searched = true;
            }
            if self.files.bytes() + taken > known.entry_bytes {
                changes.refused += 1;
                self.truncated.insert(instance.id);
                continue;
            }
            changes.described.push(toi);
            self.files.insert(offered, (known.first_generation)(toi));
        }
        self.count_bytes();
        changes
    }

    /// Begins another session under the name of one that is over: it was closed, all that it
    /// described has expired, or it was silent and its instances are others since. Returns whether
    /// it described files before.
    fn begin_session(
        &mut self,
        now: Now,
        instance: &HeldInstance,
        rewritten: Option<Rewrite>,
    ) -> bool {
        let mut files = self.files.files().values();
        let has_files = files.len() > 0;
        let has_expired = has_files && files.all(|file| file.has_ended(now.utc));
        let is_other = rewritten.is_some() && self.pauses.was_silent();
        let is_over = self.pauses.was_closed() || has_expired || is_other;
        self.pauses.handle_instance();
        if !is_over {
            return false;
        }
        self.issue = (self.issue.0 + 1, 0);
        self.truncated.clear();
        self.early.clear();
        self.fdt.keep_only(instance.id);
        self.files.leave();
        has_files
    }

    /// Removes the entries of files that are finished, and those that describe nothing any more,
    /// unless the instance lists them; returns their objects.
    fn evict_entries(&mut self, now: Utc, listed: &BTreeSet<Toi>, known: &Known<'_>) -> Vec<Toi> {
        let is_settled = |toi: Toi, file: &Announced| match (known.progress)(toi) {
            Progress::Finished | Progress::Refused => true,
            Progress::Active => false,
            Progress::None | Progress::Silent => file.has_ended(now),
        };
        let all = self.files.files().iter().filter(|(toi, _)| !listed.contains(*toi));
        let settled: Vec<_> =
            all.filter(|(toi, file)| is_settled(**toi, file)).map(|(toi, _)| *toi).collect();
        for toi in &settled {
            self.files.remove(*toi);
        }
        settled
    }
}
