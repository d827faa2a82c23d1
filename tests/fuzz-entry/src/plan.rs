//! Packet authentication: plan shapes, plan headers, the proofs of table packets.

use std::sync::LazyLock;

use proto::{
    crypto::sha256,
    fixtures::packet::raptorq,
    ids::{ComponentId, Esi, Sbn},
    trust::{
        PlannedObject,
        plan::{
            NodeTree, PlanHeader, PlanParameters, PlanShape, TableProof, object_key, table_node,
        },
    },
};

use crate::script::Script;

const HEADER: u8 = 0;
const TABLE: u8 = 1;

struct Plan {
    object: PlannedObject,
    header: PlanHeader,
    tree: NodeTree,
}

/// Reads the octets as a plan header, as a table packet, or as parameters of a plan.
pub fn run(octets: &[u8]) {
    let mut script = Script::new(octets);
    match script.u8() % 3 {
        HEADER => header(script.take(usize::MAX)),
        TABLE => table(&mut script),
        _ => shape(&mut script),
    }
}

fn header(octets: &[u8]) {
    let Plan { object, header, .. } = plan();
    if let Ok(read) = PlanHeader::read(octets, object) {
        assert_eq!(read.emit(), octets);
    }
    // Only the one that the campaign pins is accepted.
    assert_eq!(PlanHeader::parse(octets, object).is_ok(), octets == header.emit());
}

fn table(script: &mut Script<'_>) {
    let Plan { header, tree, object } = plan();
    let (segment, esi) = (Sbn(script.u8().into()), Esi(script.u16().into()));
    let symbol = script.datagram();
    let Ok(proof) = TableProof::parse(script.take(usize::MAX)) else { return };
    assert!(proof.depth() <= usize::from(u8::MAX));
    if header.shape().table_index(segment, esi) != Some(proof.index())
        || proof.depth() != usize::from(header.shape().proof_depth())
    {
        return;
    }
    if proof.leads_to(header.cap(), &object.object_key, segment, esi, symbol) {
        assert_eq!(symbol, table_symbol(segment, esi), "a forged table symbol was accepted");
        let mut honest = Vec::new();
        TableProof::emit(tree, proof.index(), &mut honest);
        assert_eq!(TableProof::parse(&honest), Ok(proof));
    }
}

fn shape(script: &mut Script<'_>) {
    let oti = plan().object.oti;
    let parameters = PlanParameters {
        repair_per_block: script.u32(),
        segment_symbols: script.u32(),
        table_repair: script.u16(),
        table_symbol_bytes: script.u16(),
    };
    let Ok(shape) = PlanShape::new(oti, parameters) else { return };
    assert!(shape.table_symbols() > 0 && shape.proof_depth() <= 11);
    for place in [0, 1, script.u64() % shape.leaves(), shape.leaves() - 1] {
        let Some((sbn, esi)) = shape.symbol_at(place) else { continue };
        assert_eq!(shape.index_of(sbn, esi), Some(place));
        let segment = shape.segment_of(place).expect("every place has a segment");
        assert!(shape.segment(segment).expect("it is there").contains(&place));
    }
    assert_eq!(shape.symbol_at(shape.leaves()), None);
}

/// Stands for a table symbol: what counts is that its node is in the tree.
fn table_symbol(segment: Sbn, esi: Esi) -> Vec<u8> {
    let [.., low] = esi.0.to_be_bytes();
    vec![low ^ u8::try_from(segment.0 % 256).unwrap_or_default(); 64]
}

fn plan() -> &'static Plan {
    static PLAN: LazyLock<Plan> = LazyLock::new(make);
    &PLAN
}

fn make() -> Plan {
    let oti = raptorq(100 * 256, 256, 2, 1, 8);
    let parameters = PlanParameters {
        repair_per_block: 50,
        segment_symbols: 16,
        table_repair: 4,
        table_symbol_bytes: 64,
    };
    let shape = PlanShape::new(oti, parameters).expect("a valid plan");
    let digest = sha256(&[b"image"]);
    let key = object_key(&digest, &oti);
    let per_segment = shape.table_symbols_per_segment();
    let nodes = (0..shape.table_symbols()).map(|index| {
        let (segment, esi) = (Sbn(index / per_segment), Esi(index % per_segment));
        table_node(&key, segment, esi, &table_symbol(segment, esi))
    });
    let tree = NodeTree::new(&shape, nodes.collect()).expect("a tree of all table symbols");
    let header = PlanHeader::new(shape, key, &tree).expect("a header of that tree");
    let object = PlannedObject {
        component: ComponentId(0),
        oti,
        repair_per_block: parameters.repair_per_block,
        plan_root: header.root(),
        stored_sha256: digest,
        object_key: key,
    };
    Plan { object, header, tree }
}

/// The true header, true table packets, parameters.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let Plan { header, tree, .. } = plan();
    let mut seeds = vec![[vec![HEADER], header.emit()].concat()];
    for (segment, esi) in [(0, 0), (1, 2), (5, 7)] {
        let index = header.shape().table_index(Sbn(segment), Esi(esi)).expect("a table symbol");
        let mut seed = vec![TABLE, u8::try_from(segment).expect("small"), 0];
        seed.extend([u8::try_from(esi).expect("small"), 0, 64]);
        seed.extend(table_symbol(Sbn(segment), Esi(esi)));
        TableProof::emit(tree, index, &mut seed);
        seeds.push(seed);
    }
    seeds.push(vec![2, 0, 0, 0, 50, 0, 0, 0, 16, 0, 4, 0, 64, 0, 0, 0, 0, 0, 0, 0, 99]);
    seeds
}
