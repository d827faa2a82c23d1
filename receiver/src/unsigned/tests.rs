use std::{collections::BTreeMap, io, time::Duration};

use proptest::prelude::*;
use proto::{
    crypto::sha256,
    fec::{
        codec::BlockEncoder as _,
        nocode,
        oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
        raptorq_crate,
    },
    fixtures::golden,
    flute::{
        alc::{Payload, PayloadId},
        content_md5::ContentMd5,
        ext::{ExtensionWriter, FdtHeader},
        fdt::{FdtInstance, FileEntry},
        lct::{Extensions, Header, Widths},
    },
    ids::{Esi, Tsi},
    time::Utc,
};

use self::bench::{Answer, Bench, Disk};
use super::{
    entry::{MAX_GROWTH, beyond, content},
    record::Record,
    *,
};
use crate::{
    flute::decode::BlockFiles,
    store::{
        BlockPlace, Content, HeaderCheck, LogOutput, ObjectLayout, Recovery, SlotAddress,
        UnsignedContent, UnsignedDescription,
    },
};

const SENDER: [u8; 4] = [192, 0, 2, 1];

/// Lifetime of the FDT instances of these tests.
const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Now {
    Now { mono: Mono(1_000), utc: Utc::from_seconds(1_800_000_000) }
}

/// A session of some sender.
#[derive(Clone, Copy)]
struct Sent {
    tsi: u64,
    toi: u128,
    widths: Widths,
    version: u8,
    fti: bool,
    in_fdt: bool,
    location: &'static str,
}

const SENT: Sent = Sent {
    tsi: 7,
    toi: 1,
    widths: Widths::WIDE,
    version: 2,
    fti: true,
    in_fdt: true,
    location: "file:///fw.bin",
};

fn octets(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 256).to_le_bytes()[0]).collect()
}

fn md5(octets: &[u8]) -> [u8; 16] {
    let mut digest = ContentMd5::new();
    digest.update(octets);
    digest.finish()
}

fn raptorq(length: u64, blocks: u8) -> Oti {
    let parameters = RaptorQParameters {
        transfer_length: length,
        symbol_size: 16,
        source_blocks: blocks,
        sub_blocks: 1,
        alignment: 4,
    };
    Oti::RaptorQ(RaptorQOti::new(parameters).unwrap())
}

impl Sent {
    fn packet(
        &self,
        toi: u128,
        codepoint: u8,
        extensions: &[u8],
        id: PayloadId,
        symbols: &[u8],
    ) -> Vec<u8> {
        let header =
            Header { widths: self.widths, ..Header::wide(Tsi(self.tsi), Toi(toi), codepoint) };
        let extensions = Extensions::new(extensions).unwrap();
        let mut out = Vec::new();
        Packet { header, extensions, payload: Some(Payload { id, symbols }) }
            .emit(&mut out)
            .unwrap();
        out
    }

    fn fdt(&self, oti: Oti, md5: Option<[u8; 16]>) -> Vec<u8> {
        self.fdt_until(now().utc + HOUR, oti, md5)
    }

    fn fdt_until(&self, expires: Utc, oti: Oti, md5: Option<[u8; 16]>) -> Vec<u8> {
        let entry = FileEntry::plain(Toi(self.toi), self.location, "application/octet-stream", oti);
        let oti = entry.oti.filter(|_| self.in_fdt);
        self.instance_until(expires, 0, FileEntry { content_md5: md5, oti, ..entry })
    }

    fn instance(&self, instance_id: u32, entry: FileEntry) -> Vec<u8> {
        self.instance_until(now().utc + HOUR, instance_id, entry)
    }

    fn instance_until(&self, expires: Utc, instance_id: u32, entry: FileEntry) -> Vec<u8> {
        self.instance_of(instance_id, expires, vec![entry])
    }

