use std::time::Duration;

use flate2::{Compression, read::GzEncoder};
use proptest::prelude::*;

use super::*;
use crate::{
    fec::{
        codec::BlockEncoder as _,
        oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
        raptorq_crate::Encoder,
    },
    flute::{
        alc::{Payload, PayloadId},
        ext::{ExtensionWriter, FdtHeader, TIME},
        fdt::{mbms::InstanceExtensions, skipped::Skipped},
        lct::{Extensions, Header},
    },
    ids::{Esi, Sbn, Tsi},
};

const NOW: Utc = Utc(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn file(toi: u128, location: &str) -> FileEntry {
    let oti = Oti::NoCode(NoCodeOti::new(100, 10, 4).unwrap());
    FileEntry::plain(Toi(toi), location, "text/plain", oti)
}

fn instance(files: Vec<FileEntry>) -> FdtInstance {
    let mbms = InstanceExtensions::default();
    let expires_ntp = (NOW + HOUR).ntp_seconds();
    FdtInstance { expires_ntp, complete: false, files, mbms, skipped: Skipped::default() }
}

struct Sent {
    id: u32,
    version: u8,
    oti: Option<Oti>,
    content_encoding: Option<u8>,
}

impl Sent {
    fn new(id: u32, length: usize, symbol_size: u16) -> Self {
        let length = u64::try_from(length).unwrap();
        let oti = Some(Oti::NoCode(NoCodeOti::new(length, symbol_size, 64).unwrap()));
        Self { id, version: 2, oti, content_encoding: None }
    }

    fn packet(&self, codepoint: u8, sbn: u32, esi: u32, symbols: &[u8]) -> Vec<u8> {
        let mut extensions = Vec::new();
        let mut writer = ExtensionWriter::new(&mut extensions);
        writer.fdt(FdtHeader { version: self.version, instance_id: self.id });
        if let Some(encoding) = self.content_encoding {
            writer.content_encoding(encoding);
        }
        if let Some(oti) = &self.oti {
            writer.fti(oti);
        }
        let payload = Some(Payload { id: PayloadId { sbn: Sbn(sbn), esi: Esi(esi) }, symbols });
        let header = Header::wide(Tsi(7), Toi::FDT, codepoint);
        let extensions = Extensions::new(&extensions).unwrap();
        let mut out = Vec::new();
        Packet { header, extensions, payload }.emit(&mut out).unwrap();
        out
    }
}

fn push(store: &mut FdtStore, now: Utc, packet: &[u8]) -> Result<FdtEvent, WireError> {
    store.handle_packet(now, &Packet::parse(packet).unwrap())
}

/// Pushes a document in one symbol.
fn tell(store: &mut FdtStore, id: u32, instance: &FdtInstance) -> FdtEvent {
    let document = instance.to_xml();
    let size = u16::try_from(document.len()).unwrap();
    let packet = Sent::new(id, document.len(), size).packet(0, 0, 0, document.as_bytes());
    push(store, NOW, &packet).unwrap()
}

fn held(id: u32) -> FdtEvent {
    FdtEvent::Instance { id, contradicted: vec![], rewritten: None }
}

fn ids(store: &FdtStore) -> Vec<u32> {
    store.instances(NOW).map(|held| held.id).collect()
}

#[test]
fn an_instance_in_many_symbols_is_put_together_in_any_order() {
    let document = instance((1..=20).map(|toi| file(toi, &format!("f{toi}"))).collect()).to_xml();
    let sent = Sent::new(3, document.len(), 20);
    let Some(Oti::NoCode(oti)) = sent.oti else { unreachable!() };
    let partition = oti.partition();
    assert!(partition.blocks() > 2);
    let mut packets = Vec::new();
    let mut symbols = document.as_bytes().chunks(20);
    for sbn in 0..partition.blocks() {
        for esi in 0..partition.symbols_of(Sbn(sbn)).unwrap() {
            packets.push(sent.packet(0, sbn, esi, symbols.next().unwrap()));
        }
    }
    let mut store = FdtStore::default();
    let last = packets.remove(0);
    for packet in packets.iter().rev() {
        assert_eq!(push(&mut store, NOW, packet), Ok(FdtEvent::Collected));
    }
    assert_eq!(push(&mut store, NOW, &last), Ok(held(3)));
    assert_eq!(push(&mut store, NOW, &last), Ok(FdtEvent::Collected));
    assert!(!store.is_collecting());
    for packet in &packets[1..] {
        assert_eq!(push(&mut store, NOW, packet), Ok(FdtEvent::Collected));
    }
    assert_eq!(push(&mut store, NOW, &packets[0]), Ok(FdtEvent::Repeated));
    assert_eq!(store.entry(NOW, Toi(20)), Some(&file(20, "f20")));
    assert_eq!(store.entry(NOW, Toi(21)), None);
}

// test: rfc6330 4.3
#[test]
fn an_instance_coded_with_raptorq_survives_loss_and_several_symbols_in_a_packet() {
    let document = instance(vec![file(1, "a"), file(2, "b")]).to_xml();
    let oti = RaptorQOti::new(RaptorQParameters {
        transfer_length: u64::try_from(document.len()).unwrap(),
        symbol_size: 64,
        source_blocks: 1,
        sub_blocks: 1,
        alignment: 4,
    })
    .unwrap();
    let encoder = Encoder::new(&oti, Sbn(0), document.as_bytes()).unwrap();
    let mut repair = Vec::new();
    let symbols = encoder.source_symbols();
    encoder.for_each_symbol(symbols..2 * symbols + 2, &mut |_, symbol| {
        repair.extend_from_slice(symbol);
    });
    let sent = Sent { oti: Some(Oti::RaptorQ(oti)), ..Sent::new(1, 1, 1) };
    let packet = sent.packet(6, 0, symbols, &repair);
    assert_eq!(push(&mut FdtStore::default(), NOW, &packet), Ok(held(1)));
}

// test: rfc6726 5
#[test]
fn symbols_wait_for_parameters_that_come_later() {
    let document = instance(vec![file(1, "a")]).to_xml();
    let sent = Sent::new(0, document.len(), 150);
    let bare = Sent { oti: None, ..Sent::new(0, document.len(), 150) };
    let [first, second, third] = document.as_bytes().chunks(150).collect::<Vec<_>>()[..] else {
        panic!("three symbols")
    };
    let mut store = FdtStore::default();
    for packet in [bare.packet(0, 0, 1, second), sent.packet(0, 0, 2, third)] {
        assert_eq!(push(&mut store, NOW, &packet), Ok(FdtEvent::Collected));
    }
    assert_eq!(push(&mut store, NOW, &bare.packet(0, 0, 0, first)), Ok(held(0)));
}

// test: rfc6726 3.4.1
#[test]
fn an_instance_that_is_rewritten_under_its_id_replaces_the_held_one() {
    let mut store = FdtStore::default();
    let first = instance(vec![file(1, "a")]);
    assert_eq!(tell(&mut store, 0, &first), held(0));
    assert_eq!(tell(&mut store, 0, &first), FdtEvent::Repeated);
    let rewritten = |contradicted: &[u128], rewrite| FdtEvent::Instance {
        id: 0,
        contradicted: contradicted.iter().map(|toi| Toi(*toi)).collect(),
        rewritten: Some(rewrite),
    };
    let later = FdtInstance { expires_ntp: first.expires_ntp + 60, ..first };
    assert_eq!(tell(&mut store, 0, &later), rewritten(&[], Rewrite::Expiry));
    assert_eq!(store.next_expiry(), Some(NOW + HOUR + Duration::from_secs(60)));
    let other = instance(vec![file(1, "b"), file(2, "c")]);
    assert_eq!(tell(&mut store, 0, &other), rewritten(&[1], Rewrite::Files));
    assert_eq!(store.entry(NOW, Toi(1)).unwrap().content_location, "b");
    assert_eq!(ids(&store), [0]);
    store.expire(NOW + HOUR);
    assert_eq!(tell(&mut store, 0, &other), held(0));
}

#[test]
fn no_document_is_put_together_from_a_rewritten_one_and_its_predecessor() {
    let list = |name: &str| {
        let files = (1..=9).map(|toi| file(toi, &format!("{name}{toi}"))).collect();
        instance(files).to_xml()
    };
    let (before, after) = (list("a"), list("b"));
    assert_eq!(before.len(), after.len());
    let symbol = u16::try_from(before.len().div_ceil(4)).unwrap();
    let sent = Sent::new(0, before.len(), symbol);
    let packets = |document: &str| -> Vec<_> {
        let symbols = (0..).zip(document.as_bytes().chunks(symbol.into()));
        symbols.map(|(esi, symbol)| sent.packet(0, 0, esi, symbol)).collect()
    };
    let (before, after) = (packets(&before), packets(&after));
    let mut store = FdtStore::default();
    for packet in before[..3].iter().chain(&after[1..]) {
        assert_eq!(push(&mut store, NOW, packet), Ok(FdtEvent::Collected));
    }
    assert_eq!(push(&mut store, NOW, &after[0]), Ok(held(0)));
    assert_eq!(store.entry(NOW, Toi(1)).unwrap().content_location, "b1");
}

#[test]
fn the_instances_of_a_session_that_is_over_are_forgotten() {
    let mut store = FdtStore::default();
    for id in [1, 2, 3] {
        tell(&mut store, id, &instance(vec![file(1, "a")]));
    }
    let begun = Sent::new(4, 9, 1).packet(0, 0, 0, b"<");
    assert_eq!(push(&mut store, NOW, &begun), Ok(FdtEvent::Collected));
    assert!(store.is_collecting());
    store.keep_only(1);
    assert!(ids(&store) == [1] && !store.is_collecting());
}

#[test]
fn symbols_of_an_instance_that_was_whole_announce_nothing_new() {
    let mut store = FdtStore::default();
    for id in 1..=6 {
        tell(&mut store, id, &instance(vec![file(u128::from(id), "a")]));
    }
    assert!(!ids(&store).contains(&1));
    let again = |id| Sent::new(id, 9, 1).packet(0, 0, 0, b"<");
    assert_eq!(push(&mut store, NOW, &again(1)), Ok(FdtEvent::Collected));
    assert!(!store.is_collecting());
    assert_eq!(push(&mut store, NOW, &again(7)), Ok(FdtEvent::Collected));
    assert!(store.is_collecting());
}

// test: rfc6726 3.4.1
#[test]
fn ids_may_leave_gaps_and_wrap() {
    let mut store = FdtStore::default();
    for id in [0xf_fffe, 5, 0xf_ffff, 2] {
        assert_eq!(tell(&mut store, id, &instance(vec![file(1, "a")])), held(id));
    }
    assert_eq!(ids(&store), [5, 2, 0xf_ffff, 0xf_fffe]);
}

// test: rfc6726 3.4.1, rfc6726 3.3
#[test]
fn a_packet_without_ext_fdt_or_of_an_unknown_version_is_refused() {
    let mut store = FdtStore::default();
    let header = Header::wide(Tsi(7), Toi::FDT, 0);
    let id = PayloadId { sbn: Sbn(0), esi: Esi(0) };
    let payload = Some(Payload { id, symbols: b"<" });
    let packet = Packet { header, extensions: Extensions::NONE, payload };
    assert!(store.handle_packet(NOW, &packet).is_err());
    for (version, fits) in [(0, false), (1, true), (2, true), (3, false)] {
        let packet = Sent { version, ..Sent::new(0, 9, 1) }.packet(0, 0, 0, b"<");
        assert_eq!(push(&mut store, NOW, &packet).is_ok(), fits, "{version}");
    }
}

// test: rfc6726 3.4.2
#[test]
fn a_session_is_complete_once_an_instance_says_so() {
    let mut store = FdtStore::default();
    assert_eq!(tell(&mut store, 0, &instance(vec![file(1, "a")])), held(0));
    assert!(!store.is_complete(NOW));
    let last = FdtInstance { complete: true, ..instance(vec![file(1, "a"), file(2, "b")]) };
    assert_eq!(tell(&mut store, 1, &last), held(1));
    assert!(store.is_complete(NOW));
}

// test: rfc6726 3.3
#[test]
fn an_expired_instance_says_nothing() {
    let mut store = FdtStore::default();
    let table = FdtInstance { complete: true, ..instance(vec![file(1, "a")]) };
    let expired = FdtInstance { expires_ntp: NOW.ntp_seconds(), ..table.clone() };
    assert_eq!(tell(&mut store, 0, &expired), FdtEvent::Expired { id: 0, overdue: Duration::ZERO });
    assert_eq!(tell(&mut store, 1, &table), held(1));
    assert_eq!(store.next_expiry(), Some(NOW + HOUR));
    let eve = Utc((NOW + HOUR).0 - 1);
    assert!(store.is_complete(eve) && store.entry(eve, Toi(1)).is_some());
    assert!(!store.is_complete(NOW + HOUR) && store.entry(NOW + HOUR, Toi(1)).is_none());
}

/// Pushes a document in one symbol, whose packet tells the sender's clock.
fn tell_with_clock(store: &mut FdtStore, now: Utc, clock: Utc, instance: &FdtInstance) -> FdtEvent {
    let document = instance.to_xml();
    let sent = Sent::new(0, document.len(), 9000);
    let mut extensions = Vec::new();
    let time = [&[0x80, 0][..], &clock.ntp_seconds().to_be_bytes()].concat();
    ExtensionWriter::new(&mut extensions)
        .fdt(FdtHeader { version: 2, instance_id: 0 })
        .fti(&sent.oti.unwrap())
        .variable(TIME, &time)
        .unwrap();
    let extensions = Extensions::new(&extensions).unwrap();
    let id = PayloadId { sbn: Sbn(0), esi: Esi(0) };
    let payload = Some(Payload { id, symbols: document.as_bytes() });
    let packet = Packet { header: Header::wide(Tsi(7), Toi::FDT, 0), extensions, payload };
    store.handle_packet(now, &packet).unwrap()
}

// test: rfc6726 3.3, rfc5651 5.2.2
#[test]
fn a_sender_that_tells_its_clock_has_its_instances_kept_by_it() {
    let table = instance(vec![file(1, "a")]);
    let day = 24 * HOUR;
    let ago = |span: Duration| Utc(NOW.0 - u64::try_from(span.as_millis()).unwrap());
    // By the clock of this host the instance expired 23 hours before it came.
    let mut store = FdtStore::default();
    assert_eq!(tell_with_clock(&mut store, NOW + day, NOW, &table), held(0));
    assert_eq!(store.next_expiry(), Some(NOW + day + HOUR));
    // What had expired by both clocks had.
    let mut store = FdtStore::default();
    let late = tell_with_clock(&mut store, NOW + day, NOW + 2 * HOUR, &table);
    assert_eq!(late, FdtEvent::Expired { id: 0, overdue: HOUR });
    // A clock that makes no sense shortens nothing.
    for clock in [Utc(0), NOW + 1000 * day, ago(day)] {
        let mut store = FdtStore::default();
        assert_eq!(tell_with_clock(&mut store, NOW, clock, &table), held(0));
        assert!(store.next_expiry() >= Some(NOW + HOUR), "{clock}");
    }
    // The clock goes on between packets.
    let mut store = FdtStore::default();
    tell_with_clock(&mut store, NOW + day, NOW, &table);
    store.expire(NOW + day + HOUR);
    let again = Sent::new(1, table.to_xml().len(), 9000).packet(0, 0, 0, table.to_xml().as_bytes());
    let event = push(&mut store, NOW + day + 2 * HOUR, &again);
    assert_eq!(event, Ok(FdtEvent::Expired { id: 1, overdue: HOUR }));
}

#[test]
fn where_expiry_is_ignored_an_expired_instance_is_held_for_ever() {
    let limits = Limits { expiry: Expiry::Ignored, ..Limits::default() };
    let mut store = FdtStore::new(limits);
    let expired =
        FdtInstance { expires_ntp: NOW.ntp_seconds() - 7200, ..instance(vec![file(1, "a")]) };
    assert_eq!(tell(&mut store, 0, &expired), held(0));
    store.expire(NOW + 1000 * HOUR);
    let found = store.instances(NOW + 1000 * HOUR).next().unwrap();
    assert_eq!((found.id, found.overdue), (0, 2 * HOUR));
}

// test: rfc6726 3.3
#[test]
fn an_instance_that_expires_in_the_next_era_of_ntp_is_held() {
    // 2036-02-07 0h UTC; two days later the seconds of NTP have begun anew.
    let eve = Utc::from_seconds(4_294_944_000 - 2_208_988_800);
    let table = FdtInstance { expires_ntp: 149_504, ..instance(vec![file(1, "a")]) };
    let document = table.to_xml();
    let size = u16::try_from(document.len()).unwrap();
    let packet = Sent::new(0, document.len(), size).packet(0, 0, 0, document.as_bytes());
    let mut store = FdtStore::default();
    assert_eq!(push(&mut store, eve, &packet), Ok(held(0)));
    assert_eq!(store.next_expiry(), Some(eve + 48 * HOUR));
}

// test: rfc6726 3.4.2
#[test]
fn of_two_objects_with_one_location_that_of_the_higher_id_is_newer() {
    let mut store = FdtStore::default();
    tell(&mut store, 9, &instance(vec![file(2, "a")]));
    tell(&mut store, 8, &instance(vec![file(1, "a"), file(3, "b")]));
    assert_eq!(store.newest(NOW, "a").unwrap().toi, Toi(2));
    assert!(store.is_superseded(NOW, Toi(1)));
    for toi in [2, 3, 4] {
        assert!(!store.is_superseded(NOW, Toi(toi)), "{toi}");
    }
}

// test: rfc6726 3.3
#[test]
fn an_object_that_is_described_otherwise_later_is_reported() {
    let mut store = FdtStore::default();
    let bare = FileEntry { oti: None, encoding_id: None, ..file(2, "b") };
    tell(&mut store, 0, &instance(vec![file(1, "a"), bare, file(3, "c")]));
    let longer = FileEntry { content_length: Some(101), oti: None, ..file(3, "c") };
    let later = instance(vec![file(1, "z"), file(2, "b"), longer]);
    let contradicted = vec![Toi(1), Toi(3)];
    let event = FdtEvent::Instance { id: 1, contradicted, rewritten: None };
    assert_eq!(tell(&mut store, 1, &later), event);
}

#[test]
fn a_fifth_instance_takes_the_place_of_the_oldest() {
    let mut store = FdtStore::default();
    for id in [10, 11, 12, 13] {
        assert_eq!(tell(&mut store, id, &instance(vec![file(1, "a")])), held(id));
    }
    let older = instance(vec![file(1, "a")]);
    let FdtEvent::Late(late) = tell(&mut store, 9, &older) else { panic!("instance 9 is held") };
    assert_eq!((late.id, &late.instance.files), (9, &older.files));
    assert_eq!(tell(&mut store, 20, &instance(vec![file(1, "a")])), held(20));
    assert_eq!(ids(&store), [20, 13, 12, 11]);
}

#[test]
fn what_is_collected_has_limits() {
    let mut store = FdtStore::default();
    for id in 0..20 {
        let packet = Sent::new(id, 500_000, 60_000).packet(0, 0, 0, &[b'<'; 60_000]);
        for _ in 0..8 {
            assert_eq!(push(&mut store, NOW, &packet), Ok(FdtEvent::Collected));
        }
    }
    // Each packet counts, also one that came before.
    assert!(store.collected_bytes <= 4 << 20 && store.assemblies.len() == 8);
    assert!(store.assemblies.keys().all(|id| *id >= 12));
    assert_eq!((store.take_given_up(), store.take_given_up()), (12, 0));

    for (length, size, fits) in
        [(1 << 20, 1400, true), ((1 << 20) + 1, 1400, false), (16_384, 1, true), (16_385, 1, false)]
    {
        let packet = Sent::new(30, length, size).packet(0, 0, 0, &vec![b'<'; size.into()]);
        assert_eq!(push(&mut FdtStore::default(), NOW, &packet).is_ok(), fits, "{length} {size}");
    }
    let bare = Sent { oti: None, ..Sent::new(1, 9, 1) };
    let mut store = FdtStore::default();
    for esi in 0..64 {
        assert!(push(&mut store, NOW, &bare.packet(0, 0, esi, b"<")).is_ok(), "{esi}");
    }
    assert!(push(&mut store, NOW, &bare.packet(0, 0, 64, b"<")).is_err());
    assert!(store.assemblies.is_empty());
    assert!(push(&mut store, NOW, &Sent::new(1, 9, 1).packet(0, 1, 0, b"<")).is_err());
}

// test: rfc6726 3.4.3
#[test]
fn a_table_that_is_compressed_is_read() {
    let document = instance(vec![file(1, "a")]).to_xml();
    let mut small = Vec::new();
    let mut encoder = GzEncoder::new(document.as_bytes(), Compression::default());
    std::io::Read::read_to_end(&mut encoder, &mut small).unwrap();
    let size = u16::try_from(small.len()).unwrap();
    let sent = Sent { content_encoding: Some(3), ..Sent::new(0, small.len(), size) };
    let mut store = FdtStore::default();
    assert_eq!(push(&mut store, NOW, &sent.packet(0, 0, 0, &small)), Ok(held(0)));
    let wrong = Sent { id: 1, content_encoding: Some(1), ..sent };
    let event = push(&mut store, NOW, &wrong.packet(0, 0, 0, &small));
    assert!(matches!(event, Ok(FdtEvent::Unreadable { id: 1, .. })), "{event:?}");
}

#[test]
fn many_instances_that_interleave_are_all_put_together() {
    let all: Vec<_> = (0..200).map(|id| instance(vec![file(id + 1, "a")]).to_xml()).collect();
    let mut store = FdtStore::default();
    let mut whole = 0;
    for esi in 0..3_u32 {
        for (document, id) in all.iter().zip(0..) {
            let size = document.len().div_ceil(3);
            let sent = Sent::new(id, document.len(), u16::try_from(size).unwrap());
            let symbol = document.as_bytes().chunks(size).nth(esi as usize).unwrap();
            let event = push(&mut store, NOW, &sent.packet(0, 0, esi, symbol)).unwrap();
            whole += u32::from(matches!(event, FdtEvent::Instance { .. }));
        }
    }
    assert_eq!((whole, store.take_given_up()), (200, 0));
    assert_eq!((store.assemblies.len(), store.collected_bytes), (0, 0));
}

#[test]
fn parameters_that_change_begin_an_instance_anew() {
    let document = instance(vec![file(1, "a")]).to_xml();
    let mut store = FdtStore::default();
    let forged = Sent::new(0, document.len() * 2, 100).packet(0, 0, 0, &[b'<'; 100]);
    assert_eq!(push(&mut store, NOW, &forged), Ok(FdtEvent::Collected));
    assert_eq!(tell(&mut store, 0, &instance(vec![file(1, "a")])), held(0));
}

proptest! {
    #[test]
    fn whatever_arrives_the_store_keeps_its_limits(
        packets in prop::collection::vec(
            (0_u32..8, 1_u8..3, 0_u64..5000, 0_u16..300, 0_u32..3, 0_u32..70, any::<bool>(),
             prop::option::of(0_u8..5), prop::collection::vec(any::<u8>(), 0..300)),
            0..40,
        )
    ) {
        let mut store = FdtStore::default();
        for (id, version, length, size, sbn, esi, fec, content_encoding, symbols) in packets {
            let no_code = NoCodeOti::new(length, size, 64).ok().map(Oti::NoCode);
            let raptorq = RaptorQOti::new(RaptorQParameters {
                transfer_length: length, symbol_size: size,
                source_blocks: 1, sub_blocks: 1, alignment: 1,
            }).ok().map(Oti::RaptorQ);
            let oti = if fec { raptorq } else { no_code };
            let sent = Sent { id, version, oti, content_encoding };
            let packet = sent.packet(if fec { 6 } else { 0 }, sbn, esi, &symbols);
            let _events = push(&mut store, NOW, &packet);
            let counted = store.assemblies.values().map(Assembly::counted).sum::<usize>();
            prop_assert!(store.held.len() <= 4 && store.collected_bytes == counted);
        }
    }
}
