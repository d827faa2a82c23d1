//! Random octets, and the identifiers made of them.

use std::time::Duration;

use proto::ids::Correlator;

/// Source of random octets; each call returns 16 that were never used before.
pub type RandomBytes<'a> = &'a mut (dyn FnMut() -> [u8; 16] + Send);

/// Longest time by which a wait is spread.
const MAX_SPREAD: Duration = Duration::from_secs(60);

/// Returns a wait, longer by a random part of itself, at most a minute: peers that were rejected
/// together do not come back together.
// spec: security 7.2 (a spread Retry-After)
pub fn spread(wait: Duration, random: RandomBytes<'_>) -> Duration {
    let [high, low, ..] = random();
    wait + wait.min(MAX_SPREAD) * u32::from(u16::from_be_bytes([high, low])) / (1 << 16)
}

/// Returns a correlator that no attempt has.
pub fn fresh_correlator(random: RandomBytes<'_>) -> Correlator {
    Correlator(format!("{:032x}", u128::from_be_bytes(random())))
}

#[cfg(test)]
mod tests {
    use super::*;

    // test: security 7.2 (a spread Retry-After)
    #[test]
    fn a_wait_is_spread_over_as_much_again_and_at_most_a_minute() {
        let of = |seconds, octet: u8| {
            spread(Duration::from_secs(seconds), &mut || [octet; 16]).as_millis()
        };
        assert_eq!([of(5, 0), of(5, 128), of(5, 255)], [5_000, 7_509, 9_999]);
        assert_eq!([of(600, 0), of(600, 255)], [600_000, 659_999]);
        assert_eq!(of(0, 255), 0);
    }
}
