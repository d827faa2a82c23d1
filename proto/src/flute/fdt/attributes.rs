//! The attributes of FDT instances and files.

use std::{borrow::Cow, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use quick_xml::{NsReader, events::BytesStart, name::ResolveResult};

use super::{MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES, mbms, unnamed::UnnamedOti};
use crate::{fec::oti::Oti, wire::WireError};

/// The attributes that FDT-Instance and File share; those of File go before.
#[derive(Debug, Clone, Default)]
pub(super) struct Common {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) encoding_id: Option<u64>,
    block_length: Option<u64>,
    symbol_length: Option<u64>,
    scheme_specific: Option<Vec<u8>>,
}

impl Common {
    /// Takes an attribute if it is one of these.
    pub(super) fn take(&mut self, name: &[u8], value: &str) -> Result<(), WireError> {
        match name {
            b"Content-Type" => self.content_type = Some(value.to_owned()),
            // spec: ts26346-mbms L.4
            b"Content-Encoding" => self.content_encoding = Some(value.to_owned()),
            b"FEC-OTI-FEC-Encoding-ID" => {
                self.encoding_id = Some(number("FEC-OTI-FEC-Encoding-ID", value)?);
            }
            b"FEC-OTI-Maximum-Source-Block-Length" => {
                self.block_length = Some(number("FEC-OTI-Maximum-Source-Block-Length", value)?);
            }
            b"FEC-OTI-Encoding-Symbol-Length" => {
                self.symbol_length = Some(number("FEC-OTI-Encoding-Symbol-Length", value)?);
            }
            b"FEC-OTI-Scheme-Specific-Info" => {
                self.scheme_specific = Some(base64("FEC-OTI-Scheme-Specific-Info", value)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Fills what is absent from the attributes of the instance.
    // spec: rfc6726 3.4.2 (a value on File beats the same attribute on FDT-Instance)
    pub(super) fn or(self, instance: &Self) -> Self {
        Self {
            content_type: self.content_type.or_else(|| instance.content_type.clone()),
            content_encoding: self.content_encoding.or_else(|| instance.content_encoding.clone()),
            encoding_id: self.encoding_id.or(instance.encoding_id),
            block_length: self.block_length.or(instance.block_length),
            symbol_length: self.symbol_length.or(instance.symbol_length),
            scheme_specific: self.scheme_specific.or_else(|| instance.scheme_specific.clone()),
        }
    }

    /// Returns the FEC parameters, where they are complete and of a scheme of ours.
    pub(super) fn oti(&self, transfer_length: Option<u64>) -> Result<Option<Oti>, WireError> {
        let (Some(id), Some(length), Some(parameters)) =
            (self.encoding_id, transfer_length.filter(|length| *length > 0), self.parameters())
        else {
            return Ok(None);
        };
        parameters.named(id, length)
    }

    /// Returns the FEC parameters of an entry that does not name its scheme.
    pub(super) fn unnamed(&self) -> Option<UnnamedOti> {
        self.parameters().filter(|_| self.encoding_id.is_none())
    }

    fn parameters(&self) -> Option<UnnamedOti> {
        Some(UnnamedOti {
            symbol_length: self.symbol_length?,
            block_length: self.block_length,
            scheme_specific: self.scheme_specific.clone(),
        })
    }
}

pub(super) fn number<T: FromStr>(field: &'static str, value: &str) -> Result<T, WireError> {
    value.trim().parse().map_err(|_| WireError::invalid(field, value, "a decimal number"))
}

pub(super) fn base64(field: &'static str, value: &str) -> Result<Vec<u8>, WireError> {
    // White space may stand anywhere in the text of an xs:base64Binary.
    let digits: String = value.split_ascii_whitespace().collect();
    STANDARD.decode(digits).map_err(|_| WireError::invalid(field, value, "base64"))
}

/// Rejects a size beyond its limit.
pub(super) fn limit(field: &'static str, found: usize, limit: usize) -> Result<(), WireError> {
    if found <= limit {
        return Ok(());
    }
    let wide = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
    Err(WireError::TooLarge { field, found: wide(found), limit: wide(limit) })
}

pub(super) fn boolean(field: &'static str, value: &str) -> Result<bool, WireError> {
    match value.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(WireError::invalid(field, other, "a boolean")),
    }
}

/// Returns whether an attribute of the table's own is read; whatever others hold is of no concern.
fn is_read(name: &[u8]) -> bool {
    name.starts_with(b"FEC-OTI-")
        || name.starts_with(b"Content-")
        || matches!(name, b"Expires" | b"Complete" | b"TOI" | b"Transfer-Length")
        || mbms::is_attribute(name)
}

/// Visits each attribute that is read, its references resolved, or the reason why it cannot be
/// read; only the references that XML itself defines exist. Of the attributes with a prefix only
/// those of 3GPP are visited, without it.
///
/// # Errors
///
/// The first error that the visitor returns.
pub(super) fn for_each_attribute(
    xml: &NsReader<&[u8]>,
    element: &BytesStart<'_>,
    encoding: Option<&str>,
    mut visit: impl FnMut(&[u8], Result<&str, WireError>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    for (index, attribute) in element.attributes().enumerate() {
        if let Err(error) = limit("number of attributes", index + 1, MAX_ATTRIBUTES) {
            return visit(b"", Err(error));
        }
        let attribute = match attribute {
            Ok(attribute) => attribute,
            Err(error) => {
                visit(b"", Err(WireError::invalid("attribute", error, "well-formed XML")))?;
                continue;
            }
        };
        let name = if attribute.key.prefix().is_none() {
            Some(attribute.key.as_ref()).filter(|name| is_read(name))
        } else {
            let (namespace, local) = xml.resolver().resolve_attribute(attribute.key);
            let of_mbms = matches!(
                namespace, ResolveResult::Bound(name) if mbms::is_namespace(name.as_ref())
            );
            Some(local.into_inner()).filter(|local| of_mbms && mbms::is_attribute(local))
        };
        let Some(name) = name else { continue };
        let value = limit("attribute", attribute.value.len(), MAX_ATTRIBUTE_BYTES).and_then(|()| {
            let value = attribute.unescape_value();
            value.map_err(|error| WireError::invalid("attribute", error, "text"))
        });
        let value = value.and_then(|value| legible(value, encoding));
        match value {
            Ok(value) => visit(name, Ok(&value))?,
            Err(error) => visit(name, Err(error))?,
        }
    }
    Ok(())
}

/// Rejects a text with octets that could not be read; `encoding` names that of the document then.
pub(super) fn legible<'a>(
    text: Cow<'a, str>,
    encoding: Option<&str>,
) -> Result<Cow<'a, str>, WireError> {
    match encoding.filter(|_| text.contains(char::REPLACEMENT_CHARACTER)) {
        Some(encoding) => Err(WireError::invalid("text", encoding, "UTF-8 or ISO 8859-1")),
        None => Ok(text),
    }
}
