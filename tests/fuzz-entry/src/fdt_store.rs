//! The packets that carry tables, and what a session holds of them.

use proto::{
    fixtures::{packet::packet, unsigned},
    flute::{
        alc::{Packet, PayloadId},
        ext::{CENC, ExtensionWriter, FTI, FdtHeader},
        fdt::store::{FdtStore, Limits},
        lct::Header,
    },
    ids::{Esi, Sbn, Toi},
    time::Utc,
};

use crate::script::{Script, datagram_action};

const RAW: u8 = 0;
const GOLDEN: u8 = 1;
const PATCHED: u8 = 2;
const MADE: u8 = 3;
const LATER: u8 = 4;

/// Feeds a store with the packets that the octets name.
pub fn run(octets: &[u8]) {
    let mut script = Script::new(octets);
    let limits = Limits::default();
    let mut store = FdtStore::new(limits);
    let mut now = Utc::from_seconds(1_800_000_000);
    while !script.is_over() {
        let datagram = match script.u8() % 5 {
            RAW => script.datagram().to_vec(),
            GOLDEN => golden_packet(&mut script),
            PATCHED => patched(golden_packet(&mut script), &mut script),
            MADE => made(&mut script),
            _ => {
                now = Utc::from_seconds(now.seconds() + u64::from(script.u32()));
                store.expire(now);
                continue;
            }
        };
        if let Ok(packet) = Packet::parse(&datagram) {
            let _answer = store.handle_packet(now, &packet);
        }
        check(&store, &limits, now);
    }
}

fn check(store: &FdtStore, limits: &Limits, now: Utc) {
    assert!(store.instances(now).count() <= limits.instances);
    for held in store.instances(now) {
        assert!(held.expires > now);
        for file in held.instance.files.iter().take(4) {
            let newest = store.newest(now, &file.content_location).expect("one is held");
            assert_eq!(newest.content_location, file.content_location);
            assert_eq!(store.entry(now, file.toi).expect("one is held").toi, file.toi);
            let _superseded = store.is_superseded(now, file.toi);
        }
    }
    assert!(store.instances(now).next().is_none() || store.next_expiry().is_some());
}

fn golden_packet(script: &mut Script<'_>) -> Vec<u8> {
    let tables = &unsigned::session().tables;
    let number = usize::from(script.u8());
    tables.iter().cycle().nth(number).cloned().unwrap_or_default()
}

/// Changes one octet of a packet, or cuts it.
fn patched(mut packet: Vec<u8>, script: &mut Script<'_>) -> Vec<u8> {
    let (at, change) = (usize::from(script.u16()), script.u8());
    let at = at % packet.len().max(1);
    if change == 0 {
        packet.truncate(at);
    } else if let Some(octet) = packet.get_mut(at) {
        *octet ^= change;
    }
    packet
}

/// A packet of TOI 0 whose parts the script names, so that checksums of nothing are in the way.
fn made(script: &mut Script<'_>) -> Vec<u8> {
    let codepoint = if script.u8().is_multiple_of(2) { 0 } else { 6 };
    let flags = script.u8();
    let mut extensions = Vec::new();
    let header = FdtHeader { version: flags & 3, instance_id: u32::from(script.u8()) & 7 };
    ExtensionWriter::new(&mut extensions).fdt(header);
    if flags & 4 != 0 {
        extensions.extend([FTI, 4]);
        extensions.extend(script.take(14));
        extensions.resize(20, 0);
    }
    if flags & 8 != 0 {
        extensions.extend([CENC, script.u8(), 0, 0]);
    }
    let id = PayloadId { sbn: Sbn(script.u8().into()), esi: Esi(script.u16().into()) };
    let symbols = script.datagram();
    packet(Header::wide(unsigned::TSI, Toi::FDT, codepoint), &extensions, id, symbols)
}

/// Each table alone, all of them, and a made one.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let tables = &unsigned::session().tables;
    let whole: Vec<u8> = (0..u8::MAX).zip(tables).flat_map(|(at, _)| [GOLDEN, at]).collect();
    let mut later = whole.clone();
    later.extend([LATER, 0x10, 0, 0, 0]);
    later.extend(&whole);
    let raw = tables.iter().flat_map(|packet| datagram_action(RAW, packet)).collect();
    let document = unsigned::session().documents.first().map_or(&[][..], |text| text.as_bytes());
    let length = u16::try_from(document.len()).unwrap_or(0);
    let mut made = vec![MADE, 0, 2 | 4, 5, 0, 0, 0, 0];
    made.extend(length.to_be_bytes());
    made.extend([0, 0]);
    made.extend(length.to_be_bytes());
    made.extend([0, 0, 0, 1, 0, 0, 0]);
    made.extend(length.to_be_bytes());
    made.extend(document);
    vec![whole, later, raw, made, vec![PATCHED, 0, 0, 40, 1, PATCHED, 1, 0, 60, 0]]
}
