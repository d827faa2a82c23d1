//! Packet captures in the classic pcap format: the file's parts, and the UDP datagrams in frames.
//!
//! ```text
//! file header 24: magic 4 | major 2 | minor 2 | zone 4 | accuracy 4 | snap length 4 | link type 4
//! record 16 + n:  seconds 4 | micro- or nanoseconds 4 | captured octets 4 | octets on the wire 4
//! ```
//!
//! The magic defines the order of octets and the unit of fractions. Files may be of any length, so
//! readers parse them part by part; [`records`] iterates over a capture in memory.

mod frame;
mod skipped;

pub use self::{
    frame::{Datagram, LinkType, MAX_PAYLOAD_BYTES},
    skipped::{Skipped, SkippedFrames},
};
use crate::wire::{Reader, WireError, Writer};

/// Octets of a file header.
pub const FILE_HEADER_BYTES: usize = 24;
/// Octets of a record's header.
pub const RECORD_HEADER_BYTES: usize = 16;
/// Longest frame that is read: the largest snap length that capture programs use.
pub const MAX_FRAME_BYTES: u32 = 262_144;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// The first word of pcapng, in either order of octets.
const NEXT_GENERATION: u32 = 0x0a0d_0d0a;

/// The form of a capture, from its file header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    little_endian: bool,
    nanoseconds: bool,
    link: LinkType,
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Time of the capture of the frame: nanoseconds since 1970-01-01T00:00:00Z.
    pub time_nanos: u64,
    /// Octets of the frame that follow, at most [`MAX_FRAME_BYTES`].
    pub captured: u32,
    /// Octets that the frame had on the wire.
    pub original: u32,
}

/// One captured frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its header: time and length of the capture.
    pub header: RecordHeader,
    /// The captured octets.
    pub frame: &'a [u8],
}

impl Format {
    /// Reads a file header.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it is no classic pcap file, or one of another version or of a link type
    /// that is not supported.
    pub fn parse(header: &[u8; FILE_HEADER_BYTES]) -> Result<Self, WireError> {
        let mut input = Reader::new(header);
        let magic = input.u32("pcap magic")?;
        let (little_endian, nanoseconds) = match (magic, magic.swap_bytes()) {
            (MICROSECONDS, _) => (false, false),
            (NANOSECONDS, _) => (false, true),
            (_, MICROSECONDS) => (true, false),
            (_, NANOSECONDS) => (true, true),
            (NEXT_GENERATION, _) => {
                let expected = "a classic pcap file (`editcap -F pcap` converts)";
                return Err(WireError::invalid("capture", "a pcapng file", expected));
            }
            _ => {
                let found = format!("{magic:#010x}");
                return Err(WireError::invalid("pcap magic", found, "that of a pcap file"));
            }
        };
        let major = input.u16("pcap version")?;
        let major = if little_endian { major.swap_bytes() } else { major };
        if major != 2 {
            let found = major.into();
            return Err(WireError::Unexpected { field: "pcap version", found, expected: "2" });
        }
        input.take(14, "minor version, zone, accuracy, snap length")?;
        let number = input.u32("pcap link type")?;
        let number = if little_endian { number.swap_bytes() } else { number };
        // The upper bits hold the length of a frame check sequence that may follow.
        let link = match number & 0x03ff_ffff {
            1 => LinkType::Ethernet,
            0 | 108 => LinkType::Loopback,
            12 | 14 | 101 | 228 | 229 => LinkType::RawIp,
            113 => LinkType::LinuxSll,
            276 => LinkType::LinuxSll2,
            other => {
                let expected = "Ethernet, raw IP, loopback or Linux cooked";
                let found = other.into();
                return Err(WireError::Unexpected { field: "pcap link type", found, expected });
            }
        };
        Ok(Self { little_endian, nanoseconds, link })
    }

    /// Returns the link-layer header of frames.
    #[must_use]
    pub const fn link(&self) -> LinkType {
        self.link
    }

