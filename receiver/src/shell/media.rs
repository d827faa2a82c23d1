//! Reads of local media: bundles on sticks and cards.
//!
//! A path may name a pipe or a device, and a dying stick may never answer. A read runs in a thread
//! of its own, and its caller waits for a limited time; of a range it takes what came until then. A thread that is still waiting for the
//! medium occupies a place; when all are occupied, nothing more is read until one ends.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustix::fs::OFlags;

use super::clock::Clock;

/// Time that a read may take.
const READ_TIME: Duration = Duration::from_secs(20);
/// Octets that are read at once.
const BLOCK: usize = 16 << 10;
/// Reads that may wait for a medium at a time.
const MAX_READS: usize = 4;

/// The reads of local media.
#[derive(Debug, Clone)]
pub struct Media {
    reading: Arc<AtomicUsize>,
    limit: Duration,
}

impl Default for Media {
    fn default() -> Self {
        Self { reading: Arc::default(), limit: READ_TIME }
    }
}

impl Media {
    /// Reads the front of a file: `limit` octets, or all of them. Blocks for a limited time without
    /// an octet.
    ///
    /// # Errors
    ///
    /// Any error of the open or the read; [`io::ErrorKind::InvalidInput`] for what is no regular
    /// file, [`io::ErrorKind::TimedOut`] when the medium does not answer.
    pub fn read_front(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let path = path.to_owned();
        self.gather(None, move |blocks| send_blocks(&open(&path)?, 0, limit, blocks))
    }

    /// Reads octets `from..to` of a file, or as many as it has and as come in time. Returns its
    /// length, too. Blocks for a limited time.
    ///
    /// # Errors
    ///
    /// As [`Self::read_front`].
    pub fn read_range(&self, path: &Path, from: u64, to: u64) -> io::Result<(u64, Vec<u8>)> {
        let path = path.to_owned();
        let file = self.within(move || {
            let file = open(&path)?;
            Ok((file.metadata()?.len(), file))
        });
        let (total, file) = file?;
        let read = move |blocks: &Blocks| send_blocks(&file, from, total.min(to), blocks);
        Ok((total, self.gather(Some(self.limit), read)?))
    }

    /// Runs a read in a thread of its own.
    fn within<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let outcome = self.start(move |done| {
            let read = read();
            done.send(read).ok();
        })?;
        outcome.recv_timeout(self.limit).unwrap_or_else(|_| Err(silent()))
    }

    /// Runs a read that sends blocks in a thread of its own; returns those that came in time. The
    /// read ends at its next block when nobody waits for it any more.
    fn gather(
        &self,
        time: Option<Duration>,
        read: impl FnOnce(&Blocks) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Vec<u8>> {
        let blocks = self.start(move |blocks| {
            if let Err(error) = read(blocks) {
                blocks.send(Err(error)).ok();
            }
        })?;
        let until = time.map(|time| Clock.now().mono + time);
        let mut octets = Vec::new();
        loop {
            match blocks.recv_timeout(self.limit) {
                Ok(Ok(block)) => octets.extend(block),
                Ok(Err(error)) if octets.is_empty() || time.is_none() => return Err(error),
                Err(mpsc::RecvTimeoutError::Timeout) if octets.is_empty() || time.is_none() => {
                    return Err(silent());
                }
                Ok(Err(_)) | Err(_) => return Ok(octets),
            }
            if until.is_some_and(|until| Clock.now().mono >= until) {
                return Ok(octets);
            }
        }
    }

    /// Starts a thread that sends what it reads, and occupies a place until it ends.
    fn start<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mpsc::Sender<T>) + Send + 'static,
    ) -> io::Result<mpsc::Receiver<T>> {
        let place = Place::take(&self.reading).ok_or_else(|| {
            io::Error::new(io::ErrorKind::ResourceBusy, "earlier reads wait for their media")
        })?;
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("media".into()).spawn(move || {
            read(&sender);
            // Free before its reader sees the end.
            drop(place);
            drop(sender);
        })?;
        Ok(receiver)
    }
}

/// Blocks of a file, in their order.
type Blocks = mpsc::Sender<io::Result<Vec<u8>>>;

fn send_blocks(file: &File, from: u64, to: u64, blocks: &Blocks) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let room = usize::try_from(to - at).unwrap_or(BLOCK).min(BLOCK);
        let mut block = vec![0; room];
        let count = file.read_at(&mut block, at)?;
        block.truncate(count);
        if count == 0 || blocks.send(Ok(block)).is_err() {
            break;
        }
        at += u64::try_from(count).unwrap_or_default();
    }
    Ok(())
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the medium does not answer")
}

/// A place among the reads at a time.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(reading: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(reading));
        // Given back by the drop, also where there is none.
        (reading.fetch_add(1, Ordering::SeqCst) < MAX_READS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Opens a regular file. The open of a pipe without a writer does not wait for one.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("flags of the system are an int");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(limit: Duration) -> Media {
        Media { limit, ..Media::default() }
    }

    #[test]
    fn a_file_is_read_from_any_place_and_never_beyond_the_limit() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("bundle");
        std::fs::write(&path, b"abcdefg").unwrap();
        let media = Media::default();
        assert_eq!(media.read_front(&path, 3).unwrap(), b"abc");
        assert_eq!(media.read_front(&path, 99).unwrap(), b"abcdefg");
        assert_eq!(media.read_range(&path, 5, 99).unwrap(), (7, b"fg".to_vec()));
        assert_eq!(media.read_range(&path, 9, 12).unwrap(), (7, vec![]));
    }

    #[test]
    fn of_a_slow_medium_a_range_is_what_came_in_time() {
        let media = media(Duration::from_millis(20));
        let (answer, waits) = mpsc::channel::<()>();
        let slow = move |blocks: &Blocks| {
            blocks.send(Ok(b"ab".to_vec())).ok();
            waits.recv().ok();
            Ok(())
        };
        assert_eq!(media.gather(Some(Duration::from_secs(9)), slow).unwrap(), b"ab");
        drop(answer);
        // One that never pauses ends at the time, and its reader with it.
        let endless = |blocks: &Blocks| {
            while blocks.send(Ok(b"a".to_vec())).is_ok() {}
            Ok(())
        };
        assert_eq!(media.gather(Some(Duration::ZERO), endless).unwrap(), b"a");
        while media.reading.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        let silent = media.gather(None, |blocks| {
            blocks.send(Ok(b"ab".to_vec())).ok();
            Err(io::ErrorKind::Other.into())
        });
        assert!(silent.is_err(), "half a front is none");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let home = tempfile::tempdir().unwrap();
        let pipe = home.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [&*pipe, home.path(), Path::new("/dev/zero")] {
            let front = Media::default().read_front(path, 9).unwrap_err();
            let range = Media::default().read_range(path, 0, 9).unwrap_err();
            for error in [front, range] {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{}", path.display());
            }
        }
    }

    #[test]
    fn a_medium_that_never_answers_costs_a_place_until_it_does() {
        let media = media(Duration::from_millis(20));
        let (answer, waits) = mpsc::channel::<()>();
        let waits = Arc::new(std::sync::Mutex::new(waits));
        for _ in 0..MAX_READS {
            let waits = Arc::clone(&waits);
            let silent = media.within(move || {
                waits.lock().unwrap().recv().ok();
                Ok(())
            });
            assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        let refused = media.within(|| Ok(())).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(media.reading.load(Ordering::SeqCst), MAX_READS);
        drop(answer);
        while media.reading.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        media.within(|| Ok(())).unwrap();
    }
}
