//! A file that FDT instances of a session describe: its content, and the versions of it.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use proto::{
    flute::fdt::{FileEntry, store::is_newer},
    ids::Toi,
    time::Utc,
};

/// Time without a symbol after which a file, or a session, is silent: another description of it
/// begins another content.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(10);

/// Descriptions of one TOI that wait for their turn, at most, and their octets together.
const MAX_OTHERS: usize = 4;
const MAX_OTHERS_BYTES: usize = 16 << 10;

/// Progress of a file's reception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing of it is stored.
    None,
    /// Symbols came lately, or it is being verified.
    Active,
    /// No symbol came for [`SILENT_AFTER`].
    Silent,
    /// It is complete.
    Finished,
    /// It did not match its description.
    Refused,
}

/// A described file.
#[derive(Debug)]
pub(super) struct Announced {
    entry: FileEntry,
    /// Number of its content, counted up in a run; 0 with a digest.
    generation: u32,
    /// Number of its next content without a digest.
    next: u32,
    /// Expiry of the last instance that describes it.
    until: Utc,
    /// The latest instance that describes it.
    issue: Issue,
    /// Set when no instance of the session that has its name now has described it.
    is_former: bool,
    /// The object with a newer version of the file.
    superseded_by: Option<Toi>,
    /// Its number among the descriptions of the TOI. What waits is numbered alike.
    number: u64,
    /// Other descriptions that came since, with their numbers, while symbols of this one came
    /// lately: each has its turn.
    others: VecDeque<(u64, Other)>,
}

/// A description of a file by an instance.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) entry: FileEntry,
    pub(super) until: Utc,
    pub(super) issue: Issue,
}

/// Place of a description among those of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Issue {
    /// Numbers of the session under its name, and of its lists of files.
    pub(super) session: (u32, u32),
    /// FDT Instance ID.
    pub(super) id: u32,
    /// Place in the instance.
    pub(super) place: u32,
}

/// The effect of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Update {
    /// The content is the same.
    GoesOn,
    /// Another content begins.
    Begins,
    /// Another content begins when symbols of this one no longer come.
    Waits,
}

/// Compares two places; the greater one is the newer.
// spec: rfc6726 3.4.2 (of two objects with one location that of the higher id is newer)
fn compare(one: &Issue, other: &Issue) -> Ordering {
    let by_id = match (is_newer(one.id, other.id), is_newer(other.id, one.id)) {
        (true, _) => Ordering::Greater,
        (_, true) => Ordering::Less,
        (false, false) => one.place.cmp(&other.place),
    };
    one.session.cmp(&other.session).then(by_id)
}

impl Announced {
    /// Starts with the first description of a file.
    pub(super) fn new(Other { entry, until, issue }: Other, first_generation: u32) -> Self {
        let mut file = Self {
            entry,
            generation: 0,
            next: first_generation,
            until,
            issue,
            is_former: false,
            superseded_by: None,
            number: 1,
            others: VecDeque::new(),
        };
        file.count_content();
        file
    }

    /// Returns its entry.
    pub(super) const fn entry(&self) -> &FileEntry {
        &self.entry
    }

    /// Returns the number of its content.
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the object with a newer version of the file.
    pub(super) const fn superseded_by(&self) -> Option<Toi> {
        self.superseded_by
    }

    /// Returns whether its session is over, and no instance of the next one has described it.
    pub(super) const fn is_former(&self) -> bool {
        self.is_former
    }

    /// Returns whether the latest instance describes it otherwise.
    pub(super) fn is_contradicted(&self) -> bool {
        !self.others.is_empty()
    }

    /// Returns whether symbols that came lately may be of another content: it is described
    /// otherwise, or another session has its name.
    pub(super) fn is_open(&self) -> bool {
        self.is_former || self.is_contradicted()
    }

    /// Returns the number of its description among those of the TOI.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Returns the number of the latest description, which may wait.
    pub(super) fn latest_number(&self) -> u64 {
        self.others.back().map_or(self.number, |(number, _)| *number)
    }

    /// Returns the number of the description of which symbols that arrive are: a later one than
    /// its own when it has ended, or is contradicted.
    pub(super) fn number_now(&self, now: Utc) -> u64 {
        match self.has_ended(now) && !self.is_contradicted() {
            true => self.number + 1,
            false => self.latest_number(),
        }
    }

    /// Returns whether nothing describes what arrives of it: its session is over, or its
    /// description has expired.
    // spec: rfc6726 3.3 (an expired instance does not describe packets that arrive later)
    pub(super) fn has_ended(&self, now: Utc) -> bool {
        self.is_former || self.until <= now
    }

    /// Takes another description of the file.
    pub(super) fn update(&mut self, now: Utc, offered: Other, progress: Progress) -> Update {
        let has_ended = self.has_ended(now);
        // An entry may leave out what an earlier one states, as long as the file is the same.
        let is_anew = has_ended || progress == Progress::Refused;
        let differs = differ(&self.entry, &offered.entry)
            || is_anew && self.entry.content_md5 != offered.entry.content_md5;
        // Without a digest nothing tells whether it is the same content after the end.
        let is_open = has_ended && self.entry.content_md5.is_none();
        let is_active = progress == Progress::Active || self.is_contradicted();
        if differs && is_active {
            self.queue(offered);
            return Update::Waits;
        }
        if (differs || is_open) && !is_active {
            self.begin(self.number + 1, offered);
            return Update::Begins;
        }
        self.number = self.latest_number() + 1;
        self.others.clear();
        let is_later = compare(&offered.issue, &self.issue) == Ordering::Greater;
        if has_ended || is_later {
            self.issue = offered.issue;
        }
        self.until = if self.is_former { offered.until } else { offered.until.max(self.until) };
        self.is_former = false;
        Update::GoesOn
    }

