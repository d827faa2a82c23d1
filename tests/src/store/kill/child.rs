//! The child: receives the object of its round, and acknowledges what its storage acknowledges.

use std::{ffi::OsString, path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use proto::{
    ids::{Esi, Sbn},
    time::Mono,
};
use receiver::{
    flute::{blocks::Blocks, decode::DecodeOutcome},
    shell::{
        data_dir::DataDir,
        storage::{DecodeWorker, Worker},
    },
    store::{
        InsertOutcome, Journaler, Limits, SymbolLog, TableLog,
        commands::{Completion, StorageCommand, VerifyOutcome},
        journal_state::{JournalState, ObjectProgress},
    },
};

use super::{
    protocol::{FINISHED, READY},
    truth::{BLOCK_SYMBOLS, BLOCKS, Truth},
    watched::{Watched, report},
};
use crate::lab::rng::SeededRng;

/// Runs the child until it is killed or has finished the image.
///
/// # Errors
///
/// When its storage fails, or the arguments are not those of a child.
pub fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    let [data, round, seed, bug] = arguments else { bail!("not the arguments of a child") };
    let number = |word: &OsString| anyhow::Ok(word.to_str().context("a number")?.parse::<u64>()?);
    let disk = Arc::new(Watched { is_forgetful: bug == "forgetful" });
    let directory = DataDir::open_on(disk, Path::new(data))?;
    let truth = Truth::new(number(round)?)?;
    let [a, b] = directory.read_journal()?;
    let (journaler, state) = Journaler::recover::<JournalState>([&a, &b])?;
    let (decoder, worker) = (DecodeWorker::new(&directory), Worker::new(directory));
    let mut child = Child {
        rng: SeededRng::new(number(seed)?, "child"),
        progress: progress(&truth, state),
        tables: truth.table_log(),
        truth,
        journaler,
        worker,
        decoder,
    };
    let mut blocks = child.open()?;
    report(READY);
    while !blocks.is_assembled() {
        child.receive(&mut blocks)?;
        child.solve(&mut blocks)?;
    }
    child.finish()
}

struct Child {
    truth: Truth,
    rng: SeededRng,
    progress: ObjectProgress,
    tables: TableLog,
    journaler: Journaler,
    worker: Worker,
    decoder: DecodeWorker,
}

/// Returns the object's state in the journal.
fn progress(truth: &Truth, state: Option<JournalState>) -> ObjectProgress {
    let key = truth.layout().object_key().0.to_vec();
    let objects = state.into_iter().flat_map(|state| state.objects);
    let found = objects.into_iter().find(|object| object.object_key == key);
    found.unwrap_or(ObjectProgress { object_key: key, ..ObjectProgress::default() })
}

impl Child {
    /// Opens the object, and drops all others.
    fn open(&mut self) -> anyhow::Result<Blocks> {
        let layout = self.truth.layout().clone();
        self.ask(StorageCommand::RemoveOtherObjects(vec![layout.clone()]))?;
        let Completion::Recovered(_, recovered) = self.ask(StorageCommand::Open(layout.clone()))?
        else {
            bail!("the object is not open");
        };
        self.tables.recover(&recovered.tables);
        let (done, limits) = (self.progress.done(), Limits::default());
        let mut log = SymbolLog::recovered(layout, limits, &recovered, &done, &[]);
        while self.worker.is_reserving() {
            self.worker.reserve();
            match self.worker.poll_completion() {
                Some(Completion::Reserved(_, files)) => log.handle_reserved(files),
                Some(other) => bail!("{other:?}"),
                None => {}
            }
        }
        Ok(Blocks::new(log))
    }

    /// Stores a few symbols, syncs them, and acknowledges them.
    fn receive(&mut self, blocks: &mut Blocks) -> anyhow::Result<()> {
        let mut taken = Vec::new();
        for _ in 0..=self.rng.below(12) {
            let sbn = Sbn(u32::try_from(self.rng.below(u64::from(BLOCKS)))?);
            let esi = Esi(u32::try_from(self.rng.below(u64::from(BLOCK_SYMBOLS) * 3))?);
            let symbol = self.truth.symbol(sbn, esi).context("a symbol")?;
            let tag = self.truth.layout().tag(sbn, esi, &symbol);
            if blocks.log_mut().insert(Mono(0), sbn, esi, tag, &symbol) == InsertOutcome::Stored {
                taken.push((sbn, esi));
            }
        }
        self.store_tables(blocks)?;
        blocks.log_mut().flush();
        let key = self.truth.layout().object_key();
        while let Some(output) = blocks.log_mut().poll_output() {
            self.worker.handle(StorageCommand::Log(key, output));
            match self.worker.poll_completion() {
                Some(Completion::Flushed(_, ticket)) => blocks.log_mut().handle_flushed(ticket),
                Some(other) => bail!("{other:?}"),
                None => {}
            }
        }
        let names = taken.iter().map(|(sbn, esi)| format!(" {}.{}", sbn.0, esi.0));
        report(&format!("held{}", names.collect::<String>()));
        Ok(())
    }

    /// Stores a few table symbols; their file grows until the ring is full.
    fn store_tables(&mut self, blocks: &mut Blocks) -> anyhow::Result<()> {
        let shape = *self.truth.shape();
        for _ in 0..self.rng.below(4) {
            let segment = Sbn(u32::try_from(self.rng.below(shape.segments().into()))?);
            let symbols = u64::from(shape.table_symbols_per_segment());
            let esi = Esi(u32::try_from(self.rng.below(symbols))?);
            let symbol = self.truth.table_symbol(segment, esi);
            if let Some((offset, octets)) = self.tables.store(segment, esi, &symbol) {
                blocks.log_mut().store_tables(offset, octets);
            }
        }
        Ok(())
    }

    /// Decodes a block if one has enough symbols, and writes the journal.
    fn solve(&mut self, blocks: &mut Blocks) -> anyhow::Result<()> {
        let Some(job) = blocks.next_decode() else { return Ok(()) };
        let Completion::Decoded(_, sbn, outcome) = self.ask(StorageCommand::Decode(job))? else {
            bail!("the block is not solved");
        };
        blocks.handle_decoded(sbn, &outcome);
        match outcome {
            DecodeOutcome::Done => {}
            DecodeOutcome::NeedsMore => return Ok(()),
            DecodeOutcome::LostSlots(_) | DecodeOutcome::Failed(_) => bail!("{outcome:?}"),
        }
        self.progress.mark_done(sbn);
        let state =
            JournalState { objects: vec![self.progress.clone()], ..JournalState::default() };
        let write = self.journaler.write(&state)?;
        let answer = self.ask(StorageCommand::Journal(write))?;
        let Completion::JournalWritten(generation) = answer else { bail!("{answer:?}") };
        self.journaler.handle_written(generation);
        report(&format!("solved {}", sbn.0));
        blocks.handle_block_done(sbn);
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let answer = self.ask(StorageCommand::VerifyImage(self.truth.layout().clone()))?;
        let Completion::ImageVerified(_, VerifyOutcome::Ready { .. }) = answer else {
            bail!("{answer:?}")
        };
        report(FINISHED);
        Ok(())
    }

    /// Executes a command, with its job, and returns the answer.
    fn ask(&mut self, command: StorageCommand) -> anyhow::Result<Completion> {
        self.worker.handle(command);
        if let Some(job) = self.worker.poll_job() {
            return Ok(self.decoder.run(job));
        }
        self.worker.poll_completion().context("an answer")
    }
}
