//! Secrets, in every form in which they get into a text, and the search for them.

use std::collections::BTreeMap;

use aho_corasick::AhoCorasick;
use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose as coding};
use proto::{crypto::SigningKey, dm::auth};

/// Octets of the shortest form that is looked for: shorter ones are in any text by chance.
const SHORTEST: usize = 12;
/// Octets of a private key's document up to the end of its seed, where the first line of its PEM
/// form ends, too.
const KEY_BYTES: usize = 48;
/// Octets of the seed.
const SEED_BYTES: usize = 32;

/// A secret, with its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret {
    /// Its origin.
    pub name: String,
    /// Its octets.
    pub octets: Vec<u8>,
}

/// Reads the secrets of a file; the extension of its name selects the parser.
///
/// # Errors
///
/// When a key or a token is none.
pub fn read(name: &str, octets: &[u8]) -> anyhow::Result<Vec<Secret>> {
    let secret = |octets: &[u8]| Secret { name: name.to_owned(), octets: octets.to_vec() };
    let end = name.rsplit('.').next().unwrap_or_default();
    Ok(match end {
        "key" => of_key(octets).with_context(|| name.to_owned())?.map(|part| secret(&part)).into(),
        "pem" => match of_pem(octets) {
            Some(document) => {
                of_key(&document).with_context(|| name.to_owned())?.map(|it| secret(&it)).into()
            }
            None => Vec::new(),
        },
        "token" => vec![secret(octets.trim_ascii())],
        "keys" => octets.trim_ascii().split(|octet| *octet == b'\n').map(secret).collect(),
        // Settings that are none were refused before anything was done with them.
        "toml" => str::from_utf8(octets)
            .ok()
            .and_then(|text| text.parse::<toml::Table>().ok())
            .map(|table| of_table(name, &table))
            .unwrap_or_default(),
        _ => vec![secret(octets)],
    })
}

/// Returns the seed of a private key in PKCS#8, and the document up to its end.
fn of_key(document: &[u8]) -> anyhow::Result<[Vec<u8>; 2]> {
    if SigningKey::from_pkcs8(document).is_err() {
        bail!("no private key");
    }
    let head = document.get(..KEY_BYTES).context("a short key")?;
    let seed = head.get(KEY_BYTES - SEED_BYTES..).context("a short key")?;
    Ok([seed.to_vec(), head.to_vec()])
}

/// Returns the document of a private key in PEM; `None` for public ones.
fn of_pem(text: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(text).ok()?;
    let (head, tail) = text.trim().split_once('\n')?;
    let body: String = tail.lines().take_while(|line| !line.starts_with("-----")).collect();
    let is_private = head.starts_with("-----BEGIN") && head.contains("PRIVATE");
    is_private.then(|| coding::STANDARD.decode(body).ok()).flatten()
}

/// Collects every text whose name marks it as a secret, and the hashes of passwords.
fn of_table(place: &str, table: &toml::Table) -> Vec<Secret> {
    let mut found = Vec::new();
    let text = |name: &str| table.get(name).and_then(toml::Value::as_str);
    for (name, value) in table {
        let place = format!("{place} {name}");
        let is_secret =
            ["password", "secret", "nonce", "token"].iter().any(|word| name.contains(word));
        match value {
            toml::Value::String(text) if is_secret && !name.ends_with("_file") => {
                found.push(Secret { name: place, octets: text.as_bytes().to_vec() });
            }
            toml::Value::Table(inner) => found.extend(of_table(&place, inner)),
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => {}
        }
    }
    for (user, password) in [("user", "password"), ("server_id", "server_password")] {
        if let (Some(user), Some(password)) = (text(user), text(password)) {
            let name = |what: &str| format!("{place} {what} of {user}");
            let octets = auth::Secret::new(user, password).octets().to_vec();
            found.push(Secret { name: name("hash"), octets });
            let octets = format!("{user}:{password}").into_bytes();
            found.push(Secret { name: name("basic"), octets });
        }
    }
    found
}

/// Returns the forms in which octets get into a text: as they are, hex, base64, as programs print
/// them, and each of these decoded when the secret is text itself.
pub fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut raw = vec![secret.to_vec()];
    if let Ok(text) = str::from_utf8(secret) {
        raw.extend(coding::STANDARD.decode(text).ok());
        let pairs = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).ok());
        let octets: Option<Vec<u8>> =
            pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
        raw.extend(octets);
    }
    let mut forms = Vec::new();
    for octets in raw {
        if octets.len() < SHORTEST {
            continue;
        }
        let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        let without_brackets = |text: String| text.trim_matches(['[', ']']).as_bytes().to_vec();
        forms.push(hex.to_uppercase().into_bytes());
        forms.push(hex.into_bytes());
        // The last character may depend on what follows.
        let whole = octets.get(..octets.len() / 3 * 3).unwrap_or_default();
        forms.push(coding::STANDARD_NO_PAD.encode(whole).into_bytes());
        forms.push(coding::URL_SAFE_NO_PAD.encode(whole).into_bytes());
        forms.push(without_brackets(format!("{octets:?}")));
        forms.push(without_brackets(format!("{octets:02x?}")));
        forms.push(octets.escape_ascii().to_string().into_bytes());
        forms.push(octets);
    }
    forms.sort();
    forms.dedup();
    forms
}

