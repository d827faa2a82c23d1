//! Packets that wait for their FDT, for FEC parameters or for the disk, in bounded memory.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use proto::{
    ids::{Toi, Tsi},
    time::Mono,
};

use super::announced::SILENT_AFTER;
use crate::store::UnsignedIdentity;

/// Objects with waiting packets, at most.
const MAX_OBJECTS: usize = 4096;

/// Cost of a waiting packet besides its octets.
const OVERHEAD: usize = 64;

/// The content of an object for which packets wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum For {
    /// The one that is described, or will be.
    This,
    /// That of the description with this number.
    Next(u64),
}

/// A waiting packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Time of its arrival.
    pub at: Mono,
    /// Its octets.
    pub datagram: Vec<u8>,
}

impl Held {
    const fn bytes(&self) -> usize {
        self.datagram.len() + OVERHEAD
    }
}

/// Waiting packets by object.
#[derive(Debug)]
pub struct Waiting {
    queues: BTreeMap<(UnsignedIdentity, For), Queue>,
    /// Copies of packets that came after a pause of their session: they are in use, and may be of
    /// another content all the same.
    copies: BTreeMap<UnsignedIdentity, Queue>,
    /// Octets of all, copies included.
    bytes: usize,
    limit: usize,
}

#[derive(Debug, Default)]
struct Queue {
    /// Time of the last packet.
    last: Mono,
    /// Packets that came before a pause: they may be of another content than those after it.
    stale: usize,
    packets: VecDeque<Held>,
    bytes: usize,
}

