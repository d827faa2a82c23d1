//! Flash writes of a reception: octets written for each octet of the image, counted at
//! the writes and at the syncs, from the opening of the window, with two power cuts on the way.
//!
//! ```text
//! reserve ─► window: rows over all blocks, some lost, flushes ─► power cut at half ─► the second half
//!            ─► decode a block, power cut before the journal ─► decode all ─► finish
//! ```

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, bail};
use proto::{
    crypto::{h16, sha256},
    fec::{
        codec::BlockEncoder as _,
        oti::{RaptorQOti, RaptorQParameters},
        raptorq_crate::Encoder,
    },
    ids::{Esi, Sbn},
    time::Mono,
    trust::plan::PlanShape,
};
use receiver::{
    flute::{blocks::Blocks, decode::DecodeOutcome, leaf_tables::kept_segments},
    shell::{
        data_dir::DataDir,
        storage::{DecodeWorker, Worker},
    },
    store::{
        Journaler, Limits, LogOutput, ObjectLayout, SymbolLog, TableLog,
        commands::{Completion, StorageCommand, VerifyOutcome},
        journal_state::{JournalState, ObjectProgress},
    },
};

use crate::lab::rng::SeededRng;

/// Parameters of the measurement.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "bench-flash-writes",
    about = "Measure octets written to flash per octet of a received image"
)]
pub struct Options {
    /// Length of the image in MiB
    #[arg(long, default_value_t = 256)]
    pub mebibytes: u32,
    /// Packets that are lost, in per cent
    #[arg(long, default_value_t = 10)]
    pub loss: u32,
    /// Octets between flushes: those received in a second, at most 1 MiB
    #[arg(long, default_value_t = 1 << 20)]
    pub flush_bytes: usize,
    /// Seed of the losses
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder on the file system to measure [default: the system's temporary folder]
    #[arg(long)]
    pub folder: Option<std::path::PathBuf>,
}

/// Written octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Octets that were handed to writes.
    pub asked: u64,
    /// Octets of the pages that syncs had to put on the medium.
    pub synced: u64,
    /// Octets that the kernel counts when it marks its units of the page cache dirty: an upper
    /// bound, as these may be larger than what is written of them.
    pub dirtied: u64,
}

/// Cost of a reception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Octets of the image.
    pub image: u64,
    /// Before the window.
    pub reservation: Written,
    /// From the opening of the window.
    pub reception: Written,
    /// Symbols that were synced before the first power cut, and after it.
    pub over_the_cut: (u64, u64),
}

