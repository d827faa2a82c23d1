//! Concatenated short messages: a push in several parts, and their reassembly.
//!
//! ```text
//! 0B                   length of the user data header
//! 05 04 0B 84 C0 02    to port 2948, from port 49154
//! 00 03 rr tt nn       part nn of tt of message rr; 08 04 rr rr tt nn with a longer number
//! …                    at most 128 octets of the push
//! ```
//!
//! Parts arrive in any order, twice, or not at all. An incomplete push is dropped after a while,
//! and when newer messages need the room. Parts are not authenticated: the proof is in the push.
//!
//! # Source
//!
//! GSM 03.40 9.2.3.24.1 and 9.2.3.24.8.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{HEADER, MAX_SHORT_MESSAGE, PUSH_PORT, ShortMessage};
use crate::{
    time::Mono,
    wire::{Reader, WireError},
};

/// Parts that one push may have.
pub const MAX_PARTS: usize = 255;

/// Octets of the header of a part, behind this one.
const HEADER_LENGTH: u8 = 0x0b;
const CONCATENATED: u8 = 0x00;
const CONCATENATED_LONG: u8 = 0x08;
const PORTS: u8 = 0x05;
/// Octets of the element that numbers a part.
const ELEMENT: usize = 5;
const MAX_DATA: usize = MAX_SHORT_MESSAGE - HEADER.len() - ELEMENT;

/// Splits a push; `reference` distinguishes its parts from those of another push to the device.
///
/// # Errors
///
/// [`WireError`] when it does not fit 255 short messages.
// spec: oma-dm 9 (a document in several short messages)
pub fn split(push: &[u8], reference: u8) -> Result<Vec<ShortMessage>, WireError> {
    if HEADER.len() + push.len() <= MAX_SHORT_MESSAGE {
        return Ok(vec![ShortMessage { header: HEADER.to_vec(), data: push.to_vec() }]);
    }
    let parts = push.chunks(MAX_DATA);
    let total = u8::try_from(parts.len()).map_err(|_| {
        WireError::invalid("push", push.len(), "at most 255 short messages of 128 octets")
    })?;
    let [_, ports @ ..] = HEADER;
    let part = |(number, data): (u8, &[u8])| {
        let mut header = vec![HEADER_LENGTH];
        header.extend(ports);
        header.extend([CONCATENATED, 3, reference, total, number]);
        ShortMessage { header, data: data.to_vec() }
    };
    Ok((1..=total).zip(parts).map(part).collect())
}

/// The identity of a push, by which its parts belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    reference: u16,
    is_long: bool,
    total: u8,
}

/// A short message that was read.
#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    /// The push and the number of the part, where there are several.
    of: Option<(Message, u8)>,
    data: &'a [u8],
}

impl<'a> Part<'a> {
    /// Reads a short message to the port of pushes; `None` for what is none.
    fn parse(octets: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(octets);
        let length = reader.u8("user data header").ok()?;
        let mut header = Reader::new(reader.take(length.into(), "user data header").ok()?);
        let (mut is_push, mut of) = (false, None);
        while !header.is_empty() {
            let element = header.u8("element").ok()?;
            let length = header.u8("element").ok()?;
            let value = header.take(length.into(), "element").ok()?;
            match (element, value) {
                (PORTS, [high, low, ..]) => {
                    is_push = u16::from_be_bytes([*high, *low]) == PUSH_PORT;
                }
                (CONCATENATED, [reference, total, number]) => {
                    let reference = u16::from(*reference);
                    of = Some((Message { reference, is_long: false, total: *total }, *number));
                }
                (CONCATENATED_LONG, [high, low, total, number]) => {
                    let reference = u16::from_be_bytes([*high, *low]);
                    of = Some((Message { reference, is_long: true, total: *total }, *number));
                }
                _ => {}
            }
        }
        let fits = of.is_none_or(|(message, number)| (1..=message.total).contains(&number));
        (is_push && fits).then(|| Self { of, data: reader.take_remaining() })
    }
}

/// Limits of incomplete pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pushes at once.
    pub pushes: usize,
    /// Longest time from the first part of a push to its last.
    pub wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pushes: 4, wait: Duration::from_secs(600) }
    }
}

/// Reassembles pushes.
#[derive(Debug, Default)]
pub struct SmsReassembler {
    limits: Limits,
    /// The oldest first.
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    message: Message,
    begun: Mono,
    parts: BTreeMap<u8, Vec<u8>>,
}

impl SmsReassembler {
    /// Keeps within these limits.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, open: VecDeque::new() }
    }

    /// Adds a received message; returns a complete push, or octets that are no short message.
    pub fn take(&mut self, now: Mono, octets: &[u8]) -> Option<Vec<u8>> {
        let Some(Part { of, data }) = Part::parse(octets) else { return Some(octets.to_vec()) };
        let Some((message, number)) = of else { return Some(data.to_vec()) };
        self.open.retain(|open| now.since(open.begun) < self.limits.wait);
        let found = self.open.iter().position(|open| open.message == message);
        let mut open = found.and_then(|place| self.open.remove(place)).unwrap_or(Open {
            message,
            begun: now,
            parts: BTreeMap::new(),
        });
        // Of two that claim one place, the first has it.
        open.parts.entry(number).or_insert_with(|| short(data));
        if open.parts.len() == usize::from(message.total) {
            return Some(open.parts.into_values().flatten().collect());
        }
        if found.is_none() && self.open.len() >= self.limits.pushes {
            self.open.pop_front();
        }
        let place = found.unwrap_or(self.open.len()).min(self.open.len());
        self.open.insert(place, open);
        None
    }
}

