//! Symbols that no table has verified yet: in memory only, bounded, never counted as held.

use std::collections::{BTreeMap, VecDeque};

use proto::ids::Sbn;

/// Octets of symbols that are buffered at most.
pub const MAX_UNVERIFIED_BYTES: usize = 8 << 20;

/// Candidates for one symbol: the true one and a forged one, whichever arrived first.
const MAX_CANDIDATES: usize = 2;

/// Octets of overhead of one symbol, roughly.
const OVERHEAD_BYTES: usize = 96;

/// The buffer of symbols that wait for the table of their segment.
#[derive(Debug)]
pub struct UnverifiedSymbols {
    segments: BTreeMap<Sbn, Waiting>,
    /// Segments in the order in which their first symbol arrived.
    order: VecDeque<Sbn>,
    octets: usize,
    limit: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    symbols: BTreeMap<u64, Vec<Box<[u8]>>>,
    octets: usize,
}

/// The outcome for an unverified symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffered {
    /// It is buffered; other symbols may have been dropped for it.
    Stored {
        /// Symbols of the oldest segment that were dropped.
        dropped: usize,
    },
    /// There is no room for it.
    Dropped,
}

impl UnverifiedSymbols {
    /// Starts empty; at most `limit` octets are buffered.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { segments: BTreeMap::new(), order: VecDeque::new(), octets: 0, limit }
    }

    /// Buffers a symbol, at the cost of the oldest segment when there is no room.
    pub fn insert(&mut self, segment: Sbn, index: u64, symbol: &[u8]) -> Buffered {
        let candidates = self.segments.get(&segment).and_then(|w| w.symbols.get(&index));
        let full = candidates.is_some_and(|candidates| {
            candidates.len() >= MAX_CANDIDATES || candidates.iter().any(|held| **held == *symbol)
        });
        if full {
            return Buffered::Dropped;
        }
        let cost = symbol.len() + OVERHEAD_BYTES;
        let mut dropped = 0;
        while self.octets + cost > self.limit {
            match self.order.front() {
                Some(oldest) if *oldest != segment => dropped += self.forget_oldest(),
                Some(_) | None => return Buffered::Dropped,
            }
        }
        let waiting = self.segments.entry(segment).or_insert_with(|| {
            self.order.push_back(segment);
            Waiting::default()
        });
        waiting.symbols.entry(index).or_default().push(symbol.into());
        waiting.octets += cost;
        self.octets += cost;
        Buffered::Stored { dropped }
    }

    /// Removes and returns all symbols of a segment whose table is known, in plan order.
    pub fn take(&mut self, segment: Sbn) -> impl Iterator<Item = (u64, Box<[u8]>)> + use<> {
        let waiting = self.segments.remove(&segment).unwrap_or_default();
        self.order.retain(|held| *held != segment);
        self.octets -= waiting.octets;
        waiting.symbols.into_iter().flat_map(|(index, candidates)| {
            candidates.into_iter().map(move |symbol| (index, symbol))
        })
    }

    /// Returns the buffered octets, book-keeping included.
    #[must_use]
    pub const fn octets(&self) -> usize {
        self.octets
    }

    fn forget_oldest(&mut self) -> usize {
        let Some(oldest) = self.order.front().copied() else { return 0 };
        self.take(oldest).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: usize = 100 + OVERHEAD_BYTES;

    fn pending(symbols: usize) -> UnverifiedSymbols {
        UnverifiedSymbols::new(symbols * COST)
    }

    #[test]
    fn two_candidates_wait_for_one_symbol_and_no_third() {
        let mut pending = pending(10);
        assert_eq!(pending.insert(Sbn(0), 7, &[1; 100]), Buffered::Stored { dropped: 0 });
        assert_eq!(pending.insert(Sbn(0), 7, &[1; 100]), Buffered::Dropped);
        assert_eq!(pending.insert(Sbn(0), 7, &[2; 100]), Buffered::Stored { dropped: 0 });
        assert_eq!(pending.insert(Sbn(0), 7, &[3; 100]), Buffered::Dropped);
        let taken: Vec<_> = pending.take(Sbn(0)).collect();
        assert_eq!(taken, [(7, vec![1; 100].into()), (7, vec![2; 100].into())]);
        assert_eq!(pending.octets(), 0);
    }

    #[test]
    fn the_oldest_segment_goes_when_there_is_no_room() {
        let mut pending = pending(3);
        pending.insert(Sbn(5), 50, &[0; 100]);
        pending.insert(Sbn(5), 51, &[0; 100]);
        pending.insert(Sbn(6), 60, &[0; 100]);
        assert_eq!(pending.insert(Sbn(6), 61, &[0; 100]), Buffered::Stored { dropped: 2 });
        assert_eq!(pending.take(Sbn(5)).count(), 0);
        assert_eq!(pending.take(Sbn(6)).count(), 2);
    }

    #[test]
    fn a_segment_never_drops_its_own_symbols() {
        let mut pending = pending(2);
        pending.insert(Sbn(5), 50, &[0; 100]);
        pending.insert(Sbn(5), 51, &[0; 100]);
        assert_eq!(pending.insert(Sbn(5), 52, &[0; 100]), Buffered::Dropped);
        assert_eq!(pending.octets(), 2 * COST);
    }
}
