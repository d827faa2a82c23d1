//! Captures of sessions that restart, rewrite their FDT, send newer versions or reach a limit, each
//! with its right outcome: `listen` as a program.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests may fail as tests do")]

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use proto::crypto::sha256;
use serde_json::Value;

/// Outcome of a run.
struct Run {
    code: Option<i32>,
    report: Value,
    /// Octets on standard error.
    notes: String,
}

impl Run {
    /// Returns the states of the described files by TOI.
    fn states(&self) -> Vec<(String, String)> {
        let text = |file: &Value, name: &str| file[name].as_str().unwrap().to_owned();
        let files = self.report["files"].as_array().unwrap();
        files.iter().map(|file| (text(file, "toi"), text(file, "state"))).collect()
    }
}

fn listen(name: &str, out: &Path, options: &[&str]) -> Run {
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures").join(name);
    let capture = capture.with_extension("pcap");
    let output = Command::new(env!("CARGO_BIN_EXE_receiver"))
        .args(["listen", "--group", "239.7.20.1", "--port", "45000", "--from-pcap"])
        .args([&capture, Path::new("--json"), Path::new("--out"), out])
        .args(options)
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let notes = String::from_utf8(output.stderr).unwrap();
    Run { code: output.status.code(), report, notes }
}

/// Returns the files of a folder, and the beginnings of their digests.
fn files(out: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(out).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files
        .map(|entry| {
            let mut digest = sha256(&[&fs::read(entry.path()).unwrap()]).to_string();
            digest.truncate(16);
            (entry.file_name().into_string().unwrap(), digest)
        })
        .collect()
}

fn named<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<String, String> {
    files.map(|(name, digest)| (name.to_owned(), digest.to_owned())).into()
}

const A_9000: &str = "139abf0e350d88b1";
const B_9000: &str = "4065ba0aa1986c52";
const OLD: (&str, &str) = ("old.bin", "72dcbb0cdc901767");
const NEW: (&str, &str) = ("new.bin", "4cc0ba9741736642");

// test: security 6
#[test]
fn another_file_of_the_same_size_is_not_the_one_of_an_earlier_run() {
    let out = tempfile::tempdir().unwrap();
    let first = listen("persist-complete-then-other-same-size-1", out.path(), &[]);
    assert_eq!((first.code, files(out.path())), (Some(0), named([("a.bin", A_9000)])));
    let second = listen("persist-complete-then-other-same-size-2", out.path(), &[]);
    assert_eq!(second.code, Some(0));
    assert_eq!(files(out.path()), named([("a.bin", A_9000), ("b.bin", B_9000)]));
    // A complete file is taken over as long as it is what it was.
    let again = listen("persist-complete-then-other-same-size-2", out.path(), &[]);
    assert_eq!((again.code, &again.report["stats"]["accepted"]), (Some(0), &0.into()));
    fs::write(out.path().join("b.bin"), b"changed").unwrap();
    let changed = listen("persist-complete-then-other-same-size-2", out.path(), &[]);
    assert_eq!((changed.code, &changed.report["stats"]["accepted"]), (Some(0), &7.into()));
    assert_eq!(files(out.path())["b.bin"], B_9000);
}

// test: security 6
#[test]
fn symbols_without_a_digest_are_not_mixed_with_those_of_an_earlier_run() {
    let out = tempfile::tempdir().unwrap();
    let first = listen("persist-partial-then-other-nomd5-MIXED-1", out.path(), &[]);
    assert_eq!(first.code, Some(75));
    let second = listen("persist-partial-then-other-nomd5-MIXED-2", out.path(), &[]);
    assert_eq!(second.code, Some(0), "{}", second.notes);
    assert_eq!(files(out.path()), named([("b.bin", B_9000)]));
    // Where the user knows that the content is the same, the remaining symbols are enough.
    let out = tempfile::tempdir().unwrap();
    listen("persist-partial-then-other-nomd5-MIXED-1", out.path(), &[]);
    let resumed =
        listen("persist-partial-then-other-nomd5-MIXED-1", out.path(), &["--resume-undigested"]);
    let file = &resumed.report["files"][0];
    assert_eq!((&file["symbols_held"], &file["symbols_received"]), (&3.into(), &0.into()));
    let anew = listen("persist-partial-then-other-nomd5-MIXED-1", out.path(), &[]);
    assert_eq!(anew.report["files"][0]["symbols_received"], 3);
}

#[test]
fn a_sender_that_starts_again_is_received() {
    for (name, toi) in
        [("restart-same-tsi-same-id-new-toi", "2"), ("restart-after-expiry-same-id-toi", "1")]
    {
        let out = tempfile::tempdir().unwrap();
        let run = listen(name, out.path(), &[]);
        assert_eq!((run.code, files(out.path())), (Some(0), named([NEW, OLD])), "{name}");
        assert!(run.states().contains(&(toi.to_owned(), "complete".to_owned())), "{name}");
    }
}

// test: rfc6726 3.4.1
#[test]
fn an_fdt_whose_expiry_is_rewritten_under_one_id_loses_no_packet() {
    let out = tempfile::tempdir().unwrap();
    let run = listen("fdt-same-id-new-expires", out.path(), &[]);
    assert_eq!((run.code, &run.report["stats"]["dropped"]), (Some(0), &0.into()));
    assert_eq!(files(out.path()), named([("slow.bin", "68673df147e244a3")]));
}

// test: rfc6726 3.4.2
#[test]
fn a_newer_version_of_a_file_replaces_the_older_one() {
    for (name, digest) in [
        ("newversion-longer-md5-old-then-new", "d9642b0e5cebb5c0"),
        ("newversion-same-nomd5-interleaved", "eaabbe526d4f83d5"),
    ] {
        for _ in 0..5 {
            let out = tempfile::tempdir().unwrap();
            let run = listen(name, out.path(), &[]);
            assert_eq!(run.code, Some(0), "{name}");
            assert_eq!(files(out.path()), named([("a.bin", digest)]), "{name}");
            let states = [("1", "superseded"), ("2", "complete")];
            let states = states.map(|(toi, state)| (toi.to_owned(), state.to_owned()));
            assert_eq!(run.states(), states, "{name}");
        }
    }
}

#[test]
fn an_fdt_of_sixty_five_files_is_received_whole() {
    let out = tempfile::tempdir().unwrap();
    let run = listen("fdt-65-files", out.path(), &[]);
    assert_eq!((run.code, &run.report["complete"]), (Some(0), &65.into()), "{}", run.report);
    assert_eq!(files(out.path()).len(), 65);
}

#[test]
fn a_no_code_block_of_any_size_is_received_since_nothing_is_solved() {
    let out = tempfile::tempdir().unwrap();
    let run = listen("nocode-one-block-40MB", out.path(), &[]);
    assert_eq!(run.code, Some(75));
    let file = &run.report["files"][0];
    assert_eq!((&file["state"], &file["problem"]), (&"receiving".into(), &Value::Null));
    assert_eq!((&file["symbols_held"], &file["symbols_needed"]), (&1.into(), &28_249.into()));
}
