//! Moments as arguments: cores never read a clock.

pub mod text;

use std::{fmt, ops::Add, time::Duration};

use serde::{Deserialize, Serialize};

/// A moment on the monotonic clock, which also counts time spent suspended.
///
/// # Units
///
/// Nanoseconds since an arbitrary origin of this run (`CLOCK_BOOTTIME` in the shells).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// Returns how long after `earlier` this moment is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// A moment of wall-clock time.
///
/// # Units
///
/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Utc(pub u64);

impl Utc {
    /// Returns the moment `seconds` after 1970-01-01T00:00:00Z, or the last whole second that there
    /// is: what is read and written again stays the same.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        match seconds.checked_mul(1000) {
            Some(millis) => Self(millis),
            None => Self(u64::MAX / 1000 * 1000),
        }
    }

    /// Returns whole seconds since 1970-01-01T00:00:00Z, rounded down.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Returns how long after `earlier` this moment is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns the upper 32 bits of the NTP time, as FDT instances carry it.
    ///
    /// # Source
    ///
    /// RFC 6726 §3.3; the era wraps on 2036-02-07.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the NTP era wraps by definition")]
    pub const fn ntp_seconds(self) -> u32 {
        (self.seconds() + NTP_TO_UNIX_SECONDS) as u32
    }

    /// Returns the moment nearest to `self` whose NTP seconds are `ntp`.
    ///
    /// # Source
    ///
    /// RFC 6726 §3.3.
    #[must_use]
    // spec: rfc6726 3.3 (the era of NTP that puts an expiry nearest to the reader)
    pub fn from_ntp_near(self, ntp: u32) -> Self {
        const ERA: u64 = 1 << 32;
        let here = self.seconds() + NTP_TO_UNIX_SECONDS;
        let base = here / ERA;
        let nearest = (base.saturating_sub(1)..=base + 1)
            .map(|era| era * ERA + u64::from(ntp))
            .filter(|candidate| *candidate >= NTP_TO_UNIX_SECONDS)
            .min_by_key(|candidate| candidate.abs_diff(here))
            .unwrap_or(NTP_TO_UNIX_SECONDS);
        Self::from_seconds(nearest - NTP_TO_UNIX_SECONDS)
    }
}

impl Add<Duration> for Utc {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&text::rfc3339(*self))
    }
}

const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// Both clocks at one moment: `mono` drives deadlines, `utc` drives windows and expiry dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// The monotonic clock.
    pub mono: Mono,
    /// The wall clock.
    pub utc: Utc,
}

#[cfg(test)]
mod tests {
    use super::*;

    // Found by fuzzing, in a signed manifest.
    #[test]
    fn seconds_beyond_the_last_are_the_last_whole_one() {
        let last = Utc::from_seconds(u64::MAX);
        assert_eq!(Utc::from_seconds(last.seconds()), last);
        assert_eq!(Utc::from_seconds(u64::MAX / 1000 + 1), last);
    }

    // test: rfc6726 3.3
    #[test]
    fn ntp_seconds_choose_the_era_nearest_to_the_reader() {
        // 2036-02-07 0h is 4 294 944 000; 48 h later the value has wrapped to 149 504.
        let eve = Utc::from_seconds(4_294_944_000 - NTP_TO_UNIX_SECONDS);
        assert_eq!(eve.ntp_seconds(), 4_294_944_000);
        let later = eve + Duration::from_secs(48 * 3600);
        assert_eq!(later.ntp_seconds(), 149_504);
        assert_eq!(eve.from_ntp_near(149_504), later);
        assert_eq!(later.from_ntp_near(4_294_944_000), eve);
    }

    #[test]
    fn moments_saturate_instead_of_wrapping() {
        assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
        assert_eq!(Mono(u64::MAX) + Duration::from_secs(1), Mono(u64::MAX));
    }
}
