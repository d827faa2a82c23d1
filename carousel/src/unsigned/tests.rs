use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::{
    fec::{
        codec::{BlockDecoder as _, BlockEncoder as _},
        nocode,
        oti::{NoCodeOti, RaptorQOti, RaptorQParameters},
        raptorq_crate::{Decoder, Encoder},
    },
    fixtures::golden,
    flute::{alc::Packet, fdt::NAMESPACE_MBMS, lct::Widths},
    ids::{Esi, Sbn},
    time::Utc,
};

use super::{
    schedule::{BlockName, SendOrder},
    wire_profile::{FecOptions, Profile, Scheme, oti_for},
    *,
};
use crate::flute::fdt::FdtProfile;

/// Files in memory.
pub(crate) struct Memory {
    files: Vec<(Vec<u8>, Oti)>,
    /// The next repair symbol.
    next: BTreeMap<BlockName, Esi>,
}

impl Memory {
    pub(crate) fn new(files: Vec<(Vec<u8>, Oti)>) -> Self {
        Self { files, next: BTreeMap::new() }
    }

    fn block(&self, name: BlockName) -> (&Oti, Vec<u8>) {
        let (octets, oti) = &self.files[name.file];
        let partition = oti.partition();
        let size = usize::from(oti.symbol_size());
        let first = usize::try_from(partition.first_symbol(name.sbn).unwrap()).unwrap() * size;
        let count = usize::try_from(partition.symbols_of(name.sbn).unwrap()).unwrap();
        (oti, octets[first..(first + count * size).min(octets.len())].to_vec())
    }
}

impl Symbols for Memory {
    fn prepare(&mut self, first: &[SymbolName]) {
        self.next = first.iter().map(|name| (name.block, name.esi)).collect();
    }

    fn read(&mut self, name: SymbolName, symbol: &mut [u8]) -> io::Result<()> {
        let (oti, block) = self.block(name.block);
        let Esi(esi) = name.esi;
        let mut take = |_: Esi, octets: &[u8]| symbol.copy_from_slice(&octets[..symbol.len()]);
        match oti {
            Oti::NoCode(oti) => nocode::Encoder::new(oti, name.block.sbn, &block)
                .unwrap()
                .for_each_symbol(esi..esi + 1, &mut take),
            Oti::RaptorQ(oti) => {
                let encoder = Encoder::new(oti, name.block.sbn, &block).unwrap();
                let is_source = esi < encoder.source_symbols();
                if !is_source {
                    let next = self.next.get_mut(&name.block).expect("it was announced");
                    assert_eq!(*next, name.esi, "{name:?} comes in its order");
                    next.0 += 1;
                }
                encoder.for_each_symbol(esi..esi + 1, &mut take);
            }
        }
        Ok(())
    }
}

fn now() -> Now {
    Now { mono: Mono(5), utc: Utc::from_seconds(1_991_011_200 - 24 * 3600) }
}

fn packets(session: &mut UnsignedSession, symbols: &mut Memory, limit: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut packet = Vec::new();
    while all.len() < limit
        && session.poll_transmit(now(), symbols, &mut packet).unwrap() == Transmit::Packet
    {
        all.push(packet.clone());
    }
    all
}

fn setup(
    wire_profile: WireProfile,
    files: Vec<UnsignedFile>,
    repair_percent: u32,
) -> UnsignedSetup {
    let oti: Vec<_> = files.iter().map(|file| file.oti).collect();
    UnsignedSetup {
        tsi: Tsi(7),
        wire_profile,
        files,
        empty: Vec::new(),
        schedule: UnsignedSchedule::new(&oti, repair_percent, SendOrder::Rows),
        resume_point: UnsignedResumePoint::default(),
        passes: Some(1),
        announce_every: Duration::from_secs(1),
    }
}

