//! The file delivery table: the files that a FLUTE session carries.
//!
//! Read with limits and written in one fixed order, so that repeats of an instance are identical.
//! It is for other receivers: an armed device ignores it.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use quick_xml::escape::escape;

use crate::{
    fec::{self, oti::Oti},
    ids::Toi,
    time::Utc,
    wire::WireError,
};

mod attributes;
mod inflate;
pub mod mbms;
mod reader;
pub mod skipped;
pub mod store;
pub mod unnamed;

use mbms::{FileExtensions, InstanceExtensions};
use skipped::Skipped;
use unnamed::UnnamedOti;

/// The namespace of FLUTE version 2.
pub const NAMESPACE: &str = "urn:ietf:params:xml:ns:fdt";

/// The namespace that MBMS and DVB profiles of FLUTE version 1 use.
pub const NAMESPACE_MBMS: &str = "urn:IETF:metadata:2005:FLUTE:FDT";

/// The namespace of the element with the MBMS schema version of an instance.
const NAMESPACE_SCHEMA_VERSION: &str = "urn:3gpp:metadata:2009:MBMS:schemaVersion";

/// The schema of release 16.
const MBMS_SCHEMA_VERSION: u32 = 4;

/// Largest FDT instance that is read, in octets.
pub const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting of elements.
pub const MAX_DEPTH: usize = 8;
/// Longest attribute value, in octets as written; a longer one costs its entry.
pub const MAX_ATTRIBUTE_BYTES: usize = 8 * 1024;
/// Most attributes of one element.
pub const MAX_ATTRIBUTES: usize = 64;

/// One numbered issue of the file delivery table.
///
/// # Source
///
/// RFC 6726 §3.4.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdtInstance {
    /// Expiry of this instance: the upper 32 bits of an NTP time.
    pub expires_ntp: u32,
    /// Set when later instances add nothing.
    pub complete: bool,
    /// The files, in document order; none where no entry can be read.
    pub files: Vec<FileEntry>,
    /// Extensions by 3GPP; read, never written.
    pub mbms: InstanceExtensions,
    /// Parts that could not be read and are not in the other fields; never written.
    pub skipped: Skipped,
}

/// The entry of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// The object that carries the file; never 0.
    pub toi: Toi,
    /// Its name: a label, never a path.
    pub content_location: String,
    /// Length of the file in octets.
    pub content_length: Option<u64>,
    /// Length of the object that is transferred; written only when it differs.
    pub transfer_length: Option<u64>,
    /// Media type.
    pub content_type: Option<String>,
    /// HTTP content encoding of the transferred object.
    pub content_encoding: Option<String>,
    /// MD5 digest; damage detection of other receivers, no security.
    pub content_md5: Option<[u8; 16]>,
    /// FEC Encoding ID, also when the scheme is not one of ours.
    pub encoding_id: Option<u8>,
    /// FEC parameters, where the entry gives them in full and the scheme is one of ours.
    pub oti: Option<Oti>,
    /// FEC parameters of an entry that names no scheme: the codepoint of its packets does.
    pub unnamed: Option<UnnamedOti>,
    /// Extensions by 3GPP; read, never written.
    pub mbms: FileExtensions,
}

impl FileEntry {
    /// Returns the entry of a plain file: no content encoding, no digest.
    #[must_use]
    pub fn plain(toi: Toi, location: impl Into<String>, media_type: &str, oti: Oti) -> Self {
        Self {
            toi,
            content_location: location.into(),
            content_length: Some(oti.transfer_length()),
            transfer_length: None,
            content_type: Some(media_type.to_owned()),
            content_encoding: None,
            content_md5: None,
            encoding_id: Some(oti.encoding_id()),
            oti: Some(oti),
            unnamed: None,
            mbms: FileExtensions::default(),
        }
    }

