//! Packets that wait: for their FDT, for parameters, for room on the disk. In bounded memory.

use std::collections::{BTreeMap, VecDeque};

use crate::symbols::PlainIdentity;

/// Objects that packets may wait for.
const MAX_OBJECTS: usize = 256;

/// What a waiting packet costs besides its octets.
const OVERHEAD: usize = 64;

/// Packets by the object that they belong to.
#[derive(Debug)]
pub struct Waiting {
    queues: BTreeMap<PlainIdentity, Queue>,
    octets: usize,
    limit: usize,
}

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<Vec<u8>>,
    octets: usize,
}

impl Waiting {
    /// Starts with nothing; at most `limit` octets will wait.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { queues: BTreeMap::new(), octets: 0, limit }
    }

    /// Lets a packet wait; returns how many were dropped for it, itself included. The oldest packets
    /// of the object that has most of them go first, so that a flood drops its own.
    // spec: rfc6726 3.2 (objects without an entry are kept within limits)
    pub fn push(&mut self, object: PlainIdentity, packet: &[u8]) -> u64 {
        let is_new = !self.queues.contains_key(&object);
        if packet.len() + OVERHEAD > self.limit || (is_new && self.queues.len() >= MAX_OBJECTS) {
            return 1;
        }
        let mut dropped = 0;
        while self.octets + packet.len() + OVERHEAD > self.limit && self.drop_one() {
            dropped += 1;
        }
        let queue = self.queues.entry(object).or_default();
        queue.packets.push_back(packet.to_vec());
        queue.octets += packet.len() + OVERHEAD;
        self.octets += packet.len() + OVERHEAD;
        dropped
    }

    /// Takes all packets of an object, in the order of their arrival.
    pub fn take(&mut self, object: &PlainIdentity) -> VecDeque<Vec<u8>> {
        let queue = self.queues.remove(object).unwrap_or_default();
        self.octets -= queue.octets;
        queue.packets
    }

    /// Returns how many packets wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queues.values().map(|queue| queue.packets.len()).sum()
    }

    /// Returns whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    fn drop_one(&mut self) -> bool {
        let largest = self.queues.iter().max_by_key(|(_, queue)| queue.octets);
        let Some(object) = largest.map(|(object, _)| *object) else { return false };
        let Some(queue) = self.queues.get_mut(&object) else { return false };
        if let Some(packet) = queue.packets.pop_front() {
            queue.octets -= packet.len() + OVERHEAD;
            self.octets -= packet.len() + OVERHEAD;
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

    fn object(toi: u128) -> PlainIdentity {
        PlainIdentity { source: [192, 0, 2, 1].into(), tsi: Tsi(1), toi: Toi(toi) }
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
        assert!(waiting.is_empty() && waiting.octets == 0);
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
