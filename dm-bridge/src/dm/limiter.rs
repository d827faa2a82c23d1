//! The limiter of wrong proofs: by address and claimed device, and by address. It never counts by
//! device alone, so what a stranger sends from elsewhere decides nothing about the owner.
//!
//! ```text
//! pair      address and hash of a device id   5 wrong proofs in ten minutes: shut; a familiar pair
//!                                             is slowed to one proof in ten seconds
//! address   IPv4, or IPv6 by /64             30 wrong proofs in ten minutes: shut, except for
//!                                             familiar pairs
//! familiar  the device has proved itself from there in the last day, or shows its certificate
//! ```
//!
//! Beyond the counts a proof is held against the stored nonce alone, which only the proved device
//! knows: the owner passes beside whoever guesses from his address, and no guess is evaluated. Facts
//! 7.2 slow him to one proof in 10 s, of which he may lose each to a stranger who is faster.
//!
//! Spans are monotonic. Both tables are bounded; the entry whose span began first makes room.
//!
//! # Source
//!
//! Security facts 7.2.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::{
    crypto::{Hash16, h16},
    ids::DeviceId,
    peer::PeerNetwork,
    time::Mono,
};

/// Wrong proofs of one pair within [`FAILURE_SPAN`] that shut it.
pub const MAX_PAIR_FAILURES: u32 = 5;

/// Wrong proofs of one address within [`FAILURE_SPAN`] that shut it.
pub const MAX_ADDRESS_FAILURES: u32 = 30;

/// Span over which wrong proofs are counted, and for which a pair or an address is shut.
pub const FAILURE_SPAN: Duration = Duration::from_secs(600);

/// Interval between the proofs of a familiar pair with too many wrong ones.
pub const SLOW_INTERVAL: Duration = Duration::from_secs(10);

/// Wait while as many proofs of a pair are evaluated as may be wrong.
const EVALUATION_WAIT: Duration = Duration::from_secs(1);

/// Pairs stored at once.
const MAX_PAIRS: usize = 32_768;

/// Addresses stored at once.
const MAX_ADDRESSES: usize = 8_192;

/// Relation of an address to the device that it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known.
    Stranger,
    /// The device has proved itself from there in the last day, or shows its certificate.
    Familiar,
}

/// Counter of wrong proofs.
#[derive(Debug)]
pub struct FailureLimiter {
    pairs: Table<Pair>,
    addresses: Table<PeerNetwork>,
    /// Proofs that are being evaluated: they count as wrong until they are.
    pending: BTreeMap<Pair, u32>,
}

/// An address with the hash of the device id that it claims.
type Pair = (PeerNetwork, Hash16);

