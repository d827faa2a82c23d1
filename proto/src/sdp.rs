//! The session description of a FLUTE session: the parameters that a receiver needs to join.
//!
//! ```text
//! v=0
//! o=carousel 2890844526 2890842807 IN IP4 192.0.2.10
//! s=Firmware broadcast
//! t=4200000000 4200003600
//! a=source-filter: incl IN IP4 * 192.0.2.10
//! a=flute-tsi:7
//! a=FEC-declaration:0 encoding-id=6
//! m=application 40100 FLUTE/UDP 0
//! c=IN IP4 239.7.7.30/8
//! b=AS:20000
//! a=FEC-declaration:0 encoding-id=6
//! a=FEC:0
//! ```
//!
//! Written strictly, in one order; read with tolerance: either line end, a byte order mark,
//! attributes on either level, unknown lines and other media skipped. A line that cannot be read
//! costs nothing but itself, unless it says where the session is: group, port, source, TSI.

mod reader;

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
};

use crate::{ids::Tsi, time::Utc, wire::WireError};

/// Media type of a description.
pub const MEDIA_TYPE: &str = "application/sdp";

/// Largest description that is read, in octets.
pub const MAX_BYTES: usize = 16 * 1024;
/// Most lines.
pub const MAX_LINES: usize = 256;
/// Most channels of a session.
pub const MAX_CHANNELS: usize = 8;
/// Most FEC declarations.
pub const MAX_DECLARATIONS: usize = 8;
/// Most odd lines that are kept.
pub const MAX_ODD: usize = 16;

/// Seconds from the beginning of NTP to that of Unix; the seconds of SDP do not wrap.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// The parameters that a receiver needs to join a FLUTE session.
///
/// # Source
///
/// 3GPP TS 26.346 clause 7.3, RFC 4566, RFC 4570.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDescription {
    /// Origin of the description.
    pub origin: Origin,
    /// Name for people; one line, not empty.
    pub name: String,
    /// Begin of the session; `None`: it has begun.
    pub opens: Option<Utc>,
    /// End of the session; `None`: no end is planned.
    pub closes: Option<Utc>,
    /// The sender; `None` in descriptions of others without one.
    pub source: Option<IpAddr>,
    /// TSI.
    pub tsi: Tsi,
    /// FEC schemes that channels refer to.
    pub declarations: Vec<FecDeclaration>,
    /// At least one; the FDT is on the first.
    pub channels: Vec<Channel>,
    /// Lines that could not be read or contradict others, and were left out; never written.
    pub odd: Vec<WireError>,
}

/// The origin of a description, with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// User name without spaces, or `-`.
    pub user: String,
    /// Identifies the session together with the other fields.
    pub id: u64,
    /// Higher in each later version.
    pub version: u64,
    /// Host of the maker.
    pub host: Host,
}

/// The host that made a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// By its address.
    Address(IpAddr),
    /// By its name; it is never looked up.
    Name(String),
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(formatter, "{address}"),
            Self::Name(name) => write!(formatter, "{name}"),
        }
    }
}

impl Host {
    /// Reads a name of letters, digits, `-`, `.` and `_`.
    fn name(text: &str) -> Option<Self> {
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
        let holds = (1..=255).contains(&text.len()) && text.bytes().all(allowed);
        holds.then(|| Self::Name(text.to_owned()))
    }

    const fn family(&self) -> &'static str {
        match self {
            Self::Address(address) => family(address),
            Self::Name(_) => "IP4",
        }
    }
}

/// One (group, port).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Group address.
    pub group: IpAddr,
    /// UDP port.
    pub port: u16,
    /// Scope of IPv4 multicast; never for IPv6.
    pub ttl: Option<u8>,
    /// Most kilobits in any second, with IP, UDP and FLUTE headers.
    pub kilobits_per_second: Option<u64>,
    /// Number of the declaration of its FEC scheme.
    pub fec: Option<u32>,
}

/// A FEC scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FecDeclaration {
    /// The number by which channels refer to it.
    pub reference: u32,
    /// FEC Encoding ID.
    pub encoding_id: u8,
    /// FEC Instance ID, in schemes that leave the code open.
    pub instance_id: Option<u16>,
}

impl SessionDescription {
    /// Reads a description.
    ///
    /// # Errors
    ///
    /// [`WireError`] that names the line: beyond a limit, no TSI, no FLUTE channel, two TSIs or
    /// sources that differ, or a line that says where the session is and is not well-formed.
    pub fn parse(octets: &[u8]) -> Result<Self, WireError> {
        reader::parse(octets)
    }

