//! Captures of foreign sessions, each with its right outcome: `listen` and `dissect` as programs.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use proto::{
    fixtures::golden,
    pcap::{Datagram, emit_datagram, emit_file_header},
};

/// The output of a command and its exit code.
struct Answer {
    code: Option<i32>,
    text: String,
}

fn receiver(arguments: &[&str], path: &Path) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_receiver"));
    let output = command.args(arguments).arg(path).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Answer { code: output.status.code(), text: String::from_utf8(text).unwrap() }
}

/// Receives a capture into a new folder.
fn listen(capture: &Path, options: &[&str]) -> (Answer, tempfile::TempDir) {
    let out = tempfile::tempdir().unwrap();
    let from = capture.to_str().unwrap();
    let line = [&["listen", "--from-pcap", from], options, &["--out"]].concat();
    (receiver(&line, out.path()), out)
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures").join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".listen").collect()
}

// test: rfc6726 3.3
#[test]
fn a_session_in_a_scheme_of_others_is_named_and_not_received() {
    let capture = case("fec129-fdt-too.pcap");
    let (answer, out) = listen(&capture, &["--once"]);
    assert_eq!(answer.code, Some(75), "{}", answer.text);
    let scheme = "FEC Encoding ID 129 (Small Block Systematic) is not supported";
    assert!(answer.text.contains(&format!("a packet of an FDT: {scheme}")), "{}", answer.text);
    assert!(names(out.path()).is_empty());
    let dissected = receiver(&["dissect", "--summary"], &capture);
    assert!(dissected.text.matches(scheme).count() >= 2, "{}", dissected.text);
}

// test: rfc6726 5
#[test]
fn a_table_without_encoding_id_goes_by_the_codepoint() {
    let capture = case("oti-no-encoding-id.pcap");
    let (answer, out) = listen(&capture, &["--once"]);
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    assert_eq!(fs::read(out.path().join("a.bin")).unwrap().len(), 5000);
    let dissected = receiver(&["dissect", "--summary"], &capture);
    assert!(dissected.text.contains("4 packets: complete"), "{}", dissected.text);
}

// test: security 9 (path traversal)
#[test]
fn odd_names_arrive_each_under_its_own() {
    let (answer, out) = listen(&case("ours-odd-names.pcap"), &["--once"]);
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    let expected = [
        "C#-notes.bin",
        "C#-other.bin",
        "what_.bin",
        "50%.bin",
        "Firmware (v2), final.bin",
        "UPPER.BIN",
        "upper.bin",
        "a_b.bin",
        "cafe\u{301}.bin",
        "हिन्दी.bin",
        "e_l.bin",
        "-dash.bin",
        "_..bin",
        "_.hidden",
        "x.part_",
    ];
    assert_eq!(names(out.path()), expected.map(str::to_owned).into());
}

// test: rfc5445 3.2.2.2
#[test]
fn a_padded_last_symbol_is_received_as_well() {
    let (answer, out) = listen(&case("ours-mbms-1octet-padded.pcap"), &["--once"]);
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    assert_eq!(fs::read(out.path().join("one.bin")).unwrap(), b"x");
}

/// Writes the golden session as it was captured at this moment.
fn golden_at(seconds: u64, destination: &str, path: &Path) -> Vec<u8> {
    let destination: SocketAddr = destination.parse().unwrap();
    let source = match destination {
        SocketAddr::V4(_) => "192.0.2.1:5000".parse().unwrap(),
        SocketAddr::V6(_) => "[2001:db8::1]:5000".parse().unwrap(),
    };
    let mut octets = emit_file_header();
    for payload in golden::packets() {
        let datagram = Datagram { source, destination, payload: &payload };
        emit_datagram(seconds * 1_000_000_000, 1, &datagram, &mut octets).unwrap();
    }
    fs::write(path, &octets).unwrap();
    octets
}

/// The expiry of the golden session, in seconds since 1970.
const GOLDEN_EXPIRY: u64 = 4_200_000_000 - 2_208_988_800;

// test: rfc6726 3.3
#[test]
fn a_recording_says_by_how_much_its_table_had_expired() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("late.pcap");
    golden_at(GOLDEN_EXPIRY + 7_500, "239.7.7.30:40100", &capture);
    let (answer, out) = listen(&capture, &["--once"]);
    assert_eq!(answer.code, Some(75), "{}", answer.text);
    let text = "had expired: 1, the last one 2 h 5 min before it came";
    assert!(answer.text.contains(text), "{}", answer.text);
    assert!(names(out.path()).is_empty());
    let dissected = receiver(&["dissect", "--summary"], &capture);
    let text = "its description had expired 2 h 5 min before it came";
    assert!(dissected.text.contains(text), "{}", dissected.text);
    let (answer, out) = listen(&capture, &["--once", "--accept-expired"]);
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    assert_eq!(fs::read(out.path().join("golden.bin")).unwrap(), golden::FILE);
}

#[test]
fn a_session_over_ipv6_is_received_from_its_capture() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("six.pcap");
    golden_at(1_800_000_000, "[ff3e::30]:40100", &capture);
    let (answer, out) = listen(&capture, &["--once"]);
    assert_eq!(answer.code, Some(0), "{}", answer.text);
    assert_eq!(fs::read(out.path().join("golden.bin")).unwrap(), golden::FILE);
    let dissected = receiver(&["dissect"], &capture);
    let line = "2027-01-15T08:00:00Z [ff3e::30]:40100 2001:db8::1 TSI 7";
    assert!(dissected.text.contains(line), "{}", dissected.text);
}

#[test]
fn frames_without_a_datagram_are_counted_by_reason() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("frames.pcap");
    let mut octets = golden_at(1_800_000_000, "239.7.7.30:40100", &capture);
    let first = octets[24 + 8..24 + 12].try_into().map(u32::from_be_bytes).unwrap();
    let record = octets[24..24 + 16 + usize::try_from(first).unwrap()].to_vec();
    let changed = |at: usize, octet: u8| {
        let mut changed = record.clone();
        changed[at] = octet;
        changed
    };
    // A fragment twice, TCP, and a frame of which the capture has less than was on the wire.
    let cut = [&record[..8], &[0, 0, 0, 40], &record[12..16], &record[16..56]].concat();
    let others = [changed(16 + 6, 0x20), changed(16 + 6, 0x20), changed(16 + 9, 6), cut];
    octets.extend(others.concat());
    octets.extend(&record[..20]);
    fs::write(&capture, octets).unwrap();
    let dissected = receiver(&["dissect", "--summary"], &capture);
    let (listened, _out) = listen(&capture, &["--once"]);
    assert_eq!(listened.code, Some(0), "{}", listened.text);
    for answer in [dissected, listened] {
        for line in [
            "2 frames of the capture skipped: a fragment of an IP datagram",
            "1 frame of the capture skipped: TCP",
            "1 frame of the capture skipped: cut off by the snap length of the capture",
            "1 frame of the capture skipped: cut off by the end of the file",
        ] {
            assert!(answer.text.contains(line), "{line}: {}", answer.text);
        }
    }
}
