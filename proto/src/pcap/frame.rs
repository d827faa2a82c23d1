//! From a frame to the UDP datagram in it, and back.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{Datagram, LinkType};
use crate::wire::{Reader, WireError, Writer};

const ETHERTYPE_IPV4: u16 = 0x0800;
const PROTOCOL_UDP: u8 = 17;
/// Tags of VLANs and of providers' VLANs.
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88a8];
/// VLAN tags that are passed over.
const MAX_VLAN_TAGS: usize = 2;
const IPV4_HEADER_BYTES: u16 = 20;
const UDP_HEADER_BYTES: u16 = 8;

/// Returns the UDP datagram in a frame.
pub(super) fn datagram(link: LinkType, frame: &[u8]) -> Result<Option<Datagram<'_>>, WireError> {
    let mut input = Reader::new(frame);
    let ethertype = match link {
        LinkType::Ethernet => {
            input.take(12, "Ethernet addresses")?;
            let mut kind = input.u16("Ethernet type")?;
            for _ in 0..MAX_VLAN_TAGS {
                if VLAN_TAGS.contains(&kind) {
                    input.take(2, "VLAN tag")?;
                    kind = input.u16("Ethernet type")?;
                }
            }
            kind
        }
        LinkType::RawIp => ETHERTYPE_IPV4,
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
    if ethertype == ETHERTYPE_IPV4 { ipv4(&mut input) } else { Ok(None) }
}

fn ipv4<'a>(input: &mut Reader<'a>) -> Result<Option<Datagram<'a>>, WireError> {
    let [first, _service] = input.array("IPv4 header")?;
    if first >> 4 != 4 {
        return Ok(None);
    }
    let header = u16::from(first & 0x0f) * 4;
    let total = input.u16("IPv4 length")?;
    let _identification = input.u16("IPv4 identification")?;
    let fragment = input.u16("IPv4 fragment")?;
    let [_ttl, protocol] = input.array("IPv4 protocol")?;
    let _checksum = input.u16("IPv4 checksum")?;
    let source = Ipv4Addr::from(input.array::<4>("IPv4 source")?);
    let destination = Ipv4Addr::from(input.array::<4>("IPv4 destination")?);
    let short = |field, found: u16, expected| {
        Err(WireError::Unexpected { field, found: found.into(), expected })
    };
    let Some(options) = header.checked_sub(IPV4_HEADER_BYTES) else {
        return short("IPv4 header length", header, "at least 20");
    };
    let Some(body) = total.checked_sub(header) else {
        return short("IPv4 length", total, "at least that of its header");
    };
    if protocol != PROTOCOL_UDP {
        return Ok(None);
    }
    // More fragments, or a place that is not the first.
    if fragment & 0x3fff != 0 {
        return short("IPv4 fragment", fragment & 0x3fff, "a whole datagram");
    }
    input.take(options.into(), "IPv4 options")?;
    // What follows the datagram is padding of the link.
    let mut udp = Reader::new(input.take(body.into(), "IPv4 body")?);
    let (from, to) = (udp.u16("UDP source port")?, udp.u16("UDP destination port")?);
    let length = udp.u16("UDP length")?;
    let _checksum = udp.u16("UDP checksum")?;
    let Some(length) = length.checked_sub(UDP_HEADER_BYTES) else {
        return short("UDP length", length, "at least 8");
    };
    Ok(Some(Datagram {
        source: SocketAddrV4::new(source, from),
        destination: SocketAddrV4::new(destination, to),
        payload: udp.take(length.into(), "UDP payload")?,
    }))
}

/// Returns the IPv4 packet of a datagram; `None` when it would be too long.
pub(super) fn emit(ttl: u8, datagram: &Datagram<'_>) -> Option<Vec<u8>> {
    let Datagram { source, destination, payload } = datagram;
    let udp_length = u16::try_from(payload.len()).ok()?.checked_add(UDP_HEADER_BYTES)?;
    let total = udp_length.checked_add(IPV4_HEADER_BYTES)?;
    let (from, to) = (source.ip().octets(), destination.ip().octets());
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
    let mut pseudo = Vec::with_capacity(12 + usize::from(udp_length));
    Writer::new(&mut pseudo)
        .bytes(&from)
        .bytes(&to)
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
    let mut out = header(checksum(&header(0)));
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
