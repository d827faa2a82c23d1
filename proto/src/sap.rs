//! Announcements of sessions: the packet that carries a session description (RFC 2974).
//!
//! ```text
//! V=1(3) A(1) R(1) T(1) E(1) C(1) | auth len (8, words) | message id hash (16)
//! origin, 32 or 128 bits | authentication data | "application/sdp\0" | description
//! ```

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
    time::Duration,
};

use crate::{
    sdp::MEDIA_TYPE,
    wire::{Reader, WireError, Writer},
};

/// UDP port of announcements.
pub const PORT: u16 = 9875;

/// Routers that an announcement may pass: its scope is that of the group.
pub const TTL: u8 = 255;

/// Octets of a packet at most.
pub const MAX_BYTES: usize = 1024;

/// Bits in a second that all announcements of a scope may take together.
const LIMIT_BITS_PER_SECOND: u64 = 4000;

/// Seconds between two announcements at least.
const LEAST_SECONDS: u64 = 300;

/// The message type of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Announces a session, with its description.
    Announce,
    /// Withdraws a description, or the session is over.
    Delete,
}

/// One announcement.
///
/// # Source
///
/// RFC 2974 §3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SapPacket<'a> {
    /// Message type.
    pub message: Message,
    /// Distinguishes descriptions of one origin, and their versions.
    pub hash: NonZeroU16,
    /// Originating source.
    pub origin: IpAddr,
    /// Media type of the payload.
    pub payload_type: &'a str,
    /// The description; in a deletion at least its `o=` line.
    pub payload: &'a [u8],
}

impl<'a> SapPacket<'a> {
    /// Reads a packet. Authentication data is skipped and not verified.
    ///
    /// # Errors
    ///
    /// [`WireError`] when it is cut off, of another version, encrypted, compressed, without a hash,
    /// or its payload type is no text.
    pub fn parse(octets: &'a [u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(octets);
        let [flags, auth_words, hash_high, hash_low] = input.array("SAP header")?;
        // spec: rfc2974 3
        let unexpected = |field, found: u8, expected| {
            Err(WireError::Unexpected { field, found: found.into(), expected })
        };
        if flags >> 5 != VERSION {
            return unexpected("SAP version", flags >> 5, "1");
        }
        if flags & ENCRYPTED != 0 {
            return unexpected("SAP encryption", 1, "0, a description in clear");
        }
        if flags & COMPRESSED != 0 {
            return unexpected("SAP compression", 1, "0, a description that is not compressed");
        }
        let hash = NonZeroU16::new(u16::from_be_bytes([hash_high, hash_low]));
        let Some(hash) = hash else {
            return unexpected("SAP message id hash", 0, "another number than 0");
        };
        let origin = if flags & IPV6 == 0 {
            IpAddr::from(input.array::<4>("SAP origin")?)
        } else {
            IpAddr::from(input.array::<16>("SAP origin")?)
        };
        input.take(usize::from(auth_words) * 4, "SAP authentication data")?;
        let (payload_type, payload) = split(input.take_remaining())?;
        let message = if flags & DELETION == 0 { Message::Announce } else { Message::Delete };
        Ok(Self { message, hash, origin, payload_type, payload })
    }

    /// Appends the packet.
    ///
    /// # Errors
    ///
    /// [`WireError::TooLarge`] beyond [`MAX_BYTES`]; nothing is appended then.
    pub fn emit(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (family, origin) = match self.origin {
            IpAddr::V4(origin) => (0, origin.octets().to_vec()),
            IpAddr::V6(origin) => (IPV6, origin.octets().to_vec()),
        };
        let found = 4 + origin.len() + self.payload_type.len() + 1 + self.payload.len();
        // Small packets are not fragmented.
        if found > MAX_BYTES {
            let wide = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
            let field = "SAP packet";
            return Err(WireError::TooLarge { field, found: wide(found), limit: wide(MAX_BYTES) });
        }
        let deletion = match self.message {
            Message::Announce => 0,
            Message::Delete => DELETION,
        };
        Writer::new(out)
            .u8(VERSION << 5 | family | deletion)
            .u8(0)
            .bytes(&self.hash.get().to_be_bytes())
            .bytes(&origin)
            .bytes(self.payload_type.as_bytes())
            .u8(0)
            .bytes(self.payload);
        Ok(())
    }
}

