use std::collections::{BTreeMap, HashMap};

use proto::{
    flute::ext::FdtHeader,
    ids::ComponentId,
    time::{Mono, Utc},
    trust::plan::TableProof,
};

use super::*;
use crate::plan::encode::tests::{Sample, sample};

struct Files(Vec<Vec<u8>>);

impl Records for Files {
    fn read(&mut self, object: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.0[object][start..start + buffer.len()]);
        Ok(())
    }
}

const TSI: Tsi = Tsi(0xdead_beef);

fn at(micros: u64) -> Now {
    Now { mono: Mono(1_000 + micros * 1_000), utc: Utc(1_800_000_000_000 + micros / 1_000) }
}

fn aired(sample: &Sample, component: u8) -> AiredObject {
    AiredObject {
        object: PlannedObject { component: ComponentId(component), ..sample.object },
        schedule: sample.schedule,
        plan_header: sample.header.emit(),
    }
}

fn setup(
    objects: Vec<AiredObject>,
    resume_point: ResumePoint,
    passes: Option<u64>,
) -> SessionSetup {
    SessionSetup { tsi: TSI, campaign: CampaignId([1; 16]), objects, resume_point, passes }
}

/// Runs a session to its end, one packet every 100 microseconds.
fn run(setup: SessionSetup, files: &mut Files) -> Vec<Vec<u8>> {
    let mut session = FluteSession::new(at(0), setup);
    let mut packets = Vec::new();
    loop {
        let now = at(100 * u64::try_from(packets.len()).unwrap());
        let mut packet = vec![0xff; 9];
        match session.poll_transmit(now, files, &mut packet).unwrap() {
            Transmit::Packet => packets.push(packet),
            Transmit::Wait(_) => unreachable!("a plan has no end"),
            Transmit::Closed => break,
        }
    }
    let octets: usize = packets.iter().map(Vec::len).sum();
    assert_eq!(session.sent().octets, u64::try_from(octets).unwrap());
    packets
}

/// The kind of a packet in one letter: f, h, t, d, c, with its ids.
fn kinds(packets: &[Vec<u8>]) -> Vec<(char, u32, u32)> {
    packets
        .iter()
        .map(|packet| {
            let packet = Packet::parse(packet).unwrap();
            assert_eq!(packet.header.tsi, TSI);
            let id = packet.payload.map_or((0, 0), |payload| (payload.id.sbn.0, payload.id.esi.0));
            let kind = match packet.header.toi.map(|toi| toi.0) {
                None => 'c',
                Some(0) => 'f',
                Some(0x10..=0x1f) => 'd',
                Some(0x4000..=0x400f) => 't',
                Some(0x8000..=0x800f) => 'h',
                Some(other) => panic!("TOI {other}"),
            };
            (kind, id.0, id.1)
        })
        .collect()
}

#[test]
fn a_session_introduces_itself_then_follows_the_plan_and_closes() {
    let sample = sample();
    let mut files = Files(vec![sample.file.clone()]);
    let packets = run(setup(vec![aired(&sample, 0)], ResumePoint::START, Some(1)), &mut files);
    let kinds = kinds(&packets);
    let shape = sample.schedule.shape();
    let tables = shape.table_symbols_per_segment();
    assert_eq!(kinds[..4], [('f', 0, 0), ('h', 0, 0), ('h', 0, 0), ('h', 0, 0)]);
    let first: Vec<_> = (0..tables).map(|esi| ('t', 0, esi)).collect();
    let tables = usize::try_from(tables).unwrap();
    assert_eq!(kinds[4..4 + tables], first);
    let data: Vec<_> = kinds.iter().filter(|(kind, ..)| *kind == 'd').collect();
    assert_eq!(u64::try_from(data.len()).unwrap(), shape.leaves());
    assert_eq!(*data[4], ('d', 1, 1));
    assert_eq!(kinds[kinds.len() - 3..], [('c', 0, 0); 3]);
    assert!(packets.iter().all(|packet| packet.len() <= 1472));
}

// test: rfc5775 4.3
#[test]
fn packets_hold_the_symbols_of_the_image_and_proofs_that_hold() {
    let sample = sample();
    let mut files = Files(vec![sample.file.clone()]);
    let packets = run(setup(vec![aired(&sample, 0)], ResumePoint::START, Some(1)), &mut files);
    for octets in &packets {
        let packet = Packet::parse(octets).unwrap();
        let Some(payload) = packet.payload else { continue };
        let PayloadId { sbn, esi } = payload.id;
        match packet.header.toi.unwrap() {
            toi if toi == Toi::tables(ComponentId(0)) => {
                let proof = TableProof::parse(packet.extensions.auth().unwrap()).unwrap();
                let (cap, key) = (sample.header.cap(), sample.header.object_key());
                assert!(proof.leads_to(cap, key, sbn, esi, payload.symbols));
            }
            toi if toi == Toi::object(ComponentId(0)) && sbn == Sbn(0) && esi.0 < 34 => {
                let start = usize::try_from(esi.0 * 64).unwrap();
                assert_eq!(payload.symbols, &sample.image[start..start + 64]);
            }
            toi if toi == Toi::plan_header(ComponentId(0)) => {
                assert_eq!(payload.symbols, sample.header.emit());
            }
            _ => {}
        }
    }
}

