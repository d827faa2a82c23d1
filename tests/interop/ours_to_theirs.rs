//! A campaign on air, received as plain files by a receiver without support for plans.

use std::{collections::BTreeMap, io, num::NonZeroUsize, sync::Mutex};

use carousel::{
    control::resume_point::ResumePoint,
    flute::session::{AiredObject, FluteSession, Records, SessionSetup, Transmit},
    plan::encode::{PlanJob, ReadAt, WriteAt, write_plan},
    plan::schedule::Schedule,
};
use proto::{
    crypto::{Hash16, sha256},
    fec::{
        codec::BlockEncoder as _,
        oti::{RaptorQOti, RaptorQParameters},
        raptorq_crate::Encoder,
    },
    ids::{CampaignId, ComponentId, Sbn, Tsi},
    time::{Mono, Now},
    trust::{
        PlannedObject,
        plan::{self, PlanHeader, PlanShape},
    },
};

use crate::{
    air,
    peer::{MOMENT, TheirReceiver},
};

const CAMPAIGN: CampaignId = CampaignId([0xc5; 16]);

/// A plan in memory.
#[derive(Default)]
struct Memory(Mutex<Vec<u8>>);

struct Image<'a>(&'a [u8]);

/// The plan files of a session, by object.
struct Plans(Vec<Vec<u8>>);

impl ReadAt for Image<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.0[start..start + buffer.len()]);
        Ok(())
    }
}

impl WriteAt for Memory {
    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let mut file = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let end = (start + octets.len()).max(file.len());
        file.resize(end, 0);
        file[start..start + octets.len()].copy_from_slice(octets);
        Ok(())
    }
}

impl Records for Plans {
    fn read(&mut self, object: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Image(&self.0[object]).read_at(offset, buffer)
    }
}

/// One component as the carousel has it, and what others must receive of it.
struct Component {
    aired: AiredObject,
    plan: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
}

/// Plans an image of `length` octets: twice as many symbols as needed, tables for 30 % loss.
fn component(number: u8, length: usize, block_symbols: u64) -> Component {
    let image = air::octets(length, number.into());
    let symbol_size = 1408;
    let transfer_length = u64::try_from(length).unwrap();
    let symbols = transfer_length.div_ceil(symbol_size.into());
    let oti = RaptorQOti::new(RaptorQParameters {
        transfer_length,
        symbol_size,
        source_blocks: u8::try_from(symbols.div_ceil(block_symbols)).unwrap(),
        sub_blocks: 1,
        alignment: 8,
    })
    .unwrap();
    let repair_per_block = oti.partition().largest();
    let shape = PlanShape::for_loss(oti, repair_per_block, 30).unwrap();
    let schedule = Schedule::new(shape);
    let stored_sha256 = sha256(&[&image]);
    let object_key = plan::object_key(&stored_sha256, &oti);
    let memory = Memory::default();
    let header = write_plan(&PlanJob {
        schedule,
        object_key,
        image: &Image(&image),
        plan: &memory,
        threads: NonZeroUsize::new(2).unwrap(),
        progress: &|_| {},
    })
    .unwrap();
    let object = PlannedObject {
        component: ComponentId(number),
        oti,
        repair_per_block,
        plan_root: header.root(),
        stored_sha256,
        object_key,
    };
    let files = BTreeMap::from([
        (format!("{CAMPAIGN}/{number}.symtab"), tables(&shape, &object_key, &image)),
        (format!("{CAMPAIGN}/{number}.plan"), PlanHeader::emit(&header)),
        (format!("{CAMPAIGN}/{number}.img"), image),
    ]);
    let aired = AiredObject { object, schedule, plan_header: header.emit() };
    Component { aired, plan: memory.0.into_inner().unwrap(), files }
}

