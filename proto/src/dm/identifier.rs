//! Identifiers of messages and commands, which the standard types as text.
//!
//! Most peers count, some write words. An identifier of a peer is repeated as it was written; ours
//! are numbers, so that a reference to one of ours is read as a number where it is one.

use std::fmt;

/// A short text in place, so that it is copied like a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortText {
    length: u8,
    octets: [u8; Self::MAX_LENGTH],
}

impl ShortText {
    /// Octets that a text may have.
    pub const MAX_LENGTH: usize = 32;

    /// Returns the text; `None` when it is longer than [`Self::MAX_LENGTH`].
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let length = u8::try_from(text.len()).ok()?;
        let mut octets = [0; Self::MAX_LENGTH];
        octets.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { length, octets })
    }

    /// Returns as much of the text as fits.
    #[must_use]
    pub fn cut(text: &str) -> Self {
        let end = text.floor_char_boundary(Self::MAX_LENGTH);
        text.get(..end).and_then(Self::new).unwrap_or(Self { length: 0, octets: [0; 32] })
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.octets.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Debug for ShortText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

/// An identifier as its sender wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    /// A number without leading zeros.
    Number(u32),
    /// Any other text.
    Text(ShortText),
}

impl Identifier {
    /// The empty text: there is none.
    pub const ABSENT: Self =
        Self::Text(ShortText { length: 0, octets: [0; ShortText::MAX_LENGTH] });

    /// Reads an identifier without white space around it; `None` when it has more than
    /// [`ShortText::MAX_LENGTH`] octets.
    // spec: oma-dm 1.2 (identifiers are text)
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match digits(text) {
            Some(number) if !text.starts_with('0') || text == "0" => Some(Self::Number(number)),
            Some(_) | None => ShortText::new(text).map(Self::Text),
        }
    }

    /// Reads a reference to an identifier of ours, as a number in any form.
    #[must_use]
    pub fn parse_reference(text: &str) -> Option<Self> {
        digits(text).map(Self::Number).or_else(|| Self::parse(text))
    }
}

/// Returns the number that digits alone stand for.
fn digits(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|octet| octet.is_ascii_digit()))
}

impl fmt::Display for Identifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => fmt::Display::fmt(number, formatter),
            Self::Text(text) => formatter.pad(text.as_str()),
        }
    }
}

/// Number of a message, counted by its sender from 1; peers may write any text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Identifier);

/// Number of a command within its message; 0 stands for the header. Peers may write any text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(Identifier);

macro_rules! identifiers {
    ($($name:ident)+) => {
        $(
            impl $name {
                /// Returns an identifier of ours.
                #[must_use]
                pub const fn new(number: u32) -> Self {
                    Self(Identifier::Number(number))
                }

                /// Returns the number, if it is one.
                #[must_use]
                pub const fn number(self) -> Option<u32> {
                    match self.0 {
                        Identifier::Number(number) => Some(number),
                        Identifier::Text(_) => None,
                    }
                }
            }

            impl From<Identifier> for $name {
                fn from(identifier: Identifier) -> Self {
                    Self(identifier)
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.fmt(formatter)
                }
            }
        )+
    };
}

identifiers! { MessageId CommandId }

impl MessageId {
    /// The reference of a Status that names no message.
    pub const ABSENT: Self = Self(Identifier::ABSENT);

    /// Returns whether a message with this identifier may follow one with another: numbers rise,
    /// texts differ.
    #[must_use]
    pub fn may_follow(self, earlier: Self) -> bool {
        match (self.number(), earlier.number()) {
            (Some(number), Some(earlier)) => number > earlier,
            (Some(_) | None, _) => self != earlier,
        }
    }
}

impl CommandId {
    /// The reference of a Status for the header.
    pub const HEADER: Self = Self::new(0);

    /// The identifier of a command that has none, which no Status can answer.
    pub const ABSENT: Self = Self(Identifier::ABSENT);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // test: oma-dm 1.2
    #[test]
    fn only_a_plain_number_is_a_number() {
        for (text, number) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("01", None),
            ("00", None),
            ("+1", None),
            ("-1", None),
            ("a1", None),
            ("", None),
        ] {
            let id = MessageId::from(Identifier::parse(text).unwrap());
            assert_eq!(id.number(), number, "{text}");
            assert_eq!(id.to_string(), text);
        }
        assert_eq!(Identifier::parse_reference("01"), Some(Identifier::Number(1)));
        assert_eq!(Identifier::parse_reference("a1"), Identifier::parse("a1"));
    }

    // test: oma-dm 1.2
    #[test]
    fn numbers_rise_and_texts_differ() {
        let id = |text| MessageId::from(Identifier::parse(text).unwrap());
        for (later, earlier, may) in [
            ("2", "1", true),
            ("10", "9", true),
            ("1", "1", false),
            ("1", "2", false),
            ("a", "b", true),
            ("a", "a", false),
            ("a", "1", true),
            ("1", "a", true),
        ] {
            assert_eq!(id(later).may_follow(id(earlier)), may, "{later} after {earlier}");
        }
    }

    proptest! {
        // test: oma-dm 1.2
        #[test]
        fn an_identifier_is_repeated_as_it_was_written_up_to_its_limit(text in "\\PC{0,40}") {
            let found = Identifier::parse(&text).map(|id| id.to_string());
            let fits = text.len() <= ShortText::MAX_LENGTH;
            prop_assert_eq!(found, fits.then_some(text.clone()));
            prop_assert!(text.starts_with(ShortText::cut(&text).as_str()));
        }
    }
}
