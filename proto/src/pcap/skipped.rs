//! Frames of a capture that hold no whole UDP datagram: counted by reason.

use std::{collections::BTreeMap, fmt};

/// The reason why no datagram was read from a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skipped {
    /// The capture holds less of the frame than was on the wire, by its snap length.
    CutOff,
    /// The end of the file cuts the record off.
    EndOfFile,
    /// A part of an IP datagram; fragments are not put together.
    Fragment,
    /// A header is cut off or contradicts the length of the frame.
    Malformed,
    /// An Ethernet frame with a length in place of a type.
    Ieee8023,
    /// Another protocol than IP, by its Ethernet type.
    EtherType(u16),
    /// Another IP version.
    IpVersion(u8),
    /// Another protocol than UDP, by its number in IP.
    Protocol(u8),
}

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff => write!(formatter, "cut off by the snap length of the capture"),
            Self::EndOfFile => write!(formatter, "cut off by the end of the file"),
            Self::Fragment => write!(formatter, "a fragment of an IP datagram"),
            Self::Malformed => write!(formatter, "malformed"),
            Self::Ieee8023 => write!(formatter, "IEEE 802.3 without an Ethernet type"),
            Self::EtherType(kind) => match kind {
                0x0806 => write!(formatter, "ARP"),
                0x8847 | 0x8848 => write!(formatter, "MPLS"),
                0x8863 | 0x8864 => write!(formatter, "PPPoE"),
                0x88cc => write!(formatter, "LLDP"),
                other => write!(formatter, "of Ethernet type {other:#06x}"),
            },
            Self::IpVersion(version) => write!(formatter, "of IP version {version}"),
            Self::Protocol(protocol) => match protocol {
                1 => write!(formatter, "ICMP"),
                2 => write!(formatter, "IGMP"),
                6 => write!(formatter, "TCP"),
                58 => write!(formatter, "ICMPv6"),
                other => write!(formatter, "of IP protocol {other}"),
            },
        }
    }
}

/// Frames that were skipped, by reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SkippedFrames {
    counts: BTreeMap<Skipped, u64>,
}

impl SkippedFrames {
    /// Counts a frame. There are some 65,800 reasons at most.
    pub fn add(&mut self, reason: Skipped) {
        *self.counts.entry(reason).or_default() += 1;
    }

    /// Returns the frames of each reason.
    pub fn counts(&self) -> impl Iterator<Item = (Skipped, u64)> {
        self.counts.iter().map(|(reason, count)| (*reason, *count))
    }

    /// Returns all skipped frames.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}
