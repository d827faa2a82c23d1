//! Habits of other senders: odd tables, absent scheme names, other schemes, clocks.

use proto::flute::fdt::{store::Expiry, unnamed::UnnamedOti};

use super::*;

/// A packet with a whole table.
fn table(instance_id: u32, document: &str) -> Vec<u8> {
    let length = u64::try_from(document.len()).unwrap();
    let fti = Oti::NoCode(NoCodeOti::new(length, 1400, 1).unwrap());
    let mut extensions = Vec::new();
    ExtensionWriter::new(&mut extensions).fdt(FdtHeader { version: 2, instance_id }).fti(&fti);
    let id = PayloadId { sbn: Sbn(0), esi: Esi(0) };
    SENT.packet(0, 0, &extensions, id, document.as_bytes())
}

/// A table with these entries that lasts an hour.
fn entries(entries: &str) -> String {
    let expires = (now().utc + HOUR).ntp_seconds();
    format!("<FDT-Instance Expires=\"{expires}\">{entries}</FDT-Instance>")
}

const GOOD: &str = "<File TOI='1' Content-Location='good.bin' Content-Length='100' \
    FEC-OTI-FEC-Encoding-ID='0' FEC-OTI-Encoding-Symbol-Length='16' \
    FEC-OTI-Maximum-Source-Block-Length='9'/>";

fn no_code() -> Oti {
    Oti::NoCode(NoCodeOti::new(100, 16, 9).unwrap())
}

fn oddities(bench: &Bench) -> Vec<String> {
    bench.core.oddities().all().iter().map(ToString::to_string).collect()
}

// test: rfc6726 3.4.2
#[test]
fn a_file_beside_an_entry_that_cannot_be_read_arrives_and_the_entry_is_named() {
    let mut bench = Bench::new();
    let odd = "<File TOI='2' Content-Location='odd.bin' Content-MD5='00ff00ff'/>";
    bench.receive(&table(0, &entries(&format!("{odd}{GOOD}"))));
    SENT.data(&octets(100), no_code(), 0..9).iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    assert_eq!(bench.file("good.bin"), Some(&octets(100)[..]));
    assert_eq!(bench.core.stats().fdt_entries_skipped, 1);
    let named = oddities(&bench);
    assert!(named[0].contains("TOI 2 is skipped: Content-MD5"), "{named:?}");
    // Something is announced that cannot be received: that is no completion.
    assert_eq!(bench.standing(), Standing::Refused);
    // Another instance leaves the entry announced; one that is mended does not.
    bench.receive(&table(1, &entries(GOOD)));
    assert_eq!(bench.standing(), Standing::Refused);
    bench.receive(&table(0, &entries(GOOD)));
    assert!(bench.is_all_complete());
}

#[test]
fn an_instance_without_an_entry_or_a_document_that_can_be_read_is_no_completion() {
    let odd = "<File TOI='2' Content-Location='odd.bin' Content-MD5='00ff00ff'/>";
    for document in [entries(odd), "<FDT-Instance Expires='1'".to_owned()] {
        let mut bench = Bench::new();
        bench.receive(&table(0, &document));
        assert_eq!(bench.standing(), Standing::Refused, "{document}");
        bench.receive(&table(1, &entries(GOOD)));
        SENT.data(&octets(100), no_code(), 0..9).iter().for_each(|packet| bench.receive(packet));
        bench.sync();
        assert_eq!(bench.file("good.bin"), Some(&octets(100)[..]));
        assert_eq!(bench.standing(), Standing::Refused, "{document}");
        bench.receive(&table(0, &entries(GOOD)));
        assert!(bench.is_all_complete(), "{document}");
    }
}

#[test]
fn instances_that_find_no_memory_are_named() {
    let mut bench = Bench::new();
    let fti = Oti::NoCode(NoCodeOti::new(1 << 20, 60_000, 64).unwrap());
    for instance_id in 0..80 {
        let mut extensions = Vec::new();
        ExtensionWriter::new(&mut extensions).fdt(FdtHeader { version: 2, instance_id }).fti(&fti);
        let id = PayloadId { sbn: Sbn(0), esi: Esi(0) };
        bench.receive(&SENT.packet(0, 0, &extensions, id, &[b'<'; 60_000]));
    }
    let named = oddities(&bench);
    let reason = "an FDT instance was given up before it was whole";
    assert!(named.iter().any(|named| named.starts_with(reason)), "{named:?}");
}

