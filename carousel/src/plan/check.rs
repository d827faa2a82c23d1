//! Comparison of a whole plan file with the signed campaign.
//!
//! The tables of a plan follow from its data symbols, and its header from the tables: both are made
//! again from the symbols in the file. A header that is the signed one shows that every data symbol
//! is; then each table record is compared with the one made. Memory: a leaf of 16 octets for each
//! data symbol.

use std::io;

use proto::{
    crypto::{Hash16, h16},
    flute::{
        alc::PayloadId,
        ext::{self, ExtensionWriter},
    },
    ids::{Esi, Sbn},
    trust::plan::{NodeTree, PlanHeader, TableProof, leaf, table_node, table_symbols},
};
use thiserror::Error;

use crate::plan::{
    encode::ReadAt,
    runs::RUN_BYTES,
    schedule::{Cursor, HEAD_BYTES, Record, Schedule},
};

/// The input of [`check_plan`].
pub struct CheckJob<'a> {
    /// The order and the offsets of the records.
    pub schedule: Schedule,
    /// The key of the hashes of leaves and nodes.
    pub object_key: Hash16,
    /// The plan header, whose hash is the signed plan root.
    pub plan_header: &'a [u8],
    /// The plan file.
    pub plan: &'a dyn ReadAt,
    /// Progress function: receives the octets read so far; returns whether to go on.
    pub progress: &'a dyn Fn(u64) -> Progress,
}

/// Decision of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Go on.
    Continue,
    /// End without a result.
    Stop,
}

/// The reason why a plan is not shown to be the signed one.
#[derive(Debug, Error)]
pub enum CheckError {
    /// It is another one.
    #[error("{0}: copy the package again")]
    Damaged(String),
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// The caller ended the comparison.
    #[error("the comparison was ended")]
    Stopped,
}

/// Compares a plan with its header; returns the hashes of the runs of its file, in order.
///
/// # Errors
///
/// [`CheckError`].
pub fn check_plan(job: &CheckJob<'_>) -> Result<Vec<Hash16>, CheckError> {
    let mut input = Sequential::new(job);
    input.skip(HEAD_BYTES)?;
    let nodes = read_data(job, &mut input)?;
    let runs = input.finish()?;
    let shape = *job.schedule.shape();
    let tree = NodeTree::new(&shape, nodes).expect("one node was made for each table symbol");
    let header = PlanHeader::new(shape, job.object_key, &tree).expect("the tree is of this shape");
    if header.emit() != job.plan_header {
        return Err(CheckError::Damaged("its data symbols are not the signed ones".to_owned()));
    }
    check_tables(job, &tree)?;
    Ok(runs)
}

/// Reads all records front to back; returns the nodes of the tables over the data symbols.
fn read_data(job: &CheckJob<'_>, input: &mut Sequential<'_>) -> Result<Vec<Hash16>, CheckError> {
    let (schedule, shape) = (job.schedule, job.schedule.shape());
    let (mut nodes, mut record, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for segment in (0..u32::from(shape.segments())).map(Sbn) {
        let mut leaves = Vec::new();
        let mut cursor = Cursor::start_of(segment);
        while let Some(next) = schedule.next(&mut cursor) {
            let Record::Data { sbn, esi } = next else {
                input.skip(schedule.table_bytes())?;
                continue;
            };
            input.take(schedule.data_bytes(), &mut record)?;
            expected.clear();
            payload_id(sbn, esi, &mut expected);
            let symbol = record.strip_prefix(expected.as_slice()).ok_or_else(|| {
                let text = format!("the record of block {}, symbol {} is changed", sbn.0, esi.0);
                CheckError::Damaged(text)
            })?;
            leaves.push(leaf(&job.object_key, sbn, esi, symbol));
        }
        let symbols = table_symbols(shape, segment, &leaves).expect("all symbols were read");
        let of =
            |(esi, symbol): (u32, Vec<u8>)| table_node(&job.object_key, segment, Esi(esi), &symbol);
        nodes.extend((0..).zip(symbols).map(of));
    }
    Ok(nodes)
}

/// Compares each table record: its path, its payload id, and its symbol by its node.
fn check_tables(job: &CheckJob<'_>, tree: &NodeTree) -> Result<(), CheckError> {
    let (schedule, shape) = (job.schedule, job.schedule.shape());
    let length = usize::try_from(schedule.table_bytes()).expect("a record is a packet's content");
    let (mut record, mut proof, mut expected) = (vec![0; length], Vec::new(), Vec::new());
    for segment in (0..u32::from(shape.segments())).map(Sbn) {
        for esi in (0..shape.table_symbols_per_segment()).map(Esi) {
            let index = shape.table_index(segment, esi).expect("the plan holds this symbol");
            proof.clear();
            TableProof::emit(tree, index, &mut proof);
            expected.clear();
            ExtensionWriter::new(&mut expected)
                .variable(ext::AUTH, &proof)
                .expect("a path has at most 11 hashes");
            payload_id(segment, esi, &mut expected);
            let offset = schedule.offset(Record::Table { segment, esi });
            job.plan.read_at(offset.expect("the plan holds this symbol"), &mut record)?;
            let proof = TableProof::parse(&proof).expect("it was just made");
            let is_right = record.strip_prefix(expected.as_slice()).is_some_and(|symbol| {
                proof.leads_to(tree.cap(), &job.object_key, segment, esi, symbol)
            });
            if !is_right {
                let text = format!("table symbol {} of segment {} is changed", esi.0, segment.0);
                return Err(CheckError::Damaged(text));
            }
        }
    }
    Ok(())
}

fn payload_id(sbn: Sbn, esi: Esi, out: &mut Vec<u8>) {
    PayloadId { sbn, esi }
        .emit(proto::fec::ENCODING_ID_RAPTORQ, out)
        .expect("blocks and symbols of a plan fit a payload id");
}

/// The file, read once from front to back and hashed run by run.
struct Sequential<'a> {
    plan: &'a dyn ReadAt,
    progress: &'a dyn Fn(u64) -> Progress,
    length: u64,
    /// Octets that were read.
    end: u64,
    run: Vec<u8>,
    /// Octets of the run that were taken.
    taken: usize,
    runs: Vec<Hash16>,
}

