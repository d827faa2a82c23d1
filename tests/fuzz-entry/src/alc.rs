//! LCT header, ALC packet, extensions, symbols.

use proto::{
    fixtures::unsigned,
    flute::{
        alc::{Frame, Packet},
        lct::{Extensions, MAX_EXTENSIONS},
    },
    ids::Toi,
};

/// Reads a datagram, and writes it again.
pub fn run(datagram: &[u8]) {
    let Ok(frame) = Frame::parse(datagram) else {
        assert!(Packet::parse(datagram).is_err(), "a packet without a frame");
        return;
    };
    walk(frame.extensions, frame.header.codepoint);
    assert!(datagram.ends_with(frame.tail));
    let Ok(packet) = Packet::parse(datagram) else {
        assert!(frame.payload().is_err());
        return;
    };
    if let Some(payload) = packet.payload {
        for size in [0, 1, 16, 1408, u16::MAX] {
            let octets: usize = payload.each(size).map(|(_, symbol)| symbol.len()).sum();
            assert_eq!(octets, payload.symbols.len());
        }
    }
    write_again(&packet);
}

fn walk(extensions: Extensions<'_>, codepoint: u8) {
    assert!(extensions.iter().count() <= MAX_EXTENSIONS);
    let octets: usize = extensions
        .iter()
        .map(|extension| extension.content.len() + if extension.kind < 128 { 2 } else { 1 })
        .sum();
    assert_eq!(octets, extensions.octets().len());
    for codepoint in [codepoint, 0, 6] {
        if let Ok(Some(oti)) = extensions.fti(codepoint) {
            assert_eq!(oti.encoding_id(), codepoint);
        }
    }
    for codepoint in [codepoint, 1, 2, 5, 128, 129] {
        if let Ok(Some(oti)) = extensions.foreign_fti(codepoint) {
            assert_eq!(oti.encoding_id, codepoint);
            assert!(!oti.to_string().is_empty());
        }
    }
    if let Some(header) = extensions.fdt() {
        assert!(header.version < 16 && header.instance_id < 1 << 20);
    }
    let _known = (extensions.content_encoding(), extensions.auth(), extensions.time());
}

fn write_again(packet: &Packet<'_>) {
    let mut written = Vec::new();
    let emitted = packet.emit(&mut written);
    // A codepoint that is not one of ours has no payload to write.
    assert_eq!(emitted, Ok(()), "{packet:?}");
    let again = Packet::parse(&written).expect("what was written is a packet");
    assert_eq!(again.header.toi.unwrap_or(Toi::FDT), packet.header.toi.unwrap_or(Toi::FDT));
    assert_eq!(&again, packet);
}

/// Packets of every kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    unsigned::session().packets.clone()
}
