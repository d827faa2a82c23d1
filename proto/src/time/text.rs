//! Moments as people write and read them.

use std::time::Duration;

use jiff::Timestamp;

use super::Utc;

/// The last moment that can be written: RFC 3339 has years of four digits.
pub const LAST: Utc = Utc::from_seconds(253_402_207_200);

/// Reads a moment: RFC 3339 with a zone, `now`, or a time from now like `+30s`, `+10m`, `+2h`,
/// `+7d`. Returns whole seconds, rounded down, from 1970 to [`LAST`].
///
/// # Errors
///
/// A text that quotes what was written and names the expected form.
pub fn moment(now: Utc, text: &str) -> Result<Utc, String> {
    let wrong = |expected: &str| format!("{text:?} is no moment: expected {expected}");
    let whole = Utc::from_seconds(now.seconds());
    let read = if text == "now" {
        whole
    } else if let Some(span) = text.strip_prefix('+') {
        let span = span_of(span).ok_or_else(|| wrong(FORMS))?;
        if span > LONGEST_SPAN {
            return Err(wrong("a span of 100 years at most"));
        }
        whole + span
    } else {
        let timestamp: Timestamp = text.parse().map_err(|_| match lacks_zone(text) {
            true => wrong("a zone at its end: Z, or an offset like +02:00"),
            false if is_beyond(text) => too_late(text),
            false => wrong(FORMS),
        })?;
        // What the parser takes beyond RFC 3339: larger offsets, and zones that it does not look at.
        if text.contains('[') || offset_hours(text) > 23 {
            return Err(wrong("an offset from -23:59 to +23:59 and nothing behind it"));
        }
        let seconds = u64::try_from(timestamp.as_second());
        Utc::from_seconds(seconds.map_err(|_| wrong("1970 or later"))?)
    };
    if read > LAST {
        return Err(too_late(text));
    }
    Ok(read)
}

/// Longest time from now that is read; a longer one is a mistake.
const LONGEST_SPAN: Duration = Duration::from_secs(100 * 366 * 86_400);

const FORMS: &str = "2026-05-01T22:00:00Z, now, +30s, +10m, +2h or +7d";

fn too_late(text: &str) -> String {
    format!("{text:?} is too late: the last moment that can be written is {LAST}")
}

/// Returns whether a text is a moment of the last hours of the year 9999, behind [`LAST`].
fn is_beyond(text: &str) -> bool {
    let year_before = text.strip_prefix("9999-").map(|tail| format!("9998-{tail}"));
    year_before.is_some_and(|text| text.parse::<Timestamp>().is_ok())
}

/// Returns whether a text is a moment but for its zone.
fn lacks_zone(text: &str) -> bool {
    format!("{text}Z").parse::<Timestamp>().is_ok()
}

/// Returns the hours of the offset at the end of a moment; 0 where it has none.
fn offset_hours(text: &str) -> u8 {
    let time = text.split_once(['T', 't', ' ']).map_or("", |(_, time)| time);
    let offset = time.rsplit_once(['+', '-']).and_then(|(_, offset)| offset.get(..2));
    offset.and_then(|hours| hours.parse().ok()).unwrap_or(0)
}

fn span_of(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let unit_seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
    let count: u64 = is_number.then(|| digits.parse().ok()).flatten()?;
    count.checked_mul(unit_seconds).map(Duration::from_secs)
}

/// Checks that a moment lies ahead; `name` is that of the argument.
///
/// # Errors
///
/// A text that names the argument and its time.
pub fn check_ahead(now: Utc, name: &str, at: Utc) -> Result<(), String> {
    if at > now { Ok(()) } else { Err(format!("{name} lies in the past: {at}, it is {now}")) }
}

