//! The cursor over octets from outside, and the error that every wire format shares.
//!
//! All integers are big-endian.

use thiserror::Error;

/// The rejection of octets from a peer.
///
/// A peer's mistake is a value: count it, drop the packet, keep the session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// Fewer octets are left than the field takes.
    #[error("{field} is cut off: {needed} octets wanted, {left} left")]
    Truncated {
        /// The field that was being read.
        field: &'static str,
        /// Octets that the field takes.
        needed: usize,
        /// Octets that are left.
        left: usize,
    },
    /// The field holds a value that the format does not allow here.
    #[error("{field} is {found}, expected {expected}")]
    Invalid {
        /// The field that was read.
        field: &'static str,
        /// Its value, shortened.
        found: String,
        /// The permitted values.
        expected: &'static str,
    },
    /// The field holds a number that the format does not allow here; costs no allocation, for
    /// the path that every packet takes.
    #[error("{field} is {found}, expected {expected}")]
    Unexpected {
        /// The field that was read.
        field: &'static str,
        /// The number it held.
        found: u64,
        /// The permitted values.
        expected: &'static str,
    },
    /// Octets follow where the format ends.
    #[error("{count} octets follow {after}")]
    Trailing {
        /// The field that should have been last.
        after: &'static str,
        /// Octets that follow it.
        count: usize,
    },
    /// A size is beyond the limit that this reader was given.
    #[error("{field} is {found}, the limit is {limit}")]
    TooLarge {
        /// The field or structure.
        field: &'static str,
        /// The size found.
        found: u64,
        /// The limit, in the same unit.
        limit: u64,
    },
}

impl WireError {
    /// Returns an [`WireError::Invalid`] that quotes at most 64 characters of `found`, none of
    /// which controls a terminal.
    #[must_use]
    pub fn invalid(
        field: &'static str,
        found: impl std::fmt::Display,
        expected: &'static str,
    ) -> Self {
        let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let mut found: String = found.to_string().chars().map(visible).collect();
        if let Some((end, _)) = found.char_indices().nth(64) {
            found.truncate(end);
            found.push('…');
        }
        Self::Invalid { field, found, expected }
    }
}

/// A cursor that names each field it reads.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    remaining: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first octet of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { remaining: input }
    }

    /// Returns the number of octets that are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.remaining.len()
    }

    /// Returns whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remaining.is_empty()
    }

    /// Takes `count` octets.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when fewer are left; nothing is taken then.
    pub fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let (head, remaining) = self
            .remaining
            .split_at_checked(count)
            .ok_or(WireError::Truncated { field, needed: count, left: self.remaining.len() })?;
        self.remaining = remaining;
        Ok(head)
    }

    /// Takes all octets that are left.
    pub fn take_remaining(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.remaining)
    }

    /// Takes `N` octets as an array.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when fewer are left.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let (head, remaining) = self
            .remaining
            .split_first_chunk::<N>()
            .ok_or(WireError::Truncated { field, needed: N, left: self.remaining.len() })?;
        self.remaining = remaining;
        Ok(*head)
    }

    /// Takes one octet.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when none is left.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array(field).map(u8::from_be_bytes)
    }

    /// Takes two octets.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when fewer are left.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Takes four octets.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when fewer are left.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Takes eight octets.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when fewer are left.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// Takes `octets` (at most 16) octets as one unsigned integer.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] when fewer are left.
    pub fn uint(&mut self, octets: usize, field: &'static str) -> Result<u128, WireError> {
        debug_assert!(octets <= 16, "an integer on the wire has at most 16 octets");
        let taken = self.take(octets, field)?;
        Ok(taken.iter().fold(0, |value, octet| value << 8 | u128::from(*octet)))
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    ///
    /// [`WireError::Trailing`] when octets are left.
    pub const fn finish(&self, after: &'static str) -> Result<(), WireError> {
        match self.remaining.len() {
            0 => Ok(()),
            count => Err(WireError::Trailing { after, count }),
        }
    }
}

/// Appends integers and octets to a buffer that the caller owns.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Appends to the end of `out`.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends `octets` as they are.
    pub fn bytes(&mut self, octets: &[u8]) -> &mut Self {
        self.out.extend_from_slice(octets);
        self
    }

    /// Appends one octet.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Appends two octets.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends four octets.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends eight octets.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends the lowest `octets` (at most 16) octets of `value`.
    pub fn uint(&mut self, value: u128, octets: usize) -> &mut Self {
        let all = value.to_be_bytes();
        let from = all.len().saturating_sub(octets);
        self.bytes(all.get(from..).unwrap_or_default())
    }

    /// Appends `count` zero octets.
    pub fn zeros(&mut self, count: usize) -> &mut Self {
        self.out.resize(self.out.len() + count, 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_field_is_named_and_nothing_is_taken() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(
            reader.u32("TSI"),
            Err(WireError::Truncated { field: "TSI", needed: 4, left: 3 })
        );
        assert_eq!(reader.u16("TOI"), Ok(0x0102));
        assert_eq!(
            reader.finish("the TOI"),
            Err(WireError::Trailing { after: "the TOI", count: 1 })
        );
    }

    #[test]
    fn integers_of_odd_width_survive_a_round_trip() {
        let mut out = Vec::new();
        Writer::new(&mut out).uint(0x01_0203_0405, 5).u16(9).zeros(2);
        assert_eq!(out, [1, 2, 3, 4, 5, 0, 9, 0, 0]);
        assert_eq!(Reader::new(&out).uint(5, "F"), Ok(0x01_0203_0405));
    }

    #[test]
    fn a_quoted_value_is_shortened_at_a_character_boundary() {
        let error = WireError::invalid("name", "ä".repeat(100), "ASCII");
        assert_eq!(error.to_string(), format!("name is {}…, expected ASCII", "ä".repeat(64)));
    }

    #[test]
    fn a_quoted_value_does_not_control_a_terminal() {
        let error = WireError::invalid("name", "a\u{1b}[2J\r\n", "ASCII");
        assert_eq!(error.to_string(), "name is a\u{fffd}[2J\u{fffd}\u{fffd}, expected ASCII");
    }
}
