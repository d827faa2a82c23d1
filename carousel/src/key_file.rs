//! Keys and signatures in the forms that people and tokens use.
//!
//! | what | forms |
//! | --- | --- |
//! | private key | PKCS#8, DER or PEM (`openssl genpkey -algorithm ed25519`) |
//! | public key | SubjectPublicKeyInfo, DER or PEM (`openssl pkey -pubout`); 64 hex digits; 32 octets |
//! | signature | 64 octets; 128 hex digits; base64 |

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::crypto::{PublicKey, SigningKey};

/// The octets before the 32 of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Reads a private key.
///
/// # Errors
///
/// A text that names what was found instead.
pub fn private_key(octets: &[u8]) -> Result<SigningKey, String> {
    let der = match pem(octets) {
        None => octets.to_vec(),
        Some((label, _)) if label == "ENCRYPTED PRIVATE KEY" => {
            return Err(
                "the key is encrypted; decrypt it into a file of mode 0600 (openssl pkey) \
                        or sign with `trust to-sign` and `trust add-signature`"
                    .to_owned(),
            );
        }
        Some((label, der)) if label == "PRIVATE KEY" => der?,
        Some((label, _)) => return Err(format!("a PEM file of a {label}, not of a PRIVATE KEY")),
    };
    SigningKey::from_pkcs8(&der).map_err(|error| error.to_string())
}

/// Reads a public key.
///
/// # Errors
///
/// A text that names what was found instead.
pub fn public_key(octets: &[u8]) -> Result<PublicKey, String> {
    let der = match pem(octets) {
        None => octets.to_vec(),
        Some((label, der)) if label == "PUBLIC KEY" => der?,
        Some((label, _)) => return Err(format!("a PEM file of a {label}, not of a PUBLIC KEY")),
    };
    let raw = der.strip_prefix(&SPKI_PREFIX).unwrap_or(&der);
    if let Ok(raw) = raw.try_into() {
        return Ok(PublicKey(raw));
    }
    let digits = text(&der).and_then(from_hex);
    digits.map(PublicKey).ok_or_else(|| {
        "no Ed25519 public key: expected 64 hex digits, 32 octets, or a PEM or DER file".to_owned()
    })
}

/// Reads a signature.
///
/// # Errors
///
/// A text that names the expected form.
pub fn signature(octets: &[u8]) -> Result<[u8; 64], String> {
    if let Ok(raw) = octets.try_into() {
        return Ok(raw);
    }
    let coded = text(octets).and_then(|text| {
        let decoded = || BASE64_STANDARD.decode(text).ok()?.try_into().ok();
        from_hex(text).or_else(decoded)
    });
    coded.ok_or_else(|| "no Ed25519 signature: expected 64 octets, in hex or base64".to_owned())
}

/// Returns the PEM form of a public key, as `openssl pkey -pubin` reads it.
#[must_use]
pub fn public_pem(key: &PublicKey) -> String {
    let der = [&SPKI_PREFIX[..], &key.0].concat();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64_STANDARD.encode(der)
    )
}

fn text(octets: &[u8]) -> Option<&str> {
    str::from_utf8(octets).ok().map(str::trim)
}

/// Reads hex digits of either case.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return None;
    }
    let mut octets = [0; N];
    for (to, at) in octets.iter_mut().zip((0..).step_by(2)) {
        *to = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(octets)
}

/// Returns the label and the content of a PEM file; `None` when it is none.
fn pem(octets: &[u8]) -> Option<(String, Result<Vec<u8>, String>)> {
    let text = text(octets)?;
    let start = text.find("-----BEGIN ")?;
    let (label, tail) = text.get(start + "-----BEGIN ".len()..)?.split_once("-----")?;
    let body = tail.split_once("-----END ").map_or(tail, |(body, _)| body);
    let joined: String = body.split_whitespace().collect();
    let der =
        BASE64_STANDARD.decode(joined).map_err(|_| format!("the PEM file of a {label} is cut"));
    Some((label.to_owned(), der))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410 10.3, without its PEM armour.
    const RFC_8410: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";
    const RFC_8410_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

    #[test]
    fn the_keys_of_rfc_8410_are_read_and_written() {
        let key = private_key(RFC_8410.as_bytes()).unwrap();
        let public = public_key(RFC_8410_PUBLIC.as_bytes()).unwrap();
        assert_eq!(key.public(), public);
        assert_eq!(public_pem(&public), RFC_8410_PUBLIC);
        let made = SigningKey::generate_pkcs8();
        assert!(private_key(&made).is_ok(), "DER");
    }

    #[test]
    fn a_public_key_is_read_in_every_form() {
        let key = public_key(RFC_8410_PUBLIC.as_bytes()).unwrap();
        let hex = format!("{key:?}");
        for form in [&key.0[..], hex.as_bytes(), hex.to_uppercase().as_bytes(), b"\n"] {
            assert_eq!(public_key(form).ok(), (form != b"\n").then_some(key));
        }
        assert_eq!(public_key(&[&SPKI_PREFIX[..], &key.0].concat()), Ok(key));
    }

    #[test]
    fn a_signature_is_read_in_every_form() {
        let octets = [0xa5; 64];
        let hex = "a5".repeat(64) + "\n";
        assert_eq!(signature(&octets), Ok(octets));
        assert_eq!(signature(hex.as_bytes()), Ok(octets));
        assert_eq!(signature(BASE64_STANDARD.encode(octets).as_bytes()), Ok(octets));
        for wrong in [&octets[1..], b"", &hex.as_bytes()[2..], &[0xff; 88]] {
            assert!(signature(wrong).is_err());
        }
    }

    #[test]
    fn a_file_without_a_private_key_is_refused_for_its_reason() {
        let refused = |text: &str| private_key(text.as_bytes()).unwrap_err();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMC4=\n-----END";
        assert!(refused(encrypted).contains("encrypted"));
        assert!(refused(RFC_8410_PUBLIC).contains("a PUBLIC KEY"));
        assert!(refused(&RFC_8410.replace("MC4C", "MC!C")).contains("cut"));
        assert!(refused(&RFC_8410.replace("MC4CAQAw", "MC4CAQAx")).contains("PKCS#8"));
        assert!(refused("").contains("PKCS#8"));
        assert!(public_key(RFC_8410.as_bytes()).unwrap_err().contains("a PRIVATE KEY"));
    }
}
