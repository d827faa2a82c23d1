//! The reasons that are given for what is not received.

use super::*;

fn oti() -> Oti {
    Oti::NoCode(NoCodeOti::new(100, 16, 9).unwrap())
}

fn entry() -> FileEntry {
    FileEntry::plain(Toi(1), "a.bin", "text/plain", oti())
}

fn data(fti: bool, oti: Oti) -> Vec<Vec<u8>> {
    Sent { fti, ..SENT }.data(&octets(100), oti, 0..9)
}

/// Returns the problem of the only file and the oddities after these packets.
fn reported(packets: &[Vec<u8>]) -> (String, Vec<String>) {
    let mut bench = Bench::new();
    packets.iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    let problem = bench.core.files().next().and_then(|file| file.problem);
    let oddities = bench.core.oddities().all().iter().map(ToString::to_string).collect();
    (problem.unwrap_or_default(), oddities)
}

#[test]
fn a_file_that_does_not_match_its_description_says_so_before_it_comes_again() {
    let wrong = FileEntry { content_md5: Some([7; 16]), ..entry() };
    let (problem, oddities) =
        reported(&[vec![SENT.instance(0, wrong)], data(false, oti())].concat());
    let why = "its digest does not match its Content-MD5";
    assert_eq!(problem, format!("{why}; it is received once more"));
    assert_eq!(oddities, [format!("a file does not match its description: {why}")]);
}

#[test]
fn parameters_that_contradict_each_other_are_the_reason() {
    let longer = Oti::NoCode(NoCodeOti::new(101, 16, 9).unwrap());
    let (problem, oddities) =
        reported(&[vec![SENT.instance(0, entry())], data(true, longer)].concat());
    assert_eq!(problem, "EXT_FTI and FDT disagree about its transfer length: 101 and 100");
    assert!(oddities[0].starts_with("a packet contradicts the FEC parameters"), "{oddities:?}");
}

#[test]
fn symbols_of_another_size_are_the_reason() {
    let smaller = Oti::NoCode(NoCodeOti::new(100, 15, 9).unwrap());
    let fdt = FileEntry::plain(Toi(1), "a.bin", "text/plain", smaller);
    let (problem, oddities) = reported(&[vec![SENT.instance(0, fdt)], data(false, oti())].concat());
    assert_eq!(problem, "its symbols have 16 octets, by its description 15");
    assert!(oddities[0].starts_with("a symbol does not fit"), "{oddities:?}");
}

#[test]
fn a_transfer_length_that_nobody_states_is_the_reason() {
    let encoded = FileEntry { content_encoding: Some("br".to_owned()), oti: None, ..entry() };
    let (problem, _) = reported(&[vec![SENT.instance(0, encoded)], data(false, oti())].concat());
    let named = "its transfer length is not known: Transfer-Length is absent";
    assert!(problem.starts_with(named) && problem.contains("\"br\""), "{problem}");
}

#[test]
fn what_is_no_packet_and_a_table_without_parameters_are_named() {
    let mut extensions = Vec::new();
    let header = FdtHeader { version: 2, instance_id: 0 };
    ExtensionWriter::new(&mut extensions).fdt(header);
    let id = PayloadId { sbn: Sbn(0), esi: Esi(0) };
    let bare = SENT.packet(0, 0, &extensions, id, b"<FDT-Instance");
    let (_, oddities) = reported(&[bare, vec![0x30, 0x10, 3, 0], vec![0x10]]);
    assert_eq!(
        oddities,
        [
            "a datagram is no ALC packet: LCT header is cut off",
            "a datagram is no ALC packet: LCT version is not 1",
            "an FDT instance came without its FEC parameters (EXT_FTI)",
        ]
    );
}

#[test]
fn a_file_in_a_scheme_of_others_is_refused_and_keeps_nobody_waiting() {
    let mut bench = Bench::new();
    let foreign = FileEntry { encoding_id: Some(5), oti: None, toi: Toi(2), ..entry() };
    let files = vec![entry(), FileEntry { content_location: "b.bin".to_owned(), ..foreign }];
    bench.receive(&SENT.instance_of(0, now().utc + HOUR, files));
    assert_eq!(bench.standing(), Standing::Open);
    data(false, oti()).iter().for_each(|packet| bench.receive(packet));
    bench.sync();
    assert_eq!(bench.standing(), Standing::Refused);
}

/// A session of files of which all but the last lack a symbol, on a bench of few places.
fn crowded(seconds: u64) -> (Bench, Vec<u8>, Vec<Vec<Vec<u8>>>) {
    let mut bench = Bench::with(Limits { objects: 4, ..Limits::default() }, Disk::default());
    let names: Vec<_> = (1..=6).map(|toi| format!("{toi}.bin")).collect();
    let described = names.iter().zip(1..).map(|(name, toi)| FileEntry {
        content_location: name.clone(),
        toi: Toi(toi),
        ..entry()
    });
    let fdt = SENT.instance_of(0, now().utc + HOUR, described.collect());
    bench.receive(&fdt);
    let all: Vec<_> = (1..=6)
        .map(|toi| Sent { toi, fti: false, ..SENT }.data(&octets(100), oti(), 0..9))
        .collect();
    for (packets, toi) in all.iter().zip(1..) {
        let missing = usize::from(toi < 6);
        packets[missing..].iter().for_each(|packet| bench.receive(packet));
    }
    bench.elapsed += Duration::from_secs(seconds);
    bench.core.handle_timeout(bench.now());
    bench.settle();
    (bench, fdt, all)
}

