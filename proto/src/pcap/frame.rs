//! From a frame to the UDP datagram in it, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::skipped::Skipped;
use crate::wire::{Reader, WireError, Writer};

/// The link-layer header of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet; VLAN tags may follow the addresses.
    Ethernet,
    /// An IP header.
    RawIp,
    /// A word with the address family, in the order of the capturing host or of the network.
    Loopback,
    /// Linux cooked capture.
    LinuxSll,
    /// Linux cooked capture, version 2.
    LinuxSll2,
}

/// A UDP datagram over IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Source address.
    pub source: SocketAddr,
    /// Destination address.
    pub destination: SocketAddr,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Longest payload that is written: an IPv4 datagram has at most 65,535 octets.
pub const MAX_PAYLOAD_BYTES: usize = 65_535 - 28;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Ethernet types from this on; what is lower is a length.
const FIRST_ETHERTYPE: u16 = 0x0600;
const PROTOCOL_UDP: u8 = 17;
/// Tags of VLANs and of providers' VLANs, the older ones among them.
const VLAN_TAGS: [u16; 5] = [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300];
const IPV4_HEADER_BYTES: u16 = 20;
const IPV6_HEADER_BYTES: usize = 40;
const UDP_HEADER_BYTES: u16 = 8;
/// Headers between that of IPv6 and UDP which are passed over.
const MAX_IPV6_EXTENSIONS: usize = 8;

impl From<WireError> for Skipped {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
}

/// Returns the UDP datagram in a frame.
pub(super) fn datagram(link: LinkType, frame: &[u8]) -> Result<Datagram<'_>, Skipped> {
    let mut input = Reader::new(frame);
    let mut kind = match link {
        LinkType::Ethernet => {
            input.take(12, "Ethernet addresses")?;
            input.u16("Ethernet type")?
        }
        LinkType::RawIp => return ip(&mut input),
        LinkType::Loopback => {
            input.take(4, "address family")?;
            return ip(&mut input);
        }
        LinkType::LinuxSll => {
            input.take(14, "cooked header")?;
            input.u16("cooked protocol")?
        }
        LinkType::LinuxSll2 => {
            let kind = input.u16("cooked protocol")?;
            input.take(18, "cooked header")?;
            kind
        }
    };
    while VLAN_TAGS.contains(&kind) {
        input.take(2, "VLAN tag")?;
        kind = input.u16("Ethernet type")?;
    }
    match kind {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => ip(&mut input),
        0..FIRST_ETHERTYPE => Err(Skipped::Ieee8023),
        other => Err(Skipped::EtherType(other)),
    }
}

fn ip<'a>(input: &mut Reader<'a>) -> Result<Datagram<'a>, Skipped> {
    let first = input.clone().u8("IP version")?;
    match first >> 4 {
        4 => ipv4(input),
        6 => ipv6(input),
        other => Err(Skipped::IpVersion(other)),
    }
}

fn ipv4<'a>(input: &mut Reader<'a>) -> Result<Datagram<'a>, Skipped> {
    let [first, _service] = input.array("IPv4 header")?;
    let header = u16::from(first & 0x0f) * 4;
    let total = input.u16("IPv4 length")?;
    let _identification = input.u16("IPv4 identification")?;
    let fragment = input.u16("IPv4 fragment")?;
    let [_ttl, protocol] = input.array("IPv4 protocol")?;
    let _checksum = input.u16("IPv4 checksum")?;
    let source = Ipv4Addr::from(input.array::<4>("IPv4 source")?);
    let destination = Ipv4Addr::from(input.array::<4>("IPv4 destination")?);
    let options = header.checked_sub(IPV4_HEADER_BYTES).ok_or(Skipped::Malformed)?;
    let body = total.checked_sub(header).ok_or(Skipped::Malformed)?;
    if protocol != PROTOCOL_UDP {
        return Err(Skipped::Protocol(protocol));
    }
    // More fragments, or a place that is not the first.
    if fragment & 0x3fff != 0 {
        return Err(Skipped::Fragment);
    }
    input.take(options.into(), "IPv4 options")?;
    // What follows the datagram is padding of the link.
    let body = input.take(body.into(), "IPv4 body")?;
    udp(source.into(), destination.into(), body)
}

