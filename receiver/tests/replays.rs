//! Captures that these tests write, with their own times, each with its right outcome: `listen` as
//! a program.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::{fs, path::Path, process::Command, time::Duration};

use proto::{
    fec::oti::{NoCodeOti, Oti},
    flute::{
        alc::{Packet, Payload, PayloadId},
        ext::{ExtensionWriter, FdtHeader},
        fdt::FileEntry,
        lct::{Extensions, Header},
    },
    ids::{Esi, Sbn, Toi, Tsi},
    pcap::{Datagram, emit_datagram, emit_file_header},
    time::Utc,
};
use serde_json::Value;

const SYMBOL: usize = 1000;

/// Begin of all captures.
const BEGIN: u64 = 1_800_000_000;

/// A capture in the making.
struct Replay {
    octets: Vec<u8>,
    elapsed: Duration,
}

impl Replay {
    fn new() -> Self {
        Self { octets: emit_file_header(), elapsed: Duration::ZERO }
    }

    fn pause(mut self, seconds: u64) -> Self {
        self.elapsed += Duration::from_secs(seconds);
        self
    }

    /// Adds an FDT instance, which expires an hour and `lasts_longer` seconds after the beginning.
    fn fdt(self, instance_id: u32, lasts_longer: u64, files: &[FileEntry]) -> Self {
        let expires = Utc::from_seconds(BEGIN + 3600 + lasts_longer).ntp_seconds();
        let instance = proto::flute::fdt::FdtInstance {
            expires_ntp: expires,
            complete: false,
            files: files.to_vec(),
            mbms: proto::flute::fdt::mbms::InstanceExtensions::default(),
            skipped: proto::flute::fdt::skipped::Skipped::default(),
        };
        let document = instance.to_xml().into_bytes();
        let mut extensions = Vec::new();
        let header = FdtHeader { version: 2, instance_id };
        ExtensionWriter::new(&mut extensions).fdt(header).fti(&no_code(document.len()));
        self.symbols(0, &extensions, &document, 0..usize::MAX)
    }

    /// Adds symbols of a file.
    fn data(self, toi: u128, content: &[u8], symbols: std::ops::Range<usize>) -> Self {
        self.symbols(toi, &[], content, symbols)
    }

    fn symbols(
        mut self,
        toi: u128,
        extensions: &[u8],
        content: &[u8],
        symbols: std::ops::Range<usize>,
    ) -> Self {
        let chosen = content
            .chunks(SYMBOL)
            .zip(0..)
            .filter(|(_, esi)| usize::try_from(*esi).is_ok_and(|esi| symbols.contains(&esi)));
        for (symbols, esi) in chosen {
            let id = PayloadId { sbn: Sbn(0), esi: Esi(esi) };
            let mut payload = Vec::new();
            let packet = Packet {
                header: Header::wide(Tsi(7), Toi(toi), 0),
                extensions: Extensions::new(extensions).unwrap(),
                payload: Some(Payload { id, symbols }),
            };
            packet.emit(&mut payload).unwrap();
            let (source, destination) =
                (([192, 0, 2, 1], 5_000).into(), ([239, 7, 20, 1], 45_000).into());
            let datagram = Datagram { source, destination, payload: &payload };
            self.elapsed += Duration::from_millis(1);
            let at = Duration::from_secs(BEGIN) + self.elapsed;
            let nanos = u64::try_from(at.as_nanos()).unwrap();
            emit_datagram(nanos, 1, &datagram, &mut self.octets).unwrap();
        }
        self
    }

    /// Receives the capture into a folder.
    fn listen(&self, folder: &Path) -> Run {
        let (capture, out) = (folder.join("in.pcap"), folder.join("out"));
        fs::write(&capture, &self.octets).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_receiver"))
            .args(["listen", "--once", "--json", "--from-pcap"])
            .args([&capture, Path::new("--out"), &out])
            .output()
            .unwrap();
        let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Run { code: output.status.code(), report }
    }
}

/// Outcome of a run.
struct Run {
    code: Option<i32>,
    report: Value,
}

fn no_code(length: usize) -> Oti {
    let (length, symbol) = (u64::try_from(length).unwrap(), u16::try_from(SYMBOL).unwrap());
    Oti::NoCode(NoCodeOti::new(length, symbol, 64).unwrap())
}

fn entry(toi: u128, location: &str, content: &[u8]) -> FileEntry {
    FileEntry::plain(Toi(toi), location, "text/plain", no_code(content.len()))
}

#[test]
fn what_a_capture_holds_before_a_pause_is_finished_before_it() {
    let (old, new) = (vec![0x11; 5300], vec![0x22; 5300]);
    let folder = tempfile::tempdir().unwrap();
    let run = Replay::new()
        .fdt(0, 0, &[entry(1, "a.bin", &old)])
        .data(1, &old, 0..3)
        .pause(100)
        .fdt(0, 1000, &[entry(1, "a.bin", &new)])
        .data(1, &new, 0..6)
        .listen(folder.path());
    assert_eq!(run.code, Some(0), "{}", run.report);
    assert_eq!(fs::read(folder.path().join("out/a.bin")).unwrap(), new, "{}", run.report);
}

#[test]
fn a_file_that_is_described_otherwise_at_the_end_of_a_capture_is_received() {
    let (old, new) = (vec![0x11; 5300], vec![0x22; 5300]);
    let folder = tempfile::tempdir().unwrap();
    let run = Replay::new()
        .fdt(0, 0, &[entry(1, "a.bin", &old)])
        .data(1, &old, 0..3)
        .fdt(1, 0, &[entry(1, "b.bin", &new)])
        .data(1, &new, 0..6)
        .listen(folder.path());
    assert_eq!(fs::read(folder.path().join("out/b.bin")).unwrap(), new, "{}", run.report);
    assert_eq!(run.code, Some(0), "{}", run.report);
}
