//! Packets as a case describes them, as a capture.

use std::net::{Ipv4Addr, SocketAddr};

use fumocast_tests::lab::forgery::Forger;
use proto::{
    fec::oti::{Oti, RaptorQOti, RaptorQParameters},
    flute::{
        alc::Packet,
        ext::{ExtensionWriter, FdtHeader},
        lct::Extensions,
    },
    ids::{ComponentId, Toi, Tsi},
    pcap::{Datagram, emit_datagram, emit_file_header},
};

use crate::{
    case::Packets,
    make::{broadcast, other_broadcast},
};

const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GROUP: Ipv4Addr = Ipv4Addr::new(232, 1, 2, 3);
const PORT: u16 = 3400;

pub(crate) fn capture(runs: &[Packets]) -> Vec<u8> {
    let mut capture = emit_file_header();
    for run in runs {
        let source = SocketAddr::from((run.source.unwrap_or(SOURCE), 4000));
        let destination = SocketAddr::from((run.group.unwrap_or(GROUP), run.port.unwrap_or(PORT)));
        for payload in made(run) {
            let datagram = Datagram { source, destination, payload: &payload };
            emit_datagram(0, 1, &datagram, &mut capture).unwrap();
        }
    }
    capture
}

fn made(run: &Packets) -> Vec<Vec<u8>> {
    let of = if run.other { other_broadcast() } else { broadcast() };
    let mut packets: Vec<_> =
        of.pass().into_iter().filter(|packet| belongs(packet, &run.send)).collect();
    if run.backwards {
        packets.reverse();
    }
    packets.drain(..run.skip.min(packets.len()));
    packets.truncate(run.take.unwrap_or(packets.len()));
    let count = packets.len() * run.times.unwrap_or(1);
    packets = packets.iter().cycle().take(count).cloned().collect();
    let swapped: Vec<_> = packets.iter().skip(1).chain(packets.first()).cloned().collect();
    // Forgeries of each true packet; the attacker has to receive the plan header first.
    let mut forger = Forger::new(of.object, f64::from(run.forged.abs()), 1);
    let mut sent = Vec::new();
    for (packet, other) in packets.iter().zip(&swapped) {
        if run.forged != 0 {
            forger.handle_true(packet, &mut |_, octets| sent.push(octets.to_vec())).unwrap();
        }
        if run.forged >= 0 {
            sent.push(changed(packet, other, run));
        }
    }
    sent
}

fn belongs(packet: &[u8], send: &str) -> bool {
    let toi = Packet::parse(packet).unwrap().header.toi;
    match send {
        "pass" => true,
        "header" => toi == Some(Toi::plan_header(ComponentId(0))),
        "tables" => toi == Some(Toi::tables(ComponentId(0))),
        "data" => toi == Some(Toi::object(ComponentId(0))),
        other => panic!("there are no packets `{other}`"),
    }
}

fn changed(octets: &[u8], other: &[u8], run: &Packets) -> Vec<u8> {
    let mut packet = Packet::parse(octets).unwrap();
    if run.other_session {
        packet.header.tsi = Tsi(packet.header.tsi.0 + 1);
    }
    if let Some(toi) = run.toi {
        packet.header.toi = Some(Toi(toi));
    }
    if run.closing {
        packet.header.close_session = true;
        packet.header.close_object = true;
    }
    if run.swapped {
        let symbols = Packet::parse(other).unwrap().payload.unwrap().symbols;
        packet.payload.as_mut().unwrap().symbols = symbols;
    }
    let mut extensions = packet.extensions.octets().to_vec();
    if let Some(kind) = &run.parameters {
        parameters(kind, &mut extensions);
    }
    if let Some(algorithm) = run.encoded {
        ExtensionWriter::new(&mut extensions).content_encoding(algorithm);
    }
    let table = run.table_of.as_deref().map(file_delivery_table);
    if let Some(table) = &table {
        packet.header.toi = Some(Toi::FDT);
        extensions.clear();
        ExtensionWriter::new(&mut extensions).fdt(FdtHeader { version: 2, instance_id: 7 });
        packet.payload.as_mut().unwrap().symbols = table.as_bytes();
    }
    packet.extensions = Extensions::new(&extensions).unwrap();
    let mut out = Vec::new();
    packet.emit(&mut out).unwrap();
    if let Some(words) = run.extension_words {
        let first = usize::from(out[2]) * 4 - extensions.len();
        out[first + 1] = words;
    }
    if let Some(words) = run.header_words {
        out[2] = words;
    }
    let length = i64::try_from(out.len()).unwrap() + run.longer;
    out.resize(usize::try_from(length).unwrap(), 0);
    if let Some(at) = run.flip {
        let length = i64::try_from(out.len()).unwrap();
        out[usize::try_from(at.rem_euclid(length)).unwrap()] ^= 1;
    }
    out
}

fn file_delivery_table(name: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><FDT-Instance xmlns=\"urn:ietf:params:xml:ns:fdt\" \
         Expires=\"4102444800\" Complete=\"true\"><File TOI=\"16\" Content-Location=\"{name}\" \
         Content-Length=\"1\" Transfer-Length=\"1\" Content-Encoding=\"gzip\"/></FDT-Instance>"
    )
}

/// EXT_FTI that contradicts the campaign, or is not valid.
fn parameters(kind: &str, out: &mut Vec<u8>) {
    let oti = RaptorQOti::new(RaptorQParameters {
        transfer_length: 1 << 30,
        symbol_size: 1024,
        source_blocks: 255,
        sub_blocks: 1,
        alignment: 8,
    });
    ExtensionWriter::new(out).fti(&Oti::RaptorQ(oti.unwrap()));
    if kind == "zero" {
        let from = out.len() - 14;
        out[from..].fill(0);
    }
}
