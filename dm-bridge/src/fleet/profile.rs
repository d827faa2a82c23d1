//! What clients of a device class do otherwise than the standard wants, and how they are spoken to.
//!
//! A quirk is asked for at one place of the session engine. What is read differently at no cost is
//! no quirk: types of alerts are taken with and without prefix, and elements in any order.

use std::{collections::BTreeSet, fmt, str::FromStr};

use proto::wire::WireError;

macro_rules! quirks {
    ($($(#[$docs:meta])* $name:ident = $word:literal, $reason:literal;)*) => {
        /// One thing that a client does otherwise.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Quirk {
            $($(#[$docs])* $name,)*
        }

        impl Quirk {
            /// All quirks.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the word for it.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Returns why there is such a thing, in one line.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }
        }
    };
}

quirks! {
    /// Commands are not held together in order.
    NoSequence = "no-sequence",
        "the client answers a Sequence with an error, though it must take it";
    /// Commands are not held together as all or none.
    NoAtomic = "no-atomic", "a client should take an Atomic and need not";
    /// No object goes in pieces: a package fits a message or goes by URL.
    NoLargeObjects = "no-large-objects",
        "a client should take large objects and need not; some say so in DevDetail and fail";
    /// An Add of an interior node has an empty `Data`.
    DataOnInteriorAdd = "data-on-interior-add",
        "some parsers want Data in every Add, also where the format is node";
    /// Every Exec has a Correlator.
    CorrelatorAlways = "correlator-always",
        "some clients start nothing on an Exec without a Correlator";
    /// Type stands before Format in each Meta.
    TypeFirst = "type-first",
        "samples of the texts write Type before Format, and some parsers expect no other order";
}

impl fmt::Display for Quirk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

impl FromStr for Quirk {
    type Err = WireError;

    fn from_str(word: &str) -> Result<Self, WireError> {
        Self::ALL
            .iter()
            .copied()
            .find(|quirk| quirk.word() == word)
            .ok_or_else(|| WireError::invalid("quirk", word, "one that `profiles` lists"))
    }
}

/// A named set of quirks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What its clients do otherwise.
    pub quirks: BTreeSet<Quirk>,
}

/// Name of the profile of clients that do what the standard wants.
pub const STANDARD: &str = "standard";

impl Profile {
    /// Returns the profiles that every server has, with a line about each.
    #[must_use]
    pub fn built_in() -> Vec<(Self, &'static str)> {
        let profile = |name: &str, quirks: &[Quirk], about| {
            (Self { name: name.to_owned(), quirks: quirks.iter().copied().collect() }, about)
        };
        use Quirk::{
            CorrelatorAlways, DataOnInteriorAdd, NoAtomic, NoLargeObjects, NoSequence, TypeFirst,
        };
        vec![
            profile(STANDARD, &[], "takes all that DM 1.2 lets a server send"),
            profile("no-atomic", &[NoAtomic], "takes what a client must take, and large objects"),
            profile(
                "minimal",
                &[NoSequence, NoAtomic, NoLargeObjects],
                "one command after the other, each small enough for a message",
            ),
            profile("correlated", &[CorrelatorAlways], "starts nothing without a Correlator"),
            profile("strict-add", &[DataOnInteriorAdd], "wants Data in every Add"),
            profile("as-sampled", &[TypeFirst], "wants Type before Format"),
            profile("careful", Quirk::ALL, "all quirks at once, for clients that nobody knows"),
        ]
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self { name: STANDARD.to_owned(), quirks: BTreeSet::new() }
    }
}

/// Tells whether a text can be the name of a profile: lower-case letters, digits and hyphens.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let fits = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirks_are_read_as_they_are_written_and_have_their_reasons() {
        for quirk in Quirk::ALL {
            assert_eq!(quirk.word().parse::<Quirk>().unwrap(), *quirk);
            assert!(quirk.reason().len() > 20 && !quirk.reason().contains('\n'), "{quirk}");
        }
        assert!("no-luck".parse::<Quirk>().is_err());
    }

    #[test]
    fn each_quirk_is_in_a_profile_and_names_are_told_apart() {
        let built_in = Profile::built_in();
        for quirk in Quirk::ALL {
            let by_itself = |(profile, _): &&(Profile, _)| profile.quirks.contains(quirk);
            assert!(built_in.iter().filter(by_itself).count() > 1, "{quirk}");
        }
        let names: BTreeSet<_> = built_in.iter().map(|(profile, _)| &profile.name).collect();
        assert_eq!(names.len(), built_in.len());
        assert!(names.iter().all(|name| is_name(name)));
        assert!(!is_name("") && !is_name("../x") && !is_name("A"));
    }
}
