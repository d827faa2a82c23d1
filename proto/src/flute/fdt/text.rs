//! The character encodings of file delivery tables.

use std::borrow::Cow;

use super::MAX_BYTES;
use crate::wire::WireError;

/// Returns the text of a document, in UTF-8 or the encoding of its first octets or declaration.
///
/// A document that declares something else and is UTF-8 all the same is taken for UTF-8: senders
/// that re-encode without changing the declaration are seen in the field.
pub(super) fn decode(document: &[u8]) -> Result<Cow<'_, str>, WireError> {
    let refused = |found: &str| WireError::invalid("FDT instance", found, "UTF-8 or ISO 8859-1");
    match document {
        [0xef, 0xbb, 0xbf, remaining @ ..] => {
            std::str::from_utf8(remaining).map(Cow::Borrowed).map_err(|_| refused("broken UTF-8"))
        }
        [0xfe, 0xff, remaining @ ..] => utf16(remaining, u16::from_be_bytes),
        [0xff, 0xfe, remaining @ ..] => utf16(remaining, u16::from_le_bytes),
        [0, b'<', ..] => utf16(document, u16::from_be_bytes),
        [b'<', 0, ..] => utf16(document, u16::from_le_bytes),
        _ => match std::str::from_utf8(document) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) => match declared(document).as_deref() {
                Some("iso-8859-1" | "latin1") => {
                    Ok(Cow::Owned(document.iter().copied().map(char::from).collect()))
                }
                Some(other) => Err(refused(other)),
                None => Err(refused("broken UTF-8")),
            },
        },
    }
}

fn utf16(octets: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'_, str>, WireError> {
    let (pairs, remaining) = octets.as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(pairs.iter().copied().map(unit)).collect();
    match text {
        Ok(text) if remaining.is_empty() && text.len() <= MAX_BYTES => Ok(Cow::Owned(text)),
        Ok(_) | Err(_) => Err(WireError::invalid("FDT instance", "broken UTF-16", "text")),
    }
}

/// Returns the encoding of the XML declaration, in small letters.
fn declared(document: &[u8]) -> Option<String> {
    const DECLARATION: usize = 200;
    let head = document.get(..DECLARATION.min(document.len()))?;
    let ascii: String = head.iter().copied().map(char::from).collect();
    let declaration = ascii.strip_prefix("<?xml")?.split_once("?>")?.0;
    let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let name = value.get(1..)?.split_once(quote)?.0;
    Some(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_encoding_of_the_field_gives_the_same_text() {
        let text = "<?xml version='1.0' encoding = \"ISO-8859-1\"?><é/>";
        let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let units: Vec<u16> = text.encode_utf16().collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        for document in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            latin,
            [b"\xfe\xff".as_slice(), &big].concat(),
            [b"\xff\xfe".as_slice(), &little].concat(),
            big,
            little,
        ] {
            assert_eq!(decode(&document).unwrap(), text);
        }
    }

    #[test]
    fn an_encoding_that_is_not_known_is_named() {
        let error = decode(b"<?xml version='1.0' encoding='KOI8-R'?>\xc1").unwrap_err();
        assert!(error.to_string().contains("koi8-r"), "{error}");
        assert!(decode(b"<\xff>").is_err());
        assert!(decode(b"\xfe\xff\0<\0").is_err());
        assert!(decode(b"\xfe\xff\xd8\x00").is_err());
    }

    proptest! {
        #[test]
        fn whatever_arrives_the_answer_is_a_value(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(text) = decode(&octets) {
                prop_assert!(text.len() <= 2 * octets.len());
            }
        }
    }
}
