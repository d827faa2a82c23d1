//! XML as peers write it: character encoding, document type and references.
//!
//! Every reader of XML in this crate uses these functions, so that each tolerates the same; the
//! crate's documentation lists the tolerances.

use std::borrow::Cow;

use quick_xml::{
    escape::resolve_predefined_entity,
    events::{BytesRef, BytesText},
};

use crate::wire::WireError;

/// Returns the text of a document, in UTF-8 or the encoding of its first octets or declaration.
///
/// A document that declares something else and is UTF-8 all the same is taken for UTF-8: senders
/// that re-encode without changing the declaration are seen in the field.
///
/// # Errors
///
/// [`WireError`] names the document by `field` when its encoding is another one, or broken. The
/// text has at most three octets for two of the document.
pub(crate) fn decode<'a>(
    field: &'static str,
    document: &'a [u8],
) -> Result<Cow<'a, str>, WireError> {
    let refused = |found: &str| WireError::invalid(field, found, "UTF-8, UTF-16 or ISO 8859-1");
    match document {
        [0xef, 0xbb, 0xbf, remaining @ ..] => {
            std::str::from_utf8(remaining).map(Cow::Borrowed).map_err(|_| refused("broken UTF-8"))
        }
        [0xfe, 0xff, remaining @ ..] => utf16(field, remaining, u16::from_be_bytes),
        [0xff, 0xfe, remaining @ ..] => utf16(field, remaining, u16::from_le_bytes),
        [0, b'<', ..] => utf16(field, document, u16::from_be_bytes),
        [b'<', 0, ..] => utf16(field, document, u16::from_le_bytes),
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

/// A document as text, of which parts may not be readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InPart<'a> {
    /// The text; octets that cannot be read are [`char::REPLACEMENT_CHARACTER`].
    pub(crate) text: Cow<'a, str>,
    /// Encoding that the document declares, where octets of it could not be read.
    pub(crate) illegible: Option<String>,
}

/// Returns the text of a document as [`decode`] does, and of one in another encoding its ASCII: the
/// parts with other octets may cost themselves alone.
///
/// # Errors
///
/// [`WireError`] names the document by `field` when it is broken UTF-16.
pub(crate) fn decode_in_part<'a>(
    field: &'static str,
    document: &'a [u8],
) -> Result<InPart<'a>, WireError> {
    match decode(field, document) {
        Ok(text) => Ok(InPart { text, illegible: None }),
        Err(error) if document.iter().take(2).any(|octet| matches!(octet, 0 | 0xfe | 0xff)) => {
            Err(error)
        }
        Err(_) => Ok(InPart {
            text: String::from_utf8_lossy(
                document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document),
            ),
            illegible: Some(declared(document).unwrap_or_else(|| "broken UTF-8".to_owned())),
        }),
    }
}

fn utf16<'a>(
    field: &'static str,
    octets: &[u8],
    unit: fn([u8; 2]) -> u16,
) -> Result<Cow<'a, str>, WireError> {
    let (pairs, remaining) = octets.as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(pairs.iter().copied().map(unit)).collect();
    match text {
        Ok(text) if remaining.is_empty() => Ok(Cow::Owned(text)),
        Ok(_) | Err(_) => Err(WireError::invalid(field, "broken UTF-16", "text")),
    }
}

/// Accepts a document type that names a DTD, which is not fetched.
///
/// # Errors
///
/// [`WireError`] when it has an internal subset, which could define entities.
// spec: oma-dm 8.2 (document types without a subset)
pub(crate) fn check_document_type(
    field: &'static str,
    document_type: &BytesText<'_>,
) -> Result<(), WireError> {
    if document_type.contains(&b'[') {
        let found = "a document type with declarations of its own";
        return Err(WireError::invalid(field, found, "at most the name of a DTD"));
    }
    Ok(())
}

/// Returns the character that a reference stands for, by its number or as one of the five entities
/// of XML; `None` for any other entity.
///
/// # Errors
///
/// [`WireError`] when the number is that of no character.
pub(crate) fn character(
    field: &'static str,
    reference: &BytesRef<'_>,
) -> Result<Option<char>, WireError> {
    let wrong = |error| WireError::invalid(field, error, "a reference to a character");
    if let Some(character) = reference.resolve_char_ref().map_err(wrong)? {
        return Ok(Some(character));
    }
    let name = std::str::from_utf8(reference).ok();
    Ok(name.and_then(resolve_predefined_entity).and_then(|text| text.chars().next()))
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
    use quick_xml::{Reader, events::Event};

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
            assert_eq!(decode("document", &document).unwrap(), text);
        }
    }

    #[test]
    fn an_encoding_that_is_not_known_is_named() {
        let error = decode("document", b"<?xml version='1.0' encoding='KOI8-R'?>\xc1").unwrap_err();
        assert!(error.to_string().contains("koi8-r"), "{error}");
        assert!(decode("document", b"<\xff>").is_err());
        assert!(decode("document", b"\xfe\xff\0<\0").is_err());
        assert!(decode("document", b"\xfe\xff\xd8\x00").is_err());
    }

    #[test]
    fn the_ascii_of_an_encoding_that_is_not_known_is_read() {
        let read = |document: &'static [u8]| decode_in_part("document", document);
        let decoded = read(b"<?xml version='1.0' encoding='KOI8-R'?><a>\xc1</a>").unwrap();
        assert!(decoded.text.ends_with("<a>\u{fffd}</a>"), "{}", decoded.text);
        assert_eq!(decoded.illegible.as_deref(), Some("koi8-r"));
        assert_eq!(read(b"<a \xff>").unwrap().illegible.as_deref(), Some("broken UTF-8"));
        assert!(read(b"\xef\xbb\xbf<\xff>").unwrap().text.starts_with('<'));
        let ascii = read(b"<?xml version='1.0' encoding='US-ASCII'?><a/>").unwrap();
        assert_eq!(ascii.illegible, None);
        assert!(read(b"\xfe\xff\0<\0").is_err());
        assert!(read(b"<\0a").is_err());
    }

    /// Returns the only event of a text inside an element.
    fn event(text: &str) -> Event<'_> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_end_names = false;
        reader.read_event().unwrap()
    }

    // test: oma-dm 8.2
    #[test]
    fn a_document_type_without_declarations_is_accepted() {
        for (text, accepted) in [
            ("<!DOCTYPE a>", true),
            ("<!DOCTYPE a SYSTEM 'a.dtd'>", true),
            ("<!DOCTYPE a PUBLIC \"-//A//DTD A 1.2//EN\" \"http://a/a.dtd\">", true),
            ("<!DOCTYPE a []>", false),
            ("<!DOCTYPE a SYSTEM 'a' [<!ENTITY b 'c'>]>", false),
        ] {
            let Event::DocType(found) = event(text) else { panic!("{text}") };
            assert_eq!(check_document_type("document", &found).is_ok(), accepted, "{text}");
        }
    }

    #[test]
    fn only_numbers_and_the_entities_of_xml_are_characters() {
        for (text, expected) in [
            ("&amp;", Ok(Some('&'))),
            ("&apos;", Ok(Some('\''))),
            ("&#65;", Ok(Some('A'))),
            ("&#x42;", Ok(Some('B'))),
            ("&other;", Ok(None)),
            ("&#xFFFFFFFF;", Err(())),
        ] {
            let Event::GeneralRef(reference) = event(text) else { panic!("{text}") };
            assert_eq!(character("document", &reference).map_err(drop), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_arrives_the_answer_is_a_value(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(text) = decode("document", &octets) {
                prop_assert!(text.len() <= 2 * octets.len());
            }
        }
    }
}