// test: rfc6726 5
#[test]
fn where_the_table_names_no_scheme_the_codepoint_of_the_packets_does() {
    let (content, sent) = (octets(500), Sent { fti: false, ..SENT });
    for (oti, scheme_specific) in [
        (Oti::NoCode(NoCodeOti::new(500, 16, 10).unwrap()), None),
        (raptorq(500, 2), Some(vec![2, 0, 1, 4])),
    ] {
        for fdt_last in [false, true] {
            let unnamed = UnnamedOti {
                symbol_length: 16,
                block_length: Some(10),
                scheme_specific: scheme_specific.clone(),
            };
            let entry = FileEntry {
                encoding_id: None,
                oti: None,
                unnamed: Some(unnamed),
                ..FileEntry::plain(Toi(1), "a.bin", "text/plain", oti)
            };
            let mut packets = sent.data(&content, oti, 0..64);
            let at = if fdt_last { packets.len() } else { 0 };
            packets.insert(at, sent.instance(0, entry));
            let mut bench = Bench::new();
            packets.iter().for_each(|packet| bench.receive(packet));
            bench.sync();
            assert_eq!(bench.file("a.bin"), Some(&content[..]), "{oti:?} {fdt_last}");
        }
    }
}

// test: rfc6726 3.3
#[test]
fn packets_of_other_fec_schemes_are_counted_and_the_scheme_is_named() {
    let mut bench = Bench::new();
    for (toi, codepoint) in [(0, 129), (1, 5), (1, 5), (1, 1), (1, 2)] {
        let header = Header::wide(Tsi(7), Toi(toi), codepoint);
        let mut packet = Vec::new();
        header.emit(Extensions::NONE, &mut packet).unwrap();
        packet.extend([0; 12]);
        bench.receive(&packet);
    }
    let stats = bench.core.stats();
    assert_eq!((stats.unsupported_fec, stats.malformed), (5, 0));
    let named = oddities(&bench).join("\n");
    for text in [
        "an FDT: FEC Encoding ID 129 (Small Block Systematic)",
        "a file: FEC Encoding ID 5 (Reed-Solomon over GF(2^8)) is not supported: 0 and 6 are (2 times)",
        "ID 1 (Raptor)",
        "ID 2 (Reed-Solomon over GF(2^m))",
    ] {
        assert!(named.contains(text), "{text}: {named}");
    }
    let entry = entries("<File TOI='1' Content-Location='r.bin' FEC-OTI-FEC-Encoding-ID='2'/>");
    bench.receive(&table(0, &entry));
    let problem = bench.core.files().next().unwrap().problem.unwrap();
    assert!(problem.contains("ID 2 (Reed-Solomon over GF(2^m)) is not supported"), "{problem}");
}

/// FEC parameters of zeros, as some senders write them for files without any.
fn with_zeros() -> Vec<u8> {
    let extensions = [&[64, 4][..], &[0; 14]].concat();
    SENT.packet(1, 0, &extensions, PayloadId { sbn: Sbn(0), esi: Esi(0) }, &[7; 16])
}

#[test]
fn parameters_of_zeros_are_given_as_the_reason() {
    let mut bench = Bench::new();
    bench.receive(&table(0, &entries(GOOD)));
    bench.receive(&with_zeros());
    assert!(oddities(&bench)[0].contains("EXT_FTI: "), "{:?}", oddities(&bench));

    let mut dissector = dissect::Dissector::new();
    let line = dissector.handle_datagram(now().utc, SENDER.into(), &with_zeros());
    assert!(line.contains("FTI (EXT_FTI is not valid: "), "{line}");
    let problem = dissector.objects()[0].problem.clone().unwrap();
    assert!(problem.contains("EXT_FTI of its packets is not valid"), "{problem}");
}

