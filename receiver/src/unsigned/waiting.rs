//! Packets that wait for their FDT, for FEC parameters or for the disk, in bounded memory.

use std::collections::{BTreeMap, VecDeque};

use crate::store::UnsignedIdentity;

/// Objects with waiting packets, at most.
const MAX_OBJECTS: usize = 256;

/// Cost of a waiting packet besides its octets.
const OVERHEAD: usize = 64;

/// Waiting packets by object.
#[derive(Debug)]
pub struct Waiting {
    queues: BTreeMap<UnsignedIdentity, Queue>,
    bytes: usize,
    limit: usize,
}

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Waiting {
    /// Creates an empty store of at most `limit` octets.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { queues: BTreeMap::new(), bytes: 0, limit }
    }

    /// Stores a packet; returns the number of packets that were dropped for it, itself included.
    /// The oldest packets of the object with the most octets go first, so that a flood drops its
    /// own.
    // spec: rfc6726 3.2 (objects without an entry are stored within limits)
    pub fn push(&mut self, object: UnsignedIdentity, packet: &[u8]) -> u64 {
        let is_new = !self.queues.contains_key(&object);
        if packet.len() + OVERHEAD > self.limit || (is_new && self.queues.len() >= MAX_OBJECTS) {
            return 1;
        }
        let mut dropped = 0;
        while self.bytes + packet.len() + OVERHEAD > self.limit && self.drop_one() {
            dropped += 1;
        }
        let queue = self.queues.entry(object).or_default();
        queue.packets.push_back(packet.to_vec());
        queue.bytes += packet.len() + OVERHEAD;
        self.bytes += packet.len() + OVERHEAD;
        dropped
    }

    /// Removes all packets of an object, in the order of their arrival.
    pub fn take(&mut self, object: &UnsignedIdentity) -> VecDeque<Vec<u8>> {
        let queue = self.queues.remove(object).unwrap_or_default();
        self.bytes -= queue.bytes;
        queue.packets
    }

    /// Returns the objects with waiting packets.
    pub fn objects(&self) -> impl Iterator<Item = &UnsignedIdentity> {
        self.queues.keys()
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
            queue.bytes -= packet.len() + OVERHEAD;
            self.bytes -= packet.len() + OVERHEAD;
        }
        if queue.packets.is_empty() {
            self.queues.remove(&object);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proto::ids::{Toi, Tsi};

    use super::*;

    fn object(toi: u128) -> UnsignedIdentity {
        UnsignedIdentity { source: [192, 0, 2, 1].into(), tsi: Tsi(1), toi: Toi(toi) }
    }

    // test: rfc6726 3.2, rfc5775 4.4
    #[test]
    fn a_flood_drops_its_own_packets() {
        let mut waiting = Waiting::new(10 * (100 + OVERHEAD));
        assert_eq!(waiting.push(object(1), &[1; 100]), 0);
        assert_eq!(waiting.push(object(1), &[2; 100]), 0);
        let dropped: u64 = (0..100).map(|_| waiting.push(object(2), &[9; 100])).sum();
        assert_eq!((dropped, waiting.len()), (92, 10));
        assert_eq!(waiting.take(&object(1)), [vec![1; 100], vec![2; 100]]);
        assert_eq!(waiting.take(&object(2)).len(), 8);
        assert!(waiting.is_empty() && waiting.bytes == 0);
    }

    // test: rfc6726 3.2
    #[test]
    fn objects_and_sizes_are_limited() {
        let mut waiting = Waiting::new(1 << 20);
        for toi in 0..256 {
            assert_eq!(waiting.push(object(toi), b"x"), 0);
        }
        assert_eq!(waiting.push(object(256), b"x"), 1);
        assert_eq!(waiting.push(object(1), &vec![0; 2 << 20]), 1);
    }
}