    /// Returns an instance that lists all files.
    fn instance_of(&self, instance_id: u32, expires: Utc, files: Vec<FileEntry>) -> Vec<u8> {
        let instance = FdtInstance {
            expires_ntp: expires.ntp_seconds(),
            complete: true,
            files,
            mbms: proto::flute::fdt::mbms::InstanceExtensions::default(),
            skipped: proto::flute::fdt::skipped::Skipped::default(),
        };
        self.document(instance_id, &instance)
    }

    fn document(&self, instance_id: u32, instance: &FdtInstance) -> Vec<u8> {
        let document = instance.to_xml();
        let length = u64::try_from(document.len()).unwrap();
        let size = u16::try_from(document.len().max(1400)).unwrap();
        let fti = Oti::NoCode(NoCodeOti::new(length, size, 1).unwrap());
        let mut extensions = Vec::new();
        let header = FdtHeader { version: self.version, instance_id };
        ExtensionWriter::new(&mut extensions).fdt(header).fti(&fti);
        let id = PayloadId { sbn: Sbn(0), esi: Esi(0) };
        self.packet(0, 0, &extensions, id, document.as_bytes())
    }

    /// Symbols `esis` of all blocks, row by row.
    fn data(&self, content: &[u8], oti: Oti, esis: std::ops::Range<u32>) -> Vec<Vec<u8>> {
        let mut extensions = Vec::new();
        if self.fti {
            ExtensionWriter::new(&mut extensions).fti(&oti);
        }
        let partition = oti.partition();
        let mut packets = Vec::new();
        for sbn in (0..partition.blocks()).map(Sbn) {
            let size = usize::from(oti.symbol_size());
            let first = usize::try_from(partition.first_symbol(sbn).unwrap()).unwrap() * size;
            let count = usize::try_from(partition.symbols_of(sbn).unwrap()).unwrap() * size;
            let block = &content[first..(first + count).min(content.len())];
            let mut add = |esi: Esi, symbol: &[u8]| {
                let id = PayloadId { sbn, esi };
                let packet = self.packet(self.toi, oti.encoding_id(), &extensions, id, symbol);
                packets.push((esi, packet));
            };
            match &oti {
                Oti::NoCode(oti) => nocode::Encoder::new(oti, sbn, block)
                    .unwrap()
                    .for_each_symbol(esis.clone(), &mut add),
                Oti::RaptorQ(oti) => raptorq_crate::Encoder::new(oti, sbn, block)
                    .unwrap()
                    .for_each_symbol(esis.clone(), &mut add),
            }
        }
        packets.sort_by_key(|(esi, _)| *esi);
        packets.into_iter().map(|(_, packet)| packet).collect()
    }
}

#[test]
fn the_golden_session_is_decoded_from_any_three_symbols() {
    let golden = golden::packets();
    for order in [
        vec![0, 1, 2, 3],
        vec![0, 1, 3, 4],
        vec![0, 4, 5, 6],
        vec![7, 6, 5, 4, 0],
        vec![3, 0, 7, 2, 5],
    ] {
        let mut bench = Bench::new();
        order.iter().for_each(|at| bench.receive(&golden[*at]));
        bench.sync();
        let content = bench.file("golden.bin").unwrap_or_else(|| panic!("{order:?}"));
        assert_eq!(content, golden::FILE);
        assert_eq!(bench.complete.len(), 1);
        assert!(bench.is_all_complete());
    }
}

// test: rfc6330 4.4.2
#[test]
fn a_golden_last_symbol_may_come_cut() {
    let mut golden = golden::packets();
    golden[3].truncate(16 + 11);
    let mut bench = Bench::new();
    golden[..4].iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    assert!(bench.file("golden.bin").is_some());
}

