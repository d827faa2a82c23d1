//! Reads FDT instances, with limits on everything.

use std::{borrow::Cow, collections::BTreeSet, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use quick_xml::{
    NsReader,
    events::{BytesRef, BytesStart, Event},
    name::ResolveResult,
};

use super::{
    FdtInstance, FileEntry, MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES, MAX_BYTES, MAX_DEPTH,
    mbms::{self, CacheControl, FileExtensions, InstanceExtensions, MAX_VALUES},
};
use crate::{
    fec::{
        ENCODING_ID_NO_CODE, ENCODING_ID_RAPTORQ,
        oti::{NoCodeOti, Oti, RaptorQOti, RaptorQParameters},
    },
    ids::Toi,
    markup,
    wire::WireError,
};

/// Parses an instance; see [`FdtInstance::parse`].
pub(super) fn parse(document: &[u8]) -> Result<FdtInstance, WireError> {
    limit("FDT instance", document.len(), MAX_BYTES)?;
    let text = markup::decode("FDT instance", document)?;
    limit("FDT instance", text.len(), MAX_BYTES)?;
    Parser::new(&text).run()
}

/// Rejects a size beyond its limit.
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

/// An element that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Root,
    File,
    CacheControl,
    Alternatives,
    /// Its text is a value.
    Text(Field),
    Skipped,
}

/// The meaning of the text of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Group,
    BaseUrl,
    AlternativeLocation,
    NoCache,
    MaxStale,
    CacheExpires,
}

