//! Our packets as an independent dissector reads them: `tshark` prints field by field what our own
//! parser reads from the same packet.
//!
//! Weak spots of tshark 4.0.17, none of them our error:
//!
//! | what | here |
//! | --- | --- |
//! | EXT_TIME (2) is taken for the congestion control of NORM; EXT_AUTH is not decoded | only that both are there, with their lengths |
//! | the value of EXT_CENC is read from the first reserved octet | always 0 |
//! | the reserved field of No-Code's EXT_FTI is shown as "FEC Instance ID" | 0 |
//! | the table is dissected as XML packet by packet | compared where one packet holds it whole |

mod capture;
mod fields;

use std::path::Path;

use fumocast_tests::tools;

use self::{
    capture::{every_header, record},
    fields::{expected, shown},
};

/// Compares every packet of a capture; returns how many there were.
fn compare(capture: &Path) -> usize {
    let (expected, shown) = (expected(capture), shown(capture));
    assert_eq!(expected.len(), shown.len(), "all packets are dissected");
    for (number, (expected, shown)) in (1..).zip(expected.iter().zip(&shown)) {
        for (name, values) in expected {
            let found = shown.get(name).map_or(&[][..], Vec::as_slice);
            assert_eq!(found, values, "{name} of packet {number}: tshark is on the left");
        }
    }
    shown.len()
}

#[test]
fn tshark_reads_every_field_of_recorded_sessions_as_we_do() {
    if !tools::found("tshark") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in [
        ("raptorq", &["--repair", "20", "--fti", "both"][..]),
        ("raptorq-packet", &["--fti", "packet", "--passes", "2"]),
        ("raptorq-fdt", &["--fti", "fdt", "--symbol-size", "64"]),
        ("no-code", &["--fec", "no-code"]),
        ("mbms", &["--profile", "mbms"]),
        ("mbms-raptorq", &["--profile", "mbms", "--fec", "raptorq", "--repair", "10"]),
    ] {
        let capture = record(folder.path(), name, 3, options);
        assert!(compare(&capture) > 80, "{name}");
    }
}

#[test]
fn tshark_reads_a_table_of_several_packets_as_we_do() {
    if !tools::found("tshark") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for profile in ["rfc6726", "mbms"] {
        let capture = record(folder.path(), profile, 12, &["--profile", profile]);
        assert!(compare(&capture) > 12, "{profile}");
    }
}

#[test]
fn tshark_reads_every_width_flag_and_extension_as_we_do() {
    if !tools::found("tshark") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let capture = every_header(folder.path());
    assert!(compare(&capture) > 1000);
}