// test: rfc6726 3.1, rfc6726 5, rfc5775 2.1, rfc5775 4.4, ts26346-mbms 7.2.8
#[test]
fn every_mix_of_widths_versions_schemes_and_places_of_fti_is_accepted() {
    let content = octets(500);
    let no_code = Oti::NoCode(NoCodeOti::new(500, 16, 10).unwrap());
    for oti in [raptorq(500, 2), no_code] {
        for widths in [Widths::NARROW, Widths::WIDE, Widths { toi_words: 3, ..Widths::WIDE }] {
            for (version, fti, in_fdt) in
                [(1, true, false), (2, false, true), (2, true, true), (1, false, true)]
            {
                for fdt_last in [false, true] {
                    let sent = Sent { widths, version, fti, in_fdt, ..SENT };
                    let mut packets = sent.data(&content, oti, 0..64);
                    let at = if fdt_last { packets.len() } else { 0 };
                    packets.insert(at, sent.fdt(oti, None));
                    let mut bench = Bench::new();
                    packets.iter().for_each(|packet| bench.receive(packet));
                    bench.sync();
                    assert_eq!(bench.file("fw.bin"), Some(&content[..]), "{widths:?} {version}");
                }
            }
        }
    }
}

// test: rfc5651 6.2
#[test]
fn loss_order_and_duplicates_do_not_matter() {
    proptest!(ProptestConfig::with_cases(24), |(
        seed in prop::collection::vec(any::<u16>(), 200),
        blocks in 1_u8..4,
    )| {
        let content = octets(900);
        let oti = raptorq(900, blocks);
        let mut packets = SENT.data(&content, oti, 0..90);
        packets.push(SENT.fdt(oti, None));
        // Each packet is sent twice; about every third is lost; the others arrive in any order.
        let mut received: Vec<_> = seed.iter().zip(packets.iter().chain(&packets).cycle()).collect();
        received.retain(|(number, packet)| *number % 3 != 0 || Packet::parse(packet).unwrap().header.toi == Some(Toi::FDT));
        received.push((&0, packets.last().unwrap()));
        received.sort_by_key(|(number, _)| *number);
        let mut bench = Bench::new();
        received.iter().for_each(|(_, packet)| bench.receive(packet));
        packets.iter().rev().take(packets.len() - 40).for_each(|packet| bench.receive(packet));
        bench.sync();
        prop_assert_eq!(bench.file("fw.bin"), Some(&content[..]));
    });
}

// test: rfc6726 3.1, rfc6726 3.2, rfc5651 4.1, rfc5775 2.1
#[test]
fn two_senders_with_one_tsi_do_not_touch_each_other() {
    let (ours, theirs) = (octets(400), vec![0xee; 400]);
    let oti = raptorq(400, 1);
    let mut bench = Bench::new();
    let a = SENT.data(&ours, oti, 0..25);
    let b = SENT.data(&theirs, oti, 0..25);
    let other: IpAddr = [192, 0, 2, 2].into();
    bench.receive(&SENT.fdt(oti, None));
    bench.receive_from(other, &SENT.fdt(oti, None));
    for (a, b) in a.iter().zip(&b) {
        bench.receive(a);
        bench.receive_from(other, b);
    }
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&ours[..]));
    let second = bench.complete.iter().find(|file| file.source == other).unwrap();
    assert!(second.name.starts_with("fw.bin~"), "{}", second.name);
    assert_eq!(bench.file(&second.name), Some(&theirs[..]));
}

// test: rfc6726 3.3
#[test]
fn packets_after_the_expiry_of_their_description_are_dropped() {
    let content = octets(400);
    let oti = raptorq(400, 1);
    let data = SENT.data(&content, oti, 0..25);
    let mut bench = Bench::new();
    bench.receive(&SENT.fdt(oti, None));
    data[..24].iter().for_each(|packet| bench.receive(packet));
    let later = Now { utc: now().utc + HOUR, ..now() };
    bench.core.handle_datagram(later, SENDER.into(), &data[24]);
    bench.sync();
    assert_eq!((bench.file("fw.bin"), bench.core.stats().accepted), (None, 24));
    let renewed = SENT.fdt_until(later.utc + HOUR, oti, None);
    bench.core.handle_datagram(later, SENDER.into(), &renewed);
    bench.core.handle_datagram(later, SENDER.into(), &data[24]);
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
}

