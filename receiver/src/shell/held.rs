//! Datagrams that arrive while the store is being opened, in bounded memory.

use std::{collections::VecDeque, net::IpAddr};

use proto::time::Now;

/// Cost of a datagram besides its octets.
const OVERHEAD: usize = 64;

/// Datagrams in the order of their arrival.
#[derive(Debug)]
pub(super) struct Held {
    datagrams: VecDeque<(Now, IpAddr, Vec<u8>)>,
    bytes: usize,
    limit: usize,
    dropped: u64,
}

impl Held {
    /// Creates an empty store of at most `limit` octets.
    pub(super) const fn new(limit: usize) -> Self {
        Self { datagrams: VecDeque::new(), bytes: 0, limit, dropped: 0 }
    }

    /// Stores a datagram; one beyond the limit is counted and dropped.
    pub(super) fn push(&mut self, now: Now, source: IpAddr, datagram: &[u8]) {
        let needed = datagram.len() + OVERHEAD;
        if self.bytes + needed > self.limit {
            self.dropped += 1;
            return;
        }
        self.bytes += needed;
        self.datagrams.push_back((now, source, datagram.to_vec()));
    }

    /// Returns the datagrams with the times of their arrival, and the number of those that were
    /// dropped.
    pub(super) fn into_parts(self) -> (VecDeque<(Now, IpAddr, Vec<u8>)>, u64) {
        (self.datagrams, self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use proto::time::{Mono, Utc};

    use super::*;

    #[test]
    fn datagrams_are_held_in_order_up_to_the_limit() {
        let source = IpAddr::from([192, 0, 2, 1]);
        let mut held = Held::new(3 * (100 + OVERHEAD));
        for number in 0..5_u8 {
            let now = Now { mono: Mono(number.into()), utc: Utc(0) };
            held.push(now, source, &[number; 100]);
        }
        let (datagrams, dropped) = held.into_parts();
        let numbers: Vec<_> = datagrams.iter().map(|(now, _, it)| (now.mono.0, it[0])).collect();
        assert_eq!((numbers, dropped), (vec![(0, 0), (1, 1), (2, 2)], 2));
    }
}
