//! A file system in memory that loses what was not synced: the storage runs on it unchanged.
//!
//! ```text
//! let disk = SimDisk::new(seed);
//! let directory = DataDir::open_on(disk.shared(), Path::new("/data"))?;
//! let (decoder, mut worker) = (DecodeWorker::new(&directory), Worker::new(directory));
//! disk.cut_at(disk.operations() + 17);          // the power goes at the 17th operation from here
//! worker.handle(command);                       // … until disk.is_off()
//! drop(worker);
//! disk.power_on(other_seed);                    // what survived is what there is
//! ```
//!
//! | | while the power is on | after it went |
//! | --- | --- | --- |
//! | octets | read as written | of each 512-octet sector that was not synced: a content since the last sync, or torn |
//! | length | as written | any that it had since the last sync |
//! | names | as made, renamed, removed | any subset of the changes since the directory was synced |
//! | a failed sync | as written, marked as synced | lost, unless the page was written again |
//!
//! Everything is determined by the two seeds and the calls. Handles from before a power cut are
//! dead.

mod call;
mod file;
mod state;
mod tree;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use receiver::shell::disk::{DirectoryLock, Disk, DiskFile, Entry, OpenMode, SharedDisk};

pub use self::call::{Call, Fault, History, SECTOR_BYTES};
use self::state::{State, Step};

/// A simulated disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// Makes an empty disk; the seed decides what failing calls leave.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed))))
    }

    /// Returns the disk for [`receiver::shell::data_dir::DataDir::open_on`].
    #[must_use]
    pub fn shared(&self) -> SharedDisk {
        Arc::new(self.clone())
    }

    /// Returns a copy with a life of its own: to cut the power at many places after one beginning.
    ///
    /// Handles on the original are none on the copy.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Returns how many operations there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Returns the number of calls of a kind.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.state().counts.get(&call).copied().unwrap_or_default()
    }

    /// Lets the power go at operation number `operation`, counted as [`Self::operations`] does.
    ///
    /// A write or a change of names at that moment may survive; a sync has not returned.
    pub fn cut_at(&self, operation: u64) {
        self.state().cut_at = Some(operation);
    }

    /// Lets the power go.
    pub fn cut(&self) {
        self.state().off = true;
    }

    /// Returns whether the power is gone: every call fails.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// Turns the power on, after it went or suddenly; `seed` decides what survived.
    pub fn power_on(&self, seed: u64) {
        self.state().power_on(seed);
    }

    /// Lets the `nth` call of a kind from here fail, 1 being the next.
    pub fn fail(&self, call: Call, nth: u64, fault: Fault) {
        let mut state = self.state();
        let at = state.counts.get(&call).copied().unwrap_or_default() + nth;
        state.faults.insert((call, at), fault);
    }

    /// Lets every call of a kind fail with this chance.
    ///
    /// # Units
    ///
    /// `per_million`: 0 to 1,000,000.
    pub fn fail_often(&self, call: Call, per_million: u64, fault: Fault) {
        self.state().rates.insert(call, (per_million, fault));
    }

    /// Ends all faults that are yet to come.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.rates.clear();
    }

    /// Gives the disk room for so many octets.
    pub fn set_capacity(&self, octets: u64) {
        self.state().capacity = octets;
    }

    /// Takes the ability to reserve without writing away, as on file systems that lack it.
    pub fn cannot_allocate(&self) {
        self.state().allocates = false;
    }

    /// Returns the octets that writes carried.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.state().written
    }

    /// Returns the octets of the sectors that syncs put on the medium.
    #[must_use]
    pub fn synced_bytes(&self) -> u64 {
        self.state().synced
    }

    /// Returns what a file holds as readers see it; `None` when there is none.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.state().content(path)
    }

    /// Flips a stored bit. Returns whether there is such a file and it is that long.
    pub fn flip_bit(&self, path: &Path, octet: u64, bit: u8) -> bool {
        self.state().file_mut(path).is_some_and(|file| file.flip_bit(octet, bit))
    }

    /// Makes the sector of an octet unreadable until it is written. Returns whether there is such a
    /// file.
    pub fn break_sector(&self, path: &Path, octet: u64) -> bool {
        self.state().file_mut(path).map(|file| file.break_sector(octet)).is_some()
    }

    /// Starts to record calls.
    pub fn record(&self) {
        self.state().history = Some(Vec::new());
    }

    /// Returns the calls since [`Self::record`].
    #[must_use]
    pub fn history(&self) -> History {
        self.state().history.clone().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while it is held")
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let call = match how {
            OpenMode::Read | OpenMode::Write => Call::Open,
            OpenMode::Create | OpenMode::Empty => Call::Create,
        };
        let step = state.enter(call, path)?;
        step.failure()?;
        let id = state.open(path, how)?;
        let epoch = state.epoch;
        step.end(&mut state)?;
        Ok(Box::new(SimFile { disk: self.clone(), path: path.to_owned(), id, epoch }))
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.state();
        !state.off && state.tree.find(path).is_some()
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let step = state.enter(Call::MakeDirectory, path)?;
        step.failure()?;
        state.tree.make_directory(path)?;
        step.end(&mut state)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let step = state.enter(Call::SyncDirectory, path)?;
        step.failure()?;
        step.end(&mut state)?;
        state.tree.sync(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        state.enter(Call::List, path)?.failure()?;
        state.tree.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let step = state.enter(Call::Rename, from)?;
        step.failure()?;
        state.tree.rename(from, to)?;
        step.end(&mut state)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let step = state.enter(Call::Remove, path)?;
        step.failure()?;
        state.tree.remove_file(path)?;
        step.end(&mut state)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let step = state.enter(Call::Remove, path)?;
        step.failure()?;
        state.tree.remove_directory(path)?;
        step.end(&mut state)
    }

    fn read_uncached(&self, path: &Path, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut state = self.state();
        state.enter(Call::Read, path)?.failure()?;
        let content = state.medium(path)?;
        drop(state);
        content.chunks(64 << 10).for_each(take);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let mut state = self.state();
        state.enter(Call::Lock, path)?.failure()?;
        state.open(path, OpenMode::Create)?;
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let epoch = state.epoch;
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), epoch }))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    epoch: u64,
}

