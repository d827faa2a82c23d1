//! Proofs of bootstrap documents: their methods, and the keys of those with a MAC.

use std::fmt;

use super::user_code::{UserCode, digits};
use crate::{crypto::hmac_sha1, wire::WireError};

/// The method of a proof: the parameter SEC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecMethod {
    /// With the subscriber's number: NETWPIN.
    Network,
    /// With a PIN: USERPIN.
    Pin,
    /// With both: USERNETWPIN.
    NetworkAndPin,
    /// With a code that is made for the document: USERPINMAC.
    UserCode,
}

impl SecMethod {
    /// Returns whether the user enters a PIN or a code for it.
    #[must_use]
    pub const fn wants_pin(self) -> bool {
        match self {
            Self::Network => false,
            Self::Pin | Self::NetworkAndPin | Self::UserCode => true,
        }
    }
}

/// The secrets that the device shares with the sender.
#[derive(Clone, Default)]
pub struct SharedSecrets {
    /// The subscriber's number (IMSI).
    pub network: Option<String>,
    /// The PIN or the code that the user was given.
    pub pin: Option<String>,
}

/// Shows which secrets are set.
impl fmt::Debug for SharedSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (network, pin) = (self.network.is_some(), self.pin.is_some());
        write!(formatter, "SharedSecrets {{ network: {network}, pin: {pin} }}")
    }
}

impl SharedSecrets {
    fn network(&self) -> Result<String, &'static str> {
        self.network.clone().ok_or("the subscriber's number")
    }

    fn pin(&self) -> Result<String, &'static str> {
        self.pin.clone().ok_or("the PIN")
    }

    pub(super) fn network_key(&self) -> Result<SecKey, &'static str> {
        self.network().map(SecKey::Network)
    }

    pub(super) fn pin_key(&self) -> Result<SecKey, &'static str> {
        self.pin().map(SecKey::Pin)
    }

    pub(super) fn both_keys(&self) -> Result<SecKey, &'static str> {
        Ok(SecKey::NetworkAndPin(self.network()?, self.pin()?))
    }

    pub(super) fn code(&self) -> Result<UserCode, &'static str> {
        let text = self.pin.as_deref().ok_or("the user's code")?;
        UserCode::parse(text).map_err(|_| "a user's code of 8 to 20 digits, an even count,")
    }
}

/// The key of a proof.
#[derive(Clone, PartialEq, Eq)]
pub enum SecKey {
    /// The subscriber's number (IMSI), decimal.
    Network(String),
    /// A PIN that the user enters.
    Pin(String),
    /// Both.
    NetworkAndPin(String, String),
}

/// Shows its kind alone.
impl fmt::Debug for SecKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.method())
    }
}

impl SecKey {
    /// Returns its name in the CP profile.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Network(_) => "NETWPIN",
            Self::Pin(_) => "USERPIN",
            Self::NetworkAndPin(..) => "USERNETWPIN",
        }
    }

    /// Returns the value of `SEC` in the CP profile.
    pub(super) const fn number(&self) -> u8 {
        match self {
            Self::Network(_) => 0,
            Self::Pin(_) => 1,
            Self::NetworkAndPin(..) => 2,
        }
    }

    /// Returns the octets of the key of the CP profile.
    ///
    /// # Errors
    ///
    /// [`WireError`] when a number holds other characters than digits.
    // spec: oma-dm 9 (keys of the CP profile)
    pub(super) fn octets(&self) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Network(imsi) => semi_octets(imsi),
            Self::Pin(pin) => Ok(digits(pin)?.as_bytes().to_vec()),
            Self::NetworkAndPin(imsi, pin) => {
                Ok([&semi_octets(imsi)?, digits(pin)?.as_bytes()].concat())
            }
        }
    }
}

/// A number as the card stores it: the count's parity first, then the digits, two to an octet with
/// the first in the low half.
fn semi_octets(number: &str) -> Result<Vec<u8>, WireError> {
    let digits = digits(number)?.bytes().map(|octet| octet - b'0');
    let parity = if number.len() % 2 == 1 { 9 } else { 1 };
    let mut halves: Vec<u8> = std::iter::once(parity).chain(digits).collect();
    if halves.len() % 2 == 1 {
        halves.push(0xf);
    }
    let (pairs, _) = halves.as_chunks::<2>();
    Ok(pairs.iter().map(|[low, high]| high << 4 | low).collect())
}

/// Returns the MAC of a document, in upper-case hex.
pub(super) fn mac(key: &[u8], document: &[u8]) -> String {
    hmac_sha1(key, document).iter().map(|octet| format!("{octet:02X}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const IMSI: &str = "310410123456789";

    pub(in super::super) fn keys() -> [SecKey; 3] {
        [
            SecKey::Network(IMSI.to_owned()),
            SecKey::Pin("1234".to_owned()),
            SecKey::NetworkAndPin(IMSI.to_owned(), "1234".to_owned()),
        ]
    }

    // test: oma-dm 9
    #[test]
    fn keys_are_made_of_numbers_as_the_card_keeps_them() {
        let imsi = [0x39, 0x01, 0x14, 0x10, 0x32, 0x54, 0x76, 0x98];
        let [network, pin, both] = keys().map(|key| key.octets().unwrap());
        assert_eq!(network, imsi);
        assert_eq!(pin, b"1234");
        assert_eq!(both, [&imsi[..], b"1234"].concat());
        assert_eq!(semi_octets("12").unwrap(), [0x11, 0xf2]);
        for wrong in [SecKey::Pin("12a4".to_owned()), SecKey::Pin(String::new())] {
            assert!(wrong.octets().is_err());
        }
    }

    #[test]
    fn a_key_is_made_of_what_the_method_takes() {
        let secrets =
            SharedSecrets { network: Some(IMSI.to_owned()), pin: Some("1234".to_owned()) };
        let [network, pin, both] = keys();
        assert!(secrets.network_key() == Ok(network) && secrets.pin_key() == Ok(pin));
        assert!(secrets.both_keys() == Ok(both));
        assert!(secrets.code().unwrap_err().contains("8 to 20"), "a PIN is no code");
        let nothing = SharedSecrets::default();
        assert_eq!(nothing.both_keys(), Err("the subscriber's number"));
        assert_eq!(nothing.code(), Err("the user's code"));
        assert!(SecMethod::UserCode.wants_pin() && !SecMethod::Network.wants_pin());
        assert!(!format!("{secrets:?}").contains("1234"));
    }
}
