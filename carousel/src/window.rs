//! Windows, and moments as people write them.

use std::time::Duration;

use jiff::Timestamp;
use proto::{time::Utc, tune_in::Window};

/// The position of a moment relative to a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Before it opens.
    Ahead,
    /// Inside.
    Open,
    /// At its close or later.
    Passed,
}

/// Returns the position of `now`.
#[must_use]
pub fn position(now: Utc, window: Window) -> Position {
    if now >= window.closes {
        Position::Passed
    } else if now >= window.opens {
        Position::Open
    } else {
        Position::Ahead
    }
}

/// Reads a moment: RFC 3339, `now`, or a time from now like `+30s`, `+10m`, `+2h`, `+7d`.
///
/// # Errors
///
/// A text that names the expected form.
pub fn moment(now: Utc, text: &str) -> Result<Utc, String> {
    let wrong = || format!("{text:?} is no moment: RFC 3339, now, +30s, +10m, +2h or +7d");
    if text == "now" {
        return Ok(now);
    }
    if let Some(relative) = text.strip_prefix('+') {
        let (at, unit) = relative.char_indices().last().ok_or_else(wrong)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let digits = relative.get(..at).filter(|digits| !digits.starts_with('+'));
        let count: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
        let span = Duration::from_secs(count.checked_mul(seconds).ok_or_else(wrong)?);
        return Ok(now + span);
    }
    let timestamp: Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(timestamp.as_millisecond()).map(Utc).map_err(|_| wrong())
}

/// Writes a moment as RFC 3339, to the second.
#[must_use]
pub fn rfc3339(moment: Utc) -> String {
    i64::try_from(moment.seconds())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| format!("{} s", moment.seconds()), |timestamp| timestamp.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Utc = Utc::from_seconds(1_800_000_000);

    #[test]
    fn moments_are_read_as_people_write_them() {
        assert_eq!(moment(NOW, "now"), Ok(NOW));
        assert_eq!(moment(NOW, "+30s"), Ok(Utc::from_seconds(1_800_000_030)));
        assert_eq!(moment(NOW, "+10m"), Ok(Utc::from_seconds(1_800_000_600)));
        assert_eq!(moment(NOW, "+2h"), Ok(Utc::from_seconds(1_800_007_200)));
        assert_eq!(moment(NOW, "+7d"), Ok(Utc::from_seconds(1_800_604_800)));
        assert_eq!(moment(NOW, "2027-01-15T08:00:00Z"), Ok(NOW));
        assert_eq!(moment(NOW, "2027-01-15T09:30:00+01:30"), Ok(NOW));
        assert_eq!(rfc3339(NOW), "2027-01-15T08:00:00Z");
        for wrong in ["", "+", "+s", "+1", "++1s", "-1s", "+1w", "tomorrow", "2027-01-15", "+é"] {
            assert!(moment(NOW, wrong).is_err(), "{wrong}");
        }
        assert!(moment(NOW, "1969-12-31T23:59:59Z").is_err());
    }

    #[test]
    fn a_window_is_open_from_its_first_moment_to_before_its_close() {
        let window = Window { opens: Utc(1000), closes: Utc(2000) };
        for (now, expected) in [
            (999, Position::Ahead),
            (1000, Position::Open),
            (1999, Position::Open),
            (2000, Position::Passed),
        ] {
            assert_eq!(position(Utc(now), window), expected, "{now}");
        }
    }
}
