use proto::{
    fixtures::broadcast::{Broadcast, SYMBOL_BYTES, TSI},
    trust::plan::leaf,
};

use super::*;

#[test]
fn each_true_packet_sets_off_as_many_forged_ones_as_the_ratio_says_a_third_of_each_kind() {
    let plan = plan();
    let mut counts = [0, 0, 0];
    let forged = forged_over(&plan, 2.5, 600);
    for (kind, _) in &forged {
        match kind {
            Kind::Data => counts[0] += 1,
            Kind::TableSymbol => counts[1] += 1,
            Kind::TablePath => counts[2] += 1,
        }
    }
    assert_eq!(forged.len(), 1500);
    assert_eq!(counts, [500, 500, 500]);
}

#[test]
fn forged_packets_look_true_and_lead_to_nothing() {
    let plan = plan();
    for (kind, datagram) in forged_over(&plan, 10.0, 100) {
        let packet = Packet::parse(&datagram).unwrap();
        let payload = packet.payload.unwrap();
        let PayloadId { sbn, esi } = payload.id;
        assert_eq!(packet.header.tsi, TSI);
        if kind == Kind::Data {
            assert_eq!(packet.header.toi, Some(Toi::object(plan.object.component)));
            assert_eq!(payload.symbols.len(), usize::from(SYMBOL_BYTES));
            let index = plan.header.shape().index_of(sbn, esi).unwrap();
            let hash = leaf(&plan.object.object_key, sbn, esi, payload.symbols);
            assert_ne!(plan.leaves[usize::try_from(index).unwrap()], hash);
        } else {
            let proof = TableProof::parse(packet.extensions.auth().unwrap()).unwrap();
            assert_eq!(packet.header.toi, Some(Toi::tables(plan.object.component)));
            assert_eq!(plan.header.shape().table_index(sbn, esi), Some(proof.index()));
            assert_eq!(proof.depth(), usize::from(plan.header.shape().proof_depth()));
            let key = plan.header.object_key();
            assert!(!proof.leads_to(plan.header.cap(), key, sbn, esi, payload.symbols), "{kind:?}");
        }
    }
}

#[test]
fn forged_symbols_run_ahead_of_the_true_ones() {
    let plan = plan();
    let mut forger = Forger::new(plan.object, 3.0, 1);
    forger.handle_true(&plan.header_packet(), &mut |_, _| ()).unwrap();
    for place in 0..plan.leaves.len() - 1 {
        let mut places = Vec::new();
        let place = u64::try_from(place).unwrap();
        forger
            .handle_true(&plan.data_packet(place), &mut |kind, datagram| {
                let id = Packet::parse(datagram).unwrap().payload.unwrap().id;
                if kind == Kind::Data {
                    places.push(plan.header.shape().index_of(id.sbn, id.esi).unwrap());
                }
            })
            .unwrap();
        assert!(places.iter().all(|forged| *forged > place), "{place}: {places:?}");
    }
}

#[test]
fn an_attacker_who_has_not_received_the_plan_is_silent() {
    let plan = plan();
    let mut forger = Forger::new(plan.object, 10.0, 1);
    let silent = &mut |_: Kind, _: &[u8]| panic!("sent");
    forger.handle_true(&plan.data_packet(0), silent).unwrap();
    assert!(forger.handle_true(b"no FLUTE at all", silent).is_err());
}

/// Returns the packets of an attacker that receives header, one table packet and `count` data
/// packets, without those that the first two set off.
fn forged_over(plan: &Broadcast, ratio: f64, count: u64) -> Vec<(Kind, Vec<u8>)> {
    let mut forger = Forger::new(plan.object, 0.0, 1);
    let mut forged = Vec::new();
    forger.handle_true(&plan.header_packet(), &mut |_, _| ()).unwrap();
    forger.handle_true(&plan.table_packet(0), &mut |_, _| ()).unwrap();
    forger.ratio = ratio;
    for place in 0..count {
        forger
            .handle_true(&plan.data_packet(place), &mut |kind, datagram| {
                forged.push((kind, datagram.to_vec()));
            })
            .unwrap();
    }
    forged
}

fn plan() -> Broadcast {
    Broadcast::new(2048, 1)
}
