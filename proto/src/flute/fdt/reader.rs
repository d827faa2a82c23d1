//! Reads FDT instances, with limits on everything.

use std::{borrow::Cow, collections::BTreeSet};

use quick_xml::{
    NsReader,
    events::{BytesRef, BytesStart, Event},
    name::ResolveResult,
};

use super::{
    FdtInstance, FileEntry, MAX_ATTRIBUTE_BYTES, MAX_BYTES, MAX_DEPTH,
    attributes::{Common, base64, boolean, for_each_attribute, legible, limit, number},
    mbms::{self, CacheControl, FileExtensions, InstanceExtensions, MAX_VALUES},
    skipped::{Place, Skipped},
};
use crate::{flute::content_encoding::is_identity, ids::Toi, markup, wire::WireError};

/// Parses an instance; see [`FdtInstance::parse`].
pub(super) fn parse(document: &[u8]) -> Result<FdtInstance, WireError> {
    limit("FDT instance", document.len(), MAX_BYTES)?;
    let decoded = markup::decode_in_part("FDT instance", document)?;
    limit("FDT instance", decoded.text.len(), 3 * MAX_BYTES)?;
    Parser::new(&decoded.text, decoded.illegible.as_deref()).run()
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
    /// Encoding of the document, where octets of it could not be read.
    illegible: Option<&'a str>,
    open: Vec<Node>,
    /// Text of the innermost element, when it is a value, or the reason why it is none.
    text: Result<String, WireError>,
    /// The root's namespace, once it was seen; `File` must have the same.
    namespace: Option<Vec<u8>>,
    /// Its expiry, or the reason why it cannot be read.
    expires: Option<Result<u32, WireError>>,
    complete: bool,
    common: Common,
    mbms: InstanceExtensions,
    files: Vec<FileEntry>,
    tois: BTreeSet<Toi>,
    /// Entries so far, with those that are skipped.
    entries: usize,
    skipped: Skipped,
    closed: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, illegible: Option<&'a str>) -> Self {
        Self {
            xml: NsReader::from_str(text),
            illegible,
            open: Vec::new(),
            text: Ok(String::new()),
            namespace: None,
            expires: None,
            complete: false,
            common: Common::default(),
            mbms: InstanceExtensions::default(),
            files: Vec::new(),
            tois: BTreeSet::new(),
            entries: 0,
            skipped: Skipped::default(),
            closed: false,
        }
    }

    fn run(mut self) -> Result<FdtInstance, WireError> {
        loop {
            let (namespace, event) = match self.xml.read_resolved_event() {
                Ok(read) => read,
                Err(_) if self.closed => return self.finish_early(),
                Err(error) => {
                    let expected = "well-formed XML with known namespaces";
                    return Err(WireError::invalid("FDT instance", error, expected));
                }
            };
            let namespace = match namespace {
                ResolveResult::Bound(namespace) => namespace.as_ref().to_vec(),
                ResolveResult::Unbound => Vec::new(),
                // A prefix that nobody declared cannot be ours.
                ResolveResult::Unknown(prefix) => [b"?", prefix.as_slice()].concat(),
            };
            match event {
                Event::Eof => return self.finish(),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Text(text) if self.open.is_empty() && is_blank(&text) => {}
                _ if self.closed => return self.finish_early(),
                Event::Start(element) => self.start(&namespace, &element)?,
                Event::Empty(element) => {
                    self.start(&namespace, &element)?;
                    self.end();
                }
                Event::End(_) => self.end(),
                Event::DocType(document_type) => {
                    markup::check_document_type("FDT instance", &document_type)?;
                }
                Event::Text(text) => self.take_text(&text)?,
                Event::CData(text) => self.take_text(&text)?,
                Event::GeneralRef(reference) => self.take_reference(&reference)?,
            }
        }
    }

    /// Ends with the root: what follows it is none of the table.
    fn finish_early(mut self) -> Result<FdtInstance, WireError> {
        let expected = "nothing behind the root element";
        self.detail(WireError::invalid("FDT instance", "more than its root", expected));
        self.finish()
    }

    fn detail(&mut self, reason: WireError) {
        self.skipped.add(Place::Detail, reason);
    }

    fn start(&mut self, namespace: &[u8], element: &BytesStart<'_>) -> Result<(), WireError> {
        let depth = self.open.len() + 1;
        limit("depth of the FDT instance", depth, MAX_SKIPPED_DEPTH)?;
        if depth == MAX_DEPTH + 1
            && let Err(reason) = limit("depth of an element", depth, MAX_DEPTH)
        {
            self.detail(reason);
        }
        let node = if depth > MAX_DEPTH { Node::Skipped } else { self.enter(namespace, element)? };
        self.text = Ok(String::new());
        self.open.push(node);
        Ok(())
    }

    /// Handles the start of an element: the root, a file, a value of 3GPP, or one to skip.
    fn enter(&mut self, namespace: &[u8], element: &BytesStart<'_>) -> Result<Node, WireError> {
        let local = element.local_name();
        let local = local.as_ref();
        let Some(parent) = self.open.last().copied() else {
            if local != b"FDT-Instance" {
                let found = String::from_utf8_lossy(local).into_owned();
                return Err(WireError::invalid("root element", found, "FDT-Instance"));
            }
            self.namespace = Some(namespace.to_vec());
            self.root(element);
            return Ok(Node::Root);
        };
        let of_table = self.namespace.as_deref() == Some(namespace);
        // spec: rfc6726 3.4.2 (elements that are not known are skipped)
        if parent == Node::Root && of_table && local == b"File" {
            return Ok(self.file(element));
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

    fn end(&mut self) {
        let ended = self.open.pop();
        self.closed |= self.open.is_empty();
        if let Some(Node::Text(field)) = ended {
            let text = std::mem::replace(&mut self.text, Ok(String::new()));
            let text = text.and_then(|text| legible(Cow::Owned(text), self.illegible));
            if let Err(reason) = text.and_then(|text| self.keep(field, text.trim())) {
                self.detail(reason);
            }
        }
    }

    fn take_text(&mut self, octets: &[u8]) -> Result<(), WireError> {
        let text = std::str::from_utf8(octets)
            .map_err(|error| WireError::invalid("FDT instance", error, "text"))?;
        match self.open.last() {
            None => {
                self.detail(WireError::invalid("FDT instance", "text", "one root element"));
            }
            Some(Node::Text(_)) => {
                if let Ok(known) = &mut self.text {
                    match limit("text", known.len() + text.len(), MAX_ATTRIBUTE_BYTES) {
                        Ok(()) => known.push_str(text),
                        Err(reason) => self.text = Err(reason),
                    }
                }
            }
            Some(
                Node::Root | Node::File | Node::CacheControl | Node::Alternatives | Node::Skipped,
            ) => {}
        }
        Ok(())
    }

    fn take_reference(&mut self, reference: &BytesRef<'_>) -> Result<(), WireError> {
        match markup::character("reference", reference) {
            Ok(Some(character)) => self.take_text(character.encode_utf8(&mut [0; 4]).as_bytes())?,
            Ok(None) | Err(_) => {
                let found = String::from_utf8_lossy(reference).into_owned();
                let expected = "a character or an entity of XML itself";
                self.text = Err(WireError::invalid("reference", found, expected));
            }
        }
        Ok(())
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

    fn root(&mut self, element: &BytesStart<'_>) {
        let Self { xml, illegible, expires, complete, common, mbms, skipped, .. } = self;
        let visited = for_each_attribute(xml, element, *illegible, |name, value| {
            let taken = value.and_then(|value| {
                match name {
                    b"Expires" => *expires = Some(number("Expires", value)),
                    b"Complete" => *complete = boolean("Complete", value)?,
                    b"FullFDT" => mbms.full = boolean("FullFDT", value)?,
                    _ => common.take(name, value)?,
                }
                Ok(())
            });
            if let Err(reason) = taken {
                skipped.add(Place::Detail, reason);
            }
            Ok(())
        });
        debug_assert!(visited.is_ok(), "the visitor returns no error");
    }

    /// Takes the entry of a file; one that cannot be read is skipped with its elements.
    // spec: rfc6726 3.4.2
    fn file(&mut self, element: &BytesStart<'_>) -> Node {
        self.entries += 1;
        let mut toi = None;
        match self.entry(element, &mut toi) {
            Ok(entry) => {
                self.tois.insert(entry.toi);
                self.files.push(entry);
                Node::File
            }
            Err(reason) => {
                let place = Place::Entry { number: self.entries, toi: toi.map(Toi) };
                self.skipped.add(place, reason);
                Node::Skipped
            }
        }
    }

    fn entry(
        &mut self,
        element: &BytesStart<'_>,
        toi: &mut Option<u128>,
    ) -> Result<FileEntry, WireError> {
        let mut common = Common::default();
        let mut extensions = FileExtensions::default();
        let (mut content_location, mut content_md5) = (None, None);
        let (mut content_length, mut transfer_length) = (None, None);
        let Self { xml, illegible, skipped, .. } = self;
        let mut wrong = Ok(());
        for_each_attribute(xml, element, *illegible, |name, value| {
            if mbms::is_attribute(name) {
                // Nothing that a file needs to be received.
                if let Err(reason) = value.and_then(|value| extensions.take(name, value)) {
                    skipped.add(Place::Detail, reason);
                }
                return Ok(());
            }
            let taken = value.and_then(|value| {
                match name {
                    b"TOI" => *toi = Some(number::<u128>("TOI", value)?),
                    b"Content-Location" => content_location = Some(value.to_owned()),
                    b"Content-Length" => content_length = Some(number("Content-Length", value)?),
                    // RFC 5510 has the longer name.
                    b"Transfer-Length" | b"FEC-OTI-Transfer-Length" => {
                        transfer_length = Some(number("Transfer-Length", value)?)
                    }
                    b"Content-MD5" => content_md5 = Some(digest(value)?),
                    _ => common.take(name, value)?,
                }
                Ok(())
            });
            // The TOI may follow: it tells which object cannot be received.
            if wrong.is_ok() {
                wrong = taken;
            }
            Ok(())
        })?;
        wrong?;
        let common = common.or(&self.common);
        let toi = toi.ok_or_else(|| WireError::invalid("TOI", "absent", "a positive integer"))?;
        if toi == 0 || toi >= 1 << 112 || self.tois.contains(&Toi(toi)) {
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
            content_encoding: common.content_encoding.clone().filter(|name| !is_identity(name)),
            content_md5,
            encoding_id,
            oti: None,
            unnamed: common.unnamed(),
            mbms: extensions,
        };
        agree(&entry)?;
        entry.oti = common.oti(entry.transferred())?;
        Ok(entry)
    }

    fn finish(self) -> Result<FdtInstance, WireError> {
        if !self.closed || !self.open.is_empty() {
            return Err(WireError::invalid("FDT instance", "its end", "a closed root element"));
        }
        // spec: rfc6726 3.3
        let expires_ntp = self
            .expires
            .ok_or_else(|| WireError::invalid("Expires", "absent", "NTP seconds"))
            .flatten()?;
        let Self { complete, files, mbms, skipped, .. } = self;
        if files.is_empty() && skipped.entries == 0 {
            return Err(WireError::invalid("FDT instance", "no file", "at least one file"));
        }
        Ok(FdtInstance { expires_ntp, complete, files, mbms, skipped })
    }
}

/// Rejects an entry whose lengths contradict each other.
fn agree(entry: &FileEntry) -> Result<(), WireError> {
    // spec: rfc6726 3.4.2 (the lengths differ only by a content encoding)
    let lengths = entry.content_length.zip(entry.transfer_length);
    let Some((content, transfer)) = lengths.filter(|_| entry.content_encoding.is_none()) else {
        return Ok(());
    };
    if content == transfer {
        return Ok(());
    }
    let found = format_args!("{content}, Transfer-Length {transfer}");
    Err(WireError::invalid("Content-Length", found, "both alike without Content-Encoding"))
}

fn digest(value: &str) -> Result<[u8; 16], WireError> {
    let octets = base64("Content-MD5", value)?;
    let wrong = |_| WireError::invalid("Content-MD5", value, "16 octets in base64");
    <[u8; 16]>::try_from(octets).map_err(wrong)
}

/// Deepest nesting of elements that are skipped.
const MAX_SKIPPED_DEPTH: usize = 256;

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
