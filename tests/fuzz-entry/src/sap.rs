//! Announcements of sessions.

use std::num::NonZeroU16;

use proto::{
    ids::Tsi,
    sap::{MAX_BYTES, Message, SapPacket},
    sdp::{MEDIA_TYPE, SessionDescription},
};

/// Reads an announcement and what it describes; what can be written reads back equal.
pub fn run(octets: &[u8]) {
    let Ok(packet) = SapPacket::parse(octets) else { return };
    assert!(packet.payload.len() + packet.payload_type.len() <= octets.len() + MEDIA_TYPE.len());
    if packet.payload_type == MEDIA_TYPE
        && let Ok(description) = SessionDescription::parse(packet.payload)
    {
        assert!(description.tsi < Tsi(1 << 48));
    }
    let mut written = Vec::new();
    if packet.emit(&mut written).is_ok() {
        assert!(written.len() <= MAX_BYTES);
        assert_eq!(SapPacket::parse(&written), Ok(packet));
    } else {
        assert!(written.is_empty(), "a part was written");
    }
}

/// Announcements and deletions by both kinds of addresses, and a form of others.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for description in crate::sdp::seeds() {
        for (message, origin) in [
            (Message::Announce, [192, 0, 2, 10].into()),
            (Message::Delete, [0x2001, 0xdb8, 0, 0, 0, 0, 0, 10].into()),
        ] {
            let packet = SapPacket {
                message,
                hash: NonZeroU16::MAX,
                origin,
                payload_type: MEDIA_TYPE,
                payload: &description,
            };
            let mut octets = Vec::new();
            packet.emit(&mut octets).expect("a short description");
            seeds.push(octets);
        }
    }
    // Authentication data, and no payload type.
    let description = crate::sdp::seeds().concat();
    seeds.push([&[0x20, 1, 0, 7, 192, 0, 2, 10, 1, 2, 3, 4][..], &description].concat());
    seeds
}