fn golden_session(fti: FtiLocation) -> (UnsignedSession, Memory) {
    let parameters = RaptorQParameters {
        transfer_length: 43,
        symbol_size: 16,
        source_blocks: 1,
        sub_blocks: 1,
        alignment: 4,
    };
    let oti = Oti::RaptorQ(RaptorQOti::new(parameters).unwrap());
    let mut wire_profile = Profile::Rfc6726.wire_profile(fti);
    wire_profile.fdt = FdtProfile { widths: Widths::NARROW, symbol_bytes: 400, ..wire_profile.fdt };
    let entry = FileEntry::plain(Toi(1), "file:///golden.bin", "application/octet-stream", oti);
    let session =
        UnsignedSession::new(now(), setup(wire_profile, vec![UnsignedFile { entry, oti }], 100));
    (session, Memory::new(vec![(golden::FILE.to_vec(), oti)]))
}

// test: rfc6726 3.4.1, rfc6726 3.1, rfc6726 3.3, rfc6726 3.4.3, rfc5651 5.1, rfc5775 4.3
// test: rfc6330 4.3
#[test]
fn the_golden_session_is_produced_octet_for_octet() {
    let (mut session, mut symbols) = golden_session(FtiLocation::Fdt);
    let packets = packets(&mut session, &mut symbols, 100);
    let expected = golden::packets();
    let (close, before) = expected.split_last().unwrap();
    assert_eq!(packets[..before.len()], *before);
    assert_eq!(packets[before.len()..], [close, close, close].map(Clone::clone));
}

#[test]
fn the_golden_session_with_fti_in_packets_is_produced_octet_for_octet() {
    let (mut session, mut symbols) = golden_session(FtiLocation::Both);
    assert_eq!(packets(&mut session, &mut symbols, 2)[1], golden::hex(golden::WITH_FTI));
}

/// Two files in a profile.
fn two_files(profile: Profile, scheme: Scheme) -> (UnsignedSetup, Memory) {
    let wire_profile = profile.wire_profile(profile.default_fti());
    let options = FecOptions { scheme, symbol_size: 16, max_block_symbols: 12 };
    let octets = |length: usize| -> Vec<u8> {
        (0..length).map(|at| at.to_le_bytes()[0].wrapping_mul(31)).collect()
    };
    let contents = [octets(400), octets(37)];
    let files: Vec<_> = contents
        .into_iter()
        .map(|octets| {
            let length = u64::try_from(octets.len()).unwrap();
            (octets, oti_for(length, options, &wire_profile).unwrap())
        })
        .collect();
    let listed = files.iter().enumerate().map(|(index, (_, oti))| UnsignedFile {
        entry: wire_profile.entry(
            toi_of(NonZeroU32::MIN, index),
            &format!("file-{index}"),
            *oti,
            [0; 16],
        ),
        oti: *oti,
    });
    (setup(wire_profile, listed.collect(), 0), Memory::new(files))
}

#[test]
fn a_session_of_empty_files_sends_its_fdt_and_waits() {
    let wire_profile = Profile::Rfc6726.wire_profile(FtiLocation::Both);
    let empty = vec![wire_profile.empty_entry(Toi(1), "a"), wire_profile.empty_entry(Toi(2), "b")];
    let setup = UnsignedSetup { empty, passes: Some(2), ..setup(wire_profile, Vec::new(), 0) };
    let mut session = UnsignedSession::new(now(), setup);
    let mut symbols = Memory::new(Vec::new());
    let mut packet = Vec::new();
    let (mut at, mut received) = (now().mono, Vec::new());
    loop {
        match session.poll_transmit(Now { mono: at, ..now() }, &mut symbols, &mut packet).unwrap() {
            Transmit::Packet => received.push(Packet::parse(&packet).unwrap().header.toi),
            Transmit::Wait(until) => {
                assert!(until > at);
                at = until;
            }
            Transmit::Closed => break,
        }
    }
    let fdt = Some(Toi::FDT);
    assert_eq!(received, [fdt, fdt, None, None, None]);
}