/// All forms of all secrets, ready to be looked for.
#[derive(Debug)]
pub struct Search {
    automaton: AhoCorasick,
    /// The forms, each with the name of its secret.
    forms: Vec<(Vec<u8>, String)>,
}

impl Search {
    /// Makes the search for secrets.
    ///
    /// # Errors
    ///
    /// When a secret is too short to be looked for: a test should use one of a true length.
    pub fn new(secrets: &[Secret]) -> anyhow::Result<Self> {
        let mut all = BTreeMap::new();
        for secret in secrets {
            let forms = forms(&secret.octets);
            if forms.is_empty() {
                bail!("{} is too short to be looked for", secret.name);
            }
            all.extend(forms.into_iter().map(|form| (form, secret.name.clone())));
        }
        let forms: Vec<_> = all.into_iter().collect();
        let automaton = AhoCorasick::new(forms.iter().map(|(form, _)| form))?;
        Ok(Self { automaton, forms })
    }

    /// Returns the forms, each with the name of its secret.
    pub fn forms(&self) -> &[(Vec<u8>, String)] {
        &self.forms
    }

    /// Returns the name of a secret that a log holds, and what precedes it.
    pub fn find(&self, log: &[u8]) -> Option<String> {
        let found = self.automaton.find(log)?;
        let (_, name) = self.forms.get(found.pattern().as_usize())?;
        let before = log.get(found.start().saturating_sub(80)..found.start()).unwrap_or_default();
        Some(format!("{name} after `{}`", String::from_utf8_lossy(before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(secrets: &[Secret], log: &str) -> bool {
        Search::new(secrets).unwrap().find(log.as_bytes()).is_some()
    }

    #[test]
    fn a_token_is_found_in_every_form() {
        let secrets = read("control.token", b"000102030405060708090a0b0c0d0e0f\n").unwrap();
        for log in [
            "token 000102030405060708090a0b0c0d0e0f",
            "AAECAwQFBgcICQoLDA0ODw==",
            "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]",
            "[00, 01, 02, 03, 04, 05, 06, 07, 08, 09, 0a, 0b, 0c, 0d, 0e, 0f]",
            r"\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f",
        ] {
            assert!(finds(&secrets, log), "{log}");
        }
        assert!(!finds(&secrets, "000102030405060708090a0b0c0d0e0e"));
    }

    #[test]
    fn a_private_key_is_found_by_its_seed_and_as_a_document() {
        let document = SigningKey::generate_pkcs8();
        let secrets = read("release.key", &document).unwrap();
        let base64 = coding::STANDARD.encode(&document);
        let (first, second) = base64.split_at(64);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{first}\n{second}\n");
        assert!(finds(&secrets, &pem));
        assert!(finds(&secrets, &format!("{:?}", &document[16..48])));
        assert!(finds(&secrets, &coding::STANDARD.encode(&document[16..48])));
        assert_eq!(read("release.pem", pem.as_bytes()).unwrap().len(), 2);
        // What anybody may know.
        assert!(!finds(&secrets, &format!("{:?}", &document[51..83])));
        assert_eq!(read("release.pem", pem.replace("PRIVATE", "PUBLIC").as_bytes()).unwrap(), []);
        assert!(read("release.key", b"none").is_err());
    }

    #[test]
    fn a_password_is_found_as_the_protocol_uses_it() {
        let settings = "[server]\nuser = \"LAB-1\"\npassword = \"c29tZSBsb25nIHNlY3JldA==\"\n\
                        token_file = \"/run/a.token\"";
        let secrets = read("device.toml", settings.as_bytes()).unwrap();
        assert_eq!(secrets.len(), 3, "{secrets:?}");
        let hash = auth::Secret::new("LAB-1", "c29tZSBsb25nIHNlY3JldA==").octets();
        let basic = coding::STANDARD.encode("LAB-1:c29tZSBsb25nIHNlY3JldA==");
        for log in ["some long secret", &coding::STANDARD.encode(hash), &basic] {
            assert!(finds(&secrets, log), "{log}");
        }
    }

    #[test]
    fn a_secret_that_is_in_any_text_is_none() {
        let secrets = read("device.toml", b"password = \"abc\"").unwrap();
        assert!(Search::new(&secrets).is_err());
    }
}
