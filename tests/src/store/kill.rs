//! The kill test: a real process on real files is killed, what it had not synced is kept, zeroed or
//! scrambled sector by sector, and what it had acknowledged must be there.
//!
//! ```text
//! parent                                child
//!   starts it ───────────────────────────► recovers, receives, flushes, solves, journals
//!   ◄──────── what it writes, syncs, acknowledges, line by line
//!   SIGKILL after a few lines and 0 to 1 ms ► dies
//!   damages what was not synced, recovers, compares, starts the next one
//! ```
//!
//! The child is the storage's own [`receiver::shell::storage::Worker`] with the real file system
//! behind a disk that reports its calls. Two bugs can be injected, to test that they are found.

mod child;
mod damage;
mod protocol;
mod truth;
mod watched;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    ffi::OsString,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use proto::ids::{Esi, Sbn};
use receiver::{
    shell::{
        data_dir::DataDir,
        disk::{Disk as _, OpenMode, RealDisk, SharedDisk},
        objects::ObjectDirectory,
    },
    store::{Journaler, Recovered, journal_state::JournalState},
};

pub use self::{child::run as run_child, protocol::CHILD};
use self::{
    damage::Unsynced,
    protocol::{FINISHED, READY, SLOT_HEAD},
    truth::Truth,
    watched::Judging,
};
use crate::lab::rng::SeededRng;

/// Options of the kill test.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "kill",
    about = "Kill a process that stores symbols, and check that acknowledged data survive"
)]
pub struct Options {
    /// Times that the process is killed
    #[arg(long, default_value_t = 500)]
    pub cycles: u64,
    /// Seed of the moments of the kills and of the damage to data that was not synced
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder of the files [default: a folder of its own below the system's temporary one]
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Inject a bug: the test must then fail
    #[arg(long, value_name = "BUG")]
    pub inject: Option<InjectedBug>,
}

proto::words! {
    /// A bug that the test must find.
    pub enum InjectedBug: "bug" {
        /// Symbols are acknowledged before they are synced.
        AcknowledgeBeforeSync = "acknowledge-before-sync",
        /// Whatever looks like a record counts as one.
        SkipTagComparison = "skip-tag-comparison",
    }
}

/// Result of a test.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Times that the process was killed.
    pub cycles: u64,
    /// Symbols that were acknowledged.
    pub acknowledged: u64,
    /// Blocks that were acknowledged as decoded.
    pub solved: u64,
    /// Table symbols that were found again, over all cycles.
    pub tables: u64,
    /// Images that were finished.
    pub finished: u64,
    /// Sectors that were zeroed or scrambled.
    pub damaged: u64,
    /// Files that were cut off.
    pub truncated: u64,
    /// Promises that were broken.
    pub breaches: Vec<String>,
}

/// Kills, damages, recovers and compares; stops at the first breach.
///
/// # Errors
///
/// When the child cannot be run or the files cannot be read.
pub fn run(program: &Path, options: &Options) -> anyhow::Result<Outcome> {
    let own = std::env::temp_dir().join(format!("fumocast-kill-{}", std::process::id()));
    let folder = options.folder.clone().unwrap_or(own);
    std::fs::create_dir_all(&folder)?;
    let mut test = Test {
        program,
        data: folder.join("data"),
        bug: options.inject,
        rng: SeededRng::new(options.seed, "kill"),
        round: options.seed << 32,
        is_reserved: false,
        owed: Owed::default(),
        unsynced: Unsynced::default(),
        outcome: Outcome::default(),
    };
    while test.outcome.cycles < options.cycles && test.outcome.breaches.is_empty() {
        test.cycle()?;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(test.outcome)
}

/// Acknowledgements for the object of this round.
#[derive(Debug, Default)]
struct Owed {
    synced: BTreeSet<(Sbn, Esi)>,
    solved: BTreeSet<Sbn>,
}

struct Test<'a> {
    program: &'a Path,
    data: PathBuf,
    bug: Option<InjectedBug>,
    rng: SeededRng,
    round: u64,
    /// Set when the space of this round's object is reserved.
    is_reserved: bool,
    owed: Owed,
    unsynced: Unsynced,
    outcome: Outcome,
}