    /// Reads a record's header.
    ///
    /// # Errors
    ///
    /// [`WireError::TooLarge`] when its frame is longer than [`MAX_FRAME_BYTES`]: the file is
    /// damaged, and nothing behind this record can be found.
    pub fn record(&self, header: &[u8; RECORD_HEADER_BYTES]) -> Result<RecordHeader, WireError> {
        let mut input = Reader::new(header);
        let mut field = || {
            let value = input.u32("pcap record")?;
            Ok::<u32, WireError>(if self.little_endian { value.swap_bytes() } else { value })
        };
        let (seconds, fraction, captured, original) = (field()?, field()?, field()?, field()?);
        if captured > MAX_FRAME_BYTES {
            let (found, limit) = (captured.into(), MAX_FRAME_BYTES.into());
            return Err(WireError::TooLarge { field: "captured frame", found, limit });
        }
        let unit = if self.nanoseconds { 1 } else { 1000 };
        let time_nanos = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * unit;
        Ok(RecordHeader { time_nanos, captured, original })
    }

    /// Returns the UDP datagram in a frame.
    ///
    /// # Errors
    ///
    /// [`Skipped`] says why there is none. A frame of which the capture holds a part is read as far
    /// as the datagram is whole.
    pub fn datagram<'a>(
        &self,
        header: &RecordHeader,
        frame: &'a [u8],
    ) -> Result<Datagram<'a>, Skipped> {
        let is_cut = header.captured < header.original;
        frame::datagram(self.link, frame).map_err(|reason| {
            if reason == Skipped::Malformed && is_cut { Skipped::CutOff } else { reason }
        })
    }
}

/// Walks the records of a capture in memory, up to the first that is damaged.
///
/// # Errors
///
/// Those of [`Format::parse`]; an item is an error when its record is cut off or too long, and
/// nothing follows it.
pub fn records(
    capture: &[u8],
) -> Result<(Format, impl Iterator<Item = Result<Record<'_>, WireError>>), WireError> {
    let mut input = Reader::new(capture);
    let format = Format::parse(&input.array("pcap file header")?)?;
    let next = move |input: &mut Reader<'_>| {
        let header = format.record(&input.array("pcap record")?)?;
        let length = usize::try_from(header.captured).expect("at most 262,144");
        Ok((header, length))
    };
    let walk = std::iter::from_fn(move || {
        if input.is_empty() {
            return None;
        }
        let record = next(&mut input).and_then(|(header, length)| {
            input.take(length, "captured frame").map(|frame| Record { header, frame })
        });
        if record.is_err() {
            input.take_remaining();
        }
        Some(record)
    });
    Ok((format, walk))
}

/// Returns the file header of captures that are written here: big-endian, nanoseconds, raw IP.
#[must_use]
pub fn emit_file_header() -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out).u32(NANOSECONDS).u16(2).u16(4).zeros(8).u32(MAX_FRAME_BYTES).u32(101);
    out
}

/// Appends the record of a datagram, with IP and UDP headers made for it.
///
/// # Units
///
/// `time_nanos`: nanoseconds since 1970-01-01T00:00:00Z; the format ends in 2106.
///
/// # Errors
///
/// [`WireError`] when the payload does not fit a datagram, the time the format, or the addresses
/// one another; nothing is appended then.
pub fn emit_datagram(
    time_nanos: u64,
    ttl: u8,
    datagram: &Datagram<'_>,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let too_large = |field, found, limit| WireError::TooLarge { field, found, limit };
    let seconds = u32::try_from(time_nanos / 1_000_000_000).map_err(|_| {
        too_large("time of a captured frame", time_nanos / 1_000_000_000, u32::MAX.into())
    })?;
    let nanos = u32::try_from(time_nanos % 1_000_000_000).expect("below 10^9");
    if datagram.source.is_ipv4() != datagram.destination.is_ipv4() {
        let (field, expected) = ("destination", "an address of the family of the source");
        return Err(WireError::invalid(field, datagram.destination, expected));
    }
    let frame = frame::emit(ttl, datagram).ok_or_else(|| {
        let found = u64::try_from(datagram.payload.len()).unwrap_or(u64::MAX);
        too_large("UDP payload", found, MAX_PAYLOAD_BYTES as u64)
    })?;
    let length = u32::try_from(frame.len()).expect("at most 65,575");
    Writer::new(out).u32(seconds).u32(nanos).u32(length).u32(length).bytes(&frame);
    Ok(())
}

#[cfg(test)]
mod tests;
