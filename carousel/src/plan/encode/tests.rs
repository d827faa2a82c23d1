use std::sync::Mutex;

use proto::{
    crypto::sha256,
    fec::{
        codec::BlockDecoder as _,
        oti::{RaptorQOti, RaptorQParameters},
        raptorq_crate::Decoder,
    },
    flute::lct::Extensions,
    ids::ComponentId,
    trust::{
        PlannedObject,
        plan::{PlanParameters, PlanShape, leaves_of_table, object_key},
    },
};

use super::*;
use crate::plan::schedule::{Cursor, HEAD_BYTES};

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let from = self.get(start..start + buffer.len());
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl WriteAt for Mutex<Vec<u8>> {
    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let mut file = self.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let end = start + octets.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(octets);
        Ok(())
    }
}

/// A disk that is full.
struct Full;

impl WriteAt for Full {
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

/// A small plan with a real path: three blocks, M = 85 table symbols.
pub(crate) struct Sample {
    pub(crate) image: Vec<u8>,
    pub(crate) schedule: Schedule,
    pub(crate) header: PlanHeader,
    pub(crate) file: Vec<u8>,
    pub(crate) object: PlannedObject,
}

pub(crate) fn sample() -> Sample {
    let image: Vec<u8> = (0..64 * 100 - 5_u32).map(|i| (i * i % 251).to_le_bytes()[0]).collect();
    let oti = RaptorQOti::new(RaptorQParameters {
        transfer_length: u64::try_from(image.len()).unwrap(),
        symbol_size: 64,
        source_blocks: 3,
        sub_blocks: 1,
        alignment: 8,
    })
    .unwrap();
    let parameters = PlanParameters {
        repair_per_block: 20,
        segment_symbols: 10,
        table_repair: 2,
        table_symbol_bytes: 64,
    };
    let shape = PlanShape::new(oti, parameters).unwrap();
    let stored_sha256 = sha256(&[&image]);
    let object_key = object_key(&stored_sha256, &oti);
    let schedule = Schedule::new(shape);
    let plan = Mutex::new(Vec::new());
    let header = write_plan(&PlanJob {
        schedule,
        object_key,
        image: &image,
        plan: &plan,
        threads: NonZeroUsize::new(2).unwrap(),
        progress: &|_| {},
    })
    .unwrap();
    let object = PlannedObject {
        component: ComponentId(0),
        oti,
        repair_per_block: 20,
        plan_root: header.root(),
        stored_sha256,
        object_key,
    };
    Sample { image, schedule, header, file: plan.into_inner().unwrap(), object }
}

fn record(sample: &Sample, record: Record) -> &[u8] {
    let start = usize::try_from(sample.schedule.offset(record).unwrap()).unwrap();
    let octets = match record {
        Record::Data { .. } => sample.schedule.data_bytes(),
        Record::Table { .. } => sample.schedule.table_bytes(),
    };
    &sample.file[start..start + usize::try_from(octets).unwrap()]
}

#[test]
fn the_head_holds_the_header_and_the_file_has_its_computed_length() {
    let sample = sample();
    assert_eq!(u64::try_from(sample.file.len()).unwrap(), sample.schedule.file_bytes());
    let head = sample.file[..usize::try_from(HEAD_BYTES).unwrap()].try_into().unwrap();
    let octets = file::parse_head(&head).unwrap();
    assert_eq!(PlanHeader::parse(&octets, &sample.object), Ok(sample.header));
}

#[test]
fn every_table_symbol_proves_itself_and_the_leaves_are_those_of_the_records() {
    let sample = sample();
    let shape = *sample.schedule.shape();
    assert!(shape.proof_depth() > 0, "the path is a real one");
    let auth = usize::try_from(sample.schedule.auth_bytes()).unwrap();
    for segment in (0..u32::from(shape.segments())).map(Sbn) {
        let mut decoder = Decoder::new(shape.table_oti(), segment).unwrap();
        for esi in (0..shape.table_symbols_per_segment()).map(Esi) {
            let octets = record(&sample, Record::Table { segment, esi });
            let (extension, symbol_record) = octets.split_at(auth);
            let content = Extensions::new(extension).unwrap().auth().unwrap();
            let proof = TableProof::parse(content).unwrap();
            assert_eq!(Some(proof.index()), shape.table_index(segment, esi));
            assert_eq!(symbol_record[..4], (segment.0 << 24 | esi.0).to_be_bytes());
            let key = sample.header.object_key();
            assert!(proof.leads_to(sample.header.cap(), key, segment, esi, &symbol_record[4..]));
            // The source symbols alone need no more of the codec than itself.
            decoder.push(esi, &symbol_record[4..]);
        }
        let table = decoder.decode().unwrap();
        for (index, expected) in shape.segment(segment).unwrap().zip(leaves_of_table(&table)) {
            let (sbn, esi) = shape.symbol_at(index).unwrap();
            let octets = record(&sample, Record::Data { sbn, esi });
            assert_eq!(octets[..4], (sbn.0 << 24 | esi.0).to_be_bytes());
            let leaf = proto::trust::plan::leaf(sample.header.object_key(), sbn, esi, &octets[4..]);
            assert_eq!(leaf, expected);
        }
    }
}

#[test]
fn the_second_half_of_a_pass_makes_the_image() {
    let sample = sample();
    let shape = *sample.schedule.shape();
    let mut image = Vec::new();
    for sbn in (0..3).map(Sbn) {
        let mut decoder = Decoder::new(shape.oti(), sbn).unwrap();
        let symbols = shape.partition().symbols_of(sbn).unwrap();
        for esi in (symbols + 20 - symbols.min(50)..symbols + 20).map(Esi) {
            decoder.push(esi, &record(&sample, Record::Data { sbn, esi })[4..]);
        }
        image.extend(decoder.decode().unwrap());
    }
    image.truncate(sample.image.len());
    assert_eq!(image, sample.image);
}

#[test]
fn records_are_written_in_the_order_in_which_they_are_sent() {
    let sample = sample();
    let mut cursor = Cursor::start_of(Sbn(3));
    let mut offset = sample.schedule.offset(Record::Data { sbn: Sbn(0), esi: Esi(10) }).unwrap();
    while let Some(next) = sample.schedule.next(&mut cursor) {
        assert_eq!(sample.schedule.offset(next), Some(offset));
        offset += u64::try_from(record(&sample, next).len()).unwrap();
    }
}

#[test]
fn an_error_of_the_storage_ends_the_work() {
    let Sample { image, schedule, object, .. } = sample();
    let job = PlanJob {
        schedule,
        object_key: object.object_key,
        image: &image,
        plan: &Full,
        threads: NonZeroUsize::new(2).unwrap(),
        progress: &|_| {},
    };
    assert_eq!(write_plan(&job).unwrap_err().kind(), io::ErrorKind::StorageFull);
    let short = image[..100].to_vec();
    let plan = Mutex::new(Vec::new());
    let job = PlanJob { image: &short, plan: &plan, ..job };
    assert_eq!(write_plan(&job).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}
