//! Windows, and moments as people write them.

pub use proto::time::text::{check_ahead, check_window, moment, rfc3339};
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

#[cfg(test)]
mod tests {
    use super::*;

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
