//! Times as operators write them: `now`, `+10m`, or RFC 3339 with a zone.

use std::time::Duration;

use jiff::Timestamp;
use proto::time::Utc;

use super::AppError;

/// Parses a time, in whole seconds.
///
/// # Errors
///
/// [`AppError::Usage`] that quotes the text.
pub fn parse(text: &str, now: Utc) -> Result<Utc, AppError> {
    let whole = Utc::from_seconds(now.seconds());
    if text == "now" {
        return Ok(whole);
    }
    if let Some(span) = text.strip_prefix('+') {
        return parse_span(span).map(|span| whole + span).ok_or_else(|| wrong(text));
    }
    let timestamp: Timestamp = text.parse().map_err(|_| wrong(text))?;
    u64::try_from(timestamp.as_second()).map(Utc::from_seconds).map_err(|_| wrong(text))
}

/// Formats a time as RFC 3339 in UTC.
#[must_use]
pub fn format(time: Utc) -> String {
    let seconds = i64::try_from(time.seconds()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .map_or_else(|_| time.to_string(), |timestamp| timestamp.to_string())
}

fn parse_span(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds_in_unit = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u32 = digits.parse().ok()?;
    Some(Duration::from_secs(u64::from(count) * seconds_in_unit))
}

fn wrong(text: &str) -> AppError {
    AppError::Usage(format!(
        "{text:?} is no time; write `now`, `+30s`, `+10m`, `+2h`, `+1d` or 2026-05-01T22:00:00Z"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Utc = Utc(1_000_000_999);

    #[test]
    fn every_form_of_a_time_is_parsed() {
        for (text, seconds) in [
            ("now", 1_000_000),
            ("+30s", 1_000_030),
            ("+10m", 1_000_600),
            ("+2h", 1_007_200),
            ("+1d", 1_086_400),
            ("2026-05-01T22:00:00Z", 1_777_672_800),
            ("2026-05-02T00:00:00+02:00", 1_777_672_800),
        ] {
            assert_eq!(parse(text, NOW).unwrap(), Utc::from_seconds(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_a_usage_error() {
        for text in ["", "+", "+s", "+-3s", "+3x", "+é", "5", "soon", "2026-05-01", "+99999999999s"]
        {
            assert_eq!(parse(text, NOW).unwrap_err().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn a_formatted_time_parses() {
        assert_eq!(format(Utc::from_seconds(1_777_672_800)), "2026-05-01T22:00:00Z");
    }
}