impl<'a> Sequential<'a> {
    fn new(job: &CheckJob<'a>) -> Self {
        Self {
            plan: job.plan,
            progress: job.progress,
            length: job.schedule.file_bytes(),
            end: 0,
            run: Vec::new(),
            taken: 0,
            runs: Vec::new(),
        }
    }

    /// Takes the next octets, in place of what `out` holds.
    fn take(&mut self, octets: u64, out: &mut Vec<u8>) -> Result<(), CheckError> {
        out.clear();
        self.advance(octets, Some(out))
    }

    fn skip(&mut self, octets: u64) -> Result<(), CheckError> {
        self.advance(octets, None)
    }

    fn advance(&mut self, octets: u64, mut out: Option<&mut Vec<u8>>) -> Result<(), CheckError> {
        let mut missing = usize::try_from(octets).expect("records are short");
        while missing > 0 {
            if self.taken == self.run.len() {
                self.next_run()?;
            }
            let remaining = self.run.get(self.taken..).unwrap_or_default();
            let part = remaining.get(..missing.min(remaining.len())).unwrap_or_default();
            if let Some(out) = out.as_deref_mut() {
                out.extend_from_slice(part);
            }
            missing -= part.len();
            self.taken += part.len();
        }
        Ok(())
    }

    fn next_run(&mut self) -> Result<(), CheckError> {
        let length = (self.length - self.end).min(RUN_BYTES);
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.run.resize(usize::try_from(length).expect("64 KiB"), 0);
        self.plan.read_at(self.end, &mut self.run)?;
        self.end += length;
        self.taken = 0;
        self.runs.push(h16(&[&self.run]));
        match (self.progress)(self.end) {
            Progress::Continue => Ok(()),
            Progress::Stop => Err(CheckError::Stopped),
        }
    }

    fn finish(mut self) -> Result<Vec<Hash16>, CheckError> {
        while self.end < self.length {
            self.next_run()?;
        }
        Ok(self.runs)
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, sync::Mutex};

    use super::*;
    use crate::plan::encode::{
        PlanJob,
        tests::{Sample, sample},
        write_plan,
    };

    fn check(sample: &Sample) -> Result<Vec<Hash16>, CheckError> {
        check_plan(&CheckJob {
            schedule: sample.schedule,
            object_key: sample.object.object_key,
            plan_header: &sample.header.emit(),
            plan: &sample.file,
            progress: &|_| Progress::Continue,
        })
    }

    #[test]
    fn a_plan_as_written_is_the_signed_one_and_its_runs_are_hashed() {
        let sample = sample();
        let runs = check(&sample).unwrap();
        let size = usize::try_from(RUN_BYTES).unwrap();
        let expected: Vec<_> = sample.file.chunks(size).map(|run| h16(&[run])).collect();
        assert_eq!(runs, expected);
    }

    #[test]
    fn each_changed_octet_behind_the_head_is_found() {
        let mut sample = sample();
        let head = usize::try_from(HEAD_BYTES).unwrap();
        for at in (head..sample.file.len()).step_by(7) {
            sample.file[at] ^= 0x10;
            assert!(matches!(check(&sample), Err(CheckError::Damaged(_))), "{at}");
            sample.file[at] ^= 0x10;
        }
        sample.file.pop();
        assert!(matches!(check(&sample), Err(CheckError::Io(_))));
    }

    #[test]
    fn other_symbols_with_tables_of_their_own_behind_the_signed_head_are_found() {
        let mut sample = sample();
        sample.image[0] ^= 1;
        let plan = Mutex::new(Vec::new());
        write_plan(&PlanJob {
            schedule: sample.schedule,
            object_key: sample.object.object_key,
            image: &sample.image,
            plan: &plan,
            threads: NonZeroUsize::MIN,
            progress: &|_| {},
        })
        .unwrap();
        let head = usize::try_from(HEAD_BYTES).unwrap();
        let other = plan.into_inner().unwrap();
        sample.file.splice(head.., other[head..].iter().copied());
        assert!(matches!(check(&sample), Err(CheckError::Damaged(_))));
    }

    #[test]
    fn a_comparison_that_is_ended_has_no_result() {
        let sample = sample();
        let ended = check_plan(&CheckJob {
            schedule: sample.schedule,
            object_key: sample.object.object_key,
            plan_header: &sample.header.emit(),
            plan: &sample.file,
            progress: &|_| Progress::Stop,
        });
        assert!(matches!(ended, Err(CheckError::Stopped)));
    }
}
