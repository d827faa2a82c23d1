//! What a device that asks for an update gets of a campaign.

use std::{fmt, str::FromStr};

use proto::wire::WireError;

/// What the desk has decided about devices that ask. The devices that were selected for a campaign
/// are armed in any case; this is about being asked, and about the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum OnRequest {
    /// A device that asks is selected and armed in the same session.
    Now,
    /// A device that asks is selected, and armed in its next session.
    Later,
    /// Asking changes nothing.
    #[default]
    Nothing,
}

impl OnRequest {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Now, Self::Later, Self::Nothing];

    /// Returns the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Later => "later",
            Self::Nothing => "none",
        }
    }
}

impl fmt::Display for OnRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for OnRequest {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.word() == word)
            .ok_or_else(|| WireError::invalid("answer to requests", word, "now, later or none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for choice in OnRequest::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("soon".parse::<OnRequest>().is_err());
        assert_eq!(OnRequest::default(), OnRequest::Nothing);
    }
}
