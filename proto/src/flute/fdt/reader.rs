//! Reads FDT instances, with limits on everything.

use std::{borrow::Cow, collections::BTreeSet, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use quick_xml::{
    NsReader,
    events::{BytesStart, Event},
    name::ResolveResult,
};

use super::{
    FdtInstance, FileEntry, MAX_ATTRIBUTE_OCTETS, MAX_ATTRIBUTES, MAX_DEPTH, MAX_FILES, MAX_OCTETS,
};
use crate::{
    fec::{
        ENCODING_ID_NO_CODE, ENCODING_ID_RAPTORQ,
        oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
    },
    ids::Toi,
    wire::WireError,
};

impl FdtInstance {
    /// Reads an instance. The namespace of the root may be any (FLUTE 1 had several, some senders
    /// have none); elements and attributes of other namespaces, and unknown ones, are skipped.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the document is not well-formed, has a document type or entities of its
    /// own, breaks a limit, lacks what the schema requires, or names FEC parameters that are not
    /// valid.
    pub fn parse(document: &[u8]) -> Result<Self, WireError> {
        limit("FDT instance", document.len(), MAX_OCTETS)?;
        let text = std::str::from_utf8(document)
            .map_err(|error| WireError::invalid("FDT instance", error, "UTF-8"))?;
        Parser::new(text).run()
    }
}

/// Refuses a size beyond its limit.
fn limit(field: &'static str, found: usize, limit: usize) -> Result<(), WireError> {
    if found <= limit {
        return Ok(());
    }
    let wide = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
    Err(WireError::TooLarge { field, found: wide(found), limit: wide(limit) })
}

/// The attributes that FDT-Instance and File share; those of File go before.
#[derive(Debug, Clone, Default)]
struct Common {
    content_type: Option<String>,
    content_encoding: Option<String>,
    encoding_id: Option<u64>,
    block_length: Option<u64>,
    symbol_length: Option<u64>,
    scheme_specific: Option<Vec<u8>>,
}

impl Common {
    /// Takes an attribute if it is one of these.
    fn take(&mut self, name: &[u8], value: &str) -> Result<(), WireError> {
        match name {
            b"Content-Type" => self.content_type = Some(value.to_owned()),
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
    fn or(self, instance: &Self) -> Self {
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
    fn oti(&self, transfer_length: Option<u64>) -> Result<Option<Oti>, WireError> {
        let (Some(id), Some(length), Some(symbol_length)) =
            (self.encoding_id, transfer_length.filter(|length| *length > 0), self.symbol_length)
        else {
            return Ok(None);
        };
        let symbol_size = u16::try_from(symbol_length).map_err(|_| WireError::TooLarge {
            field: "FEC-OTI-Encoding-Symbol-Length",
            found: symbol_length,
            limit: u16::MAX.into(),
        })?;
        if id == u64::from(ENCODING_ID_NO_CODE) {
            let Some(block) = self.block_length else { return Ok(None) };
            let block = u32::try_from(block).unwrap_or(u32::MAX);
            return Ok(Some(Oti::NoCode(NoCodeOti::new(length, symbol_size, block)?)));
        }
        if id == u64::from(ENCODING_ID_RAPTORQ) {
            let Some(info) = self.scheme_specific.as_deref() else { return Ok(None) };
            let &[source_blocks, n1, n0, alignment] = info else {
                let expected = "4 octets for RaptorQ";
                return Err(WireError::invalid(
                    "FEC-OTI-Scheme-Specific-Info",
                    info.len(),
                    expected,
                ));
            };
            let oti = RaptorQOti::new(RaptorQParameters {
                transfer_length: length,
                symbol_size,
                source_blocks,
                sub_blocks: u16::from_be_bytes([n1, n0]),
                alignment,
            })?;
            return Ok(Some(Oti::RaptorQ(oti)));
        }
        Ok(None)
    }
}

fn number<T: FromStr>(field: &'static str, value: &str) -> Result<T, WireError> {
    value.trim().parse().map_err(|_| WireError::invalid(field, value, "a decimal number"))
}

fn base64(field: &'static str, value: &str) -> Result<Vec<u8>, WireError> {
    STANDARD.decode(value.trim()).map_err(|_| WireError::invalid(field, value, "base64"))
}

struct Parser<'a> {
    xml: NsReader<&'a [u8]>,
    /// Elements that are open.
    depth: usize,
    /// The root's namespace, once it was seen; `File` must have the same.
    namespace: Option<Vec<u8>>,
    expires: Option<u32>,
    complete: bool,
    common: Common,
    files: Vec<FileEntry>,
    tois: BTreeSet<Toi>,
    closed: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            xml: NsReader::from_str(text),
            depth: 0,
            namespace: None,
            expires: None,
            complete: false,
            common: Common::default(),
            files: Vec::new(),
            tois: BTreeSet::new(),
            closed: false,
        }
    }

    fn run(mut self) -> Result<FdtInstance, WireError> {
        loop {
            let (namespace, event) = self.xml.read_resolved_event().map_err(|error| {
                WireError::invalid("FDT instance", error, "well-formed XML with known namespaces")
            })?;
            let namespace = match namespace {
                ResolveResult::Bound(namespace) => namespace.as_ref().to_vec(),
                ResolveResult::Unbound => Vec::new(),
                // A prefix that nobody declared cannot be ours.
                ResolveResult::Unknown(prefix) => [b"?", prefix.as_slice()].concat(),
            };
            match event {
                Event::Start(element) => {
                    self.open(&namespace, &element)?;
                    self.depth += 1;
                    limit("depth of the FDT instance", self.depth, MAX_DEPTH)?;
                }
                Event::Empty(element) => {
                    limit("depth of the FDT instance", self.depth + 1, MAX_DEPTH)?;
                    self.open(&namespace, &element)?;
                    self.closed |= self.depth == 0;
                }
                Event::End(_) => {
                    self.depth = self.depth.saturating_sub(1);
                    self.closed |= self.depth == 0;
                }
                Event::DocType(_) => {
                    let expected = "no document type";
                    return Err(WireError::invalid("FDT instance", "DOCTYPE", expected));
                }
                Event::Text(text) if self.depth == 0 && !is_blank(&text) => {
                    return Err(WireError::invalid("FDT instance", "text", "one root element"));
                }
                Event::GeneralRef(_) | Event::CData(_) if self.depth == 0 => {
                    return Err(WireError::invalid("FDT instance", "text", "one root element"));
                }
                Event::Eof => return self.finish(),
                Event::Text(_)
                | Event::CData(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::GeneralRef(_) => {}
            }
        }
    }

    /// Looks at the start of an element: the root, a file, or something to skip.
    fn open(&mut self, namespace: &[u8], element: &BytesStart<'_>) -> Result<(), WireError> {
        let local = element.local_name();
        match (&self.namespace, self.depth) {
            (None, _) if local.as_ref() == b"FDT-Instance" => {
                self.namespace = Some(namespace.to_vec());
                self.root(element)
            }
            (None, _) => {
                let found = String::from_utf8_lossy(local.as_ref()).into_owned();
                Err(WireError::invalid("root element", found, "FDT-Instance"))
            }
            (Some(_), 0) => {
                Err(WireError::invalid("FDT instance", "two roots", "one root element"))
            }
            (Some(root), 1) if local.as_ref() == b"File" && root == namespace => self.file(element),
            (Some(_), _) => Ok(()),
        }
    }

    fn root(&mut self, element: &BytesStart<'_>) -> Result<(), WireError> {
        for_each_attribute(element, |name, value| {
            match name {
                b"Expires" => self.expires = Some(number("Expires", value)?),
                b"Complete" => {
                    self.complete = match value.trim() {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        other => return Err(WireError::invalid("Complete", other, "a boolean")),
                    }
                }
                _ => self.common.take(name, value)?,
            }
            Ok(())
        })
    }

    fn file(&mut self, element: &BytesStart<'_>) -> Result<(), WireError> {
        limit("number of files of the FDT instance", self.files.len() + 1, MAX_FILES)?;
        let mut common = Common::default();
        let (mut toi, mut content_location, mut content_md5) = (None, None, None);
        let (mut content_length, mut transfer_length) = (None, None);
        for_each_attribute(element, |name, value| {
            match name {
                b"TOI" => toi = Some(number::<u128>("TOI", value)?),
                b"Content-Location" => content_location = Some(value.to_owned()),
                b"Content-Length" => content_length = Some(number("Content-Length", value)?),
                b"Transfer-Length" => transfer_length = Some(number("Transfer-Length", value)?),
                b"Content-MD5" => {
                    let digest = base64("Content-MD5", value)?;
                    let wrong = |_| WireError::invalid("Content-MD5", value, "16 octets");
                    content_md5 = Some(<[u8; 16]>::try_from(digest).map_err(wrong)?);
                }
                _ => common.take(name, value)?,
            }
            Ok(())
        })?;
        let common = common.or(&self.common);
        let toi = toi.ok_or_else(|| WireError::invalid("TOI", "absent", "a positive integer"))?;
        if toi == 0 || toi >= 1 << 112 || !self.tois.insert(Toi(toi)) {
            return Err(WireError::invalid("TOI", toi, "a positive integer of its own, 112 bits"));
        }
        // spec: rfc6726 3.4.2 (without content encoding the transfer length may be left out)
        let plain = common.content_encoding.is_none();
        let transferred = transfer_length.or_else(|| content_length.filter(|_| plain));
        let oti = common.oti(transferred)?;
        let encoding_id = common.encoding_id.map(u8::try_from).transpose().map_err(|_| {
            WireError::invalid("FEC-OTI-FEC-Encoding-ID", "too large", "at most 255")
        })?;
        self.files.push(FileEntry {
            toi: Toi(toi),
            content_location: content_location
                .ok_or_else(|| WireError::invalid("Content-Location", "absent", "a name"))?,
            content_length,
            transfer_length,
            content_type: common.content_type,
            content_encoding: common.content_encoding,
            content_md5,
            encoding_id,
            oti,
        });
        Ok(())
    }

    fn finish(self) -> Result<FdtInstance, WireError> {
        if !self.closed || self.depth > 0 {
            return Err(WireError::invalid("FDT instance", "its end", "a closed root element"));
        }
        // spec: rfc6726 3.3
        let expires_ntp =
            self.expires.ok_or_else(|| WireError::invalid("Expires", "absent", "NTP seconds"))?;
        if self.files.is_empty() {
            return Err(WireError::invalid("FDT instance", "no file", "at least one file"));
        }
        Ok(FdtInstance { expires_ntp, complete: self.complete, files: self.files })
    }
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

/// Hands each attribute to `take` with its references resolved; only those that XML itself
/// defines exist.
fn for_each_attribute(
    element: &BytesStart<'_>,
    mut take: impl FnMut(&[u8], &str) -> Result<(), WireError>,
) -> Result<(), WireError> {
    for (index, attribute) in element.attributes().enumerate() {
        limit("number of attributes", index + 1, MAX_ATTRIBUTES)?;
        let attribute =
            attribute.map_err(|error| WireError::invalid("attribute", error, "well-formed XML"))?;
        limit("attribute", attribute.value.len(), MAX_ATTRIBUTE_OCTETS)?;
        let value: Cow<'_, str> = attribute
            .unescape_value()
            .map_err(|error| WireError::invalid("attribute", error, "text"))?;
        take(attribute.key.as_ref(), &value)?;
    }
    Ok(())
}