fn ipv6<'a>(input: &mut Reader<'a>) -> Result<Datagram<'a>, Skipped> {
    input.take(4, "IPv6 header")?;
    let length = input.u16("IPv6 length")?;
    let [mut next, _hops] = input.array("IPv6 next header")?;
    let source = Ipv6Addr::from(input.array::<16>("IPv6 source")?);
    let destination = Ipv6Addr::from(input.array::<16>("IPv6 destination")?);
    let body = input.take(length.into(), "IPv6 body")?;
    let mut body = Reader::new(body);
    for _ in 0..MAX_IPV6_EXTENSIONS {
        match next {
            PROTOCOL_UDP => return udp(source.into(), destination.into(), body.take_remaining()),
            // Hop-by-hop options, routing, destination options: lengths in words of eight octets.
            0 | 43 | 60 => {
                let [following, words] = body.array("IPv6 extension")?;
                body.take(usize::from(words) * 8 + 6, "IPv6 extension")?;
                next = following;
            }
            // Authentication: its length in words of four octets, less two.
            51 => {
                let [following, words] = body.array("IPv6 authentication")?;
                body.take(usize::from(words) * 4 + 6, "IPv6 authentication")?;
                next = following;
            }
            // A fragment header may stand before a whole datagram.
            44 => {
                let [following, _reserved] = body.array("IPv6 fragment")?;
                let place = body.u16("IPv6 fragment")?;
                body.take(4, "IPv6 fragment")?;
                if place & 0xfff9 != 0 {
                    return Err(Skipped::Fragment);
                }
                next = following;
            }
            other => return Err(Skipped::Protocol(other)),
        }
    }
    Err(Skipped::Malformed)
}

fn udp(source: IpAddr, destination: IpAddr, body: &[u8]) -> Result<Datagram<'_>, Skipped> {
    let mut udp = Reader::new(body);
    let (from, to) = (udp.u16("UDP source port")?, udp.u16("UDP destination port")?);
    let length = udp.u16("UDP length")?;
    let _checksum = udp.u16("UDP checksum")?;
    let length = length.checked_sub(UDP_HEADER_BYTES).ok_or(Skipped::Malformed)?;
    Ok(Datagram {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
        payload: udp.take(length.into(), "UDP payload")?,
    })
}

/// Returns the IP packet of a datagram; `None` when it would be too long, or its addresses are of
/// two families.
pub(super) fn emit(ttl: u8, datagram: &Datagram<'_>) -> Option<Vec<u8>> {
    let Datagram { source, destination, payload } = datagram;
    let udp_length = u16::try_from(payload.len()).ok()?.checked_add(UDP_HEADER_BYTES)?;
    if payload.len() > MAX_PAYLOAD_BYTES {
        return None;
    }
    let mut pseudo = Vec::with_capacity(40 + usize::from(udp_length));
    let mut out = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (from, to) = (from.octets(), to.octets());
            let total = udp_length.checked_add(IPV4_HEADER_BYTES)?;
            let header = |checksum: u16| {
                let mut out = Vec::with_capacity(total.into());
                // Do not fragment; the identification means nothing then.
                Writer::new(&mut out)
                    .bytes(&[0x45, 0])
                    .u16(total)
                    .u16(0)
                    .u16(0x4000)
                    .bytes(&[ttl, PROTOCOL_UDP])
                    .u16(checksum)
                    .bytes(&from)
                    .bytes(&to);
                out
            };
            Writer::new(&mut pseudo).bytes(&from).bytes(&to);
            header(checksum(&header(0)))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (from, to) = (from.octets(), to.octets());
            let mut out = Vec::with_capacity(IPV6_HEADER_BYTES + usize::from(udp_length));
            Writer::new(&mut out)
                .bytes(&[0x60, 0, 0, 0])
                .u16(udp_length)
                .bytes(&[PROTOCOL_UDP, ttl])
                .bytes(&from)
                .bytes(&to);
            Writer::new(&mut pseudo).bytes(&from).bytes(&to);
            out
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    Writer::new(&mut pseudo)
        .bytes(&[0, PROTOCOL_UDP])
        .u16(udp_length)
        .u16(source.port())
        .u16(destination.port())
        .u16(udp_length)
        .u16(0)
        .bytes(payload);
    // Zero would say that there is no checksum.
    let udp_checksum = match checksum(&pseudo) {
        0 => u16::MAX,
        sum => sum,
    };
    Writer::new(&mut out)
        .u16(source.port())
        .u16(destination.port())
        .u16(udp_length)
        .u16(udp_checksum)
        .bytes(payload);
    Some(out)
}

/// Returns the Internet checksum.
pub(super) fn checksum(octets: &[u8]) -> u16 {
    let (words, tail) = octets.as_chunks::<2>();
    let last = tail.first().map_or(0, |octet| u64::from(*octet) << 8);
    let sum: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    let mut sum = sum + last;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("it was folded to 16 bits")
}
