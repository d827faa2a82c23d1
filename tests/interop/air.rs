//! Loss and disorder of packets on the air.

use fumocast_tests::lab::rng::SeededRng;

/// Returns `length` octets that a seed repeats.
pub(crate) fn octets(length: usize, seed: u64) -> Vec<u8> {
    let mut octets = vec![0; length];
    SeededRng::new(seed, "file").fill_bytes(&mut octets);
    octets
}

/// Drops each packet with a probability of `loss`.
pub(crate) fn lose(packets: &mut Vec<Vec<u8>>, loss: f64, seed: u64) {
    let mut rng = SeededRng::new(seed, "loss");
    packets.retain(|_| !rng.random_bool(loss));
}

/// Reorders packets by up to `reach` positions and doubles every tenth.
pub(crate) fn disorder(packets: Vec<Vec<u8>>, reach: u64, seed: u64) -> Vec<Vec<u8>> {
    let mut rng = SeededRng::new(seed, "disorder");
    let mut placed: Vec<(u64, Vec<u8>)> = Vec::new();
    for (place, packet) in (0..).zip(packets) {
        if rng.random_bool(0.1) {
            placed.push((place + rng.below(reach), packet.clone()));
        }
        placed.push((place + rng.below(reach), packet));
    }
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, packet)| packet).collect()
}