struct Parser<'a> {
    xml: NsReader<&'a [u8]>,
    open: Vec<Node>,
    /// Text of the innermost element, when it is a value.
    text: String,
    /// The root's namespace, once it was seen; `File` must have the same.
    namespace: Option<Vec<u8>>,
    expires: Option<u32>,
    complete: bool,
    common: Common,
    mbms: InstanceExtensions,
    files: Vec<FileEntry>,
    tois: BTreeSet<Toi>,
    closed: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            xml: NsReader::from_str(text),
            open: Vec::new(),
            text: String::new(),
            namespace: None,
            expires: None,
            complete: false,
            common: Common::default(),
            mbms: InstanceExtensions::default(),
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
                Event::Start(element) => self.start(&namespace, &element)?,
                Event::Empty(element) => {
                    self.start(&namespace, &element)?;
                    self.end()?;
                }
                Event::End(_) => self.end()?,
                Event::DocType(document_type) => {
                    markup::check_document_type("FDT instance", &document_type)?;
                }
                Event::Text(text) if self.open.is_empty() && is_blank(&text) => {}
                Event::Text(text) => self.take_text(&text)?,
                Event::CData(text) => self.take_text(&text)?,
                Event::GeneralRef(reference) => self.take_reference(&reference)?,
                Event::Eof => return self.finish(),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
    }

    fn start(&mut self, namespace: &[u8], element: &BytesStart<'_>) -> Result<(), WireError> {
        limit("depth of the FDT instance", self.open.len() + 1, MAX_DEPTH)?;
        let node = self.enter(namespace, element)?;
        self.text.clear();
        self.open.push(node);
        Ok(())
    }

    /// Handles the start of an element: the root, a file, a value of 3GPP, or one to skip.
    fn enter(&mut self, namespace: &[u8], element: &BytesStart<'_>) -> Result<Node, WireError> {
        let local = element.local_name();
        let local = local.as_ref();
        let Some(parent) = self.open.last().copied() else {
            if self.namespace.is_some() {
                return Err(WireError::invalid("FDT instance", "two roots", "one root element"));
            }
            if local != b"FDT-Instance" {
                let found = String::from_utf8_lossy(local).into_owned();
                return Err(WireError::invalid("root element", found, "FDT-Instance"));
            }
            self.namespace = Some(namespace.to_vec());
            self.root(element)?;
            return Ok(Node::Root);
        };
        let of_table = self.namespace.as_deref() == Some(namespace);
        if parent == Node::Root && of_table && local == b"File" {
            self.file(element)?;
            return Ok(Node::File);
        }
        // spec: ts26346-mbms 7.2.10 (in the namespaces of 3GPP, or in that of the table)
        if !of_table && !mbms::is_namespace(namespace) {
            return Ok(Node::Skipped);
        }
        Ok(match (parent, local) {
            (Node::Root | Node::File, b"Group") => Node::Text(Field::Group),
            (Node::Root, b"Base-URL-1" | b"Base-URL-2") => Node::Text(Field::BaseUrl),
            (Node::File, b"Cache-Control") => Node::CacheControl,
            (Node::File, b"Alternate-Content-Location-1" | b"Alternate-Content-Location-2") => {
                Node::Alternatives
            }
            (Node::Alternatives, b"Alternate-Content-Location") => {
                Node::Text(Field::AlternativeLocation)
            }
            (Node::CacheControl, b"no-cache") => Node::Text(Field::NoCache),
            (Node::CacheControl, b"max-stale") => Node::Text(Field::MaxStale),
            (Node::CacheControl, b"Expires") => Node::Text(Field::CacheExpires),
            _ => Node::Skipped,
        })
    }

    fn end(&mut self) -> Result<(), WireError> {
        let ended = self.open.pop();
        self.closed |= self.open.is_empty();
        if let Some(Node::Text(field)) = ended {
            let text = std::mem::take(&mut self.text);
            self.keep(field, text.trim())?;
        }
        Ok(())
    }

    fn take_text(&mut self, octets: &[u8]) -> Result<(), WireError> {
        let text = std::str::from_utf8(octets)
            .map_err(|error| WireError::invalid("FDT instance", error, "text"))?;
        match self.open.last() {
            None => Err(WireError::invalid("FDT instance", "text", "one root element")),
            Some(Node::Text(_)) => {
                limit("text", self.text.len() + text.len(), MAX_ATTRIBUTE_BYTES)?;
                self.text.push_str(text);
                Ok(())
            }
            Some(
                Node::Root | Node::File | Node::CacheControl | Node::Alternatives | Node::Skipped,
            ) => Ok(()),
        }
    }

    fn take_reference(&mut self, reference: &BytesRef<'_>) -> Result<(), WireError> {
        let character = markup::character("reference", reference)?.ok_or_else(|| {
            let found = String::from_utf8_lossy(reference).into_owned();
            WireError::invalid("reference", found, "a character or an entity of XML itself")
        })?;
        self.take_text(character.encode_utf8(&mut [0; 4]).as_bytes())
    }

    /// Keeps a value of 3GPP.
    fn keep(&mut self, field: Field, text: &str) -> Result<(), WireError> {
        let holds = |text: &str| matches!(text, "" | "true" | "1");
        let in_file = self.open.contains(&Node::File);
        let file = self.files.last_mut().filter(|_| in_file).map(|file| &mut file.mbms);
        match (field, file) {
            (Field::Group, None) => add("groups", &mut self.mbms.groups, text),
            (Field::BaseUrl, _) => add("base URLs", &mut self.mbms.base_urls, text),
            (Field::Group, Some(file)) => add("groups", &mut file.groups, text),
            (Field::AlternativeLocation, Some(file)) => {
                add("alternative locations", &mut file.alternative_locations, text)
            }
            (Field::NoCache, Some(file)) => {
                file.cache = holds(text).then_some(CacheControl::NoCache).or(file.cache);
                Ok(())
            }
            (Field::MaxStale, Some(file)) => {
                file.cache = holds(text).then_some(CacheControl::MaxStale).or(file.cache);
                Ok(())
            }
            (Field::CacheExpires, Some(file)) => {
                file.cache = Some(CacheControl::Expires(number("Expires of a file", text)?));
                Ok(())
            }
            (
                Field::AlternativeLocation | Field::NoCache | Field::MaxStale | Field::CacheExpires,
                None,
            ) => Ok(()),
        }
    }

    fn root(&mut self, element: &BytesStart<'_>) -> Result<(), WireError> {
        let Self { xml, expires, complete, common, mbms, .. } = self;
        for_each_attribute(xml, element, |name, value| {
            match name {
                b"Expires" => *expires = Some(number("Expires", value)?),
                b"Complete" => *complete = boolean("Complete", value)?,
                b"FullFDT" => mbms.full = boolean("FullFDT", value)?,
                _ => common.take(name, value)?,
            }
            Ok(())
        })
    }

    fn file(&mut self, element: &BytesStart<'_>) -> Result<(), WireError> {
        let mut common = Common::default();
        let mut extensions = FileExtensions::default();
        let (mut toi, mut content_location, mut content_md5) = (None, None, None);
        let (mut content_length, mut transfer_length) = (None, None);
        for_each_attribute(&self.xml, element, |name, value| {
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
                b"File-ETag" => extensions.etag = Some(value.to_owned()),
                b"Decryption-KEY-URI" => extensions.key_uri = Some(value.to_owned()),
                b"FEC-Redundancy-Level" => {
                    extensions.redundancy_percent = Some(number("FEC-Redundancy-Level", value)?);
                }
                _ => common.take(name, value)?,
            }
            Ok(())
        })?;
        let common = common.or(&self.common);
        let toi = toi.ok_or_else(|| WireError::invalid("TOI", "absent", "a positive integer"))?;
        if toi == 0 || toi >= 1 << 112 || !self.tois.insert(Toi(toi)) {
            // spec: rfc6726 3.1 (each file has a TOI above 0)
            return Err(WireError::invalid("TOI", toi, "a positive integer of its own, 112 bits"));
        }
        let encoding_id = common.encoding_id.map(u8::try_from).transpose().map_err(|_| {
            WireError::invalid("FEC-OTI-FEC-Encoding-ID", "too large", "at most 255")
        })?;
        let mut entry = FileEntry {
            toi: Toi(toi),
            content_location: content_location
                // spec: rfc6726 3.2 (TOI and Content-Location)
                .ok_or_else(|| WireError::invalid("Content-Location", "absent", "a name"))?,
            content_length,
            transfer_length,
            content_type: common.content_type.clone(),
            content_encoding: common.content_encoding.clone(),
            content_md5,
            encoding_id,
            oti: None,
            mbms: extensions,
        };
        entry.oti = common.oti(entry.transferred())?;
        self.files.push(entry);
        Ok(())
    }

    fn finish(self) -> Result<FdtInstance, WireError> {
        if !self.closed || !self.open.is_empty() {
            return Err(WireError::invalid("FDT instance", "its end", "a closed root element"));
        }
        // spec: rfc6726 3.3
        let expires_ntp =
            self.expires.ok_or_else(|| WireError::invalid("Expires", "absent", "NTP seconds"))?;
        if self.files.is_empty() {
            return Err(WireError::invalid("FDT instance", "no file", "at least one file"));
        }
        let Self { complete, files, mbms, .. } = self;
        Ok(FdtInstance { expires_ntp, complete, files, mbms })
    }
}

