//! The rate of a session on the command line.

use crate::flute::pacing::{RATES, Rate};

/// Returns a rate, as in `20M` or `1.5 Mbit/s`.
///
/// # Errors
///
/// A sentence for the user, when it is no rate or outside of the range that can be paced.
pub fn rate(text: &str) -> Result<Rate, String> {
    let bits = proto_cli::units::rate(text).map_err(|error| error.to_string())?;
    Rate::new(bits).ok_or_else(|| {
        let (least, most) = (RATES.start() / 1_000, RATES.end() / 1_000_000_000);
        format!("{text:?} is outside of the rates that are sent; expected {least}k to {most}G")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_their_units_and_within_their_range() {
        for (text, bits) in [
            ("40M", 40_000_000),
            ("64k", 64_000),
            ("1G", 1_000_000_000),
            ("1.5 Mbit/s", 1_500_000),
            ("1234567", 1_234_567),
        ] {
            let read = rate(text).unwrap();
            assert_eq!(read.bits_per_second(), bits);
            assert_eq!(rate(&read.to_string()), Ok(read));
        }
        for outside in ["63999", "2G", "0"] {
            let text = rate(outside).unwrap_err();
            assert!(text.ends_with("expected 64k to 1G"), "{text}");
        }
        for wrong in ["", "M", "-1M", "20MB/s", "1m", "99999999999999999999G"] {
            assert!(rate(wrong).unwrap_err().contains("expected bits a second"), "{wrong}");
        }
    }
}