/// Returns the table file by the definition: the leaves of each segment, padded to whole symbols.
fn tables(shape: &PlanShape, object_key: &Hash16, image: &[u8]) -> Vec<u8> {
    let oti = shape.oti();
    let symbol_size = u64::from(oti.parameters().symbol_size);
    let mut leaves = vec![Hash16([0; 16]); usize::try_from(shape.leaves()).unwrap()];
    let mut remaining = image;
    for sbn in (0..oti.partition().blocks()).map(Sbn) {
        let symbols = oti.partition().symbols_of(sbn).unwrap();
        let length = usize::try_from(u64::from(symbols) * symbol_size).unwrap();
        let (block, next) = remaining.split_at(length.min(remaining.len()));
        remaining = next;
        let encoder = Encoder::new(oti, sbn, block).unwrap();
        let all = symbols + shape.parameters().repair_per_block;
        encoder.for_each_symbol(0..all, &mut |esi, symbol| {
            let place = usize::try_from(shape.index_of(sbn, esi).unwrap()).unwrap();
            leaves[place] = plan::leaf(object_key, sbn, esi, symbol);
        });
    }
    let mut file = Vec::new();
    for segment in (0..u32::from(shape.segments())).map(Sbn) {
        let range = shape.segment(segment).unwrap();
        let places = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let start = file.len();
        file.extend(leaves[places].iter().flat_map(|leaf| leaf.0));
        file.resize(start + shape.table_bytes(), 0);
    }
    file
}

/// Returns the packets of `passes` passes, one every 5 ms.
fn on_air(components: &[Component], passes: u64) -> Vec<Vec<u8>> {
    let mut plans = Plans(components.iter().map(|component| component.plan.clone()).collect());
    let at = |packets: usize| {
        let millis = 5 * u64::try_from(packets).unwrap();
        Now { mono: Mono(millis * 1_000_000), utc: MOMENT }
    };
    let setup = SessionSetup {
        tsi: Tsi(0xdead_beef),
        campaign: CAMPAIGN,
        objects: components.iter().map(|component| component.aired.clone()).collect(),
        resume_point: ResumePoint::START,
        passes: Some(passes),
    };
    let mut session = FluteSession::new(at(0), setup);
    let mut packets = Vec::new();
    loop {
        let mut packet = Vec::new();
        match session.poll_transmit(at(packets.len()), &mut plans, &mut packet).unwrap() {
            Transmit::Packet => packets.push(packet),
            Transmit::Wait(_) => unreachable!("a plan has no end"),
            Transmit::Closed => return packets,
        }
    }
}

fn expected(components: &[Component]) -> BTreeMap<String, Vec<u8>> {
    components.iter().flat_map(|component| component.files.clone()).collect()
}

/// Compares without printing megabytes.
fn assert_same(received: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    assert!(received.keys().eq(expected.keys()), "complete: {:?}", received.keys());
    for (name, octets) in expected {
        assert!(received[name] == *octets, "{name} differs");
    }
}

#[test]
fn images_tables_and_plan_headers_arrive_as_plain_files_at_any_loss() {
    let components = [component(0, 1_000_003, 256), component(1, 50_000, 8192)];
    let packets = on_air(&components, 1);
    for (loss, seed) in [(0.0, 1), (0.1, 2), (0.1, 3), (0.2, 4), (0.2, 5)] {
        let mut arrived = packets.clone();
        air::lose(&mut arrived, loss, seed);
        let received = TheirReceiver::new().receive(&arrived);
        assert_same(&received, &expected(&components));
    }
}

#[test]
fn a_receiver_that_joins_in_the_middle_of_a_pass_completes_in_the_next() {
    let components = [component(0, 400_000, 128)];
    let packets = on_air(&components, 2);
    for joined in [packets.len() / 10, packets.len() / 4, packets.len() / 2] {
        let mut arrived = packets[joined..].to_vec();
        air::lose(&mut arrived, 0.1, 6);
        let received = TheirReceiver::new().receive(&arrived);
        assert_same(&received, &expected(&components));
    }
}

#[test]
fn images_of_one_octet_to_twenty_megabytes_arrive_out_of_order() {
    for (length, block_symbols) in [(1, 10), (1408 * 5000, 5000), (20_000_000, 5000)] {
        let components = [component(0, length, block_symbols)];
        let mut packets = air::disorder(on_air(&components, 1), 20, 8);
        // Overtaking must not put the packet that closes the session before the last data.
        packets.sort_by_key(|packet| packet[1] & 2);
        air::lose(&mut packets, 0.05, 7);
        let received = TheirReceiver::new().receive(&packets);
        assert_same(&received, &expected(&components));
    }
}