impl FailureLimiter {
    /// Returns a limiter that has counted nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pairs: Table::new(MAX_PAIRS),
            addresses: Table::new(MAX_ADDRESSES),
            pending: BTreeMap::new(),
        }
    }

    /// Returns whether the answer of [`Self::admit`] depends on the standing of the peer.
    #[must_use]
    pub fn is_over(&self, now: Mono, network: PeerNetwork, claim: Option<&DeviceId>) -> bool {
        let of_pair = claim.map(|claim| pair(network, claim));
        of_pair.is_some_and(|pair| self.is_pair_over(now, pair))
            || self.addresses.failures(now, network) >= MAX_ADDRESS_FAILURES
    }

    fn is_pair_over(&self, now: Mono, pair: Pair) -> bool {
        let pending = self.pending.get(&pair).copied().unwrap_or(0);
        self.pairs.failures(now, pair).saturating_add(pending) >= MAX_PAIR_FAILURES
    }

    /// Counts a proof that begins to be evaluated; [`Self::end`] follows.
    pub fn begin(&mut self, network: PeerNetwork, claim: Option<&DeviceId>) {
        if let Some(claim) = claim {
            let pending = self.pending.entry(pair(network, claim)).or_default();
            *pending = pending.saturating_add(1);
        }
    }

    /// Ends the evaluation of a proof, whatever has come of it.
    pub fn end(&mut self, network: PeerNetwork, claim: Option<&DeviceId>) {
        let Some(key) = claim.map(|claim| pair(network, claim)) else { return };
        if let Some(pending) = self.pending.get_mut(&key) {
            *pending = pending.saturating_sub(1);
            if *pending == 0 {
                self.pending.remove(&key);
            }
        }
    }

    /// Admits a proof to be evaluated.
    ///
    /// # Errors
    ///
    /// The time to wait.
    // spec: security 7.2 (wrong proofs are counted by address and claimed device, and by address)
    pub fn admit(
        &mut self,
        now: Mono,
        network: PeerNetwork,
        claim: Option<&DeviceId>,
        standing: Standing,
    ) -> Result<(), Duration> {
        let key = claim.map(|claim| pair(network, claim));
        if let Some(count) = key.and_then(|key| self.pairs.get_mut(now, key))
            && count.failures >= MAX_PAIR_FAILURES
        {
            match standing {
                Standing::Stranger => return Err(count.remaining(now)),
                Standing::Familiar => {
                    let waited = count.last_slow.map(|last| now.since(last));
                    if let Some(waited) = waited.filter(|waited| *waited < SLOW_INTERVAL) {
                        return Err(SLOW_INTERVAL.saturating_sub(waited));
                    }
                    count.last_slow = Some(now);
                }
            }
        }
        if standing == Standing::Stranger && key.is_some_and(|key| self.is_pair_over(now, key)) {
            return Err(EVALUATION_WAIT);
        }
        match (standing, self.addresses.get_mut(now, network)) {
            (Standing::Stranger, Some(count)) if count.failures >= MAX_ADDRESS_FAILURES => {
                Err(count.remaining(now))
            }
            (Standing::Stranger | Standing::Familiar, _) => Ok(()),
        }
    }

    /// Counts a wrong proof; a claim that is no device id counts for its address alone.
    pub fn record_failure(&mut self, now: Mono, network: PeerNetwork, claim: Option<&DeviceId>) {
        self.addresses.count(now, network);
        if let Some(claim) = claim {
            self.pairs.count(now, pair(network, claim));
        }
    }

    /// Clears the wrong proofs of a device that has proved itself: its nonce was stale. Otherwise
    /// the devices behind one address would shut each other out.
    pub fn record_success(&mut self, now: Mono, network: PeerNetwork, claim: &DeviceId) {
        let Some(cleared) = self.pairs.remove(now, pair(network, claim)) else { return };
        if let Some(count) = self.addresses.get_mut(now, network) {
            count.failures = count.failures.saturating_sub(cleared);
        }
    }
}

impl Default for FailureLimiter {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the pair of an address and a claim, which may be of any length.
fn pair(network: PeerNetwork, claim: &DeviceId) -> Pair {
    (network, h16(&[claim.as_str().as_bytes()]))
}

/// Counts of one kind, each for a span; the oldest makes room.
#[derive(Debug)]
struct Table<K> {
    limit: usize,
    counts: BTreeMap<K, Count>,
    by_age: BTreeSet<(Mono, K)>,
}

#[derive(Debug)]
struct Count {
    since: Mono,
    failures: u32,
    /// Last proof that was admitted beyond the count.
    last_slow: Option<Mono>,
}

impl Count {
    fn is_over(&self, now: Mono) -> bool {
        now.since(self.since) >= FAILURE_SPAN
    }

    fn remaining(&self, now: Mono) -> Duration {
        FAILURE_SPAN.saturating_sub(now.since(self.since))
    }
}

impl<K: Ord + Copy> Table<K> {
    const fn new(limit: usize) -> Self {
        Self { limit, counts: BTreeMap::new(), by_age: BTreeSet::new() }
    }

    fn failures(&self, now: Mono, key: K) -> u32 {
        self.counts.get(&key).filter(|count| !count.is_over(now)).map_or(0, |count| count.failures)
    }

    fn get_mut(&mut self, now: Mono, key: K) -> Option<&mut Count> {
        self.counts.get_mut(&key).filter(|count| !count.is_over(now))
    }

    fn count(&mut self, now: Mono, key: K) {
        self.make_room(now, key);
        let count = self.counts.entry(key).or_insert_with(|| {
            self.by_age.insert((now, key));
            Count { since: now, failures: 0, last_slow: None }
        });
        count.failures = count.failures.saturating_add(1);
    }

