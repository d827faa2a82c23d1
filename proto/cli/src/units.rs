//! Sizes, rates and durations as people write them.
//!
//! ```text
//! size     = number [' '] [k|K|M|G|T|Ki|Mi|Gi|Ti] ['B']             octets
//! rate     = number [' '] [k|K|M|G|T|Ki|Mi|Gi|Ti] ['bit/s']         bits a second
//! duration = (number (ms|s|m|h|d))+, the largest unit first         milliseconds
//! number   = digits ['.' digits]
//! ```
//!
//! `k` and `K` are 1,000, `Ki` is 1,024. A value that is no whole number of octets, bits a second or
//! milliseconds is refused, and so is a unit of another kind: nothing is rounded.

use std::{fmt, time::Duration};

/// Prefixes of sizes and rates.
const PREFIXES: [(&str, u64); 10] = [
    ("", 1),
    ("k", 1_000),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
];

/// Units of durations in milliseconds, the largest first.
const TIMES: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Kind of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Size,
    Rate,
    Duration,
}

impl Quantity {
    const ALL: [Self; 3] = [Self::Size, Self::Rate, Self::Duration];

    const fn name(self) -> &'static str {
        match self {
            Self::Size => "a size",
            Self::Rate => "a rate",
            Self::Duration => "a duration",
        }
    }

    const fn examples(self) -> &'static str {
        match self {
            Self::Size => "octets, as in 500000, 60MB or 4MiB",
            Self::Rate => "bits a second, as in 500k, 1.5M or 20 Mbit/s",
            Self::Duration => "a number with ms, s, m, h or d, as in 90s or 2h30m",
        }
    }

    /// Returns the factor of a unit; `None` for one of another kind.
    fn factor(self, unit: &str) -> Option<u64> {
        let prefixed = |base: &str| {
            let prefix = unit.strip_suffix(base).unwrap_or(unit);
            PREFIXES.into_iter().find(|(known, _)| *known == prefix).map(|(_, factor)| factor)
        };
        match self {
            Self::Size => prefixed("B"),
            Self::Rate => prefixed("bit/s"),
            Self::Duration => {
                TIMES.into_iter().find(|(known, _)| *known == unit).map(|(_, factor)| factor)
            }
        }
    }
}

/// Error in a size, a rate or a duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitError {
    text: String,
    quantity: Quantity,
    fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    NoNumber,
    NoUnit,
    UnknownUnit(String),
    OtherQuantity(String, Quantity),
    Order(String),
    NotWhole,
    TooLarge,
}

impl fmt::Display for UnitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, quantity, fault } = self;
        let name = quantity.name();
        match fault {
            Fault::NoNumber => write!(formatter, "{text:?} is not {name}")?,
            Fault::NoUnit => write!(formatter, "{text:?} has no unit")?,
            Fault::UnknownUnit(unit) => write!(formatter, "{unit:?} is no unit of {name}")?,
            Fault::OtherQuantity(unit, other) => {
                write!(formatter, "{unit:?} is the unit of {}, not of {name}", other.name())?;
            }
            Fault::Order(unit) => {
                write!(formatter, "{unit:?} follows a unit that is not larger in {text:?}")?;
            }
            Fault::NotWhole => {
                write!(formatter, "{text:?} is no whole number of {}", whole(*quantity))?
            }
            Fault::TooLarge => write!(formatter, "{text:?} is too large")?,
        }
        write!(formatter, "; expected {}", quantity.examples())
    }
}

impl std::error::Error for UnitError {}

const fn whole(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Size => "octets",
        Quantity::Rate => "bits a second",
        Quantity::Duration => "milliseconds",
    }
}

/// Returns the octets of a size.
///
/// # Errors
///
/// [`UnitError`] names the fault, and shows the expected form.
pub fn size(text: &str) -> Result<u64, UnitError> {
    scaled(text, Quantity::Size)
}

