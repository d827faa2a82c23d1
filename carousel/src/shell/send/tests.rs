use std::{fs, net::UdpSocket, thread};

use clap::Parser;
use proto::{flute::alc::Packet, ids::Toi};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SendArgs,
}

fn args(folder: &Path, more: &[&str]) -> SendArgs {
    let file = folder.join("a file.bin");
    if !file.exists() {
        fs::write(&file, vec![7; 10_000]).unwrap();
    }
    let defaults = [("--group", "239.255.71.9"), ("--port", "40109"), ("--interface", "127.0.0.1")];
    let mut line = vec!["send".to_owned(), file.to_str().unwrap().to_owned()];
    line.extend(more.iter().map(|&option| option.to_owned()));
    for (option, value) in defaults {
        if !more.iter().any(|given| given.starts_with(option)) {
            line.push(format!("{option}={value}"));
        }
    }
    Line::parse_from(line).args
}

// test: rfc6726 3.4.2
#[test]
fn a_file_is_offered_under_its_own_name_and_no_path() {
    assert_eq!(location(Path::new("/a/b/c d%.bin")).unwrap(), "c%20d%25.bin");
    assert_eq!(location(Path::new("..")).unwrap_err().exit_code(), ExitCode::Usage);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&["--profile=mbms", "--fti=both"], "--fti"),
        (&["--fec=no-code", "--repair=10"], "--repair"),
        (&["--profile=mbms", "--tsi=65536"], "--tsi"),
        (&["--symbol-size=0"], "--symbol-size"),
        (&["--fec=no-code", "--max-block-symbols=0"], "--max-block-symbols"),
        (&["--group=10.0.0.1"], "group"),
    ];
    for (more, word) in cases {
        let error = run(&args(folder.path(), more)).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

// test: rfc6726 3.3, rfc5651 5.1
#[test]
fn a_state_goes_on_and_a_tsi_stands_for_one_set_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let option = format!("--state={}", state.display());
    let args = args(folder.path(), &[&option]);
    let wire_profile = args.wire_profile().unwrap();
    let channel = channel(&args).unwrap();
    let choose = |args: &SendArgs| {
        let offered = read_files(args, &wire_profile, one()).unwrap();
        let print = fingerprint(&channel, &wire_profile, args, &offered.files, &offered.empty);
        let fresh = |tsi| SavedState::new(args, tsi, print, one(), clock::now());
        SavedState::choose(args, SavedState::load(args)?, print, fresh)
    };
    let first = choose(&args).unwrap();
    let mut resume_point = first.resume_point;
    resume_point.at.pass = 3;
    resume_point.at.row = 5;
    first.save(&args, resume_point).unwrap();
    let again = choose(&args).unwrap();
    assert_eq!((again.tsi, again.resume_point.at), (first.tsi, resume_point.at));
    assert_eq!(again.resume_point.fdt_instance, first.resume_point.fdt_instance + FDT_RESERVE);

    fs::write(&args.files[0], b"other").unwrap();
    let other = choose(&args).unwrap();
    assert_ne!(other.tsi, first.tsi);
    fs::write(&args.files[0], vec![7; 10_000]).unwrap();
    let by_blocks = SendArgs { order: Some(OrderName::Blocks), ..args.clone() };
    assert_ne!(choose(&by_blocks).unwrap().tsi, first.tsi, "its rows are others");
    fs::write(&args.files[0], b"other").unwrap();
    let fixed = SendArgs { tsi: Some(first.tsi.0), ..args.clone() };
    let refused = choose(&fixed).unwrap_err();
    assert_eq!(refused.exit_code(), ExitCode::Policy);
    fs::write(&state, b"{}").unwrap();
    assert_eq!(choose(&args).unwrap_err().exit_code(), ExitCode::Configuration);
}

