//! One file: what readers see, what is on the medium, and what lies between.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use super::call::SECTOR_BYTES;
use crate::lab::rng::SeededRng;

/// Sectors that the page cache writes together.
const PAGE_SECTORS: u64 = 8;

const SECTOR: u64 = SECTOR_BYTES as u64;

type Sector = Arc<[u8; SECTOR_BYTES]>;

/// A sector that is not there is zeros.
type Sectors = BTreeMap<u64, Sector>;

/// A file.
#[derive(Debug, Clone, Default)]
pub(super) struct File {
    cached: Sectors,
    length: u64,
    medium: Sectors,
    medium_length: u64,
    /// Contents of each sector since the last sync, oldest first.
    unsynced: BTreeMap<u64, Vec<Sector>>,
    lengths: Vec<u64>,
    /// Sectors whose sync failed: the cache marks them as synced, and the medium lacks them.
    lost: BTreeSet<u64>,
    broken: BTreeSet<u64>,
}

/// Survival of data that was not synced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Survival {
    /// None of it.
    Nothing,
    /// All of it.
    Everything,
    /// Each sector for itself.
    Some,
}

impl Survival {
    pub(super) fn draw(rng: &mut SeededRng) -> Self {
        match rng.below(6) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some,
        }
    }
}

impl File {
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn content(&self) -> Vec<u8> {
        let mut octets = vec![0; usize::try_from(self.length).expect("a file in memory")];
        copy_out(&self.cached, &mut octets, 0);
        octets
    }

    /// Returns the file as a reader around the cache sees it.
    pub(super) fn medium(&self) -> io::Result<Vec<u8>> {
        if !self.broken.is_empty() {
            return Err(io::Error::from_raw_os_error(5));
        }
        let mut seen = self.clone();
        seen.drop_page_cache();
        Ok(seen.content())
    }

    pub(super) fn read(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset + octets.len() as u64;
        if end > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.broken.range(offset / SECTOR..end.div_ceil(SECTOR)).next().is_some() {
            return Err(io::Error::from_raw_os_error(5));
        }
        octets.fill(0);
        copy_out(&self.cached, octets, offset);
        Ok(())
    }

    pub(super) fn write(&mut self, octets: &[u8], offset: u64) {
        let end = offset + octets.len() as u64;
        if octets.is_empty() {
            return;
        }
        if end > self.length {
            self.set_length(end);
        }
        for number in offset / SECTOR..end.div_ceil(SECTOR) {
            self.broken.remove(&number);
            let is_known = self.cached.contains_key(&number)
                || self.medium.contains_key(&number)
                || self.unsynced.contains_key(&number);
            // Where nothing was, zeros change nothing.
            if !is_known && is_zero(common(octets, offset, number * SECTOR, SECTOR)) {
                continue;
            }
            let mut sector = self.cached.get(&number).map_or([0; SECTOR_BYTES], |held| **held);
            copy_common(octets, offset, &mut sector, number * SECTOR);
            self.put(number, Arc::new(sector));
        }
        self.write_pages_again(offset / SECTOR, end.div_ceil(SECTOR));
    }

    pub(super) fn empty(&mut self) {
        let known: BTreeSet<_> = self.cached.keys().chain(self.medium.keys()).copied().collect();
        known.into_iter().for_each(|number| self.put(number, Arc::new([0; SECTOR_BYTES])));
        self.set_length(0);
        self.cached.clear();
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if self.length != length {
            self.length = length;
            self.lengths.push(length);
        }
    }

    /// Syncs; returns the octets of the sectors that this put on the medium.
    pub(super) fn sync(&mut self) -> u64 {
        let unsynced = std::mem::take(&mut self.unsynced);
        for number in unsynced.keys() {
            match self.cached.get(number) {
                Some(sector) => self.medium.insert(*number, Arc::clone(sector)),
                None => self.medium.remove(number),
            };
        }
        self.medium_length = self.length;
        self.lengths.clear();
        unsynced.len() as u64 * SECTOR
    }

    /// Fails to sync: some sectors are on the medium, the cache marks all of them as synced.
    pub(super) fn fail_sync(&mut self, rng: &mut SeededRng) {
        for (number, versions) in std::mem::take(&mut self.unsynced) {
            match versions.last() {
                Some(last) if rng.below(2) == 0 => {
                    self.medium.insert(number, Arc::clone(last));
                }
                Some(_) | None => {
                    self.lost.insert(number);
                }
            }
        }
    }

    pub(super) fn drop_page_cache(&mut self) {
        for number in std::mem::take(&mut self.lost) {
            match self.medium.get(&number) {
                Some(sector) => self.cached.insert(number, Arc::clone(sector)),
                None => self.cached.remove(&number),
            };
        }
    }

