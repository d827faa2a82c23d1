use super::*;
use crate::{
    crypto::{Digest, h16, sha256},
    fec::oti::{RaptorQOti, RaptorQParameters},
    ids::{ComponentId, Esi},
    trust::campaign::PlannedObject,
};

fn digest() -> Digest {
    sha256(&[b"fumocast test image"])
}

fn oti() -> RaptorQOti {
    RaptorQOti::new(RaptorQParameters {
        transfer_length: 2560,
        symbol_size: 1280,
        source_blocks: 1,
        sub_blocks: 1,
        alignment: 8,
    })
    .unwrap()
}

/// The plan of security facts 4.7: symbols are given, not coded.
fn shape(repair_per_block: u32) -> PlanShape {
    let table = PlanParameters {
        repair_per_block,
        segment_symbols: 2,
        table_repair: 0,
        table_symbol_bytes: 64,
    };
    PlanShape::new(oti(), table).unwrap()
}

fn symbol(esi: u8, repair: u32) -> Vec<u8> {
    match esi {
        0 => (0..5).flat_map(|_| 0..=255).collect(),
        1 => vec![0xaa; 1280],
        _ if repair == 1 => vec![0x55; 1280],
        other => vec![other; 1280],
    }
}

fn leaves(repair: u8) -> Vec<Hash16> {
    let key = object_key(&digest(), &oti());
    (0..2 + repair)
        .map(|esi| leaf(&key, Sbn(0), Esi(esi.into()), &symbol(esi, repair.into())))
        .collect()
}

