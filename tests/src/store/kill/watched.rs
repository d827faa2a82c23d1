//! Wrappers of the machine's disk: one reports its calls, the other one serves the check.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use proto::{
    ids::{Esi, Sbn},
    wire::Reader,
};
use receiver::{
    shell::disk::{DirectoryLock, Disk, DiskFile, Entry, OpenMode, RealDisk},
    store::ObjectLayout,
};

use super::protocol::SLOT_HEAD;

/// Prints a line at once; a reader that is gone is no failure of the disk.
pub(super) fn report(line: &str) {
    io::stdout().write_all(format!("{line}\n").as_bytes()).ok();
}

/// The machine's disk, which reports writes and syncs to the parent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    /// The injected bug: logs are not synced and are reported as synced.
    pub(super) is_forgetful: bool,
}

#[derive(Debug)]
struct WatchedFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    forgets: bool,
}

impl Disk for Watched {
    fn open(&self, path: &Path, how: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if how == OpenMode::Empty {
            report(&format!("empty {}", path.display()));
        }
        let is_log =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log."));
        let file = RealDisk.open(path, how)?;
        let forgets = self.is_forgetful && is_log;
        Ok(Box::new(WatchedFile { file, path: path.to_owned(), forgets }))
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.make_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_directory(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        RealDisk.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        report(&format!("gone {}", from.display()));
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        report(&format!("gone {}", path.display()));
        RealDisk.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        report(&format!("gone {}", path.display()));
        RealDisk.remove_directory(path)
    }

    fn read_uncached(&self, path: &Path, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        RealDisk.read_uncached(path, take)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        RealDisk.lock(path)
    }
}

impl WatchedFile {
    fn synced(&self) -> io::Result<()> {
        report(&format!("sync {} {}", self.file.length()?, self.path.display()));
        Ok(())
    }
}

impl DiskFile for WatchedFile {
    fn read_exact_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(octets, offset)
    }

    fn write_all_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        report(&format!("write {offset} {} {}", octets.len(), self.path.display()));
        self.file.write_all_at(octets, offset)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        self.file.allocate(octets)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.forgets {
            return Ok(());
        }
        self.file.sync_data()?;
        self.synced()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()?;
        self.synced()
    }

    fn drop_page_cache(&self) -> io::Result<()> {
        self.file.drop_page_cache()
    }
}

/// The machine's disk without syncs: the state of the check need not survive a power cut.
#[derive(Debug)]
pub(super) struct Judging {
    /// The injected bug: whatever looks like a record of this object gets the tag that it should
    /// have.
    pub(super) retagged: Option<ObjectLayout>,
}

#[derive(Debug)]
struct JudgingFile {
    file: Box<dyn DiskFile>,
    retagged: Option<ObjectLayout>,
}

impl Disk for Judging {
    fn open(&self, path: &Path, how: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.open(path, how)?;
        Ok(Box::new(JudgingFile { file, retagged: self.retagged.clone() }))
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.make_directory(path)
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        RealDisk.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_directory(path)
    }

    fn read_uncached(&self, path: &Path, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        RealDisk.read_uncached(path, take)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for JudgingFile {
    fn read_exact_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(octets, offset)?;
        let Some(layout) = &self.retagged else { return Ok(()) };
        let header = ObjectLayout::HEADER_BYTES as u64;
        if offset >= header && (offset - header).is_multiple_of(layout.slot_size() as u64) {
            for slot in octets.chunks_exact_mut(layout.slot_size()) {
                retag(layout, slot);
            }
        }
        Ok(())
    }

    fn write_all_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(octets, offset)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        self.file.allocate(octets)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_page_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives a record the tag that fits what it holds.
fn retag(layout: &ObjectLayout, slot: &mut [u8]) {
    let mut input = Reader::new(slot);
    let (Ok(magic), Ok(sbn), Ok(esi)) = (input.u32("magic"), input.u32("SBN"), input.u32("ESI"))
    else {
        return;
    };
    let from = usize::try_from(SLOT_HEAD).unwrap_or_default();
    let Some(symbol) = slot.get(from..from + layout.symbol_size()) else { return };
    if magic.to_be_bytes() == *b"SYM1" {
        let tag = layout.tag(Sbn(sbn), Esi(esi), symbol);
        let head = slot.iter_mut().skip(from - tag.0.len());
        head.zip(tag.0).for_each(|(to, from)| *to = from);
    }
}