/// Receives an image on real files and counts.
///
/// # Errors
///
/// When the storage fails or the kernel does not count.
pub fn run(options: &Options) -> anyhow::Result<Cost> {
    let parent = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = parent.join(format!("fumocast-bench-flash-writes-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let cost = measure(options, &folder.join("data"));
    std::fs::remove_dir_all(&folder)?;
    cost
}

fn measure(options: &Options, data: &Path) -> anyhow::Result<Cost> {
    let broadcast = Broadcast::new(options)?;
    let mut device = Device::start(options, &broadcast, data)?;
    let before = written()?;
    let mut blocks = device.open()?;
    device.commit(&blocks, None)?;
    let opened = written()?;
    let rows = u32::from(broadcast.rows);
    let mut rng = SeededRng::new(options.seed, "loss");
    device.receive(&mut blocks, &broadcast, 0..rows / 2, &mut rng)?;
    let held = blocks.log().synced_total();
    let mut pages = device.pages;
    let lost = device.lose_power()?;
    let mut device = Device::start(options, &broadcast, data)?;
    blocks = device.open()?;
    let over_the_cut = (held, blocks.log().synced_total());
    device.receive(&mut blocks, &broadcast, rows / 2..u32::MAX, &mut rng)?;
    // A block is in the image and not in the journal.
    let job = blocks.next_decode().context("a block that can be solved")?;
    device.ask(StorageCommand::Decode(job))?;
    pages += device.pages;
    drop(device);
    let mut device = Device::start(options, &broadcast, data)?;
    blocks = device.open()?;
    while !blocks.is_assembled() {
        device.solve(&mut blocks)?;
    }
    device.finish()?;
    pages += device.pages;
    let closed = written()?;
    Ok(Cost {
        image: broadcast.layout.image_bytes(),
        reservation: opened.since(before),
        reception: Written { synced: pages * PAGE_BYTES, ..closed.since(opened).since(lost) },
        over_the_cut,
    })
}

/// The object, and what is sent of it.
struct Broadcast {
    layout: ObjectLayout,
    shape: PlanShape,
    image: Vec<u8>,
    /// Source symbols of the longest block.
    rows: u16,
    /// Repair symbols of each block.
    repair: Vec<Vec<Vec<u8>>>,
    loss: u64,
}

impl Broadcast {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let length = u64::from(options.mebibytes) << 20;
        let mut image = vec![0; usize::try_from(length)?];
        SeededRng::new(options.seed, "image").fill_bytes(&mut image);
        let symbols = length.div_ceil(u64::from(SYMBOL_BYTES));
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: length,
            symbol_size: SYMBOL_BYTES,
            source_blocks: u8::try_from(symbols.div_ceil(LONGEST_BLOCK))?,
            sub_blocks: 1,
            alignment: 8,
        })
        .ok()
        .context("valid parameters")?;
        let layout = ObjectLayout::new(h16(&[b"wear"]), sha256(&[&image]), oti);
        let shape = PlanShape::for_loss(oti, oti.partition().largest(), 30)?;
        let (repair, loss) = (Vec::new(), options.loss.into());
        let mut broadcast = Self { layout, shape, image, rows: 0, repair, loss };
        for sbn in (0..broadcast.layout.blocks()).map(Sbn) {
            let needed = broadcast.layout.block_symbols(sbn).context("a block")?;
            broadcast.rows = broadcast.rows.max(u16::try_from(needed)?);
            let encoder = Encoder::new(&oti, sbn, broadcast.block(sbn)?).context("an encoder")?;
            // Twice what is lost, and some.
            let repair = needed * options.loss / 50 + 20;
            let mut symbols = Vec::new();
            encoder.for_each_symbol(needed..needed + repair, &mut |_, octets| {
                symbols.push(octets.to_vec());
            });
            broadcast.repair.push(symbols);
        }
        Ok(broadcast)
    }

    fn block(&self, sbn: Sbn) -> anyhow::Result<&[u8]> {
        let place = self.layout.block_place(sbn).context("a block")?;
        let from = usize::try_from(place.offset)?;
        self.image.get(from..from + usize::try_from(place.octets)?).context("its octets")
    }

    fn symbol(&self, sbn: Sbn, esi: Esi) -> anyhow::Result<Option<Vec<u8>>> {
        let needed = self.layout.block_symbols(sbn).context("a block")?;
        if let Some(repair) = esi.0.checked_sub(needed) {
            let block = self.repair.get(usize::try_from(sbn.0)?).context("a block")?;
            return Ok(block.get(usize::try_from(repair)?).cloned());
        }
        let size = self.layout.symbol_size();
        let from = usize::try_from(esi.0)? * size;
        let octets = self.block(sbn)?.get(from..).context("a symbol")?;
        let mut symbol = octets.get(..size.min(octets.len())).unwrap_or_default().to_vec();
        symbol.resize(size, 0);
        Ok(Some(symbol))
    }
}

struct Device {
    layout: ObjectLayout,
    limits: Limits,
    objects: std::path::PathBuf,
    journaler: Journaler,
    done: BTreeSet<Sbn>,
    worker: Worker,
    decoder: DecodeWorker,
    /// Writes since the last sync: log, offset, octets.
    unsynced: Vec<(u32, u64, usize)>,
    /// Table symbols that are taken beside the others.
    tables: TableLog,
    /// Pages that syncs had to put on the medium.
    pages: u64,
}

impl Device {
    fn start(options: &Options, broadcast: &Broadcast, data: &Path) -> anyhow::Result<Self> {
        let directory = DataDir::open(data)?;
        let [a, b] = directory.read_journal()?;
        let (journaler, state) = Journaler::recover::<JournalState>([&a, &b])?;
        let objects = state.into_iter().flat_map(|state| state.objects);
        Ok(Self {
            layout: broadcast.layout.clone(),
            limits: Limits { flush_bytes: options.flush_bytes, ..Limits::default() },
            objects: directory.objects(),
            journaler,
            done: objects.flat_map(|object| object.done()).collect(),
            decoder: DecodeWorker::new(&directory),
            worker: Worker::new(directory),
            unsynced: Vec::new(),
            tables: TableLog::new(
                broadcast.layout.stored_sha256(),
                broadcast.shape,
                kept_segments(&broadcast.shape),
            ),
            pages: 0,
        })
    }

