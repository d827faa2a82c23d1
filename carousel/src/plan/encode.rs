//! Encoding of an object into a plan: source blocks, symbols, tables, paths.
//!
//! Each source block is read, coded, hashed and written at its computed places by one of a bounded
//! number of threads; then the tables over the leaves; then the paths, for which all tables must
//! be there; at last the head. Memory: a leaf of 16 octets for each symbol, and about four source
//! blocks for each thread.

mod blocks;

use std::{io, num::NonZeroUsize};

use proto::{
    crypto::Hash16,
    flute::{
        alc::PayloadId,
        ext::{self, ExtensionWriter},
    },
    ids::{Esi, Sbn},
    trust::plan::{NodeTree, PlanHeader, TableProof, table_node, table_symbols},
};

use crate::plan::{
    file,
    schedule::{Record, Schedule},
};

/// The image, read from several threads.
pub trait ReadAt: Sync {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    ///
    /// Any error of the storage; an image that ends early is an error too.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// The plan file, written from several threads.
pub trait WriteAt: Sync {
    /// Writes `octets` at `offset`.
    ///
    /// # Errors
    ///
    /// Any error of the storage.
    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()>;
}

/// The input of [`write_plan`].
pub struct PlanJob<'a> {
    /// The order and the offsets of the records.
    pub schedule: Schedule,
    /// The key of the hashes of leaves and nodes.
    pub object_key: Hash16,
    /// The image.
    pub image: &'a dyn ReadAt,
    /// The plan file.
    pub plan: &'a dyn WriteAt,
    /// Threads that code blocks.
    pub threads: NonZeroUsize,
    /// Progress function: receives the number of further symbols written, from several threads.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// Writes all records and the head of a plan; returns its header.
///
/// # Errors
///
/// The first error of the storage.
///
/// # Panics
///
/// Never: shape, schedule and tree belong together.
pub fn write_plan(job: &PlanJob<'_>) -> io::Result<PlanHeader> {
    let leaves = blocks::write_data(job)?;
    let nodes = write_tables(job, &leaves)?;
    let shape = *job.schedule.shape();
    let tree = NodeTree::new(&shape, nodes).expect("one node was made for each table symbol");
    write_paths(job, &tree)?;
    let header = PlanHeader::new(shape, job.object_key, &tree).expect("the tree is of this shape");
    job.plan.write_at(0, &file::emit_head(&header.emit()))?;
    Ok(header)
}

/// Writes the table symbols of every segment, without their paths; returns their nodes.
fn write_tables(job: &PlanJob<'_>, leaves: &[Hash16]) -> io::Result<Vec<Hash16>> {
    let shape = job.schedule.shape();
    let mut nodes = Vec::new();
    let mut record = Vec::new();
    for segment in (0..u32::from(shape.segments())).map(Sbn) {
        let range = shape.segment(segment).expect("the segment exists");
        let as_index = |place: u64| usize::try_from(place).expect("leaves are in memory");
        let leaves = leaves.get(as_index(range.start)..as_index(range.end));
        let symbols = leaves.and_then(|leaves| table_symbols(shape, segment, leaves));
        let symbols = symbols.expect("a segment has as many leaves as symbols");
        for (esi, symbol) in (0..).map(Esi).zip(symbols) {
            nodes.push(table_node(&job.object_key, segment, esi, &symbol));
            record.clear();
            payload_id(segment, esi, &mut record);
            record.extend_from_slice(&symbol);
            let offset = offset_of(&job.schedule, Record::Table { segment, esi });
            job.plan.write_at(offset + job.schedule.auth_bytes(), &record)?;
        }
    }
    Ok(nodes)
}

/// Writes the EXT_AUTH in front of every table symbol.
fn write_paths(job: &PlanJob<'_>, tree: &NodeTree) -> io::Result<()> {
    let shape = job.schedule.shape();
    let (mut proof, mut extension) = (Vec::new(), Vec::new());
    for segment in (0..u32::from(shape.segments())).map(Sbn) {
        for esi in (0..shape.table_symbols_per_segment()).map(Esi) {
            let index = shape.table_index(segment, esi).expect("the plan holds this symbol");
            proof.clear();
            TableProof::emit(tree, index, &mut proof);
            extension.clear();
            ExtensionWriter::new(&mut extension)
                .variable(ext::AUTH, &proof)
                .expect("a path has at most 11 hashes");
            let offset = offset_of(&job.schedule, Record::Table { segment, esi });
            job.plan.write_at(offset, &extension)?;
        }
    }
    Ok(())
}

fn offset_of(schedule: &Schedule, record: Record) -> u64 {
    schedule.offset(record).expect("the plan holds this symbol")
}

fn payload_id(sbn: Sbn, esi: Esi, out: &mut Vec<u8>) {
    PayloadId { sbn, esi }
        .emit(proto::fec::ENCODING_ID_RAPTORQ, out)
        .expect("blocks and symbols of a plan fit a payload id");
}

#[cfg(test)]
pub(crate) mod tests;
