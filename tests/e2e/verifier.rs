//! Purpose of packet authentication: the same flood, a receiver that checks and one that does not.

use std::collections::{BTreeMap, BTreeSet};

use fumocast_tests::lab::forgery::Forger;
use proto::{
    crypto::Hash16,
    fec::{codec::BlockDecoder as _, raptorq_crate::Decoder},
    fixtures::broadcast::{Broadcast, TSI},
    flute::alc::Packet,
    ids::{Esi, Sbn},
    time::Mono,
    trust::plan::{PlanHeader, TableProof},
};
use receiver::{
    flute::{
        object::{HashPlan, Object, PacketAuth},
        stats::Stats,
    },
    store::{Limits, LogOutput, ObjectLayout, Recovered, SymbolLog},
};

/// Accepts everything, as a receiver without authentication must.
#[derive(Debug)]
struct AcceptAll;

impl PacketAuth for AcceptAll {
    fn verify_table(&self, _: &PlanHeader, _: &TableProof<'_>, _: Sbn, _: Esi, _: &[u8]) -> bool {
        true
    }

    fn verify_data(&self, _: &Hash16, _: &Hash16) -> bool {
        true
    }
}

#[test]
fn the_hash_plan_takes_the_exact_image_out_of_ten_forged_packets_for_each_true_one() {
    let broadcast = Broadcast::new(512, 2);
    let (image, stats) = received(&broadcast, HashPlan);
    assert!(image == broadcast.image);
    assert!(stats.data_forged > 1000 && stats.table_forged > 10, "{stats:?}");
}

#[test]
fn a_receiver_that_accepts_everything_is_ruined_by_the_same_flood() {
    let broadcast = Broadcast::new(512, 2);
    let (image, stats) = received(&broadcast, AcceptAll);
    assert!(image != broadcast.image);
    assert_eq!((stats.header_forged, stats.table_forged, stats.data_forged), (0, 0, 0));
}

/// Receives one pass, each true packet after the ten forged ones that the one before it set off,
/// and decodes every block from what was stored of it first.
fn received(broadcast: &Broadcast, packet_auth: impl PacketAuth) -> (Vec<u8>, Stats) {
    let mut object = Object::with_packet_auth(broadcast.object, log(broadcast), packet_auth);
    let mut forger = Forger::new(broadcast.object, 10.0, 1);
    let mut stats = Stats::default();
    let mut stored = BTreeMap::new();
    for datagram in broadcast.pass() {
        receive(&mut object, &datagram, &mut stats);
        let mut forged = Vec::new();
        forger.handle_true(&datagram, &mut |_, octets| forged.push(octets.to_vec())).unwrap();
        for datagram in forged {
            receive(&mut object, &datagram, &mut stats);
        }
        collect(&mut object, &mut stored);
    }
    object.log_mut().flush();
    collect(&mut object, &mut stored);
    (solve(broadcast, &stored), stats)
}

fn receive<A: PacketAuth>(object: &mut Object<A>, datagram: &[u8], stats: &mut Stats) {
    let packet = Packet::parse(datagram).unwrap();
    assert_eq!(packet.header.tsi, TSI);
    assert!(object.handle_packet(Mono(0), &packet, stats));
}

fn log(broadcast: &Broadcast) -> SymbolLog {
    let planned = broadcast.object;
    let layout = ObjectLayout::new(planned.object_key, planned.stored_sha256, planned.oti);
    let ready = Recovered { files_ready: layout.files(), ..Recovered::default() };
    SymbolLog::recovered(layout, Limits::default(), &ready, &BTreeSet::new(), &[])
}

type Stored = BTreeMap<Sbn, BTreeMap<Esi, Vec<u8>>>;

/// Plays a storage in memory that writes and syncs at once.
fn collect<A: PacketAuth>(object: &mut Object<A>, stored: &mut Stored) {
    let layout = object.log().layout().clone();
    while let Some(output) = object.log_mut().poll_output() {
        match output {
            LogOutput::Write { octets, .. } => {
                for record in octets.chunks_exact(layout.slot_size()) {
                    let slot = layout.parse_slot(record).unwrap();
                    stored.entry(slot.sbn).or_default().insert(slot.esi, slot.symbol.to_vec());
                }
            }
            LogOutput::Tables { .. } => {}
            LogOutput::Flush(ticket) => object.log_mut().handle_flushed(ticket),
        }
    }
}

fn solve(broadcast: &Broadcast, stored: &Stored) -> Vec<u8> {
    let mut image = Vec::new();
    for (sbn, symbols) in stored {
        let mut decoder = Decoder::new(&broadcast.object.oti, *sbn).unwrap();
        let mut solved = None;
        for (esi, symbol) in symbols {
            decoder.push(*esi, symbol);
            solved = decoder.decode();
            if solved.is_some() {
                break;
            }
        }
        image.extend(solved.expect("a whole pass has enough symbols of each block"));
    }
    image
}
