//! Symbols that a receiver needs beyond K: the distribution over 1,000 seeded runs.

use std::{collections::BTreeMap, fmt::Write as _};

use proto::{
    fec::{
        codec::{BlockDecoder as _, BlockEncoder as _},
        oti::{RaptorQOti, RaptorQParameters},
        raptorq_crate::{Decoder, Encoder},
    },
    ids::{Esi, Sbn},
};
use receiver::rng::SplitMix64;

const RUNS: u64 = 1000;
const SYMBOL_BYTES: u16 = 8;

/// Per mille of the packets that are lost: source and repair symbols come mixed.
const LOSS_PER_MILLE: u64 = 300;

/// Symbols beyond K, and how many of the runs needed them.
const SNAPSHOT: &str = "\
K = 64: {0: 995, 1: 5}
K = 512: {0: 997, 1: 3}
K = 4096: {0: 996, 1: 4}
";

// test: rfc6330 5.8
#[test]
fn a_receiver_needs_no_more_than_two_symbols_in_a_hundred_blocks_beyond_k() {
    let mut table = String::new();
    for source_symbols in [64_u32, 512, 4096] {
        let beyond = distribution(source_symbols);
        let extra: u64 = beyond.iter().map(|(more, runs)| u64::from(*more) * runs).sum();
        assert!(extra * 50 <= RUNS, "K = {source_symbols}: {extra} symbols in {RUNS} runs");
        writeln!(table, "K = {source_symbols}: {beyond:?}").unwrap();
    }
    assert_eq!(table, SNAPSHOT);
}

/// Returns how many runs needed so many symbols beyond K.
fn distribution(source_symbols: u32) -> BTreeMap<u32, u64> {
    let oti = RaptorQOti::new(RaptorQParameters {
        transfer_length: u64::from(source_symbols) * u64::from(SYMBOL_BYTES),
        symbol_size: SYMBOL_BYTES,
        source_blocks: 1,
        sub_blocks: 1,
        alignment: 8,
    })
    .expect("the parameters are valid");
    let mut rng = SplitMix64::new(u64::from(source_symbols));
    let block: Vec<u8> =
        (0..oti.parameters().transfer_length).map(|_| rng.next_u64().to_be_bytes()[0]).collect();
    let mut symbols = Vec::new();
    let sent = 0..source_symbols * 2;
    let encoder = Encoder::new(&oti, Sbn(0), &block).expect("the block has its length");
    encoder.for_each_symbol(sent, &mut |esi, symbol| symbols.push((esi, symbol.to_vec())));
    let mut beyond = BTreeMap::new();
    for _ in 0..RUNS {
        *beyond.entry(needed_beyond_k(&oti, &block, &symbols, &mut rng)).or_default() += 1;
    }
    beyond
}

fn needed_beyond_k(
    oti: &RaptorQOti,
    block: &[u8],
    sent: &[(Esi, Vec<u8>)],
    rng: &mut SplitMix64,
) -> u32 {
    let mut decoder = Decoder::new(oti, Sbn(0)).expect("there is a block 0");
    let mut held = 0;
    for (esi, symbol) in sent {
        if rng.below(1000) < LOSS_PER_MILLE {
            continue;
        }
        decoder.push(*esi, symbol);
        held += 1;
        if held < oti.total_symbols() {
            continue;
        }
        if let Some(decoded) = decoder.decode() {
            assert_eq!(decoded, block, "a decoded block is the sent one");
            return held - oti.total_symbols();
        }
    }
    panic!("the block was not decoded from {held} symbols");
}
