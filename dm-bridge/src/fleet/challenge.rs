//! Nonces of challenges: computed from a key of the day, so that a peer without proof leaves nothing
//! in the store.
//!
//! ```text
//! nonce   the first 16 octets of HMAC-SHA-256(key,
//!         "fumocast challenge 1" | name | 0 | challenge count (8) | period (8))
//! name    what the row is looked up by
//! count   a field of the row, raised when a challenge is answered; 0 without a row
//! period  UTC seconds / 600; the key changes with the day of the period
//! ```
//!
//! # Source
//!
//! Security facts 7.2.

use std::fmt;

use proto::{crypto::hmac_sha256, time::Utc};
use zeroize::Zeroizing;

use super::device::Nonce;

/// Seconds in a period.
const PERIOD_SECONDS: u64 = 600;
/// Periods in a day.
const PERIODS_A_DAY: u64 = 24 * 3600 / PERIOD_SECONDS;

/// A span of ten minutes in which a challenge of one name and count has one nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(u64);

impl Period {
    /// Returns the period that a time is in.
    #[must_use]
    pub const fn of(now: Utc) -> Self {
        Self(now.seconds() / PERIOD_SECONDS)
    }

    /// Returns the period before, if there is one.
    #[must_use]
    pub fn before(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }

    /// Returns the number of its day since 1970, which names its key.
    #[must_use]
    pub const fn day(self) -> u64 {
        self.0 / PERIODS_A_DAY
    }
}

/// The challenge key of one day. It is wiped when dropped, and has no text form.
#[derive(Clone, PartialEq, Eq)]
pub struct ChallengeKey(Zeroizing<[u8; Self::LEN]>);

impl ChallengeKey {
    /// Octets of a key.
    pub const LEN: usize = 32;

    /// Wraps the octets of a key.
    #[must_use]
    pub fn new(octets: [u8; Self::LEN]) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// Returns the octets to store.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &*self.0
    }

    fn nonce(&self, name: &str, count: u64, Period(period): Period) -> Nonce {
        let (count, period) = (count.to_be_bytes(), period.to_be_bytes());
        let parts = [b"fumocast challenge 1", name.as_bytes(), &[0], &count, &period];
        let mut nonce = [0; 16];
        nonce.iter_mut().zip(hmac_sha256(&self.0, &parts).0).for_each(|(to, from)| *to = from);
        Nonce(nonce)
    }
}

impl fmt::Debug for ChallengeKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ChallengeKey")
    }
}

/// The challenge keys of this period and the one before.
#[derive(Debug, Clone)]
pub struct ChallengeKeys {
    current: (Period, ChallengeKey),
    /// Absent in the first period of 1970.
    before: Option<(Period, ChallengeKey)>,
}

impl ChallengeKeys {
    /// Returns the keys of this period and the one before.
    #[must_use]
    pub const fn new(
        current: (Period, ChallengeKey),
        before: Option<(Period, ChallengeKey)>,
    ) -> Self {
        Self { current, before }
    }

    /// Returns the nonce of a challenge that is made in this period.
    // spec: security 7.2 (challenges without stored state)
    #[must_use]
    pub fn nonce(&self, name: &str, count: u64) -> Nonce {
        let (period, key) = &self.current;
        key.nonce(name, count, *period)
    }

    /// Returns the nonces of a count that are good: that of this period, and of the one before.
    pub fn good(&self, name: &str, count: u64) -> impl Iterator<Item = Nonce> {
        let keys = std::iter::once(&self.current).chain(&self.before);
        keys.map(move |(period, key)| key.nonce(name, count, *period))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the keys of a store whose key of a day is that number, over and over.
    pub(crate) fn keys(now: Utc) -> ChallengeKeys {
        let entry = |period: Period| {
            let octet = u8::try_from(1 + period.day() % 255).unwrap();
            (period, ChallengeKey::new([octet; 32]))
        };
        let period = Period::of(now);
        ChallengeKeys::new(entry(period), period.before().map(entry))
    }

    // test: security 7.2 (challenges without stored state)
    #[test]
    fn the_nonce_of_a_challenge_is_that_of_the_rule() {
        let keys = keys(Utc::from_seconds(3 * 600 + 599));
        let hex = |nonce: Nonce| format!("{:032x}", u128::from_be_bytes(nonce.0));
        assert_eq!(hex(keys.nonce("LAB-0001", 0)), "d025d9efec2090d5ae7ec1120fc8c82a");
        assert_eq!(hex(keys.nonce("LAB-0001", 1)), "83ee65e7afb3cbfb5ce8e3735268c989");
    }

    // test: security 7.2 (challenges without stored state)
    #[test]
    fn the_period_names_the_key_and_the_one_before_is_good_too() {
        let midnight = 20_000 * 86_400;
        for (made, asked, good) in [
            (midnight - 1, midnight - 1, true),
            (midnight - 1, midnight, true),
            (midnight - 1, midnight + 599, true),
            (midnight - 1, midnight + 600, false),
            (midnight, midnight - 1, false),
            (midnight, midnight + 1_199, true),
            (midnight, midnight + 1_200, false),
        ] {
            let [made_with, asked_with] = [made, asked].map(|at| keys(Utc::from_seconds(at)));
            let nonce = made_with.nonce("a", 7);
            let found = asked_with.good("a", 7).any(|other| other == nonce);
            assert_eq!(found, good, "made at {made}, shown at {asked}");
        }
        let day = |seconds| Period::of(Utc::from_seconds(seconds)).day();
        assert_eq!((day(midnight - 1), day(midnight)), (19_999, 20_000));
    }

    #[test]
    fn name_and_count_change_the_nonce() {
        let keys = keys(Utc::from_seconds(5_000));
        assert_ne!(keys.nonce("a", 1), keys.nonce("b", 1));
        assert_ne!(keys.nonce("a", 1), keys.nonce("a", 2));
        assert_eq!(keys.good("a", 1).count(), 2);
        assert_eq!(super::tests::keys(Utc(0)).good("a", 1).count(), 1);
    }
}