    fn open(&mut self) -> anyhow::Result<Blocks> {
        let opened = self.ask(StorageCommand::Open(self.layout.clone()))?;
        let Completion::Recovered(_, recovered) = opened else { bail!("{opened:?}") };
        self.tables.recover(&recovered.tables);
        let (layout, limits) = (self.layout.clone(), self.limits);
        let mut log = SymbolLog::recovered(layout, limits, &recovered, &self.done, &[]);
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

    /// Receives rows of symbols over all blocks, until there is enough of each.
    fn receive(
        &mut self,
        blocks: &mut Blocks,
        broadcast: &Broadcast,
        rows: std::ops::Range<u32>,
        rng: &mut SeededRng,
    ) -> anyhow::Result<()> {
        for esi in rows.map(Esi) {
            if blocks.has_enough() {
                break;
            }
            let mut ended = true;
            for sbn in (0..self.layout.blocks()).map(Sbn) {
                let Some(symbol) = broadcast.symbol(sbn, esi).unwrap_or_default() else { continue };
                ended = false;
                self.take_table(blocks, broadcast, sbn, esi);
                if rng.below(100) < broadcast.loss {
                    continue;
                }
                let tag = self.layout.tag(sbn, esi, &symbol);
                blocks.log_mut().insert(Mono(0), sbn, esi, tag, &symbol);
                self.drain(blocks)?;
            }
            if ended {
                bail!("the repair symbols did not suffice");
            }
        }
        if blocks.has_enough() {
            blocks.log_mut().flush();
            self.drain(blocks)?;
        }
        Ok(())
    }

    /// A table takes Kseg symbols, which come evenly over the symbols of a segment.
    fn take_table(&mut self, blocks: &mut Blocks, broadcast: &Broadcast, sbn: Sbn, esi: Esi) {
        let Some(index) = broadcast.shape.index_of(sbn, esi) else { return };
        let source = u64::from(broadcast.shape.table_source_symbols());
        let every = u64::from(broadcast.shape.parameters().segment_symbols) / source;
        let segment = broadcast.shape.segment_of(index).unwrap_or(Sbn(0));
        let symbol = vec![0x5a; usize::from(broadcast.shape.parameters().table_symbol_bytes)];
        if index.is_multiple_of(every)
            && let Some((offset, octets)) = self.tables.store(segment, Esi(0), &symbol)
        {
            blocks.log_mut().store_tables(offset, octets);
        }
    }

    fn drain(&mut self, blocks: &mut Blocks) -> anyhow::Result<()> {
        while let Some(output) = blocks.log_mut().poll_output() {
            match &output {
                LogOutput::Write { file, offset, octets, .. } => {
                    self.unsynced.push((*file, *offset, octets.len()));
                }
                LogOutput::Tables { offset, octets } => {
                    self.unsynced.push((TABLES, *offset, octets.len()));
                }
                LogOutput::Flush(_) => {}
            }
            self.worker.handle(StorageCommand::Log(self.layout.object_key(), output));
            match self.worker.poll_completion() {
                Some(Completion::Flushed(_, ticket)) => {
                    blocks.log_mut().handle_flushed(ticket);
                    let written = std::mem::take(&mut self.unsynced);
                    let pages = written.into_iter().flat_map(|(file, offset, octets)| {
                        pages(offset, octets as u64).map(move |page| (file, page))
                    });
                    self.pages += pages.collect::<BTreeSet<_>>().len() as u64;
                }
                Some(other) => bail!("{other:?}"),
                None => {}
            }
        }
        Ok(())
    }

    /// The power goes: what was not synced is zeros. Returns what that wrote, which no device
    /// would.
    fn lose_power(self) -> anyhow::Result<Written> {
        use std::os::unix::fs::FileExt as _;
        let before = written()?;
        for (file, offset, octets) in self.unsynced.iter().filter(|(file, ..)| *file != TABLES) {
            let path = self.objects.join(self.layout.directory_name()).join(format!("log.{file}"));
            let log = std::fs::File::options().write(true).open(path)?;
            log.write_all_at(&vec![0; *octets], *offset)?;
            log.sync_data()?;
        }
        Ok(written()?.since(before))
    }

    fn solve(&mut self, blocks: &mut Blocks) -> anyhow::Result<()> {
        let job = blocks.next_decode().context("a block that can be solved")?;
        let answer = self.ask(StorageCommand::Decode(job))?;
        let Completion::Decoded(_, sbn, outcome) = answer else { bail!("{answer:?}") };
        blocks.handle_decoded(sbn, &outcome);
        if outcome != DecodeOutcome::Done {
            bail!("block {sbn:?}: {outcome:?}");
        }
        self.commit(blocks, Some(sbn))?;
        blocks.handle_block_done(sbn);
        Ok(())
    }

    fn commit(&mut self, blocks: &Blocks, solved: Option<Sbn>) -> anyhow::Result<()> {
        self.done.extend(solved);
        let key = blocks.log().layout().object_key().0.to_vec();
        let mut progress = ObjectProgress { object_key: key, ..ObjectProgress::default() };
        self.done.iter().for_each(|sbn| progress.mark_done(*sbn));
        let state = JournalState { objects: vec![progress], ..JournalState::default() };
        let write = self.journaler.write(&state)?;
        let answer = self.ask(StorageCommand::Journal(write))?;
        let Completion::JournalWritten(generation) = answer else { bail!("{answer:?}") };
        self.journaler.handle_written(generation);
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let answer = self.ask(StorageCommand::VerifyImage(self.layout.clone()))?;
        let Completion::ImageVerified(_, VerifyOutcome::Ready { .. }) = answer else {
            bail!("{answer:?}")
        };
        Ok(())
    }

    fn ask(&mut self, command: StorageCommand) -> anyhow::Result<Completion> {
        self.pages += match &command {
            StorageCommand::Decode(job) => {
                let place = job.layout.block_place(job.sbn).context("a block")?;
                pages(place.offset, place.octets).count() as u64
            }
            StorageCommand::WriteImage(_, offset, octets) => {
                pages(*offset, octets.len() as u64).count() as u64
            }
            StorageCommand::Journal(write) => pages(0, write.octets.len() as u64).count() as u64,
            StorageCommand::Open(_)
            | StorageCommand::Log(..)
            | StorageCommand::WriteFile(..)
            | StorageCommand::WriteOptionalFile(..)
            | StorageCommand::RemoveFile(_)
            | StorageCommand::VerifyImage(_)
            | StorageCommand::VerifyKept(..)
            | StorageCommand::Reserve(..)
            | StorageCommand::Drop(_)
            | StorageCommand::Discard(_)
            | StorageCommand::RemoveOtherObjects(_) => 0,
        };
        self.worker.handle(command);
        if let Some(job) = self.worker.poll_job() {
            return Ok(self.decoder.run(job));
        }
        self.worker.poll_completion().context("an answer")
    }
}

impl Written {
    fn since(self, before: Self) -> Self {
        Self {
            asked: self.asked.saturating_sub(before.asked),
            synced: self.synced.saturating_sub(before.synced),
            dirtied: self.dirtied.saturating_sub(before.dirtied),
        }
    }
}

/// Returns what this process has written so far, as the kernel counts it.
fn written() -> anyhow::Result<Written> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let count = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        anyhow::Ok(line.context("the kernel's count")?.parse::<u64>()?)
    };
    Ok(Written { asked: count("wchar")?, synced: 0, dirtied: count("write_bytes")? })
}

fn pages(offset: u64, octets: u64) -> std::ops::Range<u64> {
    offset / PAGE_BYTES..(offset + octets).div_ceil(PAGE_BYTES)
}

const PAGE_BYTES: u64 = 4096;
/// Stands for the file of table symbols where logs are numbers.
const TABLES: u32 = u32::MAX;
const SYMBOL_BYTES: u16 = 1408;
/// Source symbols of a block at most: what the decoder takes.
const LONGEST_BLOCK: u64 = 8192;