/// Splits off the payload type. Descriptions may come without one, and begin with `v=0` then.
fn split(tail: &[u8]) -> Result<(&str, &[u8]), WireError> {
    if tail.starts_with(b"v=0") {
        return Ok((MEDIA_TYPE, tail));
    }
    let mut parts = tail.splitn(2, |octet| *octet == 0);
    let (Some(kind), Some(payload)) = (parts.next(), parts.next()) else {
        let (needed, left) = (tail.len() + 1, tail.len());
        return Err(WireError::Truncated { field: "SAP payload type", needed, left });
    };
    let kind = std::str::from_utf8(kind)
        .map_err(|error| WireError::invalid("SAP payload type", error, "text"))?;
    Ok((kind, payload))
}

/// Returns a hash of a description: the same for the same octets, another one after most changes.
#[must_use]
pub fn hash(description: &[u8]) -> NonZeroU16 {
    let digest = crate::crypto::h16(&[b"sap", description]);
    let [high, low, ..] = digest.0;
    NonZeroU16::new(u16::from_be_bytes([high, low])).unwrap_or(NonZeroU16::MIN)
}

/// Returns the group on which sessions of a group's scope are announced.
///
/// # Source
///
/// RFC 2974 §3: the highest address of an administrative scope, else that of the global one.
#[must_use]
pub const fn group(session: Ipv4Addr) -> Ipv4Addr {
    // spec: rfc2974 3
    if session.octets()[0] == 239 {
        Ipv4Addr::new(239, 255, 255, 255)
    } else {
        Ipv4Addr::new(224, 2, 127, 254)
    }
}

/// Returns when an announcement of `octets` goes again, next to so many others: `chance`, any
/// number, moves it by up to a third.
///
/// # Source
///
/// RFC 2974 §3.1.
#[must_use]
pub fn interval(octets: usize, announcements: u32, chance: u32) -> Duration {
    // spec: rfc2974 3.1
    let bits = u64::try_from(octets).unwrap_or(u64::MAX).saturating_mul(8);
    let shared = bits.saturating_mul(announcements.into()) / LIMIT_BITS_PER_SECOND;
    let base = shared.max(LEAST_SECONDS).saturating_mul(1000);
    let spread = base / 3 * 2;
    let moved = u64::from(chance) * spread.min(u64::from(u32::MAX)) / u64::from(u32::MAX);
    Duration::from_millis(base - spread / 2 + moved)
}

