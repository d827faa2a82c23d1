//! Times as operators write them: `now`, `+10m`, or RFC 3339 with a zone.

use proto::time::{
    Utc,
    text::{moment, rfc3339},
};

use super::AppError;

/// Parses a time, in whole seconds.
///
/// # Errors
///
/// [`AppError::Usage`] that quotes the text.
pub fn parse(text: &str, now: Utc) -> Result<Utc, AppError> {
    moment(now, text).map_err(AppError::Usage)
}

/// Formats a time as RFC 3339 in UTC.
#[must_use]
pub fn format(time: Utc) -> String {
    rfc3339(Utc::from_seconds(time.seconds()))
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