// test: rfc6726 3.3
#[test]
fn the_time_since_an_expiry_is_reported_and_an_operator_may_accept_it() {
    let oti = raptorq(400, 1);
    let (data, expires) = (SENT.data(&octets(400), oti, 0..25), now().utc);
    let fdt = SENT.fdt_until(expires, oti, None);
    let late = Now { utc: expires + 3 * HOUR, ..now() };
    for (expiry, arrives) in [(Expiry::Checked, false), (Expiry::Ignored, true)] {
        let mut bench = Bench::new();
        let filter = Filter { expiry, ..Filter::default() };
        bench.core = UnsignedReceiver::new(Limits::default(), filter, Found::default());
        for packet in [std::slice::from_ref(&fdt), &data].concat() {
            bench.core.handle_datagram(late, SENDER.into(), &packet);
        }
        bench.sync();
        assert_eq!(bench.file("fw.bin").is_some(), arrives);
        let stats = bench.core.stats();
        let expected = if arrives { (0, 0) } else { (1, 10_800) };
        assert_eq!((stats.fdt_expired, stats.fdt_overdue_seconds), expected);
    }
    let mut dissector = dissect::Dissector::new();
    let line = dissector.handle_datagram(late.utc, SENDER.into(), &fdt);
    assert!(
        line.ends_with("FDT instance 0, which had expired 3 h before: file:///fw.bin"),
        "{line}"
    );
    for packet in &data {
        dissector.handle_datagram(late.utc, SENDER.into(), packet);
    }
    let problem = dissector.objects()[1].problem.clone().unwrap();
    assert_eq!(problem, "its description had expired 3 h before it came");
}

// test: rfc6726 5, rfc6726 3.3
#[test]
fn a_dissected_session_names_its_schemes_and_what_was_skipped() {
    let mut dissector = dissect::Dissector::new();
    let odd = "<File TOI='2'/><File TOI='3' Content-Location='c' FEC-OTI-FEC-Encoding-ID='129'/>";
    let named = GOOD.replace("FEC-OTI-FEC-Encoding-ID='0'", "");
    let line = dissector.handle_datagram(
        now().utc,
        SENDER.into(),
        &table(0, &entries(&format!("{odd}{named}"))),
    );
    assert!(line.ends_with("FDT instance 0, entries skipped: 1: c, good.bin"), "{line}");
    assert!(dissector.notes()[0].contains("TOI 2 is skipped"), "{:?}", dissector.notes());
    let sent = Sent { fti: false, ..SENT };
    for packet in sent.data(&octets(100), no_code(), 0..9) {
        dissector.handle_datagram(now().utc, SENDER.into(), &packet);
    }
    let mut packet = Vec::new();
    Header::wide(Tsi(7), Toi(3), 129).emit(Extensions::NONE, &mut packet).unwrap();
    packet.extend([0; 12]);
    let line = dissector.handle_datagram(now().utc, SENDER.into(), &packet);
    assert!(line.contains("not understood"), "{line}");
    let objects = dissector.objects();
    assert!(objects[1].complete, "{:?}", objects[1]);
    let problem = objects[2].problem.clone().unwrap();
    assert!(problem.contains("ID 129 (Small Block Systematic) is not supported"), "{problem}");
    assert_eq!(objects[2].fec_encoding_id, 129);
}

#[test]
fn symbols_of_an_object_whose_entry_cannot_be_read_keep_nobody_waiting() {
    let digest = "Content-MD5='d41d8cd98f00b204e9800998ecf8427e'";
    let odd = |entry: &str| entry.replacen("<File ", &format!("<File {digest} "), 1);
    let packets = SENT.data(&octets(100), no_code(), 0..9);
    for (entry, standing) in [(odd(GOOD), Standing::Refused), (GOOD.to_owned(), Standing::Complete)]
    {
        let mut bench = Bench::new();
        bench.receive(&table(0, &entries(&entry)));
        packets.iter().for_each(|packet| bench.receive(packet));
        bench.sync();
        assert_eq!(bench.standing(), standing);
        // Another object may be described yet.
        Sent { toi: 9, ..SENT }
            .data(&octets(100), no_code(), 0..9)
            .iter()
            .for_each(|packet| bench.receive(packet));
        bench.sync();
        assert_eq!(bench.standing(), Standing::Open);
    }
}

#[test]
fn the_clock_of_the_sender_is_read_from_packets_of_files_too() {
    let oti = raptorq(400, 1);
    let sent = Sent { fti: false, ..SENT };
    let fdt = sent.fdt_until(now().utc, oti, None);
    let clock = Utc(now().utc.0 - 3_600_000).ntp_seconds();
    let time = [&[2, 2, 0x80, 0][..], &clock.to_be_bytes()].concat();
    for (extensions, arrives) in [(&time[..], true), (&[], false)] {
        let mut bench = Bench::new();
        for (id, octets) in proto::fixtures::packet::symbols(&oti, &octets(400), 0) {
            bench.receive(&sent.packet(1, 6, extensions, id, &octets));
        }
        bench.receive(&fdt);
        bench.sync();
        assert_eq!(bench.file("fw.bin").is_some(), arrives);
    }
}