    /// Returns about how many octets of memory the entry takes, its 3GPP extensions left out.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = [&self.content_type, &self.content_encoding].into_iter().flatten();
        size_of::<Self>() + self.content_location.len() + texts.map(String::len).sum::<usize>()
    }

    /// Returns the transfer length of the object, where the entry has it.
    #[must_use]
    pub fn transferred(&self) -> Option<u64> {
        // spec: rfc6726 3.4.2 (without content encoding the transfer length may be left out)
        let plain = self.content_encoding.is_none();
        self.transfer_length.or_else(|| self.content_length.filter(|_| plain))
    }

    /// Returns the object's FEC parameters from this entry and from EXT_FTI of a packet, which
    /// goes first; `None` as long as neither gives them in full.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the scheme is not one of ours, or the two sources disagree.
    ///
    /// # Source
    ///
    /// RFC 6726 §5.
    pub fn parameters(&self, packet: Option<Oti>) -> Result<Option<Oti>, WireError> {
        // spec: rfc6726 5 (all sources of an object's parameters agree, and with its codepoint)
        let disagree = |found| {
            let expected = "the same in EXT_FTI and in the FDT";
            Err(WireError::Unexpected { field: "FEC parameter", found, expected })
        };
        match (self.encoding_id, packet) {
            (Some(id), Some(oti)) if id != oti.encoding_id() => disagree(id.into()),
            (Some(id), None) if !fec::is_supported(id) => Err(fec::unsupported(id)),
            (_, Some(oti)) if self.oti.is_some_and(|own| own != oti) => {
                disagree(oti.transfer_length())
            }
            (_, Some(oti))
                if self.transferred().is_some_and(|own| own != oti.transfer_length()) =>
            {
                disagree(oti.transfer_length())
            }
            (_, packet) => Ok(packet.or(self.oti)),
        }
    }

    /// Returns the object's FEC parameters in the scheme that the codepoint of its packets names,
    /// where the entry names none; `None` when it does, or gives less than the scheme needs.
    ///
    /// # Errors
    ///
    /// [`WireError`] when they are not valid in this scheme.
    ///
    /// # Source
    ///
    /// RFC 6726 §5.
    pub fn parameters_under(&self, codepoint: u8) -> Result<Option<Oti>, WireError> {
        // spec: rfc6726 5 (the codepoint is the FEC Encoding ID)
        let length = self.transferred().filter(|length| *length > 0);
        let Some((unnamed, length)) = self.unnamed.as_ref().zip(length) else { return Ok(None) };
        unnamed.named(codepoint.into(), length)
    }

    fn emit(&self, out: &mut String) {
        let mut attribute = |name: &str, value: &str| {
            write!(out, " {name}=\"{}\"", escape(value)).expect("a string takes all text");
        };
        attribute("TOI", &self.toi.0.to_string());
        attribute("Content-Location", &self.content_location);
        let numbers =
            [("Content-Length", self.content_length), ("Transfer-Length", self.transfer_length)];
        for (name, value) in numbers {
            if let Some(value) = value {
                attribute(name, &value.to_string());
            }
        }
        let texts =
            [("Content-Type", &self.content_type), ("Content-Encoding", &self.content_encoding)];
        for (name, value) in texts {
            if let Some(value) = value {
                attribute(name, value);
            }
        }
        if let Some(digest) = self.content_md5 {
            attribute("Content-MD5", &STANDARD.encode(digest));
        }
        if let Some(id) = self.encoding_id {
            attribute("FEC-OTI-FEC-Encoding-ID", &id.to_string());
        }
        if let Some(UnnamedOti { symbol_length, block_length, scheme_specific }) = &self.unnamed {
            attribute("FEC-OTI-Encoding-Symbol-Length", &symbol_length.to_string());
            if let Some(block) = block_length {
                attribute("FEC-OTI-Maximum-Source-Block-Length", &block.to_string());
            }
            if let Some(info) = scheme_specific {
                attribute("FEC-OTI-Scheme-Specific-Info", &STANDARD.encode(info));
            }
            return;
        }
        // spec: rfc5052 6.2.4 (no FEC Instance ID for schemes that are fully specified)
        let Some(oti) = self.oti else { return };
        attribute("FEC-OTI-Encoding-Symbol-Length", &oti.symbol_size().to_string());
        // RaptorQ does not need the block length, but some receivers drop a file without it.
        let block = match oti {
            Oti::NoCode(oti) => oti.max_block_symbols(),
            Oti::RaptorQ(oti) => oti.partition().largest(),
        };
        attribute("FEC-OTI-Maximum-Source-Block-Length", &block.to_string());
        if let Oti::RaptorQ(oti) = oti {
            attribute("FEC-OTI-Scheme-Specific-Info", &STANDARD.encode(oti.scheme_specific()));
        }
    }
}

impl FdtInstance {
    /// Returns when the instance expires, in the NTP era that puts it nearest to `now`.
    #[must_use]
    pub fn expires(&self, now: Utc) -> Utc {
        now.from_ntp_near(self.expires_ntp)
    }

    /// Reads an instance. The namespace of the root may be any (FLUTE 1 had several, some senders
    /// have none); of elements and attributes of other namespaces those of 3GPP are read; all
    /// others, and unknown ones, are skipped. An entry that cannot be read costs nothing but itself,
    /// and is named in [`Self::skipped`], as is every other part that was left out.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the document is not well-formed up to the end of its root, has entities
    /// of its own, breaks a limit, has no expiry, or no entry at all.
    pub fn parse(document: &[u8]) -> Result<Self, WireError> {
        reader::parse(document)
    }

    /// Writes the instance as XML, in the namespace of FLUTE version 2.
    #[must_use]
    pub fn to_xml(&self) -> String {
        // spec: rfc6726 3.4.2
        self.to_xml_in(NAMESPACE)
    }

    /// Writes the instance as XML in one of the namespaces that FLUTE has had.
    ///
    /// # Panics
    ///
    /// Never: a string takes all text.
    #[must_use]
    pub fn to_xml_in(&self, namespace: &str) -> String {
        let mut out = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<FDT-Instance xmlns=\"{}\" \
             Expires=\"{}\"",
            escape(namespace),
            self.expires_ntp
        );
        if self.complete {
            out.push_str(" Complete=\"true\"");
        }
        out.push('>');
        for file in &self.files {
            out.push_str("<File");
            file.emit(&mut out);
            out.push_str("/>");
        }
        if namespace == NAMESPACE_MBMS {
            // spec: ts26346-mbms 7.2.10 (behind the files)
            let version = MBMS_SCHEMA_VERSION;
            write!(
                out,
                "<sv:schemaVersion xmlns:sv=\"{NAMESPACE_SCHEMA_VERSION}\">{version}</sv:schemaVersion>"
            )
            .expect("a string takes all text");
        }
        out.push_str("</FDT-Instance>\n");
        out
    }
}

#[cfg(test)]
pub(super) mod tests;
