//! Data that was written and not synced, and its damage by a power cut.

use std::{collections::BTreeMap, fs::File, io, ops::Range, os::unix::fs::FileExt as _};

use crate::lab::rng::SeededRng;

const SECTOR_BYTES: u64 = 512;

/// Data that was written and not synced, by path.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    files: BTreeMap<String, Written>,
}

#[derive(Debug, Default)]
struct Written {
    ranges: Vec<Range<u64>>,
    synced_bytes: u64,
}

/// Extent of the damage.
#[derive(Debug, Default)]
pub(super) struct Damage {
    pub(super) sectors: u64,
    pub(super) files: u64,
}

impl Unsynced {
    pub(super) fn write(&mut self, path: &str, offset: u64, octets: u64) {
        let written = self.files.entry(path.to_owned()).or_default();
        written.ranges.push(offset..offset + octets);
    }

    pub(super) fn empty(&mut self, path: &str) {
        self.files.remove(path);
    }

    pub(super) fn sync(&mut self, path: &str, octets: u64) {
        let ranges = Vec::new();
        self.files.insert(path.to_owned(), Written { ranges, synced_bytes: octets });
    }

    /// Removes a file, or a directory with all that it holds.
    pub(super) fn forget(&mut self, path: &str) {
        self.files.retain(|name, _| !name.starts_with(path));
    }

    /// Records that everything was synced.
    pub(super) fn mark_synced(&mut self) {
        self.files.retain(|path, written| {
            let found = std::fs::metadata(path).map(|found| found.len());
            found.map(|octets| written.synced_bytes = octets).is_ok()
        });
    }

    /// Keeps, zeroes or scrambles each sector that was not synced; sometimes cuts a file off that
    /// has grown since.
    pub(super) fn damage(&mut self, rng: &mut SeededRng) -> io::Result<Damage> {
        let mut damage = Damage::default();
        for (path, written) in &mut self.files {
            let ranges = std::mem::take(&mut written.ranges);
            let file = match File::options().read(true).write(true).open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let length = file.metadata()?.len();
            for range in ranges {
                let mut at = range.start;
                while at < range.end.min(length) {
                    let end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
                    let end = end.min(range.end).min(length);
                    damage.sectors += u64::from(hit(&file, at..end, rng)?);
                    at = end;
                }
            }
            if length > written.synced_bytes && rng.below(2) == 0 {
                let grown = length - written.synced_bytes;
                file.set_len(written.synced_bytes + rng.below(grown))?;
                damage.files += 1;
            }
        }
        Ok(damage)
    }
}

/// Draws what becomes of a sector, as far as it was written; returns whether it was damaged.
fn hit(file: &File, range: Range<u64>, rng: &mut SeededRng) -> io::Result<bool> {
    let mut octets = vec![0; usize::try_from(range.end - range.start).unwrap_or_default()];
    match rng.below(6) {
        0 => {}
        1 => rng.fill_bytes(&mut octets),
        // As if the end of it had not been written yet.
        2 => {
            file.read_exact_at(&mut octets, range.start)?;
            let kept = usize::try_from(rng.below(octets.len() as u64)).unwrap_or_default();
            octets.iter_mut().skip(kept).for_each(|octet| *octet = 0);
        }
        _ => return Ok(false),
    }
    file.write_all_at(&octets, range.start)?;
    Ok(true)
}
