//! Extensions of the FDT by 3GPP: stored where a receiver can use them, skipped elsewhere.
//!
//! Each release defined its additions in a namespace of its own (2005, 2007, 2008, 2009, 2012,
//! 2015, one for all from 2022), in letters that vary; senders also write them into the namespace
//! of the table itself. All of these are read alike.

use crate::wire::WireError;

/// Most values of one kind (groups, base URLs, alternative locations) on an instance or a file.
pub const MAX_VALUES: usize = 16;

/// Extensions of an instance by 3GPP.
///
/// # Source
///
/// 3GPP TS 26.346 clause 7.2.10.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InstanceExtensions {
    /// `FullFDT`: this instance describes every file whose packets may be sent until it expires.
    pub full: bool,
    /// Groups of all files.
    pub groups: Vec<String>,
    /// Base of relative [`FileExtensions::alternative_locations`].
    pub base_urls: Vec<String>,
}

/// Extensions of a file by 3GPP.
///
/// # Source
///
/// 3GPP TS 26.346 clause 7.2.10.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileExtensions {
    /// Groups that the file belongs to.
    pub groups: Vec<String>,
    /// Time for which the file may be cached.
    pub cache: Option<CacheControl>,
    /// `File-ETag`: names exactly this version.
    pub etag: Option<String>,
    /// Locations of byte ranges of the file, in order of preference.
    pub alternative_locations: Vec<String>,
    /// `FEC-Redundancy-Level`, percent.
    pub redundancy_percent: Option<u32>,
    /// `Decryption-KEY-URI`: the file is encrypted.
    pub key_uri: Option<String>,
}

/// The time for which a file may be cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheControl {
    /// Not at all.
    NoCache,
    /// Without limit.
    MaxStale,
    /// Until then: the upper 32 bits of an NTP time.
    Expires(u32),
}

impl FileExtensions {
    /// Takes an attribute if it is one of these.
    pub(super) fn take(&mut self, name: &[u8], value: &str) -> Result<(), WireError> {
        match name {
            b"File-ETag" => self.etag = Some(value.to_owned()),
            b"Decryption-KEY-URI" => self.key_uri = Some(value.to_owned()),
            b"FEC-Redundancy-Level" => {
                let wrong =
                    |_| WireError::invalid("FEC-Redundancy-Level", value, "a decimal number");
                self.redundancy_percent = Some(value.trim().parse().map_err(wrong)?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Returns whether a namespace is one of those in which 3GPP extends the table.
pub(super) fn is_namespace(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let tail = name.strip_prefix(b"urn:3gpp:metadata:".as_slice());
    tail.is_some_and(|tail| tail.windows(9).any(|part| part == b"flute:fdt"))
}

/// Returns whether an attribute is one of those that 3GPP defines.
pub(super) fn is_attribute(local: &[u8]) -> bool {
    matches!(local, b"FullFDT" | b"File-ETag" | b"FEC-Redundancy-Level" | b"Decryption-KEY-URI")
}
