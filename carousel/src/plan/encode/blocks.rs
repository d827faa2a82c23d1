//! Source blocks to data records, by a bounded number of threads.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use proto::{
    crypto::Hash16,
    fec::{codec::BlockEncoder as _, raptorq_crate::Encoder},
    ids::Sbn,
    trust::plan::leaf,
};

use super::{PlanJob, offset_of, payload_id};
use crate::plan::schedule::Record;

/// Symbols between two calls of the progress function.
const PROGRESS_STEP: u64 = 256;

/// Writes the data records of all blocks; returns the leaves in plan order.
pub(super) fn write_data(job: &PlanJob<'_>) -> io::Result<Vec<Hash16>> {
    let shape = job.schedule.shape();
    let count = usize::try_from(shape.leaves()).expect("leaves fit into memory");
    let leaves = Mutex::new(vec![Hash16([0; 16]); count]);
    let blocks = shape.partition().blocks();
    let next = AtomicU32::new(0);
    let failed = AtomicBool::new(false);
    let work = || -> io::Result<()> {
        while !failed.load(Ordering::Relaxed) {
            let sbn = Sbn(next.fetch_add(1, Ordering::Relaxed));
            if sbn.0 >= blocks {
                break;
            }
            let made = write_block(job, sbn).inspect_err(|_| failed.store(true, Ordering::Relaxed));
            place_leaves(
                &mut leaves.lock().unwrap_or_else(PoisonError::into_inner),
                sbn,
                blocks,
                made?,
            );
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..job.threads.get()).map(|_| scope.spawn(work)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| worker.join().expect("no panic");
        workers.into_iter().map(join).collect::<io::Result<Vec<()>>>()
    })?;
    Ok(leaves.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Stores the leaves of one block at their indexes in the plan: every `blocks`-th from `sbn` on.
fn place_leaves(leaves: &mut [Hash16], sbn: Sbn, blocks: u32, made: Vec<Hash16>) {
    let as_index = |number: u32| usize::try_from(number).expect("blocks are at most 255");
    let places = leaves.iter_mut().skip(as_index(sbn.0)).step_by(as_index(blocks));
    places.zip(made).for_each(|(place, leaf)| *place = leaf);
}

/// Codes and writes one block; returns its leaves in the order of their symbols.
fn write_block(job: &PlanJob<'_>, sbn: Sbn) -> io::Result<Vec<Hash16>> {
    let shape = job.schedule.shape();
    let symbols = shape.partition().symbols_of(sbn).expect("the block exists");
    let encoder = {
        let block = read_block(job, sbn)?;
        Encoder::new(shape.oti(), sbn, &block).expect("the block has its length")
    };
    let all = symbols + shape.parameters().repair_per_block;
    let mut leaves = Vec::new();
    let mut record = Vec::new();
    let mut written = Ok(());
    let mut unreported = 0;
    encoder.for_each_symbol(0..all, &mut |esi, symbol| {
        if written.is_err() {
            return;
        }
        leaves.push(leaf(&job.object_key, sbn, esi, symbol));
        record.clear();
        payload_id(sbn, esi, &mut record);
        record.extend_from_slice(symbol);
        let offset = offset_of(&job.schedule, Record::Data { sbn, esi });
        written = job.plan.write_at(offset, &record);
        unreported += 1;
        if unreported == PROGRESS_STEP {
            (job.progress)(unreported);
            unreported = 0;
        }
    });
    (job.progress)(unreported);
    written.map(|()| leaves)
}

fn read_block(job: &PlanJob<'_>, sbn: Sbn) -> io::Result<Vec<u8>> {
    let shape = job.schedule.shape();
    let parameters = shape.oti().parameters();
    let symbol_size = u64::from(parameters.symbol_size);
    let first = shape.partition().first_symbol(sbn).expect("the block exists");
    let symbols = shape.partition().symbols_of(sbn).expect("the block exists");
    let start = first * symbol_size;
    let end = (start + u64::from(symbols) * symbol_size).min(parameters.transfer_length);
    let length = usize::try_from(end - start).expect("a block fits into memory");
    let mut block = vec![0; length];
    job.image.read_at(start, &mut block)?;
    Ok(block)
}
