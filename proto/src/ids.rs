//! Identifiers that cannot be mixed up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::wire::WireError;

/// Transport Session Identifier: with the sender's address it names a FLUTE session.
///
/// # Units
///
/// 1..2^32 in sessions of ours; up to 48 bits on the wire.
///
/// # Source
///
/// RFC 5651 §5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tsi(pub u64);

/// Transport Object Identifier: names an object within a FLUTE session; 0 is the FDT.
///
/// # Source
///
/// RFC 5651 §5.1 (up to 112 bits), RFC 6726 §3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Toi(pub u128);

impl Toi {
    /// The TOI of FDT instances.
    pub const FDT: Self = Self(0);

    /// Returns the TOI of a component's image.
    #[must_use]
    pub fn object(component: ComponentId) -> Self {
        Self(0x10 + u128::from(component.0))
    }

    /// Returns the TOI of a component's symbol tables.
    #[must_use]
    pub fn tables(component: ComponentId) -> Self {
        Self(0x4000 + u128::from(component.0))
    }

    /// Returns the TOI of a component's plan header.
    #[must_use]
    pub fn plan_header(component: ComponentId) -> Self {
        Self(0x8000 + u128::from(component.0))
    }
}

/// Source Block Number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sbn(pub u32);

/// Encoding Symbol Id: below K a source symbol, from K on a repair symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Esi(pub u32);

/// Number of a component within a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ComponentId(pub u8);

macro_rules! hex_id {
    ($(#[$docs:meta])* $name:ident, $field:literal) => {
        $(#[$docs])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = WireError;

            fn from_str(text: &str) -> Result<Self, WireError> {
                parse_hex(text)
                    .map(Self)
                    .ok_or_else(|| WireError::invalid($field, text, "32 lower-case hex digits"))
            }
        }

        impl TryFrom<String> for $name {
            type Error = WireError;

            fn try_from(text: String) -> Result<Self, WireError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                String::deserialize(source)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// Identifier of a campaign: 16 random octets, written as 32 lower-case hex digits.
    CampaignId,
    "campaign id"
);
hex_id!(
    /// Identifier of a vendor: 16 octets, written as 32 lower-case hex digits.
    VendorId,
    "vendor id"
);
hex_id!(
    /// Identifier of a class of devices that run the same firmware.
    ClassId,
    "class id"
);

/// Identifier of a device: its `./DevInfo/DevId`, as enrolled.
///
/// # Units
///
/// 1..=64 printable ASCII characters without space, `/`, `\` and quotes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(String);

impl DeviceId {
    /// Returns the identifier as text. For wire formats and answers to people, not for logs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceId {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        if is_plain(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WireError::invalid("device id", text, PLAIN))
        }
    }
}

impl TryFrom<String> for DeviceId {
    type Error = WireError;

    fn try_from(text: String) -> Result<Self, WireError> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0
    }
}

/// Shows only the first and the last two characters: identifiers of devices stay out of logs.
impl fmt::Debug for DeviceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = self.0.get(self.0.len().saturating_sub(2)..).unwrap_or_default();
        write!(formatter, "{}…{tail}", self.0.get(..1).unwrap_or_default())
    }
}

/// Identifier of the package of a software component, and of the component: SCOMO's `PkgID`.
///
/// # Units
///
/// 1..=64 printable ASCII characters without space, `/`, `\`, `?` and quotes; neither `.` nor `..`:
/// it is the name of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageId(String);

impl PackageId {
    /// Returns the identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageId {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        if is_plain(text) && !text.contains('?') && !matches!(text, "." | "..") {
            Ok(Self(text.to_owned()))
        } else {
            Err(WireError::invalid("package id", text, PLAIN))
        }
    }
}

impl TryFrom<String> for PackageId {
    type Error = WireError;

    fn try_from(text: String) -> Result<Self, WireError> {
        text.parse()
    }
}

impl From<PackageId> for String {
    fn from(id: PackageId) -> Self {
        id.0
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// Correlator of a final alert and the Exec that started its operation; unique for each attempt.
///
/// # Units
///
/// 1..=64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Correlator(pub String);

const PLAIN: &str = "1 to 64 printable ASCII characters without space, slash and quotes";

/// Returns whether a text can be shown, logged and put in a tree as it is.
fn is_plain(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '\\' | '"' | '\'');
    (1..=64).contains(&text.len()) && text.chars().all(allowed)
}

/// Writes `octets` as lower-case hex digits.
pub(crate) fn write_hex(octets: &[u8], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    octets.iter().try_for_each(|octet| write!(formatter, "{octet:02x}"))
}

/// Reads exactly `2 * N` lower-case hex digits.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let (pairs, remaining) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !remaining.is_empty() {
        return None;
    }
    let mut octets = [0; N];
    for (octet, [high, low]) in octets.iter_mut().zip(pairs) {
        *octet = digit(*high)? << 4 | digit(*low)?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_identifiers_are_read_as_they_are_written() {
        let text = "000102030405060708090a0b0c0d0e0f";
        let id: CampaignId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        for wrong in ["", "00", &text[1..], &text.to_uppercase(), &format!("{text}00"), "é"] {
            assert!(wrong.parse::<CampaignId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_id_that_could_be_a_path_or_break_a_log_is_refused() {
        for wrong in ["", "a/b", "a b", "a\nb", "\"", &"x".repeat(65)] {
            assert!(wrong.parse::<DeviceId>().is_err(), "{wrong}");
            assert!(wrong.parse::<PackageId>().is_err(), "{wrong}");
        }
        assert!("IMEI:490154203237518".parse::<DeviceId>().is_ok());
        for wrong in [".", "..", "a?prop=ACL"] {
            assert!(wrong.parse::<PackageId>().is_err(), "{wrong}");
        }
        assert!("org.example.player-2".parse::<PackageId>().is_ok());
    }

    #[test]
    fn the_debug_form_of_a_device_id_hides_it() {
        let id: DeviceId = "IMEI:490154203237518".parse().unwrap();
        assert_eq!(format!("{id:?}"), "I…18");
    }
}