// test: rfc5775 4.4, rfc5775 5.1.2.4
#[test]
fn a_session_that_the_filter_excludes_leaves_no_trace() {
    let oti = raptorq(400, 1);
    for filter in [
        Filter { source: Some([192, 0, 2, 2].into()), ..Filter::default() },
        Filter { source: Some(SENDER.into()), tsi: Some(Tsi(8)), ..Filter::default() },
    ] {
        let mut bench = Bench::new();
        bench.core = UnsignedReceiver::new(Limits::default(), filter, Found::default());
        bench.receive(&SENT.fdt(oti, None));
        SENT.data(&octets(400), oti, 0..25).iter().for_each(|packet| bench.receive(packet));
        let UnsignedStats { datagrams, wrong_session, .. } = bench.core.stats();
        assert_eq!((datagrams, wrong_session), (26, 26));
        assert_eq!(bench.core.files().count(), 0);
        assert!(bench.disk.logs.is_empty());
    }
}

// test: rfc6726 5, rfc5052 6.1, rfc5775 2.3
#[test]
fn packets_that_contradict_the_parameters_of_their_object_are_dropped() {
    let content = octets(400);
    let (oti, other) = (raptorq(400, 1), raptorq(400, 2));
    let no_code = Oti::NoCode(NoCodeOti::new(400, 16, 25).unwrap());
    let mut bench = Bench::new();
    bench.receive(&SENT.fdt(oti, None));
    for wrong in [other, no_code] {
        SENT.data(&content, wrong, 0..9).iter().for_each(|packet| bench.receive(packet));
    }
    assert_eq!((bench.core.stats().contradicting, bench.core.stats().accepted), (9 * 2 + 9, 0));
    SENT.data(&content, oti, 0..25).iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
}

// test: rfc5651 5.1, rfc5651 8.1
#[test]
fn forged_flags_drop_nothing() {
    let content = octets(400);
    let oti = raptorq(400, 1);
    let mut bench = Bench::new();
    bench.receive(&SENT.fdt(oti, None));
    for (at, packet) in SENT.data(&content, oti, 0..25).into_iter().enumerate() {
        bench.receive(&packet);
        let mut flagged = packet.clone();
        flagged[1] |= if at % 2 == 0 { 1 } else { 3 };
        bench.receive(&flagged);
        let mut close = Vec::new();
        Header::close(Tsi(7)).emit(Extensions::NONE, &mut close).unwrap();
        bench.receive(&close);
    }
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
}

#[test]
fn a_restart_resumes_from_the_stored_symbols() {
    let content = octets(3000);
    let oti = raptorq(3000, 4);
    let data = SENT.data(&content, oti, 0..60);
    let mut bench = Bench::new();
    bench.receive(&SENT.fdt(oti, Some(md5(&content))));
    data[..120].iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    let before = bench.core.files().next().unwrap();
    assert_eq!(before.symbols_held, 120);
    let mut bench = bench.restart();
    bench.receive(&SENT.fdt(oti, Some(md5(&content))));
    let after = bench.core.files().next().unwrap();
    assert_eq!((after.symbols_held, after.state), (120, "receiving"));
    data[120..200].iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    let mut bench = bench.restart();
    bench.receive(&SENT.fdt(oti, Some(md5(&content))));
    data[200..].iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
    // A complete file is not received again.
    let mut bench = bench.restart();
    bench.receive(&SENT.fdt(oti, Some(md5(&content))));
    assert_eq!((bench.complete.len(), bench.is_all_complete()), (1, true));
}

#[test]
fn a_removed_file_is_received_again() {
    let content = octets(100);
    let oti = raptorq(100, 1);
    let mut bench = Bench::new();
    let session =
        [vec![SENT.fdt(oti, Some(md5(&content)))], SENT.data(&content, oti, 0..9)].concat();
    session.iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    bench.disk.files.clear();
    let mut bench = bench.restart();
    session.iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
}

