//! Senders that are not the one that is meant: they announce much and send little.

use super::*;

/// Sessions and objects of strangers in a test.
const MANY: u64 = 10_000;

const STRANGER: [u8; 4] = [198, 51, 100, 9];

fn limits() -> Limits {
    Limits { disk_bytes: 400 << 20, ..Limits::default() }
}

fn stranger(tsi: u64, toi: u128) -> Sent {
    Sent { tsi, toi, location: "file:///theirs.bin", ..SENT }
}

/// An honest session: its packets, the FDT between them, and its content.
fn honest() -> (Vec<Vec<u8>>, Vec<u8>) {
    let content = octets(24_000);
    let oti = raptorq(24_000, 3);
    let mut packets = vec![SENT.fdt(oti, None)];
    for (at, packet) in SENT.data(&content, oti, 0..520).into_iter().enumerate() {
        packets.push(packet);
        if at % 50 == 0 {
            packets.push(SENT.fdt(oti, None));
        }
    }
    (packets, content)
}

impl Bench {
    /// Receives a packet 50 microseconds after the last one; checks the limits.
    fn receive_paced(&mut self, source: [u8; 4], packet: &[u8]) {
        self.elapsed += Duration::from_micros(50);
        self.receive_from(source.into(), packet);
        let limits = limits();
        assert!(self.core.disk_bytes() <= limits.disk_bytes, "{}", self.core.disk_bytes());
        let (sessions, bytes) = self.core.sessions.size();
        assert!(sessions <= limits.sessions && bytes <= limits.table_bytes);
    }

    fn check_disk(&self) {
        assert!(self.disk.bytes() <= limits().disk_bytes, "{} octets", self.disk.bytes());
        let incomplete = self.core.objects.len() - self.complete.len();
        assert!(incomplete <= limits().objects, "{incomplete}");
        assert!(self.core.waiting() * 64 <= limits().waiting_bytes);
    }
}

#[test]
fn announced_files_without_symbols_reserve_nothing() {
    let mut bench = Bench::with(limits(), Disk::default());
    for tsi in 0..14 {
        bench.receive(&stranger(tsi, 1).fdt(huge(), None));
    }
    assert_eq!((bench.core.disk_bytes(), bench.disk.bytes()), (0, 0));
    assert!(bench.disk.layouts.is_empty() && !bench.core.is_busy());
    assert_eq!(bench.core.files().count(), 14);
}

#[test]
fn ten_thousand_sessions_of_strangers_do_not_shut_the_honest_one_out() {
    let mut bench = Bench::with(limits(), Disk::default());
    let (packets, content) = honest();
    let mut packets = packets.iter();
    for tsi in 0..MANY {
        let sent = stranger(1000 + tsi, 1);
        bench.receive_paced(STRANGER, &sent.fdt(huge(), None));
        bench.receive_paced(STRANGER, &forged(&sent, huge()));
        if tsi % 64 == 0 {
            bench.check_disk();
        }
        // All places are taken when the honest session begins.
        if tsi > 1000 && tsi % 4 == 0 {
            packets.next().into_iter().for_each(|packet| bench.receive_paced(SENDER, packet));
        }
    }
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
    assert!(bench.core.stats().evicted > MANY / 2 && bench.core.stats().sessions_evicted > 0);
    bench.check_disk();
}

#[test]
fn ten_thousand_objects_of_one_session_do_not_shut_the_honest_one_out() {
    let mut bench = Bench::with(limits(), Disk::default());
    let (packets, content) = honest();
    let mut packets = packets.iter();
    for toi in 0..u128::from(MANY) {
        let sent = stranger(1000, 1 + toi);
        let entry = FileEntry::plain(Toi(sent.toi), sent.location, "text/plain", huge());
        let instance = u32::try_from(toi).unwrap();
        bench.receive_paced(STRANGER, &sent.instance(instance, entry));
        bench.receive_paced(STRANGER, &forged(&sent, huge()));
        if toi > 1000 && toi % 4 == 0 {
            packets.next().into_iter().for_each(|packet| bench.receive_paced(SENDER, packet));
        }
    }
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
    bench.check_disk();
}

#[test]
fn a_session_that_falls_silent_makes_room_and_comes_back() {
    let mut bench = Bench::with(limits(), Disk::default());
    let (packets, content) = honest();
    packets[..200].iter().for_each(|packet| bench.receive_paced(SENDER, packet));
    bench.elapsed += limits().idle_after;
    for tsi in 0..100 {
        let sent = stranger(1000 + tsi, 1);
        bench.receive_paced(STRANGER, &sent.fdt(huge(), None));
        bench.receive_paced(STRANGER, &forged(&sent, huge()));
    }
    assert_eq!(bench.core.files().find(|file| file.tsi == 7).unwrap().symbols_held, 0);
    packets.iter().for_each(|packet| bench.receive_paced(SENDER, packet));
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
}

#[test]
fn a_disk_that_was_full_costs_no_file() {
    let mut bench = Bench::with(limits(), Disk::default());
    let (packets, content) = honest();
    bench.is_full = true;
    packets[..100].iter().for_each(|packet| bench.receive_paced(SENDER, packet));
    let report = bench.core.files().next().unwrap();
    assert!(report.problem.unwrap().contains("failed to reserve"));
    bench.is_full = false;
    bench.elapsed += limits().retry_after;
    packets.iter().for_each(|packet| bench.receive_paced(SENDER, packet));
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
}

