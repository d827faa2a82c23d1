//! What the air does to packets.

use fumocast_tests::lab::chance::Chance;

/// Returns `length` octets that a seed repeats.
pub(crate) fn octets(length: usize, seed: u64) -> Vec<u8> {
    let mut octets = vec![0; length];
    Chance::new(seed, "file").fill(&mut octets);
    octets
}

/// Drops each packet with a probability of `loss`.
pub(crate) fn lose(packets: &mut Vec<Vec<u8>>, loss: f64, seed: u64) {
    let mut chance = Chance::new(seed, "loss");
    packets.retain(|_| !chance.happens(loss));
}

/// Lets packets overtake each other by up to `reach` places and doubles every tenth.
pub(crate) fn disorder(packets: Vec<Vec<u8>>, reach: u64, seed: u64) -> Vec<Vec<u8>> {
    let mut chance = Chance::new(seed, "disorder");
    let mut placed: Vec<(u64, Vec<u8>)> = Vec::new();
    for (place, packet) in (0..).zip(packets) {
        if chance.happens(0.1) {
            placed.push((place + chance.below(reach), packet.clone()));
        }
        placed.push((place + chance.below(reach), packet));
    }
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, packet)| packet).collect()
}