// test: rfc6726 5
#[test]
fn parameters_travel_with_headers_tables_and_the_first_symbol_of_a_segment() {
    let sample = sample();
    let mut files = Files(vec![sample.file.clone()]);
    let packets = run(setup(vec![aired(&sample, 0)], ResumePoint::START, Some(1)), &mut files);
    let mut with_parameters = HashMap::new();
    for octets in &packets {
        let packet = Packet::parse(octets).unwrap();
        let Some(toi) = packet.header.toi else { continue };
        if let Some(oti) = packet.extensions.fti(packet.header.codepoint).unwrap() {
            *with_parameters.entry((toi, oti)).or_insert(0) += 1;
        }
    }
    let shape = sample.schedule.shape();
    let segments = usize::from(shape.segments());
    let image = Oti::RaptorQ(sample.object.oti);
    assert_eq!(with_parameters[&(Toi(0x10), image)], segments);
    let tables = usize::try_from(shape.table_symbols_per_segment()).unwrap();
    let table_oti = Oti::RaptorQ(*shape.table_oti());
    // Every table of the preamble, and the first symbol of a table on its way.
    let introduced = sample.schedule.session_preamble(Sbn(0)).count();
    assert!(introduced > tables);
    assert_eq!(with_parameters[&(Toi(0x4000), table_oti)], segments + introduced);
    assert_eq!(with_parameters.len(), 4, "one set of parameters for each object");
}

#[test]
fn a_restart_begins_at_the_boundary_of_the_kept_segment() {
    let sample = sample();
    let mut files = Files(vec![sample.file.clone()]);
    let mut session =
        FluteSession::new(at(0), setup(vec![aired(&sample, 0)], ResumePoint::START, None));
    let mut packet = Vec::new();
    while session.sent().symbols < 27 {
        session.poll_transmit(at(0), &mut files, &mut packet).unwrap();
    }
    let resume_point = session.resume_point();
    assert_eq!((resume_point.segment, resume_point.passes, resume_point.fdt_instance), (2, 0, 1));
    assert_eq!(session.symbol_index(), 27);

    let packets =
        run(setup(vec![aired(&sample, 0)], resume_point.with_reserve(), Some(1)), &mut files);
    let kinds = kinds(&packets);
    assert_eq!(kinds[4], ('t', 2, 0));
    let data: Vec<_> = kinds.iter().filter(|(kind, ..)| *kind == 'd').collect();
    // Symbol 20 of the plan: three blocks, so row 6, block 2. A whole pass follows, with its wrap.
    assert_eq!(*data[0], ('d', 2, 6));
    assert_eq!(u64::try_from(data.len()).unwrap(), sample.schedule.shape().leaves());
    let fdt = Packet::parse(&packets[0]).unwrap().extensions.fdt();
    assert_eq!(fdt, Some(FdtHeader { version: 2, instance_id: 9 }));
}

#[test]
fn a_place_that_the_plan_does_not_have_is_its_beginning() {
    let sample = sample();
    for (component, segment) in [(0, 16), (0, u32::MAX), (3, 1)] {
        let resume_point =
            ResumePoint { component: ComponentId(component), segment, ..ResumePoint::START };
        let session = FluteSession::new(at(0), setup(vec![aired(&sample, 0)], resume_point, None));
        assert_eq!(session.symbol_index(), 0);
    }
}

#[test]
fn table_and_headers_are_repeated_within_every_second() {
    let sample = sample();
    let mut files = Files(vec![sample.file.clone()]);
    let mut session =
        FluteSession::new(at(0), setup(vec![aired(&sample, 0)], ResumePoint::START, None));
    let mut last = BTreeMap::new();
    let mut packet = Vec::new();
    for tick in 0..2_000 {
        let micros = tick * 10_000;
        session.poll_transmit(at(micros), &mut files, &mut packet).unwrap();
        let toi = Packet::parse(&packet).unwrap().header.toi.unwrap();
        if toi == Toi::FDT || toi == Toi::plan_header(ComponentId(0)) {
            let before = last.insert(toi, micros).unwrap_or(0);
            assert!(micros - before <= 1_000_000, "{toi:?} at {micros}");
        }
    }
    assert_eq!(last.len(), 2);
    assert!(last.values().all(|micros| *micros > 18_000_000));
}

#[test]
fn every_object_is_introduced_when_its_turn_comes() {
    let sample = sample();
    let mut files = Files(vec![sample.file.clone(), sample.file.clone()]);
    let objects = vec![aired(&sample, 0), aired(&sample, 1)];
    let packets = run(setup(objects, ResumePoint::START, Some(1)), &mut files);
    let tois: Vec<_> =
        packets.iter().filter_map(|packet| Packet::parse(packet).unwrap().header.toi).collect();
    let second = tois.iter().position(|toi| *toi == Toi(0x11)).unwrap();
    let tables = sample.schedule.session_preamble(Sbn(0)).count();
    assert_eq!(tois[second - tables - 3..second - tables], [Toi(0x8001); 3]);
    assert!(tois[second - tables..second].iter().all(|toi| *toi == Toi(0x4001)));
    let data = tois.iter().filter(|toi| matches!(toi.0, 0x10 | 0x11)).count();
    assert_eq!(u64::try_from(data).unwrap(), 2 * sample.schedule.shape().leaves());
}

// test: rfc5651 5.1
#[test]
fn a_session_that_is_closed_says_so_three_times_and_then_nothing() {
    let sample = sample();
    let mut files = Files(vec![sample.file.clone()]);
    let mut session =
        FluteSession::new(at(0), setup(vec![aired(&sample, 0)], ResumePoint::START, None));
    let mut packet = Vec::new();
    session.poll_transmit(at(0), &mut files, &mut packet).unwrap();
    session.close();
    for _ in 0..REPEATS {
        let made = session.poll_transmit(at(5_000_000), &mut files, &mut packet);
        assert_eq!(made.unwrap(), Transmit::Packet);
        session.close();
        assert!(Packet::parse(&packet).unwrap().header.close_session);
    }
    let end = session.poll_transmit(at(9_000_000), &mut files, &mut packet).unwrap();
    assert_eq!((end, packet.len()), (Transmit::Closed, 0));
}