impl DirectoryLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.epoch == self.epoch {
            state.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    id: u64,
    epoch: u64,
}

impl SimFile {
    fn enter(&self, call: Call) -> io::Result<(MutexGuard<'_, State>, Step)> {
        let mut state = self.disk.state();
        if state.epoch != self.epoch {
            return Err(io::Error::other("the file was opened before the power went"));
        }
        let step = state.enter(call, &self.path)?;
        Ok((state, step))
    }
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        let (mut state, step) = self.enter(Call::Read)?;
        step.failure()?;
        state.opened(self.id)?.read(octets, offset)
    }

    fn write_all_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, step) = self.enter(Call::Write)?;
        let has_room = state.has_room(self.id, offset + octets.len() as u64);
        let fault = step.fault().or((!has_room).then_some(Fault::NoSpace));
        let written = match fault {
            None => octets.len(),
            // Some of it is written, as far as the file had room already.
            Some(_) if has_room => state.part_of(octets.len()),
            Some(_) => 0,
        };
        state.written += written as u64;
        state.opened(self.id)?.write(octets.get(..written).unwrap_or_default(), offset);
        step.end(&mut state)?;
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn length(&self) -> io::Result<u64> {
        let (mut state, step) = self.enter(Call::Length)?;
        step.failure()?;
        Ok(state.opened(self.id)?.length())
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        let (mut state, step) = self.enter(Call::Allocate)?;
        step.failure()?;
        if !state.allocates {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if !state.has_room(self.id, octets) {
            return Err(Fault::NoSpace.error());
        }
        state.opened(self.id)?.set_length(octets);
        step.end(&mut state)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, step) = self.enter(Call::Sync)?;
        if let Some(fault) = step.fault() {
            state.fail_sync(self.id)?;
            return Err(fault.error());
        }
        step.end(&mut state)?;
        let synced = state.opened(self.id)?.sync();
        state.synced += synced;
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn drop_page_cache(&self) -> io::Result<()> {
        let (mut state, step) = self.enter(Call::ForgetCached)?;
        step.failure()?;
        state.opened(self.id)?.drop_page_cache();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