/// Checks that a window, of two named arguments, closes after it opens, and has not passed.
///
/// # Errors
///
/// A text that names the arguments and their times.
pub fn check_window(
    now: Utc,
    (opens_name, opens): (&str, Option<Utc>),
    (closes_name, closes): (&str, Option<Utc>),
) -> Result<(), String> {
    let Some(closes) = closes else { return Ok(()) };
    check_ahead(now, closes_name, closes)?;
    match opens {
        Some(opens) if closes <= opens => {
            Err(format!("{closes_name} is not after {opens_name}: {closes}, {opens}"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Writes a moment as RFC 3339 in UTC; milliseconds appear where there are some.
#[must_use]
pub fn rfc3339(at: Utc) -> String {
    let timestamp = i64::try_from(at.0).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    timestamp.map_or_else(|| "after the year 9999".to_owned(), |timestamp| timestamp.to_string())
}

/// Writes a span in its two largest units: `3 d 4 h`, `5 min 30 s`, `2 s`.
#[must_use]
pub fn span(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut left = span.as_secs();
    let mut parts = Vec::new();
    for (seconds, unit) in UNITS {
        let count = left / seconds;
        left %= seconds;
        if count > 0 && parts.len() < 2 {
            parts.push(format!("{count} {unit}"));
        } else if !parts.is_empty() {
            break;
        }
    }
    if parts.is_empty() { "less than 1 s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Utc = Utc(1_800_000_000_999);

    #[test]
    fn moments_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("now", 1_800_000_000),
            ("+30s", 1_800_000_030),
            ("+10m", 1_800_000_600),
            ("+2h", 1_800_007_200),
            ("+7d", 1_800_604_800),
            ("2027-01-15T08:00:00Z", 1_800_000_000),
            ("2027-01-15T08:00:00.9Z", 1_800_000_000),
            ("2027-01-15T09:30:00+01:30", 1_800_000_000),
            ("2027-01-15T03:00:00-05:00", 1_800_000_000),
            ("2026-05-02T00:00:00+02:00", 1_777_672_800),
        ] {
            assert_eq!(moment(NOW, text), Ok(Utc::from_seconds(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_quoted_and_the_zone_is_named_where_it_lacks() {
        for text in [
            "",
            "+",
            "+s",
            "+1",
            "++1s",
            "+-3s",
            "-1s",
            "+1w",
            "5",
            "tomorrow",
            "+é",
            "1800000000",
            "+99999999999999999999s",
            "2027-13-15T08:00:00Z",
            "2027-01-15T08:00:00+25:00",
            "2027-01-15T08:00:00-24:00",
            "2027-01-15T08:00:00+01:00[Asia/Tokyo]",
        ] {
            let error = moment(NOW, text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{text}: {error}");
        }
        for text in ["9999-12-31T23:59:59Z", "9999-12-30T22:00:01Z"] {
            let error = moment(NOW, text).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "{text:?} is too late: the last moment that can be written is \
                     9999-12-30T22:00:00Z"
                )
            );
        }
        for text in ["2027-01-15T08:00:00", "2027-01-15 08:00"] {
            assert!(moment(NOW, text).unwrap_err().contains("a zone at its end"), "{text}");
        }
        assert!(moment(NOW, "1969-12-31T23:59:59Z").unwrap_err().contains("1970"));
        for text in ["+99999999999s", "+9999999d"] {
            assert!(moment(NOW, text).unwrap_err().contains("100 years"), "{text}");
        }
        assert!(moment(NOW, "+36600d").is_ok() && moment(NOW, "+36601d").is_err());
    }

    #[test]
    fn a_window_closes_after_it_opens_and_later_than_now() {
        let at = |seconds| Some(Utc::from_seconds(seconds));
        let check = |opens, closes| check_window(NOW, ("--opens", opens), ("--closes", closes));
        assert_eq!(check(None, None), Ok(()));
        assert_eq!(check(at(5), None), Ok(()));
        assert_eq!(check(at(5), at(1_800_000_001)), Ok(()));
        let error = check(at(1_800_000_060), at(1_800_000_060)).unwrap_err();
        let expected = "--closes is not after --opens: 2027-01-15T08:01:00Z, 2027-01-15T08:01:00Z";
        assert_eq!(error, expected);
        for opens in [None, at(5), at(1_900_000_000)] {
            let error = check(opens, at(1_800_000_000)).unwrap_err();
            assert!(
                error.starts_with("--closes lies in the past: 2027-01-15T08:00:00Z"),
                "{error}"
            );
        }
    }

    #[test]
    fn moments_and_spans_are_written_for_people() {
        assert_eq!(Utc::from_seconds(1_800_000_000).to_string(), "2027-01-15T08:00:00Z");
        assert_eq!(Utc(1_800_000_000_120).to_string(), "2027-01-15T08:00:00.12Z");
        assert_eq!(rfc3339(Utc(u64::MAX)), "after the year 9999");
        assert!(!rfc3339(LAST).starts_with("after"));
        for (seconds, text) in [
            (0, "less than 1 s"),
            (59, "59 s"),
            (60, "1 min"),
            (330, "5 min 30 s"),
            (3605, "1 h"),
            (273_600, "3 d 4 h"),
            (86_400 * 400, "400 d"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0..=LAST.seconds()) {
            let at = Utc::from_seconds(seconds);
            prop_assert_eq!(moment(NOW, &rfc3339(at)), Ok(at));
        }

        #[test]
        fn whatever_is_written_the_answer_is_a_value(text in "[-+0-9TZ:.a-z ]{0,30}|\\PC{0,12}") {
            if let Ok(at) = moment(NOW, &text) {
                prop_assert!(at <= LAST);
            }
        }
    }
}
