//! The seeded source of random numbers.

/// A stream of numbers that a seed and a name repeat.
///
/// # Source
///
/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators": `SplitMix64`.
#[derive(Debug, Clone)]
pub struct SeededRng(u64);

impl SeededRng {
    /// Returns the stream of a seed for one purpose; streams of one seed do not follow each other.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut state = Self(seed);
        for octet in purpose.bytes() {
            state.0 ^= u64::from(octet);
            state.0 = state.next_u64();
        }
        state
    }

    /// Returns the next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, or 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(end);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Returns whether something of this probability happens.
    ///
    /// # Units
    ///
    /// `probability`: 0 to 1.
    pub fn random_bool(&mut self, probability: f64) -> bool {
        // 53 bits fill the mantissa, so that 0 never and 1 always happens.
        let unit = self.below(1 << 53);
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let unit = unit as f64 / (1_u64 << 53) as f64;
        unit < probability
    }

    /// Fills a buffer.
    pub fn fill_bytes(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let octets = self.next_u64().to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(octets) {
                *to = from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_purpose_repeat_a_stream() {
        let take = |seed, purpose| {
            let mut rng = SeededRng::new(seed, purpose);
            [rng.next_u64(), rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(take(1, "loss 1"), take(1, "loss 1"));
        assert_ne!(take(1, "loss 1"), take(2, "loss 1"));
        assert_ne!(take(1, "loss 1"), take(1, "loss 2"));
    }

    #[test]
    fn a_share_of_ten_percent_is_about_a_tenth() {
        let mut rng = SeededRng::new(7, "x");
        let hits = (0..100_000).filter(|_| rng.random_bool(0.1)).count();
        assert!((9_700..10_300).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| !rng.random_bool(0.0)));
        assert!((0..1000).all(|_| rng.random_bool(1.0)));
    }

    #[test]
    fn numbers_stay_below_their_end() {
        let mut rng = SeededRng::new(7, "x");
        assert!((0..1000).all(|_| rng.below(3) < 3));
        assert_eq!(rng.below(0), 0);
    }
}
