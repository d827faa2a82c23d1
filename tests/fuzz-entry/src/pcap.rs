//! Packet captures: the file, its frames, the datagrams in them.

use std::net::SocketAddr;

use proto::{
    fixtures::unsigned,
    pcap::{
        Datagram, MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES, emit_datagram, emit_file_header, records,
    },
};

/// Walks a capture; each datagram is written again and reads back equal.
pub fn run(capture: &[u8]) {
    let Ok((format, walk)) = records(capture) else { return };
    let mut octets = 0;
    let mut failed = false;
    for record in walk {
        assert!(!failed, "nothing comes after a damaged record");
        let Ok(record) = record else {
            failed = true;
            continue;
        };
        assert!(record.header.captured <= MAX_FRAME_BYTES);
        octets += record.frame.len();
        if let Ok(datagram) = format.datagram(&record.header, record.frame) {
            write_again(&datagram);
        }
    }
    assert!(octets <= capture.len());
}

fn write_again(datagram: &Datagram<'_>) {
    let mut written = emit_file_header();
    let emitted = emit_datagram(1, 8, datagram, &mut written);
    assert_eq!(emitted.is_ok(), datagram.payload.len() <= MAX_PAYLOAD_BYTES);
    if emitted.is_err() {
        return;
    }
    let (format, mut walk) = records(&written).expect("a file of ours");
    let record = walk.next().expect("one record").expect("a whole one");
    assert_eq!(format.datagram(&record.header, record.frame), Ok(*datagram));
    assert!(walk.next().is_none());
}

/// A capture of ours; and what other programs write, for each kind of link.
///
/// # Panics
///
/// Never: the packets fit.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut ours = emit_file_header();
    for payload in &unsigned::session().packets {
        let datagram = Datagram {
            source: SocketAddr::from(([192, 0, 2, 1], 3400)),
            destination: SocketAddr::from(([232, 1, 2, 3], 3400)),
            payload,
        };
        emit_datagram(1_800_000_000_000_000_000, 8, &datagram, &mut ours).expect("it fits");
    }
    let (_, walk) = records(&ours).expect("a file of ours");
    let frames: Vec<Vec<u8>> = walk.flatten().map(|record| record.frame.to_vec()).collect();
    let heads: [(u32, &[u8]); 4] = [
        (1, &[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 8, 0]),
        (1, &[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0x81, 0, 0, 5, 8, 0]),
        (113, &[0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 2, 0, 0, 8, 0]),
        (276, &[8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    let foreign = heads.map(|(link, head)| {
        let mut capture = Vec::new();
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, link] {
            capture.extend(word.to_le_bytes());
        }
        for frame in frames.iter().take(3) {
            let length = u32::try_from(head.len() + frame.len()).expect("it is short");
            for word in [1_800_000_000, 5, length, length] {
                capture.extend(u32::to_le_bytes(word));
            }
            capture.extend_from_slice(head);
            capture.extend_from_slice(frame);
        }
        assert!(records(&capture).is_ok());
        capture
    });
    [vec![ours], foreign.into()].concat()
}