// test: rfc6726 3.3
#[test]
fn a_tsi_that_is_used_again_without_a_state_has_other_tois() {
    let folder = tempfile::tempdir().unwrap();
    let at = |seconds| Now { utc: proto::time::Utc::from_seconds(seconds), ..clock::now() };
    for (profile, span) in [("rfc6726", (1 << 26) - 8), ("mbms", 1_000)] {
        let given = args(folder.path(), &["--tsi=9", &format!("--profile={profile}")]);
        let max = given.profile().max_tsi().0;
        for begun in [0, 1_000, 1_780_000_000] {
            let first = first_toi(&given, at(begun)).get();
            for later in [1, 2, 17, span - 1] {
                let again = first_toi(&given, at(begun + later)).get();
                let apart = again.abs_diff(first) as usize;
                assert!(apart >= MAX_FILES, "{profile}: {first}, after {later} s {again}");
                assert!(u64::from(again) + MAX_FILES as u64 - 1 <= max, "{again}");
            }
        }
        // A script starts one after the other.
        let started =
            |millis: u64| Now { utc: proto::time::Utc(1_780_000_000_000 + millis), ..at(0) };
        let runs: Vec<_> = (0..10).map(|run| started(run * 70)).collect();
        let instance = |now: &Now| {
            let saved = SavedState::new(&given, Tsi(9), Hash16([0; 16]), one(), *now);
            saved.resume_point.fdt_instance
        };
        for (before, after) in runs.iter().zip(&runs[1..]) {
            let apart = first_toi(&given, *after).get().abs_diff(first_toi(&given, *before).get());
            assert!(apart as usize >= MAX_FILES, "{profile}: {apart}");
            assert_ne!(instance(before), instance(after));
        }
        let random = SendArgs { tsi: None, ..given };
        assert_eq!(first_toi(&random, at(77)), one());
    }
}

#[test]
fn an_empty_file_is_described_and_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut args = args(folder.path(), &[]);
    let empty = folder.path().join("empty");
    fs::write(&empty, b"").unwrap();
    args.files.insert(0, empty);
    let offered = read_files(&args, &args.wire_profile().unwrap(), one()).unwrap();
    assert_eq!((offered.sent.len(), offered.files.len()), (1, 1));
    assert_eq!(offered.files[0].entry.toi, Toi(2));
    assert_eq!((offered.empty[0].toi, offered.empty[0].content_length), (Toi(1), Some(0)));
}

// test: rfc6726 3.3
#[test]
fn a_slow_session_repeats_a_long_fdt_less_often() {
    assert_eq!(announce_every(rate("20M").unwrap(), 1), ANNOUNCE_EVERY);
    assert!(announce_every(rate("64k").unwrap(), 64) > Duration::from_secs(30));
}

#[test]
fn files_arrive_on_a_socket_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UdpSocket::bind("0.0.0.0:40109").unwrap();
    let joined = listener.join_multicast_v4(&[239, 255, 71, 9].into(), &[127, 0, 0, 1].into());
    if let Err(error) = joined {
        eprintln!("SKIPPED: multicast is not available here: {error}");
        return;
    }
    listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let args = args(folder.path(), &["--passes=2", "--tsi=9", "--json"]);
    let sender = thread::spawn(move || run(&args).map_err(|error| error.to_string()));
    let mut buffer = [0; 2048];
    let (mut symbols, mut fdts) = (0, 0);
    let mut tois = BTreeSet::new();
    loop {
        let (length, _) = listener.recv_from(&mut buffer).unwrap();
        let packet = Packet::parse(&buffer[..length]).unwrap();
        assert_eq!(packet.header.tsi, Tsi(9));
        if packet.header.close_session {
            break;
        }
        fdts += i32::from(packet.header.toi == Some(Toi::FDT));
        symbols += i32::from(packet.header.toi != Some(Toi::FDT));
        tois.insert(packet.header.toi);
    }
    assert_eq!((symbols, fdts > 0, tois.len()), (16, true, 2));
    sender.join().unwrap().unwrap();
}