impl Test<'_> {
    fn cycle(&mut self) -> anyhow::Result<()> {
        let lines = self.live_and_die()?;
        let mut finished = false;
        for line in &lines {
            finished |= self.handle_line(line)?;
        }
        self.outcome.cycles += 1;
        let damage = self.unsynced.damage(&mut self.rng)?;
        self.outcome.damaged += damage.sectors;
        self.outcome.truncated += damage.files;
        if finished {
            self.outcome.finished += 1;
            self.check_image()?;
            self.round += 1;
            self.is_reserved = false;
            self.owed = Owed::default();
            return Ok(());
        }
        self.check()?;
        self.unsynced.mark_synced();
        Ok(())
    }

    /// Starts the child, reads some lines, kills it, and returns its lines.
    ///
    /// Lines rather than time: however slow the disk is, it gets on, and dies between any two of
    /// its steps.
    fn live_and_die(&mut self) -> anyhow::Result<Vec<String>> {
        let seed = self.rng.next_u64();
        let is_forgetful = self.bug == Some(InjectedBug::AcknowledgeBeforeSync);
        let words: [OsString; 5] = [
            CHILD.into(),
            self.data.clone().into(),
            self.round.to_string().into(),
            seed.to_string().into(),
            if is_forgetful { "forgetful" } else { "sound" }.into(),
        ];
        // Most get ready first; some die at their start, and some while they reserve.
        let (begins_with, lines) = match self.rng.below(8) {
            0 => ("", 1 + self.rng.below(10)),
            draw if self.is_reserved || draw > 4 => (READY, 1 + self.rng.below(40)),
            _ => ("empty", 1 + self.rng.below(4)),
        };
        let mut child = Command::new(self.program).args(words).stdout(Stdio::piped()).spawn()?;
        let said = child.stdout.take().context("a pipe")?;
        let (enough, is_enough) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut said_lines = Vec::new();
            let mut left = None;
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                if left.is_none() && (line == READY || line.starts_with(begins_with)) {
                    left = Some(lines);
                }
                left = left.map(|left| left - 1_u64.min(left));
                if left == Some(0) {
                    enough.send(()).ok();
                }
                said_lines.push(line);
            }
            said_lines
        });
        // A child that ends before that drops the sender.
        is_enough.recv_timeout(Duration::from_secs(30)).ok();
        thread::park_timeout(Duration::from_micros(self.rng.below(1_000)));
        child.kill()?;
        let status = child.wait()?;
        let lines = reader.join().map_err(|_| anyhow::anyhow!("the reader has failed"))?;
        let was_killed = status.signal().is_some();
        ensure!(status.success() || was_killed, "the child has failed: {status}");
        Ok(lines)
    }

    /// Handles a line of the child; returns whether it has finished the image.
    fn handle_line(&mut self, line: &str) -> anyhow::Result<bool> {
        let mut words = line.split(' ');
        let number = |word: Option<&str>| anyhow::Ok(word.context("a number")?.parse::<u64>()?);
        match words.next() {
            Some("write") => {
                let (offset, octets) = (number(words.next())?, number(words.next())?);
                self.unsynced.write(words.next().context("a path")?, offset, octets);
            }
            Some("empty") => self.unsynced.empty(words.next().context("a path")?),
            Some("sync") => {
                let octets = number(words.next())?;
                self.unsynced.sync(words.next().context("a path")?, octets);
            }
            Some("gone") => self.unsynced.forget(words.next().context("a path")?),
            Some("held") => {
                for word in words {
                    let (sbn, esi) = word.split_once('.').context("a symbol")?;
                    self.owed.synced.insert((Sbn(sbn.parse()?), Esi(esi.parse()?)));
                    self.outcome.acknowledged += 1;
                }
            }
            Some("solved") => {
                self.owed.solved.insert(Sbn(u32::try_from(number(words.next())?)?));
                self.outcome.solved += 1;
            }
            Some(READY) => self.is_reserved = true,
            Some(FINISHED) => return Ok(true),
            Some(_) | None => {}
        }
        Ok(false)
    }

    /// Recovers as a start does, and compares.
    fn check(&mut self) -> anyhow::Result<()> {
        let truth = Truth::new(self.round)?;
        let layout = truth.layout().clone();
        let retagged = match self.bug {
            Some(InjectedBug::SkipTagComparison) => Some(layout.clone()),
            Some(InjectedBug::AcknowledgeBeforeSync) | None => None,
        };
        let disk: SharedDisk = Arc::new(Judging { retagged });
        let directory = DataDir::open_on(Arc::clone(&disk), &self.data)?;
        let [a, b] = directory.read_journal()?;
        let (_, state) = Journaler::recover::<JournalState>([&a, &b])?;
        let key = layout.object_key().0;
        let done: BTreeSet<_> = state
            .iter()
            .flat_map(|state| &state.objects)
            .filter(|object| object.object_key == key)
            .flat_map(|object| object.done())
            .collect();
        let forgotten: Vec<_> = self.owed.solved.difference(&done).collect();
        if !forgotten.is_empty() {
            self.outcome.breaches.push(format!("the journal has forgotten blocks {forgotten:?}"));
        }
        let open = || ObjectDirectory::open(&disk, &directory.objects(), layout.clone());
        let recovered = open()?.recover()?;
        if open()?.recover()?.slots != recovered.slots {
            self.outcome.breaches.push("P3: recovering twice gives two answers".to_owned());
        }
        self.check_symbols(&truth, &done, &recovered)?;
        let kept = truth.table_log().recover(&recovered.tables);
        self.outcome.tables += kept.len() as u64;
        for kept in kept {
            if truth.table_symbol(kept.segment, kept.esi) != kept.symbol {
                let breach = format!("P1: table symbol {:?} {:?}", kept.segment, kept.esi);
                self.outcome.breaches.push(breach);
            }
        }
        let image = directory.objects().join(layout.directory_name());
        let name = if image.join("image").exists() { "image" } else { "image.part" };
        let content = std::fs::read(image.join(name)).unwrap_or_default();
        for sbn in &done {
            if !truth.has_block(&content, *sbn) {
                self.outcome.breaches.push(format!("block {sbn:?} is done and not in the image"));
            }
        }
        // What was found is relied on from here.
        self.owed.solved = done;
        self.owed.synced = recovered.slots.iter().map(|slot| (slot.sbn, slot.esi)).collect();
        Ok(())
    }

    fn check_symbols(
        &mut self,
        truth: &Truth,
        done: &BTreeSet<Sbn>,
        recovered: &Recovered,
    ) -> anyhow::Result<()> {
        let layout = truth.layout();
        let object = self.data.join("objects").join(layout.directory_name());
        let mut logs = BTreeMap::new();
        for found in &recovered.slots {
            let number = found.slot.file;
            let log = match logs.entry(number) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(place) => {
                    let path = object.join(format!("log.{number}"));
                    place.insert(RealDisk.open(&path, OpenMode::Read)?)
                }
            };
            let mut symbol = vec![0; layout.symbol_size()];
            log.read_exact_at(&mut symbol, layout.offset(found.slot) + SLOT_HEAD)?;
            if truth.symbol(found.sbn, found.esi).as_deref() != Some(symbol.as_slice()) {
                let breach = format!("P1: {:?} {:?} is not exact", found.sbn, found.esi);
                self.outcome.breaches.push(breach);
            }
        }
        let found: BTreeSet<_> = recovered.slots.iter().map(|it| (it.sbn, it.esi)).collect();
        let owed = self.owed.synced.iter().filter(|(sbn, _)| !done.contains(sbn));
        let lost: Vec<_> = owed.filter(|name| !found.contains(name)).collect();
        if !lost.is_empty() {
            self.outcome.breaches.push(format!("P2: acknowledged and lost: {lost:?}"));
        }
        Ok(())
    }

    fn check_image(&mut self) -> anyhow::Result<()> {
        let truth = Truth::new(self.round)?;
        let object = self.data.join("objects").join(truth.layout().directory_name());
        if std::fs::read(object.join("image"))? != truth.image() {
            self.outcome.breaches.push("a finished image is not exact".to_owned());
        }
        Ok(())
    }
}