fn boolean(field: &'static str, value: &str) -> Result<bool, WireError> {
    match value.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(WireError::invalid(field, other, "a boolean")),
    }
}

/// Adds a value that is not empty.
fn add(field: &'static str, values: &mut Vec<String>, text: &str) -> Result<(), WireError> {
    if !text.is_empty() {
        limit(field, values.len() + 1, MAX_VALUES)?;
        values.push(text.to_owned());
    }
    Ok(())
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

/// Hands each attribute to `take` with its references resolved; only those that XML itself
/// defines exist. Of the attributes with a prefix only those of 3GPP are handed over, without it.
fn for_each_attribute(
    xml: &NsReader<&[u8]>,
    element: &BytesStart<'_>,
    mut take: impl FnMut(&[u8], &str) -> Result<(), WireError>,
) -> Result<(), WireError> {
    for (index, attribute) in element.attributes().enumerate() {
        limit("number of attributes", index + 1, MAX_ATTRIBUTES)?;
        let attribute =
            attribute.map_err(|error| WireError::invalid("attribute", error, "well-formed XML"))?;
        limit("attribute", attribute.value.len(), MAX_ATTRIBUTE_BYTES)?;
        let value: Cow<'_, str> = attribute
            .unescape_value()
            .map_err(|error| WireError::invalid("attribute", error, "text"))?;
        if attribute.key.prefix().is_none() {
            take(attribute.key.as_ref(), &value)?;
            continue;
        }
        let (namespace, local) = xml.resolver().resolve_attribute(attribute.key);
        let of_mbms =
            matches!(namespace, ResolveResult::Bound(name) if mbms::is_namespace(name.as_ref()));
        if of_mbms && mbms::is_attribute(local.as_ref()) {
            take(local.as_ref(), &value)?;
        }
    }
    Ok(())
}