#[test]
fn silent_files_of_a_session_make_room_for_others_of_it_and_keep_their_symbols() {
    let (bench, ..) = crowded(9);
    assert_eq!(bench.file("6.bin"), None);
    let waits = bench.core.files().last().unwrap().problem.unwrap();
    assert_eq!(waits, "it waits for a place: 4 files are received at a time");
    assert!(
        bench.core.deadline().is_some_and(|at| at <= bench.now().mono + Duration::from_secs(1))
    );

    let (mut bench, fdt, all) = crowded(10);
    bench.sync();
    assert_eq!(bench.file("6.bin"), Some(&octets(100)[..]));
    let oddities = bench.core.oddities().all();
    assert!(oddities.iter().any(|it| it.reason.contains("made room for others")), "{oddities:?}");
    bench.receive(&fdt);
    for packets in &all {
        bench.receive(&packets[0]);
        bench.sync();
    }
    assert!(bench.is_all_complete(), "{:?}", bench.core.files().collect::<Vec<_>>());
}

/// Returns a dissected capture: a packet each second, those of each group after this many more.
fn dissected(groups: &[(u64, Vec<Vec<u8>>)]) -> (Vec<dissect::DissectedObject>, Vec<String>) {
    let mut dissector = dissect::Dissector::new();
    let mut at = now().utc;
    for (pause, packets) in groups {
        at = at + Duration::from_secs(*pause);
        for packet in packets {
            dissector.handle_datagram(at, SENDER.into(), packet);
        }
    }
    let objects = dissector.objects().into_iter().filter(|object| object.toi != "0").collect();
    (objects, dissector.notes())
}

#[test]
fn a_dissected_capture_names_what_a_reception_would_not_use() {
    let longer = Oti::NoCode(NoCodeOti::new(101, 16, 9).unwrap());
    let contradicted = vec![SENT.instance(0, entry())];
    let why = "EXT_FTI and FDT disagree about its transfer length: 101 and 100";
    for order in [[0, 1], [1, 0]] {
        let groups = [(0, contradicted.clone()), (0, data(true, longer))];
        let groups: Vec<_> = order.iter().map(|at: &usize| groups[*at].clone()).collect();
        let (objects, notes) = dissected(&groups);
        assert_eq!(objects[0].problem.as_deref(), Some(&*format!("nothing is usable: {why}")));
        assert_eq!(notes, [format!("TOI 1: 7 packets cannot be used: {why}")]);
    }
    let smaller = Oti::NoCode(NoCodeOti::new(100, 15, 9).unwrap());
    let fdt = FileEntry::plain(Toi(1), "a.bin", "text/plain", smaller);
    let (objects, notes) = dissected(&[(0, vec![SENT.instance(0, fdt)]), (0, data(false, oti()))]);
    let why = "its symbols have 16 octets, by its description 15";
    let problem = objects[0].problem.clone().unwrap();
    assert!(!objects[0].complete && problem.contains(why), "{problem}");
    assert!(notes[0].starts_with("TOI 1: ") && notes[0].contains(why), "{notes:?}");
    let (_, notes) = dissected(&[(0, vec![vec![0x10], vec![0x30, 0x10, 3, 0]])]);
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[test]
fn contents_of_one_object_are_dissected_one_by_one() {
    let other = FileEntry { content_location: "b.bin".to_owned(), ..entry() };
    let part = || data(false, oti())[..3].to_vec();
    let whole = || data(false, oti());
    let (objects, notes) = dissected(&[
        (0, vec![SENT.instance(0, entry())]),
        (0, part()),
        (1, vec![SENT.instance(1, other)]),
        (0, whole()),
    ]);
    let states: Vec<_> =
        objects.iter().map(|it| (it.location.as_deref(), it.content, it.complete)).collect();
    assert_eq!(states, [(Some("a.bin"), 1, false), (Some("b.bin"), 2, true)]);
    assert!(notes[0].contains("TOI 1 is described anew"), "{notes:?}");

    // Another document under its ID after a silence, without a digest: the sender started again.
    let later = SENT.instance_until(now().utc + 2 * HOUR, 0, entry());
    for (pause, contents) in [(9, 1), (10, 2)] {
        let (objects, _) = dissected(&[
            (0, vec![SENT.instance(0, entry())]),
            (0, part()),
            (pause, vec![later.clone()]),
            (0, whole()),
        ]);
        assert_eq!(objects.len(), contents, "{objects:?}");
        assert!(objects.last().unwrap().complete);
    }
}