    /// Lets a description wait for its turn, once.
    fn queue(&mut self, offered: Other) {
        if let Some((_, last)) = self.others.back_mut()
            && !differ(&last.entry, &offered.entry)
            && !differ(&offered.entry, &last.entry)
        {
            last.until = offered.until.max(last.until);
            return;
        }
        self.others.push_back((self.latest_number() + 1, offered));
        while self.others.len() > MAX_OTHERS
            || self.others.len() > 1 && self.others_bytes() > MAX_OTHERS_BYTES
        {
            self.others.pop_front();
        }
    }

    /// Begins with the description whose turn it is; returns whether there was one.
    pub(super) fn adopt(&mut self) -> bool {
        let Some((number, other)) = self.others.pop_front() else { return false };
        self.begin(number, other);
        true
    }

    fn begin(&mut self, number: u64, Other { entry, until, issue }: Other) {
        (self.entry, self.until, self.issue) = (entry, until, issue);
        (self.number, self.is_former) = (number, false);
        self.count_content();
    }

    fn count_content(&mut self) {
        self.generation = 0;
        if self.entry.content_md5.is_none() {
            self.generation = self.next;
            self.next += 1;
        }
    }

    /// Returns about how many octets of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        Self::needs(&self.entry) + self.others_bytes()
    }

    fn others_bytes(&self) -> usize {
        self.others.iter().map(|(_, other)| other.entry.bytes()).sum()
    }

    /// Returns about how many octets an entry takes.
    pub(super) fn needs(entry: &FileEntry) -> usize {
        size_of::<Self>() - size_of::<FileEntry>() + entry.bytes()
    }
}

/// Returns whether two entries of one TOI describe different contents: what both state differs, or
/// the later one states a digest.
fn differ(known: &FileEntry, later: &FileEntry) -> bool {
    fn both<T: PartialEq>(known: Option<T>, later: Option<T>) -> bool {
        known.zip(later).is_some_and(|(known, later)| known != later)
    }
    known.content_location != later.content_location
        || both(known.transferred(), later.transferred())
        || both(known.content_length, later.content_length)
        || both(known.encoding_id, later.encoding_id)
        || both(known.oti, later.oti)
        || known.content_encoding != later.content_encoding
        || later.content_md5.is_some() && known.content_md5 != later.content_md5
}

/// The described files of a session.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    files: BTreeMap<Toi, Announced>,
    /// The objects of each location.
    versions: BTreeMap<String, BTreeSet<Toi>>,
    /// About how many octets of memory the files take.
    bytes: usize,
}

impl Catalogue {
    /// Returns the files.
    pub(super) const fn files(&self) -> &BTreeMap<Toi, Announced> {
        &self.files
    }

    /// Returns about how many octets of memory the files take.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a file.
    pub(super) fn insert(&mut self, offered: Other, first_generation: u32) {
        let toi = offered.entry.toi;
        self.remove(toi);
        let file = Announced::new(offered, first_generation);
        self.bytes += file.bytes();
        let location = file.entry.content_location.clone();
        self.files.insert(toi, file);
        self.versions.entry(location.clone()).or_default().insert(toi);
        self.rank(&location);
    }

    /// Removes a file; returns its octets.
    pub(super) fn remove(&mut self, toi: Toi) -> usize {
        let Some(file) = self.files.remove(&toi) else { return 0 };
        self.bytes -= file.bytes();
        self.leave_location(toi, &file.entry.content_location);
        file.bytes()
    }

    /// Changes a file.
    pub(super) fn change<R>(
        &mut self,
        toi: Toi,
        change: impl FnOnce(&mut Announced) -> R,
    ) -> Option<R> {
        let file = self.files.get_mut(&toi)?;
        let (before, location) = (file.bytes(), file.entry.content_location.clone());
        let changed = change(file);
        self.bytes = self.bytes - before + file.bytes();
        let now = file.entry.content_location.clone();
        if now != location {
            self.leave_location(toi, &location);
            self.versions.entry(now.clone()).or_default().insert(toi);
        }
        self.rank(&now);
        Some(changed)
    }

    /// Handles the end of the session that described all of them.
    pub(super) fn leave(&mut self) {
        self.files.values_mut().for_each(|file| file.is_former = true);
    }

    /// Returns the objects with an older version of the file that an object carries.
    pub(super) fn older(&self, toi: Toi) -> Vec<Toi> {
        let location = self.files.get(&toi).map(|file| &file.entry.content_location);
        let versions = location.and_then(|location| self.versions.get(location));
        let by = |toi: &Toi| self.files.get(toi).and_then(|file| file.superseded_by);
        let older = versions.into_iter().flatten().filter(|older| by(older) == Some(toi));
        older.copied().collect()
    }

    fn leave_location(&mut self, toi: Toi, location: &str) {
        if let Some(versions) = self.versions.get_mut(location) {
            versions.remove(&toi);
            if versions.is_empty() {
                self.versions.remove(location);
            }
        }
        self.rank(location);
    }

    /// Sets which object has the newest version of a location.
    fn rank(&mut self, location: &str) {
        let Some(versions) = self.versions.get(location) else { return };
        let issue = |toi: &Toi| self.files.get(toi).map(|file| (file.issue, *toi));
        let newest = versions.iter().filter_map(issue).reduce(|newest, other| {
            match compare(&other.0, &newest.0) {
                Ordering::Greater => other,
                Ordering::Equal | Ordering::Less => newest,
            }
        });
        let Some((_, newest)) = newest else { return };
        for toi in versions {
            if let Some(file) = self.files.get_mut(toi) {
                file.superseded_by = Some(newest).filter(|newest| newest != toi);
            }
        }
    }
}