#[test]
fn a_removed_incomplete_file_is_assembled_anew() {
    let content = octets(3000);
    let oti = raptorq(3000, 4);
    let data = SENT.data(&content, oti, 0..60);
    let mut bench = Bench::new();
    bench.receive(&SENT.fdt(oti, Some(md5(&content))));
    // Three blocks are decoded, the fourth is not.
    let without_last = data
        .iter()
        .filter(|packet| Packet::parse(packet).unwrap().payload.unwrap().id.sbn != Sbn(3));
    without_last.for_each(|packet| bench.receive(packet));
    bench.sync();
    assert_eq!(bench.core.files().next().unwrap().blocks_done, 3);
    bench.disk.parts.clear();
    let mut bench = bench.restart();
    bench.receive(&SENT.fdt(oti, Some(md5(&content))));
    // Symbols whose slots were not used again are still stored; the others are received again.
    data.iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
}

// test: rfc6726 3.4.2
#[test]
fn an_empty_file_is_complete_as_soon_as_it_is_described() {
    for (encoding_id, transfer_length) in [(None, None), (Some(6), Some(0)), (Some(5), Some(0))] {
        let mut bench = Bench::new();
        let oti = raptorq(9, 1);
        let entry = FileEntry {
            content_length: Some(0),
            transfer_length,
            content_md5: Some(md5(b"")),
            oti: None,
            encoding_id,
            ..FileEntry::plain(Toi(1), "empty.bin", "text/plain", oti)
        };
        let fdt = SENT.instance(0, entry);
        bench.receive(&fdt);
        assert_eq!(bench.file("empty.bin"), Some(&[][..]));
        assert!(bench.is_all_complete());
        let report = bench.core.files().next().unwrap();
        assert_eq!((report.length, report.blocks, report.symbols_needed), (0, 0, 0));
        assert_eq!((report.state, report.problem), ("complete", None));
        let mut again = bench.restart();
        again.receive(&fdt);
        assert_eq!(again.complete.len(), 1);
        assert_eq!(again.disk.files.len(), 1);
    }
}

#[test]
fn a_wrong_digest_ends_after_a_second_try_until_the_file_is_described_otherwise() {
    let oti = raptorq(100, 1);
    let content = octets(100);
    let mut bench = Bench::new();
    bench.receive(&SENT.fdt(oti, Some([7; 16])));
    let packets = SENT.data(&content, oti, 0..9);
    for round in 1..4 {
        packets.iter().for_each(|packet| bench.receive(packet));
        bench.sync();
        assert_eq!(bench.core.stats().wrong_digest, round.min(2));
    }
    assert_eq!(bench.file("fw.bin"), None);
    assert_eq!(bench.standing(), Standing::Refused);
    assert!(bench.disk.records.is_empty() && bench.disk.logs.is_empty());
    let report = bench.core.files().next().unwrap();
    assert_eq!(report.state, "failed");
    assert!(report.problem.unwrap().contains("Content-MD5"));
    // The same entry in another instance changes nothing.
    let entry = FileEntry::plain(Toi(1), SENT.location, "application/octet-stream", oti);
    let with = |digest| FileEntry { content_md5: Some(digest), ..entry.clone() };
    bench.receive(&SENT.instance(1, with([7; 16])));
    packets.iter().for_each(|packet| bench.receive(packet));
    assert_eq!(bench.standing(), Standing::Refused);
    bench.receive(&SENT.instance(2, with(md5(&content))));
    assert_eq!(bench.standing(), Standing::Open);
    packets.iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
    assert!(bench.is_all_complete());
}

