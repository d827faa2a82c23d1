//! The reasons why something received could not be used, counted.

use std::{collections::BTreeMap, fmt};

use proto::{
    fec::{other_schemes::scheme_name, oti::Oti},
    flute::alc::PayloadId,
    wire::WireError,
};
use serde::Serialize;

/// Reasons that are kept; others are counted together.
const MAX_REASONS: usize = 64;

/// The loss of an FDT instance whose symbols needed more memory than there is.
pub(super) const INSTANCE_GIVEN_UP: &str =
    "an FDT instance was given up before it was whole: those in collection may take 4 MiB";

/// Reasons why something was not used, each with its number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Oddities {
    reasons: BTreeMap<String, u64>,
    others: u64,
}

/// A reason and how often it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Oddity {
    /// The number of times.
    pub count: u64,
    /// The reason, without control characters.
    pub reason: String,
}

impl Oddities {
    /// Counts a reason, which may quote a sender.
    pub fn note(&mut self, reason: impl fmt::Display) {
        let reason: String = reason
            .to_string()
            .chars()
            .map(|found| if found.is_control() { char::REPLACEMENT_CHARACTER } else { found })
            .collect();
        if let Some(count) = self.reasons.get_mut(&reason) {
            *count += 1;
        } else if self.reasons.len() < MAX_REASONS {
            self.reasons.insert(reason, 1);
        } else {
            self.others += 1;
        }
    }

    /// Returns the reasons, those that had no place together at the end.
    #[must_use]
    pub fn all(&self) -> Vec<Oddity> {
        let reasons = self.reasons.iter();
        let kept = reasons.map(|(reason, count)| Oddity { count: *count, reason: reason.clone() });
        let others = Oddity { count: self.others, reason: "other reasons".to_owned() };
        kept.chain((self.others > 0).then_some(others)).collect()
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => formatter.write_str(&self.reason),
            count => write!(formatter, "{} ({count} times)", self.reason),
        }
    }
}

/// Returns the reason why a datagram cannot be read, without its values: of these there are many.
pub(super) fn malformed(error: &WireError) -> String {
    let reason = match error {
        WireError::Truncated { field, .. } => format!("{field} is cut off"),
        WireError::Invalid { field, expected, .. }
        | WireError::Unexpected { field, expected, .. } => format!("{field} is not {expected}"),
        WireError::Trailing { after, .. } => format!("octets follow {after}"),
        WireError::TooLarge { field, limit, .. } => format!("{field} is above {limit}"),
    };
    format!("a datagram is no ALC packet: {reason}")
}

/// Returns the reason why packets of a file contradict its FEC parameters.
pub(super) fn contradiction(oti: &Oti, codepoint: u8, fti: Option<Oti>) -> String {
    let described = oti.encoding_id();
    match fti {
        _ if codepoint != described => {
            format!(
                "its packets are of FEC Encoding ID {codepoint}, its FDT entry is of {described}"
            )
        }
        Some(fti) if fti.transfer_length() != oti.transfer_length() => format!(
            "EXT_FTI and FDT disagree about its transfer length: {} and {}",
            fti.transfer_length(),
            oti.transfer_length()
        ),
        Some(_) | None => "EXT_FTI and FDT disagree about its FEC parameters".to_owned(),
    }
}

/// Returns the reason why the symbols of a packet do not fit a file.
pub(super) fn misfit(oti: &Oti, id: PayloadId, found: usize) -> String {
    let size = usize::from(oti.symbol_size());
    if found.is_multiple_of(size.max(1)) {
        let (sbn, esi) = (id.sbn.0, id.esi.0);
        return format!("it has no symbol {esi} in a block {sbn}, as one came");
    }
    format!("its symbols have {found} octets, by its description {size}")
}

/// Returns the reason why packets of a FEC scheme, or a file of it, cannot be used.
#[must_use]
pub fn unsupported(encoding_id: u8) -> String {
    let name = scheme_name(encoding_id).unwrap_or("unknown");
    format!("FEC Encoding ID {encoding_id} ({name}) is not supported: 0 and 6 are")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_without_control_characters_and_in_bounded_memory() {
        let mut oddities = Oddities::default();
        (0..3).for_each(|_| oddities.note("a \u{1b}[31mred\n entry"));
        let lines: Vec<String> = oddities.all().iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["a \u{fffd}[31mred\u{fffd} entry (3 times)"]);
        (0..2 * MAX_REASONS).for_each(|number| oddities.note(number));
        let all = oddities.all();
        assert_eq!(all.len(), MAX_REASONS + 1);
        let total: u64 = all.iter().map(|oddity| oddity.count).sum();
        assert_eq!(total, 3 + 2 * u64::try_from(MAX_REASONS).unwrap());
    }

    #[test]
    fn datagrams_that_cannot_be_read_have_few_reasons() {
        let reasons: std::collections::BTreeSet<String> = (0..200)
            .map(|left| malformed(&WireError::Truncated { field: "LCT header", needed: 300, left }))
            .collect();
        let reason = "a datagram is no ALC packet: LCT header is cut off".to_owned();
        assert_eq!(reasons, [reason].into());
    }

    #[test]
    fn every_scheme_of_others_is_named() {
        for (id, name) in [
            (1, "Raptor"),
            (2, "Reed-Solomon over GF(2^m)"),
            (5, "Reed-Solomon over GF(2^8)"),
            (128, "Small Block"),
            (129, "Small Block Systematic"),
            (200, "unknown"),
        ] {
            assert!(unsupported(id).contains(name), "{}", unsupported(id));
        }
    }
}
