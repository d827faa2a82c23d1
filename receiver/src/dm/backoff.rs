//! Retry back-off: 30 s × 2ⁿ ± 50 %, at most 1 h, and never before the time that the server
//! requests.

use std::time::Duration;

use proto::time::Utc;

const FIRST: Duration = Duration::from_secs(30);
/// The longest middle; with 50 % on top it gives one hour.
const LONGEST: Duration = Duration::from_secs(2400);
/// Limit on the wait that a server requests: its clock, or ours, may be wrong.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Back-off after failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    failures: u32,
}

// spec: oma-002 4 (back-off, and the server's wait)
impl Backoff {
    /// Returns the time to wait after one more failure.
    ///
    /// `wanted` is the wait that the server requests; the result is never shorter (but for the
    /// limit of a day), and spread behind it so that devices do not retry all at once.
    ///
    /// # Units
    ///
    /// `chance` is uniform over all 64-bit numbers.
    #[must_use]
    pub fn failed(&mut self, wanted: Option<Duration>, chance: u64) -> Duration {
        let doubled = 1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX);
        let middle = FIRST.saturating_mul(doubled).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let jittered = middle / 2 + share(middle, chance);
        match wanted {
            None => jittered,
            Some(wanted) => wanted.min(LONGEST_WAIT) + jittered / 2,
        }
    }

    /// Resets the count of failures.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Returns the number of failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

/// Returns `span × chance / 2⁶⁴`.
pub(super) fn share(span: Duration, chance: u64) -> Duration {
    let millis = (span.as_millis().saturating_mul(u128::from(chance))) >> 64;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Parses an HTTP `Retry-After` in seconds; `None` for a date.
#[must_use]
pub fn parse_retry_after(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Returns the time to wait by the `after=20000512T133000Z` of a RespURI.
#[must_use]
pub fn wait_in_reply_address(address: &str, now: Utc) -> Option<Duration> {
    let (_, query) = address.split_once('?')?;
    let after = query.split('&').find_map(|pair| pair.strip_prefix("after="))?;
    Some(basic_utc(after)?.since(now))
}

/// Parses `YYYYMMDDThhmmssZ`.
fn basic_utc(text: &str) -> Option<Utc> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let digits = |text: &str, length| {
        let plain = text.len() == length && text.bytes().all(|octet| octet.is_ascii_digit());
        plain.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (date, time) = (digits(date, 8)?, digits(time, 6)?);
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    let (hour, minute, second) = (time / 10_000, time / 100 % 100, time % 100);
    let sane = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    sane.then(|| Utc::from_seconds(seconds))
}

/// Counts days in years that begin in March, so that a leap day is the last of its year.
const fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let before = year * 365 + year / 4 - year / 100 + year / 400;
    (before + (month * 153 + 2) / 5 + day).saturating_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_from_half_a_minute_to_an_hour() {
        let (mut low, mut high) = (Backoff::default(), Backoff::default());
        let mut spans = Vec::new();
        for _ in 0..9 {
            spans.push((low.failed(None, 0).as_secs(), high.failed(None, u64::MAX).as_secs()));
        }
        assert_eq!(spans[..4], [(15, 44), (30, 89), (60, 179), (120, 359)]);
        assert_eq!(spans[7..], [(1200, 3599), (1200, 3599)]);
        for _ in 0..100 {
            assert!(high.failed(None, u64::MAX) <= 3600 * SECOND);
        }
    }

    #[test]
    fn a_success_begins_anew() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            assert!(backoff.failed(None, 7) >= 15 * SECOND);
        }
        assert_eq!(backoff.failures(), 5);
        backoff.succeeded();
        assert_eq!(backoff.failed(None, 0), 15 * SECOND);
    }

    // test: oma-002 4 (Retry-After and after=)
    #[test]
    fn the_server_is_never_bothered_before_it_wants() {
        for chance in [0, u64::MAX / 2, u64::MAX] {
            let wait = Backoff::default().failed(Some(100 * SECOND), chance);
            assert!(wait >= 100 * SECOND && wait <= 123 * SECOND, "{wait:?}");
        }
        let endless = Backoff::default().failed(Some(Duration::MAX), u64::MAX);
        assert!(endless <= LONGEST_WAIT + 23 * SECOND);
    }

    // test: oma-002 4 (after=)
    #[test]
    fn the_date_in_a_reply_address_is_read() {
        let address = "http://server/dm?user=jsmith&after=20000512T133000Z";
        let at = |seconds| wait_in_reply_address(address, Utc::from_seconds(seconds));
        assert_eq!(at(958_138_200), Some(Duration::ZERO));
        assert_eq!(at(958_138_140), Some(60 * SECOND));
        assert_eq!(at(958_138_201), Some(Duration::ZERO));
    }

    #[test]
    fn days_are_counted_through_leap_years() {
        for (text, seconds) in [
            ("19700101T000000Z", 0),
            ("20000229T000000Z", 951_782_400),
            ("20000301T000000Z", 951_868_800),
            ("21000228T235959Z", 4_107_542_399),
            ("21000301T000000Z", 4_107_542_400),
        ] {
            assert_eq!(basic_utc(text), Some(Utc::from_seconds(seconds)), "{text}");
        }
    }

    #[test]
    fn junk_dates_are_none() {
        for junk in
            ["", "Z", "T", "20000512", "20001312T000000Z", "2000051T2133000Z", "20000512T2500+0Z"]
        {
            assert_eq!(basic_utc(junk), None, "{junk}");
        }
        assert_eq!(wait_in_reply_address("http://server/dm", Utc(0)), None);
        assert_eq!(parse_retry_after(" 120 "), Some(120 * SECOND));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