/// A short message has no more.
fn short(data: &[u8]) -> Vec<u8> {
    data.iter().take(MAX_SHORT_MESSAGE).copied().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::default() + Duration::from_secs(seconds)
    }

    fn push(octets: usize) -> Vec<u8> {
        (0..octets).map(|place| u8::try_from(place % 251).unwrap()).collect()
    }

    fn parts(octets: usize, reference: u8) -> Vec<Vec<u8>> {
        let parts = split(&push(octets), reference).unwrap();
        parts.iter().map(ShortMessage::octets).collect()
    }

    // test: oma-dm 9 (a document in several short messages)
    #[test]
    fn a_push_goes_in_as_many_short_messages_as_it_needs_and_no_more_than_255() {
        for (octets, count) in [(133, 1), (134, 2), (256, 2), (257, 3), (255 * 128, 255)] {
            let parts = parts(octets, 7);
            assert_eq!(parts.len(), count, "{octets}");
            assert!(parts.iter().all(|part| part.len() <= 140));
        }
        assert!(split(&push(255 * 128 + 1), 7).is_err());
        let second = &parts(200, 0xab)[1];
        let head = [0x0b, 0x05, 0x04, 0x0b, 0x84, 0xc0, 0x02, 0x00, 0x03, 0xab, 0x02, 0x02];
        assert_eq!(second[..12], head);
        assert_eq!(second[12..], push(200)[128..]);
        assert_eq!(parts(10, 1)[0][..7], HEADER);
    }

    // test: oma-dm 9 (a document in several short messages)
    #[test]
    fn parts_come_together_in_any_order_and_twice_among_those_of_another_push() {
        let (one, other) = (parts(500, 1), parts(300, 2));
        let mut reassembler = SmsReassembler::default();
        let mut rival = one[0].clone();
        rival[12..].fill(0xff);
        let order = [&one[3], &other[1], &one[0], &one[0], &rival, &other[2], &one[2]];
        for part in order {
            assert_eq!(reassembler.take(at(0), part), None);
        }
        assert_eq!(reassembler.take(at(1), &other[0]), Some(push(300)));
        assert_eq!(reassembler.take(at(1), &one[1]), Some(push(500)));
        assert!(reassembler.open.is_empty());
    }

    #[test]
    fn both_lengths_of_the_number_are_read_and_are_two_numbers() {
        let long = |number: u8, data: &[u8]| {
            let head = [0x0c, 0x08, 0x04, 0, 1, 2, number, 0x05, 0x04, 0x0b, 0x84, 0xc0, 0x02];
            [&head[..], data].concat()
        };
        let mut reassembler = SmsReassembler::default();
        assert_eq!(reassembler.take(at(0), &long(2, b"b")), None);
        assert_eq!(
            reassembler.take(at(0), &parts(200, 1)[0]),
            None,
            "the same number, but shorter"
        );
        assert_eq!(reassembler.take(at(0), &long(1, b"a")), Some(b"ab".to_vec()));
    }

    #[test]
    fn halves_are_dropped_after_a_while_and_for_newer_ones() {
        let limits = Limits::default();
        let one = parts(200, 1);
        for (wait, whole) in [(limits.wait - Duration::from_millis(1), true), (limits.wait, false)]
        {
            let mut reassembler = SmsReassembler::new(limits);
            assert_eq!(reassembler.take(at(0), &one[0]), None);
            assert_eq!(reassembler.take(at(0) + wait, &one[1]).is_some(), whole);
        }
        for (others, whole) in [(3, true), (4, false)] {
            let mut reassembler = SmsReassembler::new(limits);
            assert_eq!(reassembler.take(at(0), &one[0]), None);
            for reference in 2..2 + others {
                assert_eq!(reassembler.take(at(0), &parts(200, reference)[0]), None);
            }
            assert_eq!(reassembler.take(at(0), &one[1]).is_some(), whole, "{others}");
            assert!(reassembler.open.len() <= limits.pushes);
        }
    }

    #[test]
    fn what_is_no_part_is_returned_as_it_is_and_a_single_message_without_its_header() {
        let mut reassembler = SmsReassembler::default();
        assert_eq!(reassembler.take(at(0), &parts(20, 1)[0]), Some(push(20)));
        let mut to_another_port = parts(200, 1)[0].clone();
        to_another_port[4] ^= 1;
        let mut beyond = parts(200, 1)[0].clone();
        beyond[11] = 3;
        for other in [&b"a push"[..], &[], &[0], &to_another_port, &beyond] {
            assert_eq!(reassembler.take(at(0), other), Some(other.to_vec()));
        }
    }

    proptest! {
        #[test]
        fn what_is_split_comes_together(octets in 0..3_000_usize, seed: u64) {
            let mut parts = parts(octets, 9);
            let count = u64::try_from(parts.len()).unwrap();
            parts.rotate_left(usize::try_from(seed % count).unwrap());
            let mut reassembler = SmsReassembler::default();
            let mut whole = None;
            for part in &parts {
                prop_assert!(whole.is_none());
                whole = reassembler.take(at(0), part);
            }
            prop_assert_eq!(whole, Some(push(octets)));
        }

        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
            let whole = [&[0x0b, 0x05, 0x04, 0x0b, 0x84], &octets[..]].concat();
            let mut reassembler = SmsReassembler::default();
            for came in [&octets, &whole] {
                drop(reassembler.take(at(0), came));
            }
        }
    }
}