    /// The power went: what is on the medium is what there is.
    pub(super) fn lose_power(&mut self, survival: Survival, rng: &mut SeededRng) {
        for (number, versions) in std::mem::take(&mut self.unsynced) {
            let before = self.medium.get(&number).map_or([0; SECTOR_BYTES], |held| **held);
            let latest = versions.last().map_or(before, |last| **last);
            let survivor = match survival {
                Survival::Nothing => before,
                Survival::Everything => latest,
                Survival::Some => any_of(before, &versions, rng),
            };
            self.medium.insert(number, Arc::new(survivor));
        }
        let lengths = std::mem::take(&mut self.lengths);
        self.medium_length = match (survival, lengths.last()) {
            (Survival::Nothing, _) | (_, None) => self.medium_length,
            (Survival::Everything, Some(last)) => *last,
            (Survival::Some, Some(_)) => {
                let at = usize::try_from(rng.below(lengths.len() as u64 + 1)).ok();
                at.and_then(|at| lengths.get(at)).copied().unwrap_or(self.medium_length)
            }
        };
        self.length = self.medium_length;
        self.cut_off_end();
        self.lost.clear();
        self.cached.clone_from(&self.medium);
    }

    pub(super) fn flip_bit(&mut self, octet: u64, bit: u8) -> bool {
        if octet >= self.length {
            return false;
        }
        let at = usize::try_from(octet % SECTOR).expect("a sector is small");
        for sectors in [&mut self.cached, &mut self.medium] {
            let sector = sectors.entry(octet / SECTOR).or_insert(Arc::new([0; SECTOR_BYTES]));
            if let Some(octet) = Arc::make_mut(sector).get_mut(at) {
                *octet ^= 1 << (bit % 8);
            }
        }
        true
    }

    pub(super) fn break_sector(&mut self, octet: u64) {
        self.broken.insert(octet / SECTOR);
    }

    fn put(&mut self, number: u64, sector: Sector) {
        self.unsynced.entry(number).or_default().push(Arc::clone(&sector));
        self.lost.remove(&number);
        self.cached.insert(number, sector);
    }

    /// A page that is written is written whole, also where an earlier sync of it failed.
    fn write_pages_again(&mut self, from: u64, to: u64) {
        let pages = from / PAGE_SECTORS * PAGE_SECTORS..to.next_multiple_of(PAGE_SECTORS);
        let again: Vec<_> = self.lost.range(pages).copied().collect();
        for number in again {
            let sector = self.cached.get(&number).cloned();
            self.put(number, sector.unwrap_or_else(|| Arc::new([0; SECTOR_BYTES])));
        }
    }

    /// Behind the end there are zeros when the file grows again.
    fn cut_off_end(&mut self) {
        let end = self.length;
        self.medium.split_off(&end.div_ceil(SECTOR));
        let within = usize::try_from(end % SECTOR).expect("a sector is small");
        if within > 0
            && let Some(last) = self.medium.get_mut(&(end / SECTOR))
            && let Some(tail) = Arc::make_mut(last).get_mut(within..)
        {
            tail.fill(0);
        }
    }
}

/// Draws what a sector holds that was written several times: one of the contents, or torn between
/// two.
fn any_of(
    before: [u8; SECTOR_BYTES],
    versions: &[Sector],
    rng: &mut SeededRng,
) -> [u8; SECTOR_BYTES] {
    let mut draw = || {
        let at = rng.below(versions.len() as u64 + 1);
        let at = usize::try_from(at).ok().and_then(|at| versions.get(at));
        at.map_or(before, |version| **version)
    };
    let (mut survivor, other) = (draw(), draw());
    if rng.below(8) == 0 {
        let torn = usize::try_from(rng.below(SECTOR)).expect("a sector is small");
        survivor.iter_mut().zip(other).skip(torn).for_each(|(to, from)| *to = from);
    }
    survivor
}

fn copy_out(sectors: &Sectors, octets: &mut [u8], offset: u64) {
    let end = offset + octets.len() as u64;
    for (number, sector) in sectors.range(offset / SECTOR..end.div_ceil(SECTOR)) {
        copy_common(&**sector, number * SECTOR, octets, offset);
    }
}

/// Copies what two runs of octets have in common; each lies at its offset.
fn copy_common(from: &[u8], from_offset: u64, to: &mut [u8], to_offset: u64) {
    let shared = common(from, from_offset, to_offset, to.len() as u64);
    let skip = usize::try_from(from_offset.saturating_sub(to_offset)).unwrap_or(usize::MAX);
    if let Some(place) = to.get_mut(skip..).and_then(|tail| tail.get_mut(..shared.len())) {
        place.copy_from_slice(shared);
    }
}

/// Returns what of `octets`, which lie at `offset`, falls into `length` octets at `start`.
fn common(octets: &[u8], offset: u64, start: u64, length: u64) -> &[u8] {
    let within = |at: u64| {
        usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX).min(octets.len())
    };
    octets.get(within(start)..within(start + length)).unwrap_or_default()
}

fn is_zero(octets: &[u8]) -> bool {
    const ZEROS: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];
    ZEROS.get(..octets.len()) == Some(octets)
}
