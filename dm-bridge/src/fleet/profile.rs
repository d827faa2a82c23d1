//! Profiles of clients: named sets of quirks.
//!
//! The DM core checks each quirk in one place. Deviations that cost nothing to accept are no
//! quirks: alert types are accepted with and without prefix, and elements in any order.

use std::collections::BTreeSet;

proto::words! {
    /// One deviation of a client from the standard.
    pub enum Quirk: "quirk" {
        /// Sends no Sequence.
        NoSequence = "no-sequence",
        /// Sends no Atomic.
        NoAtomic = "no-atomic",
        /// Sends no large objects: a package fits a message or is downloaded by URL.
        NoLargeObjects = "no-large-objects",
        /// Sends an empty `Data` in the Add of an interior node.
        DataOnInteriorAdd = "data-on-interior-add",
        /// Sends a Correlator in every Exec.
        CorrelatorAlways = "correlator-always",
        /// Sends Type before Format in each Meta.
        TypeFirst = "type-first",
    }
}

impl Quirk {
    /// Returns the reason for the quirk, in one line.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoSequence => {
                "the client rejects a Sequence with an error, though it must support it"
            }
            Self::NoAtomic => "a client should support Atomic and need not",
            Self::NoLargeObjects => {
                "a client should support large objects and need not; some say so in DevDetail and fail"
            }
            Self::DataOnInteriorAdd => {
                "some parsers want Data in every Add, also where the format is node"
            }
            Self::CorrelatorAlways => "some clients start nothing on an Exec without a Correlator",
            Self::TypeFirst => {
                "samples of the texts write Type before Format, and some parsers expect no other order"
            }
        }
    }
}

/// A named set of quirks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Quirks of its clients.
    pub quirks: BTreeSet<Quirk>,
}

/// Name of the profile of clients without quirks.
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
            profile(STANDARD, &[], "supports all that DM 1.2 lets a server send"),
            profile(
                "no-atomic",
                &[NoAtomic],
                "supports what a client must support, and large objects",
            ),
            profile(
                "minimal",
                &[NoSequence, NoAtomic, NoLargeObjects],
                "one command after the other, each small enough for a message",
            ),
            profile("correlated", &[CorrelatorAlways], "starts nothing without a Correlator"),
            profile("strict-add", &[DataOnInteriorAdd], "wants Data in every Add"),
            profile("as-sampled", &[TypeFirst], "wants Type before Format"),
            profile("careful", &Quirk::ALL, "all quirks at once, for unknown clients"),
        ]
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self { name: STANDARD.to_owned(), quirks: BTreeSet::new() }
    }
}

/// Returns whether a text can be the name of a profile: lower-case letters, digits and hyphens.
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
            assert_eq!(quirk.as_str().parse::<Quirk>().unwrap(), quirk);
            assert!(quirk.reason().len() > 20 && !quirk.reason().contains('\n'), "{quirk}");
        }
        assert!("no-luck".parse::<Quirk>().is_err());
    }

    #[test]
    fn each_quirk_is_in_a_profile_and_names_are_unique() {
        let built_in = Profile::built_in();
        for quirk in Quirk::ALL {
            let by_itself = |(profile, _): &&(Profile, _)| profile.quirks.contains(&quirk);
            assert!(built_in.iter().filter(by_itself).count() > 1, "{quirk}");
        }
        let names: BTreeSet<_> = built_in.iter().map(|(profile, _)| &profile.name).collect();
        assert_eq!(names.len(), built_in.len());
        assert!(names.iter().all(|name| is_name(name)));
        assert!(!is_name("") && !is_name("../x") && !is_name("A"));
    }
}