    /// Removes what is over, and the oldest while a further key would exceed the limit.
    fn make_room(&mut self, now: Mono, key: K) {
        while let Some((since, oldest)) = self.by_age.first().copied() {
            let is_over = now.since(since) >= FAILURE_SPAN;
            let is_full = self.counts.len() >= self.limit && !self.counts.contains_key(&key);
            if !is_over && !is_full {
                return;
            }
            self.by_age.pop_first();
            self.counts.remove(&oldest);
        }
    }

    /// Removes a count; returns the wrong proofs in it.
    fn remove(&mut self, now: Mono, key: K) -> Option<u32> {
        let count = self.counts.remove(&key)?;
        self.by_age.remove(&(count.since, key));
        (!count.is_over(now)).then_some(count.failures)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    const NOW: Mono = Mono(0);

    fn network(last: u8) -> PeerNetwork {
        PeerNetwork::of(IpAddr::from([192, 0, 2, last]))
    }

    fn id(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    fn wait(
        limiter: &mut FailureLimiter,
        now: Mono,
        network: PeerNetwork,
        name: &str,
        standing: Standing,
    ) -> Option<Duration> {
        limiter.admit(now, network, Some(&id(name)), standing).err()
    }

    /// Returns a limiter after wrong proofs from the first address, one for each name.
    fn failed(names: impl Iterator<Item = String>) -> FailureLimiter {
        let mut limiter = FailureLimiter::new();
        names.for_each(|name| limiter.record_failure(NOW, network(1), Some(&id(&name))));
        limiter
    }

    fn same(count: u32) -> impl Iterator<Item = String> {
        (0..count).map(|_| "a".to_owned())
    }

    fn different(count: u32) -> impl Iterator<Item = String> {
        (0..count).map(|number| format!("guess-{number}"))
    }

    // test: security 7.2 (wrong proofs are counted by address and claimed device, and by address)
    #[test]
    fn proofs_at_once_are_no_more_than_those_in_sequence() {
        let mut limiter = failed(same(2));
        for _ in 2..MAX_PAIR_FAILURES {
            assert_eq!(wait(&mut limiter, NOW, network(1), "a", Standing::Stranger), None);
            limiter.begin(network(1), Some(&id("a")));
        }
        assert!(limiter.is_over(NOW, network(1), Some(&id("a"))));
        let refused = wait(&mut limiter, NOW, network(1), "a", Standing::Stranger);
        assert_eq!(refused, Some(EVALUATION_WAIT));
        assert_eq!(wait(&mut limiter, NOW, network(1), "a", Standing::Familiar), None);
        assert_eq!(wait(&mut limiter, NOW, network(2), "a", Standing::Stranger), None);
        assert_eq!(wait(&mut limiter, NOW, network(1), "b", Standing::Stranger), None);
        for _ in 2..MAX_PAIR_FAILURES {
            limiter.end(network(1), Some(&id("a")));
        }
        assert_eq!(wait(&mut limiter, NOW, network(1), "a", Standing::Stranger), None);
        assert!(limiter.pending.is_empty());
    }

    // test: security 7.2 (wrong proofs are counted by address and claimed device, and by address)
    #[test]
    fn five_wrong_proofs_shut_that_address_for_that_device_alone() {
        let stranger = Standing::Stranger;
        let mut limiter = failed(same(MAX_PAIR_FAILURES - 1));
        assert!(!limiter.is_over(NOW, network(1), Some(&id("a"))));
        assert_eq!(wait(&mut limiter, NOW, network(1), "a", stranger), None);
        let mut limiter = failed(same(MAX_PAIR_FAILURES));
        assert!(limiter.is_over(NOW, network(1), Some(&id("a"))));
        let later = NOW + Duration::from_secs(100);
        let shut = Some(Duration::from_secs(500));
        assert_eq!(wait(&mut limiter, later, network(1), "a", stranger), shut);
        assert_eq!(wait(&mut limiter, later, network(1), "b", stranger), None);
        assert_eq!(wait(&mut limiter, later, network(2), "a", stranger), None, "the owner");
        assert_eq!(wait(&mut limiter, NOW + FAILURE_SPAN, network(1), "a", stranger), None);
        limiter.record_failure(NOW + FAILURE_SPAN, network(1), Some(&id("a")));
        assert_eq!(wait(&mut limiter, NOW + FAILURE_SPAN, network(1), "a", stranger), None);
    }

    // test: security 7.2 (wrong proofs are counted by address and claimed device, and by address)
    #[test]
    fn an_address_that_tries_many_device_ids_is_shut() {
        let stranger = Standing::Stranger;
        let mut limiter = failed(different(MAX_ADDRESS_FAILURES - 1));
        assert_eq!(wait(&mut limiter, NOW, network(1), "a", stranger), None);
        // A claim that is no device id counts too.
        limiter.record_failure(NOW, network(1), None);
        assert!(limiter.is_over(NOW, network(1), None));
        let shut = Some(FAILURE_SPAN);
        assert_eq!(wait(&mut limiter, NOW, network(1), "a", stranger), shut);
        assert_eq!(limiter.admit(NOW, network(1), None, stranger).err(), shut);
        assert_eq!(wait(&mut limiter, NOW, network(2), "a", stranger), None);
        assert_eq!(wait(&mut limiter, NOW + FAILURE_SPAN, network(1), "a", stranger), None);
    }

    // test: security 7.2 (familiar addresses)
    #[test]
    fn a_familiar_pair_passes_a_shut_address_and_is_slowed_by_its_own_failures() {
        let familiar = Standing::Familiar;
        let mut limiter = failed(different(MAX_ADDRESS_FAILURES));
        assert_eq!(wait(&mut limiter, NOW, network(1), "a", familiar), None);
        (0..3 * MAX_PAIR_FAILURES)
            .for_each(|_| limiter.record_failure(NOW, network(1), Some(&id("a"))));
        assert_eq!(wait(&mut limiter, NOW, network(1), "a", familiar), None);
        let soon = NOW + Duration::from_secs(4);
        let slowed = Some(Duration::from_secs(6));
        assert_eq!(wait(&mut limiter, soon, network(1), "a", familiar), slowed);
        let mut at = NOW;
        for _ in 0..10 {
            at = at + SLOW_INTERVAL;
            assert_eq!(wait(&mut limiter, at, network(1), "a", familiar), None, "never shut");
            limiter.record_failure(at, network(1), Some(&id("a")));
        }
    }

    #[test]
    fn failures_that_a_success_follows_do_not_count() {
        let mut limiter = FailureLimiter::new();
        for number in 0..10 * MAX_ADDRESS_FAILURES {
            let id = id(&number.to_string());
            limiter.record_failure(NOW, network(1), Some(&id));
            limiter.record_success(NOW, network(1), &id);
        }
        assert_eq!(wait(&mut limiter, NOW, network(1), "a", Standing::Stranger), None);
        assert!(limiter.pairs.counts.is_empty() && limiter.pairs.by_age.is_empty());
        // The success of one device clears its own alone.
        let mut limiter = failed(different(MAX_ADDRESS_FAILURES + 1));
        limiter.record_success(NOW, network(1), &id("guess-0"));
        assert!(limiter.is_over(NOW, network(1), None));
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let of = |text: &str| PeerNetwork::of(text.parse::<Ipv6Addr>().unwrap().into());
        assert_eq!(of("2001:db8:1:2:3::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), PeerNetwork::of(Ipv4Addr::new(192, 0, 2, 1).into()));
        assert_ne!(network(1), network(2));
    }

    // test: security 7.2 (work before proof)
    #[test]
    fn only_so_many_pairs_and_addresses_are_stored() {
        let mut limiter = FailureLimiter::new();
        for number in 0..2 * u32::try_from(MAX_PAIRS).unwrap() {
            let network = PeerNetwork::of(Ipv4Addr::from(number).into());
            let claim = id(&format!("guess-{number}"));
            limiter.record_failure(Mono(u64::from(number)), network, Some(&claim));
        }
        assert_eq!(
            (limiter.pairs.counts.len(), limiter.pairs.by_age.len()),
            (MAX_PAIRS, MAX_PAIRS)
        );
        assert_eq!(limiter.addresses.counts.len(), MAX_ADDRESSES);
        assert_eq!(limiter.addresses.by_age.len(), MAX_ADDRESSES);
        // What is over goes with the next failure.
        limiter.record_failure(Mono(0) + 2 * FAILURE_SPAN, network(1), Some(&id("a")));
        assert_eq!((limiter.pairs.counts.len(), limiter.addresses.counts.len()), (1, 1));
    }
}