// test: ts26346-mbms 7.2, rfc6726 11.1, rfc5651 5.1, rfc5775 4.3, ts26346-mbms 7.2.8
// test: ts26346-mbms L.4
#[test]
fn an_mbms_session_has_narrow_ids_version_1_and_ends_by_a_flag() {
    let (setup, mut symbols) = two_files(Profile::Mbms, Scheme::NoCode);
    let mut session = UnsignedSession::new(now(), setup);
    let packets = packets(&mut session, &mut symbols, 1000);
    let parsed: Vec<_> = packets.iter().map(|packet| Packet::parse(packet).unwrap()).collect();
    assert!(parsed.iter().all(|packet| packet.header.widths == Widths::NARROW));
    assert!(parsed.iter().all(|packet| packet.payload.is_some()), "no packet without data");
    for packet in &parsed {
        let is_fdt = packet.header.toi == Some(Toi::FDT);
        assert_eq!(packet.extensions.fdt().is_some(), is_fdt);
        assert_eq!(packet.extensions.find(proto::flute::ext::FTI).is_some(), is_fdt);
        assert!(packet.extensions.fdt().is_none_or(|fdt| fdt.version == 1));
    }
    let document = String::from_utf8_lossy(parsed[0].payload.unwrap().symbols).into_owned();
    assert!(document.contains(NAMESPACE_MBMS) && !document.contains("Complete"), "{document}");
    let (end, before) = parsed.split_last_chunk::<3>().map(|(a, b)| (b, a)).unwrap();
    assert!(end.iter().all(|packet| packet.header.close_session));
    assert!(before.iter().all(|packet| !packet.header.close_session));
}

#[test]
fn every_pass_sends_symbols_that_were_not_sent_before() {
    let (setup, mut symbols) = two_files(Profile::Rfc6726, Scheme::RaptorQ);
    let otis: Vec<_> = setup.files.iter().map(|file| file.oti).collect();
    let mut session = UnsignedSession::new(now(), UnsignedSetup { passes: Some(4), ..setup });
    let mut blocks: BTreeMap<_, Vec<(Esi, Vec<u8>)>> = BTreeMap::new();
    for packet in packets(&mut session, &mut symbols, 10_000) {
        let packet = Packet::parse(&packet).unwrap();
        let Some(payload) = packet.payload.filter(|_| packet.header.toi != Some(Toi::FDT)) else {
            continue;
        };
        let held = blocks.entry((packet.header.toi.unwrap().0, payload.id.sbn.0)).or_default();
        assert!(held.iter().all(|(esi, _)| *esi != payload.id.esi));
        held.push((payload.id.esi, payload.symbols.to_vec()));
    }
    assert_eq!(blocks.len(), 4);
    // The last quarter of what was sent of each block is enough for it: late joiners are served.
    for ((toi, sbn), held) in blocks {
        let Oti::RaptorQ(oti) = otis[usize::try_from(toi).unwrap() - 1] else { unreachable!() };
        let mut decoder = Decoder::new(&oti, Sbn(sbn)).unwrap();
        let count = usize::try_from(oti.partition().symbols_of(Sbn(sbn)).unwrap()).unwrap();
        assert!(held.len() >= 4 * count);
        for (esi, symbol) in held.iter().rev().take(count + 2) {
            decoder.push(*esi, symbol);
        }
        let name = BlockName { file: usize::try_from(toi).unwrap() - 1, sbn: Sbn(sbn) };
        let block = symbols.block(name).1;
        assert_eq!(decoder.decode().unwrap()[..block.len()], block);
    }
}

// test: rfc6726 3.1, rfc5651 6.1, rfc5775 2.1, rfc5775 4.3
#[test]
fn toi_of_files_begin_at_one() {
    assert_eq!((toi_of(NonZeroU32::MIN, 0), toi_of(NonZeroU32::MIN, 63)), (Toi(1), Toi(64)));
    let (setup, mut symbols) = two_files(Profile::Rfc6726, Scheme::RaptorQ);
    let mut session = UnsignedSession::new(now(), setup);
    let sent = packets(&mut session, &mut symbols, 10_000);
    let sent = sent.iter().map(|packet| Packet::parse(packet).unwrap());
    let named: BTreeSet<_> = sent.filter_map(|packet| packet.header.toi).collect();
    assert_eq!(named, BTreeSet::from([Toi::FDT, Toi(1), Toi(2)]));
}