const VERSION: u8 = 1;
const IPV6: u8 = 0x10;
const DELETION: u8 = 4;
const ENCRYPTED: u8 = 2;
const COMPRESSED: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n";

    fn packet(message: Message, origin: IpAddr) -> SapPacket<'static> {
        let hash = NonZeroU16::new(0x1234).unwrap();
        SapPacket { message, hash, origin, payload_type: MEDIA_TYPE, payload: SDP }
    }

    fn emitted(packet: &SapPacket<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        packet.emit(&mut out).unwrap();
        out
    }

    // test: rfc2974 3
    #[test]
    fn packets_have_the_octets_of_the_standard() {
        let announced = emitted(&packet(Message::Announce, [192, 0, 2, 1].into()));
        let head = [0x20, 0, 0x12, 0x34, 192, 0, 2, 1];
        assert_eq!(announced, [&head[..], b"application/sdp\0", SDP].concat());
        let deleted = emitted(&packet(Message::Delete, [192, 0, 2, 1].into()));
        assert_eq!((deleted[0], &deleted[1..]), (0x24, &announced[1..]));
        let wide =
            emitted(&packet(Message::Announce, IpAddr::from([0xfe80_u16, 0, 0, 0, 0, 0, 0, 1])));
        assert_eq!((wide[0], wide.len()), (0x30, announced.len() + 12));
    }

    #[test]
    fn a_packet_survives_a_round_trip_and_no_prefix_of_its_header_does() {
        for origin in [IpAddr::from([192, 0, 2, 1]), IpAddr::from([1_u16; 8])] {
            for message in [Message::Announce, Message::Delete] {
                let packet = packet(message, origin);
                let octets = emitted(&packet);
                assert_eq!(SapPacket::parse(&octets), Ok(packet));
                let header = octets.len() - SDP.len();
                for end in 0..octets.len() {
                    let parsed = SapPacket::parse(&octets[..end]);
                    assert_eq!(parsed.is_ok(), end >= header, "{end}: {parsed:?}");
                }
            }
        }
    }

    // test: rfc2974 3
    #[test]
    fn what_cannot_be_read_is_named() {
        let good = emitted(&packet(Message::Announce, [192, 0, 2, 1].into()));
        for (first, word) in [(0x40, "version"), (0x22, "encryption"), (0x21, "compression")] {
            let mut octets = good.clone();
            octets[0] = first;
            let error = SapPacket::parse(&octets).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let mut without_hash = good.clone();
        without_hash[2..4].fill(0);
        assert!(SapPacket::parse(&without_hash).is_err());
    }

    #[test]
    fn authentication_data_is_skipped_and_a_bare_description_taken() {
        let mut octets = emitted(&packet(Message::Announce, [192, 0, 2, 1].into()));
        octets[1] = 2;
        assert!(SapPacket::parse(&octets[..12]).is_err());
        octets.splice(8..8, [0xff; 8]);
        assert_eq!(SapPacket::parse(&octets).unwrap().payload, SDP);
        let bare = [&[0x20, 0, 1, 1, 192, 0, 2, 1], SDP].concat();
        let parsed = SapPacket::parse(&bare).unwrap();
        assert_eq!((parsed.payload_type, parsed.payload), (MEDIA_TYPE, SDP));
    }

    #[test]
    fn a_packet_stays_small() {
        let room = MAX_BYTES - 8 - MEDIA_TYPE.len() - 1;
        for (size, fits) in [(room - 1, true), (room, true), (room + 1, false)] {
            let payload = vec![b'x'; size];
            let packet =
                SapPacket { payload: &payload, ..packet(Message::Announce, [0; 4].into()) };
            assert_eq!(packet.emit(&mut Vec::new()).is_ok(), fits, "{size}");
        }
    }

    // test: rfc2974 3.1
    #[test]
    fn announcements_are_rare_and_not_in_step() {
        let seconds = |octets, count, chance| interval(octets, count, chance).as_secs();
        assert_eq!((seconds(400, 1, 0), seconds(400, 1, u32::MAX)), (200, 400));
        assert_eq!(seconds(400, 1, u32::MAX / 2), 299);
        // 1,000 announcements of 400 octets take 800 seconds at 4,000 bit/s.
        assert_eq!((seconds(400, 1000, 0), seconds(400, 1000, u32::MAX)), (533, 1066));
    }

    #[test]
    fn a_scope_has_its_group_and_a_description_its_hash() {
        assert_eq!(group([239, 255, 1, 1].into()), Ipv4Addr::new(239, 255, 255, 255));
        assert_eq!(group([232, 1, 1, 1].into()), Ipv4Addr::new(224, 2, 127, 254));
        assert_eq!(hash(SDP), hash(SDP));
        assert_ne!(hash(SDP), hash(b"v=0"));
    }

    proptest! {
        #[test]
        fn no_octets_harm(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            drop(SapPacket::parse(&octets));
        }
    }
}