fn build(repair: u8) -> (PlanHeader, NodeTree, Vec<Vec<u8>>) {
    let shape = shape(repair.into());
    let key = object_key(&digest(), &oti());
    let leaves = leaves(repair);
    let mut tables = Vec::new();
    let mut nodes = Vec::new();
    for (segment, leaves) in leaves.chunks(2).enumerate() {
        let segment = Sbn(u32::try_from(segment).unwrap());
        let symbols = table_symbols(&shape, segment, leaves).unwrap();
        for (esi, table) in (0..).zip(&symbols) {
            nodes.push(table_node(&key, segment, Esi(esi), table));
        }
        tables.extend(symbols);
    }
    let tree = NodeTree::new(&shape, nodes).unwrap();
    (PlanHeader::new(shape, key, &tree).unwrap(), tree, tables)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn planned(header: &PlanHeader) -> PlannedObject {
    PlannedObject {
        component: ComponentId(0),
        oti: oti(),
        repair_per_block: header.shape().parameters().repair_per_block,
        plan_root: header.root(),
        stored_sha256: digest(),
        object_key: *header.object_key(),
    }
}

#[test]
fn keys_and_leaves_are_those_of_the_vector() {
    assert_eq!(hex(&oti().octets()), "0000000a0000050001000108");
    let key = object_key(&digest(), &oti());
    assert_eq!(key.to_string(), "5f9c7ac8a317267bdd09d3ce90f0e9b5");
    let leaves: Vec<_> = leaves(1).iter().map(ToString::to_string).collect();
    assert_eq!(
        leaves,
        [
            "a371dbb8cc1b411dd92cfb21fe2a3ecc",
            "b2a2db5830cdac7d92cb9467a4eda09e",
            "db0b9eaba10913c649190968522ef3f0"
        ]
    );
}

#[test]
fn a_plan_of_two_segments_is_that_of_the_vector() {
    let (header, tree, _) = build(1);
    assert_eq!(
        hex(&header.emit()),
        "46435031010101005f9c7ac8a317267bdd09d3ce90f0e9b50000000a000005000100010800000001000000\
         020002000100000040000000000000000000000000d26351bbf6b77a1087cf1e1082096491ebd82863a178\
         00bf0832babcc0f6e80b"
    );
    assert_eq!(
        header.root().to_string(),
        "2a0107341523b7f6849fe69bdb4ae8385fed309963634e23217ba1b71010912e"
    );
    let mut proof = Vec::new();
    TableProof::emit(&tree, 1, &mut proof);
    assert_eq!(hex(&proof), "110000000001");
}

#[test]
fn a_plan_of_five_segments_is_that_of_the_vector() {
    let (header, tree, _) = build(7);
    assert_eq!(header.emit().len(), 192);
    assert_eq!(header.cap()[4].to_string(), "580a5a20c31748735ae0657bc31b12c2");
    assert!(header.cap()[5..].iter().all(|node| *node == Hash16([0; 16])));
    assert_eq!(
        header.root().to_string(),
        "8bb334dc6f962a2d08c3f257c84de25e1d9604e8714c971dbc924deb0f4667c9"
    );
    let mut proof = Vec::new();
    TableProof::emit(&tree, 4, &mut proof);
    assert_eq!(hex(&proof), "110000000004");
}

#[test]
fn the_hash_of_a_header_with_a_cap_of_one_node_is_that_of_the_vector() {
    let hexadecimal = "46435031010100005f9c7ac8a317267bdd09d3ce90f0e9b50000000a000005000100010800\
                       0000010000000200020001000000400000000000000000000000004c773662a63d52786f83\
                       5234e8830284";
    let octets: Vec<u8> = (0..hexadecimal.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap())
        .collect();
    assert_eq!(
        plan_root(&octets).to_string(),
        "b44e04b792fd6ef563aa0a05888b9b1159735d818a4e06970bb665ab1a3d0aad"
    );
}

#[test]
fn every_changed_octet_of_a_header_is_refused() {
    let (header, ..) = build(7);
    let object = planned(&header);
    let octets = header.emit();
    assert_eq!(PlanHeader::parse(&octets, &object), Ok(header));
    for at in 0..octets.len() {
        let mut changed = octets.clone();
        changed[at] ^= 1;
        assert!(PlanHeader::parse(&changed, &object).is_err(), "octet {at}");
        assert!(PlanHeader::parse(&octets[..at], &object).is_err(), "cut at {at}");
    }
}

#[test]
fn a_pinned_header_that_contradicts_itself_is_refused() {
    let (header, ..) = build(7);
    let octets = header.emit();
    // Every field before the cap, signed as it is. Octet 50 makes Tt 320, another consistent plan.
    for at in (0..64).filter(|at| *at != 50) {
        let mut changed = octets.clone();
        changed[at] ^= 1;
        let object = PlannedObject { plan_root: plan_root(&changed), ..planned(&header) };
        assert!(PlanHeader::parse(&changed, &object).is_err(), "octet {at}");
    }
}

struct Deep {
    shape: PlanShape,
    key: Hash16,
    tree: NodeTree,
    tables: Vec<(Sbn, Esi, Vec<u8>)>,
}

/// A plan with a real proof path: 300 table symbols, d = 9, c = 6.
fn deep() -> Deep {
    let parameters =
        RaptorQParameters { transfer_length: 64 * 200, symbol_size: 64, ..oti().parameters() };
    let oti = RaptorQOti::new(parameters).unwrap();
    let shape = PlanShape::new(
        oti,
        PlanParameters {
            repair_per_block: 200,
            segment_symbols: 4,
            table_repair: 2,
            table_symbol_bytes: 64,
        },
    )
    .unwrap();
    let key = object_key(&digest(), &oti);
    let mut nodes = Vec::new();
    let mut tables = Vec::new();
    for segment in 0..u32::from(shape.segments()) {
        let leaves = vec![h16(&[&segment.to_be_bytes()]); 4];
        let symbols = table_symbols(&shape, Sbn(segment), &leaves).unwrap();
        for (esi, table) in (0..).zip(symbols) {
            nodes.push(table_node(&key, Sbn(segment), Esi(esi), &table));
            tables.push((Sbn(segment), Esi(esi), table));
        }
    }
    let tree = NodeTree::new(&shape, nodes).unwrap();
    Deep { shape, key, tree, tables }
}

#[test]
fn a_table_symbol_leads_to_the_cap_and_no_changed_one_does() {
    let Deep { shape, key, tree, tables } = deep();
    assert_eq!((shape.tree_depth(), shape.cap_depth(), shape.proof_depth()), (9, 6, 3));
    for (index, (segment, esi, table)) in (0..).zip(&tables) {
        let mut content = Vec::new();
        TableProof::emit(&tree, index, &mut content);
        let proof = TableProof::parse(&content).unwrap();
        assert_eq!(shape.table_index(*segment, *esi), Some(index));
        assert!(proof.leads_to(tree.cap(), &key, *segment, *esi, table));
    }
    let (segment, esi, table) = &tables[77];
    let mut content = Vec::new();
    TableProof::emit(&tree, 77, &mut content);
    for at in 0..content.len() {
        let mut changed = content.clone();
        changed[at] ^= 1;
        let leads = TableProof::parse(&changed)
            .is_ok_and(|proof| proof.leads_to(tree.cap(), &key, *segment, *esi, table));
        assert!(!leads, "octet {at} of the proof");
    }
    let proof = TableProof::parse(&content).unwrap();
    for at in 0..table.len() {
        let mut changed = table.clone();
        changed[at] ^= 1;
        assert!(!proof.leads_to(tree.cap(), &key, *segment, *esi, &changed), "octet {at}");
    }
    let foreign = h16(&[b"another object"]);
    assert!(!proof.leads_to(tree.cap(), &foreign, *segment, *esi, table));
}

#[test]
fn every_symbol_has_one_place_and_the_last_row_holds_the_longer_blocks() {
    let parameters = RaptorQParameters {
        transfer_length: 64 * 13,
        symbol_size: 64,
        source_blocks: 3,
        ..oti().parameters()
    };
    let oti = RaptorQOti::new(parameters).unwrap();
    let shape = PlanShape::for_loss(oti, 5, 30).unwrap();
    assert_eq!(shape.leaves(), 13 + 3 * 5);
    for index in 0..shape.leaves() {
        let (sbn, esi) = shape.symbol_at(index).unwrap();
        assert_eq!(shape.index_of(sbn, esi), Some(index));
    }
    assert_eq!(shape.symbol_at(shape.leaves()), None);
    assert_eq!(shape.symbol_at(shape.leaves() - 1), Some((Sbn(0), Esi(9))));
    assert_eq!(shape.index_of(Sbn(1), Esi(9)), None);
    assert_eq!(shape.index_of(Sbn(3), Esi(0)), None);
}

#[test]
fn segments_cover_the_plan_without_gap() {
    let shape = shape(7);
    let mut next = 0;
    for segment in 0..u32::from(shape.segments()) {
        let range = shape.segment(Sbn(segment)).unwrap();
        assert_eq!(range.start, next);
        for index in range.clone() {
            assert_eq!(shape.segment_of(index), Some(Sbn(segment)));
        }
        next = range.end;
    }
    assert_eq!(next, shape.leaves());
    assert_eq!(shape.segment(Sbn(shape.segments().into())), None);
}

#[test]
fn a_loss_budget_costs_the_share_of_the_air_that_the_format_promises() {
    // Security facts 4.4: S = 1,024 at 30 % costs 3.0 %, headers in.
    let parameters = RaptorQParameters {
        transfer_length: 1408 * 10_000,
        symbol_size: 1408,
        source_blocks: 2,
        ..oti().parameters()
    };
    let oti = RaptorQOti::new(parameters).unwrap();
    let shape = PlanShape::for_loss(oti, 5_000, 30).unwrap();
    assert_eq!(shape.parameters().segment_symbols, 1024);
    let table = f64::from(shape.table_symbols_per_segment())
        * (1216.0 + 16.0 * f64::from(shape.proof_depth()) + 56.0);
    let share = 100.0 * table / (1024.0 * (1408.0 + 48.0));
    assert!((2.5..3.1).contains(&share), "{share}");
    let more = PlanShape::for_loss(oti, 5_000, 50).unwrap();
    assert!(more.parameters().table_repair > shape.parameters().table_repair);
    assert!(PlanShape::for_loss(oti, 5_000, 91).is_err());
}

#[test]
fn the_chosen_repair_is_the_least_that_keeps_the_promise() {
    for (needed, loss) in [(4, 0.3), (16, 0.2), (20, 0.5), (66, 0.3)] {
        let sent = shape::symbols_to_send(needed, loss);
        assert!(shape::arrives_with(sent, needed, loss) >= 0.995);
        assert!(shape::arrives_with(sent - 1, needed, loss) < 0.995);
    }
    assert_eq!(shape::symbols_to_send(16, 0.0), 16);
}

#[test]
fn tables_are_made_for_long_bursts_as_far_as_three_of_a_hundred_packets_allow() {
    for (mebibytes, more) in [(64, 2), (256, 30), (1024, 50)] {
        let length = mebibytes << 20;
        let symbols = length / 1408 + 1;
        let parameters = RaptorQParameters {
            transfer_length: length,
            symbol_size: 1408,
            source_blocks: u8::try_from(symbols / 8192 + 1).unwrap(),
            ..oti().parameters()
        };
        let oti = RaptorQOti::new(parameters).unwrap();
        let repair = oti.partition().largest();
        let shape = PlanShape::for_loss(oti, repair, 30).unwrap();
        let source = u32::from(shape.table_source_symbols());
        let even = shape::symbols_to_send(source + 2, 0.3);
        assert!(shape.table_symbols_per_segment() >= even + more, "{mebibytes} MiB");
        let (tables, data) = (u64::from(shape.table_symbols()), shape.leaves());
        assert!(100 * tables <= 3 * (tables + data), "{mebibytes} MiB: {tables} tables");
        // Without loss nothing is to be repaired.
        let lossless = PlanShape::for_loss(oti, repair, 0).unwrap();
        assert_eq!(lossless.table_symbols_per_segment(), source + 2);
    }
}