/// Returns the bits a second of a rate.
///
/// # Errors
///
/// [`UnitError`] names the fault, and shows the expected form.
pub fn rate(text: &str) -> Result<u64, UnitError> {
    scaled(text, Quantity::Rate)
}

/// Returns a duration, in whole milliseconds.
///
/// # Errors
///
/// [`UnitError`] names the fault, and shows the expected form.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let quantity = Quantity::Duration;
    let wrong = |fault| UnitError { text: text.to_owned(), quantity, fault };
    let mut left = text.trim();
    let (mut sum, mut smallest) = (0_u64, u64::MAX);
    if left.is_empty() {
        return Err(wrong(Fault::NoNumber));
    }
    while !left.is_empty() {
        let (number, tail) = Number::split(left).ok_or_else(|| wrong(Fault::NoNumber))?;
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        if unit.is_empty() {
            return Err(wrong(Fault::NoUnit));
        }
        let factor = quantity.factor(unit).ok_or_else(|| wrong(not_a_unit(unit, quantity)))?;
        if factor >= smallest {
            return Err(wrong(Fault::Order(unit.to_owned())));
        }
        let part = number.times(factor).map_err(&wrong)?;
        sum = sum.checked_add(part).ok_or_else(|| wrong(Fault::TooLarge))?;
        (left, smallest) = (tail, factor);
    }
    Ok(Duration::from_millis(sum))
}

fn scaled(text: &str, quantity: Quantity) -> Result<u64, UnitError> {
    let wrong = |fault| UnitError { text: text.to_owned(), quantity, fault };
    let (number, unit) = Number::split(text.trim()).ok_or_else(|| wrong(Fault::NoNumber))?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let factor = quantity.factor(unit).ok_or_else(|| wrong(not_a_unit(unit, quantity)))?;
    number.times(factor).map_err(wrong)
}

fn not_a_unit(unit: &str, quantity: Quantity) -> Fault {
    let others = Quantity::ALL.into_iter().filter(|other| *other != quantity);
    match others.into_iter().find(|other| other.factor(unit).is_some()) {
        Some(other) => Fault::OtherQuantity(unit.to_owned(), other),
        None => Fault::UnknownUnit(unit.to_owned()),
    }
}

/// A decimal number: `digits` / 10^`decimals`.
struct Number {
    digits: u128,
    decimals: u32,
}