impl Waiting {
    /// Creates an empty store of at most `limit` octets.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { queues: BTreeMap::new(), copies: BTreeMap::new(), bytes: 0, limit }
    }

    /// Stores a packet that arrived at `at`; returns the number of packets that were dropped for it, itself included.
    /// The oldest packets of the object with the most octets go first, so that a flood drops its
    /// own.
    // spec: rfc6726 3.2 (objects without an entry are stored within limits)
    pub fn push(&mut self, at: Mono, object: UnsignedIdentity, of: For, packet: &[u8]) -> u64 {
        let object = (object, of);
        let is_new = !self.queues.contains_key(&object);
        if packet.len() + OVERHEAD > self.limit || (is_new && self.queues.len() >= MAX_OBJECTS) {
            return 1;
        }
        let mut dropped = 0;
        while self.bytes + packet.len() + OVERHEAD > self.limit && self.drop_copy() {}
        while self.bytes + packet.len() + OVERHEAD > self.limit && self.drop_one() {
            dropped += 1;
        }
        let queue = self.queues.entry(object).or_default();
        if at.since(queue.last) >= SILENT_AFTER {
            queue.stale = queue.packets.len();
        }
        queue.last = queue.last.max(at);
        queue.packets.push_back(Held { at, datagram: packet.to_vec() });
        queue.bytes += packet.len() + OVERHEAD;
        self.bytes += packet.len() + OVERHEAD;
        dropped
    }

    /// Keeps a copy of a packet that is in use, where there is room.
    pub fn copy(&mut self, at: Mono, object: UnsignedIdentity, packet: &[u8]) {
        let taken = packet.len() + OVERHEAD;
        let is_new = !self.copies.contains_key(&object);
        if self.bytes + taken > self.limit || is_new && self.copies.len() >= MAX_OBJECTS {
            return;
        }
        let queue = self.copies.entry(object).or_default();
        queue.last = at;
        queue.packets.push_back(Held { at, datagram: packet.to_vec() });
        queue.bytes += taken;
        self.bytes += taken;
    }

    /// Lets the copies of packets of an object wait for the description with a number.
    pub fn use_copies(&mut self, object: &UnsignedIdentity, number: u64) {
        let Some(copies) = self.copies.remove(object) else { return };
        let queue = self.queues.entry((*object, For::Next(number))).or_default();
        let since = std::mem::replace(&mut queue.packets, copies.packets);
        queue.packets.extend(since);
        queue.bytes += copies.bytes;
        queue.last = queue.last.max(copies.last);
    }

    /// Drops the copies of the packets of a session.
    pub fn drop_copies(&mut self, source: IpAddr, tsi: Tsi) {
        let first = UnsignedIdentity { source, tsi, toi: Toi(0) };
        let last = UnsignedIdentity { toi: Toi(u128::MAX), ..first };
        let objects: Vec<_> = self.copies.range(first..=last).map(|(of, _)| *of).collect();
        for of in objects {
            self.bytes -= self.copies.remove(&of).map_or(0, |queue| queue.bytes);
        }
    }

    fn drop_copy(&mut self) -> bool {
        let dropped = self.copies.pop_last().map(|(_, queue)| queue.bytes);
        self.bytes -= dropped.unwrap_or_default();
        dropped.is_some()
    }

    /// Removes the packets that waited for descriptions of an object before that with a number;
    /// returns their number.
    pub fn drop_before(&mut self, object: &UnsignedIdentity, number: u64) -> u64 {
        let range = (*object, For::Next(0))..(*object, For::Next(number));
        let queues: Vec<_> = self.queues.range(range).map(|((_, of), _)| *of).collect();
        let dropped: usize = queues.into_iter().map(|of| self.take(object, of).len()).sum();
        u64::try_from(dropped).unwrap_or(u64::MAX)
    }

    /// Removes all packets of an object, in the order of their arrival.
    pub fn take(&mut self, object: &UnsignedIdentity, of: For) -> VecDeque<Held> {
        let queue = self.queues.remove(&(*object, of)).unwrap_or_default();
        self.bytes -= queue.bytes;
        queue.packets
    }

    /// Returns how many packets wait for the described content of an object.
    #[must_use]
    pub fn len_of(&self, object: &UnsignedIdentity) -> usize {
        self.queues.get(&(*object, For::This)).map_or(0, |queue| queue.packets.len())
    }

    /// Drops the packets of an object that may be of another content than one whose symbols come
    /// now; returns their number.
    pub fn drop_stale(&mut self, now: Mono, object: &UnsignedIdentity, of: For) -> u64 {
        let Some(queue) = self.queues.get_mut(&(*object, of)) else { return 0 };
        if now.since(queue.last) >= SILENT_AFTER {
            queue.stale = queue.packets.len();
        }
        let stale = std::mem::take(&mut queue.stale);
        let octets: usize = queue.packets.drain(..stale).map(|packet| packet.bytes()).sum();
        queue.bytes -= octets;
        self.bytes -= octets;
        if queue.packets.is_empty() {
            self.queues.remove(&(*object, of));
        }
        u64::try_from(stale).unwrap_or(u64::MAX)
    }

    /// Drops the packets of all objects of a session that waited for a first description and may be
    /// of another content, but for those of which `is_open` holds; returns their number.
    pub fn drop_all_stale(
        &mut self,
        now: Mono,
        source: IpAddr,
        tsi: Tsi,
        is_open: impl Fn(&UnsignedIdentity) -> bool,
    ) -> u64 {
        let first = UnsignedIdentity { source, tsi, toi: Toi(0) };
        let last = UnsignedIdentity { toi: Toi(u128::MAX), ..first };
        let queues = self.queues.range((first, For::This)..=(last, For::This));
        let waiting = queues.map(|((of, which), _)| (*of, *which));
        let closed: Vec<_> =
            waiting.filter(|(of, which)| *which == For::This && !is_open(of)).collect();
        closed.into_iter().map(|(of, _)| self.drop_stale(now, &of, For::This)).sum()
    }

    /// Puts packets back that were taken for the described content, in front of those that came
    /// since.
    pub fn put_back(&mut self, object: UnsignedIdentity, packets: VecDeque<Held>) {
        let Some(last) = packets.back().map(|packet| packet.at) else { return };
        let octets: usize = packets.iter().map(Held::bytes).sum();
        let queue = self.queues.entry((object, For::This)).or_default();
        let since = std::mem::replace(&mut queue.packets, packets);
        queue.packets.extend(since);
        queue.bytes += octets;
        queue.last = queue.last.max(last);
        self.bytes += octets;
    }

    /// Returns whether packets arrived in the last `span` for an object of which `is_unknown`
    /// holds.
    pub fn has_lately(
        &self,
        now: Mono,
        span: Duration,
        is_unknown: impl Fn(&UnsignedIdentity) -> bool,
    ) -> bool {
        self.queues.iter().any(|((of, _), queue)| now.since(queue.last) < span && is_unknown(of))
    }

    /// Returns the objects with waiting packets.
    pub fn objects(&self) -> impl Iterator<Item = &UnsignedIdentity> {
        self.queues.keys().map(|(of, _)| of)
    }

    /// Returns the number of waiting packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queues.values().map(|queue| queue.packets.len()).sum()
    }

    /// Returns whether no packet waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    fn drop_one(&mut self) -> bool {
        let largest = self.queues.iter().max_by_key(|(_, queue)| queue.bytes);
        let Some(object) = largest.map(|(object, _)| *object) else { return false };
        let Some(queue) = self.queues.get_mut(&object) else { return false };
        if let Some(packet) = queue.packets.pop_front() {
            queue.stale = queue.stale.saturating_sub(1);
            queue.bytes -= packet.bytes();
            self.bytes -= packet.bytes();
        }
        if queue.packets.is_empty() {
            self.queues.remove(&object);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(toi: u128) -> UnsignedIdentity {
        UnsignedIdentity { source: [192, 0, 2, 1].into(), tsi: Tsi(1), toi: Toi(toi) }
    }

    // test: rfc6726 3.2, rfc5775 4.4
    #[test]
    fn a_flood_drops_its_own_packets() {
        let mut waiting = Waiting::new(10 * (100 + OVERHEAD));
        assert_eq!(waiting.push(Mono(0), object(1), For::This, &[1; 100]), 0);
        assert_eq!(waiting.push(Mono(0), object(1), For::This, &[2; 100]), 0);
        let dropped: u64 =
            (0..100).map(|_| waiting.push(Mono(0), object(2), For::This, &[9; 100])).sum();
        assert_eq!((dropped, waiting.len()), (92, 10));
        let held = |octet| Held { at: Mono(0), datagram: vec![octet; 100] };
        assert_eq!(waiting.take(&object(1), For::This), [held(1), held(2)]);
        assert_eq!(waiting.take(&object(2), For::This).len(), 8);
        assert!(waiting.is_empty() && waiting.bytes == 0);
    }

    // test: rfc6726 3.2
    #[test]
    fn objects_and_sizes_are_limited() {
        let mut waiting = Waiting::new(1 << 20);
        for toi in 0..4096 {
            assert_eq!(waiting.push(Mono(0), object(toi), For::This, b"x"), 0);
        }
        assert_eq!(waiting.push(Mono(0), object(4096), For::This, b"x"), 1);
        assert_eq!(waiting.push(Mono(0), object(1), For::This, &vec![0; 2 << 20]), 1);
    }
}
