use proto::{
    crypto::{Hash16, sha256},
    fec::{
        codec::BlockEncoder as _,
        oti::{RaptorQOti, RaptorQParameters},
        raptorq_crate::Encoder,
    },
    ids::ComponentId,
    trust::plan::{NodeTree, leaf, object_key, table_node, table_symbols},
};

use super::*;

const SYMBOL_BYTES: u16 = 64;
const SYMBOLS: usize = 2048;
const TSI: Tsi = Tsi(7);

#[test]
fn each_true_packet_sets_off_as_many_forged_ones_as_the_ratio_says_a_third_of_each_kind() {
    let plan = Plan::new();
    let mut counts = [0, 0, 0];
    let forged = plan.forged_over(2.5, 600);
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
    let plan = Plan::new();
    for (kind, datagram) in plan.forged_over(10.0, 100) {
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
    let plan = Plan::new();
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
fn an_attacker_who_has_not_heard_the_plan_is_silent() {
    let plan = Plan::new();
    let mut forger = Forger::new(plan.object, 10.0, 1);
    let silent = &mut |_: Kind, _: &[u8]| panic!("sent");
    forger.handle_true(&plan.data_packet(0), silent).unwrap();
    assert!(forger.handle_true(b"no FLUTE at all", silent).is_err());
}

/// A small plan of one block with its tables.
struct Plan {
    object: PlannedObject,
    header: PlanHeader,
    leaves: Vec<Hash16>,
    tables: Vec<Vec<u8>>,
    tree: NodeTree,
    encoder: Encoder,
}

impl Plan {
    fn new() -> Self {
        let mut image = vec![0; SYMBOLS * usize::from(SYMBOL_BYTES)];
        Chance::new(1, "image").fill(&mut image);
        let oti = RaptorQOti::new(RaptorQParameters {
            transfer_length: u64::try_from(image.len()).unwrap(),
            symbol_size: SYMBOL_BYTES,
            source_blocks: 1,
            sub_blocks: 1,
            alignment: 8,
        })
        .unwrap();
        let shape = PlanShape::for_loss(oti, 1024, 30).unwrap();
        let stored_sha256 = sha256(&[&image]);
        let key = object_key(&stored_sha256, &oti);
        let encoder = Encoder::new(&oti, Sbn(0), &image).unwrap();
        let mut leaves = Vec::new();
        let count = u32::try_from(shape.leaves()).unwrap();
        encoder.for_each_symbol(0..count, &mut |esi, symbol| {
            leaves.push(leaf(&key, Sbn(0), esi, symbol));
        });
        let (mut tables, mut nodes) = (Vec::new(), Vec::new());
        for segment in 0..u32::from(shape.segments()) {
            let range = shape.segment(Sbn(segment)).unwrap();
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let symbols = table_symbols(&shape, Sbn(segment), &leaves[range]).unwrap();
            for (esi, symbol) in (0..).zip(&symbols) {
                nodes.push(table_node(&key, Sbn(segment), Esi(esi), symbol));
            }
            tables.extend(symbols);
        }
        let tree = NodeTree::new(&shape, nodes).unwrap();
        let header = PlanHeader::new(shape, key, &tree).unwrap();
        let object = PlannedObject {
            component: ComponentId(0),
            oti,
            repair_per_block: 1024,
            plan_root: header.root(),
            stored_sha256,
            object_key: key,
        };
        Self { object, header, leaves, tables, tree, encoder }
    }

    /// What an attacker sends who hears header, one table packet and `count` data packets, without
    /// what the first two set off.
    fn forged_over(&self, ratio: f64, count: u64) -> Vec<(Kind, Vec<u8>)> {
        let mut forger = Forger::new(self.object, 0.0, 1);
        let mut forged = Vec::new();
        forger.handle_true(&self.header_packet(), &mut |_, _| ()).unwrap();
        forger.handle_true(&self.table_packet(0), &mut |_, _| ()).unwrap();
        forger.ratio = ratio;
        for place in 0..count {
            forger
                .handle_true(&self.data_packet(place), &mut |kind, datagram| {
                    forged.push((kind, datagram.to_vec()));
                })
                .unwrap();
        }
        forged
    }

    fn header_packet(&self) -> Vec<u8> {
        let toi = Toi::plan_header(self.object.component);
        packet(Header::wide(TSI, toi, 0), Extensions::NONE, (Sbn(0), Esi(0)), &self.header.emit())
    }

    fn table_packet(&self, index: u32) -> Vec<u8> {
        let mut auth = vec![ext::AUTH, 0];
        TableProof::emit(&self.tree, index, &mut auth);
        auth[1] = u8::try_from(auth.len() / 4).unwrap();
        let per_segment = self.header.shape().table_symbols_per_segment();
        let id = (Sbn(index / per_segment), Esi(index % per_segment));
        let symbol = &self.tables[usize::try_from(index).unwrap()];
        let header = Header::wide(TSI, Toi::tables(self.object.component), RAPTORQ);
        packet(header, Extensions::new(&auth).unwrap(), id, symbol)
    }

    fn data_packet(&self, place: u64) -> Vec<u8> {
        let (sbn, esi) = self.header.shape().symbol_at(place).unwrap();
        let mut symbol = Vec::new();
        self.encoder.for_each_symbol(esi.0..esi.0 + 1, &mut |_, octets| symbol = octets.to_vec());
        let header = Header::wide(TSI, Toi::object(self.object.component), RAPTORQ);
        packet(header, Extensions::NONE, (sbn, esi), &symbol)
    }
}

fn packet(header: Header, extensions: Extensions<'_>, id: (Sbn, Esi), symbols: &[u8]) -> Vec<u8> {
    let payload = Some(Payload { id: PayloadId { sbn: id.0, esi: id.1 }, symbols });
    let mut out = Vec::new();
    Packet { header, extensions, payload }.emit(&mut out).unwrap();
    out
}