impl Number {
    /// Splits a number from the front of a text; `None` when it does not begin with one.
    fn split(text: &str) -> Option<(Self, &str)> {
        let count = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, tail) = text.split_at(count(text));
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(after) => after.split_at(count(after)),
            None => ("", tail),
        };
        let lacks_digits =
            whole.is_empty() || (fraction.is_empty() && tail.len() + whole.len() < text.len());
        // More would not be whole, or too large, in any unit.
        if lacks_digits || whole.len() + fraction.len() > 38 {
            return None;
        }
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some((Self { digits, decimals: u32::try_from(fraction.len()).ok()? }, tail))
    }

    /// Returns the number times `factor`.
    fn times(&self, factor: u64) -> Result<u64, Fault> {
        let product = self.digits.checked_mul(factor.into()).ok_or(Fault::TooLarge)?;
        let divisor = 10_u128.pow(self.decimals);
        if !product.is_multiple_of(divisor) {
            return Err(Fault::NotWhole);
        }
        u64::try_from(product / divisor).map_err(|_| Fault::TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_octets() {
        for (text, octets) in [
            ("0", 0),
            ("500000", 500_000),
            ("1.5M", 1_500_000),
            ("60MB", 60_000_000),
            ("4MiB", 4 << 20),
            ("4 Mi", 4 << 20),
            ("7B", 7),
            ("1.5KiB", 1_536),
            ("1k", 1_000),
            ("1K", 1_000),
            ("16T", 16_000_000_000_000),
            (" 2 GiB ", 2 << 30),
            ("0.5KiB", 512),
        ] {
            assert_eq!(size(text), Ok(octets), "{text}");
        }
    }

    #[test]
    fn rates_are_bits_a_second() {
        for (text, bits) in [
            ("500k", 500_000),
            ("1.5M", 1_500_000),
            ("20 Mbit/s", 20_000_000),
            ("20Mbit/s", 20_000_000),
            ("9600bit/s", 9_600),
            ("1Gi", 1 << 30),
            ("64000", 64_000),
        ] {
            assert_eq!(rate(text), Ok(bits), "{text}");
        }
    }

    #[test]
    fn durations_have_units_the_largest_first() {
        for (text, millis) in [
            ("90s", 90_000),
            ("2h30m", 9_000_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn each_fault_is_named_and_the_right_form_shown() {
        let error = |result: Result<u64, UnitError>| result.unwrap_err().to_string();
        let form = "; expected octets, as in 500000, 60MB or 4MiB";
        for (text, fault) in [
            ("", "\"\" is not a size"),
            ("-1", "\"-1\" is not a size"),
            ("MiB", "\"MiB\" is not a size"),
            (".5M", "\".5M\" is not a size"),
            ("5.", "\"5.\" is not a size"),
            ("5.M", "\"5.M\" is not a size"),
            ("1.5X", "\"X\" is no unit of a size"),
            ("4Mib", "\"Mib\" is no unit of a size"),
            ("1e6", "\"e6\" is no unit of a size"),
            ("1,000", "\",000\" is no unit of a size"),
            ("4  MiB", "\" MiB\" is no unit of a size"),
            ("20 Mbit/s", "\"Mbit/s\" is the unit of a rate, not of a size"),
            ("5m", "\"m\" is the unit of a duration, not of a size"),
            ("0.5", "\"0.5\" is no whole number of octets"),
            ("1.0001k", "\"1.0001k\" is no whole number of octets"),
            ("99999999999GiB", "\"99999999999GiB\" is too large"),
        ] {
            assert_eq!(error(size(text)), format!("{fault}{form}"), "{text}");
        }
        let form = "; expected bits a second, as in 500k, 1.5M or 20 Mbit/s";
        for (text, fault) in [
            ("20MB/s", "\"MB/s\" is no unit of a rate"),
            ("4MiB", "\"MiB\" is the unit of a size, not of a rate"),
            ("10s", "\"s\" is the unit of a duration, not of a rate"),
        ] {
            assert_eq!(error(rate(text)), format!("{fault}{form}"), "{text}");
        }
        let form = "; expected a number with ms, s, m, h or d, as in 90s or 2h30m";
        for (text, fault) in [
            ("", "\"\" is not a duration"),
            ("5", "\"5\" has no unit"),
            ("1h5", "\"1h5\" has no unit"),
            ("-1s", "\"-1s\" is not a duration"),
            ("5w", "\"w\" is no unit of a duration"),
            ("5M", "\"M\" is the unit of a size, not of a duration"),
            ("30m2h", "\"h\" follows a unit that is not larger in \"30m2h\""),
            ("1m1m", "\"m\" follows a unit that is not larger in \"1m1m\""),
            ("0.0005s", "\"0.0005s\" is no whole number of milliseconds"),
            ("999999999999999999d", "\"999999999999999999d\" is too large"),
        ] {
            let found = duration(text).unwrap_err().to_string();
            assert_eq!(found, format!("{fault}{form}"), "{text}");
        }
    }

    #[test]
    fn a_number_of_any_length_is_refused_and_harms_nothing() {
        for text in ["9".repeat(39), format!("0.{}", "0".repeat(60)), "1".repeat(100_000)] {
            assert!(size(&text).is_err() && rate(&text).is_err(), "{}", text.len());
            assert!(duration(&format!("{text}s")).is_err());
        }
        assert!(size(&"9".repeat(38)).is_err());
    }
}