#[test]
fn a_known_content_encoding_is_decoded_and_an_unknown_one_reported() {
    let oti = raptorq(100, 1);
    let limits = Limits::default();
    let entry = |encoding: &str, content_length| FileEntry {
        content_encoding: Some(encoding.to_owned()),
        transfer_length: Some(100),
        content_length,
        content_md5: Some([7; 16]),
        ..FileEntry::plain(Toi(1), "a", "text/plain", oti)
    };
    let of = |encoding, length| content(&limits, &entry(encoding, length), &oti, "a".to_owned());
    let known = of("gzip", Some(400)).encoded.unwrap();
    assert_eq!((known.length, known.limit), (Some(400), 400));
    let open = of("deflate", None).encoded.unwrap();
    assert_eq!((open.length, open.limit), (None, 100 * MAX_GROWTH));
    let unknown = of("br", Some(400));
    assert_eq!((unknown.encoded, unknown.md5), (None, None));

    let mut bench = Bench::new();
    bench.receive(&SENT.instance(0, entry("br", Some(400))));
    SENT.data(&octets(100), oti, 0..9).iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    assert_eq!(bench.file("a"), Some(&octets(100)[..]));
    let report = bench.core.files().next().unwrap();
    assert_eq!(report.state, "complete");
    assert!(report.problem.unwrap().contains("\"br\" is not known: stored as sent"));
    let identity = UnsignedIdentity { source: SENDER.into(), tsi: Tsi(7), toi: Toi(1) };
    let location = UnsignedDescription::location_hash("a");
    let described = UnsignedDescription { length: 400, md5: None, generation: 0, location };
    let layout = ObjectLayout::unsigned(&identity, &described, oti, unknown).unwrap();
    let huge = entry("gzip", Some(limits.file_bytes + 1));
    assert!(beyond(&limits, &layout, &huge).unwrap().contains("octets"));
}

#[test]
fn names_from_the_network_stay_in_the_directory() {
    let content = octets(100);
    let oti = raptorq(100, 1);
    let mut bench = Bench::new();
    for (toi, location) in
        [(1, "../../etc/passwd"), (2, "/etc/passwd"), (3, "%2e%2e/passwd"), (4, "..")]
    {
        let sent = Sent { toi, tsi: u64::try_from(toi).unwrap(), location, ..SENT };
        bench.receive(&sent.fdt(oti, None));
        sent.data(&content, oti, 0..9).iter().for_each(|packet| bench.receive(packet));
    }
    bench.sync();
    assert_eq!(bench.disk.files.len(), 4);
    assert!(bench.disk.files.keys().all(|name| !name.contains('/') && !name.starts_with('.')));
}

// test: rfc5651 6.2, rfc5775 4.4
#[test]
fn no_datagram_harms_the_core() {
    proptest!(ProptestConfig::with_cases(200), |(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        at in 0_usize..2000,
        flip in 1_u8..,
    )| {
        let oti = raptorq(100, 1);
        let mut bench = Bench::new();
        let mut received = vec![SENT.fdt(oti, None)];
        received.extend(SENT.data(&octets(100), oti, 0..4));
        for packet in &mut received {
            let at = at % packet.len();
            packet[at] ^= flip;
            bench.receive(packet);
        }
        bench.receive(&noise);
        bench.sync();
    });
}

#[test]
fn a_dissected_session_shows_missing_symbols() {
    let golden = golden::packets();
    let mut dissector = dissect::Dissector::new();
    let mut dissect =
        |packet: &Vec<u8>| dissector.handle_datagram(now().utc, SENDER.into(), packet);
    let first = dissect(&golden[0]);
    assert!(
        first.ends_with("FDT(0, FLUTE 2) FTI -> FDT instance 0: file:///golden.bin"),
        "{first}"
    );
    let symbol = dissect(&golden[2]);
    assert_eq!(symbol, "192.0.2.1 TSI 7 TOI 1 CP 6 SBN 0 ESI 1 16 octets");
    assert_eq!(dissect(&golden[7]), "192.0.2.1 TSI 7 CP 0 A no data");
    assert!(dissect(&golden[5][..15].to_vec()).contains("TSI 7 TOI 1 CP 6 not understood"));
    dissect(&golden[5]);
    let objects = dissector.objects();
    assert_eq!(objects[0].problem, None);
    assert_eq!(objects[1].problem.as_deref(), Some("1 symbols of 1 blocks are missing"));
    let block = &objects[1].blocks[0];
    assert_eq!((block.symbols, block.held, block.held_source), (Some(3), 2, 1));
    dissector.handle_datagram(now().utc, SENDER.into(), &golden[6]);
    assert!(dissector.objects()[1].complete);
}

mod bench;
mod contents;
mod deliveries;
mod foreign;
mod hostile;
mod orders;
mod reasons;
mod sessions;