/// The log gives up while a block is decoded: what the file was to hear would go nowhere for ever.
#[test]
fn a_log_that_fails_during_an_attempt_is_opened_again() {
    let mut bench = Bench::with(limits(), Disk::default());
    let (packets, content) = honest();
    let mut job = None;
    let mut packets = packets.iter().cycle();
    while job.is_none() {
        bench.core.handle_datagram(bench.now(), SENDER.into(), packets.next().unwrap());
        while let Some(output) = bench.core.poll_output() {
            if matches!(output, Output::Decode(_)) {
                job = Some(output);
            } else if let Some(answer) = bench.execute(output) {
                bench.answer(answer);
            }
        }
    }
    let key = bench.disk.layouts.keys().next().copied().unwrap();
    for _ in 0..20 {
        bench.core.handle_datagram(bench.now(), SENDER.into(), packets.next().unwrap());
        bench.elapsed += Duration::from_secs(2);
        bench.core.handle_timeout(bench.now());
        while let Some(output) = bench.core.poll_output() {
            if let Output::Log(_, LogOutput::Flush(ticket)) = output {
                bench.core.handle_log_failed(bench.now(), key, ticket);
            }
        }
    }
    assert_eq!(bench.core.files().next().unwrap().state, "receiving", "the attempt goes on");
    let answer = bench.execute(job.unwrap()).unwrap();
    bench.answer(answer);
    bench.settle();
    let report = bench.core.files().next().unwrap();
    assert!(report.problem.unwrap().contains("failed to store"), "{}", report.state);
    bench.elapsed += limits().retry_after;
    packets.take(1000).for_each(|packet| bench.receive_paced(SENDER, packet));
    bench.sync();
    assert_eq!(bench.file("fw.bin"), Some(&content[..]));
}

#[test]
fn complete_files_count_towards_the_limit_of_the_disk() {
    let limits = Limits { disk_bytes: 800_000, ..Limits::default() };
    let mut bench = Bench::with(limits, Disk::default());
    let oti = raptorq(20_000, 2);
    for tsi in 0..40 {
        let sent = stranger(tsi, 1);
        bench.receive(&sent.fdt(oti, None));
        sent.data(&octets(20_000), oti, 0..660).iter().for_each(|packet| bench.receive(packet));
        bench.sync();
        assert!(bench.core.disk_bytes() <= limits.disk_bytes);
        assert!(bench.disk.bytes() <= limits.disk_bytes, "{}", bench.disk.bytes());
    }
    let reports: Vec<_> = bench.core.files().take(2).collect();
    assert!((5..35).contains(&bench.complete.len()), "{} {reports:?}", bench.complete.len());
    let waits = bench.core.files().any(|file| file.state != "complete" && file.problem.is_some());
    assert!(waits, "a file that has no room names the reason");
}

#[test]
fn a_file_beyond_the_limits_is_named_and_not_received() {
    let mut bench = Bench::new();
    let large = RaptorQParameters {
        transfer_length: 9000 * 16,
        symbol_size: 16,
        source_blocks: 1,
        sub_blocks: 1,
        alignment: 4,
    };
    let oti = Oti::RaptorQ(RaptorQOti::new(large).unwrap());
    bench.receive(&SENT.fdt(oti, None));
    bench.receive(&forged(&SENT, oti));
    let file = bench.core.files().next().unwrap();
    assert_eq!(file.state, "failed");
    assert!(file.problem.unwrap().contains("9000 symbols"));
    assert!(bench.disk.logs.is_empty());
}

#[test]
fn announced_sizes_cost_bounded_memory() {
    let now = now();
    let mut core = UnsignedReceiver::new(Limits::default(), Filter::default(), Found::default());
    let announce = |core: &mut UnsignedReceiver, toi, oti| {
        let sent = Sent { tsi: u64::try_from(toi).unwrap(), toi, ..SENT };
        let oti = Oti::NoCode(oti);
        core.handle_datagram(now, SENDER.into(), &sent.fdt(oti, None));
        core.handle_datagram(now, SENDER.into(), &forged(&sent, oti));
    };
    // One bit for each of 2^31 symbols would be 256 MiB.
    announce(&mut core, 1, NoCodeOti::new(1 << 30, 1, 65_536).unwrap());
    let file = core.files().next().unwrap();
    assert!(file.problem.unwrap().contains("too many to index"));
    assert_eq!(core.poll_output(), None);
    // Each of these is fine alone: 64 octets for each of 65,536 blocks.
    let blocks = NoCodeOti::new(65_536 * 8, 1, 8).unwrap();
    (2..30).for_each(|toi| announce(&mut core, toi, blocks));
    let mut opened = Vec::new();
    while let Some(output) = core.poll_output() {
        if let Output::Open(layout) = &output {
            opened.push(layout.index_bytes());
        } else {
            assert!(matches!(output, Output::WriteRecord(..)), "{output:?}");
        }
    }
    assert_eq!(opened.len(), 3);
    assert!(opened.iter().sum::<u64>() <= Limits::default().index_bytes);
}

/// Returns a packet with a symbol of `sent` that nobody encoded.
fn forged(sent: &Sent, oti: Oti) -> Vec<u8> {
    let symbol = vec![0x5a; usize::from(oti.symbol_size())];
    let id = PayloadId { sbn: Sbn(0), esi: Esi(0) };
    sent.packet(sent.toi, oti.encoding_id(), &[], id, &symbol)
}

/// Announced by strangers: 512 MiB.
fn huge() -> Oti {
    Oti::NoCode(NoCodeOti::new(512 << 20, 1400, 8192).unwrap())
}
