//! File names in the output directory, made from a `Content-Location`, and their owners.

use std::collections::{BTreeMap, BTreeSet};

use proto::crypto::Hash16;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// Longest file name, in octets; leaves room for `~HEX` and `.part`.
const MAX_NAME_BYTES: usize = 120;

/// Returns the file name for a `Content-Location`.
///
/// The name is one component of a path: the last one of the location before its query, `%XX`
/// resolved after that, with everything but letters, marks and digits of any script and
/// `-._+@= #%(),` replaced. It is never empty, hidden, or one that an unfinished
/// file could have, and has no `~`, which [`Names`] puts between a name and its distinguishing key.
#[must_use]
pub fn file_name(location: &str) -> String {
    // RFC 3986 2.4: the parts are divided before their octets are decoded.
    let path = location.split(['?', '#']).next().unwrap_or_default();
    // spec: security 9 (path traversal)
    let decoded = percent_decoded(path);
    let last = decoded.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or_default();
    let mut name = String::new();
    for found in last.chars() {
        let is_mark = found.general_category_group() == GeneralCategoryGroup::Mark;
        let allowed = found.is_alphanumeric() || is_mark || "-._+@= #%(),".contains(found);
        let written = if allowed { found } else { '_' };
        if name.len() + written.len_utf8() > MAX_NAME_BYTES {
            break;
        }
        name.push(written);
    }
    let trimmed = name.trim();
    match trimmed {
        "" => "unnamed".to_owned(),
        hidden if hidden.starts_with('.') => format!("_{hidden}"),
        unfinished if unfinished.ends_with(PART) => format!("{unfinished}_"),
        safe => safe.to_owned(),
    }
}

/// Extension of an incomplete file.
const PART: &str = ".part";

fn percent_decoded(text: &str) -> String {
    let mut octets = Vec::new();
    let mut remaining = text.bytes();
    while let Some(octet) = remaining.next() {
        let mut ahead = remaining.clone();
        let digit = |octet: Option<u8>| char::from(octet?).to_digit(16);
        let pair = (octet == b'%').then(|| Some((digit(ahead.next())?, digit(ahead.next())?)));
        match pair.flatten().and_then(|(high, low)| u8::try_from(high << 4 | low).ok()) {
            Some(decoded) => {
                octets.push(decoded);
                remaining = ahead;
            }
            None => octets.push(octet),
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// Owners of the file names in the output directory.
#[derive(Debug, Clone, Default)]
pub struct Names<O> {
    owners: BTreeMap<String, O>,
    /// Names of files that no known session delivered.
    foreign: BTreeSet<String>,
}

impl<O: PartialEq> Names<O> {
    /// Starts with the existing files without a known owner.
    #[must_use]
    pub const fn new(foreign: BTreeSet<String>) -> Self {
        Self { owners: BTreeMap::new(), foreign }
    }

    /// Restores the owner of a name from an earlier run.
    pub fn restore(&mut self, name: String, owner: O) {
        self.foreign.remove(&name);
        self.owners.insert(name, owner);
    }

    /// Returns the name for a location of this owner: that of [`file_name`], or if it has another
    /// owner, one with the object's key. A newer version of a file replaces the older one.
    pub fn claim(&mut self, location: &str, owner: O, key: &Hash16) -> String {
        let short = file_name(location);
        let is_free = !self.foreign.contains(&short)
            && self.owners.get(&short).is_none_or(|other| *other == owner);
        let own = self.owners.iter().find(|(_, other)| **other == owner).map(|(name, _)| name);
        let name = if is_free {
            short
        } else if let Some(own) = own {
            own.clone()
        } else {
            let mut key = key.to_string();
            key.truncate(8);
            format!("{short}~{key}")
        };
        self.owners.insert(name.clone(), owner);
        name
    }

    /// Gives up a name whose file was discarded.
    pub fn release(&mut self, name: &str) {
        self.owners.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_location_becomes_its_last_component() {
        for (location, expected) in [
            ("file:///golden.bin", "golden.bin"),
            ("http://host/fw/v2/fw%202.bin?x=/y", "fw 2.bin"),
            ("00ff/0.img", "0.img"),
            ("Größe.bin", "Größe.bin"),
            ("a\u{202e}b", "a_b"),
            ("C%23-notes.bin", "C#-notes.bin"),
            ("C#-notes.bin", "C"),
            ("what%3F.bin?a=b#c", "what_.bin"),
            ("50%25.bin", "50%.bin"),
            ("Firmware%20%28v2%29%2C%20final.bin", "Firmware (v2), final.bin"),
            ("cafe%CC%81.bin", "cafe\u{301}.bin"),
            ("%E0%A4%B9%E0%A4%BF%E0%A4%A8%E0%A5%8D%E0%A4%A6%E0%A5%80.bin", "हिन्दी.bin"),
            ("e%0Al.bin", "e_l.bin"),
            ("a%2Fb.bin", "b.bin"),
            ("", "unnamed"),
            ("///", "unnamed"),
            ("x.part", "x.part_"),
            ("a~1", "a_1"),
        ] {
            assert_eq!(file_name(location), expected, "{location}");
        }
    }

    // test: security 9 (path traversal)
    #[test]
    fn no_location_leaves_the_output_directory() {
        let long = "x".repeat(64 << 10);
        for location in [
            "../../etc/passwd",
            "/etc/passwd",
            "..",
            ".",
            "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            "..%2F..",
            "a\0b",
            "a%00b",
            ".bashrc",
            "..\\..\\x",
            "C:\\x",
            "%",
            "%f",
            "%ff%fe",
            ".listen",
            &long,
        ] {
            let name = file_name(location);
            assert!(is_safe(&name), "{location:?} -> {name:?}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_safe(location in "\\PC*|[./%2eEfF\\\\~\u{0} ]{0,40}") {
            let name = file_name(&location);
            prop_assert!(is_safe(&name), "{:?}", name);
        }
    }

    fn is_safe(name: &str) -> bool {
        let path = std::path::Path::new(name);
        let single = path.components().count() == 1 && path.file_name().is_some();
        single
            && !name.starts_with('.')
            && !name.ends_with(".part")
            && !name.contains(['/', '\\', '\0', '~'])
            && name.len() <= MAX_NAME_BYTES + 1
    }

    #[test]
    fn no_owner_gets_the_name_of_another() {
        let mut names = Names::new(BTreeSet::from(["mine.txt".to_owned()]));
        let key = Hash16([0xab; 16]);
        assert_eq!(names.claim("mine.txt", 1, &key), "mine.txt~abababab");
        assert_eq!(names.claim("x/fw.bin", 1, &key), "fw.bin");
        assert_eq!(names.claim("x/fw.bin", 1, &key), "fw.bin");
        assert_eq!(names.claim("y/fw.bin", 2, &key), "fw.bin~abababab");
        names.restore("mine.txt".to_owned(), 7);
        assert_eq!(names.claim("mine.txt", 7, &key), "mine.txt");
    }
}