// test: rfc6726 3.5
#[test]
fn a_renewed_instance_is_not_mixed_with_the_last() {
    let (mut setup, mut symbols) = two_files(Profile::Rfc6726, Scheme::RaptorQ);
    setup.passes = None;
    setup.wire_profile.fdt.symbol_bytes = 200;
    let mut session = UnsignedSession::new(now(), setup);
    let mut packet = Vec::new();
    let mut instances = Vec::new();
    // Fewer packets in an hour than the table has: some of it always waits.
    for hours in 0..30 {
        let span = Duration::from_secs(3600 * hours);
        let at = Now { mono: now().mono + span, utc: now().utc + span };
        for _ in 0..3 {
            session.poll_transmit(at, &mut symbols, &mut packet).unwrap();
            let fdt = Packet::parse(&packet).unwrap().extensions.fdt();
            instances.extend(fdt.map(|fdt| fdt.instance_id));
        }
    }
    assert!(instances.is_sorted());
    assert_eq!((instances.first(), instances.last()), (Some(&0), Some(&2)));
}

// test: rfc6726 3.4.1
#[test]
fn a_restart_goes_on_with_other_symbols_and_another_fdt_instance() {
    let (setup, mut symbols) = two_files(Profile::Rfc6726, Scheme::RaptorQ);
    let endless = UnsignedSetup { passes: None, ..setup };
    let mut whole = UnsignedSession::new(now(), endless.clone());
    let mut expected = packets(&mut whole, &mut symbols, 200);
    let mut first = UnsignedSession::new(now(), endless.clone());
    let mut all = packets(&mut first, &mut symbols, 90);
    let resume_point = first.resume_point();
    assert_eq!(resume_point.fdt_instance, 1);
    let mut second = UnsignedSession::new(now(), UnsignedSetup { resume_point, ..endless });
    all.extend(packets(&mut second, &mut symbols, 110));
    let is_data = |packet: &Vec<u8>| Packet::parse(packet).unwrap().header.toi != Some(Toi::FDT);
    all.retain(is_data);
    expected.retain(is_data);
    // At most the row that was not through is sent again.
    let repeated = all.iter().enumerate().filter(|(at, packet)| all[..*at].contains(packet));
    assert!(repeated.count() <= 4);
    let news = all.iter().filter(|packet| !expected.contains(packet)).count();
    assert_eq!(news, 0);
}

// test: rfc6726 3.2, rfc6726 3.3
#[test]
fn the_fdt_comes_again_when_its_time_has_come() {
    let (setup, mut symbols) = two_files(Profile::Rfc6726, Scheme::RaptorQ);
    let mut session = UnsignedSession::new(now(), UnsignedSetup { passes: None, ..setup });
    let mut packet = Vec::new();
    let mut fdts = 0;
    for millisecond in 0..2_950_u64 {
        let mono = Mono(5 + millisecond * 1_000_000);
        session.poll_transmit(Now { mono, ..now() }, &mut symbols, &mut packet).unwrap();
        fdts += u32::from(Packet::parse(&packet).unwrap().header.toi == Some(Toi::FDT));
    }
    assert_eq!(fdts, 3);
}

// test: rfc5445 3.2.2.2
#[test]
fn the_last_symbol_of_a_no_code_file_is_sent_without_padding() {
    let oti = Oti::NoCode(NoCodeOti::new(250, 100, 2).unwrap());
    let wire_profile = Profile::Mbms.wire_profile(FtiLocation::Fdt);
    let file = UnsignedFile { entry: wire_profile.entry(Toi(1), "file", oti, [0; 16]), oti };
    let octets: Vec<_> = (0..250).map(|at| u8::try_from(at).unwrap()).collect();
    let mut memory = Memory { files: vec![(octets.clone(), oti)], next: BTreeMap::new() };
    let mut session = UnsignedSession::new(now(), setup(wire_profile, vec![file], 0));
    let sent = packets(&mut session, &mut memory, 100);
    let symbols = sent.iter().filter_map(|packet| {
        let packet = Packet::parse(packet).unwrap();
        (packet.header.toi == Some(Toi(1))).then(|| packet.payload.unwrap().symbols.to_vec())
    });
    let mut symbols: Vec<_> = symbols.collect();
    symbols.sort();
    assert_eq!(symbols.concat(), octets);
    assert_eq!(symbols.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
}
