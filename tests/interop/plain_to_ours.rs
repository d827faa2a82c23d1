//! Unsigned sessions from the carousel's core to the receiver's, with random losses.

use carousel::unsigned::wire_profile::{FtiLocation, Profile};
use fumocast_tests::lab::rng::SeededRng;
use proto::{
    fec::oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
    flute::alc::Packet,
};

use crate::{air, disk::OurReceiver, plain_air::Broadcast};

/// Sessions that are tried.
const RUNS: u64 = 60;

/// Largest file of a session.
const MAX_BYTES: u64 = 200_000;

fn pick<T: Copy>(rng: &mut SeededRng, from: &[T]) -> T {
    from[usize::try_from(rng.below(u64::try_from(from.len()).unwrap())).unwrap()]
}

/// Draws a length and parameters: any of T, K, Z, N and both schemes.
fn draw(rng: &mut SeededRng) -> Oti {
    let length = 1 + pick(rng, &[0, rng.clone().below(2000), rng.clone().below(MAX_BYTES)]);
    let alignment = pick(rng, &[1_u8, 4, 8]);
    let largest = 1432 / u64::from(alignment);
    // Short symbols for short files: a session has some thousand packets at most.
    let least = (length / 3000 / u64::from(alignment)).min(largest - 1);
    let units = 1 + least + rng.below(largest - least);
    let symbol_size = u16::try_from(units * u64::from(alignment)).unwrap().min(1432);
    let symbols = length.div_ceil(symbol_size.into());
    if rng.random_bool(0.3) {
        let block = u32::try_from(1 + rng.below(symbols)).unwrap();
        return Oti::NoCode(NoCodeOti::new(length, symbol_size, block).unwrap());
    }
    let source_blocks = u8::try_from(1 + rng.below(symbols.min(6))).unwrap();
    let units = u64::from(symbol_size) / u64::from(alignment);
    let sub_blocks = u16::try_from(1 + rng.below(units.min(9))).unwrap();
    let parameters = RaptorQParameters {
        transfer_length: length,
        symbol_size,
        source_blocks,
        sub_blocks,
        alignment,
    };
    Oti::RaptorQ(RaptorQOti::new(parameters).unwrap())
}

fn run(seed: u64) {
    let mut rng = SeededRng::new(seed, "plain session");
    let files: Vec<_> = (0..1 + rng.below(3)).map(|_| draw(&mut rng)).collect();
    let loss = pick(&mut rng, &[0.0, 0.05, 0.2]);
    let (profile, fti) = pick(
        &mut rng,
        &[
            (Profile::Rfc6726, FtiLocation::Packet),
            (Profile::Rfc6726, FtiLocation::Fdt),
            (Profile::Rfc6726, FtiLocation::Both),
            (Profile::Mbms, FtiLocation::Fdt),
        ],
    );
    let case = format!("seed {seed}: {profile:?}, {fti:?}, loss {loss}, {files:?}");
    let only_once = files.iter().any(|oti| matches!(oti, Oti::NoCode(_)));
    let repair_percent = u32::try_from(rng.below(50)).unwrap();
    // At 20 % loss no symbol is missed fourteen times; and the table goes every 50 packets only.
    let symbols: u64 = files.iter().map(|oti| oti.partition().total_symbols()).sum();
    let passes = (if only_once { 14 } else { 4 }).max(600 / symbols);
    let session = Broadcast { profile, fti, files, repair_percent, passes, seed };
    let (packets, expected) = session.on_air();
    let joined = usize::try_from(rng.below(u64::try_from(packets.len()).unwrap() / 8)).unwrap();
    let mut arrived = packets[joined..].to_vec();
    air::lose(&mut arrived, loss, seed);
    let arrived = air::disorder(arrived, 1 + rng.below(40), seed);
    assert!(arrived.iter().all(|packet| Packet::parse(packet).is_ok()), "{case}");
    let received = OurReceiver::new().receive(&arrived);
    assert!(received == expected, "{case}: we have {:?}", received.keys());
}

#[test]
fn whatever_the_carousel_sends_plainly_the_receiver_takes() {
    (0..RUNS).for_each(run);
}