    /// Writes the description, with CRLF line ends.
    ///
    /// # Errors
    ///
    /// [`WireError`] that names what the format cannot carry: a text that is not one line, a TSI
    /// beyond 48 bits, addresses of two families, IPv4 multicast without a TTL, no source, no
    /// channel, a reference that nothing declares, a number beyond its limit.
    ///
    /// # Panics
    ///
    /// Never: a string takes all text.
    pub fn emit(&self) -> Result<String, WireError> {
        let source = self.check()?;
        let Origin { user, id, version, host } = &self.origin;
        let kind = host.family();
        let opens = self.opens.map_or(0, ntp_seconds);
        let closes = self.closes.map_or(0, ntp_seconds);
        let mut out = format!("v=0\r\no={user} {id} {version} IN {kind} {host}\r\n");
        let mut line = |text: std::fmt::Arguments<'_>| {
            write!(out, "{text}\r\n").expect("a string takes all text");
        };
        line(format_args!("s={}", self.name));
        line(format_args!("t={opens} {closes}"));
        // spec: ts26346-mbms 7.3 (one source-filter, incl, any destination; one flute-tsi; session level)
        line(format_args!("a=source-filter: incl IN {} * {source}", family(&source)));
        line(format_args!("a=flute-tsi:{}", self.tsi.0));
        if self.channels.len() > 1 {
            line(format_args!("a=flute-ch:{}", self.channels.len()));
        }
        let several = self.channels.len() > 1;
        let declare = |declaration: &FecDeclaration| {
            let FecDeclaration { reference, encoding_id, instance_id } = declaration;
            let instance = instance_id.map(|id| format!("; instance-id={id}")).unwrap_or_default();
            format!("a=FEC-declaration:{reference} encoding-id={encoding_id}{instance}")
        };
        // Some receivers look on one level alone.
        for declaration in &self.declarations {
            line(format_args!("{}", declare(declaration)));
        }
        for channel in &self.channels {
            line(format_args!("m=application {} FLUTE/UDP 0", channel.port));
            let ttl = channel.ttl.map(|ttl| format!("/{ttl}")).unwrap_or_default();
            line(format_args!("c=IN {} {}{ttl}", family(&channel.group), channel.group));
            if let Some(rate) = channel.kilobits_per_second {
                line(format_args!("b=AS:{rate}"));
            }
            for declaration in self.declarations.iter().filter(|_| !several) {
                line(format_args!("{}", declare(declaration)));
            }
            if let Some(reference) = channel.fec {
                line(format_args!("a=FEC:{reference}"));
            }
        }
        Ok(out)
    }

    /// Checks what is to be written; returns the source.
    fn check(&self) -> Result<IpAddr, WireError> {
        let one_word = |text: &str| !text.chars().any(char::is_whitespace);
        require(is_line(&self.name), "s=", &self.name, "one line that is not empty")?;
        let user = &self.origin.user;
        require(is_line(user) && one_word(user), "o=", user, "a name without spaces")?;
        if let Host::Name(name) = &self.origin.host {
            require(Host::name(name).is_some(), "o=", name, "the name of a host")?;
        }
        require(self.tsi.0 < 1 << 48, "a=flute-tsi", self.tsi.0, "48 bits at most")?;
        let count = self.channels.len();
        require((1..=MAX_CHANNELS).contains(&count), "m=", count, "1 to 8 channels")?;
        let count = self.declarations.len();
        require(count <= MAX_DECLARATIONS, "a=FEC-declaration", count, "at most 8")?;
        let absent = || WireError::invalid("a=source-filter", "absent", "one source");
        let source = self.source.ok_or_else(absent)?;
        for channel in &self.channels {
            let Channel { group, ttl, fec, port, .. } = channel;
            let same = group.is_ipv4() == source.is_ipv4();
            require(same, "c=", group, "an address of the source's family")?;
            // spec: ts26346-mbms 7.3 (a TTL on IPv4 multicast, none on IPv6)
            let wanted = group.is_ipv4() && group.is_multicast();
            let expected = "with a TTL for IPv4 multicast, without one elsewhere";
            require(ttl.is_some() == wanted, "c=", group, expected)?;
            require(*port > 0, "m=", port, "a port")?;
            let declared =
                |reference: u32| self.declarations.iter().any(|known| known.reference == reference);
            let found = fec.unwrap_or(0);
            require(fec.is_none_or(declared), "a=FEC", found, "a declared reference")?;
        }
        Ok(source)
    }
}

fn require(
    holds: bool,
    field: &'static str,
    found: impl std::fmt::Display,
    expected: &'static str,
) -> Result<(), WireError> {
    if holds { Ok(()) } else { Err(WireError::invalid(field, found, expected)) }
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

const fn family(address: &IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IP4",
        IpAddr::V6(_) => "IP6",
    }
}

const fn ntp_seconds(at: Utc) -> u64 {
    at.seconds() + NTP_TO_UNIX_SECONDS
}

#[cfg(test)]
mod tests;
