use std::{fs, net::UdpSocket, thread};

use clap::Parser;
use proto::{flute::alc::Packet, ids::Toi};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    order: SendOrder,
}

fn order(folder: &Path, more: &[&str]) -> SendOrder {
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
    Line::parse_from(line).order
}

// test: rfc6726 3.4.2
#[test]
fn a_file_is_offered_under_its_own_name_and_no_path() {
    assert_eq!(location(Path::new("/a/b/c d%.bin")).unwrap(), "c%20d%25.bin");
    assert_eq!(location(Path::new("..")).unwrap_err().exit(), Exit::Usage);
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
        let failure = run(&order(folder.path(), more)).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage, "{failure}");
        assert!(failure.to_string().contains(word), "{failure}");
    }
}

// test: rfc6726 3.3, rfc5651 5.1
#[test]
fn a_state_goes_on_and_a_tsi_stands_for_one_set_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let option = format!("--state={}", state.display());
    let order = order(folder.path(), &[&option]);
    let style = order.style().unwrap();
    let channel = channel(&order).unwrap();
    let print = |order: &SendOrder| {
        let offered = read_files(order, &style).unwrap();
        fingerprint(&channel, &style, 0, &offered.plain, &offered.empty)
    };
    let first = Kept::choose(&order, print(&order), clock::now()).unwrap();
    let mut place = first.place;
    place.at.pass = 3;
    place.at.row = 5;
    first.keep(&order, place).unwrap();
    let again = Kept::choose(&order, print(&order), clock::now()).unwrap();
    assert_eq!((again.tsi, again.place.at), (first.tsi, place.at));
    assert_eq!(again.place.fdt_instance, first.place.fdt_instance + FDT_RESERVE);

    fs::write(&order.files[0], b"other").unwrap();
    let other = Kept::choose(&order, print(&order), clock::now()).unwrap();
    assert_ne!(other.tsi, first.tsi);
    let fixed = SendOrder { tsi: Some(first.tsi.0), ..order.clone() };
    let refused = Kept::choose(&fixed, print(&order), clock::now()).unwrap_err();
    assert_eq!(refused.exit(), Exit::Policy);
    fs::write(&state, b"{}").unwrap();
    assert_eq!(
        Kept::choose(&order, print(&order), clock::now()).unwrap_err().exit(),
        Exit::Configuration
    );
}

#[test]
fn an_empty_file_is_described_and_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut order = order(folder.path(), &[]);
    let empty = folder.path().join("empty");
    fs::write(&empty, b"").unwrap();
    order.files.insert(0, empty);
    let offered = read_files(&order, &order.style().unwrap()).unwrap();
    assert_eq!((offered.sent.len(), offered.plain.len()), (1, 1));
    assert_eq!(offered.plain[0].entry.toi, Toi(2));
    assert_eq!((offered.empty[0].toi, offered.empty[0].content_length), (Toi(1), Some(0)));
}

// test: rfc6726 3.3
#[test]
fn a_slow_session_repeats_a_long_fdt_less_often() {
    let rate = |text: &str| text.parse().unwrap();
    assert_eq!(announce_every(rate("20M"), 1), ANNOUNCE_EVERY);
    assert!(announce_every(rate("64k"), 64) > Duration::from_secs(30));
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
    let order = order(folder.path(), &["--passes=2", "--tsi=9", "--json"]);
    let sender = thread::spawn(move || run(&order).map_err(|failure| failure.to_string()));
    let mut buffer = [0; 2048];
    let (mut symbols, mut fdts) = (0, 0);
    loop {
        let (length, _) = listener.recv_from(&mut buffer).unwrap();
        let packet = Packet::parse(&buffer[..length]).unwrap();
        assert_eq!(packet.header.tsi, Tsi(9));
        if packet.header.close_session {
            break;
        }
        fdts += i32::from(packet.header.toi == Some(Toi::FDT));
        symbols += i32::from(packet.header.toi == Some(Toi(1)));
    }
    assert_eq!((symbols, fdts > 0), (16, true));
    sender.join().unwrap().unwrap();
}
