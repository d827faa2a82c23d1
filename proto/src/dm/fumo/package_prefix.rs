//! The prefix of a package that a device stores after an interrupted transfer: `Ext/Package/Held`.

use std::{fmt, str::FromStr};

use crate::{
    crypto::{Digest, sha256},
    wire::WireError,
};

/// A prefix of a package, by its length and its hash; as text `OCTETS SHA256`, the hash in
/// lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackagePrefix {
    /// Its length in octets.
    pub octets: u64,
    /// Their hash.
    pub sha256: Digest,
}

impl PackagePrefix {
    /// Returns the remainder of `package`, when it begins with this prefix and is longer.
    #[must_use]
    pub fn remainder_of<'a>(&self, package: &'a [u8]) -> Option<&'a [u8]> {
        let at = usize::try_from(self.octets).ok().filter(|at| (1..package.len()).contains(at))?;
        let (front, tail) = package.split_at_checked(at)?;
        (sha256(&[front]) == self.sha256).then_some(tail)
    }
}

impl fmt::Display for PackagePrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.octets, self.sha256)
    }
}

impl FromStr for PackagePrefix {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let read = || {
            let (octets, sha256) = text.trim().split_once(' ')?;
            Some(Self { octets: octets.parse().ok()?, sha256: Digest::from_hex(sha256)? })
        };
        read().ok_or_else(|| WireError::invalid("held package", text, "octets and their SHA-256"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(octets: &[u8]) -> PackagePrefix {
        PackagePrefix { octets: octets.len() as u64, sha256: sha256(&[octets]) }
    }

    #[test]
    fn the_remainder_of_a_package_follows_its_own_prefix() {
        let package = b"a package";
        for at in 1..package.len() {
            let held = front(&package[..at]);
            assert_eq!(held.remainder_of(package), Some(&package[at..]), "{at}");
            assert_eq!(
                held.remainder_of(b"another package"),
                (at == 1).then_some(&b"nother package"[..])
            );
        }
        assert_eq!(front(b"").remainder_of(package), None);
        assert_eq!(front(package).remainder_of(package), None);
        assert_eq!(front(b"a package and more").remainder_of(package), None);
    }

    #[test]
    fn it_is_read_as_it_is_written_and_junk_is_refused() {
        let held = front(b"abc");
        assert_eq!(held.to_string().parse(), Ok(held));
        let hex = held.sha256.to_string();
        for junk in ["", "3", &hex, &format!("x {hex}"), &format!("3 {}", &hex[1..])] {
            assert!(junk.parse::<PackagePrefix>().is_err(), "{junk}");
        }
    }
}
